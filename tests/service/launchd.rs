//! launchd: the property list, read back, and what `launchctl` is told.

use plist::{Dictionary, Value};

use super::{MODELS, calls, shown, stand_in};
use crate::support::home::Home;

const LAUNCHD: [&str; 3] = ["service", "--manager", "launchd"];

fn service(home: &Home, words: &[&str]) -> crate::support::home::Ran {
    home.run(&[&LAUNCHD, words].concat())
}

/// The property list that would be written.
fn list(home: &Home, words: &[&str]) -> Dictionary {
    let printed = service(home, &[&["install", "--print"], words].concat());
    let text = &printed.assert_ok().out;
    let (path, list) = text.split_once('\n').unwrap();
    assert!(path.starts_with("# ") && path.ends_with(".plist"), "{path}");
    let list = Value::from_reader_xml(list.as_bytes()).unwrap();
    list.into_dictionary().unwrap()
}

fn text<'a>(list: &'a Dictionary, key: &str) -> &'a str {
    list[key]
        .as_string()
        .unwrap_or_else(|| panic!("{key}: {list:?}"))
}

#[test]
fn the_property_list_has_what_launchd_needs_to_know() {
    let home = Home::with_stub(MODELS);
    let list = list(&home, &[]);
    assert_eq!(text(&list, "Label"), "local.mlx-openai-server-hub");
    let arguments = list["ProgramArguments"].as_array().unwrap();
    let arguments: Vec<_> = arguments
        .iter()
        .map(|word| word.as_string().unwrap())
        .collect();
    let config = home.config().display().to_string();
    assert_eq!(arguments[1..], ["--config", &config, "serve"]);
    assert!(
        std::path::Path::new(arguments[0]).is_absolute(),
        "{arguments:?}"
    );
    let environment = list["EnvironmentVariables"].as_dictionary().unwrap();
    let path = text(environment, "PATH");
    assert!(
        path.starts_with(&format!("{}:", home.bin().display())),
        "{path}"
    );
    assert!(path.contains(":/usr/bin:/bin"), "{path}");
    assert!(!environment.contains_key("HOME"));
    assert_eq!(list["RunAtLoad"].as_boolean(), Some(true));
    let keep = list["KeepAlive"].as_dictionary().unwrap();
    assert_eq!(keep["SuccessfulExit"].as_boolean(), Some(false));
    // What the hub takes at most, drain_timeout and stop_timeout, and some more.
    assert_eq!(list["ExitTimeOut"].as_signed_integer(), Some(45));
    assert_eq!(text(&list, "ProcessType"), "Interactive");
    let limits = list["SoftResourceLimits"].as_dictionary().unwrap();
    assert_eq!(limits["NumberOfFiles"].as_signed_integer(), Some(10_240));
    let stderr = home.logs().join("app.stderr.log").display().to_string();
    assert_eq!(text(&list, "StandardErrorPath"), stderr);
    for key in ["Sockets", "UserName"] {
        assert!(!list.contains_key(key), "{key}");
    }
}

#[test]
fn a_socket_is_the_one_that_the_hub_asks_for() {
    let home = Home::with_stub(MODELS);
    let list = list(&home, &["--socket"]);
    let sockets = list["Sockets"].as_dictionary().unwrap();
    let listeners = sockets["Listeners"].as_array().unwrap();
    let listener = listeners[0].as_dictionary().unwrap();
    assert_eq!(listeners.len(), 1);
    assert_eq!(text(listener, "SockNodeName"), "127.0.0.1");
    assert_eq!(text(listener, "SockServiceName"), home.port.to_string());
}

#[test]
fn a_service_of_the_machine_runs_as_its_user() {
    let home = Home::with_stub(MODELS);
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())
        .unwrap()
        .unwrap();
    let mut command = home.command([&LAUNCHD[..], &["install", "--print", "--system"]].concat());
    let elsewhere = crate::support::home::ran(&mut command);
    // A home folder that is not the user's.
    let told = &elsewhere.assert_failed().err;
    assert!(told.contains("the service is to be"), "{told}");
    assert!(told.contains("hint: `sudo HOME="), "{told}");
    let config = home.config().display().to_string();
    let words = [
        "--config",
        &config,
        "service",
        "--manager",
        "launchd",
        "install",
        "--print",
    ];
    let mut command = home.command([&words[..], &["--system"]].concat());
    let printed = crate::support::home::ran(command.env("HOME", &user.dir));
    let (path, list) = printed.assert_ok().out.split_once('\n').unwrap();
    assert!(
        path.starts_with("# /Library/LaunchDaemons/local.mlx-openai-server-hub."),
        "{path}"
    );
    let list = Value::from_reader_xml(list.as_bytes()).unwrap();
    let list = list.into_dictionary().unwrap();
    assert_eq!(text(&list, "UserName"), user.name);
    let environment = list["EnvironmentVariables"].as_dictionary().unwrap();
    assert_eq!(text(environment, "HOME"), user.dir.display().to_string());
}

