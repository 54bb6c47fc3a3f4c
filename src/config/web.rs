//! Parses origins and host names into the form in which they are compared.
//!
//! hub.yaml's lists are parsed with it, and so are the headers that the server compares with them.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::Url;

/// `scheme://host[:port]` as a browser writes it: lower case, without a port that the scheme has anyhow. A
/// slash at the end is ignored. `None` for anything else: `null`, a whole URL, an address that no browser
/// writes that way.
pub(crate) fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let origin = serialized(&url)?;
    // The parser accepts much that no browser sends: spaces, backslashes, `127.1`.
    let (begin, rest) = text.split_at_checked(origin.len())?;
    if !begin.eq_ignore_ascii_case(&origin) {
        return None;
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let usual = url.port_or_known_default().filter(|_| url.port().is_none());
    let is_usual_port = usual.is_some_and(|port| rest == format!(":{port}"));
    (rest.is_empty() || is_usual_port).then_some(origin)
}

/// The origin of the page at a URL, as [`origin`] has it.
pub(crate) fn origin_of_url(url: &str) -> Option<String> {
    serialized(&Url::parse(url).ok()?)
}

/// The origin, also for an application's own scheme, which the URL standard leaves out.
fn serialized(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let origin = url.origin();
    if origin.is_tuple() {
        return Some(origin.ascii_serialization());
    }
    let port = url.port().map(|port| format!(":{port}"));
    let (scheme, port) = (url.scheme(), port.unwrap_or_default());
    Some(format!("{scheme}://{host}{port}"))
}

/// The host of a `Host` header or of an entry of `allowed_hosts`, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host<'a> {
    /// Without the dot at its end or an IPv6 address' brackets.
    pub(crate) name: &'a str,
    /// An IP address rather than a name.
    pub(crate) is_address: bool,
}

impl<'a> Host<'a> {
    /// Reads `host[:port]`. `None` for anything that is not a host name or an address.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let (name, port, bracketed) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']')?;
                (name, rest, true)
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                (&text[..end], &text[end..], false)
            }
        };
        match port.strip_prefix(':') {
            Some("") => {}
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse::<u16>().ok()?;
            }
            None if port.is_empty() => {}
            _ => return None,
        }
        if bracketed {
            name.parse::<Ipv6Addr>().ok()?;
            let is_address = true;
            return Some(Self { name, is_address });
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let valid = !name.is_empty() && name.bytes().all(is_name);
        let is_address = name.parse::<Ipv4Addr>().is_ok();
        valid.then_some(Self { name, is_address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_without_case_usual_port_and_slash() {
        for (text, read) in [
            ("http://Hub.Local:80", "http://hub.local"),
            ("HTTPS://a.example:443/", "https://a.example"),
            ("http://[::1]:8000/", "http://[::1]:8000"),
            ("http://a.example:443", "http://a.example:443"),
            ("http://my_box:3000", "http://my_box:3000"),
            ("http://hub.local.", "http://hub.local."),
            ("app://obsidian.md", "app://obsidian.md"),
            ("app://-", "app://-"),
            ("tauri://localhost", "tauri://localhost"),
            ("vscode-webview://1a2b3c", "vscode-webview://1a2b3c"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(origin(text).as_deref(), Some(read), "{text}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_no_origin() {
        for text in [
            "null",
            "",
            "*",
            "a.example",
            "http://",
            "file://",
            "app://",
            "http:a.example",
            "http:/a.example",
            "http:\\\\a.example",
            "http:///a.example",
            " http://a.example",
            "http://a.example ",
            "http://a.exa\tmple",
            "http://a.example//",
            "http://a.example/path",
            "http://a.example?",
            "http://a.example#",
            "http://user@a.example",
            "http://a.example:port",
            "http://a.example:99999",
            "http://a.example:+80",
            "http://a.example:080",
            "http://127.1",
            "http://0x7f.1",
            "http://2130706433",
            "http://[::1",
            "http://[a.example]",
            "http://::1",
            "http://[0:0:0:0:0:0:0:1]",
            "blob:http://localhost",
            "app://x, http://evil.example",
            "http://localhost http://evil.example",
            "http://b\u{fc}cher.example",
        ] {
            assert_eq!(origin(text), None, "{text:?}");
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        for (text, name, is_address) in [
            ("127.0.0.1:8000", "127.0.0.1", true),
            ("[fe80::1]:8000", "fe80::1", true),
            ("[::1]", "::1", true),
            ("localhost", "localhost", false),
            ("LocalHost.:1", "LocalHost", false),
            ("a.example:", "a.example", false),
            ("127.0.0.1.evil.example", "127.0.0.1.evil.example", false),
            ("127.1", "127.1", false),
            ("0x7f.1", "0x7f.1", false),
        ] {
            assert_eq!(Host::of(text), Some(Host { name, is_address }), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            ":80",
            "a b",
            "localhost:port",
            "localhost:99999",
            "localhost:+1",
            "user@localhost",
            "a.example/x",
            "*.example",
            "[::1",
            "[::1]x",
            "[localhost]",
            "::1",
            "b\u{fc}cher.example",
            "a,b",
        ] {
            assert_eq!(Host::of(text), None, "{text:?}");
        }
    }
}
