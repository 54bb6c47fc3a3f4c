//! The crate has what it is built from, and little else.

use std::process::Command;

fn listed() -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["package", "--list", "--allow-dirty", "--offline", "--quiet"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_crate_has_what_it_is_built_from_and_nothing_else() {
    let files = listed();
    for file in [
        "Cargo.toml",
        "Cargo.lock",
        "build.rs",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "src/main.rs",
        "src/cli/demo/hub.yaml",
        "src/hub/control/openapi.yaml",
        "scripts/lru_swap.lua",
        "scripts/engines/mlx_lm.lua",
        "templates/hub/hub.js",
        "examples/hub.yaml",
        "docs/configuration.md",
    ] {
        assert!(files.iter().any(|listed| listed == file), "no {file}");
    }
    let superfluous = files.iter().filter(|file| {
        let folders = [
            "tests/",
            "benches/",
            "fuzz/",
            "packaging/",
            ".github/",
            ".ci/",
        ];
        folders.iter().any(|folder| file.starts_with(folder)) || file.ends_with(".snap")
    });
    assert_eq!(superfluous.collect::<Vec<_>>(), [""; 0]);
}
