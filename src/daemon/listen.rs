//! The sockets that the hub listens on: one for each address of its host.
//!
//! [`super::run`] asks for them before anything else is changed. `localhost` has two addresses, and a
//! client may try either: both must be the hub's.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};

use anyhow::Context as _;
use socket2::{Domain, SockRef, Socket, Type};

use crate::config::{Config, ports};

/// As many connections may wait to be accepted as with the standard library's listeners on Linux.
const BACKLOG: i32 = 128;

/// Takes the hub's port on every address of its host that this machine has. Port 0 becomes the one that
/// the system chose.
pub(super) fn on_all_addresses(config: &mut Config) -> anyhow::Result<Vec<TcpListener>> {
    on_all(config, false, TcpListener::bind)
}

/// The same where others may listen too that allow it.
fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn on_all(
    config: &mut Config,
    is_shared: bool,
    bind: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> anyhow::Result<Vec<TcpListener>> {
    let (host, port) = (config.host.as_str(), config.port);
    let bound = super::startup::once_free(
        || {
            // Elsewhere an address can be bound beside another program's.
            let is_told = is_shared || cfg!(target_os = "linux") || port == 0;
            if !is_told && !ports::is_free(host, port) {
                return Err(ErrorKind::AddrInUse.into());
            }
            bind_all((host, port).to_socket_addrs()?, &bind)
        },
        |error| error.kind() == ErrorKind::AddrInUse,
    );
    let listeners = bound.map_err(|error| cannot_listen(host, port, &error))?;
    for listener in &listeners {
        listener.set_nonblocking(true)?;
        config.port = listener.local_addr()?.port();
    }
    Ok(listeners)
}

/// The same beside a hub that listens on `others`, one of which may have an address that covers one of the
/// new ones, as 0.0.0.0 does. Those that serve the new addresses too are kept: what waits in them to be accepted
/// would go with them.
pub(super) fn beside(
    config: &mut Config,
    others: Vec<TcpListener>,
) -> anyhow::Result<Vec<TcpListener>> {
    // Only while both are there: a program that comes later finds the port taken.
    let share = |listeners: &[TcpListener], on: bool| {
        let mut sockets = listeners.iter().map(SockRef::from);
        sockets.try_for_each(|socket| socket.set_reuse_port(on))
    };
    share(&others, true)?;
    let listeners = on_all(config, true, |address| {
        let same = others.iter().find(|other| is_at(other, address));
        same.map_or_else(|| bind_shared(address), TcpListener::try_clone)
    });
    share(&others, false)?;
    let mut listeners = listeners?;
    share(&listeners, false)?;
    let covered: Vec<_> = others
        .into_iter()
        .filter(|other| listeners.iter().any(|listener| covers(listener, other)))
        .collect();
    listeners.extend(covered);
    Ok(listeners)
}

fn is_at(listener: &TcpListener, address: SocketAddr) -> bool {
    listener.local_addr().is_ok_and(|at| at == address)
}

/// True if it listens on all addresses, and so on that of the other one.
fn covers(listener: &TcpListener, other: &TcpListener) -> bool {
    let (Ok(at), Ok(other)) = (listener.local_addr(), other.local_addr()) else {
        return false;
    };
    let has_both = || SockRef::from(listener).only_v6().is_ok_and(|only| !only);
    at.port() == other.port()
        && at.ip().is_unspecified()
        && !other.ip().is_unspecified()
        && (at.is_ipv4() == other.is_ipv4() || at.is_ipv6() && has_both())
}

/// The address at which one of these is reached from this machine.
pub(super) fn reached_at(listeners: &[TcpListener]) -> anyhow::Result<SocketAddr> {
    let first = listeners.first().context("a hub listens somewhere")?;
    let mut address = first.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

/// One listener at least, all on the port of the first.
fn bind_all(
    addresses: impl Iterator<Item = SocketAddr>,
    bind: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut port = None;
    let mut lacking = None;
    let mut seen = BTreeSet::new();
    for mut address in addresses.filter(|address| seen.insert(address.ip())) {
        address.set_port(port.unwrap_or(address.port()));
        match bind(address) {
            Ok(listener) => {
                port = Some(listener.local_addr()?.port());
                listeners.push(listener);
            }
            Err(error) if is_decisive(&error) => return Err(error),
            Err(error) => lacking = Some(error),
        }
    }
    if listeners.is_empty() {
        return Err(lacking.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()));
    }
    Ok(listeners)
}

/// True if no other address makes up for it. A name may have addresses that this machine lacks, as
/// `localhost` has where IPv6 is switched off.
fn is_decisive(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AddrInUse | ErrorKind::PermissionDenied
    )
}

