//! `allowed_origins` and `allowed_hosts`: the web origins and host names that hub.yaml allows besides the
//! usual ones. An entry that no request could ever match is refused.

use url::Url;

use super::raw::Table;
use super::web::{self, Host};

/// The origins, as browsers write them.
pub(super) fn origins(table: &mut Table<'_, '_>) -> Vec<String> {
    table.list_of("allowed_origins", |text| {
        let text = text.trim();
        let origin = web::origin(text);
        origin
            .filter(|origin| names_pages(origin))
            .ok_or_else(|| ("is not the origin of a web page", right_origin(text)))
    })
}

/// The host names: lower case, without port.
pub(super) fn hosts(table: &mut Table<'_, '_>) -> Vec<String> {
    table.list_of("allowed_hosts", |text| {
        let text = text.trim();
        let host = Host::of(text).map(|host| host.name.to_ascii_lowercase());
        host.ok_or_else(|| ("is not a host name", right_host(text)))
    })
}

/// True if an origin can have pages: not a name with a `*`, nor a protocol without pages.
fn names_pages(origin: &str) -> bool {
    let without = ["ws:", "wss:", "ftp:"];
    !origin.contains('*') && !without.iter().any(|scheme| origin.starts_with(scheme))
}

/// The correction for an origin written as `text`.
fn right_origin(text: &str) -> String {
    if text == "null" || text.starts_with("file:") {
        return "files and sandboxed frames cannot be told apart (`null`): serve the page at an address, \
                and list that"
            .to_owned();
    }
    let text = match text.split_once(':') {
        Some(("ws", rest)) => format!("http:{rest}"),
        Some(("wss", rest)) => format!("https:{rest}"),
        _ => text.to_owned(),
    };
    let url = match text.contains("://") {
        true => text,
        false if is_local(&text) => format!("http://{text}"),
        false => format!("https://{text}"),
    };
    match web::origin_of_url(&url).filter(|origin| names_pages(origin)) {
        Some(origin) => format!("write `{origin}`"),
        None => "list each origin, as `https://example.org`; there are no patterns".to_owned(),
    }
}

/// True if a page at `host[:port]` is unlikely to have a certificate.
fn is_local(text: &str) -> bool {
    Host::of(text).is_some_and(|host| {
        host.is_address || host.name == "localhost" || host.name.ends_with(".local")
    })
}

fn right_host(text: &str) -> String {
    let url = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let url = Url::parse(&url).ok();
    let host = url.as_ref().and_then(Url::host_str);
    match host.filter(|host| Host::of(host).is_some()) {
        Some(host) => format!("write `{host}`"),
        None => "list each name, as `hub.example`; there are no patterns".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_origin_is_found_in_what_was_meant() {
        for (text, right) in [
            ("example.org", "write `https://example.org`"),
            ("example.org:8443", "write `https://example.org:8443`"),
            ("localhost:3000", "write `http://localhost:3000`"),
            ("192.168.1.20:3000", "write `http://192.168.1.20:3000`"),
            ("https://example.org/app/", "write `https://example.org`"),
            ("wss://example.org", "write `https://example.org`"),
            (
                "https://b\u{fc}cher.example",
                "write `https://xn--bcher-kva.example`",
            ),
        ] {
            assert_eq!(right_origin(text), right, "{text}");
        }
        for text in ["*", "https://*.example.org", "", "https://"] {
            assert!(right_origin(text).contains("no patterns"), "{text}");
        }
        for text in ["null", "file:///page.html"] {
            assert!(
                right_origin(text).contains("cannot be told apart"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_right_host_is_found_in_what_was_meant() {
        for (text, right) in [
            ("https://hub.example/hub", "write `hub.example`"),
            ("hub.example/hub", "write `hub.example`"),
            ("user@hub.example", "write `hub.example`"),
            ("B\u{fc}cher.example", "write `xn--bcher-kva.example`"),
        ] {
            assert_eq!(right_host(text), right, "{text}");
        }
        for text in ["*", "*.example.org", ""] {
            assert!(right_host(text).contains("no patterns"), "{text}");
        }
    }
}
