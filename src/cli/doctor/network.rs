//! The hub's address: who has its port, whether other machines reach it, and what stands between it and its clients.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::path::Path;
use std::process::Stdio;

use listeners::{Protocol, SocketState};
use tokio::process::Command;

use super::finding::Finding;
use crate::api::is_all_addresses;
use crate::cli::client::{Client, Probe};
use crate::cli::find::HubAddress;
use crate::cli::start::OPEN;
use crate::config::ports;

/// Apple's command for the application firewall.
const FIREWALL: &str = "/usr/libexec/ApplicationFirewall/socketfilterfw";

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (process {})", self.program, self.pid)
    }
}

/// The process that listens on a port, at an address of that family if there are several; `None` if the system does not
/// show it, as another user's.
pub(super) fn holder(port: u16, ip: Option<IpAddr>) -> Option<Holder> {
    let mut all = listeners::get_all().ok()?.into_iter();
    let mut holders: Vec<_> = all
        .by_ref()
        .filter(|one| one.protocol == Protocol::TCP && one.state == SocketState::Listen)
        .filter(|one| one.socket.port() == port)
        .collect();
    holders.sort_by_key(|one| {
        (
            ip.is_some_and(|ip| one.socket.is_ipv4() != ip.is_ipv4()),
            one.process.pid,
        )
    });
    let process = holders.into_iter().next()?.process;
    Some(Holder {
        pid: process.pid,
        program: process.name,
    })
}

/// A port that another program has; `answer` is what it answers to a hub's client.
pub(super) fn taken(
    what: &str,
    port: u16,
    answer: Option<&str>,
    holder: Option<&Holder>,
) -> Finding {
    let answer = answer.map_or_else(String::new, |answer| format!("; {answer}"));
    match holder {
        Some(holder) => Finding::broken(format!("{what} is taken by {holder}{answer}"))
            .with_hint("stop that program, or set another `port`"),
        None => Finding::broken(format!("{what} is taken by another program{answer}")).with_hint(format!(
            "`sudo lsof -nP -iTCP:{port} -sTCP:LISTEN` tells which; stop it, or set another `port`"
        )),
    }
}

/// The address by which `localhost` may lead past a hub at `host`: that of the other family.
pub(super) fn other_family(host: &str) -> Option<IpAddr> {
    match host.parse::<IpAddr>().ok()? {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_unspecified() => {
            Some(Ipv6Addr::LOCALHOST.into())
        }
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unspecified() => {
            Some(Ipv4Addr::LOCALHOST.into())
        }
        _ => None,
    }
}

/// Another program at the other family's address.
pub(super) async fn beside(address: &HubAddress) -> Option<Finding> {
    let ip = other_family(&address.host)?;
    let client = Client::new(&ip.to_string(), address.port, &address.config_path);
    let is_own = match client.probe().await {
        Probe::Nothing => return None,
        Probe::Other(_) => false,
        Probe::Hub => {
            let its = client.identity().await.ok()?.config_path;
            its.is_some_and(|its| crate::config::is_same(&its, &address.config_path))
        }
    };
    (!is_own).then(|| {
        split(
            &address.host,
            &client.address(),
            holder(address.port, Some(ip)).as_ref(),
        )
    })
}

fn split(host: &str, other: &str, holder: Option<&Holder>) -> Finding {
    let holder = holder.map_or_else(|| "Another program".to_owned(), Holder::to_string);
    let client_host = if is_all_addresses(host) {
        "127.0.0.1"
    } else {
        host
    };
    Finding::warning(format!(
        "{holder} has the hub's port at {other}: a client that asks `localhost` may reach it in the hub's place"
    ))
    .with_hint(format!(
        "have clients ask {client_host}, stop that program, or set another `port`"
    ))
}

/// The addresses of a `host`, and whether this machine has them.
pub(super) fn addresses_of(host: &str) -> std::io::Result<Vec<(IpAddr, bool)>> {
    let addresses = (host, 0).to_socket_addrs()?.map(|address| address.ip());
    Ok(addresses.map(|ip| (ip, ports::is_here(ip))).collect())
}

