//! `fleet config`: a complete configuration of a gateway for the hubs named.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use url::Url;

use super::files::{self, Member};
use crate::cli::client::Client;
use crate::cli::hub_yaml::HubYaml;
use crate::cli::render::Out;
use crate::config::Config;

/// Print a complete configuration of a gateway
///
/// `smg` is for hubs that register by themselves, as `fleet` in hub.yaml has them do: it needs no
/// list of hubs. `litellm` and `haproxy` list the hubs; without HUB this one, at its `advertise`.
/// LiteLLM sends a request to a hub that has the model, so the hubs named are asked for theirs;
/// HAProxy does not look into requests and is for hubs with the same models. All of them wait for a
/// model that is being loaded, and none asks a question that would load one.
///
/// Examples:
///   mlx-openai-server-hub fleet config smg
///   mlx-openai-server-hub fleet config litellm http://studio.local:8000 http://mini.local:8000
///   mlx-openai-server-hub fleet config haproxy http://studio.local:8000 http://mini.local:8000
///
/// Exit status: 0; 1 when a hub does not say which models it has.
#[allow(rustdoc::bare_urls, reason = "they are words of a command line")]
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Configuration {
    /// The gateway
    #[arg(value_enum)]
    gateway: Kind,
    /// The hubs' addresses
    #[arg(value_name = "HUB")]
    hubs: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Shepherd Model Gateway: hubs register by themselves
    Smg,
    /// LiteLLM: a list of hubs and their models
    Litellm,
    /// HAProxy: hubs with the same models
    Haproxy,
}

impl Configuration {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let config = hub_yaml.config()?;
        let text = match self.gateway {
            Kind::Smg if !self.hubs.is_empty() => {
                bail!(
                    "smg needs no list of hubs: each registers by itself, with `fleet` in its hub.yaml"
                )
            }
            Kind::Smg => files::smg(config),
            Kind::Litellm => {
                let mut members = Vec::new();
                for member in members_of(self.hubs, config)? {
                    let client = Client::new(&member.host, member.port, &hub_yaml.path);
                    let models = client.names().await;
                    let models = models.with_context(|| format!("{} was not asked", member.url))?;
                    members.push((member, models));
                }
                files::litellm(config, &members)
            }
            Kind::Haproxy => files::haproxy(config, &members_of(self.hubs, config)?),
        };
        out.text(&text);
        Ok(ExitCode::SUCCESS)
    }
}

fn members_of(hubs: Vec<String>, config: &Config) -> anyhow::Result<Vec<Member>> {
    if hubs.is_empty() {
        let advertise = config.fleet.as_ref().map(|fleet| &*fleet.advertise);
        let Some(advertise) = advertise else {
            bail!(
                "no hub is named\nhint: name the hubs by their addresses, as http://studio.local:8000, or set \
                 `advertise` in `fleet`"
            );
        };
        return Ok(vec![member(advertise)?]);
    }
    hubs.iter().map(|hub| member(hub)).collect()
}

/// A hub by its address; without a port, at the usual one.
fn member(written: &str) -> anyhow::Result<Member> {
    let text = match written.contains("://") {
        true => written.to_owned(),
        false => format!("http://{written}"),
    };
    let url = Url::parse(&text).ok().filter(|url| url.scheme() == "http");
    let host = url.as_ref().and_then(Url::host_str);
    let (Some(url), Some(host)) = (&url, host) else {
        bail!("`{written}` is no address of a hub\nhint: write it as http://studio.local:8000");
    };
    // 80 is the scheme's, which the parser leaves out.
    let has_port = url.port().is_some() || text.trim_end_matches('/').ends_with(":80");
    let port = match has_port {
        true => url.port().unwrap_or(80),
        false => crate::config::DEFAULT_PORT,
    };
    Ok(Member {
        url: format!("http://{host}:{port}"),
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hubs_are_named_by_their_addresses() {
        for (written, url) in [
            ("http://studio.local:8001", "http://studio.local:8001"),
            ("studio.local", "http://studio.local:8000"),
            ("http://studio.local:80/", "http://studio.local:80"),
            ("http://[fd00::1]:8000", "http://[fd00::1]:8000"),
        ] {
            assert_eq!(member(written).unwrap().url, url, "{written}");
        }
        assert_eq!(member("[fd00::1]").unwrap().host, "fd00::1");
        for written in ["https://studio.local", "http://", "a b"] {
            assert!(member(written).is_err(), "{written}");
        }
    }
}
