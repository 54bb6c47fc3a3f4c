//! A JSON schema of hub.yaml, with which editors complete keys and mark mistakes.
//!
//! The readers of hub.yaml note the [`Shape`] of every key they ask for, and the schema is written from
//! these notes; what a key means comes from the tables of `docs/configuration.md`. A schema cannot say all
//! that the readers check: that names are unique, that a group exists, which values exclude each other.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{fleet, group, hub, keys, model};
use crate::engine::{Engine, Engines, bundled_engines, default_engine};

/// The name of the file with the schema beside a hub.yaml.
pub(crate) const FILE: &str = "hub.schema.json";

/// The reference that `init` writes the tables of.
const REFERENCE: &str = include_str!("../../docs/configuration.md");

/// The values that a key may have. Numbers and booleans may be quoted, as the readers have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Anything.
    Any,
    /// Nothing: the key is there to be refused.
    Refused,
    /// A scalar, as text.
    Text,
    /// A scalar that is not blank, and must be there.
    Required,
    /// A name of a model, a group or a key.
    Slug,
    Flag,
    /// An integer between these two.
    Int(i128, i128),
    Number,
    /// One of a few words, in any case.
    Word(Vec<&'static str>),
    /// A list of scalars.
    List,
    /// A scalar or a list of scalars.
    TextOrList,
    /// A number, a list of numbers, or numbers with commas between them.
    Numbers,
    /// Entries of `models`, `groups` or `api_keys`.
    Entries,
    /// A mapping with keys of its own.
    Mapping,
    /// A mapping of scalars.
    Variables,
    /// A mapping of any values.
    Settings,
}

/// The keys of a mapping, with their shapes.
pub(super) type Shapes = BTreeMap<String, Shape>;

/// The schema (JSON Schema 2020-12) for the bundled engines.
pub fn schema() -> Value {
    let others = bundled_engines().filter(|engine| !engine.is_default());
    of_engines(
        &[default_engine()]
            .into_iter()
            .chain(others)
            .collect::<Vec<_>>(),
    )
}

/// The schema of a hub.yaml: with the keys of the engines beside it too.
pub(crate) fn schema_of(hub_yaml: &Path) -> Value {
    of_engines(&Engines::beside(hub_yaml).all())
}

/// The schema for these engines.
fn of_engines(engines: &[Arc<Engine>]) -> Value {
    let mut model = mapping(&model_shapes(engines), &["Model keys", "Worker options"]);
    describe_keys_of_engines(&mut model, engines);
    model.insert("required".to_owned(), json!(["name", "model_path"]));
    model.insert("additionalProperties".to_owned(), json!(false));
    let mut group = mapping(&group::shapes(), &["Group keys"]);
    group.insert("required".to_owned(), json!(["name"]));
    let mut api_key = mapping(&keys::shapes(), &["Keys of API keys"]);
    api_key.insert("required".to_owned(), json!(["name"]));
    api_key.insert("additionalProperties".to_owned(), json!(false));
    let mut fleet = mapping(&fleet::shapes(), &["Keys of the fleet"]);
    fleet.insert("required".to_owned(), json!(["gateway", "advertise"]));
    fleet.insert("additionalProperties".to_owned(), json!(false));
    let mut root = Map::new();
    root.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    root.insert(
        "title".to_owned(),
        json!("hub.yaml of mlx-openai-server-hub"),
    );
    root.extend(mapping(&hub::shapes(), &["Hub keys"]));
    root.insert("required".to_owned(), json!(["models"]));
    // `models` must be there; each must have an entry.
    for key in ["models", keys::KEY] {
        let list = &mut root["properties"][key];
        list["type"] = json!("array");
        list["minItems"] = json!(1);
    }
    root.insert(
        "$defs".to_owned(),
        json!({"models": model, "groups": group, keys::KEY: api_key, fleet::KEY: fleet}),
    );
    Value::Object(root)
}

