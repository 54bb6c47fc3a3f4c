//! Reloads and the shutdown.

use super::*;
use crate::api::Outcome;

#[test]
fn reload_stops_the_missing_starts_the_new_and_restarts_the_changed() {
    let mut story = Story::of(&["a", "b", "c"]);
    let (a, b) = (story.loaded("a"), story.loaded("b"));
    story.loaded("c");
    let fresh = Spec {
        default: true,
        ..spec("n")
    };
    let waiter = story.waiter(false);
    let effects = story.tell(Event::Reconcile {
        waiter,
        models: vec![fresh, spec("b"), spec("c")],
        changed: HashSet::from(["b".to_owned()]),
        start: true,
    });
    assert_eq!(
        answered(&effects, waiter),
        None,
        "it waits for what it stops"
    );
    assert_eq!(story.states("n"), ("starting", "loading"));
    assert_eq!(
        story
            .machine
            .entries()
            .map(|e| e.spec.name.as_str())
            .collect::<Vec<_>>(),
        ["n", "b", "c"]
    );
    for launch in [a, b] {
        story.tell(Event::Drained { launch });
    }
    story.ended(a);
    let effects = story.ended(b);
    launched(&effects);
    let Some(Answer::Reloaded(report)) = answered(&effects, waiter) else {
        panic!("{effects:?}")
    };
    assert_eq!(report.started, ["n", "b"]);
    assert_eq!(report.stopped, ["a", "b"]);
    assert_eq!(report.unchanged, ["c"]);
    assert_eq!(story.states("c"), ("running", "loaded"));
}

#[test]
fn a_model_that_comes_back_while_it_ends_is_never_doubled() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    let reload = |story: &mut Story, models: Vec<Spec>| {
        let waiter = story.waiter(false);
        story.tell(Event::Reconcile {
            waiter,
            models,
            changed: HashSet::new(),
            start: true,
        })
    };
    reload(&mut story, vec![]);
    let effects = reload(
        &mut story,
        vec![Spec {
            default: true,
            ..spec("a")
        }],
    );
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Launch { .. })),
        "{effects:?}"
    );
    story.tell(Event::Drained { launch });
    let effects = story.ended(launch);
    launched(&effects);
}

#[test]
fn shutdown_drains_then_ends_then_finishes() {
    let mut story = Story::of(&["a", "j"]);
    let launch = story.loaded("a");
    let effects = story.tell(Event::Shutdown { now: false });
    assert!(effects.contains(&Effect::Drain {
        model: "a".into(),
        launch
    }));
    let (request, effects) = story.request("j");
    assert_eq!(status_of(&effects, request), 503);
    let effects = story.tell(Event::Shutdown { now: true });
    assert_eq!(effects, [Effect::End { launch }]);
    let effects = story.ended(launch);
    assert_eq!(effects.last(), Some(&Effect::Finished));
    assert_eq!(story.tell(Event::Tick), []);
}

/// `a` is loaded, and its launch settings change while a request is in flight.
fn restarting(name: &str) -> (Story, Launch, Waiter) {
    let mut story = Story::of(&[name]);
    let launch = if name.starts_with('j') {
        let (_, effects) = story.verb("start", name);
        let launch = launched(&effects);
        let process = true;
        story.tell(Event::Standby { launch, process });
        story.verb("load", name);
        story.tell(Event::Loaded { launch });
        launch
    } else {
        story.loaded(name)
    };
    let waiter = story.waiter(false);
    let effects = story.tell(Event::Reconcile {
        waiter,
        models: vec![spec(name)],
        changed: HashSet::from([name.to_owned()]),
        start: true,
    });
    let model = name.to_owned();
    assert_eq!(effects[1..], [Effect::Drain { model, launch }]);
    assert_eq!(story.states(name), ("running", "unloading"));
    (story, launch, waiter)
}

