//! Policies that think, and what happens meanwhile.

use super::*;

impl Story {
    /// The verdicts of the policies come when [`Story::judge`] says so.
    fn slowly(mut self) -> Self {
        self.policies.is_slow = true;
        self
    }

    /// The verdict comes that the policies have been thinking about.
    fn judge(&mut self) -> Vec<Effect> {
        let (id, verdict) = self.policies.thinks.take().expect("nothing is asked");
        self.tell(Event::Judged { id, verdict })
    }

    fn reload(&mut self, names: &[&str]) -> (Waiter, Vec<Effect>) {
        let waiter = self.waiter(false);
        let models = names.iter().map(|name| spec(name)).collect();
        let event = Event::Reconcile {
            waiter,
            models,
            changed: HashSet::new(),
            start: true,
        };
        (waiter, self.tell(event))
    }

    fn crashes(&mut self, launch: Launch) -> Vec<Effect> {
        self.tell(Event::Gone {
            launch,
            exit_code: Some(1),
            reason: "it crashed".into(),
        })
    }
}

fn full() -> LoadVerdict {
    let status = http::StatusCode::TOO_MANY_REQUESTS;
    LoadVerdict::Reject(ApiError::new(status, "full"))
}

#[test]
fn other_models_go_on_while_policies_think_about_one() {
    let mut story = Story::of(&["a", "b"]);
    let launch = story.loaded("b");
    let mut story = story.slowly();
    let (request, effects) = story.request("a");
    assert_eq!(effects, [], "its verdict is not there yet");
    let (served, effects) = story.request("b");
    assert_eq!(answered(&effects, served), Some(&Answer::Granted));
    let (stop, effects) = story.verb("stop", "b");
    assert!(effects.contains(&Effect::CloseGate { model: "b".into() }));
    story.tell(Event::Drained { launch });
    let effects = story.ended(launch);
    assert_eq!(
        answered(&effects, stop),
        Some(&Answer::Verb(Outcome::Done)),
        "all that while the policies think about `a`"
    );
    let launch = launched(&story.judge());
    let effects = story.tell(Event::Loaded { launch });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
}

#[test]
fn one_is_asked_about_when_the_verdict_on_the_one_before_is_carried_out() {
    let mut story = Story::of(&["a", "b"]).slowly();
    story.request("a");
    let (second, _) = story.request("b");
    story.request("b");
    assert_eq!(story.policies.asked.len(), 1);
    let launch = launched(&story.judge());
    assert_eq!(story.states("a").1, "loading");
    // It is asked about as it is now.
    let asked = &story.policies.asked;
    assert_eq!(asked[1..], [("b".into(), LoadReason::Request, 2)]);
    story.tell(Event::Loaded { launch });
    let launch = launched(&story.judge());
    let effects = story.tell(Event::Loaded { launch });
    assert_eq!(answered(&effects, second), Some(&Answer::Granted));
}

#[test]
fn a_stop_does_not_wait_for_the_verdict_on_a_load_which_then_counts_for_nothing() {
    let mut story = Story::of(&["a"]).slowly();
    let (start, _) = story.verb("start", "a");
    let (joins, _) = story.verb("load", "a");
    let (stop, effects) = story.verb("stop", "a");
    assert_eq!(status_of(&effects, start), 503);
    assert_eq!(status_of(&effects, joins), 503);
    assert_eq!(answered(&effects, stop), Some(&Answer::Verb(Outcome::Done)));
    assert_eq!(story.judge(), []);
    assert_eq!(story.policies.discarded, ["a"]);
    assert_eq!(story.states("a"), ("stopped", "unloaded"));
    // Nothing is left of it: the next one is asked about as if nothing had been.
    story.verb("start", "a");
    launched(&story.judge());
}

#[test]
fn a_verdict_does_not_refuse_who_came_after_the_question() {
    let mut story = Story::of(&["a"]).slowly();
    story.policies.on_load.insert("a".into(), full());
    let (request, _) = story.request("a");
    let (load, _) = story.verb("start", "a");
    let gone = story.request("a").0;
    story.tell(Event::Abandon { waiter: gone });
    let effects = story.judge();
    assert_eq!(status_of(&effects, request), 429);
    assert_eq!(answered(&effects, load), None);
    let asked = &story.policies.asked;
    assert_eq!(asked[1..], [("a".into(), LoadReason::Start, 0)]);
    let effects = story.judge();
    assert_eq!(status_of(&effects, load), 429);
}

#[test]
fn who_comes_while_a_load_is_allowed_joins_it() {
    let mut story = Story::of(&["a"]).slowly();
    let (first, _) = story.request("a");
    let (second, _) = story.request("a");
    let launch = launched(&story.judge());
    assert_eq!(story.policies.asked.len(), 1);
    let effects = story.tell(Event::Loaded { launch });
    for request in [first, second] {
        assert_eq!(answered(&effects, request), Some(&Answer::Granted));
    }
}

#[test]
fn a_load_that_nobody_waits_for_any_more_does_not_begin() {
    let mut story = Story::of(&["j"]);
    let (_, effects) = story.verb("start", "j");
    let launch = launched(&effects);
    story.tell(Event::Standby {
        launch,
        process: true,
    });
    let mut story = story.slowly();
    let (request, _) = story.request("j");
    story.tell(Event::Abandon { waiter: request });
    assert_eq!(story.judge(), []);
    assert_eq!(story.states("j"), ("running", "unloaded"));
}

