//! The first requests to a model that is not loaded.

use serde_json::json;

use crate::support::{Hub, stub};
use crate::{CHAT, DIALECTS, alpha_in, wait_for_active};

const CLIENTS: usize = 50;

#[test]
fn fifty_first_requests_launch_one_worker_and_are_all_answered() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &["--load-seconds", "0.5"]));
        let http = hub.http;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    scope.spawn(move || {
                        let prompt = format!("client {client}");
                        let said = if client % 2 == 0 {
                            http.stream("alpha", &prompt).said()
                        } else {
                            let answer = http.chat("alpha", &prompt).json();
                            answer["choices"][0]["message"]["content"].to_string()
                        };
                        // Each has the answer to its own question.
                        assert!(said.contains(&format!("“{prompt}”")), "{said}");
                    })
                })
                .collect();
            for client in clients {
                client.join().unwrap();
            }
        });
        for event in ["start", "load"] {
            assert_eq!(hub.record.events(event).len(), 1, "{dialect}: {event}");
        }
        assert_eq!(hub.record.requests(CHAT).len(), CLIENTS);
        wait_for_active(&hub, "alpha", 0);
    }
}

/// The delay between the moment a worker is ready and the moment its model takes requests.
#[test]
#[expect(clippy::print_stderr, reason = "the figure is of interest")]
fn a_worker_that_is_ready_is_used_within_100_ms() {
    for (dialect, ready) in [("1.8.1", "ready"), ("jit", "loaded")] {
        let hub = Hub::start(&alpha_in(dialect, &["--load-seconds", "0.1"]));
        let mut delays: Vec<f64> = (1..=5)
            .map(|turn| {
                assert_eq!(hub.act("alpha", "load").status, 200);
                let noticed = hub.model("alpha")["last_load_at"].as_f64().unwrap();
                let events = hub.record.events(ready);
                assert_eq!(events.len(), turn);
                let ready = events[turn - 1]["at"].as_f64().unwrap();
                assert_eq!(hub.act("alpha", "unload").status, 200);
                (noticed - ready) * 1000.0
            })
            .collect();
        delays.sort_by(f64::total_cmp);
        eprintln!("{dialect}: noticed after {delays:.1?} ms");
        assert!(delays[2] <= 100.0, "{dialect}: {delays:?} ms");
    }
}

#[test]
fn requests_join_a_start_that_is_under_way() {
    let hub = Hub::start(&format!(
        "worker_command: {}\nmodels:\n- {{name: alpha, model_path: org/alpha, default: true}}\n",
        stub(&["--load-seconds", "1"])
    ));
    assert_eq!(hub.model("alpha")["process_state"], "starting");
    let http = hub.http;
    let loads = std::thread::spawn(move || {
        let load = http.post("/hub/models/alpha/load", &json!({"reason": "dashboard"}));
        assert_eq!(load.status, 200, "{}", load.text());
    });
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    loads.join().unwrap();
    assert_eq!(hub.record.count("start", "alpha"), 1);
}

#[test]
fn a_model_without_jit_that_was_unloaded_is_loaded_by_the_next_request() {
    let hub = Hub::start(&format!(
        "worker_command: {}\nmodels:\n- {{name: alpha, model_path: org/alpha}}\n",
        stub(&[])
    ));
    assert_eq!(hub.act("alpha", "start").status, 200);
    assert_eq!(hub.act("alpha", "unload").status, 200);
    let model = hub.model("alpha");
    assert_eq!(
        (&model["process_state"], &model["pid"]),
        (&json!("running"), &json!(null))
    );
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(hub.record.count("start", "alpha"), 2);
}

#[test]
fn looking_loads_nothing() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &[]));
        hub.wait_for_state("alpha", "running", "unloaded");
        for path in [
            "/health",
            "/hub",
            "/hub/status",
            "/v1/models",
            "/v1/models/alpha",
        ] {
            assert_eq!(hub.http.get(path).status, 200, "{path}");
        }
        // A request that comes after them is the first to load it.
        assert!(hub.record.events("load").is_empty());
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        assert_eq!(hub.record.events("load").len(), 1);
    }
}
