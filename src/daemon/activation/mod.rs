//! The listeners that a service manager holds for the hub, if one does.
//!
//! They outlive the hub: who connects while it is started again waits to be accepted and is not refused.
//! launchd and systemd each have a way of their own to hand them over; what the hub demands of them is the
//! same.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _};

use anyhow::{Context as _, ensure};
use socket2::{SockRef, Type};

use crate::config::Config;

#[cfg(target_os = "macos")]
mod launchd;
mod systemd;

const HINT: &str =
    "hint: it must listen for TCP connections and hand over the listener, as docs/service.md shows";

/// Takes them from the service manager, once.
pub(super) fn listeners() -> anyhow::Result<Option<Vec<TcpListener>>> {
    #[cfg(target_os = "macos")]
    if let Some(listeners) = launchd::listeners()? {
        return Ok(Some(listeners));
    }
    systemd::listeners()
        .with_context(|| format!("the service manager's socket is of no use\n{HINT}"))
}

/// Makes their port the hub's.
///
/// # Errors
/// When they are no TCP listeners, or hub.yaml wants another port.
pub(super) fn adopt(
    config: &mut Config,
    listeners: Vec<TcpListener>,
) -> anyhow::Result<Vec<TcpListener>> {
    let addresses = listeners.iter().map(listened_at);
    let addresses: Vec<_> = addresses.collect::<anyhow::Result<_>>()?;
    config.port = port(&addresses, config.port)?;
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    Ok(listeners)
}

/// The address at which that one listens.
fn listened_at(listener: &TcpListener) -> anyhow::Result<SocketAddr> {
    let address = listener.local_addr();
    let socket = SockRef::from(listener);
    let is_stream = socket.r#type()? == Type::STREAM;
    match address {
        // A connection has a peer.
        Ok(address) if is_stream && socket.peer_addr().is_err() => Ok(address),
        _ => anyhow::bail!("the service manager's socket is no TCP listener\n{HINT}"),
    }
}

/// The port of these, which is the one that hub.yaml sets, or any if that is 0.
fn port(addresses: &[SocketAddr], configured: u16) -> anyhow::Result<u16> {
    let first = addresses.first().context("a hub listens somewhere")?;
    let port = first.port();
    let all = addresses.iter().map(|address| format!("`{address}`"));
    let all = all.collect::<Vec<_>>().join(", ");
    ensure!(
        addresses.iter().all(|address| address.port() == port),
        "the service manager listens on more than one port: {all}\n\
         hint: the hub has one; leave the others out of the service manager's file"
    );
    ensure!(
        configured == port || configured == 0,
        "the service manager listens on {all} for the hub, and `port` is `{configured}` in hub.yaml\n\
         hint: set `port: {port}` in hub.yaml, or have the service manager listen on port {configured}"
    );
    Ok(port)
}

/// The part of the service manager's addresses that hub.yaml does not name.
pub(super) fn beyond_host(listeners: &[TcpListener], host: &str) -> Option<String> {
    let said: Vec<IpAddr> = (host, 0)
        .to_socket_addrs()
        .map(|addresses| addresses.map(|address| address.ip()).collect())
        .unwrap_or_default();
    let is_said = |ip: &IpAddr| said.iter().any(|said| said.is_unspecified() || said == ip);
    let addresses = listeners.iter().map(TcpListener::local_addr);
    let mut ips = addresses.filter_map(io::Result::ok).map(|at| at.ip());
    let beyond = ips.find(|ip| !is_said(ip))?;
    Some(format!(
        "it listens on `{beyond}`, `host` is `{host}`: make them the same"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(addresses: &[&str], configured: u16) -> String {
        let addresses: Vec<_> = addresses.iter().map(|at| at.parse().unwrap()).collect();
        match port(&addresses, configured) {
            Ok(port) => port.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_service_manager_that_listens_elsewhere_is_told_with_both_ways_out() {
        let told = [
            ports(&["127.0.0.1:8000", "[::1]:8000"], 8000),
            ports(&["127.0.0.1:8000"], 0),
            ports(&["127.0.0.1:9000"], 8000),
            ports(&["127.0.0.1:9000", "[::1]:9000"], 8000),
            ports(&["127.0.0.1:8000", "127.0.0.1:9000"], 8000),
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        8000
        8000
        the service manager listens on `127.0.0.1:9000` for the hub, and `port` is `8000` in hub.yaml
        hint: set `port: 9000` in hub.yaml, or have the service manager listen on port 8000
        the service manager listens on `127.0.0.1:9000`, `[::1]:9000` for the hub, and `port` is `8000` in hub.yaml
        hint: set `port: 9000` in hub.yaml, or have the service manager listen on port 8000
        the service manager listens on more than one port: `127.0.0.1:8000`, `127.0.0.1:9000`
        hint: the hub has one; leave the others out of the service manager's file
        ");
    }

    #[test]
    fn an_address_that_hub_yaml_does_not_name_is_told() {
        let listeners = [TcpListener::bind("127.0.0.1:0").unwrap()];
        for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
            assert_eq!(beyond_host(&listeners, host), None, "{host}");
        }
        let everywhere = [TcpListener::bind("0.0.0.0:0").unwrap()];
        assert_eq!(
            beyond_host(&everywhere, "127.0.0.1").as_deref(),
            Some("it listens on `0.0.0.0`, `host` is `127.0.0.1`: make them the same")
        );
    }

    #[test]
    fn what_is_no_listener_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        assert_eq!(listened_at(&listener).unwrap(), at);
        let connection = std::net::TcpStream::connect(at).unwrap();
        let connection = std::os::fd::OwnedFd::from(connection);
        assert!(listened_at(&connection.into()).is_err());
        let packets = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let packets = std::os::fd::OwnedFd::from(packets);
        assert!(listened_at(&packets.into()).is_err());
    }
}
