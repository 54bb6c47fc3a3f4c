//! The configurations on the pages load, and so do the policies, which pass their tests.

use std::path::Path;
use std::sync::Arc;

use mlx_openai_server_hub::config::Config;
use mlx_openai_server_hub::policy::{Policies, Unstarted};
use mlx_openai_server_hub::simulation;

use super::code;

fn load(text: &str, folder: &Path) -> Config {
    let path = folder.join("hub.yaml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// The name that the first line of a Lua file gives it, `-- NAME.lua: …`.
fn name(text: &str) -> Option<&str> {
    let name = text.strip_prefix("-- ")?.split([':', ',']).next()?;
    name.ends_with(".lua").then_some(name)
}

#[test]
fn every_hub_yaml_loads_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let examples = code("yaml");
    assert!(examples.len() >= 4, "only {}", examples.len());
    for text in examples {
        assert_eq!(load(&text, folder.path()).warnings, [""; 0], "{text}");
    }
}

#[test]
fn the_shortest_hub_yaml_is_the_example() {
    let example = include_str!("../../../examples/minimal.yaml");
    let without_comments = example.lines().filter(|line| !line.starts_with('#'));
    let text: String = without_comments.map(|line| format!("{line}\n")).collect();
    assert!(code("yaml").contains(&text), "{text}");
}

#[test]
fn every_policy_loads() {
    let folder = tempfile::tempdir().unwrap();
    let config = load(&code("yaml")[0], folder.path());
    let policies = code("lua");
    assert!(policies.len() >= 4, "only {}", policies.len());
    for text in &policies {
        let name = name(text).unwrap_or_else(|| panic!("no name in the first line of\n{text}"));
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let world = Arc::new(Unstarted::new(config));
    let loaded = Policies::load(folder.path(), &[], world);
    assert_eq!(loaded.warnings(), [""; 0]);
    assert!(loaded.names().len() >= policies.len());
}

#[test]
fn every_test_of_a_policy_passes() {
    let folder = tempfile::tempdir().unwrap();
    for text in code("lua") {
        std::fs::write(folder.path().join(name(&text).unwrap()), &text).unwrap();
    }
    let tests = code("lua test");
    assert!(!tests.is_empty());
    for text in tests {
        let test = folder.path().join(name(&text).unwrap());
        std::fs::write(&test, text).unwrap();
        let cases = simulation::run(&test, Path::new("hub.yaml"));
        assert!(!cases.is_empty(), "{}", test.display());
        assert!(cases.iter().all(|case| case.failure.is_none()), "{cases:?}");
    }
}

#[test]
fn every_engine_loads_and_passes_its_test() {
    let folder = tempfile::tempdir().unwrap();
    let engines = folder.path().join("engines");
    std::fs::create_dir(&engines).unwrap();
    for text in code("lua engine") {
        std::fs::write(engines.join(name(&text).unwrap()), &text).unwrap();
    }
    let tests = code("lua engine test");
    assert!(!tests.is_empty());
    for text in tests {
        let test = engines.join(name(&text).unwrap());
        std::fs::write(&test, text).unwrap();
        let cases = simulation::run(&test, Path::new("hub.yaml"));
        assert!(!cases.is_empty(), "{}", test.display());
        assert!(cases.iter().all(|case| case.failure.is_none()), "{cases:?}");
    }
}
