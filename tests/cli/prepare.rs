//! Before there is a daemon: `init` writes a hub.yaml, `check` says what one would start.

use std::os::unix::fs::PermissionsExt as _;

use insta_cmd::assert_cmd_snapshot;

use crate::support::home::Home;

/// A hub.yaml with one of everything `check` has a word for.
const MODELS: &str = "\
    port: 8123\n\
    model_starting_port: 48000\n\
    groups: [{name: large, max_loaded: 1, idle_unload_trigger_min: 10}, {name: others}]\n\
    models:\n\
    - {name: a, model_path: org/a, default: true, max_tokens: 100, kv_bits: 4}\n\
    - {name: b, model_path: \"b's model\", jit_enabled: true, auto_unload_minutes: 5, group: large, port: 48001}\n\
    - {name: c, model_path: org/c, jit_enabled: true, group: large, env: {HF_TOKEN: secret}}\n";

/// A worker program that only has a help.
pub(crate) fn install_worker(home: &Home, options: &str) {
    let program = home.bin().join("mlx-openai-server");
    let script = format!("#!/bin/sh\necho '--model-path --port --no-log-file {options}'\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn write_policy(home: &Home, name: &str, text: &str) {
    std::fs::write(home.config().with_file_name(name), text).unwrap();
}

#[test]
fn check_shows_the_command_line_of_every_model() {
    let home = Home::empty();
    home.write(MODELS);
    install_worker(&home, "--served-model-name --max-tokens");
    write_policy(&home, "nights.lua", "return { on_load = function() end }\n");
    let _filters = home.filters(8123);
    assert_cmd_snapshot!(home.command(["check", "--verbose"]));
    assert!(!home.logs().exists(), "it wrote something");
}

#[test]
fn check_leaves_command_lines_out_unless_they_are_wanted() {
    let home = Home::empty();
    home.write(MODELS);
    install_worker(&home, "--served-model-name --max-tokens");
    let told = home.run(&["check"]).assert_ok().out.clone();
    let verbose = home.run(&["check", "-v"]).assert_ok().out.clone();
    let hint = "To see the command lines: `check --verbose`";
    assert_eq!(told.matches(hint).count(), 1, "{told}");
    let only_verbose = |line: &&str| !told.contains(line);
    let more: Vec<&str> = verbose.lines().filter(only_verbose).collect();
    assert_eq!(more.len(), 3, "{more:?}");
    assert!(
        more.iter()
            .all(|line| line.starts_with("    mlx-openai-server launch ")),
        "{more:?}"
    );
}

#[test]
fn check_says_so_when_it_finds_nothing() {
    let home = Home::empty();
    home.write(&MODELS.replace(", kv_bits: 4", ""));
    install_worker(&home, "--served-model-name --max-tokens");
    let output = home.command(["check"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.ends_with("[ok] Nothing is wrong\n"), "{stdout}");
    install_worker(&home, "--served-model-name");
    let output = home.command(["check"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(!stdout.contains("Nothing is wrong"), "{stdout}");
}

#[test]
fn check_knows_that_a_jit_worker_stays_up_without_the_model() {
    let home = Home::empty();
    home.write(MODELS);
    install_worker(&home, "--jit");
    let output = home.command(["check", "-v"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("loads for its first request (its process is up before that)"));
    assert!(
        stdout.contains("--port 48001 --no-log-file --jit\n"),
        "{stdout}"
    );
}

#[test]
fn check_without_the_worker_program_checks_the_rest() {
    let home = Home::empty();
    home.write(MODELS);
    let _filters = home.filters(8123);
    assert_cmd_snapshot!(home.command(["check"]));
}

#[test]
fn check_fails_for_a_policy_that_does_not_load() {
    let home = Home::empty();
    home.write(&format!("{MODELS}policies: [create_hob]\n"));
    install_worker(&home, "");
    write_policy(
        &home,
        "nights.lua",
        "return {\n  on_laod = function() end,\n}\n",
    );
    write_policy(
        &home,
        "routes.lua",
        "local model = hub.settings.model\nreturn {}\n",
    );
    let output = home.command(["check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let marked: Vec<_> = stdout
        .lines()
        .filter(|line| line.contains("olic"))
        .collect();
    insta::assert_snapshot!(marked.join("\n"), @r"
    [err] `policies` in hub.yaml names `create_hob`, which no bundled policy is called; there are: `alias`, `create_hub`, `fair_share`, `lru_swap`, `memory_fit`, `pinned`, `schedule`
    [err] A policy did not load and is left out. nights.lua:1: unknown hook `on_laod`, did you mean `on_load`?
    [ok] policies: routes.lua, bundled/create_hub.lua
    ");
}

#[test]
fn init_writes_a_configuration_that_check_accepts() {
    let home = Home::empty();
    std::fs::remove_dir(home.config().parent().unwrap()).unwrap();
    let _filters = home.filters(8000);
    assert_cmd_snapshot!(home.command(["init"]));
    let example = include_str!("../../examples/hub.yaml");
    assert_eq!(std::fs::read_to_string(home.config()).unwrap(), example);
    let output = home.command(["check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let logs = format!("Hub log path: {}\n", home.logs().display());
    assert!(String::from_utf8(output.stdout).unwrap().contains(&logs));
}

/// What stands there in comments is right as well.
#[test]
fn the_names_that_init_suggests_are_a_configuration_that_check_accepts() {
    assert_aliases_are_accepted(&Home::empty(), include_str!("../../examples/hub.yaml"));

    let theirs = "server: {port: 9000}\nmodels: [{model_path: org/a}, {model_path: org/b, model_type: embeddings}]\n";
    let swap = "models: {a: {cmd: 'mlx_lm.server --model org/a --port ${PORT}'}}\n";
    for text in [theirs, swap] {
        let home = Home::empty();
        std::fs::write(home.path().join("theirs.yaml"), text).unwrap();
        home.run(&["init", "--from", "theirs.yaml"]).assert_ok();
        let written = std::fs::read_to_string(home.config()).unwrap();
        assert!(written.contains("\"claude-*\": a\n"), "{written}");
        assert_aliases_are_accepted(&home, &written);
    }
    let home = crate::models::home_with_models();
    std::fs::remove_dir_all(home.base()).unwrap();
    home.run(&["init", "--found"]).assert_ok();
    let written = std::fs::read_to_string(home.config()).unwrap();
    assert_aliases_are_accepted(&home, &written);
}

/// With the comments about names taken out of `example`, it is a configuration with the policy `alias`.
#[track_caller]
fn assert_aliases_are_accepted(home: &Home, example: &str) {
    let is_of_block = |line: &str| {
        let is_key = |key| line.starts_with(key);
        is_key("# policies: ") || is_key("# policy:") || is_key("#   ")
    };
    let lines = example.lines().map(|line| match is_of_block(line) {
        true => format!("{}\n", &line["# ".len()..]),
        false => format!("{line}\n"),
    });
    let yaml: String = lines.collect();
    home.write(&yaml.replace("policies: [lru_swap]", "policies: [alias, lru_swap]"));
    for (arguments, said) in [
        (&["check"][..], "alias.lua"),
        (&["policy", "check"], "alias.lua"),
        (
            &["policy", "list"],
            "Names that bundled/alias.lua answers for: *, best, claude-*, claude-*haiku*, gpt-*\n",
        ),
    ] {
        let output = home.command(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains(said) || arguments == ["check"], "{text}");
    }
}

#[test]
fn init_and_check_say_that_hub_yaml_is_a_link_to_nothing() {
    let home = Home::empty();
    std::os::unix::fs::symlink("../dotfiles/hub.yaml", home.config()).unwrap();
    let _filters = home.filters(0);
    let told = ["init", "check", "start"].map(|verb| {
        let output = home.command([verb]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb}");
        String::from_utf8(output.stderr).unwrap()
    });
    assert!(told[1] == told[0] && told[2] == told[0], "{told:?}");
    insta::assert_snapshot!(told[0], @"
    Error: HOME/mlx-openai-server-hub/hub.yaml is a link to `../dotfiles/hub.yaml`, which is not there
    hint: put the file there, or remove the link
    ");
}

#[test]
fn init_never_overwrites_a_file() {
    let home = Home::empty();
    home.write("mine\n");
    let _filters = home.filters(8000);
    assert_cmd_snapshot!(home.command(["init"]));
    assert_eq!(std::fs::read_to_string(home.config()).unwrap(), "mine\n");
}

#[test]
fn init_says_how_to_use_a_configuration_at_another_place() {
    let home = Home::empty();
    install_worker(&home, "");
    let mut command = home.command(["init", "--config", "my hubs/one.yaml"]);
    let stdout = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let one = home.path().join("my hubs/one.yaml");
    let start = format!("mlx-openai-server-hub --config '{}' start\n", one.display());
    assert!(stdout.contains(&start), "{stdout}");

    let mut command = home.command(["init"]);
    command.env("MLX_HUB_CONFIG_PATH", "other.yaml");
    let stdout = String::from_utf8(command.output().unwrap().stdout).unwrap();
    // Whoever set the variable has it set for the next command too.
    assert!(
        stdout.contains("  mlx-openai-server-hub start\n"),
        "{stdout}"
    );
    assert!(home.path().join("other.yaml").exists());
}

#[test]
fn init_takes_the_models_of_the_disk_that_fit() {
    let home = crate::models::home_with_models();
    std::fs::remove_dir_all(home.base()).unwrap();
    let ran = home.run(&["init", "--found"]);
    ran.assert_ok();
    insta::assert_snapshot!(std::fs::read_to_string(home.config()).unwrap());
    home.run(&["check"]).assert_ok();
    let nothing = Home::empty();
    let ran = nothing.run(&["init", "--found"]);
    ran.assert_failed();
    assert!(
        ran.err.starts_with("Error: there is no model on this disk"),
        "{ran:?}"
    );
    assert!(!nothing.config().exists());
}

#[test]
fn init_asks_on_a_terminal_which_models_to_take() {
    use std::io::{Read as _, Write as _};
    let home = crate::models::home_with_models();
    std::fs::remove_dir_all(home.base()).unwrap();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut keys = std::fs::File::from(terminal.master);
    let mut child = home
        .command(["init"])
        .stdin(terminal.slave.try_clone().unwrap())
        .stderr(terminal.slave)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    keys.write_all(b"7\n2\n").unwrap();
    assert!(child.wait().unwrap().success());
    let mut said = [0; 4096];
    let read = keys.read(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said[..read]).contains("Which of them?"));
    let text = std::fs::read_to_string(home.config()).unwrap();
    assert_eq!(text.matches("- name: ").count(), 1, "{text}");
    assert!(text.contains("- name: bge\n"), "{text}");
}

#[test]
fn init_converts_the_configuration_of_another_program() {
    let home = Home::empty();
    let theirs = home.path().join("theirs.yaml");
    let text =
        "server: {port: 9000, log_file: x}\nmodels: [{model_path: org/a, on_demand: true}]\n";
    std::fs::write(&theirs, text).unwrap();
    let ran = home.run(&["init", "--from", "theirs.yaml"]);
    ran.assert_ok();
    assert!(
        ran.lines()[0].starts_with("[warn] `server.log_file` has no equal"),
        "{ran:?}"
    );
    let text = std::fs::read_to_string(home.config()).unwrap();
    assert!(
        text.contains("port: 9000\n") && text.contains("    jit_enabled: true\n"),
        "{text}"
    );
    home.run(&["check"]).assert_ok();

    let other = Home::empty();
    for (name, text) in [
        ("other.yaml", "a: 1\n"),
        ("empty.yaml", "models: {x: {cmd: llama-server}}\n"),
    ] {
        std::fs::write(other.path().join(name), text).unwrap();
        let ran = other.run(&["init", "--from", name]);
        ran.assert_failed();
        assert!(ran.err.contains(name), "{ran:?}");
        assert!(!other.config().exists());
    }
}

#[test]
fn no_model_may_log_into_a_file_of_the_hub() {
    let home = Home::started("models: [{name: alpha, model_path: alpha, default: true}]\n");
    home.wait_for_state("alpha", "running", "loaded");
    let own = std::fs::read_dir(home.logs()).unwrap();
    let own: Vec<_> = own.map(|entry| entry.unwrap().path()).collect();
    home.run(&["stop"]).assert_ok();
    assert!(
        own.iter().any(|path| path.ends_with("hub_runtime.json")),
        "{own:?}"
    );
    for path in own
        .iter()
        .filter(|path| path.is_file() && !path.ends_with("alpha.log"))
    {
        let log_file = path.display();
        home.write(&format!(
            "models: [{{name: beta, model_path: beta, log_file: {log_file}}}]\n"
        ));
        let ran = home.run(&["check"]);
        ran.assert_failed();
        assert!(ran.err.contains("is a file of the hub"), "{ran:?}");
    }
}

#[test]
fn a_link_to_nothing_is_not_replaced() {
    let home = Home::empty();
    std::os::unix::fs::symlink("gone.yaml", home.config()).unwrap();
    for command in [
        &["add", "org/x", "--yes"][..],
        &["key", "add", "mine"],
        &["remove", "x", "--yes"],
    ] {
        let ran = home.run(command);
        ran.assert_failed();
        assert!(ran.err.contains("is a link to `gone.yaml`"), "{ran:?}");
        assert!(home.config().is_symlink(), "{command:?}");
    }
}