#[test]
fn the_logs_of_a_service_are_what_was_said_outside_of_the_hubs_log() {
    let home = Home::with_stub(MODELS);
    let agents = home.path().join("Library/LaunchAgents");
    std::fs::create_dir_all(&agents).unwrap();
    let printed = service(&home, &["install", "--print"]).out;
    let (_, list) = printed.split_once('\n').unwrap();
    std::fs::write(agents.join("local.mlx-openai-server-hub.plist"), list).unwrap();
    std::fs::create_dir_all(home.logs()).unwrap();
    let lines: String = (1..=30).map(|line| format!("line {line}\n")).collect();
    std::fs::write(home.logs().join("app.stderr.log"), lines).unwrap();
    let said = service(&home, &["logs"]);
    assert_eq!(said.assert_ok().lines().first(), Some(&"line 11"));
    let said = service(&home, &["logs", "-n", "1"]);
    assert_eq!(said.assert_ok().out, "line 30\n");
}

#[test]
fn where_models_are_is_told_and_no_secret_is() {
    let home = Home::with_stub(MODELS);
    let mut command = home.command([&LAUNCHD[..], &["install", "--print"]].concat());
    command
        .env("HF_HOME", "/Volumes/Models/hf")
        .env("HF_TOKEN", "hf_secret");
    let printed = crate::support::home::ran(&mut command).out;
    assert!(
        printed.contains("<string>/Volumes/Models/hf</string>"),
        "{printed}"
    );
    assert!(!printed.contains("hf_secret"), "{printed}");
}

#[test]
fn launchctl_is_told_to_load_and_to_forget() {
    let home = Home::with_stub(MODELS);
    // Once it is loaded, it runs.
    stand_in(
        &home,
        "launchctl",
        "loaded=$(dirname \"$0\")/../loaded\n\
         case $1 in\n\
         bootstrap) [ -e \"$3\" ] || exit 5; [ ! -e \"$loaded\" ] || exit 37; touch \"$loaded\" ;;\n\
         kickstart) [ -e \"$loaded\" ] || exit 113 ;;\n\
         bootout) [ -e \"$loaded\" ] || exit 3; rm \"$loaded\" ;;\n\
         print) [ -e \"$loaded\" ] || exit 113; echo '  pid = 4711' ;;\n\
         esac",
    );
    // It answers already; the stand-in starts none.
    let file = home
        .path()
        .join("Library/LaunchAgents/local.mlx-openai-server-hub.plist");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "<plist/>").unwrap();
    let foreign = service(&home, &["install"]);
    assert!(
        foreign
            .assert_failed()
            .err
            .contains("was not written by this command"),
        "{foreign:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "<plist/>");
    for verb in ["uninstall", "start", "stop", "status"] {
        let none = service(&home, &[verb]);
        assert!(
            none.assert_failed().err.contains("no service is installed"),
            "{none:?}"
        );
    }
    assert_eq!(calls(&home), "");
    std::fs::remove_file(&file).unwrap();

    let mut hub = home.serve();
    let running = service(&home, &["install"]);
    assert!(
        running.assert_failed().err.contains("and not as a service"),
        "{running:?}"
    );
    assert!(!file.exists());
    // As if launchd had started it.
    std::fs::write(home.path().join("loaded"), "").unwrap();
    service(&home, &["install"]).assert_ok();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("<!-- Written by `mlx-openai-server-hub service install`"),
        "{text}"
    );
    let list = Value::from_file(&file).unwrap().into_dictionary().unwrap();
    assert_eq!(
        super::launchd::text(&list, "Label"),
        "local.mlx-openai-server-hub"
    );
    let told = service(&home, &["status"]).assert_ok().out.clone();
    service(&home, &["start"]).assert_ok();
    service(&home, &["stop"]).assert_ok();
    service(&home, &["status"]).assert_failed();
    service(&home, &["start"]).assert_ok();
    service(&home, &["uninstall"]).assert_ok();
    assert!(!file.exists());
    insta::assert_snapshot!(shown(&home, &told) + &calls(&home), @"
    Service local.mlx-openai-server-hub runs (PID: 4711)
      HOME/Library/LaunchAgents/local.mlx-openai-server-hub.plist
    launchctl bootout gui/UID/local.mlx-openai-server-hub
    launchctl bootstrap gui/UID HOME/Library/LaunchAgents/local.mlx-openai-server-hub.plist
    launchctl kickstart gui/UID/local.mlx-openai-server-hub
    launchctl bootout gui/UID/local.mlx-openai-server-hub
    launchctl kickstart gui/UID/local.mlx-openai-server-hub
    launchctl bootstrap gui/UID HOME/Library/LaunchAgents/local.mlx-openai-server-hub.plist
    launchctl bootout gui/UID/local.mlx-openai-server-hub
    ");
    home.run(&["stop"]).assert_ok();
    hub.wait().unwrap();
}

