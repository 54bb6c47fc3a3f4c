//! `trusted_proxies` and `client_address_header`: whom the hub believes when a request says for whom it comes.

use std::net::{IpAddr, SocketAddr};

use http::header::HOST;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::raw::Table;
use super::yaml::Node;

/// The usual header of proxies.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word about their clients counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies {
    trusted: Vec<IpNet>,
    /// The header in which they name their client.
    header: HeaderName,
}

/// The origin of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The client's address. Its port is unknown, and 0, if a proxy named it.
    pub client: SocketAddr,
    /// The trusted proxy that sent the request for it.
    pub via: Option<SocketAddr>,
}

impl Default for Proxies {
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            header: X_FORWARDED_FOR,
        }
    }
}

impl Source {
    /// The other end of the request's connection.
    pub fn peer(&self) -> SocketAddr {
        self.via.unwrap_or(self.client)
    }
}

impl From<SocketAddr> for Source {
    fn from(client: SocketAddr) -> Self {
        Self { client, via: None }
    }
}

impl Proxies {
    pub(super) fn read(table: &mut Table<'_, '_>) -> Self {
        let trusted = table.list_of("trusted_proxies", |text| {
            network(text.trim()).ok_or_else(|| {
                let why = "is neither an IP address nor a network";
                (why, "write `192.168.1.2` or `192.168.1.0/24`".to_owned())
            })
        });
        let header = table.text("client_address_header").and_then(|written| {
            let (why, hint) = match HeaderName::try_from(written.trim()) {
                Ok(header) if header != HOST && header.as_str() != "forwarded" => {
                    return Some(header);
                }
                Ok(_) => (
                    "does not hold addresses alone",
                    "name one that does, such as `X-Real-IP`",
                ),
                Err(_) => (
                    "is not the name of a header",
                    "write it as `X-Forwarded-For`",
                ),
            };
            let shown = Node::Text(written).shown();
            let message = format!("`client_address_header`, {shown}, {why}");
            table.refuse("client_address_header", &message, Some(hint.to_owned()));
            None
        });
        Self {
            trusted,
            header: header.unwrap_or(X_FORWARDED_FOR),
        }
    }

    /// The origin of a request from `peer` with these headers: the last address in the header that is no trusted
    /// proxy's. What stands before it is the client's own claim. A header that cannot be read names nobody.
    pub fn source(&self, headers: &HeaderMap, peer: SocketAddr) -> Source {
        if !self.trusts(peer.ip()) {
            return peer.into();
        }
        let mut client = None;
        let lines = headers.get_all(&self.header).iter().rev();
        let addresses = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for address in addresses.map(address) {
            let Some(address) = address else {
                break;
            };
            client = Some(SocketAddr::new(address, 0));
            if !self.trusts(address) {
                break;
            }
        }
        match client {
            Some(client) => Source {
                client,
                via: Some(peer),
            },
            None => peer.into(),
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// `192.168.1.0/24`, or one address.
fn network(text: &str) -> Option<IpNet> {
    let address = text.parse().map(|address: IpAddr| address.to_canonical());
    let alone = address.map(IpNet::from);
    text.parse().ok().or(alone.ok())
}

/// An address as proxies write it: alone, or with a port, or an IPv6 one in brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim();
    let address = text.parse().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    let address = address.or_else(|| {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse().ok()
    });
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn proxies(trusted: &[&str]) -> Proxies {
        let trusted = trusted.iter().map(|text| network(text).unwrap()).collect();
        Proxies {
            trusted,
            ..Proxies::default()
        }
    }

    /// `CLIENT via PROXY`, or `CLIENT`.
    fn source(proxies: &Proxies, peer: &str, lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let source = proxies.source(&headers, peer.parse().unwrap());
        assert_eq!(source.peer(), peer.parse().unwrap());
        match source.via {
            Some(via) => format!("{} via {}", source.client.ip(), via.ip()),
            None => source.client.ip().to_string(),
        }
    }

    #[test]
    fn a_stranger_speaks_for_itself() {
        let lines = &["10.0.0.9"];
        for proxies in [Proxies::default(), proxies(&["10.0.0.2", "fd00::/8"])] {
            assert_eq!(source(&proxies, "10.0.0.1:7", lines), "10.0.0.1");
            assert_eq!(source(&proxies, "[2001:db8::1]:7", lines), "2001:db8::1");
        }
    }

    #[test]
    fn the_last_address_that_is_no_proxys_is_the_client() {
        let proxies = proxies(&["10.0.0.0/24", "::1", "192.168.1.2"]);
        for (lines, found) in [
            (&["1.2.3.4"][..], "1.2.3.4 via 10.0.0.1"),
            (&["127.0.0.1, 1.2.3.4"], "1.2.3.4 via 10.0.0.1"),
            (&["127.0.0.1", "1.2.3.4"], "1.2.3.4 via 10.0.0.1"),
            (
                &["9.9.9.9, 1.2.3.4,192.168.1.2 , 10.0.0.7"],
                "1.2.3.4 via 10.0.0.1",
            ),
            (&["1.2.3.4:4711"], "1.2.3.4 via 10.0.0.1"),
            (&["[2001:db8::5]:80"], "2001:db8::5 via 10.0.0.1"),
            (&["[2001:db8::5]"], "2001:db8::5 via 10.0.0.1"),
            (&["::ffff:1.2.3.4"], "1.2.3.4 via 10.0.0.1"),
            // All of them are proxies: the first one asks for itself.
            (&["10.0.0.5, ::1"], "10.0.0.5 via 10.0.0.1"),
            // Nothing before what cannot be read counts.
            (&["1.2.3.4, unknown, 10.0.0.5"], "10.0.0.5 via 10.0.0.1"),
            (&["1.2.3.4, "], "10.0.0.1"),
            (&["_hidden"], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(source(&proxies, "10.0.0.1:7", lines), found, "{lines:?}");
            let mapped = source(&proxies, "[::ffff:10.0.0.1]:7", lines);
            assert_eq!(mapped.replace("::ffff:", ""), found, "{lines:?}");
        }
    }
}
