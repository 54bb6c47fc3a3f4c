//! The configurations of gateways, as texts. Each waits for a load, and asks nothing that loads a model.

use std::fmt::Write as _;
use std::time::Duration;

use crate::config::Config;

/// Time for requests that take long although their model is in memory.
const LONG_ANSWER: Duration = Duration::from_secs(1800);

/// A hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// `http://HOST:PORT`.
    pub(super) url: String,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Member {
    /// `HOST:PORT`.
    fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

/// Longest time from a request to the first byte of its answer: a load, and then a long prompt.
fn longest(config: &Config) -> u64 {
    (config.load_timeout + LONG_ANSWER).as_secs()
}

/// The command that runs SMG. Hubs register by themselves.
pub(super) fn smg(config: &Config) -> String {
    let seconds = longest(config);
    let port = config.fleet.as_ref().and_then(|fleet| {
        let url = url::Url::parse(&fleet.gateway).ok()?;
        url.port_or_known_default()
    });
    let port = port.unwrap_or(30_000);
    let key = config
        .fleet
        .as_ref()
        .is_some_and(|fleet| fleet.gateway_key.is_some());
    let key = match key {
        true => " \\\n  --api-key \"$GATEWAY_KEY\"",
        false => "",
    };
    format!(
        "#!/bin/sh\n\
         # SMG for hubs that register by themselves: pip install smg\n\
         # A hub that is loading a model answers nothing for up to {} s: no limit is shorter than that.\n\
         exec smg launch \\\n  \
           --host 0.0.0.0 --port {port} \\\n  \
           --enable-igw \\\n  \
           --request-timeout-secs {seconds} \\\n  \
           --stream-body-stall-timeout-secs {seconds} \\\n  \
           --load-monitor-interval 5 \\\n  \
           --retry-max-retries 3{key}\n",
        config.load_timeout.as_secs(),
    )
}

/// LiteLLM's config.yaml: each model at each hub that has it.
pub(super) fn litellm(config: &Config, members: &[(Member, Vec<String>)]) -> String {
    let seconds = longest(config);
    let mut text = String::from(
        "# litellm --config config.yaml, with two variables:\n\
         # HUB_KEY is a key of the hubs, or any word; LITELLM_MASTER_KEY is the key that clients send, such as\n\
         # sk-$(openssl rand -hex 32).\nmodel_list:\n",
    );
    for (member, models) in members {
        for model in models {
            let _ = write!(
                text,
                "  - model_name: \"{model}\"\n    litellm_params:\n      model: \"openai/{model}\"\n      \
                 api_base: \"{}/v1\"\n      api_key: \"os.environ/HUB_KEY\"\n      \
                 timeout: {seconds}\n      stream_timeout: {seconds}\n    \
                 model_info: {{disable_background_health_check: true}}\n",
                member.url
            );
        }
    }
    let _ = write!(
        text,
        "router_settings:\n  routing_strategy: least-busy\n  num_retries: 2\n  timeout: {seconds}\n\
         general_settings:\n  master_key: \"os.environ/LITELLM_MASTER_KEY\"\n  # Its health checks are chats, which would load every model: it makes none, \
         not even if asked for /health.\n  \
         background_health_checks: false\n  health_check_skip_disabled_background_models: true\n"
    );
    text
}

/// haproxy.cfg for hubs with the same models.
pub(super) fn haproxy(config: &Config, members: &[Member]) -> String {
    let seconds = longest(config);
    let mut text = format!(
        "# haproxy -f haproxy.cfg\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client {seconds}s\n  \
         # From a request to its answer: a model may be loaded meanwhile.\n  \
         timeout server {seconds}s\n  timeout tunnel {seconds}s\n  retries 2\n  \
         option redispatch\n  retry-on conn-failure empty-response 503\n\n\
         frontend door\n  bind :30000\n  option forwardfor\n  default_backend hubs\n\n\
         backend hubs\n  balance leastconn\n  \
         # 503 while a hub is drained or shuts down; it loads nothing.\n  \
         option httpchk GET /health/ready\n  http-check expect status 200\n  \
         default-server check inter 2s fall 2 rise 1\n"
    );
    for (number, member) in (1..).zip(members) {
        let _ = writeln!(text, "  server hub{number} {}", member.authority());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_yaml;

    fn config() -> Config {
        from_yaml(
            "load_timeout: 240\nfleet: {gateway: 'http://door:30001', advertise: 'http://a:8000'}\n\
             models: [{name: alpha, model_path: x}]",
        )
    }

    fn member(host: &str) -> Member {
        Member {
            url: format!("http://{host}:8000"),
            host: host.to_owned(),
            port: 8000,
        }
    }

    #[test]
    fn the_gateways_wait_longer_than_a_load_takes() {
        let config = config();
        let members = [member("studio.local"), member("mini.local")];
        assert!(smg(&config).contains("--port 30001"));
        assert!(smg(&config).contains("--request-timeout-secs 2040"));
        let haproxy = haproxy(&config, &members);
        assert!(haproxy.contains("timeout server 2040s"), "{haproxy}");
        assert!(haproxy.contains("server hub2 mini.local:8000"), "{haproxy}");
        let models = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let members = [
            (member("studio.local"), models(&["alpha", "beta"])),
            (member("mini.local"), models(&["alpha"])),
        ];
        let yaml: serde_json::Value = serde_yaml::from_str(&litellm(&config, &members)).unwrap();
        let list = yaml["model_list"].as_array().unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(list[2]["model_name"], "alpha");
        assert_eq!(
            list[2]["litellm_params"]["api_base"],
            "http://mini.local:8000/v1"
        );
        assert_eq!(list[0]["litellm_params"]["timeout"], 2040);
        let settings = &yaml["general_settings"];
        assert_eq!(settings["master_key"], "os.environ/LITELLM_MASTER_KEY");
        assert_eq!(settings["background_health_checks"], false);
        assert_eq!(
            settings["health_check_skip_disabled_background_models"],
            true
        );
        for model in list {
            assert_eq!(model["model_info"]["disable_background_health_check"], true);
        }
    }
}
