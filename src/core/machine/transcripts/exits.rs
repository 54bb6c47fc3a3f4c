//! Workers that end by themselves, and models that come back.

use super::*;

fn gone(launch: Launch) -> Event {
    Event::Gone {
        launch,
        exit_code: Some(-9),
        reason: "killed".into(),
    }
}

#[test]
fn a_crashed_model_comes_back_when_the_policy_says_so() {
    let mut story = Story::of(&["a"]);
    let launch = story.loaded("a");
    story.policies.on_exit = ExitVerdict::Restart(3.0);
    let effects = story.tell(gone(launch));
    assert!(effects.contains(&Effect::Wake {
        after: Duration::from_secs(3)
    }));
    assert_eq!(story.states("a"), ("failed", "failed"));
    assert_eq!(story.entry("a").exit_code, Some(-9));
    assert_eq!(story.tell(Event::Tick), []);
    story.tell(Event::Tick);
    let effects = story.tell(Event::Tick);
    let launch = launched(&effects);
    assert_eq!(story.states("a"), ("starting", "loading"));
    story.tell(Event::Loaded { launch });
    assert_eq!(story.states("a"), ("running", "loaded"));
}

#[test]
fn the_policy_is_told_how_often_and_how_long() {
    let mut story = Story::of(&["a"]);
    story.policies.on_exit = ExitVerdict::Restart(0.0);
    let launch = story.loaded("a");
    story.tell(gone(launch));
    let effects = story.tell(Event::Tick);
    story.tell(gone(launched(&effects)));
    let launch = launched(&story.tell(Event::Tick));
    story.tell(Event::Loaded { launch });
    story.seconds += 300;
    story.tell(gone(launch));
    let told: Vec<_> = story
        .policies
        .exits
        .iter()
        .map(|exit| (exit.was_ready, exit.crashes))
        .collect();
    assert_eq!(told, [(true, 1), (false, 2), (true, 1)]);
    assert!(story.policies.exits[2].uptime_seconds >= 300.0);
}

#[test]
fn a_stop_or_a_start_by_hand_ends_the_wait() {
    let mut story = Story::of(&["a"]);
    story.policies.on_exit = ExitVerdict::Restart(10.0);
    let launch = story.loaded("a");
    story.tell(gone(launch));
    story.verb("stop", "a");
    assert_eq!(story.states("a"), ("stopped", "unloaded"));
    story.seconds += 20;
    assert_eq!(story.tell(Event::Tick), []);

    let launch = story.loaded("a");
    story.tell(gone(launch));
    let (_, effects) = story.verb("start", "a");
    launched(&effects);
    story.seconds += 20;
    assert_eq!(story.tell(Event::Tick), [], "started once, not twice");
}

#[test]
fn nobody_comes_back_after_a_shutdown_or_a_removal() {
    let mut story = Story::of(&["a"]);
    story.policies.on_exit = ExitVerdict::Restart(0.0);
    let launch = story.loaded("a");
    story.tell(Event::Shutdown { now: false });
    let effects = story.tell(gone(launch));
    assert_eq!(effects, [Effect::Finished]);
    assert!(story.policies.exits.is_empty());

    let mut story = Story::of(&["a"]);
    story.policies.on_exit = ExitVerdict::Restart(0.0);
    let launch = story.loaded("a");
    story.tell(gone(launch));
    assert_eq!(
        story.tell(Event::Shutdown { now: false }),
        [Effect::Finished]
    );
    assert_eq!(story.tell(Event::Tick), []);
}
