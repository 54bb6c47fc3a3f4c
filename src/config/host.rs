//! `host` of the hub and of models: an address or a name, and nothing around it.
//!
//! A host that no machine can resolve is refused here, with a correction. Whether this machine resolves it
//! shows when the hub binds it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::raw::Table;
use super::yaml::Node;

/// The value of `host`, without white space and brackets around it.
pub(super) fn read(table: &mut Table<'_, '_>) -> Option<String> {
    let key = "host";
    let written = table.text(key)?;
    let host = written.trim();
    let bare = without_brackets(host);
    if is_host(bare) {
        return Some(bare.to_owned());
    }
    let shown = Node::Text(written.clone()).shown();
    let message = format!("`{key}` must be an address or a name, not {shown}");
    table.refuse(key, &message, hint(host));
    None
}

/// `::1` of `[::1]`.
fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.contains(':')).unwrap_or(host)
}

fn is_host(text: &str) -> bool {
    if text.contains(':') {
        // `fe80::1%en0` names its interface.
        let (address, interface) = text.split_once('%').unwrap_or((text, "0"));
        return address.parse::<Ipv6Addr>().is_ok() && is_name(interface);
    }
    let is_numeric = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    match is_numeric {
        true => text.parse::<Ipv4Addr>().is_ok(),
        false => is_name(text),
    }
}

/// Names beyond ASCII are left to the system.
fn is_name(text: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || "-._".contains(c);
    !text.is_empty() && text.chars().all(of_name)
}

/// The host within a URL, a `host:port` or the like.
fn hint(host: &str) -> Option<String> {
    if host.trim_matches(['[', ']']) == "*" {
        return Some("write `host: 0.0.0.0` for all addresses".to_owned());
    }
    let (_, after_scheme) = host.split_once("://").unwrap_or(("", host));
    let authority = after_scheme.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, Some(port)),
        Some((host, "")) => (host, None),
        _ => (authority, None),
    };
    let host = without_brackets(host);
    is_host(host).then(|| match port {
        Some(port) => format!("write `host: {host}` and `port: {port}`"),
        None => format!("write `host: {host}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_hosts() {
        for good in [
            "127.0.0.1",
            "0.0.0.0",
            "::",
            "::1",
            "fe80::1%en0",
            "localhost",
            "studio.local",
            "my_mac-2",
            "größe.local",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "127.0.0.1:8000",
            "127.0.0",
            "300.1.1.1",
            "8000",
            "http://x",
            "x/",
            "*",
            "a b",
            "me@x",
            "[::1",
            "::1%",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
        assert_eq!(without_brackets("[::1]"), "::1");
        assert_eq!(without_brackets("[studio]"), "[studio]");
    }

    #[test]
    fn what_was_meant_is_told() {
        let told = [
            "http://127.0.0.1",
            "https://studio.local:8443/v1",
            "127.0.0.1:8000",
            "127.0.0.1:",
            "localhost:8000",
            "[::1]:8000",
            "http://[::1]",
            "*",
            "[*]",
            "300.1.1.1",
            "127.0.0.1:99999",
            "::::",
        ]
        .map(|host| hint(host).unwrap_or_else(|| "no hint".to_owned()));
        insta::assert_snapshot!(told.join("\n"), @"
        write `host: 127.0.0.1`
        write `host: studio.local` and `port: 8443`
        write `host: 127.0.0.1` and `port: 8000`
        write `host: 127.0.0.1`
        write `host: localhost` and `port: 8000`
        write `host: ::1` and `port: 8000`
        write `host: ::1`
        write `host: 0.0.0.0` for all addresses
        write `host: 0.0.0.0` for all addresses
        no hint
        no hint
        no hint
        ");
    }
}