fn cannot_listen(host: &str, port: u16, error: &io::Error) -> anyhow::Error {
    let (why, hint) = match error.kind() {
        ErrorKind::AddrInUse => (
            "another program listens there".to_owned(),
            "stop it, or set another `port` in hub.yaml",
        ),
        ErrorKind::AddrNotAvailable => (
            "this machine has no such address".to_owned(),
            "set `host` in hub.yaml to one that it has, or to 127.0.0.1",
        ),
        ErrorKind::PermissionDenied => (
            "this user may not".to_owned(),
            "set a `port` of 1024 or more in hub.yaml",
        ),
        _ => (
            error.to_string(),
            "set another `host` or `port` in hub.yaml",
        ),
    };
    anyhow::anyhow!("the hub cannot listen on {host} port {port}: {why}\nhint: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covering(one: &str, other: &str) -> bool {
        let one = TcpListener::bind((one, 0)).unwrap();
        let at = one.local_addr().unwrap();
        let other = TcpListener::bind((other, 0)).unwrap();
        let is_covered = covers(&one, &other);
        assert!(!is_covered, "another port than {at}");
        let address = SocketAddr::new(other.local_addr().unwrap().ip(), at.port());
        SockRef::from(&one).set_reuse_port(true).unwrap();
        let other = bind_shared(address).unwrap();
        covers(&one, &other)
    }

    /// A hub that listens on `before` is replaced by one that is to listen on `host`; says how many of three
    /// clients that wait to be accepted by it the new one can accept.
    fn kept(before: &str, host: &str) -> usize {
        let other = TcpListener::bind((before, 0)).unwrap();
        let at = other.local_addr().unwrap();
        let clients = [(); 3].map(|()| std::net::TcpStream::connect(at).unwrap());
        let text = format!(
            "{{host: '{host}', port: {}, models: [{{name: a, model_path: org/a}}]}}",
            at.port()
        );
        let mut config = Config::parse(std::path::Path::new("/hub.yaml"), &text).unwrap();
        let listeners = beside(&mut config, vec![other]).unwrap();
        let accepted = listeners.iter().flat_map(|listener| {
            listener.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| listener.accept().ok())
        });
        let accepted = accepted.count();
        drop(clients);
        accepted
    }

    #[test]
    fn what_waits_to_be_accepted_stays_where_the_new_hub_listens_too() {
        assert_eq!(kept("127.0.0.1", "0.0.0.0"), 3);
        assert_eq!(kept("127.0.0.1", "localhost"), 3);
        // The old hub accepts these before its listener goes.
        assert_eq!(kept("0.0.0.0", "127.0.0.1"), 0);
    }

    #[test]
    fn a_listener_on_all_addresses_covers_those_on_one() {
        assert!(covering("0.0.0.0", "127.0.0.1"));
        if TcpListener::bind("[::1]:0").is_ok() {
            assert!(covering("::", "::1"));
            assert!(!covering("127.0.0.1", "::1"));
        }
        // macOS has one address of this kind only.
        if TcpListener::bind("127.0.0.2:0").is_ok() {
            assert!(!covering("127.0.0.1", "127.0.0.2"));
        }
    }

    /// Some with which this machine reaches itself, and one twice; not every system has all of them.
    fn local(port: u16) -> Vec<SocketAddr> {
        ["127.0.0.1", "127.0.0.2", "::1", "127.0.0.1"]
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), port))
            .to_vec()
    }

    #[test]
    fn a_name_is_listened_on_at_each_of_its_addresses() {
        let listeners = bind_all(local(0).into_iter(), TcpListener::bind).unwrap();
        let addresses: BTreeSet<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        let port = addresses.first().unwrap().port();
        let had = |address: &SocketAddr| TcpListener::bind((address.ip(), 0)).is_ok();
        let expected = local(port).into_iter().filter(had).collect();
        assert_eq!(addresses, expected);
        assert_eq!(listeners.len(), expected.len());
        assert_ne!(port, 0);
    }

    #[test]
    fn a_port_that_another_has_at_one_address_is_taken() {
        for address in local(0) {
            let Ok(other) = TcpListener::bind(address) else {
                continue;
            };
            let port = other.local_addr().unwrap().port();
            let error = bind_all(local(port).into_iter(), TcpListener::bind).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{address}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        // TEST-NET-1: no machine's.
        let elsewhere = SocketAddr::from(([192, 0, 2, 7], 0));
        let error = bind_all([elsewhere].into_iter(), TcpListener::bind).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn an_address_that_cannot_be_had_is_told_with_a_way_out() {
        let told = [
            ErrorKind::AddrInUse,
            ErrorKind::AddrNotAvailable,
            ErrorKind::PermissionDenied,
            ErrorKind::Other,
        ]
        .map(|kind| cannot_listen("nosuch.local", 80, &kind.into()).to_string());
        insta::assert_snapshot!(told.join("\n"), @"
        the hub cannot listen on nosuch.local port 80: another program listens there
        hint: stop it, or set another `port` in hub.yaml
        the hub cannot listen on nosuch.local port 80: this machine has no such address
        hint: set `host` in hub.yaml to one that it has, or to 127.0.0.1
        the hub cannot listen on nosuch.local port 80: this user may not
        hint: set a `port` of 1024 or more in hub.yaml
        the hub cannot listen on nosuch.local port 80: other error
        hint: set another `host` or `port` in hub.yaml
        ");
    }
}
