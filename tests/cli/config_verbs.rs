//! `config`: where hub.yaml is, its schema, and an editor for it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::support::home::{Home, Ran, ran};

const GOOD: &str = "models:\n- {name: alpha, model_path: org/alpha, jit_enabled: true}\n";

/// Makes an editor that runs these commands on its last argument, `$file`.
fn editor(home: &Home, commands: &str) {
    let path = home.bin().join("editor");
    let script = format!("#!/bin/sh\nfor file; do :; done\n{commands}\n");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn edited(home: &Home) -> Ran {
    let mut command = home.command(["config", "edit"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", home.bin().display()));
    ran(command.env("EDITOR", "editor --wait"))
}

fn text(home: &Home) -> String {
    std::fs::read_to_string(home.config()).unwrap()
}

#[test]
fn the_path_is_that_of_the_file_that_commands_use() {
    let home = Home::empty();
    let path = |arguments: &[&str]| home.run(arguments).assert_ok().out.trim_end().to_owned();
    assert_eq!(
        path(&["config", "path"]),
        home.config().display().to_string()
    );
    let other = home.path().join("b.yaml").display().to_string();
    assert_eq!(path(&["--config", "b.yaml", "config", "path"]), other);
    let mut command = home.command(["config", "path"]);
    let told = ran(command.env("MLX_HUB_CONFIG_PATH", "b.yaml"));
    assert_eq!(told.out.trim_end(), other);
}

#[test]
fn the_schema_is_the_one_beside_the_examples_and_beside_what_init_writes() {
    let home = Home::empty();
    let schema = home.run(&["config", "schema"]).assert_ok().out.clone();
    let examples = include_str!("../../examples/hub.schema.json");
    assert_eq!(
        schema, examples,
        "run `config schema > examples/hub.schema.json`"
    );
    home.run(&["init"]).assert_ok();
    let beside = std::fs::read_to_string(home.base().join("hub.schema.json")).unwrap();
    assert_eq!(beside, schema);
    let first = text(&home).lines().next().unwrap().to_owned();
    assert_eq!(first, "# yaml-language-server: $schema=hub.schema.json");
}

#[test]
fn the_schema_has_the_keys_of_the_engines_beside_hub_yaml() {
    let home = Home::with_stub("");
    let page = include_str!("../../docs/engines.md");
    let engine = page.split("```lua engine\n").nth(1).unwrap();
    let engine = engine.split("```").next().unwrap();
    std::fs::create_dir_all(home.base().join("engines")).unwrap();
    std::fs::write(home.base().join("engines/tiny.lua"), engine).unwrap();
    let text = "# yaml-language-server: $schema=hub.schema.json\n\
        models: [{name: a, model_path: org/a, engine: tiny, threads: 4, verbose: yes}]\n";
    home.write(text);
    home.run(&["check"]).assert_ok();

    let printed = home.run(&["config", "schema"]).assert_ok().out.clone();
    let schema: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let yaml: serde_json::Value = serde_yaml::from_str(text).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(&yaml)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, [""; 0]);
    let wrong = text
        .replace("threads: 4", "threads: many")
        .replace("verbose", "verbos");
    let yaml: serde_json::Value = serde_yaml::from_str(&wrong).unwrap();
    assert_eq!(validator.iter_errors(&yaml).count(), 2);

    home.run(&["engine", "check"]).assert_ok();
    let beside = std::fs::read_to_string(home.base().join("hub.schema.json")).unwrap();
    assert_eq!(beside, printed);
}

#[test]
fn what_was_edited_is_checked_and_told() {
    let home = Home::with_stub(GOOD);
    editor(&home, "");
    let same = edited(&home);
    assert!(same.assert_ok().out.contains("is unchanged"), "{same:?}");
    editor(&home, r#"echo "drain_timeout: 5" >>"$file""#);
    let good = edited(&home);
    assert!(
        good.assert_ok().out.contains("nothing is wrong with it"),
        "{good:?}"
    );
    assert!(text(&home).ends_with("drain_timeout: 5\n"));
    editor(&home, r#"echo "no_such_key: 5" >>"$file""#);
    let odd = edited(&home);
    assert!(
        odd.assert_ok()
            .out
            .contains("[warn] unknown key `no_such_key`"),
        "{odd:?}"
    );
}

#[test]
fn mistakes_are_told_and_nothing_is_lost_where_nobody_can_be_asked() {
    let home = Home::with_stub(GOOD);
    editor(&home, r#"echo "port: many" >>"$file""#);
    let bad = edited(&home);
    assert!(
        bad.assert_failed()
            .err
            .contains("`port` must be an integer"),
        "{bad:?}"
    );
    assert!(text(&home).ends_with("port: many\n"));
}

#[test]
fn a_missing_file_and_an_editor_that_fails_are_told() {
    let home = Home::empty();
    let missing = edited(&home);
    assert!(
        missing
            .assert_failed()
            .err
            .contains("Hub config file not found"),
        "{missing:?}"
    );
    home.write(GOOD);
    editor(&home, "exit 3");
    let failed = edited(&home);
    let err = &failed.assert_failed().err;
    assert!(
        err.contains("the editor `editor --wait` failed (exit status: 3)"),
        "{failed:?}"
    );
    assert!(err.contains("hint: name another in the environment's VISUAL or EDITOR"));
}

/// `config edit` at a terminal at which somebody types; what it showed.
fn edited_at_a_terminal(home: &Home, keys: &str) -> (Option<i32>, String) {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let end = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = home.command(["config", "edit"]);
    command
        .env("PATH", format!("{}:/usr/bin:/bin", home.bin().display()))
        .env("VISUAL", "editor");
    let child = command.stdin(end()).stdout(end()).stderr(end());
    let mut child = child.spawn().unwrap();
    drop(command);
    drop(terminal.slave);
    let mut screen = File::from(terminal.master);
    screen.write_all(keys.as_bytes()).unwrap();
    let mut shown = Vec::new();
    // Linux ends it with an error once the last writer has gone.
    let _ = screen.read_to_end(&mut shown);
    (
        child.wait().unwrap().code(),
        String::from_utf8(shown).unwrap(),
    )
}

#[test]
fn at_a_terminal_one_may_edit_again_or_go_back() {
    let home = Home::with_stub(GOOD);
    let before = text(&home);
    // Broken at the first time, mended at the second.
    editor(
        &home,
        r#"if grep -q many "$file"; then grep -v many "$file" >new; echo "drain_timeout: 5" >>new; cat new >"$file"
else echo "port: many" >>"$file"; fi"#,
    );
    let (code, shown) = edited_at_a_terminal(&home, "\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("`port` must be an integer"), "{shown}");
    assert!(shown.contains("nothing is wrong with it"), "{shown}");
    assert_eq!(text(&home), format!("{before}drain_timeout: 5\n"));

    home.write(&before);
    editor(&home, r#"echo "port: many" >>"$file""#);
    let (code, shown) = edited_at_a_terminal(&home, "what\ng\n");
    assert_eq!(code, Some(1), "{shown}");
    assert_eq!(text(&home), before, "{shown}");
    let (code, shown) = edited_at_a_terminal(&home, "l\n");
    assert_eq!(code, Some(1), "{shown}");
    assert_eq!(text(&home), format!("{before}port: many\n"));
}

#[test]
fn a_running_hub_reads_what_was_edited() {
    let home = Home::started(GOOD);
    editor(
        &home,
        r#"echo "- {name: beta, model_path: org/beta, jit_enabled: true, default: true}" >>"$file""#,
    );
    let reloaded = edited(&home);
    let line = "[ok] Hub reload complete: started=beta | stopped=none | unchanged=alpha";
    reloaded.assert_ok().assert_line(line);
    home.wait_for_state("beta", "running", "unloaded");
    home.run(&["stop"]).assert_ok();
}
