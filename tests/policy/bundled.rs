//! The bundled policies and engines and the policies of `examples/policies` do what their tests in Lua say, in simulated
//! hubs.

use std::path::{Path, PathBuf};

use mlx_openai_server_hub::simulation;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Lua files of a folder, by name.
fn lua_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "lua"));
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Runs all tests of a folder, among them one of every policy, and says what failed.
fn run(policies: &[PathBuf], tests: &str) {
    let nowhere = root().join("no-hub.yaml");
    let mut failed = Vec::new();
    let mut files = lua_files(tests);
    files.retain(|path| stem(path).ends_with("_test"));
    for policy in policies {
        let test = format!("{}_test", stem(policy));
        let has_one = files.iter().any(|path| stem(path) == test);
        assert!(has_one, "{} has no test", policy.display());
    }
    for test in files {
        for case in simulation::run(&test, &nowhere) {
            if let Some(failure) = case.failure {
                let place = case.place.unwrap_or_default();
                failed.push(format!(
                    "{place}: {}\n{failure}\n{}",
                    case.name,
                    case.printed.join("\n")
                ));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_bundled_policy_passes_its_test() {
    let policies = lua_files("scripts");
    assert!(policies.len() >= 7, "{policies:?}");
    run(&policies, "scripts/tests");
}

#[test]
fn every_bundled_engine_passes_its_test() {
    let engines = lua_files("scripts/engines");
    assert!(engines.len() >= 3, "{engines:?}");
    run(&engines, "scripts/engines/tests");
}

#[test]
fn every_policy_of_the_cookbook_passes_its_test() {
    let mut policies = lua_files("examples/policies");
    policies.retain(|path| !stem(path).ends_with("_test"));
    assert!(policies.len() >= 10, "{policies:?}");
    run(&policies, "examples/policies");
}

#[test]
fn every_policy_is_short_and_says_first_what_it_decides() {
    for path in lua_files("scripts")
        .iter()
        .chain(&lua_files("examples/policies"))
    {
        let text = std::fs::read_to_string(path).unwrap();
        let shown = path.display();
        if !stem(path).ends_with("_test") {
            // The default has a rule for every hook.
            let most = match stem(path).as_str() {
                "create_hub" => 140,
                "memory_fit" => 110,
                "alias" => 130,
                _ => 80,
            };
            assert!(text.lines().count() < most, "{shown}");
            assert!(text.starts_with("-- "), "{shown}");
            assert!(text.contains("---@type hub.Policy"), "{shown}");
        }
    }
}
