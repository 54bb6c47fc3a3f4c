//! systemd: the units as they are written, and what `systemctl` is told.

use std::process::Command;

use super::{MODELS, calls, shown, stand_in};
use crate::support::home::{Home, Ran};

fn service(home: &Home, words: &[&str]) -> Ran {
    home.run(&[&["service", "--manager", "systemd"], words].concat())
}

/// Splits what `--print` shows into files, each with its name.
fn printed(text: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("# /") {
            Some(path) => {
                let name = path.rsplit('/').next().unwrap();
                files.push((name.to_owned(), String::new()));
            }
            None => files.last_mut().unwrap().1 += &format!("{line}\n"),
        }
    }
    files
}

#[test]
fn the_units_have_what_systemd_needs_to_know() {
    let home = Home::with_stub(MODELS);
    let units = service(&home, &["install", "--print", "--socket"]);
    insta::assert_snapshot!(shown(&home, &units.assert_ok().out), @r#"
    # HOME/.config/systemd/user/mlx-openai-server-hub.service
    # Written by `mlx-openai-server-hub service install`, and removed by `service uninstall`. Without this line it is yours.
    [Unit]
    Description=mlx-openai-server-hub
    Requires=mlx-openai-server-hub.socket
    After=mlx-openai-server-hub.socket
    StartLimitIntervalSec=0

    [Service]
    ExecStart="PROGRAM" --config "HOME/mlx-openai-server-hub/hub.yaml" serve
    Environment="PATH=HOME/bin:/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    KillMode=process
    TimeoutStopSec=45
    Restart=on-failure
    RestartSec=1
    LimitNOFILE=10240

    [Install]
    WantedBy=default.target
    # HOME/.config/systemd/user/mlx-openai-server-hub.socket
    # Written by `mlx-openai-server-hub service install`, and removed by `service uninstall`. Without this line it is yours.
    [Unit]
    Description=The port of mlx-openai-server-hub

    [Socket]
    ListenStream=127.0.0.1:PORT
    BindIPv6Only=ipv6-only

    [Install]
    WantedBy=sockets.target
    "#);
}

#[test]
fn a_service_of_the_machine_runs_as_its_user() {
    let home = Home::with_stub(MODELS);
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())
        .unwrap()
        .unwrap();
    let config = home.config().display().to_string();
    let words = ["--config", &config, "service", "--manager", "systemd"];
    let mut command = home.command([&words[..], &["install", "--print", "--system"]].concat());
    let printed = crate::support::home::ran(command.env("HOME", &user.dir));
    let (path, unit) = printed.assert_ok().out.split_once('\n').unwrap();
    assert!(
        path.starts_with("# /etc/systemd/system/mlx-openai-server-hub.")
            && path.ends_with(".service"),
        "{path}"
    );
    let has = |line: &str| assert!(unit.lines().any(|there| there == line), "{line}\n{unit}");
    has(&format!("User={}", user.name));
    has(&format!("Environment=\"HOME={}\"", user.dir.display()));
    has("WantedBy=multi-user.target");
    has("After=network-online.target");
}

#[test]
fn the_logs_of_a_service_are_what_its_manager_has() {
    let home = Home::with_stub(MODELS);
    let none = service(&home, &["logs"]);
    assert!(
        none.assert_failed().err.contains("no service is installed"),
        "{none:?}"
    );
    let folder = home.path().join(".config/systemd/user");
    std::fs::create_dir_all(&folder).unwrap();
    let printed = service(&home, &["install", "--print"]).out;
    let (_, unit) = printed.split_once('\n').unwrap();
    std::fs::write(folder.join("mlx-openai-server-hub.service"), unit).unwrap();
    stand_in(&home, "journalctl", "echo said; exit ${JOURNAL:-0}");
    let said = service(&home, &["logs"]);
    assert_eq!(said.assert_ok().out, "said\n");
    service(&home, &["logs", "-n", "5", "--follow"]).assert_ok();
    insta::assert_snapshot!(calls(&home), @"
    journalctl --user --no-pager --output=cat -n 20 -u mlx-openai-server-hub.service
    journalctl --user --no-pager --output=cat -n 5 -f -u mlx-openai-server-hub.service
    ");
    let mut command = home.command(["service", "--manager", "systemd", "logs"]);
    crate::support::home::ran(command.env("JOURNAL", "3")).assert_failed();
}

/// systemd's own check, where there is one.
#[test]
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("not run: systemd's check of the units: systemd-analyze is not installed");
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "no systemd-analyze"
        );
        return;
    }
    // Words that systemd would take for something else.
    let home = Home::with_stub(MODELS);
    let odd = home.path().join("50% \"more\" $HOME.yaml");
    std::fs::copy(home.config(), &odd).unwrap();
    let odd = odd.display().to_string();
    let words = [
        "--config",
        &odd,
        "service",
        "--manager",
        "systemd",
        "install",
        "--print",
        "--socket",
    ];
    let units = home.run(&words).assert_ok().out.clone();
    let folder = home.path().join("units");
    std::fs::create_dir(&folder).unwrap();
    let files = printed(&units);
    assert_eq!(files.len(), 2, "{units}");
    for (name, text) in &files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let names = files.iter().map(|(name, _)| folder.join(name));
    let mut check = Command::new("systemd-analyze");
    check.args(["verify", "--user", "--man=no"]).args(names);
    let checked = check.env("XDG_RUNTIME_DIR", home.path()).output().unwrap();
    let said = String::from_utf8(checked.stderr).unwrap();
    let about_ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("mlx-openai"))
        .collect();
    assert!(checked.status.success() && about_ours.is_empty(), "{said}");
}