/// The keys of models of all these engines. A key that two engines have in different ways may be anything: only
/// the checker knows which engine a model has.
fn model_shapes(engines: &[Arc<Engine>]) -> Shapes {
    let mut shapes = Shapes::new();
    for (key, shape) in engines.iter().flat_map(model::shapes) {
        match shapes.get_mut(&key) {
            Some(known) if *known != shape => *known = Shape::Any,
            Some(_) => {}
            None => {
                shapes.insert(key, shape);
            }
        }
    }
    shapes
}

/// Says of the keys that the documentation has no row for which engines have them.
fn describe_keys_of_engines(model: &mut Map<String, Value>, engines: &[Arc<Engine>]) {
    for engine in engines {
        for key in &engine.keys {
            let property = &mut model["properties"][&key.name];
            if property["description"].is_null() {
                property["description"] = json!(format!("a key of engine `{}`", engine.name));
            }
        }
    }
}

/// [`schema_of`] as a file has it.
pub(crate) fn text(hub_yaml: &Path) -> String {
    format!("{:#}\n", schema_of(hub_yaml))
}

/// Writes the schema beside a hub.yaml whose first line names it, or a newer one in its place. Without it an editor
/// only helps less.
pub(crate) fn keep_beside(hub_yaml: &Path, written: &[u8]) {
    let line = written.split(|byte| *byte == b'\n').next();
    if !String::from_utf8_lossy(line.unwrap_or_default()).contains(FILE) {
        return;
    }
    let file = hub_yaml.with_file_name(FILE);
    let text = text(hub_yaml);
    if std::fs::read_to_string(&file).is_ok_and(|there| there == text) {
        return;
    }
    if let Err(error) = std::fs::write(&file, text) {
        tracing::debug!("`{}` cannot be written: {error}", file.display());
    }
}

fn mapping(shapes: &Shapes, sections: &[&str]) -> Map<String, Value> {
    let described: BTreeMap<_, _> = sections.iter().copied().flat_map(descriptions).collect();
    let properties = shapes.iter().map(|(key, shape)| {
        let mut property = json!({});
        if let Some(description) = described.get(key.as_str()) {
            property["description"] = json!(description);
        }
        if let (Some(property), Value::Object(of)) = (property.as_object_mut(), of(key, shape)) {
            property.extend(of);
        }
        (key.clone(), property)
    });
    let properties: Map<String, Value> = properties.collect();
    let mut mapping = Map::new();
    mapping.insert("type".to_owned(), json!("object"));
    mapping.insert("properties".to_owned(), Value::Object(properties));
    mapping
}

/// The schema of a value. `null` leaves a key unset.
fn of(key: &str, shape: &Shape) -> Value {
    let scalar = json!({"type": ["string", "number", "boolean"]});
    let or_text = |first: Value, pattern: &str| {
        let text = json!({"type": "string", "pattern": pattern});
        json!({"anyOf": [first, text, {"type": "null"}]})
    };
    match shape {
        Shape::Any => json!({}),
        Shape::Refused => json!({"type": "null"}),
        Shape::Text => json!({"type": ["string", "number", "boolean", "null"]}),
        Shape::Required => json!({"type": ["string", "number", "boolean"], "pattern": r"\S"}),
        // A number is a name too, and matches no pattern as one.
        Shape::Slug => json!({
            "type": ["string", "number", "boolean"],
            "pattern": r"^\s*[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*\s*$",
        }),
        Shape::Flag => or_text(json!({"type": "boolean"}), FLAG),
        Shape::Int(low, high) => {
            let mut int = json!({"type": "integer"});
            for (word, limit) in [("minimum", low), ("maximum", high)] {
                // The end of the type is no limit.
                if let Ok(limit) = u32::try_from(*limit) {
                    int[word] = json!(limit);
                }
            }
            or_text(int, INT)
        }
        Shape::Number => or_text(json!({"type": "number"}), &number()),
        Shape::Word(words) => or_text(json!({"enum": words}), &in_any_case(words)),
        Shape::List => json!({"type": ["array", "null"], "items": scalar}),
        Shape::TextOrList => {
            json!({"type": ["string", "number", "boolean", "array", "null"], "items": scalar})
        }
        Shape::Numbers => {
            let items =
                json!({"anyOf": [{"type": "number"}, {"type": "string", "pattern": number()}]});
            let list = json!({"type": "array", "items": items});
            let text = json!({"type": "string", "pattern": numbers()});
            json!({"anyOf": [{"type": ["number", "null"]}, list, text]})
        }
        Shape::Entries => {
            json!({"type": ["array", "null"], "items": {"$ref": format!("#/$defs/{key}")}})
        }
        Shape::Mapping => {
            json!({"anyOf": [{"$ref": format!("#/$defs/{key}")}, {"type": "null"}]})
        }
        Shape::Variables => json!({
            "type": ["object", "null"],
            "propertyNames": {"pattern": "^[^=]+$"},
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        }),
        Shape::Settings => json!({"type": ["object", "null"]}),
    }
}

