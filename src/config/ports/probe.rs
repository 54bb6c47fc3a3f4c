//! Finds out whether another program has a port, by binding it without listening.
//!
//! The [`super::PortBook`] asks for workers, the daemon for its own port. No client sees a socket that is
//! only bound, and macOS' firewall does not ask the user about it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use socket2::{Domain, Socket, Type};

/// SO_REUSEADDR is needed to bind the port of a worker that has just ended. Except on Linux it also lets a
/// port be bound at 127.0.0.1 while another program has it at all addresses, and the other way round.
const ADDRESSES_ARE_APART: bool = cfg!(not(target_os = "linux"));

/// True if no program holds `port` on any address of `host`. Only "in use" counts: the worker reports a
/// name that does not resolve, or the address of another machine.
pub fn is_free(host: &str, port: u16) -> bool {
    let Ok(addresses) = (host, port).to_socket_addrs() else {
        return true;
    };
    let addresses: Vec<_> = addresses.map(|address| address.ip()).collect();
    let mut asked = to_ask(&addresses, ADDRESSES_ARE_APART).into_iter();
    asked.all(|ip| !is_taken(SocketAddr::new(ip, port)))
}

/// True if a listener may have that address: it is one of this machine's.
pub fn is_here(ip: IpAddr) -> bool {
    let bound = bind(SocketAddr::new(ip, 0));
    !bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
}

/// The addresses to try for a listener at these. Where addresses are `apart`, the system by itself does not
/// report a program at an overlapping one.
fn to_ask(addresses: &[IpAddr], apart: bool) -> BTreeSet<IpAddr> {
    let mut asked: BTreeSet<_> = addresses.iter().copied().collect();
    if !apart {
        return asked;
    }
    let is_local = |ip: &IpAddr| ip.is_loopback() || ip.is_unspecified();
    if addresses.iter().any(is_local) {
        // Clients of this machine go to one of these, and the more specific address wins.
        asked.extend::<[IpAddr; 2]>([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    asked.extend::<[IpAddr; 2]>([Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]);
    asked
}

fn is_taken(address: SocketAddr) -> bool {
    bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn bind(address: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn asked(addresses: &[&str], apart: bool) -> String {
        let addresses: Vec<_> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let asked = to_ask(&addresses, apart).into_iter();
        asked.map(|ip| ip.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn where_addresses_are_apart_those_are_asked_that_clients_may_reach_instead() {
        let all = "0.0.0.0 127.0.0.1 :: ::1";
        for host in ["0.0.0.0", "127.0.0.1", "::", "::1"] {
            assert_eq!(asked(&[host], true), all);
            assert_eq!(asked(&[host], false), host);
        }
        // A program at 127.0.0.1 does not conflict there.
        assert_eq!(asked(&["192.0.2.7"], true), "0.0.0.0 192.0.2.7 ::");
        assert_eq!(asked(&["127.0.0.1", "::1"], false), "127.0.0.1 ::1");
    }

    #[test]
    fn an_address_of_another_machine_is_not_here() {
        assert!(is_here(Ipv4Addr::LOCALHOST.into()) && is_here(Ipv4Addr::UNSPECIFIED.into()));
        // TEST-NET-1, RFC 5737.
        assert!(!is_here("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_probe_is_no_listener_and_leaves_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_taken(address));
        drop(listener);
        assert!(!is_taken(address));
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.set_reuse_address(true).unwrap();
        bound.bind(&address.into()).unwrap();
        assert!(std::net::TcpStream::connect(address).is_err());
        assert!(!is_taken(address), "two that only bind are no conflict");
    }
}
