//! Reloads and the shutdown.

use super::*;

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
