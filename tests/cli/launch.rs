//! `launch`: the client that it becomes, with simulated clients that tell what they were given.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use insta_cmd::assert_cmd_snapshot;
use mlx_openai_server_hub::clients;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::fake_hub::FakeHub;
use crate::support::home::{Home, Ran, ran};
use crate::support::{SOON, processes, wait_until};

const YAML: &str = "models:\n\
    - {name: embed, model_path: org/embed, model_type: embeddings, jit_enabled: true, default: true, \
       worker_command: [jit-openai-server]}\n\
    - {name: small, model_path: org/small, jit_enabled: true, default: true, context_length: 131072, \
       worker_command: [jit-openai-server]}\n\
    - {name: large, model_path: org/large, jit_enabled: true, worker_command: [jit-openai-server]}\n";

/// A client that tells its arguments, its variables, and the files that it was led to.
const TELLS: &str = r#"for word in "$@"; do echo "argument: $word"; done
unset HOME TZ TMPDIR STUB_RECORD
env -u _ -u SHLVL -u PWD -u OLDPWD -u PATH /usr/bin/env -0 | sort -z | tr '\0' '\n'
if [ "$1" = --config ]; then cat "$2"; fi
if [ -n "$LLM_USER_PATH" ]; then cat "$LLM_USER_PATH"/*; fi"#;

/// A home with a folder for temporary files.
fn home() -> Home {
    let home = Home::with_stub(YAML);
    std::fs::create_dir(home.path().join("tmp")).unwrap();
    home
}

fn launch(home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.command([&["launch"], arguments].concat());
    command.env("TMPDIR", home.path().join("tmp"));
    command
}

fn launched(home: &Home, arguments: &[&str]) -> Ran {
    ran(&mut launch(home, arguments))
}

/// What temporary files there are.
fn temporary(home: &Home) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.path().join("tmp")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn is_clean(home: &Home) {
    wait_until("the temporary files to go", SOON, || {
        temporary(home).is_empty()
    });
}

#[test]
fn every_client_is_given_address_and_model_and_nothing_is_left() {
    let home = home();
    home.start();
    for (client, program) in clients::programs() {
        home.write_script(program.command, TELLS);
        let _filters = home.filters(home.port);
        let mut settings = insta::Settings::clone_current();
        settings.add_filter("HOME/tmp/mlx-openai-server-hub-[[:alnum:]]+", "TEMPORARY");
        settings.bind(|| {
            let ran = launched(&home, &[client.name]);
            ran.assert_ok();
            insta::assert_snapshot!(format!("launch_{}", client.name), ran.out);
        });
    }
    is_clean(&home);
}

/// The files of a home with what is in them, but for those of the hub, of the simulated workers and of the moment.
fn files_of_the_user(home: &Home) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let (mut folders, mut files) = (vec![home.path().to_owned()], BTreeMap::new());
    let others =
        ["mlx-openai-server-hub", "tmp", "record.jsonl"].map(|name| home.path().join(name));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                _ if others.contains(&path) => {}
                true => folders.push(path),
                false => {
                    let changed = path.metadata().unwrap().modified().unwrap();
                    files.insert(path.clone(), (std::fs::read(path).unwrap(), changed));
                }
            }
        }
    }
    files
}

#[test]
fn no_file_of_the_user_is_changed() {
    let home = home();
    home.start();
    for path in [
        ".claude.json",
        ".claude/settings.json",
        ".codex/config.toml",
        ".codex/auth.json",
        ".config/opencode/opencode.json",
        ".config/goose/config.yaml",
        ".config/io.datasette.llm/extra-openai-models.yaml",
        ".continue/config.yaml",
        ".aider.conf.yml",
        ".qwen/settings.json",
        ".zshrc",
    ] {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "mine\n").unwrap();
    }
    for (_, program) in clients::programs() {
        home.write_script(program.command, "exit 0");
    }
    let before = files_of_the_user(&home);
    assert!(before.len() > 11, "{before:?}");
    for (client, _) in clients::programs() {
        launched(&home, &[client.name]).assert_ok();
        launched(&home, &[client.name, "--print"]).assert_ok();
    }
    is_clean(&home);
    let after = files_of_the_user(&home);
    let is_same = |path: &&PathBuf| before.get(*path) == after.get(*path);
    let changed: Vec<&PathBuf> = before
        .keys()
        .chain(after.keys())
        .filter(|path| !is_same(path))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
}

#[test]
fn the_arguments_of_the_user_come_last() {
    let home = home();
    home.start();
    home.write_script("llm", TELLS);
    let ran = launched(&home, &["llm", "--model", "small", "--", "-s", "be brief"]);
    assert!(
        ran.out.starts_with("argument: -s\nargument: be brief\n"),
        "{ran:?}"
    );
    assert!(!ran.out.contains("chat"), "{ran:?}");
    is_clean(&home);
}

#[test]
fn a_hub_is_started_and_stdout_is_the_clients() {
    let home = home();
    home.write_script("claude", "echo \"$ANTHROPIC_MODEL\"");
    let ran = launched(&home, &["claude"]);
    home.note_daemon(&ran.err);
    assert_eq!((ran.code, &*ran.out), (0, "small\n"), "{ran:?}");
    assert!(ran.err.contains("Hub manager is now running."), "{ran:?}");
    home.wait_for_state("small", "running", "unloaded");
}

#[test]
fn without_a_hub_yaml_it_says_what_start_says() {
    let home = Home::empty();
    home.write_script("claude", "echo reached");
    let ran = launched(&home, &["claude"]);
    ran.assert_failed();
    let start = home.run(&["start"]);
    assert_eq!(ran.err, start.err);
    assert_eq!(ran.out, "");
}

/// A running client that is past `READY` in its script.
fn running(home: &Home, name: &str, script: &str) -> Child {
    let ready = home.path().join("ready");
    let touch = format!("touch '{}'", ready.display());
    home.write_script(name, &script.replace("READY", &touch));
    let client = launch(home, &[name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the client to run", SOON, || ready.exists());
    std::fs::remove_file(ready).unwrap();
    client
}

#[test]
fn terminal_signals_and_exit_status_are_the_clients() {
    let home = home();
    home.start();
    for (name, has_file) in [("claude", false), ("cn", true)] {
        // The process is the one that was started, so that all signals are its own.
        home.write_script(name, "echo $$; exit 7");
        let client = launch(&home, &[name]).stdout(Stdio::piped()).spawn();
        let client = client.unwrap();
        let pid = client.id();
        let said = client.wait_with_output().unwrap();
        assert_eq!(said.status.code(), Some(7), "{name}");
        assert_eq!(String::from_utf8_lossy(&said.stdout), format!("{pid}\n"));
        is_clean(&home);

        // A shell that is about to read may sleep through its signal.
        let caught = "trap 'exit 3' INT; READY; for n in 1 2 3 4 5 6 7 8 9; do sleep 1; done";
        for (signal, script, code, by) in [
            (Signal::SIGINT, caught, Some(3), None),
            (Signal::SIGTERM, "READY; exec sleep 60", None, Some(15)),
            (Signal::SIGKILL, "READY; exec sleep 60", None, Some(9)),
            // As Rust programs do not have it.
            (Signal::SIGPIPE, "READY; exec sleep 60", None, Some(13)),
        ] {
            let mut client = running(&home, name, script);
            assert_eq!(temporary(&home).len(), usize::from(has_file), "{name}");
            processes::send(client.id(), signal);
            let status = client.wait().unwrap();
            assert_eq!((status.code(), status.signal()), (code, by), "{name}");
            is_clean(&home);
        }
    }
}

#[test]
fn a_client_has_no_children_that_it_has_not_started() {
    let home = home();
    home.start();
    let mut client = running(&home, "cn", "READY; read -r line");
    let parents = processes::children(client.id());
    assert!(parents.is_empty(), "{parents:?}");
    drop(client.stdin.take());
    client.wait().unwrap();
    is_clean(&home);
}

#[test]
fn the_clients_are_listed_with_where_they_are() {
    let home = Home::empty();
    home.write_script("codex", "exit 9");
    let _filters = home.filters(home.port);
    let mut settings = insta::Settings::clone_current();
    // As wide as the longest path.
    settings.add_filter("-{20,}", "----");
    settings.bind(|| assert_cmd_snapshot!(home.command(["launch"])));
}

#[test]
fn what_cannot_be_launched_is_told_before_a_hub_is_started() {
    let home = home();
    let told = [
        &["claude"][..],
        &["cluade"],
        &["vim"],
        &["openai"],
        &["claude", "--print", "--model", "smal"],
    ]
    .map(|arguments| {
        let ran = launched(&home, arguments);
        ran.assert_failed();
        format!("$ launch {}\n{}", arguments.join(" "), ran.err)
    });
    insta::assert_snapshot!(told.join("\n"));
    assert!(!home.runtime_file().exists());
    for arguments in [&["--print"][..], &["--model", "a"], &["--", "-p"]] {
        assert_eq!(launched(&home, arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn a_model_has_to_be_there_and_started() {
    let home = home();
    home.start();
    home.write_script("claude", TELLS);
    let told = ["smal", "large", "nothing"].map(|model| {
        let ran = launched(&home, &["claude", "--model", model]);
        ran.assert_failed();
        ran.err
    });
    let _filters = home.filters(home.port);
    insta::assert_snapshot!(told.join("\n"));
    home.done("large", "start");
    let ran = launched(&home, &["claude", "--model", "large"]);
    assert!(ran.out.contains("ANTHROPIC_MODEL=large\n"), "{ran:?}");
    // What is in memory is preferred to what starts with the hub.
    home.done("large", "load");
    let ran = launched(&home, &["claude"]);
    assert!(ran.out.contains("ANTHROPIC_MODEL=large\n"), "{ran:?}");
}

#[test]
fn a_name_that_a_policy_answers_for_will_do() {
    let status = json!({
        "status": "ok", "timestamp": 1, "host": "127.0.0.1", "port": 0, "warnings": [],
        "counts": {"registered": 0, "started": 0, "loaded": 0},
        "controller_available": true, "groups": [], "models": [],
    });
    let hub = FakeHub::start(move |request| {
        let answer = match request {
            "GET /v1/models/claude-opus" => json!({"id": "claude-opus", "object": "model"}),
            "GET /hub/status" => status.clone(),
            _ => return None,
        };
        Some((200, answer))
    });
    let home = crate::home_of_four(hub.port());
    hub.is_of(&home);
    std::fs::create_dir(home.path().join("tmp")).unwrap();
    let ran = launched(&home, &["claude", "--print", "--model", "claude-opus"]);
    assert!(ran.out.contains("ANTHROPIC_MODEL=claude-opus\n"), "{ran:?}");
}

#[test]
fn settings_are_printed_to_be_copied_and_nothing_is_started() {
    let home = home();
    let _filters = home.filters(home.port);
    for name in ["claude", "codex", "llm", "anthropic-node"] {
        let mut command = launch(&home, &[name, "--print", "--model", "large"]);
        command.env("ANTHROPIC_API_KEY", "secret");
        assert_cmd_snapshot!(format!("launch_{name}_print"), command);
    }
    assert!(!home.runtime_file().exists());
}

#[test]
fn what_would_lead_the_client_elsewhere_is_left_out() {
    let home = home();
    home.start();
    home.write_script("claude", TELLS);
    let mut command = launch(&home, &["claude"]);
    command
        .env("ANTHROPIC_API_KEY", "secret")
        .env("CLAUDE_CODE_USE_BEDROCK", "1")
        .env("ANTHROPIC_BASE_URL", "http://elsewhere")
        .env("http_proxy", "http://proxy:3128")
        .env("NO_PROXY", "a.b")
        .env("KEPT", "yes");
    let told = ran(&mut command).out;
    for gone in ["secret", "BEDROCK", "elsewhere"] {
        assert!(!told.contains(gone), "{told}");
    }
    for there in [
        "KEPT=yes\n",
        "NO_PROXY=a.b,127.0.0.1\n",
        "no_proxy=127.0.0.1\n",
    ] {
        assert!(told.contains(there), "{told}");
    }
}