#[test]
fn requests_that_come_during_a_restart_wait_for_the_new_worker() {
    for name in ["a", "j"] {
        let (mut story, old, reload) = restarting(name);
        let (while_draining, effects) = story.request(name);
        assert_eq!(effects, [], "it waits");
        let (load, effects) = story.verb("load", name);
        assert_eq!(effects, []);
        let (start, effects) = story.verb("start", name);
        assert_eq!(effects, []);
        let effects = story.tell(Event::Drained { launch: old });
        assert_eq!(effects, [Effect::End { launch: old }]);
        let (while_ending, effects) = story.request(name);
        assert_eq!(effects, []);
        let effects = story.ended(old);
        let new = launched(&effects);
        assert!(matches!(
            answered(&effects, reload),
            Some(Answer::Reloaded(report)) if report.started == [name] && report.stopped == [name]
        ));
        assert_eq!(story.states(name).0, "starting");
        if name == "j" {
            let effects = story.tell(Event::Standby {
                launch: new,
                process: true,
            });
            assert!(effects.contains(&Effect::Load { launch: new }));
        }
        let effects = story.tell(Event::Loaded { launch: new });
        for request in [while_draining, while_ending] {
            assert_eq!(answered(&effects, request), Some(&Answer::Granted));
        }
        assert_eq!(answered(&effects, load), Some(&Answer::Verb(Outcome::Done)));
        if name == "a" {
            assert_eq!(
                answered(&effects, start),
                Some(&Answer::Verb(Outcome::Done))
            );
        }
    }
}

#[test]
fn a_restart_keeps_those_who_waited_for_the_load_that_it_breaks_off() {
    let mut story = Story::of(&["a"]);
    let (_, effects) = story.verb("start", "a");
    let old = launched(&effects);
    let (request, _) = story.request("a");
    let waiter = story.waiter(false);
    let effects = story.tell(Event::Reconcile {
        waiter,
        models: vec![spec("a")],
        changed: HashSet::from(["a".to_owned()]),
        start: true,
    });
    assert_eq!(effects, [Effect::End { launch: old }]);
    let new = launched(&story.ended(old));
    let effects = story.tell(Event::Loaded { launch: new });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
}

#[test]
fn a_stop_during_a_restart_ends_it() {
    let (mut story, old, _) = restarting("a");
    let (request, _) = story.request("a");
    let (stop, effects) = story.verb("stop", "a");
    assert_eq!(status_of(&effects, request), 503);
    assert_eq!(story.states("a"), ("stopping", "unloading"));
    story.tell(Event::Drained { launch: old });
    let effects = story.ended(old);
    assert_eq!(answered(&effects, stop), Some(&Answer::Verb(Outcome::Done)));
    assert_eq!(story.states("a"), ("stopped", "unloaded"));
}

#[test]
fn a_start_during_a_stop_makes_it_a_restart() {
    let mut story = Story::of(&["a"]);
    let old = story.loaded("a");
    let (stop, _) = story.verb("stop", "a");
    let (start, _) = story.verb("start", "a");
    let (request, effects) = story.request("a");
    assert_eq!(effects, [], "it takes requests again");
    story.tell(Event::Drained { launch: old });
    let effects = story.ended(old);
    assert_eq!(answered(&effects, stop), Some(&Answer::Verb(Outcome::Done)));
    let effects = story.tell(Event::Loaded {
        launch: launched(&effects),
    });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
    assert_eq!(
        answered(&effects, start),
        Some(&Answer::Verb(Outcome::Done))
    );
}

#[test]
fn a_restarted_model_has_been_started_anew() {
    let (mut story, old, _) = restarting("a");
    let before = story.entry("a").times.started;
    story.tell(Event::Drained { launch: old });
    story.ended(old);
    assert!(story.entry("a").times.started > before);
}

#[test]
fn a_reload_that_starts_nothing_stops_what_has_changed() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    let (waiter, start) = (story.waiter(false), false);
    story.tell(Event::Reconcile {
        waiter,
        models: vec![spec("a")],
        changed: HashSet::from(["a".to_owned()]),
        start,
    });
    assert_eq!(story.states("a"), ("stopping", "unloading"));
    story.tell(Event::Drained { launch });
    story.ended(launch);
    assert_eq!(story.states("a"), ("stopped", "unloaded"));
}
