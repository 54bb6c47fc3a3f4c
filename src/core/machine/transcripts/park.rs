//! Loads that a policy puts off, and who waits with them.

use super::*;

impl Story {
    /// Sets the policy's verdict about the load of a model from now on.
    fn rule(&mut self, model: &str, verdict: LoadVerdict) {
        self.policies.on_load.insert(model.into(), verdict);
    }

    /// Lets so many seconds pass, one by one, until something is to be done.
    fn pass(&mut self, seconds: u64) -> Vec<Effect> {
        for _ in 0..seconds {
            let effects = self.tell(Event::Tick);
            if !effects.is_empty() {
                return effects;
            }
        }
        Vec::new()
    }
}

#[test]
fn a_parked_load_is_asked_about_again_when_memory_moves() {
    let mut story = Story::of(&["a", "b"]);
    let held = story.loaded("a");
    story
        .policies
        .on_load
        .insert("b".into(), LoadVerdict::Wait(60.0));
    let (request, _) = story.request("b");
    assert_eq!(story.states("b").1, "unloaded");
    story.tell(Event::Tick);
    story.verb("unload", "a");
    story.tell(Event::Drained { launch: held });
    story
        .policies
        .on_load
        .insert("b".into(), LoadVerdict::Allow);
    let effects = story.ended(held);
    let effects = story.tell(Event::Loaded {
        launch: launched(&effects),
    });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
}

#[test]
fn a_load_may_have_the_memory_of_a_model_that_is_leaving_it() {
    let mut story = Story::of(&["a", "b"]);
    let held = story.loaded("a");
    story.verb("unload", "a");
    story.rule("b", LoadVerdict::Evict(vec!["a".into()]));
    let (request, effects) = story.request("b");
    assert_eq!(effects, [], "it leaves already, and is waited for");
    assert_eq!(story.states("a").1, "unloading");
    assert_eq!(story.states("b").1, "loading", "the memory is reserved");
    story.tell(Event::Drained { launch: held });
    let effects = story.ended(held);
    let effects = story.tell(Event::Loaded {
        launch: launched(&effects),
    });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
}

#[test]
fn a_parked_load_is_asked_about_again_after_the_seconds_of_its_verdict() {
    let mut story = Story::of(&["a"]);
    story.rule("a", LoadVerdict::Wait(3.0));
    let (request, _) = story.request("a");
    assert_eq!(story.machine.next_asking(), Some(Duration::from_secs(4)));
    assert_eq!(story.pass(2), []);
    assert_eq!(story.policies.asked.len(), 1);
    story.rule("a", LoadVerdict::Allow);
    let launch = launched(&story.pass(1));
    assert_eq!(story.machine.next_asking(), None);
    let effects = story.tell(Event::Loaded { launch });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
}

#[test]
fn a_verdict_to_wait_for_no_time_is_not_asked_for_in_a_circle() {
    let mut story = Story::of(&["a"]);
    story.rule("a", LoadVerdict::Wait(0.0));
    story.request("a");
    let asked_at = Duration::from_secs(1);
    let again = story.machine.next_asking().unwrap();
    assert!(again >= asked_at + Duration::from_millis(100), "{again:?}");
    assert_eq!(story.policies.asked.len(), 1);
}

#[test]
fn a_parked_load_is_asked_about_again_when_another_request_comes_and_when_a_model_is_idle() {
    let mut story = Story::of(&["a", "b"]);
    story.loaded("a");
    story.rule("b", LoadVerdict::Wait(20.0));
    story.request("b");
    story.request("b");
    story.tell(Event::Idle);
    let asked: Vec<usize> = story.policies.asked[1..].iter().map(|(.., n)| *n).collect();
    assert_eq!(asked, [1, 2, 2]);
}

#[test]
fn a_request_waits_for_a_parked_load_for_queue_timeout_and_no_longer() {
    let mut story = Story::of(&["a"]);
    story.verb("start", "a");
    story.tell(Event::Gone {
        launch: 1,
        exit_code: Some(1),
        reason: String::new(),
    });
    story.rule("a", LoadVerdict::Wait(600.0));
    let (first, _) = story.request("a");
    // This one had been parked before the model already.
    let (second, _) = story.request_of("other", "a", Duration::from_secs(25));
    let effects = story.pass(10);
    assert_eq!(status_of(&effects, second), 429);
    assert_eq!(answered(&effects, first), None);
    let effects = story.pass(30);
    assert_eq!(status_of(&effects, first), 429);
    let Some(Answer::Refused(error)) = answered(&effects, first) else {
        panic!("{effects:?}");
    };
    assert!(
        error
            .retry_after
            .is_some_and(|seconds| (1..=60).contains(&seconds))
    );
    assert!(
        error.message.contains("`a`") && error.message.contains("`queue_timeout`"),
        "{error}"
    );
    assert_eq!(story.states("a"), ("failed", "failed"), "as it was");
}

#[test]
fn a_start_waits_as_long_as_a_request() {
    let mut story = Story::of(&["a"]);
    story.rule("a", LoadVerdict::Wait(600.0));
    let (start, _) = story.verb("start", "a");
    assert_eq!(story.pass(29), []);
    assert_eq!(status_of(&story.pass(1), start), 429);
    assert_eq!(story.states("a"), ("inactive", "unloaded"));
}

