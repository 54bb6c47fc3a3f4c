//! One entry of `models`, and the rules between models.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::problem::{Findings, KeyPath};
use super::raw::Table;
use super::schema::{Shape, Shapes};
use super::yaml::{Map, Node};
use super::{
    LaunchOption, LogLevel, ModelConfig, ModelType, engines, host, locate, options, reserved, slug,
};
use crate::engine::{Engine, Engines};

/// The [`ModelConfig::context_length`] to report when the worker's default applies.
const CONTEXT_LENGTH: u32 = 32_768;

/// `queue_size` of a model that sets none: the default of mlx-openai-server.
const QUEUE_SIZE: usize = 100;

/// `queue_timeout` of a model that sets none, in seconds: the default of mlx-openai-server.
const QUEUE_TIMEOUT: u64 = 300;

/// The hub's settings that apply where an entry sets none.
pub(super) struct Inherited<'a> {
    pub(super) folder: &'a Path,
    /// The hub among all hubs, as [`super::hosts::mark_of`] names it.
    pub(super) mark: &'a str,
    pub(super) log_level: LogLevel,
    /// That of the hub's own engine.
    pub(super) worker_command: Option<&'a [String]>,
    pub(super) engine: &'a Arc<Engine>,
    pub(super) engines: &'a Engines,
}

/// Reads entry number `index` of `models`. What is wrong goes to `findings`, and a default takes its
/// place.
pub(super) fn read(
    node: &Node,
    index: usize,
    hub: &Inherited<'_>,
    findings: &mut Findings,
) -> ModelConfig {
    let key_path = KeyPath::default().key("models").item(index);
    let position = format!("model entry #{}", index + 1);
    let Node::Map(map) = node else {
        let message = format!("{position} must be a mapping, not {}", node.shown());
        let hint = "write it as `- name: …` with `model_path: …` below";
        findings.value(key_path, message, Some(hint.to_owned()));
        let nothing = Node::Map(Map::default());
        return read(&nothing, index, hub, &mut Findings::default());
    };
    let mut table = Table::new(map, key_path, findings);
    table.set_subject(&position);
    let name = slug::required_name(&mut table, &position);
    let subject = subject(&name, index);
    table.set_subject(&subject);
    let model = read_keys(&mut table, name, &subject, hub);
    let engine = &model.engine;
    table.finish_explained(|key| engines::owner_of(key, engine, hub.engines));
    model
}

/// The keys of an entry.
pub(super) fn shapes(engine: &Arc<Engine>) -> Shapes {
    let hub = Inherited {
        folder: Path::new("/"),
        mark: "",
        log_level: LogLevel::default(),
        worker_command: None,
        engine,
        engines: &Engines::beside(Path::new("/")),
    };
    Table::shapes(|table| {
        let name = slug::required_name(table, "");
        read_keys(table, name, "", &hub);
    })
}

fn read_keys(
    table: &mut Table<'_, '_>,
    name: String,
    subject: &str,
    hub: &Inherited<'_>,
) -> ModelConfig {
    let folder = hub.folder;
    let model_path = table
        .required("model_path", subject)
        .map(|path| path.trim().to_owned())
        .unwrap_or_default();
    let resolved_path = locate::path_or_id(&model_path, folder);
    let engine = engines::of(table, hub.engines).unwrap_or_else(|| Arc::clone(hub.engine));
    let model_type = table
        .word("model_type", &ModelType::ALL, ModelType::as_str)
        .unwrap_or_default();
    engines::must_serve(table, &engine, model_type, hub.engines);
    let default = table.flag("default").unwrap_or_default();
    table.expect("group", Shape::Slug);
    let group = table
        .text("group")
        .and_then(|group| slug::checked(table, "group", &group));
    let host = host::read(table);
    let port = table.int("port", 1024..=u16::MAX);
    let options = options::read(table, &engine, folder);
    let context_length = number(table, &engine, &options, "context_length", 1);
    let queue_size = number(table, &engine, &options, "queue_size", 0);
    let queue_timeout = number(table, &engine, &options, "queue_timeout", 1);
    ignore_overwritten_keys(table, &name);
    let jit_enabled = jit_enabled(table);
    let mut model = ModelConfig {
        mark: format!("{}.{name}", hub.mark),
        name,
        resolved_path,
        model_path,
        model_type,
        default,
        group,
        host: host.unwrap_or_else(|| "127.0.0.1".to_owned()),
        port,
        context_length: context_length.unwrap_or(CONTEXT_LENGTH),
        queue_size: queue_size.unwrap_or(QUEUE_SIZE),
        queue_timeout: Duration::from_secs(queue_timeout.unwrap_or(QUEUE_TIMEOUT)),
        jit_enabled,
        auto_unload_minutes: auto_unload_minutes(table, jit_enabled),
        no_log_file: table.flag("no_log_file").unwrap_or_default(),
        log_file: table
            .text("log_file")
            .map(|file| locate::beside(&file, folder)),
        log_level: table
            .word("log_level", &LogLevel::ALL, LogLevel::as_str)
            .unwrap_or(hub.log_level),
        worker_command: worker_command(table, folder).unwrap_or_default(),
        options,
        extra_args: reserved::extra_args(table, &engine),
        env: table
            .map("env")
            .map(|map| env(table, map))
            .unwrap_or_default(),
        policy: table.settings("policy"),
        engine,
    };
    engines::check(table, &mut model);
    if model.worker_command.is_empty() {
        let inherited = hub.worker_command.filter(|_| model.engine == *hub.engine);
        model.worker_command = match inherited {
            Some(command) => command.to_vec(),
            None => engines::program(table, &model, folder),
        };
    }
    model
}

