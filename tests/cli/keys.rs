//! `key`: keys come and go, and commands go on working with one of their own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use insta_cmd::assert_cmd_snapshot;
use mlx_openai_server_hub::config::KeyDigest;
use nix::sys::signal::Signal;

use crate::support::home::{Home, JIT, ran};
use crate::support::{SOON, processes, wait_until};

const KEY: &str = "a-key-of-the-tests-that-nobody-guesses";

/// A hub.yaml with a comment and an odd form, below the ports.
fn yaml() -> String {
    format!(
        "# mine\nmodels:\n  - {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true, \
         worker_command: [{JIT}]}}  # the only one\n# the end\n"
    )
}

fn hub_yaml(home: &Home) -> String {
    std::fs::read_to_string(home.config()).unwrap()
}

/// The file of the command line's own key.
fn own_key(home: &Home) -> PathBuf {
    home.base().join(".hub.yaml.key")
}

/// The new key in what `key add` said.
#[track_caller]
fn shown(said: &str) -> String {
    let keys: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("mlxhub-"))
        .collect();
    assert_eq!(keys.len(), 1, "{said}");
    assert_eq!(keys[0].len(), "mlxhub-".len() + 48, "{said}");
    keys[0].to_owned()
}

/// Snapshots without what is new each time; to be kept while they are compared.
fn filters(home: &Home) -> [Box<dyn std::any::Any>; 2] {
    let kept = home.filters(home.port);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("mlxhub-[0-9a-f]{48}", "mlxhub-KEY");
    settings.add_filter("[0-9a-f]{64}", "HASH");
    settings.add_filter(r"model_starting_port: \d+", "model_starting_port: PORT");
    [Box::new(settings.bind_to_scope()), Box::new(kept)]
}

fn status_of(home: &Home, path: &str, key: Option<&str>) -> u16 {
    let value = key.map(|key| format!("Bearer {key}"));
    let headers: Vec<_> = value
        .iter()
        .map(|value| ("authorization", value.as_str()))
        .collect();
    home.http.send("GET", path, &headers, b"").unwrap().status
}

#[test]
fn a_key_is_shown_once_listed_and_taken_back_to_the_byte() {
    let home = Home::with_stub(&yaml());
    let before = hub_yaml(&home);
    let _filters = filters(&home);
    assert_cmd_snapshot!("key_list_none", home.command(["key", "list"]));
    assert_cmd_snapshot!(
        "key_add_first",
        home.command(["key", "add", "laptop", "--yes"])
    );
    let mode = own_key(&home).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let options = [
        "key",
        "add",
        "visitor",
        "--model",
        "alpha",
        "--expires",
        "2999-01-31",
        "-y",
    ];
    assert_cmd_snapshot!("key_add_another", home.command(options));
    insta::assert_snapshot!("key_hub_yaml", hub_yaml(&home));
    assert_cmd_snapshot!("key_list", home.command(["key", "list"]));
    home.run(&["check"]).assert_ok();
    assert_cmd_snapshot!(
        "key_remove",
        home.command(["key", "remove", "visitor", "--yes"])
    );
    assert_cmd_snapshot!(
        "key_remove_own",
        home.command(["key", "rm", "cli", "--yes"])
    );
    assert!(!own_key(&home).exists());
    assert_cmd_snapshot!(
        "key_remove_last",
        home.command(["key", "remove", "laptop", "--yes"])
    );
    assert_eq!(hub_yaml(&home), before);
}

#[test]
fn commands_go_on_working_when_the_hub_has_keys() {
    let home = Home::started(&yaml());
    let before = hub_yaml(&home);
    let laptop = shown(&home.said(&["key", "add", "laptop", "--yes"]));
    assert_eq!(status_of(&home, "/v1/models", None), 401);
    assert_eq!(status_of(&home, "/v1/models", Some(&laptop)), 200);
    assert_eq!(status_of(&home, "/hub/status", Some(&laptop)), 403);
    let grafana = shown(&home.said(&["key", "add", "grafana", "--control", "--yes"]));
    assert_eq!(status_of(&home, "/metrics", Some(&grafana)), 200);
    for command in [
        &["status"][..],
        &["load-model", "alpha"],
        &["unload-model", "alpha"],
        &["stop-model", "alpha"],
        &["start-model", "alpha"],
        &["reload"],
        &["policy", "list"],
        &["policy", "explain", "alpha"],
        &["policy", "record", "status"],
        &["start"],
        &["watch", "--once"],
        &["logs", "--lines", "1"],
        &["launch", "aider", "--print"],
    ] {
        let ran = home.run(command);
        let said = ran.out.clone() + &ran.err;
        assert!(
            !said.contains("API key") && !said.contains("another hub"),
            "{command:?}: {ran:?}"
        );
        if !command.contains(&"--once") && !command.contains(&"record") {
            ran.assert_ok();
        }
        assert!(!said.contains("mlxhub-"), "{said}");
    }
    let restarted = home.run(&["restart"]);
    restarted.assert_ok();
    home.note_daemon(&restarted.out);
    assert_eq!(status_of(&home, "/v1/models", Some(&laptop)), 200);
    // Whoever has lost a key has lost it at once, and without keys the hub is as it was.
    home.said(&["key", "remove", "grafana", "--yes"]);
    assert_eq!(status_of(&home, "/metrics", Some(&grafana)), 401);
    home.said(&["key", "remove", "laptop", "--yes"]);
    home.said(&["key", "remove", "cli", "--yes"]);
    assert_eq!(hub_yaml(&home), before);
    assert_eq!(status_of(&home, "/hub/status", None), 200);
    home.run(&["stop"]).assert_ok();
    home.wait_for_end();
}

