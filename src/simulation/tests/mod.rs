//! Stories of a simulated hub under the default policy.

mod stories;

use super::doors::DoorsOf;
use super::testing::asked::word;
use super::*;
use crate::api::{ApiError, Verb};
use crate::config::from_yaml;
use crate::core::admission::{Entrance, Step, Target, decide};
use crate::policy::{RequestVerdict, RequestView, Wait, World};

const CONFIG: &str = "
groups: [{name: g, max_loaded: 1, idle_unload_trigger_min: 10}]
drain_timeout: 30
models:
- {name: a, model_path: org/a, group: g, jit_enabled: true, default: true}
- {name: b, model_path: org/b, group: g, jit_enabled: true, default: true}
- {name: c, model_path: org/c}
";

/// A Monday, 8 o'clock.
const BEGUN: f64 = 1_772_438_400.0;

fn hub(config: &str) -> Simulation {
    let config = from_yaml(config);
    let mut hub = Simulation::new(config, BEGUN, |world| {
        Policies::load(std::path::Path::new("/nonexistent"), &[], world)
    });
    hub.start_defaults();
    hub
}

fn chat(model: &str) -> Box<RequestView> {
    let path = http::Uri::from_static("/v1/chat/completions");
    let body = serde_json::json!({"model": model, "messages": []}).to_string();
    Box::new(RequestView {
        model: Some(model.to_owned()),
        ..RequestView::imagined(path, body.into())
    })
}

impl Simulation {
    fn set_worker(&mut self, model: &str, change: impl FnOnce(&mut SimulatedWorker)) {
        let mut worker = self
            .world()
            .at(model, |model| model.worker.clone())
            .unwrap();
        change(&mut worker);
        self.change_worker(model, worker, None);
    }

    fn set_memory(&self, change: impl FnOnce(&mut Memory)) {
        self.world().with(|machine| change(&mut machine.memory));
    }

    fn send(&mut self, model: &str) -> Number {
        self.request(chat(model), None)
    }

    fn state(&self, number: Number) -> &'static str {
        word(&self.asked(number).state)
    }

    fn status(&self, number: Number) -> u16 {
        self.refusal(number).status
    }

    fn refusal(&self, number: Number) -> &ApiError {
        match &self.asked(number).state {
            State::Rejected(error) => error,
            other => panic!("{other:?}"),
        }
    }

    fn seconds(&mut self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    fn memory_state(&self, model: &str) -> &'static str {
        let view = World::model(&**self.world(), model).unwrap();
        view.facts.memory_state.as_str()
    }
}

#[test]
fn a_request_loads_its_model_and_those_that_come_meanwhile_join() {
    let mut hub = hub(CONFIG);
    let first = hub.send("a");
    hub.seconds(2);
    let second = hub.send("org/a");
    assert_eq!(
        (hub.state(first), hub.state(second)),
        ("waiting", "waiting")
    );
    hub.seconds(3);
    assert_eq!(
        (hub.state(first), hub.state(second)),
        ("running", "running")
    );
    let now = hub.world().now();
    assert_eq!(hub.asked(second).waited(now).as_secs(), 3);
    assert!(hub.finish(first, FinishedRequest::default()));
    assert!(!hub.finish(first, FinishedRequest::default()));
    assert_eq!(hub.state(first), "done");
    let view = World::model(&**hub.world(), "a").unwrap();
    assert_eq!(view.activity.active_requests, 1);
    assert_eq!(view.facts.load_seconds, Some(5.0));
}

#[test]
fn refusals_are_those_of_a_real_hub() {
    let mut hub = hub(CONFIG);
    let [unknown, stopped] = ["nosuch", "c"].map(|model| hub.send(model));
    assert_eq!((hub.status(unknown), hub.status(stopped)), (404, 400));
    hub.send("a");
    hub.settle();
    let full = hub.send("b");
    assert_eq!(hub.status(full), 429);
}

