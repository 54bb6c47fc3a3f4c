//! What is told of files that are no engines, and of functions that fail.

use std::path::Path;
use std::sync::Arc;

use super::*;

/// The engine of a file with that text.
fn engine(source: &str) -> Result<Engine, String> {
    read::engine("mine", "engines/mine.lua", source, false)
}

/// A file with those fields besides the ones that must be there.
fn with(fields: &str) -> Result<Engine, String> {
    engine(&format!(
        "return {{\n  program = {{ 'mine' }},\n  command = function() return {{ argv = {{}} }} end,\n  \
         ready = {{ get = '/up' }},\n  {fields}\n}}"
    ))
}

const MODEL: Model<'_> = Model {
    mark: "mark",
    name: "a",
    path: "org/a",
    model_type: ModelType::Lm,
    host: "127.0.0.1",
    port: 47_850,
    log_level: "INFO",
    jit_enabled: false,
    options: &[],
};

#[test]
fn a_file_that_is_no_engine_is_told_with_file_and_line() {
    let told = [
        engine("return 1"),
        engine("return {}"),
        engine("\nreturn { program = 'a' }"),
        engine("return { program = 'a', command = function() end }"),
        engine("local x = = 1"),
        engine("error('no')"),
        engine("while true do end"),
        engine("return io.open('x')"),
        with("instal = 'x',"),
        with("install = 5,"),
        with("types = { 'lm', 'wisper' },"),
        with("types = { 'x' },"),
        with("speaks = { 'chats' },"),
        with("speaks = true,"),
        with("refuses = 1,"),
        with("help = { {} },"),
        with("ready = '/health',"),
        with("ready = { path = '/health' },"),
        with("ready = { get = 1 },"),
        with("ready = { get = '/', answer = true },"),
        with("load = { post = '/x', get = '/y' },"),
        with("load = { put = '/x' },"),
        with("name = true,"),
        with("resident = 'yes',"),
        with("check = 1,"),
        with("spares = 0,"),
        with("reserved = { 1 },"),
        with("keys = { a = 'integer' },"),
        with("keys = { a = { 'int', minimum = 1 } },"),
        with("keys = {\n    { 'b', 'texts' },\n  },"),
        with("keys = { { 1, 'text' } },"),
        with("keys = { ['a-b'] = 'text' },"),
    ]
    .map(|read| read.err().unwrap_or_else(|| "it is one".to_owned()));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_function_that_fails_or_returns_what_it_may_not_is_told_with_its_line() {
    let plan = |command: &str| {
        let source = format!(
            "return {{\n  program = {{ 'mine' }},\n  command = function(model, cli)\n    {command}\n  end,\n  \
             keys = {{ threads = 'int' }},\n  ready = {{ get = '/up' }},\n}}"
        );
        let plan = engine(&source).unwrap().plan(&MODEL, &Arc::default());
        plan.err().unwrap_or_else(|| "it is one".to_owned())
    };
    let mut told = vec![
        plan("return nil"),
        plan("return {}"),
        plan("return { argv = { {} } }"),
        plan("return { argv = { 'a\\0' } }"),
        plan("return { argv = {}, enviroment = {} }"),
        plan("return { argv = {}, env = { A = {} } }"),
        plan("return { argv = {}, warnings = 'x' }"),
        plan("return { argv = { model.nmae } }"),
        plan("return { argv = { model.keys.thread } }"),
        plan("return { argv = { cli.had('--x') } }"),
        plan("local x = nil; return x.y"),
        plan("while true do end"),
        plan("return { argv = { model.keys.threads } }"),
    ];
    let of = |fields: &str| with(fields).unwrap();
    let answer = Answer {
        status: 200,
        body: b"{}",
        argv: &[],
    };
    let cli = Arc::default();
    told.extend([
        of("name = function() return 1 end,").plan(&MODEL, &cli).unwrap_err(),
        of("resident = function() return 1 end,").plan(&MODEL, &cli).unwrap_err(),
        of("check = function() return 1 end,").check(&MODEL).unwrap_err(),
        of("check = function() return { problem = 1 } end,").check(&MODEL).unwrap_err(),
        of("check = function() return { problems = { {} } } end,").check(&MODEL).unwrap_err(),
        of("speaks = function() return 'chat' end,").speaks(&MODEL).unwrap_err(),
        of("speaks = function() return { 'chats' } end,").speaks(&MODEL).unwrap_err(),
        of("ready = { get = function() return nil end },").ready_path(&MODEL).unwrap_err(),
        of("ready = { get = '/', answer = function() return 'ready' end },")
            .understand(&answer, &MODEL)
            .unwrap_err(),
        engine("return { program = function() return {} end, command = function() end, ready = { get = '/' } }")
            .unwrap()
            .program_of(&MODEL)
            .unwrap_err(),
    ]);
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_users_file_replaces_the_bundled_one_and_counts_as_changed_when_its_text_has() {
    let folder = tempfile::tempdir().unwrap();
    let engines = Engines::beside(&folder.path().join("hub.yaml"));
    let bundled = engines.find("mlx-lm").unwrap();
    assert!(bundled.is_bundled && bundled == engines.find(" mlx_lm ").unwrap());
    let own = folder.path().join("engines");
    std::fs::create_dir(&own).unwrap();
    let write = |name: &str, program: &str| {
        let text = format!(
            "return {{ program = '{program}', command = function() return {{ argv = {{}} }} end, ready = {{ get = '/' }} }}"
        );
        std::fs::write(own.join(name), text).unwrap();
    };
    write("mlx_lm.lua", "one");
    write("_shared.lua", "x");
    write("mlx_lm_test.lua", "x");
    let first = engines.find("mlx_lm").unwrap();
    assert_eq!(
        (first.program[0].as_str(), first.is_bundled),
        ("one", false)
    );
    write("mlx_lm.lua", "two");
    let second = engines.find("mlx_lm").unwrap();
    let setting = |engine: &Engine| serde_json::to_string(engine).unwrap();
    assert_ne!(first, second);
    assert_ne!(setting(&first), setting(&second));
    assert_eq!(setting(&bundled), "\"mlx_lm\"");
    let names = engines.names();
    assert_eq!(names[0], DEFAULT);
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with('_') || name.ends_with("_test"))
    );
    for outside in ["../mlx_lm", "engines/mlx_lm", "", "_shared"] {
        assert!(
            matches!(engines.find(outside), Err(NoEngine::Unknown(_))),
            "{outside}"
        );
    }
}