#[test]
fn a_client_that_is_launched_gets_the_key_and_nobody_else() {
    let home = Home::started(&yaml());
    home.said(&["key", "add", "laptop", "--yes"]);
    let own = std::fs::read_to_string(own_key(&home)).unwrap();
    home.write_script("aider", "echo \"arguments: $*\"; /usr/bin/env | sort");
    let launched = ran(home.command(["launch", "aider"]).env("TMPDIR", home.path()));
    launched.assert_ok();
    launched.assert_line(&format!("AIDER_OPENAI_API_KEY={}", own.trim()));
    let arguments = launched
        .lines()
        .into_iter()
        .find(|line| line.starts_with("arguments:"));
    assert!(!arguments.unwrap().contains("mlxhub-"), "{launched:?}");
    // Settings to copy have a word in its place.
    let printed = home.run(&["launch", "aider", "--print"]);
    printed.assert_line("export AIDER_OPENAI_API_KEY=KEY");
    assert!(printed.err.contains("KEY stands for a key"), "{printed:?}");
}

#[test]
fn a_client_that_is_launched_gets_a_key_that_only_uses_the_models_if_the_hub_takes_one() {
    let home = Home::started(&yaml());
    let key = |name: &str, text: &str| {
        std::fs::write(home.base().join(name), text).unwrap();
        format!("{{name: {name}, file: {name}")
    };
    let one_model = key("one", "of-one-model");
    let all = key("all", "of-all-models");
    home.configure(&format!(
        "api_keys: [{one_model}, models: [alpha]}}, {all}}}, {}, may: [use, control]}}]\n{}",
        key("own", KEY),
        yaml()
    ));
    home.run(&["reload"]).assert_ok();
    home.write_script("aider", "/usr/bin/env");
    let launched = || ran(home.command(["launch", "aider"]).env("TMPDIR", home.path()));
    launched().assert_line("AIDER_OPENAI_API_KEY=of-all-models");
    // The hub still has the old one.
    std::fs::write(home.base().join("all"), "another").unwrap();
    launched().assert_line(&format!("AIDER_OPENAI_API_KEY={KEY}"));
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let home = Home::started(&yaml());
    home.said(&["key", "add", "laptop", "--yes"]);
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(own_key(&home), open).unwrap();
    let _filters = filters(&home);
    assert_cmd_snapshot!("key_open_to_others", home.command(["status"]));
    let closed = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(own_key(&home), closed).unwrap();
    home.run(&["status"]).assert_ok();
}

#[test]
fn a_hub_whose_keys_were_written_by_hand_is_controlled_with_one_of_them_or_told_of_a_new_one() {
    let hash = KeyDigest::of(KEY.as_bytes()).to_hex();
    let by_hash = format!("api_keys: [{{name: me, sha256: {hash}, may: [use, control]}}]\n");
    let home = Home::started(&yaml());
    home.configure(&format!("{by_hash}{}", yaml()));
    home.reload();
    let _filters = filters(&home);
    assert_cmd_snapshot!("key_none_for_commands", home.command(["status"]));
    let added = home.said(&["key", "add", "laptop", "--yes"]);
    assert!(
        added.contains(&format!("`kill -HUP {}`", home.pid())),
        "{added}"
    );
    let laptop = shown(&added);
    processes::send(home.pid(), Signal::SIGHUP);
    wait_until("the hub to read hub.yaml", SOON, || {
        status_of(&home, "/v1/models", Some(&laptop)) == 200
    });
    home.run(&["status"]).assert_ok();
}

#[test]
fn a_key_in_a_file_or_a_variable_of_the_users_will_do_for_commands() {
    let entries = "api_keys: [{name: me, file: my.key, may: [use, control]}]\n";
    let home = Home::with_stub(&format!("{entries}{}", yaml()));
    std::fs::write(home.base().join("my.key"), KEY).unwrap();
    home.start();
    home.run(&["status"]).assert_ok();
    assert_eq!(status_of(&home, "/hub/status", Some(KEY)), 200);
    home.said(&["key", "add", "laptop", "--yes"]);
    assert!(
        !own_key(&home).exists(),
        "it has made another key for commands"
    );
    let laptop = hub_yaml(&home);
    assert!(laptop.contains("name: laptop"), "{laptop}");
    home.run(&["reload"]).assert_ok();
}

#[test]
fn what_cannot_be_added_or_removed_is_told_and_changes_nothing() {
    let home = Home::with_stub(&yaml());
    home.said(&["key", "add", "laptop", "--yes"]);
    let before = hub_yaml(&home);
    let own = std::fs::read(own_key(&home)).unwrap();
    let _filters = filters(&home);
    for (name, command) in [
        ("key_add_twice", &["key", "add", "laptop", "--yes"][..]),
        ("key_add_no_slug", &["key", "add", "my laptop", "--yes"]),
        (
            "key_add_no_moment",
            &["key", "add", "b", "--expires", "soon", "-y"],
        ),
        ("key_remove_unknown", &["key", "remove", "lapto", "--yes"]),
        ("key_add_unasked", &["key", "add", "b"]),
    ] {
        assert_cmd_snapshot!(name, home.command(command));
        assert_eq!(hub_yaml(&home), before, "{name}");
        assert_eq!(std::fs::read(own_key(&home)).unwrap(), own, "{name}");
    }
}
