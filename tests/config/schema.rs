//! The JSON schema of hub.yaml and the checker agree, as far as a schema can.

use std::path::Path;

use insta::assert_snapshot;
use jsonschema::Validator;
use mlx_openai_server_hub::config::{self, Config};

fn validator() -> Validator {
    jsonschema::draft202012::new(&config::schema()).unwrap()
}

/// What an editor makes of a text; `None` if it is no YAML.
fn instance(text: &[u8]) -> Option<serde_json::Value> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
    // An alias brings along what was to be merged into its anchor.
    for _ in 0..4 {
        value.apply_merge().ok()?;
    }
    serde_json::to_value(value).ok()
}

/// The files of a folder with what the schema says of each: its errors, or `None` for no YAML.
fn verdicts(folder: &str) -> Vec<(String, Option<Vec<String>>)> {
    let validator = validator();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    paths.sort();
    let verdict = |path: &Path| {
        let instance = instance(&std::fs::read(path).unwrap())?;
        let errors = validator.iter_errors(&instance);
        Some(errors.map(|error| error.to_string()).collect())
    };
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths
        .iter()
        .map(|path| (name(path), verdict(path)))
        .collect()
}

#[test]
fn it_is_a_schema() {
    assert!(jsonschema::draft202012::meta::is_valid(&config::schema()));
}

#[test]
fn every_good_file_is_valid() {
    let mut count = 0;
    for folder in ["tests/inputs/good_config", "examples"] {
        for (name, errors) in verdicts(folder) {
            assert_eq!(errors.as_deref(), Some(&[][..]), "{name}");
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn a_bad_file_is_valid_only_if_its_fault_is_none_of_structure() {
    let verdicts = verdicts("tests/inputs/bad_config");
    let refused = verdicts
        .iter()
        .filter(|(_, errors)| errors.as_ref().is_some_and(|errors| !errors.is_empty()));
    assert!(refused.count() >= 40);
    let passed = verdicts
        .iter()
        .filter(|(_, errors)| errors.as_ref().is_some_and(Vec::is_empty));
    let passed: Vec<&str> = passed.map(|(name, _)| name.as_str()).collect();
    assert_snapshot!(passed.join("\n"));
}

/// The checker's verdict and the schema's on `models: [{name: a, model_path: a, KEY: VALUE}]`.
fn both(key: &str, value: &str) -> (bool, bool) {
    let text = format!("models: [{{name: a, model_path: a, jit_enabled: true, {key}: {value}}}]");
    let checked = Config::parse(Path::new("hub.yaml"), &text).is_ok();
    (
        checked,
        validator().is_valid(&instance(text.as_bytes()).unwrap()),
    )
}

#[test]
fn values_have_the_spellings_that_the_checker_takes() {
    for (key, value) in [
        ("default", "yes"),
        ("default", "'Off'"),
        ("default", "~"),
        ("default", "perhaps"),
        ("default", "1"),
        ("port", "'8001'"),
        ("port", "8_001"),
        ("port", "0x2000"),
        ("port", "8001.0"),
        ("port", "80"),
        ("port", "70000"),
        ("port", "[8001]"),
        ("port", "8001x"),
        ("temperature", "0.7"),
        ("temperature", "'1e-3'"),
        ("temperature", "warm"),
        ("model_type", "LM"),
        ("model_type", "Image-Generation"),
        ("model_type", "llm"),
        ("log_level", "debug"),
        ("extra_args", "[--verbose, 1]"),
        ("extra_args", "--verbose"),
        ("extra_args", "[[a]]"),
        ("lora_paths", "a,b"),
        ("lora_paths", "[a, b]"),
        ("lora_paths", "{a: b}"),
        ("lora_scales", "'0.5, 1'"),
        ("lora_scales", "0.5"),
        ("lora_scales", "[0.5, '1e-2']"),
        ("lora_scales", "[half]"),
        ("lora_scales", "half"),
        ("env", "{A: 1, B: ~, C: true}"),
        ("env", "{A: [1]}"),
        ("env", "{A=B: 1}"),
        ("policy", "{a: [1, {b: c}]}"),
        ("policy", "word"),
        ("group", "'a b'"),
        ("group", "a.b"),
        ("max_tokens", "18446744073709551615"),
        ("max_tokens", "0"),
        ("config", "worker.yaml"),
        ("no_such_key", "1"),
    ] {
        let (checked, valid) = both(key, value);
        assert_eq!(valid, checked, "{key}: {value}");
    }
}
