//! The hub's address among those that need no proxy.

use std::env;
use std::ffi::OsString;

/// Variables that send HTTP requests to a proxy.
const PROXIES: [&str; 3] = ["http_proxy", "HTTP_PROXY", "ALL_PROXY"];
/// Variables with the hosts that are none of its business.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The exceptions with `host` among them; none if there is no proxy.
pub(super) fn exceptions(host: &str) -> Vec<(&'static str, OsString)> {
    let is_proxied = PROXIES.iter().any(|name| env::var_os(name).is_some());
    if !is_proxied {
        return Vec::new();
    }
    EXCEPTIONS
        .iter()
        .map(|name| (*name, with(env::var_os(name), host)))
        .collect()
}

fn with(hosts: Option<OsString>, host: &str) -> OsString {
    let mut hosts = hosts.unwrap_or_default();
    if !hosts.is_empty() {
        hosts.push(",");
    }
    hosts.push(host);
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_joins_those_that_are_there() {
        assert_eq!(with(None, "127.0.0.1"), "127.0.0.1");
        assert_eq!(with(Some("a.b,c".into()), "127.0.0.1"), "a.b,c,127.0.0.1");
    }
}