/// An integer by which the hub goes too: one of the engine's own keys, or else a key that every model has.
fn number<T: FromStr>(
    table: &mut Table<'_, '_>,
    engine: &Engine,
    options: &[LaunchOption],
    key: &str,
    low: u32,
) -> Option<T> {
    if engine.key(key).is_none() {
        return table.int(key, low..=u32::MAX)?.to_string().parse().ok();
    }
    let option = options.iter().find(|option| option.key == key)?;
    option.value.as_deref()?.parse().ok()
}

/// `jit` is the worker's word for it.
fn jit_enabled(table: &mut Table<'_, '_>) -> bool {
    let (jit_enabled, jit) = (table.flag("jit_enabled"), table.flag("jit"));
    if jit_enabled.zip(jit).is_some_and(|(a, b)| a != b) {
        let message = "`jit` is another spelling of `jit_enabled`, which says the opposite";
        table.refuse("jit", message, Some("keep one of them".to_owned()));
    }
    jit_enabled.or(jit).unwrap_or_default()
}

fn auto_unload_minutes(table: &mut Table<'_, '_>, jit_enabled: bool) -> Option<u32> {
    let minutes = table.int("auto_unload_minutes", 1..=u32::MAX)?;
    if !jit_enabled {
        table.refuse(
            "auto_unload_minutes",
            "`auto_unload_minutes` requires `jit_enabled` to be set to true",
            Some("add `jit_enabled: true`, or remove `auto_unload_minutes`".to_owned()),
        );
    }
    Some(minutes)
}

/// Create-hub overwrote these with values of its own.
fn ignore_overwritten_keys(table: &mut Table<'_, '_>, name: &str) {
    if table
        .text("served_model_name")
        .is_some_and(|served| served != name)
    {
        let message = "`served_model_name` is ignored: requests use the model's `name`";
        table.warn_of("served_model_name", message);
    }
    table.node("is_default_model");
    table.node("enable_status_page");
}

/// The program, with its first arguments: a list, or a text that is one existing program or else is split at
/// white space. A program with a slash is a path, others are searched on PATH at launch.
pub(super) fn worker_command(table: &mut Table<'_, '_>, folder: &Path) -> Option<Vec<String>> {
    let key = "worker_command";
    table.expect(key, Shape::TextOrList);
    let mut command = match table.node(key)? {
        Node::List(items) => table.items(key, items),
        _ => {
            let text = table.text(key)?;
            if locate::beside(&text, folder).is_file() && text.contains('/') {
                vec![text.trim().to_owned()]
            } else {
                text.split_whitespace().map(str::to_owned).collect()
            }
        }
    };
    let Some(program) = command
        .first_mut()
        .filter(|program| !program.trim().is_empty())
    else {
        table.refuse(key, "`worker_command` must name a program", None);
        return None;
    };
    if program.contains('/') {
        *program = locate::beside(program, folder).display().to_string();
    }
    Some(command)
}

fn env(table: &mut Table<'_, '_>, map: &Map) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, node) in &map.entries {
        if name.is_empty() || name.contains(['=', '\0']) {
            let shown = Node::Text(name.clone()).shown();
            let message = format!("`env` has {shown}, which cannot be the name of a variable");
            table.refuse_key_within("env", name, &message);
        }
        let value = match node {
            Node::Null => Some(String::new()),
            node => node.scalar(),
        };
        let Some(value) = value.filter(|value| !value.contains('\0')) else {
            let shown = node.shown();
            let message =
                format!("`env` variable `{name}` must be a string without NUL, not {shown}");
            table.refuse_within("env", name, &message);
            continue;
        };
        env.insert(name.clone(), value);
    }
    reserved::env(table, &env);
    env
}

/// The model's name in messages; its position if it has no name.
pub(super) fn subject(name: &str, index: usize) -> String {
    if name.is_empty() {
        format!("model entry #{}", index + 1)
    } else {
        format!("model `{name}`")
    }
}

/// The rules that need all models: unique names and unique ports.
pub(super) fn check(models: &[ModelConfig], hub_port: u16, findings: &mut Findings) {
    // To a Mac's file system, names that differ only in case are the same log file.
    let names = models.iter().map(|model| model.name.as_str());
    slug::unique(names, "model", "models", str::to_ascii_lowercase, findings);

    let mut taken = BTreeMap::from([(hub_port, "the hub's own".to_owned())]);
    for (index, model) in models.iter().enumerate() {
        let Some(port) = model.port else { continue };
        let subject = subject(&model.name, index);
        let Some(other) = taken.get(&port) else {
            taken.insert(port, format!("that of {subject}"));
            continue;
        };
        let message = format!("{subject}: `port` {port} conflicts with {other}");
        let hint = "choose another, or remove `port` and the hub finds a free one";
        let key_path = KeyPath::default().key("models").item(index).key("port");
        findings.value(key_path, message, Some(hint.to_owned()));
    }
}
