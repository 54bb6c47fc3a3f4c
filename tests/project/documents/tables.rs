//! The tables name what there is, all of it and nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use mlx_openai_server_hub::config::known_keys;
use mlx_openai_server_hub::engine::{bound_names as bound_names_of_engines, bundled_engines};
use mlx_openai_server_hub::policy::bound_names;

use super::{Page, first_cells, root};
use crate::support::BINARY;

/// The same names as texts.
fn texts<T: ToString>(names: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}

#[test]
fn every_key_of_hub_yaml_is_in_the_reference_and_no_other() {
    let known = known_keys();
    let page = Page::read("docs/configuration.md");
    let mut of_models = first_cells(&page.section("Model keys"));
    of_models.extend(first_cells(&page.section("Worker options")));
    assert_eq!(first_cells(&page.section("Hub keys")), texts(known.hub));
    assert_eq!(of_models, texts(known.model));
    assert_eq!(first_cells(&page.section("Group keys")), texts(known.group));
    let of_api_keys = first_cells(&page.section("Keys of API keys"));
    assert_eq!(of_api_keys, texts(known.api_key));
    let of_fleet = first_cells(&page.section("Keys of the fleet"));
    assert_eq!(of_fleet, texts(known.fleet));
}

#[test]
fn every_key_of_a_bundled_engine_is_in_the_table_and_no_other() {
    let page = Page::read("docs/engines.md");
    let section = page.section("Bundled engines");
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let quoted = |cell: &str| texts(cell.split('`').skip(1).step_by(2));
    let documented = rows.iter().flat_map(|row| quoted(row[1]));
    let documented: BTreeSet<String> = documented.collect();
    assert_eq!(
        documented,
        texts(bundled_engines().map(|engine| engine.name.clone()))
    );
    for engine in bundled_engines().filter(|engine| !engine.is_default()) {
        let row = rows
            .iter()
            .find(|row| quoted(row[1]).contains(&engine.name));
        let row = row.unwrap();
        assert_eq!(
            quoted(row[4]),
            texts(engine.keys.iter().map(|key| &key.name)),
            "{}",
            engine.name
        );
        if row[3] != "all" {
            let types = engine.types.iter().map(|kind| kind.as_str());
            assert_eq!(quoted(row[3]), texts(types), "{}", engine.name);
        }
    }
    let fields = bound_names_of_engines();
    let (_, fields) = fields.iter().find(|(class, _)| *class == "engine").unwrap();
    assert_eq!(first_cells(&page.section("Fields")), texts(fields));
}

/// The commands of the program with their aliases.
pub(super) fn commands() -> BTreeSet<String> {
    let help = Command::new(BINARY).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap();
    let list = list.split("\n\n").next().unwrap();
    // A description that is broken over lines goes on further to the right.
    let commands = list
        .lines()
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let mut commands = texts(commands);
    assert!(commands.remove("help"), "{help}");
    let aliases = list.split("[alias").skip(1);
    let aliases = aliases.filter_map(|rest| rest.split([':', ']']).nth(1));
    commands.extend(aliases.flat_map(|names| names.split(',').map(|name| name.trim().to_owned())));
    commands
}

#[test]
fn every_command_is_in_the_table_and_no_other() {
    let table = first_cells(&Page::read("docs/commands.md").section("Every command"));
    let named = table.iter().filter_map(|usage| usage.split(' ').next());
    assert_eq!(texts(named), commands());
}

#[test]
fn every_route_of_the_control_api_is_in_the_table_and_no_other() {
    let description: serde_json::Value =
        serde_yaml::from_str(include_str!("../../../src/hub/control/openapi.yaml")).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let table = first_cells(&Page::read("docs/control-api.md").section("Routes"));
    let table = table.iter().filter_map(|route| route.rsplit(' ').next());
    assert_eq!(texts(table), texts(paths.keys()));
}

/// The names of the policies in a folder.
fn policies_in(folder: &Path, ending: &str) -> BTreeSet<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let policies = names.filter(|name| name.ends_with(".lua") && !name.ends_with("_test.lua"));
    policies.map(|name| name.replace(".lua", ending)).collect()
}

#[test]
fn every_bundled_policy_and_every_example_is_in_its_table_and_no_other() {
    let page = Page::read("docs/cookbook.md");
    for (heading, folder, ending) in [
        ("Bundled policies", "scripts", ""),
        ("Cookbook", "examples/policies", ".lua"),
    ] {
        let named = first_cells(&page.section(heading));
        assert_eq!(named, policies_in(&root().join(folder), ending));
    }
}

/// The names that Lua sees in the class that the editor types give that name.
fn lua_names(class: &str) -> BTreeSet<String> {
    let bound = bound_names();
    let found = bound.into_iter().find(|(name, _)| *name == class);
    texts(found.unwrap().1)
}

#[test]
fn every_hook_is_in_the_table_and_no_other() {
    let cells = first_cells(&Page::read("docs/policies.md").section("Hooks and verdicts"));
    let calls = cells.iter().filter_map(|cell| cell.split_once('('));
    let mut hooks = lua_names("policy");
    for other in ["on_error", "models"] {
        assert!(hooks.remove(other), "`{other}` is no hook");
    }
    assert_eq!(texts(calls.map(|(hook, _)| hook)), hooks);
}

#[test]
fn every_field_of_a_view_is_in_the_table_and_no_other() {
    let text = Page::read("docs/policies.md").text;
    for (view, class) in [
        ("req", "request"),
        ("model", "model"),
        ("load", "load"),
        ("exit", "exit"),
        ("trouble", "trouble"),
        ("group", "group"),
        ("hub.memory", "memory"),
    ] {
        let row = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("| `{view}` | ")));
        let words = row.unwrap().split('`').skip(1).step_by(2);
        // Words in quotes are values of a field.
        let fields = texts(words.filter(|word| !word.starts_with('"')));
        assert_eq!(fields, lua_names(class), "{view}");
    }
    for name in lua_names("hub") {
        let is_named = text.contains(&format!("hub.{name}")) || text.contains(&format!("`{name}"));
        assert!(is_named, "hub.{name} is not mentioned");
    }
}

#[test]
fn every_event_of_observers_is_named() {
    let text = Page::read("docs/policies.md").section("Observers");
    let types = include_str!("../../../scripts/types/hub.lua");
    let list = types
        .lines()
        .find(|line| line.starts_with("---@alias hub.EventName"));
    let events: Vec<_> = list.unwrap().split('"').skip(1).step_by(2).collect();
    assert!(events.len() >= 8, "{events:?}");
    for event in events {
        assert!(text.contains(&format!("`{event}`")), "{event}");
    }
}
