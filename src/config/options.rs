//! The options of `mlx-openai-server launch` that a model entry may set, of either worker dialect.
//!
//! `model.rs` calls [`read`]. An option is passed on only when the user set it: the worker's own
//! default is better than ours. Not here: the options that the hub sets itself (`host`, `port`, `model_path`,
//! `model_type`, `log_level`, `served_model_name`, …) and whether the installed worker has the flag.

use std::path::Path;

use super::raw::Table;
use super::reserved::CONFIG_HINT;
use super::scalar::as_number;
use super::schema::Shape;
use super::yaml::Node;
use super::{LaunchOption, ModelType, locate};

/// The type of an option's value.
#[derive(Clone, Copy)]
enum OptionType {
    /// A switch: on or absent.
    Switch,
    /// An integer with a minimum.
    Int(u64),
    /// A number.
    Number,
    /// Any text.
    Text,
    /// A file or folder.
    Path,
    /// A file or folder, or a repository id.
    PathOrId,
}

/// In the contract's order; `lora_*` and `config_name` have rules of their own and are read between.
const COMMON: [(&str, OptionType); 5] = [
    ("context_length", OptionType::Int(1)),
    ("max_concurrency", OptionType::Int(1)),
    ("queue_timeout", OptionType::Int(1)),
    ("queue_size", OptionType::Int(0)),
    ("quantize", OptionType::Int(1)),
];

const REST: [(&str, OptionType); 31] = [
    ("disable_auto_resize", OptionType::Switch),
    ("enable_auto_tool_choice", OptionType::Switch),
    ("trust_remote_code", OptionType::Switch),
    ("tool_call_parser", OptionType::Text),
    ("reasoning_parser", OptionType::Text),
    ("message_converter", OptionType::Text),
    ("chat_template_file", OptionType::Path),
    ("debug", OptionType::Switch),
    ("decode_concurrency", OptionType::Int(1)),
    ("prompt_concurrency", OptionType::Int(1)),
    ("disable_batching", OptionType::Switch),
    ("draft_model_path", OptionType::PathOrId),
    ("num_draft_tokens", OptionType::Int(0)),
    ("kv_bits", OptionType::Int(1)),
    ("kv_group_size", OptionType::Int(1)),
    ("quantized_kv_start", OptionType::Int(0)),
    ("max_bytes", OptionType::Int(0)),
    ("max_tokens", OptionType::Int(1)),
    ("prefill_step_size", OptionType::Int(1)),
    ("prompt_cache_dir", OptionType::Path),
    ("prompt_cache_size", OptionType::Int(0)),
    ("seed", OptionType::Int(0)),
    ("temperature", OptionType::Number),
    ("top_k", OptionType::Int(0)),
    ("top_p", OptionType::Number),
    ("min_p", OptionType::Number),
    ("presence_penalty", OptionType::Number),
    ("repetition_penalty", OptionType::Number),
    ("repetition_context_size", OptionType::Int(0)),
    ("xtc_probability", OptionType::Number),
    ("xtc_threshold", OptionType::Number),
];

/// Reads every launch option of a model entry.
pub(super) fn read(
    table: &mut Table<'_, '_>,
    model_type: ModelType,
    folder: &Path,
) -> Vec<LaunchOption> {
    let mut options = Vec::new();
    options.extend(
        COMMON
            .iter()
            .filter_map(|(key, kind)| option(table, key, *kind, folder)),
    );
    options.extend(config_name(table, model_type));
    options.extend(lora_paths(table, folder));
    options.extend(lora_scales(table));
    options.extend(
        REST.iter()
            .filter_map(|(key, kind)| option(table, key, *kind, folder)),
    );
    options
}

