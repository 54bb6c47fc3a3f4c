//! `doctor` in homes where one thing is wrong each.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, status, write_runtime_file};
use crate::messages::also;
use crate::support::BINARY;
use crate::support::home::{Home, Ran, ran};
use crate::support::model_folder;

const WORKER: &str =
    "case $1 in --version) echo 'worker, version 9.9.9';; *) echo '--model-path --port';; esac";
const MODELS: &str = "spares: 0\nmodels:\n- {name: a, model_path: ./a}\n";

/// A home in which nothing is wrong.
fn healthy() -> Home {
    let home = Home::empty();
    home.write_script("mlx-openai-server", WORKER);
    model_folder::write(
        &home.base().join("a"),
        &json!({"model_type": "qwen3"}),
        1000,
    );
    home.configure(MODELS);
    home
}

/// The one line that begins so, with those that are indented below it.
#[track_caller]
fn finding(ran: &Ran, begin: &str) -> String {
    let mut lines = ran.out.lines().skip_while(|line| !line.starts_with(begin));
    let first = lines
        .next()
        .unwrap_or_else(|| panic!("no `{begin}` in {ran:?}"));
    let rest = lines.take_while(|line| line.starts_with("  "));
    std::iter::once(first)
        .chain(rest)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Without what differs from machine to machine.
fn filters(home: &Home) -> (impl Drop + use<>, impl Drop + use<>) {
    let also = also(&[
        (r"\d+\.\d GiB", "N GiB"),
        (r"Open files: \d+", "Open files: N"),
        (r"\(process \d+\)", "(process N)"),
    ]);
    (home.filters(home.port), also)
}

#[test]
fn where_nothing_is_wrong_every_check_says_so() {
    let home = healthy();
    let _filters = filters(&home);
    let ran = home.run(&["doctor"]);
    ran.assert_ok();
    insta::assert_snapshot!(ran.out);
    let mut left = std::fs::read_dir(home.base()).unwrap().count();
    left -= ["hub.yaml", "a"].len();
    assert_eq!(left, 0, "it has made something");
}

#[test]
fn a_worker_program_that_is_missing_or_no_worker_is_broken() {
    let home = healthy();
    let _filters = filters(&home);
    std::fs::remove_file(home.bin().join("mlx-openai-server")).unwrap();
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    insta::assert_snapshot!(finding(&ran, "[err] "));
    home.write_script("mlx-openai-server", "echo nothing >&2; exit 3");
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    insta::assert_snapshot!(finding(&ran, "[err] "));
}

#[test]
fn what_makes_spare_processes_impossible_is_told_and_is_no_fault() {
    let home = healthy();
    let _filters = filters(&home);
    home.configure(&MODELS.replace("spares: 0", "spares: 1"));
    let ran = home.run(&["doctor"]);
    ran.assert_ok();
    insta::assert_snapshot!(finding(&ran, "[info] No spare"));
}

#[test]
fn a_program_that_has_the_port_is_named() {
    let home = healthy();
    let _filters = filters(&home);
    let stranger = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    let told = finding(&ran, "[err] ");
    let own = format!("(process {})", std::process::id());
    assert!(told.contains(&own), "{told}");
    drop(stranger);
    home.run(&["doctor"]).assert_ok();
}

#[test]
fn a_program_at_the_address_of_the_other_family_is_a_warning() {
    let home = healthy();
    let Ok(_stranger) = TcpListener::bind(("::1", home.port)) else {
        // This machine has no IPv6.
        return;
    };
    let ran = home.run(&["doctor"]);
    ran.assert_ok();
    let told = finding(&ran, "[warn] ");
    let own = format!(
        "(process {}) has the hub's port at [::1]:{}",
        std::process::id(),
        home.port
    );
    assert!(told.contains(&own), "{told}");
}

#[test]
fn a_port_that_hub_yaml_gives_to_a_model_and_another_has_is_broken() {
    let home = healthy();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    home.configure(&MODELS.replace("name: a", &format!("name: a, port: {port}")));
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    finding(
        &ran,
        &format!("[err] Port {port} of model `a` is taken by "),
    );
}

#[test]
fn what_a_killed_hub_has_left_is_told() {
    let home = healthy();
    let _filters = filters(&home);
    write_runtime_file(&home.logs(), home.port, 999_999, &[]);
    let ran = home.run(&["doctor"]);
    ran.assert_ok();
    insta::assert_snapshot!(finding(&ran, "[warn] "));
}

#[test]
fn a_model_that_no_machine_has_memory_for_is_broken() {
    let home = healthy();
    let _filters = filters(&home);
    let eight_terabytes = 8_000_000_000_000;
    model_folder::write(
        &home.base().join("a"),
        &json!({"model_type": "qwen3"}),
        eight_terabytes,
    );
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    insta::assert_snapshot!(finding(&ran, "[err] "));
}

#[test]
fn few_open_files_are_a_warning() {
    let home = healthy();
    let _filters = filters(&home);
    let mut shell = home.command(["doctor"]);
    let mut limited = Command::new("/bin/sh");
    limited
        .args(["-c", "ulimit -n 200; exec \"$0\" doctor", BINARY])
        .current_dir(home.path())
        .env_clear();
    for (name, value) in shell.get_envs() {
        limited.env(name, value.unwrap());
    }
    shell = limited;
    let ran = ran(&mut shell);
    ran.assert_ok();
    insta::assert_snapshot!(finding(&ran, "[warn] "));
}

#[test]
fn a_log_folder_that_cannot_be_written_or_that_others_may_write_is_told() {
    let home = healthy();
    let _filters = filters(&home);
    home.configure(&format!("log_path: hub.yaml/logs\n{MODELS}"));
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    insta::assert_snapshot!(finding(&ran, "[err] "));
    home.configure(MODELS);
    std::fs::create_dir(home.logs()).unwrap();
    std::fs::set_permissions(home.logs(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let ran = home.run(&["doctor"]);
    ran.assert_ok();
    insta::assert_snapshot!(finding(&ran, "[warn] "));
}

#[test]
fn a_model_that_is_not_on_the_disk_is_told_and_broken_if_it_may_not_be_downloaded() {
    let home = healthy();
    let _filters = filters(&home);
    home.configure(&MODELS.replace("./a", "org/a"));
    let ran = home.run(&["doctor"]);
    ran.assert_ok();
    insta::assert_snapshot!(finding(&ran, "[info] "));
    home.configure(&MODELS.replace("./a", "org/a, env: {HF_HUB_OFFLINE: '1'}"));
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    insta::assert_snapshot!(finding(&ran, "[err] "));
}

#[test]
fn a_hub_that_is_open_without_keys_and_a_proxy_in_between_are_warnings() {
    let home = healthy();
    home.configure(MODELS);
    let text = std::fs::read_to_string(home.config()).unwrap();
    home.write(&text.replace("127.0.0.1", "0.0.0.0"));
    let mut command = home.command(["doctor"]);
    command.env("HTTP_PROXY", "http://127.0.0.1:1");
    let ran = ran(&mut command);
    ran.assert_ok();
    finding(&ran, "[warn] The control API is open to the network");
    finding(&ran, "[warn] HTTP_PROXY is set");
}

#[test]
fn a_host_of_another_machine_is_broken() {
    let home = healthy();
    let _filters = filters(&home);
    // TEST-NET-1, RFC 5737.
    let text = std::fs::read_to_string(home.config()).unwrap();
    home.write(&text.replace("127.0.0.1", "192.0.2.1"));
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    insta::assert_snapshot!(finding(&ran, "[err] "));
}

#[test]
fn a_clock_that_is_behind_is_a_warning() {
    let home = healthy();
    let later = SystemTime::now() + Duration::from_hours(3);
    let file = std::fs::File::options()
        .write(true)
        .open(home.config())
        .unwrap();
    file.set_modified(later).unwrap();
    let ran = home.run(&["doctor"]);
    ran.assert_ok();
    let told = finding(&ran, "[warn] The clock is behind: ");
    assert!(
        told.contains("was changed 2h59m later") || told.contains("3h00m"),
        "{told}"
    );
}

#[test]
fn a_running_hub_is_told_with_what_it_warns_of() {
    let hub = FakeHub::start(|request| {
        let mut answer = status(1);
        answer["warnings"] = json!(["hub.yaml has changed since 14:00; run `reload` (new: b)"]);
        (request == "GET /hub/status").then_some((200, answer))
    });
    let home = healthy();
    let text = std::fs::read_to_string(home.config()).unwrap();
    home.write(&text.replace(&home.port.to_string(), &hub.port().to_string()));
    hub.is_of(&home);
    hub.write_runtime_file(&home.logs(), std::process::id(), &[]);
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    finding(&ran, "[err] Model `c` failed: out of memory");
    finding(&ran, "[ok] The hub runs at 127.0.0.1:");
    finding(
        &ran,
        "[warn] hub.yaml has changed since 14:00; run `reload`",
    );
}

#[test]
fn a_broken_hub_yaml_or_policy_is_told_beside_everything_else() {
    let home = healthy();
    let _filters = filters(&home);
    std::fs::write(home.base().join("night.lua"), "return { on_reqest = 1 }").unwrap();
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    assert!(finding(&ran, "[err] ").contains("night.lua"), "{ran:?}");
    finding(&ran, "[ok] Logs: ");
    home.write("port: 8000\nmodels: [\n");
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    let begin = format!("[err] {}:", home.config().display());
    finding(&ran, &begin);
    finding(&ran, "[ok] Logs: ");
}

/// Writes a service that runs the hub of this home, as a user would by hand.
pub(crate) fn write_service(home: &Home, name: &str, path: &str) {
    let config = home.config().display().to_string();
    let (folder, file, text) = match cfg!(target_os = "macos") {
        true => (
            "Library/LaunchAgents",
            format!("{name}.plist"),
            format!(
                "<plist version=\"1.0\"><dict><key>ProgramArguments</key><array><string>{BINARY}</string>\
                 <string>--config</string><string>{config}</string><string>serve</string></array>\
                 <key>EnvironmentVariables</key><dict><key>PATH</key><string>{path}</string></dict></dict></plist>"
            ),
        ),
        false => (
            ".config/systemd/user",
            format!("{name}.service"),
            format!(
                "[Service]\nExecStart={BINARY} --config {config} serve\nEnvironment=PATH={path}\n"
            ),
        ),
    };
    let folder = home.path().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(file), text).unwrap();
}

#[test]
fn services_that_do_not_find_the_worker_or_that_are_two_are_told() {
    let home = healthy();
    let bin = home.bin().display().to_string();
    write_service(&home, "mine", &bin);
    let ran = home.run(&["doctor"]);
    ran.assert_ok();
    finding(&ran, "[ok] Service: ");
    write_service(&home, "mine", "/nowhere");
    let ran = home.run(&["doctor"]);
    ran.assert_failed();
    let told = finding(&ran, "[err] The service ");
    assert!(
        told.contains("does not find the worker program `mlx-openai-server`: its PATH is /nowhere"),
        "{told}"
    );
    write_service(&home, "mine", &bin);
    write_service(&home, "theirs", &bin);
    let ran = home.run(&["doctor"]);
    ran.assert_ok();
    finding(&ran, "[warn] 2 services run the hub of this hub.yaml");
}

#[test]
fn programs_can_read_the_findings() {
    let home = healthy();
    std::fs::remove_file(home.bin().join("mlx-openai-server")).unwrap();
    let ran = home.run(&["doctor", "--json"]);
    ran.assert_failed();
    let findings: Value = serde_json::from_str(&ran.out).unwrap();
    let broken = findings
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["severity"] == "broken");
    let hint = broken.unwrap()["hint"].as_str().unwrap();
    assert!(hint.contains("uv tool install"), "{hint}");
}

#[test]
fn a_report_has_what_helps_and_no_secret_and_no_text() {
    let home = healthy();
    home.configure(
        "spares: 0\nmodels:\n- name: a\n  model_path: ./a\n  env: {HF_TOKEN: quite-unusual-token}\n\
         \x20 extra_args: [--api-key, open-sesame-9]\n",
    );
    std::fs::create_dir(home.logs()).unwrap();
    let log = |name: &str, text: &str| std::fs::write(home.logs().join(name), text).unwrap();
    log(
        "app.log",
        "2026-11-22T03:00:28.785Z  INFO memory loaded hub_model=a\n\
         2026-11-22T03:00:29.785Z  WARN a poem about the sea policy=\"night.lua:3\"\n\
         2026-11-22T03:00:30.785Z ERROR refused: Bearer hf_abcdefghijklmnop\n",
    );
    log(
        "a.log",
        "loading with quite-unusual-token and open-sesame-9\nINFO:     Application startup complete.\n\
         2026-11-22 03:00:29 | DEBUG | app.x:run:12 | a poem about the sea\n\
         a poem about the sea\nValueError: a poem about the sea\n",
    );
    let mut command = home.command(["doctor", "--report", "report.md"]);
    command.env("OPENAI_API_KEY", "of-the-environment");
    let ran = ran(&mut command);
    ran.assert_ok();
    finding(&ran, "[ok] Wrote report.md");
    let report = home.path().join("report.md");
    let text = std::fs::read_to_string(&report).unwrap();
    for part in [
        concat!(
            "# Report of mlx-openai-server-hub ",
            env!("CARGO_PKG_VERSION")
        ),
        "## Machine",
        "kernel: ",
        "[ok] Worker program: ~/bin/mlx-openai-server (9.9.9)",
        "HF_TOKEN: REMOVED",
        "INFO memory loaded hub_model=a",
        "policy=\"night.lua:3\"",
        "loading with REMOVED and ",
        "2026-11-22 03:00:29 | DEBUG | app.x:run:12 | …",
        "ValueError: …",
    ] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    let home_folder = home.path().display().to_string();
    for secret in [
        "quite-unusual-token",
        "open-sesame-9",
        "hf_abc",
        "poem",
        "of-the-environment",
        home_folder.as_str(),
    ] {
        assert!(!text.contains(secret), "`{secret}` in {text}");
    }
    let mode = report.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let again = home.run(&["doctor", "--report", "report.md"]);
    again.assert_failed();
    assert!(
        again.err.contains("`report.md` already exists"),
        "{again:?}"
    );
    assert_eq!(std::fs::read_to_string(&report).unwrap(), text);
}

#[test]
fn a_report_without_a_name_gets_one_of_its_moment() {
    let home = healthy();
    home.run(&["doctor", "--report"]).assert_ok();
    let names = std::fs::read_dir(home.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let reports: Vec<_> = names
        .filter(|name| name.starts_with("mlx-openai-server-hub-report-"))
        .collect();
    assert_eq!(reports.len(), 1, "{reports:?}");
}
