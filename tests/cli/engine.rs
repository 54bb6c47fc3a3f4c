//! `engine`: the files that say what a worker program is, shown, checked and tested.

use insta_cmd::assert_cmd_snapshot;

use crate::support::home::Home;

/// An engine that serves embeddings, and its test.
const TINY: &str = "-- tiny.lua: a program of our own. It is small.\nreturn {\n  program = { 'tiny' },\n  \
                    types = { 'embeddings' },\n  keys = { threads = 'int' },\n  command = function(model)\n    \
                    return { argv = { model.path, '--port', model.port, model.keys.threads } }\n  end,\n  \
                    ready = { get = '/up' },\n}\n";
const TEST: &str = "test.case('the path comes first', function()\n  local made = test.engine({ entry = { engine = 'tiny', \
                    model_type = 'embeddings', name = 'a', model_path = 'org/a', threads = 4 } })\n  \
                    test.equal(made.command, 'tiny org/a --port 47850 4')\nend)\n";

/// A home with files in `engines`.
fn home(files: &[(&str, &str)]) -> Home {
    let home = Home::empty();
    let engines = home.base().join("engines");
    std::fs::create_dir_all(&engines).unwrap();
    for (name, text) in files {
        std::fs::write(engines.join(name), text).unwrap();
    }
    home
}

#[test]
fn engines_are_listed_with_what_they_serve() {
    assert_cmd_snapshot!(home(&[("tiny.lua", TINY)]).command(["engine", "list"]));
}

#[test]
fn an_engine_is_shown_byte_for_byte() {
    let home = home(&[("mlx_lm.lua", TINY)]);
    for (name, source) in [
        ("mlx_lm", TINY),
        (
            "mlx-openai-server",
            include_str!("../../scripts/engines/mlx_openai_server.lua"),
        ),
    ] {
        let output = home.command(["engine", "show", name]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), source, "{name}");
    }
    assert_cmd_snapshot!(home.command(["engine", "show", "lama_server"]));
}

#[test]
fn every_function_of_every_engine_is_called() {
    let fails = TINY.replace("model.path,", "model.paht,");
    let broken = TINY.replace("program", "programm");
    assert_cmd_snapshot!(
        home(&[
            ("tiny.lua", TINY),
            ("fails.lua", &fails),
            ("broken.lua", &broken)
        ])
        .command(["engine", "check"])
    );
    let fine = home(&[("tiny.lua", TINY)]);
    assert!(fine.run(&["engine", "check"]).assert_ok().err.is_empty());
}

#[test]
fn an_engine_is_tested_beside_it() {
    let wrong = TEST.replace("47850 4", "47850");
    let home = home(&[
        ("tiny.lua", TINY),
        ("tiny_test.lua", TEST),
        ("wrong_test.lua", &wrong),
    ]);
    assert_cmd_snapshot!(home.command(["engine", "test"]));
}

#[test]
fn check_shows_the_command_line_of_every_engine() {
    let home = Home::with_stub("");
    home.write(
        "host: 127.0.0.1\nport: 8123\nmodel_starting_port: 48000\nmodels:\n  - name: a\n    model_path: org/a\n  \
         - name: b\n    model_path: org/b\n    engine: command\n    command: tiny --port {port}\n  - name: c\n    \
         model_path: org/c\n    engine: mlx_lm\n",
    );
    home.write_script("tiny", "exit 0");
    let _filters = home.filters(8123);
    assert_cmd_snapshot!(home.command(["check", "--verbose"]));
}
