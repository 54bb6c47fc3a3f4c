//! The workflow of a release, as far as its text goes.

use std::path::Path;

use serde_yaml::Value;

/// `.github/workflows/release.yml`.
pub(crate) fn workflow() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows/release.yml");
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The shell steps of a job: their names, empty where they have none, and their scripts.
fn steps(job: &Value) -> Vec<(String, String)> {
    let steps = job["steps"].as_sequence().unwrap().iter();
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    let scripts = steps.filter(|step| step["run"].is_string());
    scripts
        .map(|step| (text(step, "name"), text(step, "run")))
        .collect()
}

/// The script of a step.
pub(crate) fn script(job: &str, step: &str) -> String {
    let steps = steps(&workflow()["jobs"][job]);
    let found = steps.into_iter().find(|(name, _)| name == step);
    found.unwrap_or_else(|| panic!("no step {step} in {job}")).1
}

/// What the build is made for.
pub(crate) fn targets() -> Vec<String> {
    let build = &workflow()["jobs"]["build"];
    let matrix = build["strategy"]["matrix"]["include"].as_sequence();
    let targets = matrix.unwrap().iter().map(|row| row["target"].as_str());
    targets.map(|target| target.unwrap().to_owned()).collect()
}

#[test]
fn every_step_is_run_here_or_is_one_that_only_a_release_can_run() {
    let workflow = workflow();
    let elsewhere = [
        "rustup toolchain install ",
        "cargo install --locked mdbook",
        "mdbook build",
        "cp -R examples scripts target/book/",
        "pipx install ",
        "maturin build ",
        "gh release create ",
        "cargo publish ",
    ];
    for (name, job) in workflow["jobs"].as_mapping().unwrap() {
        for (step, script) in steps(job) {
            let is_known = elsewhere.iter().any(|begin| script.starts_with(begin));
            assert_eq!(step.is_empty(), is_known, "{name:?}: `{step}`: {script}");
            // A script with values that GitHub puts in could not be run here, nor trusted there.
            assert!(!script.contains("${{"), "{name:?}: {script}");
        }
    }
}

#[test]
fn every_script_of_packaging_is_named_where_it_is_used() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "README.md" {
            assert!(readme.contains(&format!("`{name}")), "{name}");
            count += 1;
        }
    }
    assert!(count >= 6);
}

#[test]
fn the_release_is_built_for_four_machines() {
    assert_eq!(
        targets(),
        [
            "aarch64-apple-darwin",
            "x86_64-apple-darwin",
            "x86_64-unknown-linux-gnu",
            "aarch64-unknown-linux-gnu"
        ]
    );
}
