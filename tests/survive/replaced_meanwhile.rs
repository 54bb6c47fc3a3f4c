//! What is under way while another hub takes the place of one: it moves along, or ends well.

use std::os::unix::fs::PermissionsExt;
use std::thread;

use serde_json::json;

use crate::support::http::{Answer, chat};
use crate::support::{BINARY, Hub, SOON, processes, wait_until};
use crate::{models, pid, wait_for_pid, worker};

const CHAT: &str = "/v1/chat/completions";

/// A new hub that gets ready and waits until it may go on, as on a slow machine.
struct HeldBack<'a> {
    hub: &'a Hub,
}

impl<'a> HeldBack<'a> {
    /// The next restart starts it.
    fn next_of(hub: &'a Hub) -> Self {
        let script = hub.folder().join("held_back.sh");
        let text = format!(
            "#!/bin/sh\ncd {:?}\ntouch has_begun\nwhile ! [ -e may_go_on ]; do sleep 0.02; done\n\
             exec {BINARY:?} \"$@\"\n",
            hub.folder()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
        let program = serde_json::to_vec(&script).unwrap();
        std::fs::write(hub.logs().join("hub_program.json"), program).unwrap();
        Self { hub }
    }

    fn wait_until_begun(&self) {
        let begun = self.hub.folder().join("has_begun");
        wait_until("the new hub to be started", SOON, || begun.exists());
    }

    fn go_on(&self) {
        std::fs::write(self.hub.folder().join("may_go_on"), "").unwrap();
    }
}

fn restart(hub: &Hub) -> Answer {
    hub.http.post("/hub/restart", &json!({}))
}

/// Both ways to run a hub.
fn hubs(yaml: &str) -> [Hub; 2] {
    [Hub::start(yaml), Hub::start_in_background(yaml)]
}

#[test]
fn restarts_that_are_wished_for_at_once_are_all_done() {
    let alpha = models(&[("alpha", "jit_enabled: true")]);
    for hub in hubs(&format!("{}\n{alpha}", worker(&[]))) {
        let first = hub.serving_pid();
        let held_back = HeldBack::next_of(&hub);
        let answers = thread::scope(|scope| {
            let one = scope.spawn(|| restart(&hub));
            held_back.wait_until_begun();
            let other = scope.spawn(|| restart(&hub));
            // Its connection is the third: those of the two, and this one.
            assert_eq!(hub.http.get("/health").status, 200);
            held_back.go_on();
            [one, other].map(|answer| answer.join().unwrap())
        });
        for answer in &answers {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let pids = answers.map(|answer| answer.json()["details"]["pid"].as_u64().unwrap());
        assert!(pids.contains(&hub.serving_pid().into()), "{pids:?}");
        hub.follow();
        if hub.is_in_background() {
            wait_until("the first hub to be gone", SOON, || {
                !processes::is_alive(first)
            });
        }
    }
}

#[test]
fn a_stop_while_another_hub_gets_ready_ends_that_one_too() {
    let yaml = format!("{}\n{}", worker(&[]), models(&[("alpha", "default: true")]));
    for hub in hubs(&yaml) {
        hub.wait_for_state("alpha", "running", "loaded");
        let (first, worker) = (hub.serving_pid(), wait_for_pid(&hub, "alpha"));
        let held_back = HeldBack::next_of(&hub);
        let next = thread::scope(|scope| {
            let restarted = scope.spawn(|| restart(&hub));
            held_back.wait_until_begun();
            assert_eq!(hub.http.post("/hub/shutdown", &json!({})).status, 200);
            held_back.go_on();
            let answer = restarted.join().unwrap();
            u32::try_from(answer.json()["details"]["pid"].as_u64().unwrap_or_default()).unwrap()
        });
        for process in [first, next, worker] {
            wait_until("everything to end", SOON, || {
                process == 0 || !processes::is_alive(process)
            });
        }
        assert_eq!(hub.worker_processes(), [0; 0]);
    }
}

#[test]
fn a_worker_that_no_longer_fits_is_replaced_once_however_many_restarts_follow() {
    // Long enough for several restarts to meet it.
    let knobs = worker(&["--exit-seconds", "2"]);
    let yaml = |context: u32| {
        let alpha = format!("default: true, context_length: {context}");
        format!(
            "stop_timeout: 20\n{knobs}\n{}",
            models(&[("alpha", &alpha)])
        )
    };
    for hub in hubs(&yaml(1024)) {
        hub.wait_for_state("alpha", "running", "loaded");
        let old = wait_for_pid(&hub, "alpha");
        hub.configure(&yaml(2048));
        for _ in 0..3 {
            let restarted = hub.restart();
            assert_eq!(restarted.status.code(), Some(0), "{restarted:?}");
        }
        wait_until("the new worker", SOON, || {
            pid(&hub, "alpha").is_some_and(|pid| pid != old)
        });
        hub.wait_for_state("alpha", "running", "loaded");
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        assert_eq!(hub.record.workers().len(), 2, "{:?}", hub.record.workers());
        assert!(processes::members(old).is_empty());
    }
}

#[test]
fn a_model_whose_old_worker_is_still_used_by_the_hub_before_can_be_stopped() {
    let knobs = worker(&["--tokens", "60", "--token-ms", "50"]);
    let yaml = |context: u32| {
        let alpha = format!("default: true, context_length: {context}");
        format!("{knobs}\n{}", models(&[("alpha", &alpha)]))
    };
    for hub in hubs(&yaml(1024)) {
        hub.wait_for_state("alpha", "running", "loaded");
        let stream = hub.http.stream("alpha", "hello");
        hub.configure(&yaml(2048));
        assert_eq!(hub.restart().status.code(), Some(0));
        assert_eq!(hub.model("alpha")["active_requests"], 1);
        let stop = hub.begin(&["stop-model", "alpha"]);
        assert!(stream.said().contains("hello"));
        let stopped = stop.end_within(SOON);
        assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
        hub.wait_for_state("alpha", "stopped", "unloaded");
        assert_eq!(hub.worker_processes(), [0; 0]);
        assert_eq!(hub.record.workers().len(), 1);
    }
}

#[test]
fn nothing_takes_a_model_from_a_stream_of_the_hub_before() {
    let knobs = worker(&["--tokens", "60", "--token-ms", "50"]);
    let group = "group: g, jit_enabled: true";
    let yaml = |names: &[(&str, &str)]| {
        let groups = "groups: [{name: g, max_loaded: 1}]\npolicies: [lru_swap]";
        format!("{groups}\n{knobs}\n{}", models(names))
    };
    for take in [&["load", "beta"][..], &["unload", "alpha"], &["reload"]] {
        let hub = Hub::start(&yaml(&[("alpha", group), ("beta", group)]));
        for model in ["alpha", "beta"] {
            assert_eq!(hub.act(model, "start").status, 200);
        }
        let stream = hub.http.stream("alpha", "hello");
        wait_until("the stream", SOON, || {
            hub.model("alpha")["active_requests"] == 1
        });
        assert_eq!(hub.restart().status.code(), Some(0));
        let worker = wait_for_pid(&hub, "alpha");
        if take == ["reload"] {
            hub.configure(&yaml(&[("beta", group)]));
        }
        let taking = hub.begin(take);
        assert!(stream.said().contains("hello"), "{take:?}");
        let taken = taking.end_within(SOON);
        assert_eq!(taken.status.code(), Some(0), "{take:?}: {taken:?}");
        if take[0] == "load" {
            hub.wait_for_state("beta", "running", "loaded");
        }
        wait_until("its worker to be gone", SOON, || {
            !processes::is_alive(worker)
        });
    }
}

/// One request of a model at a time.
const ONE_AT_A_TIME: &str = r#"return {
  on_request = function(req, hub)
    local model = hub.models[req.model]
    if model and model.active + model.waiting >= 1 then
      return hub.wait{ seconds = 600 }
    end
  end,
}"#;

#[test]
fn a_request_that_waits_for_its_turn_waits_on_with_the_new_hub() {
    let knobs = worker(&["--tokens", "60", "--token-ms", "50"]);
    let yaml = format!("{knobs}\n{}", models(&[("alpha", "default: true")]));
    let hub = Hub::start_with(&yaml, &[("one_at_a_time.lua", ONE_AT_A_TIME)]);
    hub.wait_for_state("alpha", "running", "loaded");
    let http = hub.http;
    let stream = http.stream("alpha", "first");
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let mut body = chat("alpha", "second", false);
            body["max_tokens"] = json!(2);
            http.post(CHAT, &body)
        });
        let parked = |hub: &Hub| hub.model("alpha")["parked_requests"] == 1;
        wait_until("the second request to be parked", SOON, || parked(&hub));
        for _ in 0..2 {
            assert_eq!(hub.restart().status.code(), Some(0));
            wait_until("it to be parked by the new hub", SOON, || parked(&hub));
            assert!(!waiting.is_finished());
        }
        assert!(stream.said().contains("first"));
        let answer = waiting.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
    assert_eq!(hub.record.requests(CHAT).len(), 2);
}