#[test]
fn an_idle_member_is_unloaded_by_the_timer() {
    let mut hub = hub(CONFIG);
    let request = hub.send("a");
    hub.settle();
    hub.finish(request, FinishedRequest::default());
    hub.seconds(10 * 60 - 1);
    assert_eq!(hub.memory_state("a"), "loaded");
    hub.seconds(1);
    assert_eq!(hub.memory_state("a"), "unloading");
    hub.seconds(1);
    assert_eq!(hub.memory_state("a"), "unloaded");
}

#[test]
fn an_unload_waits_for_the_last_request_and_cuts_it_at_the_limit() {
    for finishes in [true, false] {
        let mut hub = hub(CONFIG);
        let request = hub.send("a");
        hub.settle();
        let unload = hub.verb(Verb::Unload, "a");
        hub.seconds(29);
        assert_eq!(hub.memory_state("a"), "unloading");
        assert_eq!(hub.state(unload), "waiting");
        if finishes {
            hub.finish(request, FinishedRequest::default());
        } else {
            hub.seconds(1);
        }
        assert_eq!(hub.state(request), if finishes { "done" } else { "cut" });
        hub.seconds(1);
        assert_eq!(hub.memory_state("a"), "unloaded");
        assert_eq!(hub.state(unload), "done");
    }
}

#[test]
fn a_crash_cuts_requests_and_the_default_policy_starts_the_worker_again() {
    let mut hub = hub(CONFIG);
    hub.verb(Verb::Start, "c");
    hub.settle();
    let request = hub.send("c");
    assert_eq!(hub.state(request), "running");
    assert!(hub.crash("c", Some(-9), "killed"));
    assert!(!hub.crash("c", None, "again"), "it has no process");
    assert_eq!(hub.state(request), "cut");
    assert_eq!(hub.memory_state("c"), "failed");
    hub.seconds(1);
    assert_eq!(hub.memory_state("c"), "loading");
    hub.seconds(5);
    assert_eq!(hub.memory_state("c"), "loaded");
}

#[test]
fn a_load_that_fails_is_told_to_all_who_wait() {
    let mut hub = hub(CONFIG);
    hub.set_worker("a", |worker| worker.fails = Some("no such file".to_owned()));
    let (first, second) = (hub.send("a"), hub.send("a"));
    hub.seconds(5);
    assert_eq!((hub.status(first), hub.status(second)), (503, 503));
    hub.set_worker("a", |worker| worker.fails = None);
    let third = hub.send("a");
    hub.settle();
    assert_eq!(hub.state(third), "running");
}

#[test]
fn a_resident_worker_whose_load_was_refused_holds_no_memory() {
    let mut hub = hub(CONFIG);
    hub.set_worker("a", |worker| {
        worker.resident = true;
        worker.memory_bytes = Some(1 << 30);
        worker.fails = Some("no memory".to_owned());
    });
    let before = hub.world().memory().available;
    let request = hub.send("a");
    hub.settle();
    assert_eq!(hub.status(request), 503);
    assert_eq!(hub.world().memory().available, before);
}

#[test]
fn memory_is_awaited_also_when_no_model_is_left() {
    let mut hub = hub(CONFIG);
    hub.set_worker("a", |worker| {
        worker.memory_bytes = Some(1 << 30);
        worker.free = Duration::from_secs(3);
    });
    hub.verb(Verb::Load, "a");
    hub.settle();
    hub.verb(Verb::Unload, "a");
    hub.settle();
    assert_eq!(hub.world().memory().returning, 1 << 30);
    hub.seconds(10);
    assert_eq!(hub.world().memory().returning, 0);
}

#[test]
fn what_is_due_has_happened_when_models_have_settled() {
    let mut hub = hub(CONFIG);
    hub.verb(Verb::Load, "a");
    hub.settle();
    let unload = hub.verb(Verb::Unload, "a");
    hub.settle();
    assert_eq!(hub.state(unload), "done");
}

