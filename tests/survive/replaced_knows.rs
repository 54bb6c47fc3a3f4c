//! What a hub knows goes along to the one that takes its place: how long models have been idle, how often they
//! crashed, what policies keep, what was learned and counted, and what they say of the past.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Hub, SOON, wait_for, wait_until};
use crate::{models, worker};

fn restart(hub: &Hub) {
    let restarted = hub.restart();
    assert_eq!(restarted.status.code(), Some(0), "{restarted:?}");
}

/// The lines of app.log that the policy `name` wrote.
fn logged(hub: &Hub, word: &str) -> Vec<String> {
    let log = std::fs::read_to_string(hub.logs().join("app.log")).unwrap_or_default();
    let lines = log.lines().filter_map(|line| line.split_once(word));
    lines
        .map(|(_, rest)| {
            rest.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

fn yaml(knobs: &[&str]) -> String {
    let alpha = models(&[("alpha", "default: true, jit_enabled: true")]);
    format!("{}\n{alpha}", worker(knobs))
}

/// A model, and a policy.
fn hub(knobs: &[&str], policy: &str) -> Hub {
    let hub = Hub::start_with(&yaml(knobs), &[("mine.lua", policy)]);
    hub.wait_for_state("alpha", "running", "unloaded");
    hub
}

#[test]
fn a_model_is_idle_for_as_long_as_nobody_asks_it_whichever_hub_there_is() {
    let policy = r#"return { on_idle = function(model, hub)
      hub.log.info("idle=" .. model.idle_seconds)
      return hub.keep{}
    end }"#;
    let hub = hub(&[], policy);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let last = hub.model("alpha")["last_request_at"].clone();
    assert!(last.is_f64(), "{last}");
    let began = Instant::now();
    let mut idle = 0.0;
    for _ in 0..4 {
        restart(&hub);
        let asked = logged(&hub, "idle=").len();
        let seconds = wait_for("the new hub to ask the policy", SOON, || {
            let seconds = logged(&hub, "idle=");
            seconds.get(asked)?.parse::<f64>().ok()
        });
        assert!(seconds > idle, "{seconds} after {idle}");
        idle = seconds;
        assert_eq!(hub.model("alpha")["last_request_at"], last);
    }
    // Each of the hubs has lived for a part of that only.
    let since = began.elapsed().as_secs_f64();
    assert!(idle > since / 2.0, "idle for {idle} s after {since} s");
}

#[test]
fn crashes_are_counted_on() {
    let policy = r#"return { on_exit = function(exit, hub)
      hub.log.info("crashes=" .. exit.crashes)
      return hub.leave{}
    end }"#;
    let hub = hub(&["--crash-on-request", "1"], policy);
    for count in 1..=3 {
        assert_eq!(hub.http.chat("alpha", "hello").status, 502);
        let counts = wait_for("the policy to be asked", SOON, || {
            let counts = logged(&hub, "crashes=");
            (counts.len() == count).then_some(counts)
        });
        assert_eq!(counts.last().unwrap(), &count.to_string(), "{counts:?}");
        hub.wait_for_state("alpha", "failed", "failed");
        let before = hub.model("alpha");
        restart(&hub);
        let after = hub.model("alpha");
        for key in [
            "process_state",
            "exit_code",
            "stopped_at",
            "memory_last_error",
        ] {
            assert_eq!(after[key], before[key], "{key}");
        }
    }
}

#[test]
fn what_policies_keep_and_what_was_learned_and_counted_is_kept() {
    // Observers write it.
    let policy = r#"
    hub.on("request.finished", function(event, hub)
      hub.state.count = (hub.state.count or 0) + 1
      hub.log.info("count=" .. hub.state.count)
    end)
    return { on_idle = function(model, hub)
      hub.log.info("load=" .. model.load_seconds)
      return hub.keep{}
    end }"#;
    let knobs = ["--load-seconds", "0.5", "--memory-mb", "30"];
    let hub = hub(&knobs, policy);
    for count in 1..=3_u32 {
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        wait_until("the count", SOON, || {
            let last = logged(&hub, "count=")
                .last()
                .and_then(|last| last.parse::<f64>().ok());
            last == Some(f64::from(count))
        });
        wait_until("its memory to be measured", SOON, || {
            hub.model("alpha")["peak_bytes"].is_u64()
        });
        let before = hub.model("alpha");
        restart(&hub);
        let after = hub.model("alpha");
        let asked = logged(&hub, "load=").len();
        wait_until("the new hub to ask the policy", SOON, || {
            logged(&hub, "load=").len() > asked
        });
        for key in ["last_load_at", "last_request_at", "started_at", "usage"] {
            assert_ne!(before[key], Value::Null, "{key}");
            assert_eq!(after[key], before[key], "{key}");
        }
        assert!(after["peak_bytes"].as_u64() >= before["peak_bytes"].as_u64());
        assert_eq!(after["usage"]["requests"], count, "{after}");
    }
    let loads = logged(&hub, "load=");
    assert!(loads.iter().all(|load| *load == loads[0]), "{loads:?}");
    assert!(loads[0].parse::<f64>().unwrap() >= 0.5, "{loads:?}");

    // In another log folder too.
    hub.configure(&format!("log_path: newlogs\n{}", yaml(&knobs)));
    restart(&hub);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let log = hub.folder().join("newlogs/app.log");
    wait_until("the count in the new log", SOON, || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("count=4"))
    });
    assert_eq!(hub.model("alpha")["usage"]["requests"], 4);
    assert_eq!(hub.record.workers().len(), 1);
}

#[test]
fn a_response_is_continued_and_read_whichever_hub_there_is() {
    for dialect in ["jit", "1.8.1"] {
        let alpha = models(&[("alpha", "default: true, jit_enabled: true")]);
        let hub = Hub::start(&format!("{}\n{alpha}", worker(&["--dialect", dialect])));
        let ask = |previous: &Value| {
            let body =
                json!({"model": "alpha", "input": "hello", "previous_response_id": previous});
            hub.http.post("/v1/responses", &body).json()
        };
        let first = ask(&Value::Null);
        restart(&hub);
        if dialect == "jit" {
            let path = format!("/v1/responses/{}", first["id"].as_str().unwrap());
            assert_eq!(hub.http.get(&path).json(), first);
            let second = ask(&first["id"]);
            assert_eq!(second["status"], "completed", "{second}");
        } else {
            // Its worker keeps it, or does not: the hub knows whom to ask.
            let path = format!("/v1/responses/{}", first["id"].as_str().unwrap());
            let answer = hub.http.get(&path);
            assert!(
                !answer.text().contains("was not made through this hub"),
                "{answer:?}"
            );
        }
    }
}
