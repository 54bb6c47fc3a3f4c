//! Observers: what they hear, in which order, and what becomes of those that fail.

use std::time::Duration;

use mlx_openai_server_hub::policy::{Event, EventName, FinishedRequest, ModelEvent, Policies};
use tokio::time::Instant;

use crate::world::{Hub, rejected, request};

fn loaded(model: &str) -> Event {
    Event::of_model(
        EventName::ModelLoaded,
        ModelEvent {
            model: model.to_owned(),
            seconds: Some(1.5),
            ..ModelEvent::default()
        },
        0.0,
    )
}

/// What `on_request` says about a request, as a message.
fn said(policies: &Policies) -> String {
    let (_, verdict) = policies.on_request(request("alpha"));
    rejected(&verdict).1.to_owned()
}

/// A policy that hears `event` with `body`, and says `hub.state.said`, which the body may set.
fn hearing(event: &str, body: &str) -> Hub {
    Hub::with(&format!(
        "hub.on('{event}', function(event, hub) {body} end)
         return {{ on_request = function(_, hub)
           return hub.reject{{ status = 400, message = hub.state.said or 'nothing' }}
         end }}"
    ))
}

#[test]
fn an_event_is_a_plain_table_and_hub_comes_with_it() {
    let body = "hub.state.said = ('%s %s %s %s %s'):format(event.name, event.model, event.seconds,
                        event.error, hub.models[event.model].memory_state)";
    let policies = hearing("model.loaded", body).load();
    policies.observe_now(&loaded("alpha"));
    assert_eq!(said(&policies), "model.loaded alpha 1.5 nil loaded");
}

#[test]
fn a_finished_request_says_what_is_known_of_it() {
    let body = "local said = ''
                for _, key in ipairs{'id', 'model', 'client', 'path', 'stream', 'status', 'seconds',
                                     'wait_seconds', 'prompt_tokens'} do
                  said = said .. tostring(event[key]) .. ' '
                end
                said = said .. math.type(event.status) .. ' ' .. math.type(event.time)
                hub.state.said = said";
    let policies = hearing("request.finished", body).load();
    policies.observe_now(&Event::of_request(
        FinishedRequest {
            id: "r1".to_owned(),
            model: "alpha".to_owned(),
            client: "127.0.0.1".to_owned(),
            path: "/v1/completions".to_owned(),
            stream: true,
            status: Some(200),
            seconds: 2.5,
            prompt_tokens: Some(7),
            ..FinishedRequest::default()
        },
        0.0,
    ));
    assert_eq!(
        said(&policies),
        "r1 alpha 127.0.0.1 /v1/completions true 200 2.5 nil 7 integer float"
    );
}

#[test]
fn events_come_in_their_order_to_every_observer_on_a_thread_of_their_own() {
    let hub = Hub::with(
        "local heard = ''
         hub.on('model.loaded', function(event) heard = heard .. event.model .. ' ' end)
         hub.on('model.loaded', function(event) event.model = 'changed' end)
         hub.on('model.loaded', function(event) heard = heard .. event.model:upper() .. ' ' end)
         hub.on('config.reloaded', function(_, hub) hub.state.heard = heard .. 'end' end)
         return { on_request = function(_, hub)
           return hub.reject{ status = 400, message = hub.state.heard or '' }
         end }",
    );
    let policies = hub.load();
    policies.observe(loaded("alpha"));
    policies.observe(loaded("beta"));
    policies.observe(Event::config_reloaded(0.0));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !said(&policies).ends_with("end") {
        assert!(Instant::now() < deadline, "heard: {}", said(&policies));
        std::thread::yield_now();
    }
    assert_eq!(said(&policies), "alpha ALPHA beta BETA end");
}