fn option(
    table: &mut Table<'_, '_>,
    key: &'static str,
    kind: OptionType,
    folder: &Path,
) -> Option<LaunchOption> {
    let value = match kind {
        OptionType::Switch => {
            return table.flag(key)?.then(|| LaunchOption {
                key: key.to_owned(),
                value: None,
            });
        }
        OptionType::Int(low) => table.int(key, low..=u64::MAX)?.to_string(),
        OptionType::Number => table.number(key)?,
        OptionType::Text => table.text(key)?,
        OptionType::Path => locate::beside(&table.text(key)?, folder)
            .display()
            .to_string(),
        OptionType::PathOrId => locate::path_or_id(&table.text(key)?, folder),
    };
    Some(with_value(key, value))
}

fn with_value(key: &str, value: String) -> LaunchOption {
    LaunchOption {
        key: key.to_owned(),
        value: Some(value),
    }
}

/// Image models need one; Create-hub chose it for them.
fn config_name(table: &mut Table<'_, '_>, model_type: ModelType) -> Option<LaunchOption> {
    let set = table.text("config_name");
    let usual = match model_type {
        ModelType::ImageGeneration => Some("flux-schnell"),
        ModelType::ImageEdit => Some("flux-kontext-dev"),
        _ => None,
    };
    let word = model_type.as_str();
    match (set, usual) {
        (Some(set), Some(_)) => Some(with_value("config_name", set)),
        (Some(set), None) => {
            table.warn(&format!(
                "`config_name` is for image models and means nothing to `model_type: {word}`"
            ));
            Some(with_value("config_name", set))
        }
        (None, Some(usual)) => {
            table.warn(&format!(
                "`model_type: {word}` without `config_name` takes `{usual}`"
            ));
            Some(with_value("config_name", usual.to_owned()))
        }
        (None, None) => None,
    }
}

fn lora_paths(table: &mut Table<'_, '_>, folder: &Path) -> Option<LaunchOption> {
    let (_, paths) = comma_list(table, "lora_paths", "lora_paths_str")?;
    let paths: Vec<_> = paths
        .iter()
        .map(|path| locate::path_or_id(path, folder))
        .collect();
    Some(with_value("lora_paths", paths.join(",")))
}

fn lora_scales(table: &mut Table<'_, '_>) -> Option<LaunchOption> {
    for key in ["lora_scales", "lora_scales_str"] {
        table.expect(key, Shape::Numbers);
    }
    let (key, scales) = comma_list(table, "lora_scales", "lora_scales_str")?;
    for scale in &scales {
        let node = Node::Text(scale.clone());
        if as_number(&node).is_none() {
            let message = format!("`{key}` must be numbers, not {}", node.shown());
            table.refuse(key, &message, None);
        }
    }
    Some(with_value("lora_scales", scales.join(",")))
}

/// A list, or a text separated by commas, and under which of its two spellings; `None` when unset or
/// empty.
fn comma_list(
    table: &mut Table<'_, '_>,
    key: &'static str,
    create_hub: &'static str,
) -> Option<(&'static str, Vec<String>)> {
    table.expect(key, Shape::TextOrList);
    table.expect(create_hub, Shape::TextOrList);
    let (node, other) = (table.node(key), table.node(create_hub));
    if node.is_some() && other.is_some() {
        let message = format!("`{create_hub}` is another spelling of `{key}`: both are set");
        table.refuse(create_hub, &message, Some("keep one of them".to_owned()));
    }
    let key = if node.is_some() { key } else { create_hub };
    let items = match node.or(other)? {
        Node::List(items) => table.items(key, items),
        _ => table.text(key)?.split(',').map(str::to_owned).collect(),
    };
    let items: Vec<_> = items
        .iter()
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect();
    (!items.is_empty()).then_some((key, items))
}

/// Keys of options that the hub passes itself, in a way of its own.
pub(super) fn read_reserved(table: &mut Table<'_, '_>, name: &str) {
    table.expect("config", Shape::Refused);
    if table.node("config").is_some() {
        let message = "`config` cannot be set for a model of a hub";
        table.refuse("config", message, Some(CONFIG_HINT.to_owned()));
    }
    if table
        .text("served_model_name")
        .is_some_and(|served| served != name)
    {
        table.warn("`served_model_name` is ignored: requests use the model's `name`");
    }
}
