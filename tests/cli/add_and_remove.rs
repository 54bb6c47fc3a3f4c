//! `add` and `remove` change one entry of hub.yaml and no other byte.

use insta_cmd::assert_cmd_snapshot;
use serde_json::json;

use crate::models::home_with_models;
use crate::prepare::install_worker;
use crate::support::home::Home;
use crate::support::model_folder::write_cached;

const HUB_YAML: &str = "# mine\nport: 8124\n\ngroups: [{name: large, max_loaded: 1}]  # one\n\nmodels:\n  \
     # the first\n  - name: first\n    model_path: org/first   # there\n\n# the end\n";

/// A home with a model that calls tools, a worker that knows some parsers, and a hub.yaml.
fn home() -> Home {
    let home = home_with_models();
    home.write(HUB_YAML);
    let parsers = "--tool-call-parser [hermes|qwen3] --reasoning-parser [hermes]";
    install_worker(&home, &format!("\"{parsers}\"").replace('"', ""));
    let config = json!({"model_type": "qwen3", "quantization": {"bits": 4}});
    let folder = write_cached(home.path(), "org/Caller-4bit", &config, 1000);
    let template = "<tool_call>\\n{\"name\": </tool_call> enable_thinking <think>";
    std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
    home
}

fn hub_yaml(home: &Home) -> String {
    std::fs::read_to_string(home.config()).unwrap()
}

#[test]
fn add_shows_the_entry_and_why_and_remove_takes_it_out_again() {
    let home = home();
    let _filters = home.filters(8124);
    assert_cmd_snapshot!(home.command([
        "add",
        "caller-4BIT",
        "--group",
        "large",
        "--jit",
        "--auto-unload",
        "30",
        "--yes"
    ]));
    insta::assert_snapshot!(hub_yaml(&home));
    home.run(&["check"]).assert_ok();
    assert_cmd_snapshot!(home.command(["remove", "caller-4bit", "-y"]));
    assert_eq!(hub_yaml(&home), HUB_YAML);
}

#[test]
fn without_a_terminal_nothing_is_changed_unless_it_was_agreed_to() {
    let home = home();
    let _filters = home.filters(8124);
    home.run(&["add", "org/other", "--yes"]).assert_ok();
    let before = hub_yaml(&home);
    for command in [["add", "org/huge"], ["remove", "first"]] {
        let ran = home.run(&command);
        ran.assert_failed();
        let hint =
            "Error: nothing was changed, since there is no terminal to ask on\nhint: add `--yes`\n";
        assert_eq!(ran.err, hint);
        assert_eq!(hub_yaml(&home), before);
    }
}

#[test]
fn a_repository_that_is_not_here_and_a_folder_can_be_added() {
    let home = home();
    let ran = home.run(&["add", "org/Some-Embedding", "--name", "vectors", "--yes"]);
    assert!(
        ran.lines()[0].contains("org/Some-Embedding is not on this disk: its worker downloads it"),
        "{ran:?}"
    );
    home.run(&[
        "add",
        "mlx-openai-server-hub/mine/tuned",
        "--default",
        "--yes",
    ])
    .assert_ok();
    home.run(&["add", "bge", "--yes"]).assert_ok();
    let text = hub_yaml(&home);
    let added = text.replace("\n\n# the end\n", "");
    insta::assert_snapshot!(added.split("# there\n").nth(1).unwrap());
}

#[test]
fn add_writes_a_hub_yaml_where_there_is_none() {
    let home = home();
    std::fs::remove_dir_all(home.base()).unwrap();
    home.run(&["add", "Caller-4bit", "--jit", "--default", "-y"])
        .assert_ok();
    insta::assert_snapshot!(hub_yaml(&home));
    assert!(home.base().join("hub.schema.json").exists());
    home.run(&["check"]).assert_ok();
}

