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
fn on_all_addresses_sharing(config: &mut Config) -> anyhow::Result<Vec<TcpListener>> {
    on_all(config, true, |address| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    })
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
/// new ones, as 0.0.0.0 does.
pub(super) fn beside(
    config: &mut Config,
    others: &[TcpListener],
) -> anyhow::Result<Vec<TcpListener>> {
    // Only while both are there: whoever comes later finds the port taken.
    let share = |listeners: &[TcpListener], on: bool| {
        let mut sockets = listeners.iter().map(SockRef::from);
        sockets.try_for_each(|socket| socket.set_reuse_port(on))
    };
    share(others, true)?;
    let listeners = on_all_addresses_sharing(config);
    share(others, false)?;
    let listeners = listeners?;
    share(&listeners, false)?;
    Ok(listeners)
}

/// Where one of these is reached from this machine.
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

/// Whether no other address makes up for it. A name may have addresses that this machine lacks, as
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
        // TEST-NET-1: nobody's.
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