#[test]
fn who_comes_over_queue_size_to_a_parked_load_is_refused() {
    let mut story = Story::of(&["a"]);
    story.rule("a", LoadVerdict::Wait(600.0));
    let places: Vec<_> = (0..3).map(|_| story.request("a").0).collect();
    let (late, effects) = story.request("a");
    assert_eq!(status_of(&effects, late), 429);
    // A place is free again.
    story.tell(Event::Abandon { waiter: places[1] });
    let (next, effects) = story.request("a");
    assert_eq!(answered(&effects, next), None);
    // A load that is allowed is waited for by any number.
    story.rule("a", LoadVerdict::Allow);
    let launch = launched(&story.tell(Event::Idle));
    let more: Vec<_> = (0..9).map(|_| story.request("a").0).collect();
    let effects = story.tell(Event::Loaded { launch });
    for waiter in [places[0], places[2], next].iter().chain(&more) {
        assert_eq!(answered(&effects, *waiter), Some(&Answer::Granted));
    }
}

#[test]
fn with_a_queue_size_of_0_no_request_waits_for_a_parked_load() {
    let mut story = Story::of(&["j"]);
    let (_, effects) = story.verb("start", "j");
    story.tell(Event::Standby {
        launch: launched(&effects),
        process: true,
    });
    let waiter = story.waiter(false);
    let mut none = spec("j");
    none.queue.size = 0;
    story.tell(Event::Reconcile {
        waiter,
        models: vec![none],
        changed: HashSet::new(),
        start: true,
    });
    story.rule("j", LoadVerdict::Wait(600.0));
    let (request, effects) = story.request("j");
    assert_eq!(status_of(&effects, request), 429);
    assert_eq!(story.machine.next_asking(), None, "nobody waits any more");
}

#[test]
fn leases_are_granted_to_the_clients_in_turn() {
    let mut story = Story::of(&["a"]);
    let (many, effects) = story.request_of("many", "a", Duration::ZERO);
    let launch = launched(&effects);
    let more: Vec<_> = (0..5)
        .map(|_| story.request_of("many", "a", Duration::ZERO).0)
        .collect();
    let (one, _) = story.request_of("one", "a", Duration::ZERO);
    let effects = story.tell(Event::Loaded { launch });
    let order: Vec<Waiter> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Answer { waiter, .. } => Some(*waiter),
            _ => None,
        })
        .collect();
    assert_eq!(order[..3], [many, one, more[0]]);
    assert_eq!(order.len(), 7);
}

#[test]
fn a_parked_load_that_nobody_waits_for_is_given_up() {
    let mut story = Story::of(&["j"]);
    let (_, effects) = story.verb("start", "j");
    story.tell(Event::Standby {
        launch: launched(&effects),
        process: true,
    });
    story.rule("j", LoadVerdict::Wait(600.0));
    let (request, _) = story.request("j");
    assert!(story.machine.next_asking().is_some());
    story.tell(Event::Abandon { waiter: request });
    assert_eq!(story.machine.next_asking(), None);
    assert_eq!(story.states("j"), ("running", "unloaded"));
}

#[test]
fn a_stop_or_a_shutdown_ends_the_wait_for_a_parked_load_at_once() {
    for event in ["stop", "shutdown"] {
        let mut story = Story::of(&["a"]);
        story.rule("a", LoadVerdict::Wait(600.0));
        let (request, _) = story.request("a");
        let effects = match event {
            "stop" => story.verb("stop", "a").1,
            _ => story.tell(Event::Shutdown { now: false }),
        };
        assert_eq!(status_of(&effects, request), 503, "{event}");
    }
}

#[test]
fn a_parked_load_is_asked_about_again_when_hub_yaml_was_read_again() {
    let mut story = Story::of(&["a"]);
    story.rule("a", LoadVerdict::Wait(600.0));
    story.request("a");
    story.rule("a", LoadVerdict::Allow);
    let waiter = story.waiter(false);
    launched(&story.tell(Event::Reconcile {
        waiter,
        models: vec![spec("a")],
        changed: HashSet::new(),
        start: true,
    }));
}

#[test]
fn an_eviction_of_a_busy_model_lets_its_requests_end_and_new_ones_load_it_again() {
    let mut story = Story::of(&["a", "b"]);
    let busy = story.loaded("a");
    story.rule("b", LoadVerdict::Wait(5.0));
    let (wants_b, _) = story.request("b");
    // While `b` is put off, the gate of `a` stays open.
    assert_eq!(story.states("a"), ("running", "loaded"));
    story.rule("b", LoadVerdict::Evict(vec!["a".into()]));
    let effects = story.pass(5);
    assert!(effects.contains(&Effect::CloseGate { model: "a".into() }));
    assert!(effects.contains(&Effect::Drain {
        model: "a".into(),
        launch: busy
    }));
    assert!(
        !effects.contains(&Effect::End { launch: busy }),
        "its requests first"
    );
    // A request for `a` now waits until it is loaded again.
    let (wants_a, effects) = story.request("a");
    assert_eq!(effects, []);
    assert_eq!(
        story.tell(Event::Drained { launch: busy }),
        [Effect::End { launch: busy }]
    );
    story.rule("a", LoadVerdict::Wait(5.0));
    let effects = story.tell(Event::Gone {
        launch: busy,
        exit_code: None,
        reason: String::new(),
    });
    let effects = story.tell(Event::Loaded {
        launch: launched(&effects),
    });
    assert_eq!(answered(&effects, wants_b), Some(&Answer::Granted));
    story.rule("a", LoadVerdict::Evict(vec!["b".into()]));
    let swap = story.pass(5);
    let Some(Effect::Drain { launch, .. }) = swap.last() else {
        panic!("{swap:?}");
    };
    let launch = *launch;
    story.tell(Event::Drained { launch });
    let effects = story.tell(Event::Gone {
        launch,
        exit_code: None,
        reason: String::new(),
    });
    let effects = story.tell(Event::Loaded {
        launch: launched(&effects),
    });
    assert_eq!(answered(&effects, wants_a), Some(&Answer::Granted));
}
