//! `fleet`: the gateway that sends requests to this hub and others, and what this one is called there.
//!
//! The keys that the two send each other stand in the environment of the hub, and are read when they are needed.

use std::collections::BTreeMap;
use std::time::Duration;

use url::{Host, Url};

use super::keys::is_variable;
use super::problem::{Findings, KeyPath};
use super::raw::Table;
use super::schema::{Shape, Shapes};
use super::yaml::Map;
use super::{Config, KeyDigest, KeySource, web};

/// The key of hub.yaml.
pub(super) const KEY: &str = "fleet";

const DEFAULT_HEARTBEAT: u16 = 30;

/// `fleet` of hub.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetConfig {
    /// The gateway's address, `http://door:30000`: scheme, host and port.
    pub gateway: String,
    /// The address at which the gateway reaches this hub, of the same form.
    pub advertise: String,
    /// Labels for the gateway's entries of this hub.
    pub labels: BTreeMap<String, String>,
    /// Interval at which the registration is read back.
    pub heartbeat: Duration,
    /// The place of the key that the gateway wants of this hub.
    pub gateway_key: Option<KeySource>,
    /// The place of the key that this hub wants of the gateway.
    pub hub_key: Option<KeySource>,
}

/// The mapping, if it is set.
pub(super) fn node<'a>(table: &mut Table<'a, '_>) -> Option<&'a Map> {
    table.expect(KEY, Shape::Mapping);
    table.map(KEY)
}

/// The keys of the mapping.
pub(super) fn shapes() -> Shapes {
    Table::shapes(|table| {
        read_keys(table);
    })
}

/// Reads the mapping. What is wrong goes to `findings`; the addresses are empty then.
pub(super) fn read(map: &Map, config: &Config, findings: &mut Findings) -> FleetConfig {
    let mut table = Table::new(map, KeyPath::default().key(KEY), findings);
    table.set_subject("fleet");
    let fleet = read_keys(&mut table);
    warn(&mut table, &fleet, config);
    // A misspelt key would leave the gateway without one.
    table.finish_strictly();
    fleet
}

fn read_keys(table: &mut Table<'_, '_>) -> FleetConfig {
    let example = "http://door.local:30000";
    let gateway = address(table, "gateway", example).unwrap_or_default();
    let advertise = address(table, "advertise", "http://this-mac.local:8000").unwrap_or_default();
    let heartbeat = table.int("heartbeat_seconds", 1..=3600_u16);
    FleetConfig {
        gateway,
        advertise,
        labels: labels(table),
        heartbeat: Duration::from_secs(heartbeat.unwrap_or(DEFAULT_HEARTBEAT).into()),
        gateway_key: variable(table, "gateway_key_env"),
        hub_key: variable(table, "hub_key_env"),
    }
}

/// `http://host:port`, with nothing behind it.
fn address(table: &mut Table<'_, '_>, key: &'static str, example: &str) -> Option<String> {
    let written = table.required(key, KEY)?;
    let text = written.trim();
    let is_http = |origin: &String| {
        let scheme = origin.split_once("://").map(|(scheme, _)| scheme);
        matches!(scheme, Some("http" | "https"))
    };
    if let Some(origin) = web::origin(text).filter(is_http) {
        return Some(origin);
    }
    let url = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let meant = web::origin_of_url(&url).filter(is_http);
    let meant = meant.as_deref().unwrap_or(example);
    // It may have a password.
    let message = format!("`{key}` must be an address with nothing behind it");
    table.refuse(key, &message, Some(format!("write `{meant}`")));
    None
}

fn labels(table: &mut Table<'_, '_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, node) in table.map("labels").into_iter().flat_map(|map| &map.entries) {
        let Some(value) = node.scalar() else {
            let shown = node.shown();
            let message = format!("label `{name}` must be a string, not {shown}");
            table.refuse_within("labels", name, &message);
            continue;
        };
        labels.insert(name.clone(), value);
    }
    labels
}

/// The name of a variable of the environment.
fn variable(table: &mut Table<'_, '_>, key: &'static str) -> Option<KeySource> {
    let name = table.text(key)?;
    let name = name.trim();
    if !is_variable(name) {
        // It may be the key itself.
        let message =
            format!("`{key}` must be the name of an environment variable that has the key");
        table.refuse(key, &message, None);
        return None;
    }
    Some(KeySource::Env(name.to_owned()))
}