#[test]
fn a_stream_that_tells_of_a_load_goes_on_when_the_hub_is_replaced() {
    let knobs = worker(&["--load-seconds", "3", "--tokens", "3"]);
    let alpha = models(&[("alpha", "default: true, jit_enabled: true")]);
    for hub in hubs(&format!("loading_notice: 1\n{knobs}\n{alpha}")) {
        let stream = hub.http.stream("alpha", "hello");
        // The head is there before the model is.
        assert_eq!(stream.status, 200);
        assert_eq!(hub.model("alpha")["memory_state"], "loading");
        let restarted = hub.restart();
        assert_eq!(restarted.status.code(), Some(0), "{restarted:?}");
        assert_eq!(hub.model("alpha")["memory_state"], "loading");
        let said = stream.said();
        assert!(!said.is_empty());
        assert_eq!(hub.record.workers().len(), 1);
    }
}

#[test]
fn a_command_that_waits_for_a_model_ends_as_without_the_restart() {
    let knobs = worker(&["--load-seconds", "3", "--exit-seconds", "2"]);
    let alpha = models(&[("alpha", "default: true, jit_enabled: true")]);
    for hub in hubs(&format!("stop_timeout: 20\n{knobs}\n{alpha}")) {
        hub.wait_for_state("alpha", "running", "unloaded");
        for (verb, under_way, at_last) in [
            ("load-model", "loading", ["running", "loaded"]),
            ("unload-model", "unloading", ["running", "unloaded"]),
            ("start-model", "unloaded", ["running", "unloaded"]),
            ("load-model", "loading", ["running", "loaded"]),
            ("stop-model", "unloading", ["stopped", "unloaded"]),
        ] {
            let command = hub.begin(&[verb, "alpha"]);
            wait_until(&format!("{verb} to be under way"), SOON, || {
                hub.model("alpha")["memory_state"] == under_way
            });
            let restarted = hub.restart();
            assert_eq!(restarted.status.code(), Some(0), "{restarted:?}");
            let ended = command.end_within(SOON);
            assert_eq!(ended.status.code(), Some(0), "{verb}: {ended:?}");
            let [process, memory] = at_last;
            let model = hub.model("alpha");
            assert_eq!(model["process_state"], process, "{verb}");
            assert_eq!(model["memory_state"], memory, "{verb}");
        }
        assert_eq!(hub.record.workers().len(), 2);
    }
}