#[test]
fn a_load_is_asked_about_again_when_memory_changed_while_policies_thought() {
    let mut story = Story::of(&["a", "b"]);
    let held = story.loaded("b");
    story.verb("unload", "b");
    story.tell(Event::Drained { launch: held });
    let mut story = story.slowly();
    let wait = LoadVerdict::Wait(60.0);
    story.policies.on_load.insert("a".into(), wait);
    story.request("a");
    story.ended(held);
    story
        .policies
        .on_load
        .insert("a".into(), LoadVerdict::Allow);
    assert_eq!(story.judge(), [], "that verdict knew nothing of it");
    launched(&story.judge());
}

#[test]
fn time_does_not_ask_again_while_policies_think() {
    let mut story = Story::of(&["a"]).slowly();
    let wait = LoadVerdict::Wait(1.0);
    story.policies.on_load.insert("a".into(), wait);
    story.request("a");
    assert_eq!(story.machine.next_asking(), None);
    assert!(story.machine.is_parking(), "idle models are of interest");
    story.judge();
    assert!(story.machine.next_asking().is_some());
    story.tell(Event::Tick);
    story.tell(Event::Tick);
    assert_eq!(story.policies.asked.len(), 2);
    assert_eq!(
        story.machine.next_asking(),
        None,
        "or whoever waits for that time would ask in a circle"
    );
}

#[test]
fn after_a_reload_the_new_policies_are_asked() {
    let mut story = Story::of(&["a", "b"]).slowly();
    story.policies.on_load.insert("a".into(), full());
    let (request, _) = story.request("a");
    let (_, effects) = story.reload(&["a", "b"]);
    assert_eq!(answered(&effects, request), None);
    story
        .policies
        .on_load
        .insert("a".into(), LoadVerdict::Allow);
    let effects = story.judge();
    assert_eq!(answered(&effects, request), None, "the old ones refused it");
    assert_eq!(story.policies.discarded, ["a"]);
    launched(&story.judge());
}

#[test]
fn a_model_that_a_reload_removes_refuses_who_waits_for_the_verdict() {
    let mut story = Story::of(&["a", "b"]).slowly();
    let (start, _) = story.verb("start", "a");
    let (reload, effects) = story.reload(&["b"]);
    assert_eq!(status_of(&effects, start), 503);
    assert!(answered(&effects, reload).is_some());
    // Of another model of that name it decides nothing.
    story.reload(&["a", "b"]);
    assert_eq!(story.judge(), []);
    assert_eq!(story.states("a"), ("inactive", "unloaded"));
}

#[test]
fn a_reload_is_over_when_the_policies_have_judged_what_it_starts() {
    let mut story = Story::of(&["a"]).slowly();
    let waiter = story.waiter(false);
    let models = vec![
        spec("a"),
        Spec {
            default: true,
            ..spec("b")
        },
    ];
    let effects = story.tell(Event::Reconcile {
        waiter,
        models,
        changed: HashSet::new(),
        start: true,
    });
    assert_eq!(answered(&effects, waiter), None);
    let effects = story.judge();
    assert!(answered(&effects, waiter).is_some());
    assert_eq!(story.states("b"), ("starting", "loading"));
}

#[test]
fn a_worker_that_dies_while_on_idle_thinks_has_crashed() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    let mut story = story.slowly();
    story
        .policies
        .on_idle
        .insert("a".into(), IdleVerdict::Unload);
    story.policies.on_exit = ExitVerdict::Restart(0.0);
    story.tell(Event::Tick);
    story.tell(Event::Tick);
    story.crashes(launch);
    assert_eq!(story.judge(), [], "it unloads nothing");
    assert_eq!(story.policies.discarded, ["a"]);
    assert_eq!(story.policies.exits.len(), 1);
    story.judge();
    story.tell(Event::Tick);
    launched(&story.judge());
}

#[test]
fn nobody_waits_for_what_on_exit_thinks() {
    let mut story = Story::of(&["j"]);
    let (_, effects) = story.verb("start", "j");
    let mut story = story.slowly();
    story.crashes(launched(&effects));
    assert_eq!(story.states("j").0, "failed");
    let (_, effects) = story.request("j");
    launched(&effects);
    story.policies.on_exit = ExitVerdict::Restart(0.0);
    assert_eq!(story.judge(), []);
    assert_eq!(story.policies.discarded, ["j"]);
}

#[test]
fn a_shutdown_waits_for_no_verdict() {
    let mut story = Story::of(&["a"]).slowly();
    let (start, _) = story.verb("start", "a");
    let (joins, _) = story.request("a");
    let effects = story.tell(Event::Shutdown { now: false });
    assert_eq!(status_of(&effects, start), 503);
    assert_eq!(status_of(&effects, joins), 503);
    assert_eq!(effects.last(), Some(&Effect::Finished));
}

#[test]
fn the_next_hub_asks_what_the_policies_of_this_one_have_not_judged() {
    let mut story = Story::of(&["a", "b"]);
    let launch = story.loaded("b");
    let mut story = story.slowly();
    story.verb("start", "a");
    story.crashes(launch);
    let past = story.machine.past();
    let mut next = Story::of(&["a", "b"]).slowly();
    for past in past {
        next.tell(Event::Inherit {
            past: Box::new(past),
            has_worker: false,
        });
    }
    launched(&next.judge());
    assert_eq!(next.policies.exits.len(), 1);
    assert!(next.policies.exits[0].was_ready);
}