#[test]
fn memory_is_taken_while_a_model_loads_and_free_when_it_is_gone() {
    const GIB: u64 = 1 << 30;
    let mut hub = hub(CONFIG);
    hub.set_worker("a", |worker| worker.memory_bytes = Some(20 * GIB));
    hub.set_memory(|memory| memory.other = 4 * GIB);
    let available = |hub: &Simulation| hub.world().memory().available.unwrap() / GIB;
    let request = hub.send("a");
    assert_eq!(available(&hub), 60);
    hub.seconds(2);
    assert_eq!(available(&hub), 52);
    hub.settle();
    assert_eq!(available(&hub), 40);
    hub.cancel(request);
    hub.verb(Verb::Unload, "a");
    hub.settle();
    assert_eq!(available(&hub), 60);
    let view = World::model(&**hub.world(), "a").unwrap();
    assert_eq!(
        (view.activity.memory_bytes, view.activity.peak_bytes),
        (None, Some(20 * GIB))
    );
}

#[test]
fn a_client_that_leaves_does_not_end_the_load() {
    let mut hub = hub(CONFIG);
    let request = hub.send("a");
    assert!(hub.cancel(request));
    hub.settle();
    assert_eq!(
        (hub.state(request), hub.memory_state("a")),
        ("cancelled", "loaded")
    );
}

/// With one policy beside hub.yaml.
fn hub_with(policy: &str) -> (Simulation, tempfile::TempDir) {
    hub_of(CONFIG, policy)
}

fn hub_of(config: &str, policy: &str) -> (Simulation, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.lua"), policy).unwrap();
    let hub = Simulation::new(from_yaml(config), BEGUN, |world| {
        Policies::load(folder.path(), &[], world)
    });
    (hub, folder)
}

const ONE_AT_A_TIME: &str = "return { on_request = function(req, hub)
    local model = hub.models[req.model]
    if model.active + model.waiting > 0 then return hub.wait({ seconds = 30 }) end
end }";

#[test]
fn parked_requests_take_turns_by_client() {
    let (mut hub, _folder) = hub_with(ONE_AT_A_TIME);
    hub.start_defaults();
    let mut send = |client: u8| {
        let mut view = chat("a");
        view.client = ([10, 0, 0, client], 1).into();
        hub.request(view, Some(Duration::from_secs(10)))
    };
    let numbers = [1, 1, 1, 2].map(&mut send);
    let mut order = Vec::new();
    for _ in 0..4 {
        hub.seconds(10);
        let running = numbers
            .iter()
            .position(|number| hub.state(*number) == "running");
        order.extend(running);
    }
    assert_eq!(order, [0, 1, 3, 2]);
    let view = World::model(&**hub.world(), "a").unwrap();
    assert_eq!(
        (view.activity.active_requests, view.activity.parked_requests),
        (1, 0)
    );
}

#[test]
fn a_parked_request_is_refused_when_its_time_is_over_or_its_model_is_stopped() {
    let (mut hub, _folder) = hub_with(ONE_AT_A_TIME);
    hub.start_defaults();
    let (first, second) = (hub.send("a"), hub.send("a"));
    hub.seconds(299);
    assert_eq!(
        (hub.state(first), hub.state(second)),
        ("running", "waiting")
    );
    hub.seconds(1);
    assert_eq!(hub.status(second), 429);
    let third = hub.send("a");
    hub.verb(Verb::Stop, "a");
    assert_eq!(hub.status(third), 503);
}