/// Warns of what is legal and does not work.
fn warn(table: &mut Table<'_, '_>, fleet: &FleetConfig, config: &Config) {
    let (Ok(gateway), Ok(advertise)) = (Url::parse(&fleet.gateway), Url::parse(&fleet.advertise))
    else {
        return;
    };
    if is_loopback(&advertise) && !is_loopback(&gateway) {
        table.warn(&format!(
            "`advertise` is {}, which is another machine where the gateway runs: name this machine",
            fleet.advertise
        ));
    } else if config.listens_on_loopback() && !is_loopback(&advertise) {
        table.warn(&format!(
            "the hub listens on {} alone, and the gateway cannot reach it: set `host: 0.0.0.0`",
            config.host
        ));
    }
    let is_strange = |key: &str| {
        !config.api_keys.is_empty() && config.api_key(&KeyDigest::of(key.as_bytes())).is_none()
    };
    match fleet.gateway_key.as_ref().map(KeySource::read) {
        Some(Err(why)) => table.warn(&format!("{why}: the gateway gets no key")),
        Some(Ok(key)) if is_strange(&key) => table.warn(
            "the key in `gateway_key_env` is none of `api_keys`: clients send it to the gateway, which passes it on, \
             and the hub would refuse them",
        ),
        _ => {}
    }
    let hint = "name the variable with one of `api_keys` as `hub_key_env`";
    match &fleet.hub_key {
        None if config.api_keys.is_empty() => {}
        None => table.warn(&format!(
            "the hub has `api_keys`, and the gateway gets none of them: {hint}"
        )),
        Some(source) => match source.read() {
            Err(why) => table.warn(&format!("{why}: the gateway cannot send it")),
            Ok(key) if is_strange(&key) => table.warn(
                "the key in `hub_key_env` is none of `api_keys`: the gateway would be refused",
            ),
            Ok(_) => {}
        },
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::from_yaml;

    fn warnings(yaml: &str) -> Vec<String> {
        from_yaml(&format!("models: [{{name: a, model_path: x}}]\n{yaml}")).warnings
    }

    #[test]
    fn what_cannot_work_is_a_warning() {
        let fleet = |keys: &str| format!("fleet: {{{keys}}}");
        let there = "gateway: 'http://door:30000'";
        for (yaml, said) in [
            (
                fleet(&format!("{there}, advertise: 'http://mac.local:8000'")),
                &[][..],
            ),
            (
                fleet("gateway: 'http://localhost:30000', advertise: 'http://127.0.0.1:8000'"),
                &[],
            ),
            (
                fleet(&format!("{there}, advertise: 'http://[::1]:8000'")),
                &["name this machine"],
            ),
            (
                fleet(&format!("{there}, advertise: 'http://mac.local:8000'"))
                    + "\nhost: 127.0.0.1",
                &["set `host: 0.0.0.0`"],
            ),
            (
                fleet(&format!(
                    "{there}, advertise: 'http://mac.local:8000', gateway_key_env: NO_SUCH_VARIABLE"
                )),
                &["NO_SUCH_VARIABLE is not set: the gateway gets no key"],
            ),
            (
                fleet(&format!("{there}, advertise: 'http://mac.local:8000'"))
                    + "\napi_keys: [{name: k, sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad}]",
                &["gets none of them"],
            ),
            (
                fleet(&format!(
                    "{there}, advertise: 'http://mac.local:8000', hub_key_env: HOME"
                )) + "\napi_keys: [{name: k, sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad}]",
                &["is none of `api_keys`"],
            ),
            (
                fleet(&format!(
                    "{there}, advertise: 'http://mac.local:8000', gateway_key_env: HOME, hub_key_env: HOME"
                )) + "\napi_keys: [{name: k, sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad}]",
                &["which passes it on", "the gateway would be refused"],
            ),
        ] {
            let warnings = warnings(&yaml);
            assert_eq!(warnings.len(), said.len(), "{yaml}: {warnings:?}");
            for (warning, said) in warnings.iter().zip(said) {
                assert!(warning.contains(said), "{yaml}: {warnings:?}");
            }
        }
    }
}
