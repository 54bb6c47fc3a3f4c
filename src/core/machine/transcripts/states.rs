//! Starting, stopping, failing.

use super::*;
use crate::api::Outcome;

#[test]
fn start_loads_a_model_that_is_not_jit() {
    let mut story = Story::of(&["a"]);
    assert_eq!(story.states("a"), ("inactive", "unloaded"));
    let (waiter, effects) = story.verb("start", "a");
    assert_eq!(story.states("a"), ("starting", "loading"));
    assert_eq!(story.policies.asked, [("a".into(), LoadReason::Start, 0)]);
    let launch = launched(&effects);
    assert_eq!(answered(&effects, waiter), None);
    story.tell(Event::Spawned { launch, pid: 41 });
    assert_eq!(story.entry("a").pid, Some(41));
    let effects = story.tell(Event::Loaded { launch });
    assert_eq!(
        answered(&effects, waiter),
        Some(&Answer::Verb(Outcome::Done))
    );
    assert_eq!(
        effects[0],
        Effect::OpenGate {
            model: "a".into(),
            launch
        }
    );
    assert_eq!(story.states("a"), ("running", "loaded"));
    let (waiter, effects) = story.verb("start", "a");
    assert_eq!(
        answered(&effects, waiter),
        Some(&Answer::Verb(Outcome::Already))
    );
}

#[test]
fn second_request_joins_the_running_load() {
    let mut story = Story::of(&["j"]);
    let (_, effects) = story.verb("start", "j");
    story.tell(Event::Standby {
        launch: launched(&effects),
        process: false,
    });
    let (one, effects) = story.request("j");
    let launch = launched(&effects);
    assert_eq!(story.states("j"), ("running", "loading"));
    let (two, effects) = story.request("j");
    assert_eq!(effects, []);
    assert_eq!(story.entry("j").waiting(), 2);
    let effects = story.tell(Event::Loaded { launch });
    assert_eq!(answered(&effects, one), Some(&Answer::Granted));
    assert_eq!(answered(&effects, two), Some(&Answer::Granted));
    assert_eq!(story.entry("j").waiting(), 0);
}

#[test]
fn a_stop_refuses_those_who_wait_and_keeps_no_exit_code() {
    let mut story = Story::of(&["a"]);
    let (start, effects) = story.verb("start", "a");
    let launch = launched(&effects);
    let (request, _) = story.request("a");
    let (stop, effects) = story.verb("stop", "a");
    assert_eq!(status_of(&effects, start), 503);
    assert_eq!(status_of(&effects, request), 503);
    assert!(effects.contains(&Effect::End { launch }));
    let (late, effects) = story.request("a");
    assert_eq!(status_of(&effects, late), 503);
    let effects = story.tell(Event::Gone {
        launch,
        exit_code: Some(-15),
        reason: "killed".into(),
    });
    assert_eq!(answered(&effects, stop), Some(&Answer::Verb(Outcome::Done)));
    assert_eq!(story.states("a"), ("stopped", "unloaded"));
    assert_eq!(story.entry("a").exit_code, None);
}

/// Without a process to end, "on standby" is the last that is heard of a launch.
#[test]
fn a_stop_that_crosses_a_standby_without_a_process_is_over() {
    let mut story = Story::of(&["j"]);
    let (_, effects) = story.verb("start", "j");
    let launch = launched(&effects);
    let (stop, _) = story.verb("stop", "j");
    assert_eq!(story.states("j"), ("stopping", "unloaded"));
    let effects = story.tell(Event::Standby {
        launch,
        process: false,
    });
    assert_eq!(answered(&effects, stop), Some(&Answer::Verb(Outcome::Done)));
    assert_eq!(story.states("j"), ("stopped", "unloaded"));
}

#[test]
fn a_verdict_from_before_a_stop_does_not_undo_it() {
    let mut story = Story::of(&["j"]);
    story.verb("start", "j");
    let seen = story.entry("j").stops;
    let (_, effects) = story.verb("stop", "j");
    let Some(Effect::End { launch }) = effects.first() else {
        panic!("{effects:?}")
    };
    story.tell(Event::Gone {
        launch: *launch,
        exit_code: None,
        reason: String::new(),
    });
    let waiter = story.waiter(true);
    let effects = story.tell(Event::Acquire {
        model: "j".into(),
        waiter,
        seen,
        client: "somebody".into(),
        parked: Duration::ZERO,
    });
    assert_eq!(status_of(&effects, waiter), 503);
    assert_eq!(story.states("j"), ("stopped", "unloaded"));
}

#[test]
fn a_failed_load_tells_all_and_is_tried_again_by_the_next_request() {
    let mut story = Story::of(&["a"]);
    let (start, effects) = story.verb("start", "a");
    let launch = launched(&effects);
    let (request, _) = story.request("a");
    let effects = story.tell(Event::Gone {
        launch,
        exit_code: Some(0),
        reason: "no such file".into(),
    });
    assert_eq!(status_of(&effects, start), 503);
    let Some(Answer::Refused(error)) = answered(&effects, request) else {
        panic!("{effects:?}")
    };
    assert!(error.message.contains("no such file"), "{error}");
    assert_eq!(story.states("a"), ("failed", "failed"));
    assert_eq!(story.entry("a").exit_code, Some(0));
    let (_, effects) = story.request("a");
    launched(&effects);
    assert_eq!(story.states("a"), ("starting", "loading"));
    assert_eq!(
        (
            story.entry("a").exit_code,
            story.entry("a").error.as_deref()
        ),
        (None, None)
    );
}

#[test]
fn what_an_earlier_launch_reports_is_ignored() {
    let mut story = Story::of(&["a"]);
    let old = story.loaded("a");
    story.tell(Event::Gone {
        launch: old,
        exit_code: Some(-9),
        reason: "killed".into(),
    });
    assert_eq!(story.states("a"), ("failed", "failed"));
    let (_, effects) = story.verb("start", "a");
    let new = launched(&effects);
    assert_eq!(
        story.tell(Event::Gone {
            launch: old,
            exit_code: Some(-9),
            reason: "again".into()
        }),
        []
    );
    assert_eq!(story.tell(Event::Loaded { launch: old }), []);
    assert_eq!(story.states("a"), ("starting", "loading"));
    story.tell(Event::Loaded { launch: new });
    assert_eq!(story.states("a"), ("running", "loaded"));
}