#[test]
fn observers_hear_of_models_and_requests_at_the_simulated_time() {
    let (mut hub, _folder) = hub_with(
        "for _, name in ipairs({ 'model.loaded', 'model.unloaded', 'request.finished' }) do
          hub.on(name, function(event, hub)
            hub.state.heard = hub.state.heard or {}
            local text = ('%s %d %s'):format(event.name, event.time, event.seconds)
            table.insert(hub.state.heard, text)
          end)
        end
        return { on_request = function(req, hub)
          return hub.reject({ status = 499, message = table.concat(hub.state.heard or {}, ', ') })
        end, on_load = function(load, hub) return hub.allow() end }",
    );
    hub.start_defaults();
    hub.verb(Verb::Load, "a");
    hub.seconds(5);
    let first = hub.send("a");
    assert_eq!(hub.status(first), 499);
    hub.seconds(5);
    let second = hub.send("a");
    let error = hub.refusal(second);
    let loaded = format!("model.loaded {} 5.0", BEGUN as u64 + 5);
    let finished = format!("request.finished {} 0.0", BEGUN as u64 + 5);
    assert_eq!(error.message, format!("{loaded}, {finished}"));
}

#[test]
fn a_load_begins_when_the_memory_of_the_evicted_is_back() {
    const GIB: u64 = 1 << 30;
    let evicts = "return { on_load = function(load, hub)
        local other = hub.models.a
        return other.memory_state == 'loaded' and hub.evict({ 'a' }) or hub.allow()
    end }";
    let (mut hub, _folder) = hub_with(evicts);
    hub.start_defaults();
    hub.set_worker("a", |worker| {
        worker.memory_bytes = Some(20 * GIB);
        worker.free = Duration::from_secs(3);
    });
    hub.world()
        .at("b", |model| model.peak_bytes = Some(50 * GIB));
    hub.set_memory(|memory| memory.other = 10 * GIB);
    let first = hub.send("a");
    hub.settle();
    assert!(hub.finish(first, FinishedRequest::default()));
    let second = hub.send("b");
    hub.seconds(1);
    assert_eq!(hub.world().memory().returning, 20 * GIB);
    hub.seconds(2);
    // The worker of `b` is not there yet: its memory is not.
    assert_eq!(hub.memory_state("b"), "loading");
    let has_process = |hub: &Simulation| hub.world().at("b", |model| model.process.is_some());
    assert_eq!(has_process(&hub), Some(false));
    hub.seconds(1);
    assert_eq!(has_process(&hub), Some(true));
    assert_eq!(hub.world().memory().returning, 0);
    hub.seconds(5);
    assert_eq!(hub.state(second), "running");
}

/// The hub's own test of the same name expects the same.
#[test]
fn a_full_and_a_late_queue_say_when_to_come_back() {
    let limits = "queue_size: 1, queue_timeout: 20, ";
    let config = CONFIG.replace("name: a, ", &format!("name: a, {limits}"));
    let (mut hub, _folder) = hub_of(&config, ONE_AT_A_TIME);
    hub.start_defaults();
    let retry_after = |hub: &Simulation, number| {
        let error = hub.refusal(number);
        (error.status, error.retry_after)
    };
    let running = hub.send("a");
    hub.settle();
    // Loaded: as long as the first one waits by now, and what the queue may take in all.
    let parked = hub.send("a");
    hub.seconds(8);
    let full = hub.send("a");
    assert_eq!(retry_after(&hub, full), (429, Some(8)));
    hub.seconds(12);
    assert_eq!(retry_after(&hub, parked), (429, Some(20)));
    // On its way out and to be loaded again: as long as its last load took.
    let parked = hub.send("a");
    hub.verb(Verb::Unload, "a");
    hub.seconds(8);
    let full = hub.send("a");
    assert_eq!(retry_after(&hub, full), (429, Some(5)));
    hub.seconds(12);
    assert_eq!(retry_after(&hub, parked), (429, Some(5)));
    assert_eq!(hub.state(running), "running");
}