#[test]
fn a_hook_and_an_observer_share_hub_state_and_nothing_else() {
    let hub = Hub::with(
        "local counts = require('lib.counts')
         local heard = 0
         hub.on('model.loaded', function(_, hub)
           heard, counts.heard = heard + 1, counts.heard + 1
           hub.state.heard = heard .. counts.heard
         end)
         return { on_request = function(_, hub)
           local message = heard .. counts.heard .. ' of ' .. hub.state.heard
           return hub.reject{ status = 400, message = message }
         end }",
    )
    .file("lib/counts.lua", "return { heard = 0 }");
    let policies = hub.load();
    policies.observe_now(&loaded("alpha"));
    policies.observe_now(&loaded("alpha"));
    assert_eq!(said(&policies), "00 of 22");
}

#[test]
fn a_hook_does_not_wait_for_an_observer() {
    let hub = hearing("model.loaded", "while true do end");
    let policies = hub.load();
    std::thread::scope(|scope| {
        let observed = scope.spawn(|| policies.observe_now(&loaded("alpha")));
        let mut answers = 0;
        while !observed.is_finished() {
            assert_eq!(said(&policies), "nothing");
            assert!(policies.memory_bytes() > 0);
            answers += 1;
        }
        // One that waited for it would be the only one.
        assert!(answers > 10, "{answers}");
    });
}

#[test]
fn only_events_that_somebody_observes_are_made() {
    let hub = hearing("model.loaded", "");
    let policies = hub.load();
    assert!(policies.observes(EventName::ModelLoaded));
    assert!(!policies.observes(EventName::RequestFinished));
    let hub = hub.file("policy.lua", "return {}");
    policies.reload(hub.path(), &[]);
    assert!(!policies.observes(EventName::ModelLoaded));
}

#[test]
fn an_observer_that_fails_is_reported_with_its_line_and_the_others_still_hear() {
    let hub = hearing("model.loaded", "hub.state.said = 'heard'").file(
        "a.lua",
        "hub.on('model.loaded', function(event)\n  local name = event.modle.name\nend)\nreturn {}",
    );
    let policies = hub.load();
    policies.observe_now(&loaded("alpha"));
    assert_eq!(said(&policies), "heard");
    insta::assert_snapshot!(policies.warnings().join("\n"));
}

#[test]
fn an_endless_observer_is_cut_and_ten_failures_in_a_row_switch_its_policy_off() {
    let hub = Hub::with(
        "hub.on('model.loaded', function() while true do pcall(error) end end)
         return { on_request = function(_, hub) return hub.route{ model = 'beta' } end }",
    );
    let policies = hub.load();
    for _ in 0..10 {
        policies.observe_now(&loaded("alpha"));
        // That the hook succeeds meanwhile makes up for nothing.
        policies.on_request(request("alpha"));
    }
    let warnings = policies.warnings().join("\n");
    assert!(warnings.contains("switched off until"), "{warnings}");
    assert!(warnings.contains("policy.lua:1: it took more than 250 ms"));
}

#[test]
fn too_many_events_are_dropped_and_the_status_says_so() {
    let policies = hearing("model.loaded", "while true do end").load();
    for _ in 0..2000 {
        policies.observe(loaded("alpha"));
    }
    let warnings = policies.warnings().join("\n");
    assert!(
        warnings.contains("The observers of the policies are too slow"),
        "{warnings}"
    );
}

#[test]
fn hub_on_is_called_while_a_file_loads_with_a_name_and_a_function() {
    let told = [
        "hub.on('model.loadd', function() end) return {}",
        "hub.on('xyzzy', function() end) return {}",
        "hub.on(nil, function() end) return {}",
        "hub.on('model.loaded') return {}",
        "hub.on('model.loaded', {}) return {}",
        "return { on_request = function(_, hub) hub.on('model.loaded', print) end }",
    ]
    .map(|source| {
        let (_, policies) = Hub::with(source).ask();
        format!("{source}\n  {}", policies.warnings().join("\n"))
    });
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_file_that_does_not_load_observes_nothing() {
    let hub = Hub::with("hub.on('model.loaded', function() end) error('no')");
    assert!(!hub.load().observes(EventName::ModelLoaded));
}