/// A `host` that the hub cannot listen at, or that other machines reach.
pub(super) fn host(
    host: &str,
    addresses: &std::io::Result<Vec<(IpAddr, bool)>>,
    has_keys: bool,
) -> Vec<Finding> {
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(error) => {
            let what = format!("`host` is `{host}`, which has no address here: {error}");
            let hint = "set `host: 127.0.0.1`, or `0.0.0.0` for all addresses";
            return vec![Finding::broken(what).with_hint(hint)];
        }
    };
    let mut findings = Vec::new();
    if let Some((ip, _)) = addresses.iter().find(|(_, is_here)| !is_here) {
        findings.push(
            Finding::broken(format!(
                "`host` is `{host}`, and {ip} is no address of this machine now"
            ))
            .with_hint(
                "set `host: 127.0.0.1`, or `0.0.0.0` for all addresses, whichever there are",
            ),
        );
    }
    let is_open = addresses.iter().any(|(ip, _)| !ip.is_loopback());
    if is_open && !has_keys {
        findings.push(Finding::warning(OPEN.trim_end_matches('.')));
    }
    findings
}

/// The state of Apple's firewall.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Firewall {
    /// Of `--getglobalstate`.
    state: String,
    /// Of `--getblockall`.
    block_all: String,
    /// Of `--getappblocked`, about the hub's program.
    hub: String,
}

impl Firewall {
    /// Asks it; `None` where there is none.
    pub(super) async fn ask() -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        if !Path::new(FIREWALL).exists() {
            return None;
        }
        let ask = async |question: &str, about: Option<&Path>| {
            let mut asking = Command::new(FIREWALL);
            let asking = asking.arg(question).args(about).stdin(Stdio::null());
            let output = asking.output().await.ok()?;
            Some(String::from_utf8_lossy(&output.stdout).to_lowercase())
        };
        Some(Self {
            state: ask("--getglobalstate", None).await?,
            block_all: ask("--getblockall", None).await?,
            hub: ask("--getappblocked", Some(&program)).await?,
        })
    }
}

/// A firewall that keeps other machines from a hub that is open to them.
pub(super) fn firewall(said: &Firewall, is_open: bool) -> Option<Finding> {
    let is_on = !said.state.contains("disabled");
    if !is_on || !is_open {
        return None;
    }
    let settings = "System Settings > Network > Firewall > Options";
    let blocks_all = said.block_all.contains("enabled");
    if blocks_all {
        return Some(
            Finding::warning("The macOS firewall blocks all incoming connections: no other machine reaches the hub")
                .with_hint(format!("change that in {settings}, or set `host: 127.0.0.1`")),
        );
    }
    if said.hub.contains("is blocked") || said.hub.contains("are blocked") {
        return Some(
            Finding::warning(
                "The macOS firewall blocks connections to the hub: no other machine reaches it",
            )
            .with_hint(format!("allow it in {settings}, or set `host: 127.0.0.1`")),
        );
    }
    let is_known = said.hub.contains("permitted");
    (!is_known).then(|| {
        Finding::note(
            "The macOS firewall asks whether the hub may accept connections when it starts",
        )
        .with_hint(format!(
            "allow it then, or in {settings}: a service cannot ask"
        ))
    })
}