#[test]
fn every_bundled_engine_loads() {
    for name in Engines::beside(Path::new("/nowhere/hub.yaml")).names() {
        let loaded = bundled::bundled(&name).unwrap();
        assert_eq!(loaded.err(), None, "{name}");
    }
}

#[test]
fn no_variable_of_a_hostfile_hides_the_one_by_which_the_hub_finds_its_processes() {
    let engine = bundled::bundled("mlx_lm").unwrap().unwrap();
    let hosts = r#"[{"ssh": "a", "ips": ["10.0.0.1"]}, {"ssh": "b"}]"#;
    let envs = r#"["A=1", "MLX_HUB_RANK_OF=other"]"#;
    let hostfile = LaunchOption {
        key: "hostfile".to_owned(),
        value: Some(format!(r#"{{"hosts": {hosts}, "envs": {envs}}}"#)),
    };
    let model = Model {
        options: &[hostfile],
        ..MODEL
    };
    let plan = engine.plan(&model, &Arc::default()).unwrap();
    let file: serde_json::Value = serde_json::from_str(&plan.files[0].1).unwrap();
    let envs = file["envs"].as_array().unwrap();
    assert_eq!(
        envs.last().unwrap(),
        "MLX_HUB_RANK_OF=mark",
        "the last counts"
    );
    assert_eq!(envs[0], "A=1");
}

#[test]
fn a_file_says_of_itself_what_its_first_sentence_does() {
    let source = "-- Virtual names, each with a\n-- list. One that fails is left.\n--\n-- More.\nreturn {}\n";
    assert_eq!(first_sentence(source), "Virtual names, each with a list.");
    assert_eq!(
        first_sentence("-- What it does:\n--\n-- more"),
        "What it does:"
    );
    assert_eq!(first_sentence("return {}"), "");
}
