//! A worker that runs and does not serve is asked about, and replaced if the policies say so.

use super::*;
use crate::core::interface::questions::TroubleKind;

const PID: u32 = 41;

fn trouble(story: &mut Story, kind: TroubleKind, spell: u64) -> Vec<Effect> {
    story.tell(Event::Trouble {
        model: "a".to_owned(),
        pid: PID,
        trouble: Trouble::of(kind),
        spell,
    })
}

fn restart(seconds: f64) -> Option<TroubleVerdict> {
    Some(TroubleVerdict::Restart {
        seconds,
        reason: Some("it hangs".to_owned()),
    })
}

fn hangs(story: &mut Story, launch: Launch) {
    let effects = trouble(story, TroubleKind::Silent, 1);
    let reason = "it hangs".to_owned();
    let model = "a".to_owned();
    assert_eq!(
        effects,
        [
            Effect::CloseGate { model },
            Effect::Recycle { launch, reason }
        ]
    );
    assert_eq!(story.states("a"), ("running", "unloading"));
}

fn gone(story: &mut Story, launch: Launch) -> Vec<Effect> {
    story.tell(Event::Gone {
        launch,
        exit_code: None,
        reason: "it hangs; its log ends".to_owned(),
    })
}

#[test]
fn a_worker_that_hangs_is_ended_and_started_again_after_the_policys_time() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    story.policies.on_trouble = restart(3.0);
    hangs(&mut story, launch);
    let effects = gone(&mut story, launch);
    assert_eq!(
        effects,
        [Effect::Wake {
            after: Duration::from_secs(3)
        }]
    );
    assert_eq!(story.states("a"), ("failed", "failed"));
    let error = story.entry("a").error.clone();
    assert_eq!(error.as_deref(), Some("it hangs; its log ends"));
    assert!(story.policies.exits.is_empty(), "its end was wanted");
    story.seconds += 3;
    launched(&story.tell(Event::Tick));
}

#[test]
fn requests_that_come_while_it_is_replaced_wait_for_the_next_one() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    story.policies.on_trouble = restart(60.0);
    hangs(&mut story, launch);
    let (request, effects) = story.request("a");
    assert_eq!(effects, []);
    let launch = launched(&gone(&mut story, launch));
    let effects = story.tell(Event::Loaded { launch });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
}

#[test]
fn a_stop_of_a_worker_that_is_being_replaced_ends_the_model() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    story.policies.on_trouble = restart(0.0);
    hangs(&mut story, launch);
    let (stop, _) = story.verb("stop", "a");
    let effects = gone(&mut story, launch);
    assert_eq!(answered(&effects, stop), Some(&Answer::Verb(Outcome::Done)));
    assert_eq!(story.states("a"), ("stopped", "unloaded"));
}

#[test]
fn a_shutdown_refuses_those_who_wait_for_the_next_one() {
    for ended_first in [false, true] {
        let mut story = Story::of(&["a"]);
        let launch = story.loaded("a");
        story.policies.on_trouble = restart(60.0);
        hangs(&mut story, launch);
        let (request, _) = story.request("a");
        let (load, _) = story.verb("load", "a");
        let last = match ended_first {
            true => launched(&gone(&mut story, launch)),
            false => launch,
        };
        let effects = story.tell(Event::Shutdown { now: false });
        assert_eq!(status_of(&effects, request), 503, "{ended_first}");
        assert_eq!(status_of(&effects, load), 503, "{ended_first}");
        assert_eq!(gone(&mut story, last), [Effect::Finished]);
    }
}

#[test]
fn a_reload_that_removes_the_model_refuses_those_who_wait_for_the_next_one() {
    for ended_first in [false, true] {
        let mut story = Story::of(&["a"]);
        let launch = story.loaded("a");
        story.policies.on_trouble = restart(60.0);
        hangs(&mut story, launch);
        let (request, _) = story.request("a");
        let last = match ended_first {
            true => launched(&gone(&mut story, launch)),
            false => launch,
        };
        let waiter = story.waiter(false);
        let effects = story.tell(Event::Reconcile {
            waiter,
            models: Vec::new(),
            changed: HashSet::new(),
            start: true,
        });
        assert_eq!(status_of(&effects, request), 503, "{ended_first}");
        let effects = gone(&mut story, last);
        assert!(answered(&effects, waiter).is_some(), "{effects:?}");
        assert_eq!(story.machine.entries().count(), 0);
    }
}

