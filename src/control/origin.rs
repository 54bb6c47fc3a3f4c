//! Origins and host names as the web's rules compare them: lower case, default ports left out.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A web origin: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    authority: Authority,
}

impl Origin {
    /// Reads `scheme://host[:port]`; a slash at the end is forgiven, a path is not. `null` is no
    /// origin.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let authority = Authority::parse(rest.strip_suffix('/').unwrap_or(rest))?;
        Some(Self::new(&scheme, authority))
    }

    /// The origin of a page that was reached at `authority`.
    pub(super) fn new(scheme: &str, mut authority: Authority) -> Self {
        if authority.port == default_port(scheme) {
            authority.port = None;
        }
        Self {
            scheme: scheme.to_owned(),
            authority,
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// `host[:port]` of a `Host` header or an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// Lower case, without the dot at its end or an IPv6 address' brackets.
    pub(super) host: String,
    port: Option<u16>,
    is_address: bool,
}

impl Authority {
    /// `None` for anything that is not a host name or an address with an optional port.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port, bracketed) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, rest, true)
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                (&text[..end], &text[end..], false)
            }
        };
        let port = match port.strip_prefix(':') {
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            None if port.is_empty() => None,
            _ => return None,
        };
        let host = normal_name(host);
        let is_address = if bracketed {
            host.parse::<Ipv6Addr>().ok()?;
            true
        } else {
            host.parse::<Ipv4Addr>().is_ok()
        };
        let is_name = host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        let valid = !host.is_empty() && (bracketed || is_name);
        valid.then_some(Self {
            host,
            port,
            is_address,
        })
    }

    /// Whether the host is an IP address rather than a name.
    pub(super) fn is_address(&self) -> bool {
        self.is_address
    }
}

/// A host name for comparison: lower case, without the dot at its end.
pub(super) fn normal_name(name: &str) -> String {
    let name = name.trim();
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(left: &str, right: &str) -> bool {
        let origin = Origin::parse(left);
        assert!(origin.is_some(), "{left}");
        origin == Origin::parse(right)
    }

    #[test]
    fn origins_compare_without_case_and_default_port() {
        assert!(same("http://Hub.Local:80", "http://hub.local"));
        assert!(same("HTTPS://a.example:443/", "https://a.example"));
        assert!(same("http://[::1]:8000", "http://[::1]:8000/"));
        assert!(same("http://hub.local.", "http://hub.local"));
    }

    #[test]
    fn another_scheme_host_or_port_is_another_origin() {
        assert!(!same("http://a.example", "https://a.example"));
        assert!(!same("http://a.example:8000", "http://a.example:8001"));
        assert!(!same("http://a.example", "http://b.example"));
        assert!(!same("http://a.example:443", "http://a.example"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "null",
            "",
            "a.example",
            "http://",
            "http://a.example/path",
            "http://user@a.example",
            "http://a.example:port",
            "http://a.example:99999",
            "http://a.example:+80",
            "http://[::1",
            "http://[a.example]",
            "http://::1",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        for (text, is_address) in [
            ("127.0.0.1:8000", true),
            ("[fe80::1]:8000", true),
            ("localhost", false),
            ("127.0.0.1.evil.example", false),
            ("0x7f.1", false),
        ] {
            let authority = Authority::parse(text).unwrap();
            assert_eq!(authority.is_address(), is_address, "{text}");
        }
    }
}
