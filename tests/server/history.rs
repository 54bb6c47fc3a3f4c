//! The figures of the last hour, through hubs that follow one another.

use serde_json::Value;

use crate::alpha;
use crate::support::{Hub, SOON, wait_for, wait_until};

/// The history once it has so many requests of `alpha`.
fn history_of(hub: &Hub, requests: u64) -> Value {
    wait_for(&format!("{requests} requests in the history"), SOON, || {
        let history = hub.http.get("/hub/history").json();
        let points = history["models"]["alpha"]["requests"].as_array()?;
        let sum: u64 = points.iter().filter_map(Value::as_u64).sum();
        (sum == requests).then_some(history)
    })
}

fn loads(history: &Value) -> usize {
    let loads = &history["models"]["alpha"]["loads"];
    loads.as_array().unwrap().len()
}

#[test]
fn the_last_hour_is_kept_by_the_hubs_that_follow() {
    let mut hub = Hub::start(&alpha(&["--tokens", "7"]));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let history = history_of(&hub, 1);
    let alpha = &history["models"]["alpha"];
    assert_eq!(loads(&history), 1, "{history}");
    let points = history["memory_bytes"].as_array().unwrap().len();
    for key in ["requests", "memory_bytes", "tokens_per_second"] {
        assert_eq!(alpha[key].as_array().unwrap().len(), points, "{key}");
    }
    let rates = alpha["tokens_per_second"].as_array().unwrap().iter();
    let rate: f64 = rates.filter_map(Value::as_f64).sum();
    assert!((rate - 0.7).abs() < 1e-6, "{history}");

    wait_until("a point after it", SOON, || {
        let memory = hub.http.get("/hub/history").json()["memory_bytes"].clone();
        memory.as_array().unwrap().len() > points
    });
    assert_eq!(hub.restart().status.code(), Some(0));
    let handed_on = history_of(&hub, 1);
    assert_eq!(loads(&handed_on), 1);
    // Each in its time, and not all at the restart.
    let requests = handed_on["models"]["alpha"]["requests"].as_array().unwrap();
    let before = alpha["requests"].as_array().unwrap();
    assert_eq!(requests[..points], before[..], "{handed_on}");
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    history_of(&hub, 2);

    // One that has ended leaves a file.
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    assert!(hub.logs().join("hub_history.json").exists());
    hub.serve_again();
    assert_eq!(loads(&history_of(&hub, 2)), 1);
}