#[test]
fn an_unload_of_a_worker_that_is_being_replaced_leaves_the_memory_free() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    story.policies.on_trouble = restart(0.0);
    hangs(&mut story, launch);
    let (unload, effects) = story.verb("unload", "a");
    assert_eq!(effects, []);
    let effects = gone(&mut story, launch);
    let done = Answer::Verb(Outcome::Done);
    assert_eq!(answered(&effects, unload), Some(&done));
    assert_eq!(story.states("a"), ("running", "unloaded"));
    story.seconds += 60;
    assert_eq!(story.tell(Event::Tick), []);
}

#[test]
fn after_an_unload_a_replaced_worker_comes_back_for_a_request() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    story.policies.on_trouble = restart(60.0);
    hangs(&mut story, launch);
    let (unload, _) = story.verb("unload", "a");
    let (request, _) = story.request("a");
    let effects = gone(&mut story, launch);
    let done = Answer::Verb(Outcome::Done);
    assert_eq!(answered(&effects, unload), Some(&done));
    let launch = launched(&effects);
    let effects = story.tell(Event::Loaded { launch });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
}

#[test]
fn policies_say_when_they_are_asked_again() {
    let mut story = Story::of(&["a"]);
    story.loaded("a");
    let asked = |story: &Story| story.policies.troubles.len();
    trouble(&mut story, TroubleKind::Silent, 1);
    trouble(&mut story, TroubleKind::Silent, 1);
    assert_eq!(asked(&story), 2, "without a word it is asked every time");

    story.policies.on_trouble = Some(TroubleVerdict::Keep(60.0));
    trouble(&mut story, TroubleKind::Silent, 1);
    trouble(&mut story, TroubleKind::Silent, 1);
    assert_eq!(asked(&story), 3);
    story.policies.on_trouble = Some(TroubleVerdict::Leave);
    story.seconds += 60;
    trouble(&mut story, TroubleKind::Silent, 1);
    story.seconds += 3600;
    trouble(&mut story, TroubleKind::Silent, 1);
    assert_eq!(asked(&story), 4, "the same spell is left alone");
    trouble(&mut story, TroubleKind::Errors, 1);
    assert_eq!(asked(&story), 5, "another kind is another question");
    trouble(&mut story, TroubleKind::Silent, 2);
    assert_eq!(asked(&story), 6, "and so is the next silence");
}

#[test]
fn only_the_worker_that_is_loaded_now_is_asked_about() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    story.policies.on_trouble = restart(1.0);
    story.verb("unload", "a");
    assert_eq!(trouble(&mut story, TroubleKind::Silent, 1), []);
    story.tell(Event::Drained { launch });
    story.ended(launch);
    let (_, effects) = story.verb("load", "a");
    let launch = launched(&effects);
    let pid = PID + 1;
    story.tell(Event::Spawned { launch, pid });
    story.tell(Event::Loaded { launch });
    assert_eq!(trouble(&mut story, TroubleKind::Silent, 1), [], "the last");
    assert_eq!(story.policies.troubles, []);
}

#[test]
fn every_replacement_in_a_row_is_counted() {
    let mut story = Story::of(&["a"]);
    let mut launch = story.loaded("a");
    story.policies.on_trouble = restart(0.0);
    for crashes in 0..3 {
        hangs(&mut story, launch);
        assert_eq!(story.policies.troubles.last().unwrap().crashes, crashes);
        gone(&mut story, launch);
        launch = launched(&story.tell(Event::Tick));
        story.tell(Event::Spawned { launch, pid: PID });
        story.tell(Event::Loaded { launch });
    }
    story.seconds += 300;
    hangs(&mut story, launch);
    let last = story.policies.troubles.last().unwrap();
    assert_eq!(last.crashes, 0, "it ran well for five minutes");
}
