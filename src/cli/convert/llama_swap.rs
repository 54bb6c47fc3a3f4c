//! The configuration of llama-swap.

use serde_yaml::{Mapping, Value};

use super::{Converted, command_line, minutes, text, value};
use crate::config::edit::{EntryValue, NewEntry};
use crate::config::slug_of;

pub(super) fn read(yaml: &Value, models: &Mapping) -> Converted {
    let mut converted = Converted::default();
    for (key, written) in yaml.as_mapping().into_iter().flatten() {
        match (key.as_str().unwrap_or_default(), value(written)) {
            ("models" | "groups" | "macros", _) => {}
            ("healthCheckTimeout", Some(seconds)) => converted.hub.push(("load_timeout", seconds)),
            ("startPort", Some(port)) => converted.hub.push(("model_starting_port", port)),
            (key, _) => converted.note(format!("`{key}` has no equal")),
        }
    }
    for (id, model) in models {
        let id = id.as_str().unwrap_or_default();
        let command = model.get("cmd").and_then(Value::as_str).unwrap_or_default();
        let command = expanded(command, id, &[model.get("macros"), yaml.get("macros")]);
        let mut entry = match command_line::read(&command) {
            Ok(entry) => entry,
            Err(why) => {
                converted.note(format!("`{id}` is left out: {why}"));
                continue;
            }
        };
        let name = converted.name(id);
        let mut pairs = vec![
            ("name", text(&name)),
            ("model_path", text(&entry.model_path)),
            ("default", EntryValue::Flag(true)),
            ("jit_enabled", EntryValue::Flag(true)),
        ];
        let group = yaml
            .get("groups")
            .and_then(Value::as_mapping)
            .and_then(|groups| {
                let is_in = |group: &Value| {
                    let members = group.get("members").and_then(Value::as_sequence);
                    members.is_some_and(|members| {
                        members.iter().any(|member| member.as_str() == Some(id))
                    })
                };
                let (name, _) = groups.iter().find(|(_, group)| is_in(group))?;
                slug_of(name.as_str()?)
            });
        pairs.extend(group.map(|group| ("group", text(&group))));
        let is_any_program = entry.is_any_program;
        pairs.append(&mut entry.pairs);
        for note in &entry.notes {
            converted.note(format!("`{name}`: {note}"));
        }
        for (key, written) in model.as_mapping().into_iter().flatten() {
            match (key.as_str().unwrap_or_default(), written.as_u64()) {
                ("cmd" | "macros", _) => {}
                // What the hub does by itself.
                ("proxy", _) if written.as_str().is_some_and(is_usual_address) => {}
                ("useModelName" | "checkEndpoint", _) if !is_any_program => {}
                ("useModelName", _) => {
                    pairs.extend(value(written).map(|name| ("served_name", name)));
                }
                ("checkEndpoint", _)
                    if written.as_str().is_some_and(|path| path.starts_with('/')) =>
                {
                    pairs.extend(value(written).map(|path| ("ready", path)));
                }
                ("ttl", Some(0)) => {}
                ("ttl", Some(seconds)) => pairs.push(("auto_unload_minutes", minutes(seconds))),
                ("env", _) => pairs.extend(environment(written).map(|env| ("env", env))),
                ("aliases", _) => converted.note(format!(
                    "`aliases` of `{name}`: the policy `alias` gives further names"
                )),
                (key, _) => converted.note(format!("`{key}` of `{name}` has no equal")),
            }
        }
        converted.models.push(NewEntry(pairs));
    }
    for (name, group) in yaml
        .get("groups")
        .and_then(Value::as_mapping)
        .into_iter()
        .flatten()
    {
        let Some(name) = name.as_str().and_then(slug_of) else {
            continue;
        };
        let mut pairs = vec![("name", text(&name))];
        // llama-swap's default.
        if group.get("swap").and_then(Value::as_bool).unwrap_or(true) {
            pairs.push(("max_loaded", EntryValue::Number(1)));
        }
        if group
            .get("exclusive")
            .and_then(Value::as_bool)
            .unwrap_or(true)
        {
            converted.note(format!("`exclusive` of the group `{name}` has no equal"));
        }
        converted.groups.push(NewEntry(pairs));
    }
    if !converted.models.is_empty() {
        // It swaps, where the hub would refuse.
        let swap = EntryValue::Literal("[lru_swap]".to_owned());
        converted.hub.push(("policies", swap));
    }
    converted
}

/// A command with the values of its macros, which may have macros themselves.
fn expanded(command: &str, id: &str, macros: &[Option<&Value>]) -> String {
    const DEPTH: usize = 8;
    let mut command = command.to_owned();
    let known = macros
        .iter()
        .filter_map(|macros| macros.and_then(Value::as_mapping));
    let known: Vec<_> = known
        .flatten()
        .filter_map(|(name, written)| Some((name.as_str()?, value(written)?)))
        .map(|(name, value)| match value {
            EntryValue::Text(text) => (name, text),
            value => (name, value.to_string()),
        })
        .collect();
    for _ in 0..DEPTH {
        for (name, value) in &known {
            command = command.replace(&format!("${{{name}}}"), value);
        }
    }
    command.replace("${MODEL_ID}", id)
}

/// True for the address that llama-swap gives a model which names none.
fn is_usual_address(proxy: &str) -> bool {
    let rest = proxy.strip_prefix("http://").unwrap_or(proxy);
    let host = rest.trim_end_matches('/').strip_suffix(":${PORT}");
    matches!(host, Some("localhost" | "127.0.0.1"))
}

/// `["A=b"]` as a mapping within brackets.
fn environment(written: &Value) -> Option<EntryValue> {
    let pairs = written.as_sequence()?.iter().filter_map(Value::as_str);
    let pairs = pairs.filter_map(|pair| pair.split_once('='));
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}: {}", text(value)))
        .collect();
    Some(EntryValue::Literal(format!("{{{}}}", pairs.join(", "))))
}
