//! Into memory and out of it: evictions, idle models.

use super::*;
use crate::api::Outcome;

#[test]
fn start_leaves_a_jit_model_unloaded() {
    let mut story = Story::of(&["j"]);
    let (waiter, effects) = story.verb("start", "j");
    let launch = launched(&effects);
    assert_eq!(story.states("j"), ("starting", "unloaded"));
    let effects = story.tell(Event::Standby {
        launch,
        process: false,
    });
    assert_eq!(
        answered(&effects, waiter),
        Some(&Answer::Verb(Outcome::Done))
    );
    assert_eq!(story.states("j"), ("running", "unloaded"));
    assert!(
        story.policies.asked.is_empty(),
        "standing by takes no memory"
    );
}

#[test]
fn a_resident_worker_is_loaded_in_place() {
    let mut story = Story::of(&["j"]);
    let (_, effects) = story.verb("start", "j");
    let launch = launched(&effects);
    story.tell(Event::Standby {
        launch,
        process: true,
    });
    let (_, effects) = story.request("j");
    assert_eq!(effects, [Effect::Load { launch }]);
    story.tell(Event::Loaded { launch });
    // Unloading ends the process and brings a fresh one; the model is started all along.
    let (waiter, effects) = story.verb("unload", "j");
    assert!(effects.contains(&Effect::CloseGate { model: "j".into() }));
    assert_eq!(story.states("j"), ("running", "unloading"));
    assert_eq!(
        story.tell(Event::Drained { launch }),
        [Effect::End { launch }]
    );
    let effects = story.ended(launch);
    assert_eq!(story.states("j"), ("running", "unloaded"));
    assert_eq!(answered(&effects, waiter), None);
    let fresh = launched(&effects);
    assert_ne!(fresh, launch);
    let effects = story.tell(Event::Standby {
        launch: fresh,
        process: true,
    });
    assert_eq!(
        answered(&effects, waiter),
        Some(&Answer::Verb(Outcome::Done))
    );
}

#[test]
fn a_request_during_an_unload_loads_again() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    let (unload, _) = story.verb("unload", "a");
    let (request, effects) = story.request("a");
    assert_eq!(effects, []);
    story.tell(Event::Drained { launch });
    let effects = story.ended(launch);
    assert_eq!(
        answered(&effects, unload),
        Some(&Answer::Verb(Outcome::Done))
    );
    let effects = story.tell(Event::Loaded {
        launch: launched(&effects),
    });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
}

#[test]
fn an_eviction_reserves_the_memory_and_loads_when_it_is_free() {
    let mut story = Story::of(&["a", "b", "c"]);
    let held = story.loaded("a");
    story.policies.on_load.insert(
        "b".into(),
        LoadVerdict::Evict(vec!["a".into(), "b".into(), "nosuch".into()]),
    );
    let (start, effects) = story.verb("start", "b");
    assert!(effects.contains(&Effect::Drain {
        model: "a".into(),
        launch: held
    }));
    assert_eq!(story.states("b"), ("starting", "loading"));
    story.tell(Event::Drained { launch: held });
    assert_eq!(story.states("a"), ("running", "unloading"));
    let effects = story.ended(held);
    let launch = launched(&effects);
    let effects = story.tell(Event::Loaded { launch });
    assert_eq!(
        answered(&effects, start),
        Some(&Answer::Verb(Outcome::Done))
    );
    assert_eq!(
        (story.states("a").1, story.states("b").1),
        ("unloaded", "loaded")
    );
}

#[test]
fn what_holds_no_memory_any_more_makes_no_other_model_wait() {
    let (mut story, held, request) = Story::evicting();
    let effects = story.tell(Event::Released { launch: held });
    let launch = launched(&effects);
    assert_eq!(story.states("a"), ("running", "unloaded"));
    let (_, effects) = story.request("a");
    let is_launch = |effect: &Effect| matches!(effect, Effect::Launch { .. });
    assert!(!effects.iter().any(is_launch), "{effects:?}");
    let effects = story.tell(Event::Loaded { launch });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
    assert_ne!(launched(&story.ended(held)), launch);
    assert_eq!(story.states("a"), ("running", "loading"));
}

#[test]
fn an_eviction_of_a_loading_model_lets_its_waiters_have_their_turn() {
    let mut story = Story::of(&["a", "b"]);
    let (_, effects) = story.verb("start", "a");
    let launch = launched(&effects);
    let (request, _) = story.request("a");
    story
        .policies
        .on_load
        .insert("b".into(), LoadVerdict::Evict(vec!["a".into()]));
    story.verb("start", "b");
    let effects = story.tell(Event::Loaded { launch });
    let at = |wanted: &Effect| effects.iter().position(|effect| effect == wanted);
    let granted = at(&Effect::Answer {
        waiter: request,
        answer: Answer::Granted,
    });
    assert!(
        granted.is_some() && granted < at(&Effect::CloseGate { model: "a".into() }),
        "{effects:?}"
    );
    story.tell(Event::Drained { launch });
    let effects = story.ended(launch);
    launched(&effects);
}

#[test]
fn a_refused_start_leaves_the_model_as_it_was() {
    let mut story = Story::of(&["a"]);
    let full = ApiError::new(http::StatusCode::TOO_MANY_REQUESTS, "the group is full");
    story
        .policies
        .on_load
        .insert("a".into(), LoadVerdict::Reject(full));
    let (start, effects) = story.verb("start", "a");
    assert_eq!(status_of(&effects, start), 429);
    assert_eq!(story.states("a"), ("inactive", "unloaded"));
}

#[test]
fn an_idle_model_is_unloaded_and_another_kept() {
    let mut story = Story::of(&["a", "b"]);
    let launch = story.loaded("a");
    story.loaded("b");
    story
        .policies
        .on_idle
        .insert("a".into(), IdleVerdict::Unload);
    story
        .policies
        .on_idle
        .insert("b".into(), IdleVerdict::Keep(2.0));
    let effects = story.tell(Event::Tick);
    assert!(effects.contains(&Effect::Drain {
        model: "a".into(),
        launch
    }));
    assert_eq!(story.states("b"), ("running", "loaded"));
    story.policies.on_idle.insert("b".into(), IdleVerdict::Stop);
    assert_eq!(story.tell(Event::Tick), [], "kept for two seconds");
    story.tell(Event::Tick);
    assert_eq!(story.states("b").0, "stopping");
}