#[test]
fn a_hub_yaml_without_models_gets_one_and_is_the_same_without_it() {
    let home = home();
    for text in [
        "# mine\n",
        "# mine\nport: 8124",
        "port: 8124\nmodels:\n",
        "port: 8124\nmodels: []\n",
        "port: 8124\nmodels: [ ]  # none\n",
    ] {
        home.write(text);
        home.run(&["add", "caller-4bit", "--yes"]).assert_ok();
        home.run(&["check"]).assert_ok();
        let ran = home.run(&["remove", "caller-4bit", "--yes"]);
        ran.assert_ok();
        ran.assert_line("[warn] hub.yaml has no model now: `add` one before the next `start`");
        assert_eq!(hub_yaml(&home), text);
    }
    // What is wrong with it besides is told.
    home.write("prot: 1\nport: none\n");
    let ran = home.run(&["add", "caller-4bit", "--yes"]);
    ran.assert_failed();
    assert!(ran.err.contains("`port`"), "{ran:?}");
}

#[test]
fn what_add_wrote_into_a_new_hub_yaml_can_be_removed_and_added_again() {
    let home = home();
    std::fs::remove_file(home.config()).unwrap();
    home.run(&["add", "Caller-4bit", "-y"]).assert_ok();
    let written = hub_yaml(&home);
    home.run(&["remove", "caller-4bit", "-y"]).assert_ok();
    assert!(written.starts_with(&hub_yaml(&home)), "{written}");
    home.run(&["add", "Caller-4bit", "-y"]).assert_ok();
    assert_eq!(hub_yaml(&home), written);
}

#[test]
fn what_cannot_be_added_or_removed_is_told_and_changes_nothing() {
    let home = home();
    let _filters = home.filters(8124);
    write_cached(
        home.path(),
        "other/Caller-4bit",
        &json!({"model_type": "llama"}),
        10,
    );
    let mut told = Vec::new();
    for arguments in [
        &["add", "Qwen3-0.6B-4bitt"][..],
        &["add", "nothing-like-it"],
        &["add", "Caller-4bit"],
        &["add", "./bin"],
        &["add", "org/new", "--name", "First"],
        &["add", "org/new", "--name", "a b"],
        &["add", "org/new", "--group", "larg"],
        &["remove", "frist"],
    ] {
        let ran = home.run(&[arguments, &["--yes"]].concat());
        ran.assert_failed();
        told.push(format!("$ {}\n{}", arguments.join(" "), ran.err));
        assert_eq!(hub_yaml(&home), HUB_YAML, "{arguments:?}");
    }
    let aliased = "all: &all\n  - {name: a, model_path: org/a}\nmodels: *all\n";
    home.write(aliased);
    let ran = home.run(&["add", "org/new", "--yes"]);
    told.push(format!("$ add org/new\n{}", ran.err));
    assert_eq!(hub_yaml(&home), aliased);
    let told = told
        .join("")
        .replace(&home.path().display().to_string(), "HOME");
    insta::assert_snapshot!(told);
}

#[test]
fn a_running_hub_takes_the_change_at_once() {
    let home = Home::started("models:\n  - {name: a, model_path: org/a, jit_enabled: true}\n");
    let ran = home.run(&["add", "org/b", "--jit", "--default", "--yes"]);
    ran.assert_ok();
    ran.assert_line("[ok] Hub reload complete: started=b | stopped=none | unchanged=a");
    home.wait_for_state("b", "running", "unloaded");
    let ran = home.run(&["remove", "b", "--yes"]);
    ran.assert_line("[ok] Hub reload complete: started=none | stopped=b | unchanged=a");
    let before = hub_yaml(&home);
    let ran = home.run(&["remove", "a", "--yes"]);
    ran.assert_failed();
    assert!(
        ran.err
            .contains("is the only model of hub.yaml, and its hub runs"),
        "{ran:?}"
    );
    assert_eq!(hub_yaml(&home), before);
    home.run(&["stop"]).assert_ok();
}
