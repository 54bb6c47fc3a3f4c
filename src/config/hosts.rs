//! The machines that one model spans: a list in its entry, or a hostfile as `mlx.distributed_config` writes it.
//!
//! Both become the JSON of a hostfile, which the engine gets. The first machine is the hub's own: its processes
//! are children of the hub's, and nobody logs in there.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::raw::Table;
use super::schema::Shape;
use super::yaml::Node;
use super::{locate, stored};
use crate::api::HostFacts;

/// What an item should look like.
const LIKE: &str = "write `mac-studio.local`, or `{ssh: ada@mini, ips: [10.0.0.2]}`";
/// The keys of a hostfile's machine.
const KEYS: [&str; 3] = ["ips", "rdma", "ssh"];

/// A name for the hub of one hub.yaml on this machine.
pub(super) fn mark_of(hub_yaml: &Path) -> String {
    let machine = gethostname::gethostname();
    let mut digest = Sha256::new();
    digest.update(machine.as_encoded_bytes());
    digest.update(b"\n");
    digest.update(locate::canonical(hub_yaml).as_os_str().as_encoded_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// `hosts:`, as JSON.
pub(super) fn list(table: &mut Table<'_, '_>, key: &str) -> Option<String> {
    table.expect(key, Shape::Any);
    let node = table.node(key)?;
    let Node::List(items) = node else {
        let message = format!("`{key}` must be a list, not {}", node.shown());
        let hint = "write `hosts: [mac-studio.local, {ssh: ada@mini, ips: [10.0.0.2]}]`";
        table.refuse(key, &message, Some(hint.to_owned()));
        return None;
    };
    let mut hosts = Vec::new();
    for (index, item) in items.iter().enumerate() {
        hosts.push(host(table, key, index, item)?);
    }
    if hosts.len() < 2 {
        let message = format!("`{key}` must name two machines or more, this one first");
        table.refuse(key, &message, Some(LIKE.to_owned()));
        return None;
    }
    Some(Value::from(hosts).to_string())
}

/// One machine; a name alone is also the address at which the others reach it.
fn host(table: &mut Table<'_, '_>, key: &str, index: usize, item: &Node) -> Option<Value> {
    let Node::Map(map) = item else {
        let name = match item {
            Node::Null => None,
            item => item.scalar(),
        };
        let name = name.filter(|name| is_ssh_name(name));
        if name.is_none() {
            let shown = item.shown();
            let message = format!("`{key}` item #{} must be a machine, not {shown}", index + 1);
            table.refuse_item(key, index, &message, LIKE.to_owned());
        }
        let name = name?;
        return Some(json!({"ssh": name, "ips": [address_of(&name)]}));
    };
    let mut entry = table.item(key, index, map);
    let ssh = entry.text("ssh");
    if ssh.is_none() {
        entry.refuse_whole("`ssh` is missing", LIKE);
    }
    let ssh = ssh.filter(|name| {
        let is_name = is_ssh_name(name);
        if !is_name {
            let message = "`ssh` must be a machine as `ssh` knows it, like `ada@mini`";
            entry.refuse("ssh", message, None);
        }
        is_name
    });
    let ips = entry.has("ips").then(|| entry.list("ips")).flatten();
    let ips = ips.filter(|ips| {
        let is_well = !ips.is_empty() && ips.iter().all(|ip| is_word(ip));
        if !is_well {
            let hint = "write `ips: [10.0.0.2]`".to_owned();
            entry.refuse("ips", "`ips` must be a list of addresses", Some(hint));
        }
        is_well
    });
    let rdma = entry.json("rdma");
    entry.finish_explained(|_| {
        let why = "is no key of a machine: there are `ssh`, `ips` and `rdma`";
        Some((why.to_owned(), LIKE.to_owned()))
    });
    let ssh = ssh?;
    let ips = ips.unwrap_or_else(|| vec![address_of(&ssh).to_owned()]);
    Some(match rdma {
        Some(rdma) => json!({"ssh": ssh, "ips": ips, "rdma": rdma}),
        None => json!({"ssh": ssh, "ips": ips}),
    })
}

/// `hostfile:`, as JSON: what the file has.
pub(super) fn file(table: &mut Table<'_, '_>, key: &str, folder: &Path) -> Option<String> {
    let path = locate::beside(&table.text(key)?, folder);
    match read(&path) {
        Ok(file) => Some(file.to_string()),
        Err(why) => {
            let message = format!("`{key}`: `{}` {why}", path.display());
            let hint = "`mlx.distributed_config --output-hostfile FILE` writes one".to_owned();
            table.refuse(key, &message, Some(hint));
            None
        }
    }
}

/// What a hostfile has; otherwise what is wrong with it, after its name.
fn read(path: &Path) -> Result<Value, String> {
    let bytes = match stored::read(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err("is not there".to_owned()),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let file: Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("is not JSON: {error}"))?;
    let file = match file {
        Value::Array(hosts) => json!({"hosts": hosts}),
        file => file,
    };
    let hosts = file["hosts"].as_array().filter(|hosts| hosts.len() > 1);
    let hosts = hosts.ok_or("has no `hosts`, a list of two machines or more")?;
    for (index, host) in hosts.iter().enumerate() {
        let number = index + 1;
        let mut unknown = host.as_object().into_iter().flat_map(|host| host.keys());
        let unknown = unknown.find(|key| !KEYS.contains(&key.as_str()));
        if let Some(key) = unknown {
            let there_are = "there are `ssh`, `ips` and `rdma`";
            return Err(format!(
                "has `{key}` in host #{number}, which is no key of a machine: {there_are}"
            ));
        }
        if !host["ssh"].as_str().is_some_and(is_ssh_name) {
            return Err(format!(
                "has no name of a machine as `ssh` of host #{number}"
            ));
        }
    }
    Ok(file)
}

/// The machines that the value of one of these keys names.
pub(super) fn facts(json: &str) -> Vec<HostFacts> {
    let value: Value = serde_json::from_str(json).unwrap_or_default();
    let hosts = value.as_array().or_else(|| value["hosts"].as_array());
    let hosts = hosts.map_or(&[][..], Vec::as_slice);
    let share = 1.0 / hosts.len() as f64;
    let names = hosts.iter().filter_map(|host| host["ssh"].as_str());
    names
        .map(|name| HostFacts {
            name: name.to_owned(),
            share,
        })
        .collect()
}

/// The name without the user.
fn address_of(ssh: &str) -> &str {
    ssh.rsplit_once('@').map_or(ssh, |(_, machine)| machine)
}

/// A text that `ssh` cannot take for an option.
fn is_ssh_name(name: &str) -> bool {
    is_word(name) && !name.starts_with('-')
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hubs_of_two_files_have_two_marks() {
        let [one, other] = ["/a/hub.yaml", "/b/hub.yaml"].map(|path| mark_of(Path::new(path)));
        assert!(one != other && one.len() == 12);
    }

    #[test]
    fn the_machines_of_both_keys_have_equal_shares() {
        let list = r#"[{"ssh": "a", "ips": ["10.0.0.1"]}, {"ssh": "ada@b"}]"#;
        let file = format!(r#"{{"backend": "ring", "hosts": {list}}}"#);
        for json in [list, &file] {
            let told: Vec<_> = facts(json)
                .into_iter()
                .map(|host| (host.name, host.share))
                .collect();
            assert_eq!(told, [("a".to_owned(), 0.5), ("ada@b".to_owned(), 0.5)]);
        }
    }

    #[test]
    fn a_hostfile_that_is_none_is_told_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.json");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map_or_else(|why| why, |file| file.to_string())
        };
        let both = r#"[{"ssh": "a", "ips": ["10.0.0.1"]}, {"ssh": "b"}]"#;
        let told = [
            told(both),
            told("{"),
            told("{}"),
            told(r#"[{"ssh": "a"}]"#),
            told(r#"[{"ssh": "a"}, {"shh": "b"}]"#),
            told(r#"[{"ssh": "a"}, {"ssh": "-oProxyCommand=x"}]"#),
            read(Path::new("/nowhere/hosts.json")).unwrap_err(),
        ];
        insta::assert_snapshot!(told.join("\n"), @r#"
        {"hosts":[{"ssh":"a","ips":["10.0.0.1"]},{"ssh":"b"}]}
        is not JSON: EOF while parsing an object at line 1 column 1
        has no `hosts`, a list of two machines or more
        has no `hosts`, a list of two machines or more
        has `shh` in host #2, which is no key of a machine: there are `ssh`, `ips` and `rdma`
        has no name of a machine as `ssh` of host #2
        is not there
        "#);
    }
}
