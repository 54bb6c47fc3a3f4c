//! hub.yaml as a user meets it: one file, one snapshot of the exact text or of the result.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod messages;
mod schema;

use std::path::Path;

use insta::{assert_snapshot, glob};
use mlx_openai_server_hub::config::{self, Config};
use proptest::prelude::*;

/// The text without this machine's name, folders and times.
fn portable(text: &str) -> String {
    let home = std::env::home_dir().unwrap();
    let text = text
        .replace(env!("CARGO_MANIFEST_DIR"), "[project]")
        .replace(&format!("\"{}/", home.display()), "\"[home]/");
    text.lines()
        .filter(|line| {
            let line = line.trim_start();
            !line.starts_with("modified_at: ") && !line.starts_with("mark: ")
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_bad_file_is_refused_with_its_exact_text() {
    glob!("../inputs/bad_config", "*.yaml", |path| {
        let error = Config::load(path).unwrap_err();
        assert_snapshot!(portable(&error.to_string()));
    });
}

#[test]
fn every_good_file_is_read_as_its_snapshot_says() {
    glob!("../inputs/good_config", "*.yaml", |path| {
        let config = Config::load(path).unwrap();
        assert_snapshot!(portable(&format!("{config:#?}")));
    });
}

#[test]
fn every_known_key_is_in_the_file_of_all_keys() {
    let text = include_str!("../inputs/good_config/every_key.yaml");
    let sets = |key: &&str| {
        let is_of = |line: &str| {
            line.trim_start_matches([' ', '-'])
                .starts_with(&format!("{key}:"))
        };
        text.lines().any(is_of)
    };
    let keys = config::known_keys();
    // One spelling of each, and no key that is refused.
    let others = ["config", "lora_paths_str", "lora_scales_str"];
    let entries = keys.model.iter().chain(&keys.group);
    let entries = entries.chain(&keys.api_key).chain(&keys.fleet);
    let all = keys.hub.iter().chain(entries);
    let missing: Vec<_> = all
        .map(String::as_str)
        .filter(|key| !others.contains(key) && !sets(key))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_example_loads_without_a_warning() {
    let mut seen = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let config = Config::load(&path).unwrap();
            assert_eq!(config.warnings, [""; 0], "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 2, "examples are missing");
}

#[test]
fn a_missing_file_says_so_and_what_to_do() {
    let error = Config::load(Path::new("/no/such/hub.yaml")).unwrap_err();
    assert_snapshot!(error.to_string(), @r"
    Hub config file not found: /no/such/hub.yaml
    hint: create it with `mlx-openai-server-hub init`, or name another with `--config PATH` or `MLX_HUB_CONFIG_PATH`
    ");
}

#[test]
fn a_folder_and_an_endless_file_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let error = Config::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("cannot read hub config"), "{error}");
    let error = Config::load(Path::new("/dev/zero"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("larger than 1 MiB"), "{error}");
}

#[test]
fn only_what_reaches_the_worker_counts_as_its_launch() {
    let load = |keys: &str| load(format!("models: [{{name: a, model_path: org/a, {keys}}}]"));
    let model = |keys: &str| load(keys).unwrap().models.remove(0);
    let plain = model("jit_enabled: true");
    for same in [
        "default: true",
        "group: g",
        "auto_unload_minutes: 5",
        "policy: {a: 1}",
    ] {
        assert!(
            plain.same_launch(&model(&format!("jit_enabled: true, {same}"))),
            "{same}"
        );
    }
    for other in [
        "jit_enabled: false",
        "jit_enabled: true, port: 5000",
        "jit_enabled: true, host: localhost",
        "jit_enabled: true, context_length: 32768",
        "jit_enabled: true, model_type: whisper",
        "jit_enabled: true, env: {A: 1}",
        "jit_enabled: true, extra_args: [x]",
        "jit_enabled: true, worker_command: other",
        "jit_enabled: true, log_level: debug",
        "jit_enabled: true, log_file: x.log",
        "jit_enabled: true, no_log_file: true",
    ] {
        assert!(!plain.same_launch(&model(other)), "{other}");
    }
}

#[test]
fn a_worker_command_that_is_a_program_with_spaces_is_one_word() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("my worker"), "").unwrap();
    let file = folder.path().join("hub.yaml");
    std::fs::write(
        &file,
        "worker_command: ./my worker\nmodels: [{name: a, model_path: x}]",
    )
    .unwrap();
    let config = Config::load(&file).unwrap();
    let program = folder.path().join("my worker").display().to_string();
    assert_eq!(config.models[0].worker_command, [program]);
}

#[test]
fn the_default_place_is_in_the_base_folder() {
    assert_eq!(
        config::default_path(),
        config::base_folder().join("hub.yaml")
    );
}

fn load(text: impl AsRef<[u8]>) -> Result<Config, config::ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.yaml");
    std::fs::write(&file, text).unwrap();
    Config::load(&file)
}

/// Pieces of hub.yaml and of YAML's syntax, to get past the first character more often than bytes do.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "models:",
            "groups:",
            "- ",
            "name: ",
            "port: ",
            "group: ",
            "policy: ",
            "env: ",
            "<<: ",
            "&a ",
            "*a",
            "[",
            "]",
            "{",
            "}",
            ", ",
            ": ",
            "\n",
            "\n  ",
            "\n    ",
            "\t",
            "# ",
            "|\n",
            ">-\n",
            "'",
            "\"",
            "!x ",
            "~",
            "true",
            "80",
            "1e9",
            "é",
            "🦙",
            "---\n",
            "...\n",
            "? ",
            "model_path: ",
            "org/a",
            "a",
            "lora_scales: ",
            "worker_command: ",
            "%",
            "\u{0}",
            "\r\n",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,4}",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_the_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load(bytes);
    }

    #[test]
    fn no_yaml_makes_the_loader_panic_and_every_error_has_words(text in yaml_like()) {
        if let Err(error) = load(text) {
            prop_assert!(error.text.contains("hub.yaml:") && error.text.len() > 20);
        }
    }
}
