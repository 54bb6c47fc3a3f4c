//! `/metrics` in the real Prometheus, with the rules and the dashboard of `examples/prometheus`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::alpha;
use crate::support::http::Http;
use crate::support::{Hub, SOON, processes, wait_for, wait_until};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/prometheus")
}

/// A hub that has loaded its model and answered one stream.
fn hub() -> Hub {
    let hub = Hub::start(&alpha(&["--tokens", "6", "--token-ms", "20"]));
    assert!(!hub.http.stream("alpha", "hello").said().is_empty());
    hub
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("mlx_hub_")).collect()
}

#[test]
fn the_rules_and_the_dashboard_ask_for_metrics_that_the_hub_has() {
    let hub = hub();
    for file in ["alerts.yml", "grafana.json"] {
        let text = std::fs::read_to_string(examples().join(file)).unwrap();
        let asked = names(&text);
        assert!(asked.len() > 5, "{file}: {asked:?}");
        // Memory is measured after a while.
        wait_until(&format!("what {file} asks for"), SOON, || {
            asked.is_subset(&names(&hub.http.get("/metrics").text()))
        });
    }
}

/// Ended with the test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Says that a check was not made; with CI=true that is a failure.
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn not_run(why: &str) {
    println!("not run: the metrics in Prometheus: {why}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
}

#[test]
fn prometheus_reads_the_metrics_and_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub();
    let config = std::fs::read_to_string(examples().join("prometheus.yml")).unwrap();
    let config = config
        .replace("localhost:8000", &format!("127.0.0.1:{}", hub.http.port))
        .replace("15s", "1s");
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    std::fs::copy(
        examples().join("alerts.yml"),
        folder.path().join("alerts.yml"),
    )
    .unwrap();
    let port = processes::ports();
    let prometheus = Command::new("prometheus")
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=data")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(prometheus) = prometheus else {
        not_run("prometheus is not installed");
        return;
    };
    let _prometheus = Prometheus(prometheus);
    let http = Http { port };
    let ask = |what: &str| {
        let what = percent_encoding::utf8_percent_encode(what, percent_encoding::NON_ALPHANUMERIC);
        http.try_get(&format!("/api/v1/query?query={what}")).ok()
    };
    let query = |what: &str| -> Option<String> {
        let answer = ask(what)?;
        if answer.status != 200 {
            return None;
        }
        let value = answer.json()["data"]["result"][0]["value"][1].clone();
        Some(value.as_str()?.to_owned())
    };
    wait_until("the hub to be up", SOON * 3, || {
        query("up").as_deref() == Some("1")
    });
    wait_until("the request to be counted", SOON, || {
        query("sum(mlx_hub_requests_total)").as_deref() == Some("1")
    });
    let buckets = "histogram_quantile(0.5,mlx_hub_time_to_first_token_seconds_bucket)";
    let half = wait_for("the quantile", SOON, || query(buckets)?.parse::<f64>().ok());
    assert!(half > 0.0 && half < 60.0, "{half}");
    let rules = || {
        let rules = http.get("/api/v1/rules").json();
        rules["data"]["groups"][0]["rules"]
            .as_array()
            .unwrap()
            .clone()
    };
    wait_until("all rules to be evaluated", SOON, || {
        let rules = rules();
        rules.len() > 5 && rules.iter().all(|rule| rule["health"] != "unknown")
    });
    for rule in rules() {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let dashboard = std::fs::read(examples().join("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    for target in targets.flatten() {
        let asked = target["expr"].as_str().unwrap();
        let answer = ask(&asked.replace("$__rate_interval", "1m")).unwrap();
        assert_eq!(answer.status, 200, "{asked}: {}", answer.text());
    }
}
