//! The top level of hub.yaml: its own keys, then models and groups, then the rules between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::problem::{Findings, KeyPath};
use super::raw::Table;
use super::schema::{Shape, Shapes};
use super::yaml::{Map, Node};
use super::{
    Config, LogLevel, Proxies, allow_lists, capture, engines, fleet, group, host, hosts, keys,
    limits, locate, log_files, model,
};
use crate::engine::{Engine, Engines};

/// The bind address of a hub whose file names none.
pub(crate) const DEFAULT_HOST: &str = "0.0.0.0";
/// The port of a hub whose file names none.
pub(crate) const DEFAULT_PORT: u16 = 8000;
/// The `stop_timeout` of a file that names none.
pub(crate) const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// More than a terabyte is no log's.
const MAX_MB: u32 = 1024 * 1024;

/// Each holds what a worker holds without its model.
const MAX_SPARES: u8 = 4;

/// Reads the whole tree. The result is a valid configuration only if `findings` has no problems.
pub(super) fn read(root: &Node, path: &Path, modified_at: u64, findings: &mut Findings) -> Config {
    let empty = Map::default();
    let map = match root {
        Node::Map(map) => map,
        other => {
            let message = format!("Hub config root must be a mapping, not {}", other.shown());
            let hint = "hub.yaml begins with keys like `models:`";
            findings.value(KeyPath::default(), message, Some(hint.to_owned()));
            return read(
                &Node::Map(empty),
                path,
                modified_at,
                &mut Findings::default(),
            );
        }
    };
    let mut table = Table::new(map, KeyPath::default(), findings);
    let models = model_entries(&mut table);
    let groups = table.entries("groups").unwrap_or_default();
    let api_keys = keys::entries(&mut table);
    let fleet = fleet::node(&mut table);
    let available = Engines::beside(path);
    let (mut config, engine, worker_command) = read_keys(&mut table, path, &available);
    table.finish_kindly();
    config.modified_at = modified_at;

    let mark = hosts::mark_of(&config.path);
    let hub = model::Inherited {
        folder: config.folder(),
        mark: &mark,
        log_level: config.log_level,
        worker_command: worker_command.as_deref(),
        engine: &engine,
        engines: &available,
    };
    let models: Vec<_> = models
        .iter()
        .enumerate()
        .map(|(index, node)| model::read(node, index, &hub, findings))
        .collect();
    config.groups = groups
        .iter()
        .enumerate()
        .map(|(index, node)| group::read(node, index, findings))
        .collect();
    config.models = models;
    model::check(&config.models, config.port, findings);
    let api_keys: Vec<_> = api_keys
        .iter()
        .enumerate()
        .map(|(index, node)| keys::read(node, index, config.folder(), &config.models, findings))
        .collect();
    keys::check(&api_keys, findings);
    config.api_keys = api_keys.into_iter().map(Arc::new).collect();
    let fleet = fleet.map(|map| fleet::read(map, &config, findings));
    config.fleet = fleet.map(Arc::new);
    log_files::check(&config, findings);
    group::check(&config.groups, &config.models, findings);
    config
}

/// The keys of the top level.
pub(super) fn shapes() -> Shapes {
    Table::shapes(|table| {
        model_entries(table);
        table.entries("groups");
        keys::entries(table);
        fleet::node(table);
        read_keys(table, Path::new("/"), &Engines::beside(Path::new("/")));
    })
}

/// The entries of `models`, of which there must be one.
fn model_entries<'a>(table: &mut Table<'a, '_>) -> &'a [Node] {
    table.expect("models", Shape::Entries);
    let models = match table.node("models") {
        Some(_) => table.entries("models"),
        None => Some(&[][..]),
    };
    if models.is_some_and(<[Node]>::is_empty) {
        table.refuse(
            "models",
            "Hub config must include at least one model entry under `models`",
            Some("add one: `- name: …` with `model_path: …` below".to_owned()),
        );
    }
    models.unwrap_or_default()
}

fn model_folders(table: &mut Table<'_, '_>, folder: &Path) -> Vec<PathBuf> {
    let written = table.list("model_folders").unwrap_or_default();
    let folders = written
        .iter()
        .map(|written| locate::beside(written, folder));
    folders.collect()
}

/// The keys that are neither models nor groups, and the engine and the worker command that models inherit.
fn read_keys(
    table: &mut Table<'_, '_>,
    path: &Path,
    available: &Engines,
) -> (Config, Arc<Engine>, Option<Vec<String>>) {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let host = host::read(table);
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let config = Config {
        path: path.to_owned(),
        modified_at: 0,
        host: host.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
        port: table.int("port", 1..=u16::MAX).unwrap_or(DEFAULT_PORT),
        model_starting_port: table
            .int("model_starting_port", 1024..=u16::MAX)
            .unwrap_or(47_850),
        log_level: table
            .word("log_level", &LogLevel::ALL, LogLevel::as_str)
            .unwrap_or_default(),
        log_path: table
            .text("log_path")
            .map_or_else(locate::default_log_path, |written| {
                locate::beside(&written, folder)
            }),
        enable_status_page: table.flag("enable_status_page").unwrap_or(true),
        edit_config: table.flag("edit_config").unwrap_or(false),
        models: Vec::new(),
        groups: Vec::new(),
        load_timeout: seconds(table.int("load_timeout", 1..=u32::MAX).unwrap_or(180)),
        drain_timeout: seconds(table.int("drain_timeout", 0..=u32::MAX).unwrap_or(60)),
        stop_timeout: table
            .int("stop_timeout", 0..=u32::MAX)
            .map_or(DEFAULT_STOP_TIMEOUT, seconds),
        stall_timeout: seconds(table.int("stall_timeout", 0..=u32::MAX).unwrap_or(300)),
        worker_log_max: u64::from(table.int("worker_log_max_mb", 0..=MAX_MB).unwrap_or(50)) << 20,
        loading_notice: seconds(table.int("loading_notice", 0..=u32::MAX).unwrap_or(5)),
        spares: table.int("spares", 0..=MAX_SPARES).map_or(1, usize::from),
        limits: limits::read(table),
        capture: capture::read(table),
        allowed_origins: allow_lists::origins(table),
        allowed_hosts: allow_lists::hosts(table),
        proxies: Proxies::read(table),
        api_keys: Vec::new(),
        fleet: None,
        model_folders: model_folders(table, folder),
        policies: table.list("policies").unwrap_or_default(),
        policy: table.settings("policy"),
        warnings: Vec::new(),
    };
    let worker_command = model::worker_command(table, folder);
    let engine = engines::of_hub(table, available);
    (config, engine, worker_command)
}