/// Patterns of the texts that the readers accept as a boolean, an integer and a number.
const FLAG: &str = r"^\s*([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|[Oo][Nn]|[Yy]|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|[Oo][Ff][Ff]|[Nn])\s*$";
const INT: &str = r"^\s*[-+]?(0x[0-9A-Fa-f_]+|0b[01_]+|[0-9_]+)\s*$";
const NUMBER: &str = r"\s*[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?\s*";

fn number() -> String {
    format!("^{NUMBER}$")
}

fn numbers() -> String {
    format!("^{NUMBER}(,{NUMBER})*$")
}

/// A pattern that these words match however they are spelt.
fn in_any_case(words: &[&str]) -> String {
    let letters = |word: &&str| -> String {
        let letter = |letter: char| match letter.is_ascii_alphabetic() {
            true => format!(
                "[{}{}]",
                letter.to_ascii_uppercase(),
                letter.to_ascii_lowercase()
            ),
            false => letter.to_string(),
        };
        word.chars().map(letter).collect()
    };
    let words: Vec<String> = words.iter().map(letters).collect();
    format!(r"^\s*({})\s*$", words.join("|"))
}

/// Describes each key as the table of a section of the documentation does.
fn descriptions(section: &str) -> Vec<(&'static str, String)> {
    let heading = format!("## {section}");
    let lines = REFERENCE.lines().skip_while(move |line| **line != *heading);
    let table = lines.skip(1).take_while(|line| !line.starts_with('#'));
    let rows = table.filter_map(|line| line.strip_prefix("| `"));
    let described = rows.filter_map(|row| {
        let cells: Vec<&str> = row.strip_suffix('|')?.split('|').map(str::trim).collect();
        let (keys, rest) = cells.split_first()?;
        let (rule, before) = rest.split_last()?;
        let (kind, default) = (before.first()?, before.get(1));
        let mut said = vec![(*rule).to_owned(), (*kind).to_owned()];
        said.extend(default.map(|default| match *default {
            "" | "required" => (*default).to_owned(),
            default => format!("default: {default}"),
        }));
        said.retain(|part| !part.is_empty());
        let said = without_links(&said.join("\n\n"));
        Some((*keys, said))
    });
    described
        .flat_map(|(keys, said)| {
            let keys = keys.split('`').step_by(2).filter(|key| !key.is_empty());
            keys.map(move |key| (key, said.clone()))
        })
        .collect()
}

/// A text whose links are their words.
fn without_links(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((words, after)) = link.split_once("](") else {
            break;
        };
        kept += before;
        kept += words;
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described() {
        let schema = schema();
        let of = |place: &Value| place["properties"].as_object().unwrap().clone();
        let all = [
            &schema,
            &schema["$defs"]["models"],
            &schema["$defs"]["groups"],
            &schema["$defs"][keys::KEY],
            &schema["$defs"][fleet::KEY],
        ]
        .map(of);
        let described = all.iter().flatten().filter(|(_, key)| {
            let text = key["description"].as_str().unwrap_or_default();
            !text.is_empty() && !text.contains("](")
        });
        assert_eq!(described.count(), all.iter().map(Map::len).sum::<usize>());
    }

    #[test]
    fn links_become_their_words() {
        assert_eq!(
            without_links("see [A](a.md) and [B](b.md#c)."),
            "see A and B."
        );
        assert_eq!(without_links("`[]` or a [b"), "`[]` or a [b");
    }
}
