//! The files of `scripts/types` name what the bindings have, no more and no less.

use std::collections::{BTreeMap, BTreeSet};

use mlx_openai_server_hub::{engine, policy, simulation};

/// The `---@field` names of each `---@class hub.X`.
fn annotated(types: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut classes = BTreeMap::<String, BTreeSet<String>>::new();
    let mut class = String::new();
    for line in types.lines() {
        if let Some(name) = line.strip_prefix("---@class ") {
            let name = name.trim_start_matches("(exact) ");
            class = name.trim_start_matches("hub.").to_lowercase();
            classes.entry(class.clone()).or_default();
        } else if let Some(field) = line.strip_prefix("---@field ") {
            let name = field.split_whitespace().next().unwrap();
            let name = name.trim_end_matches('?').to_owned();
            classes.entry(class.clone()).or_default().insert(name);
        }
    }
    classes
}

#[test]
fn the_editor_types_and_the_bindings_name_the_same() {
    let annotated = annotated(include_str!("../../scripts/types/hub.lua"));
    for (class, names) in policy::bound_names() {
        let bound = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(annotated.get(class), Some(&bound), "hub.{class}");
    }
}

#[test]
fn the_editor_types_of_tests_and_what_tests_see_name_the_same() {
    let annotated = annotated(include_str!("../../scripts/types/test.lua"));
    let bound = simulation::bound_names();
    assert_eq!(annotated.len(), bound.len());
    for (class, names) in bound {
        let bound = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(annotated.get(class), Some(&bound), "hub.{class}");
    }
}

#[test]
fn the_editor_types_of_engines_and_what_engines_see_and_return_name_the_same() {
    let text = include_str!("../../scripts/types/engine.lua");
    let annotated = annotated(text);
    let bound = engine::bound_names();
    assert_eq!(annotated.len(), bound.len());
    for (class, names) in bound {
        let bound = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(annotated.get(class), Some(&bound), "hub.{class}");
    }
    for (alias, words) in engine::bound_words() {
        let line = format!("---@alias hub.{alias} ");
        let found = text.lines().find_map(|text| text.strip_prefix(&line));
        let bound: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
        assert_eq!(found, Some(&*bound.join("|")), "{alias}");
    }
}
