//! Tells one reason why a gateway is not reached from all others: macOS keeps a program out of the local network
//! until the user allows it, and says nothing. A connection then fails at once with "no route to host", while
//! this machine reaches itself.
//!
//! <https://developer.apple.com/documentation/technotes/tn3179-understanding-local-network-privacy>

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use url::Url;

/// A host that is not there is given up after some seconds; a refusal of macOS takes none.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Longest wait for this machine itself.
const LOOPBACK_LIMIT: Duration = Duration::from_secs(1);

/// What to do about it.
pub(super) const REMEDY: &str = "macOS keeps this program out of the local network: allow it in System Settings, Privacy & Security, Local \
     Network, and run `restart`. See docs/fleet.md";

/// A connection that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    /// The system said that there is no route to the host.
    pub(super) is_without_route: bool,
    /// The time it took.
    pub(super) took: Duration,
    /// The host is in the local network.
    pub(super) is_local: bool,
    /// This machine reaches its own port.
    pub(super) loopback_works: bool,
}

/// True if macOS has refused the connection; on any other system it never has.
pub(super) fn is_refused_by_macos(failure: Failure) -> bool {
    cfg!(target_os = "macos") && looks_refused(failure)
}

fn looks_refused(failure: Failure) -> bool {
    failure.is_without_route && failure.took < AT_ONCE && failure.is_local && failure.loopback_works
}

/// True if the host of a URL has an address of a local network.
pub(super) fn is_local(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return false;
    };
    let host = host.trim_matches(['[', ']']);
    let addresses = (host, port).to_socket_addrs();
    addresses.is_ok_and(|mut addresses| addresses.any(|address| is_in_local_network(address.ip())))
}

fn is_in_local_network(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_unique_local(),
    }
}

/// True if this machine reaches that port of its own.
pub(super) fn loopback_works(port: u16) -> bool {
    let reaches = |address: [u8; 4]| {
        let address = SocketAddr::from((address, port));
        TcpStream::connect_timeout(&address, LOOPBACK_LIMIT).is_ok()
    };
    reaches([127, 0, 0, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_signs_together_are_a_refusal() {
        let refused = Failure {
            is_without_route: true,
            took: Duration::from_millis(2),
            is_local: true,
            loopback_works: true,
        };
        assert!(looks_refused(refused));
        assert_eq!(is_refused_by_macos(refused), cfg!(target_os = "macos"));
        for other in [
            Failure {
                is_without_route: false,
                ..refused
            },
            // An address that nobody has: the system asks for it for seconds.
            Failure {
                took: Duration::from_secs(3),
                ..refused
            },
            Failure {
                is_local: false,
                ..refused
            },
            Failure {
                loopback_works: false,
                ..refused
            },
        ] {
            assert!(!looks_refused(other), "{other:?}");
        }
    }

    #[test]
    fn addresses_of_local_networks_are_told_from_others() {
        for (url, local) in [
            ("http://192.168.1.20:30000", true),
            ("http://10.0.0.1", true),
            ("http://169.254.3.4:80", true),
            ("http://[fe80::1]:80", true),
            ("http://[fd00::1]:80", true),
            ("http://127.0.0.1:80", false),
            ("http://1.1.1.1:80", false),
            ("http://[2606:4700::1]:80", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_local(url), local, "{url}");
        }
    }

    #[test]
    fn a_port_of_this_machine_is_reached_and_one_that_nobody_has_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(loopback_works(port));
        drop(listener);
        assert!(!loopback_works(port));
    }
}
