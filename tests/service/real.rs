//! A real systemd, where it can be had: it runs the hub, and the commands go through it.

use std::process::Command;

use super::MODELS;
use crate::support::BINARY;
use crate::support::home::Home;

/// Namespaces in which a systemd of one's own may run.
const OWN: [&str; 6] = [
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

#[test]
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn a_systemd_of_the_user_runs_the_hub_as_a_service() {
    let mut namespaces = Command::new(OWN[0]);
    namespaces
        .args(&OWN[1..])
        .args(["sh", "-c", "mount -t tmpfs tmpfs /run"]);
    let has_namespaces = namespaces
        .output()
        .is_ok_and(|output| output.status.success());
    let has_systemd = Command::new("systemctl").arg("--version").output().is_ok();
    if !has_namespaces || !has_systemd {
        println!("not run: the service in a real systemd: it needs root, unshare and systemd");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no systemd");
        return;
    }
    let home = Home::with_stub(MODELS);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/real.sh");
    let mut command = Command::new(OWN[0]);
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        home.bin().display()
    );
    command
        .args(&OWN[1..])
        .args(["bash", script, BINARY])
        .arg(home.path())
        .arg(home.port.to_string())
        .env_clear()
        .env("PATH", path)
        .env("STUB_RECORD", home.record.path());
    let output = command.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let log = std::fs::read_to_string(home.path().join("manager.log")).unwrap_or_default();
    assert!(
        output.status.success() && said.contains("all is well\n"),
        "{said}\n{log}"
    );
}