#[test]
fn a_verdict_is_stale_when_the_model_was_stopped_meanwhile() {
    for wait in [true, false] {
        let mut hub = hub(CONFIG);
        let doors = DoorsOf {
            world: Arc::clone(hub.world()),
            policies: hub.policies().clone(),
            request: 0,
        };
        hub.send("a");
        let view = chat("a");
        let named = Target::named(&doors, &view);
        hub.verb(Verb::Stop, "a");
        hub.settle();
        let verdict = match wait {
            true => RequestVerdict::Wait(Wait {
                seconds: 1.0,
                client: None,
            }),
            false => RequestVerdict::Pass,
        };
        let step = decide(&doors, named, &view, verdict, &mut None);
        let error = match step {
            Err(error) => error,
            Ok(Step::Go(admitted)) => {
                let Entrance::Closed(arrival) = admitted.entrance else {
                    panic!("it is not loaded");
                };
                let number = hub.ask(None);
                hub.acquire(number, arrival);
                hub.refusal(number).clone()
            }
            Ok(_) => panic!("it waits"),
        };
        assert_eq!(error, ApiError::being_stopped("a"));
    }
}

#[test]
fn a_reload_starts_stops_and_restarts_and_its_policies_see_the_new_settings() {
    let waits = "local options = hub.options('mine', { waits = true })
        return { on_request = function(req, hub)
          if options.waits and hub.models[req.model].active > 0 then return hub.wait({ seconds = 60 }) end
        end, on_load = function() return hub.allow() end }";
    let (mut hub, folder) = hub_with(waits);
    hub.start_defaults();
    hub.verb(Verb::Load, "b");
    let running = ["a", "b"].map(|model| hub.send(model));
    hub.settle();
    let parked = ["a", "b"].map(|model| hub.send(model));
    assert_eq!(parked.map(|number| hub.state(number)), ["waiting"; 2]);
    let new = from_yaml(
        "policy: {mine: {waits: false}}
drain_timeout: 5
models:
- {name: a, model_path: org/a, jit_enabled: true, default: true, context_length: 1024}
- {name: d, model_path: org/d, default: true}",
    );
    let reload = hub.reload(new, |policies| {
        assert!(policies.reload(folder.path(), &[]));
    });
    // No request waits for a turn any more: `b` is gone, and the new settings let requests go.
    assert_eq!(hub.status(parked[1]), 503);
    assert_eq!(
        hub.state(reload),
        "waiting",
        "until what it stops has ended"
    );
    assert_eq!(hub.world().model_names(), ["a", "d"]);
    hub.seconds(6);
    assert_eq!(running.map(|number| hub.state(number)), ["cut"; 2]);
    assert_eq!(hub.state(reload), "done");
    hub.settle();
    assert_eq!(hub.state(parked[0]), "running");
    assert_eq!(hub.memory_state("d"), "loaded");
    let unknown = hub.send("b");
    assert_eq!(hub.status(unknown), 404);
}

#[test]
fn the_end_of_a_request_is_told_as_in_the_real_hub() {
    let mut hub = hub(CONFIG);
    let mut view = chat("a");
    view.parts.uri = http::Uri::from_static("/v1/chat/completions?model=b");
    let number = hub.request(view, Some(Duration::from_secs(1)));
    hub.seconds(10);
    let told = hub.asked(number).finished("a".to_owned()).unwrap();
    assert_eq!(
        (&*told.id, &*told.path),
        ("request-1", "/v1/chat/completions")
    );
    assert_eq!(
        (told.status, told.wait_seconds, told.seconds),
        (Some(200), Some(5.0), 6.0)
    );
}

#[test]
fn a_rate_of_tokens_is_measured_as_in_the_real_hub() {
    let mut hub = hub(CONFIG);
    hub.verb(Verb::Load, "a");
    hub.seconds(5);
    let mut rate = |first_token_seconds, tokens| {
        let number = hub.send("a");
        hub.seconds(3);
        let finish = FinishedRequest {
            first_token_seconds,
            completion_tokens: Some(tokens),
            ..FinishedRequest::default()
        };
        assert!(hub.finish(number, finish));
        let finished = hub.asked(number).finished("a".to_owned());
        finished.unwrap().tokens_per_second
    };
    // The first token begins the clock.
    assert_eq!(rate(Some(1.0), 21), Some(10.0));
    assert_eq!(rate(Some(1.0), 1), None);
    // An answer at once has no known time of its tokens.
    assert_eq!(rate(None, 21), None);
}
