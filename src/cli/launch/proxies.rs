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

/// The variable that has clients started from here ask a proxy for the hub at `host`.
pub(in crate::cli) fn in_the_way(host: &str) -> Option<&'static str> {
    proxy_for(host, &|name| Some(env::var_os(name)?.to_str()?.to_owned()))
}

fn proxy_for(host: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<&'static str> {
    let is_set = |name: &&&str| variable(name).is_some_and(|value| !value.is_empty());
    let proxy = PROXIES.iter().find(is_set)?;
    let exceptions = EXCEPTIONS.iter().filter_map(|name| variable(name));
    let exceptions = exceptions.collect::<Vec<_>>().join(",");
    let mut hosts = exceptions.split(',').map(str::trim);
    (!hosts.any(|exception| exception == host || exception == "*")).then_some(*proxy)
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
    fn a_proxy_is_in_the_way_unless_the_host_is_an_exception() {
        let proxy = |set: &[(&str, &str)]| {
            let value = |name: &str| {
                let mut set = set.iter();
                let (_, value) = set.find(|(set, _)| *set == name)?;
                Some((*value).to_owned())
            };
            proxy_for("127.0.0.1", &value)
        };
        assert_eq!(proxy(&[("no_proxy", "127.0.0.1")]), None);
        let http = ("HTTP_PROXY", "http://proxy:3128");
        assert_eq!(proxy(&[http]), Some("HTTP_PROXY"));
        assert_eq!(proxy(&[("http_proxy", "")]), None);
        assert_eq!(
            proxy(&[http, ("NO_PROXY", "a.b, localhost")]),
            Some("HTTP_PROXY")
        );
        for exceptions in ["a.b, 127.0.0.1", "*"] {
            assert_eq!(proxy(&[http, ("no_proxy", exceptions)]), None);
        }
    }

    #[test]
    fn a_host_joins_those_that_are_there() {
        assert_eq!(with(None, "127.0.0.1"), "127.0.0.1");
        assert_eq!(with(Some("a.b,c".into()), "127.0.0.1"), "a.b,c,127.0.0.1");
    }
}