/// A proxy that clients would ask for the hub.
pub(super) fn proxy(variable: Option<&str>, host: &str) -> Option<Finding> {
    let variable = variable?;
    Some(
        Finding::warning(format!(
            "{variable} is set, and NO_PROXY does not name {host}: clients that are started here may ask the proxy for the hub"
        ))
        .with_hint(format!("`export NO_PROXY={host},localhost`; `launch` does so by itself")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::told;
    use super::*;

    #[test]
    fn the_process_that_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = holder(port, None).unwrap();
        assert_eq!(found.pid, std::process::id());
        drop(listener);
        assert_eq!(holder(port, None), None);
    }

    #[test]
    fn who_has_the_port_is_told_or_how_to_find_out() {
        let holder = Holder {
            pid: 4711,
            program: "python3".to_owned(),
        };
        let answer = Some("it does not speak HTTP");
        let findings = [
            taken("Port 8000 on 127.0.0.1", 8000, answer, Some(&holder)),
            taken("Port 8000 on 127.0.0.1", 8000, None, None),
            split("0.0.0.0", "[::1]:8000", Some(&holder)),
            split("::1", "127.0.0.1:8000", None),
        ];
        insta::assert_snapshot!(told(&findings), @"
        broken: Port 8000 on 127.0.0.1 is taken by `python3` (process 4711); it does not speak HTTP
          hint: stop that program, or set another `port`
        broken: Port 8000 on 127.0.0.1 is taken by another program
          hint: `sudo lsof -nP -iTCP:8000 -sTCP:LISTEN` tells which; stop it, or set another `port`
        warning: `python3` (process 4711) has the hub's port at [::1]:8000: a client that asks `localhost` may reach it in the hub's place
          hint: have clients ask 127.0.0.1, stop that program, or set another `port`
        warning: Another program has the hub's port at 127.0.0.1:8000: a client that asks `localhost` may reach it in the hub's place
          hint: have clients ask ::1, stop that program, or set another `port`
        ");
    }

    #[test]
    fn localhost_may_lead_to_the_other_family() {
        let of = |host| other_family(host).map(|ip| ip.to_string());
        for host in ["127.0.0.1", "0.0.0.0"] {
            assert_eq!(of(host).as_deref(), Some("::1"));
        }
        for host in ["::", "::1"] {
            assert_eq!(of(host).as_deref(), Some("127.0.0.1"));
        }
        for host in ["192.168.0.7", "localhost", "studio.local"] {
            assert_eq!(of(host), None);
        }
    }

    #[test]
    fn a_host_that_is_not_here_is_broken_and_one_that_is_open_without_keys_a_warning() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let told = [
            told(&host(
                "127.0.0.1",
                &Ok(vec![(ip("127.0.0.1"), true)]),
                false,
            )),
            told(&host(
                "192.0.2.1",
                &Ok(vec![(ip("192.0.2.1"), false)]),
                true,
            )),
            told(&host("0.0.0.0", &Ok(vec![(ip("0.0.0.0"), true)]), false)),
            told(&host("0.0.0.0", &Ok(vec![(ip("0.0.0.0"), true)]), true)),
            told(&host(
                "no.where",
                &Err(std::io::Error::other("not known")),
                true,
            )),
        ];
        let told: Vec<_> = told.into_iter().filter(|told| !told.is_empty()).collect();
        assert_eq!(told.len(), 3);
        insta::assert_snapshot!(told.join("\n"), @"
        broken: `host` is `192.0.2.1`, and 192.0.2.1 is no address of this machine now
          hint: set `host: 127.0.0.1`, or `0.0.0.0` for all addresses, whichever there are
        warning: The control API is open to the network: whoever reaches this machine can start and stop models. To close it, set `host: 127.0.0.1` in hub.yaml, or make a key with `mlx-openai-server-hub key add NAME`
        broken: `host` is `no.where`, which has no address here: not known
          hint: set `host: 127.0.0.1`, or `0.0.0.0` for all addresses
        ");
    }

    #[test]
    fn a_firewall_matters_if_the_hub_is_open() {
        let said = |state: &str, block_all: &str, hub: &str| Firewall {
            state: state.to_owned(),
            block_all: block_all.to_owned(),
            hub: hub.to_owned(),
        };
        let on = "firewall is enabled. (state = 1)";
        let free = "firewall has block all state set to disabled.";
        let permitted = "incoming connection to the application is permitted.";
        for well in [
            said("firewall is disabled. (state = 0)", free, "is blocked"),
            said(on, free, permitted),
        ] {
            assert_eq!(firewall(&well, true), None);
        }
        let all = [
            said(
                on,
                "firewall has block all state set to enabled.",
                permitted,
            ),
            said(
                on,
                free,
                "incoming connection to the application is blocked.",
            ),
            said(on, free, "the application is not part of the firewall."),
        ];
        assert_eq!(firewall(&all[0], false), None);
        let findings: Vec<_> = all.iter().filter_map(|said| firewall(said, true)).collect();
        insta::assert_snapshot!(told(&findings), @"
        warning: The macOS firewall blocks all incoming connections: no other machine reaches the hub
          hint: change that in System Settings > Network > Firewall > Options, or set `host: 127.0.0.1`
        warning: The macOS firewall blocks connections to the hub: no other machine reaches it
          hint: allow it in System Settings > Network > Firewall > Options, or set `host: 127.0.0.1`
        note: The macOS firewall asks whether the hub may accept connections when it starts
          hint: allow it then, or in System Settings > Network > Firewall > Options: a service cannot ask
        ");
    }

    #[test]
    fn a_proxy_is_told_with_the_way_around_it() {
        assert_eq!(proxy(None, "127.0.0.1"), None);
        let finding = proxy(Some("HTTP_PROXY"), "127.0.0.1").unwrap();
        insta::assert_snapshot!(told(&[finding]), @"
        warning: HTTP_PROXY is set, and NO_PROXY does not name 127.0.0.1: clients that are started here may ask the proxy for the hub
          hint: `export NO_PROXY=127.0.0.1,localhost`; `launch` does so by itself
        ");
    }
}