#[test]
fn a_service_that_launchd_does_not_stop_is_not_called_stopped() {
    let home = Home::with_stub(MODELS);
    let file = home
        .path()
        .join("Library/LaunchAgents/local.mlx-openai-server-hub.plist");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let printed = service(&home, &["install", "--print"]).out;
    std::fs::write(&file, printed.split_once('\n').unwrap().1).unwrap();
    let refuses = "case $1 in\n\
        bootout) echo 'Boot-out failed: 1: Operation not permitted' >&2; exit 1 ;;\n\
        print) echo '  pid = 4711' ;;\n\
        esac";
    stand_in(&home, "launchctl", refuses);
    for verb in ["stop", "uninstall"] {
        let refused = service(&home, &[verb]);
        let told = &refused.assert_failed().err;
        assert!(
            told.contains("failed (exit status: 1): Boot-out failed: 1: Operation not permitted"),
            "{verb}: {refused:?}"
        );
        assert_eq!(refused.out, "", "{verb}");
        assert!(file.exists(), "{verb}");
    }
    // A job that takes its time: it runs at the first look, and not at the second.
    stand_in(
        &home,
        "launchctl",
        "looked=$(dirname \"$0\")/../looked\n\
         case $1 in\n\
         bootout) exit 36 ;;\n\
         print) [ ! -e \"$looked\" ] || exit 113; touch \"$looked\"; echo '  pid = 4711' ;;\n\
         esac",
    );
    service(&home, &["stop"]).assert_ok();
    assert!(home.path().join("looked").exists(), "it did not wait");
    // One that does not run cannot be stopped, and need not.
    stand_in(&home, "launchctl", "exit 113");
    service(&home, &["stop"]).assert_ok();
}

#[test]
fn two_hub_yaml_whose_services_have_one_name_do_not_share_one() {
    let home = Home::with_stub(MODELS);
    let (one, other) = (
        home.path().join("x/a-b.yaml"),
        home.path().join("x/a/b.yaml"),
    );
    std::fs::create_dir_all(home.path().join("x/a")).unwrap();
    for path in [&one, &other] {
        std::fs::copy(home.config(), path).unwrap();
    }
    let [one, other] = [one, other].map(|path| path.display().to_string());
    let of =
        |path: &str, words: &[&str]| home.run(&[&["--config", path], &LAUNCHD[..], words].concat());
    let printed = of(&one, &["install", "--print"]).assert_ok().out.clone();
    let (path, list) = printed.split_once('\n').unwrap();
    assert_eq!(
        of(&other, &["install", "--print"])
            .out
            .split_once('\n')
            .unwrap()
            .0,
        path
    );
    let file = std::path::Path::new(path.strip_prefix("# ").unwrap());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, list).unwrap();
    stand_in(&home, "launchctl", "exit 113");
    let refused = of(&other, &["install"]);
    let told = &refused.assert_failed().err;
    assert!(
        told.contains(&format!(
            "is that of `{one}`, whose path gives it the same name"
        )),
        "{refused:?}"
    );
    for verb in ["uninstall", "start", "stop", "status"] {
        let none = of(&other, &[verb]);
        assert!(
            none.assert_failed().err.contains("no service is installed"),
            "{none:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), list);
    assert_eq!(calls(&home), "");
    of(&one, &["uninstall"]).assert_ok();
    assert!(!file.exists());
}

#[test]
fn a_hub_does_not_say_twice_what_its_service_keeps() {
    let home = Home::with_stub(MODELS);
    std::fs::create_dir_all(home.logs()).unwrap();
    let kept = std::fs::File::create(home.logs().join("app.stderr.log")).unwrap();
    let other = std::fs::File::create(home.path().join("other")).unwrap();
    for (file, name, is_said) in [(kept, "logs/app.stderr.log", false), (other, "other", true)] {
        let mut hub = home.command(["serve"]).stderr(file).spawn().unwrap();
        let healthy = || home.http.try_get("/health").is_ok();
        crate::support::wait_until("the hub", crate::support::SOON, healthy);
        home.run(&["stop"]).assert_ok();
        hub.wait().unwrap();
        let name = match is_said {
            true => home.path().join(name),
            false => home.base().join(name),
        };
        let said = std::fs::read_to_string(name).unwrap();
        assert_eq!(said.contains(" INFO "), is_said, "{said}");
    }
}
