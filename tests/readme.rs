//! README.md is held to the program: its configurations load, its policies too, and its tables name
//! what there is, all of it and nothing else.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use mlx_openai_server_hub::config::{Config, known_keys};
use mlx_openai_server_hub::policy::{Policies, Unstarted, bound_names};
use mlx_openai_server_hub::simulation;

const README: &str = include_str!("../README.md");

/// The code blocks of that language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let begun = README.split(fence.as_str()).skip(1);
    begun
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// What stands between a heading and the next one of any level.
fn section(heading: &str) -> &'static str {
    let begin = README
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let text = &README[begin + heading.len() + 2..];
    &text[..text.find("\n#").unwrap_or(text.len())]
}

/// The words in backticks in the first cell of every row of the tables of a text.
fn first_cells(text: &'static str) -> BTreeSet<&'static str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split(" |").next().unwrap());
    cells
        .flat_map(|cell| cell.split('`').step_by(2))
        .filter(|word| !word.is_empty())
        .collect()
}

fn load(text: &str, folder: &Path) -> Config {
    let path = folder.join("hub.yaml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_hub_yaml_loads_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let examples = blocks("yaml");
    assert!(examples.len() >= 2, "only {}", examples.len());
    for text in examples {
        assert_eq!(load(text, folder.path()).warnings, [""; 0], "{text}");
    }
}

#[test]
fn the_shortest_hub_yaml_is_the_example() {
    let example = include_str!("../examples/minimal.yaml");
    let without_comments: Vec<_> = example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert!(blocks("yaml").contains(&format!("{}\n", without_comments.join("\n")).as_str()));
}

#[test]
fn every_key_of_hub_yaml_is_in_the_reference_and_no_other() {
    let known = known_keys();
    let mut of_models = first_cells(section("### Model keys"));
    of_models.extend(first_cells(section("### Worker options")));
    assert_eq!(first_cells(section("### Hub keys")), known.hub);
    assert_eq!(of_models, known.model);
    assert_eq!(first_cells(section("### Group keys")), known.group);
}

#[test]
fn every_command_is_in_the_table_and_no_other() {
    let program = Path::new(env!("CARGO_BIN_EXE_mlx-openai-server-hub"));
    let help = Command::new(program).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap();
    let list = list.split("\n\n").next().unwrap();
    // A description that is broken over lines goes on further to the right.
    let commands = list
        .lines()
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let mut commands: BTreeSet<_> = commands.collect();
    assert!(commands.remove("help"), "{help}");
    let aliases = list.split("[alias").skip(1);
    let aliases = aliases.filter_map(|rest| rest.split([':', ']']).nth(1));
    commands.extend(aliases.flat_map(|names| names.split(',').map(str::trim)));

    let table = first_cells(section("## Commands"));
    let named: BTreeSet<_> = table
        .iter()
        .filter_map(|usage| usage.split(' ').next())
        .collect();
    assert_eq!(named, commands);
}

#[test]
fn every_route_of_the_control_api_is_in_the_table_and_no_other() {
    let description: serde_json::Value =
        serde_yaml::from_str(include_str!("../templates/openapi.yaml")).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let described: BTreeSet<_> = paths.keys().map(String::as_str).collect();
    let table = first_cells(section("## Control API"));
    let table: BTreeSet<_> = table
        .iter()
        .map(|route| route.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(table, described);
}

#[test]
fn every_policy_loads() {
    let folder = tempfile::tempdir().unwrap();
    let config = load(blocks("yaml")[0], folder.path());
    let policies = blocks("lua");
    assert!(policies.len() >= 2, "only {}", policies.len());
    for (number, text) in policies.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number}.lua")), text).unwrap();
    }
    let world = Arc::new(Unstarted::new(config));
    let loaded = Policies::load(folder.path(), &[], world);
    assert_eq!(loaded.warnings(), [""; 0]);
    assert!(loaded.names().len() >= policies.len());
}

#[test]
fn the_test_of_a_policy_passes() {
    let folder = tempfile::tempdir().unwrap();
    let test = folder.path().join("turns_test.lua");
    std::fs::write(folder.path().join("turns.lua"), blocks("lua")[0]).unwrap();
    std::fs::write(&test, blocks("lua test")[0]).unwrap();
    let cases = simulation::run(&test, Path::new("hub.yaml"));
    assert!(cases.iter().all(|case| case.failure.is_none()), "{cases:?}");
}

/// The names of the policies in a folder.
fn policies_in(folder: &str, ending: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let policies = names.filter(|name| name.ends_with(".lua") && !name.ends_with("_test.lua"));
    policies.map(|name| name.replace(".lua", ending)).collect()
}

#[test]
fn every_bundled_policy_and_every_example_is_in_its_table_and_no_other() {
    for (heading, folder, ending) in [
        ("### Bundled policies", "scripts", ""),
        ("### Cookbook", "examples/policies", ".lua"),
    ] {
        let named = first_cells(section(heading)).into_iter().map(str::to_owned);
        assert_eq!(named.collect::<BTreeSet<_>>(), policies_in(folder, ending));
    }
}

/// The names that Lua sees in the class that the editor types give that name.
fn lua_names(class: &str) -> BTreeSet<&'static str> {
    let bound = bound_names();
    let found = bound.into_iter().find(|(name, _)| *name == class);
    found.unwrap().1.into_iter().collect()
}

#[test]
fn every_hook_is_in_the_table_and_no_other() {
    let cells = first_cells(section("## Lua policies"));
    let calls = cells.iter().filter_map(|cell| cell.split_once('('));
    let mut hooks = lua_names("policy");
    assert!(hooks.remove("on_error"), "it is no hook");
    assert_eq!(calls.map(|(hook, _)| hook).collect::<BTreeSet<_>>(), hooks);
}

#[test]
fn every_field_of_a_view_is_in_the_table_and_no_other() {
    let text = section("## Lua policies");
    for (view, class) in [
        ("req", "request"),
        ("model", "model"),
        ("load", "load"),
        ("exit", "exit"),
        ("group", "group"),
        ("hub.memory", "memory"),
    ] {
        let row = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("| `{view}` | ")));
        let words = row.unwrap().split('`').skip(1).step_by(2);
        // Words in quotes are values of a field.
        let fields: BTreeSet<_> = words.filter(|word| !word.starts_with('"')).collect();
        assert_eq!(fields, lua_names(class), "{view}");
    }
    for name in lua_names("hub") {
        let is_named = text.contains(&format!("hub.{name}")) || text.contains(&format!("`{name}"));
        assert!(is_named, "hub.{name} is not mentioned");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let anchors: BTreeSet<_> = README
        .lines()
        .filter_map(|line| line.strip_prefix("## ").or(line.strip_prefix("### ")))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let targets = README.split("](").skip(1);
    for target in targets.map(|rest| rest.split(')').next().unwrap()) {
        match target.strip_prefix('#') {
            Some(anchor) => assert!(anchors.contains(anchor), "no heading for #{anchor}"),
            None if target.starts_with("https://") => {}
            None => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
                assert!(path.exists(), "no file {target}");
            }
        }
    }
}