#[test]
fn systemctl_is_told_and_other_files_are_left_alone() {
    let home = Home::with_stub(MODELS);
    stand_in(
        &home,
        "systemctl",
        "running=$(dirname \"$0\")/../running\n\
         case \"$*\" in\n\
         *' restart '*|*' start '*) touch \"$running\" ;;\n\
         *' stop '*|*' disable '*) rm -f \"$running\" ;;\n\
         *' show '*) echo LoadState=loaded; [ -e \"$running\" ] || exit 0; echo ActiveState=active; echo MainPID=4711 ;;\n\
         esac",
    );
    let folder = home.path().join(".config/systemd/user");
    let (unit, socket) = (
        folder.join("mlx-openai-server-hub.service"),
        folder.join("mlx-openai-server-hub.socket"),
    );
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&socket, "mine\n").unwrap();
    let foreign = service(&home, &["install"]);
    assert!(
        foreign
            .assert_failed()
            .err
            .contains("was not written by this command"),
        "{foreign:?}"
    );
    assert!(!unit.exists(), "half of it was written");
    std::fs::remove_file(&socket).unwrap();
    calls(&home);

    let mut hub = home.serve();
    std::fs::write(home.path().join("running"), "").unwrap();
    let mut told = String::new();
    for words in [
        &["install", "--socket"][..],
        &["status"],
        &["stop"],
        &["start"],
        &["install"],
        &["uninstall"],
    ] {
        let ran = service(&home, words);
        ran.assert_ok();
        told += &format!("$ service {}\n{}{}", words.join(" "), ran.out, calls(&home));
        let has_socket =
            words == ["install", "--socket"] || (socket.exists() && words != ["install"]);
        assert_eq!(socket.exists(), has_socket, "{words:?}");
    }
    assert!(!unit.exists() && !socket.exists());
    insta::assert_snapshot!(shown(&home, &told), @"
    $ service install --socket
    [ok] Wrote HOME/.config/systemd/user/mlx-openai-server-hub.service
    [ok] Wrote HOME/.config/systemd/user/mlx-openai-server-hub.socket
    [ok] Service mlx-openai-server-hub runs
    [info] It ends when you log out, unless you run `loginctl enable-linger` once
    systemctl --user daemon-reload
    systemctl --user enable --quiet mlx-openai-server-hub.socket mlx-openai-server-hub.service
    systemctl --user restart mlx-openai-server-hub.socket mlx-openai-server-hub.service
    $ service status
    Service mlx-openai-server-hub runs (PID: 4711)
      HOME/.config/systemd/user/mlx-openai-server-hub.service
    $ service stop
    [ok] Service mlx-openai-server-hub stopped
    systemctl --user stop mlx-openai-server-hub.socket mlx-openai-server-hub.service
    $ service start
    [ok] Service mlx-openai-server-hub runs
    systemctl --user start mlx-openai-server-hub.socket mlx-openai-server-hub.service
    $ service install
    [ok] Wrote HOME/.config/systemd/user/mlx-openai-server-hub.service
    [ok] Service mlx-openai-server-hub runs
    [info] It ends when you log out, unless you run `loginctl enable-linger` once
    systemctl --user disable --quiet --now mlx-openai-server-hub.socket mlx-openai-server-hub.service
    systemctl --user daemon-reload
    systemctl --user enable --quiet mlx-openai-server-hub.service
    systemctl --user restart mlx-openai-server-hub.service
    $ service uninstall
    [ok] Removed HOME/.config/systemd/user/mlx-openai-server-hub.service
    systemctl --user disable --quiet --now mlx-openai-server-hub.service
    systemctl --user daemon-reload
    ");
    home.run(&["stop"]).assert_ok();
    hub.wait().unwrap();
}

#[test]
fn without_the_worker_nothing_is_installed() {
    let home = Home::with_stub(MODELS);
    std::fs::remove_file(home.bin().join("mlx-openai-server")).unwrap();
    let lacking = service(&home, &["install"]);
    let told = &lacking.assert_failed().err;
    assert!(
        told.contains("model `alpha`: the worker command `mlx-openai-server` was not found"),
        "{told}"
    );
    assert!(!home.path().join(".config").exists());
}

#[test]
fn a_service_manager_that_refuses_is_told() {
    let home = Home::with_stub(MODELS);
    stand_in(
        &home,
        "systemctl",
        "echo 'Failed to connect to bus' >&2; exit 1",
    );
    let refused = service(&home, &["install"]);
    let told = &refused.assert_failed().err;
    assert!(
        told.contains(
            "`systemctl --user daemon-reload` failed (exit status: 1): Failed to connect to bus"
        ),
        "{told}"
    );
}
