//! One entry of `groups`, and the rules between groups and models.

use super::problem::{Findings, KeyPath, Mark};
use super::raw::Table;
use super::schema::Shapes;
use super::yaml::Node;
use super::{GroupConfig, ModelConfig, model, slug};

/// Reads entry number `index` of `groups`. What is wrong goes to `findings`; the name is empty then.
pub(super) fn read(node: &Node, index: usize, findings: &mut Findings) -> GroupConfig {
    let key_path = KeyPath::default().key("groups").item(index);
    let position = format!("group entry #{}", index + 1);
    let Node::Map(map) = node else {
        let message = format!("{position} must be a mapping, not {}", node.shown());
        let hint = node.scalar().map(|name| format!("write `- name: {name}`"));
        findings.value(key_path, message, hint);
        return GroupConfig {
            name: String::new(),
            max_loaded: None,
            idle_unload_trigger_min: None,
        };
    };
    let mut table = Table::new(map, key_path, findings);
    let group = read_keys(&mut table, &position);
    table.finish_kindly();
    group
}

/// The keys of an entry.
pub(super) fn shapes() -> Shapes {
    Table::shapes(|table| {
        read_keys(table, "");
    })
}

fn read_keys(table: &mut Table<'_, '_>, position: &str) -> GroupConfig {
    table.set_subject(position);
    let name = slug::required_name(table, position);
    if !name.is_empty() {
        table.set_subject(&format!("group `{name}`"));
    }
    let max_loaded = table.int("max_loaded", 1..=u32::MAX);
    let idle_unload_trigger_min = table.int("idle_unload_trigger_min", 1..=u32::MAX);
    if idle_unload_trigger_min.is_some()
        && max_loaded.is_none()
        && table.node("max_loaded").is_none()
    {
        table.refuse(
            "idle_unload_trigger_min",
            "`idle_unload_trigger_min` requires `max_loaded` to be set",
            Some("add `max_loaded`: how many members may be loaded at once".to_owned()),
        );
    }
    GroupConfig {
        name,
        max_loaded,
        idle_unload_trigger_min,
    }
}

/// The rules that need all groups and models: known groups, JIT members, caps.
pub(super) fn check(groups: &[GroupConfig], models: &[ModelConfig], findings: &mut Findings) {
    let names = groups.iter().map(|group| group.name.as_str());
    slug::unique(names, "group", "groups", str::to_owned, findings);
    for (index, model) in models.iter().enumerate() {
        check_membership(groups, model, index, findings);
    }
    for (index, group) in groups.iter().enumerate() {
        let members = models
            .iter()
            .filter(|model| model.group.as_deref() == Some(&group.name));
        let resident: Vec<_> = members.filter(|model| !model.jit_enabled).collect();
        check_members(group, index, &resident, findings);
    }
}

fn check_membership(
    groups: &[GroupConfig],
    model: &ModelConfig,
    index: usize,
    findings: &mut Findings,
) {
    // Without any groups the word is free, and a group without a name is reported as that.
    let Some(group) = &model.group else { return };
    let known: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    if known.is_empty() || known.contains(&"") || known.contains(&group.as_str()) {
        return;
    }
    let message = format!(
        "{} references group `{group}` which is not defined in hub config",
        model::subject(&model.name, index)
    );
    let hint = slug::known_words(group, "defined groups", &known);
    let key_path = KeyPath::default().key("models").item(index).key("group");
    findings.value(key_path, message, Some(hint));
}

/// `resident` are the members that are loaded as soon as they are started.
fn check_members(
    group: &GroupConfig,
    index: usize,
    resident: &[&ModelConfig],
    findings: &mut Findings,
) {
    let name = &group.name;
    let names: Vec<_> = resident
        .iter()
        .map(|model| format!("`{}`", model.name))
        .collect();
    let names = names.join(", ");
    if group.idle_unload_trigger_min.is_some() && !resident.is_empty() {
        let message = format!(
            "group `{name}`: `idle_unload_trigger_min` requires `jit_enabled: true` for every \
             member; without it: {names}"
        );
        let hint = "add `jit_enabled: true` to them, or remove `idle_unload_trigger_min`";
        let key_path = KeyPath::default()
            .key("groups")
            .item(index)
            .key("idle_unload_trigger_min");
        findings.value(key_path, message, Some(hint.to_owned()));
        return;
    }
    if let Some(cap) = group.max_loaded
        && resident.len() > cap as usize
    {
        let message = format!(
            "group `{name}`: `max_loaded` is {cap}, but {} members load when they are started \
             ({names}): loading one over the cap is refused",
            resident.len()
        );
        let key_path = KeyPath::default()
            .key("groups")
            .item(index)
            .key("max_loaded");
        findings.warn(key_path, Mark::Value, message);
    }
}
