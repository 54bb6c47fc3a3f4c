//! Memory on its way back: the next load waits for it, and not for ever.

use super::*;
use crate::api::Outcome;

const GIBIBYTE: u64 = 1 << 30;

impl Story {
    /// `a` is loaded, `b` evicts it, and `a` has just ended: it held 20 GiB when 4 were available.
    fn evicted() -> (Self, Waiter, Vec<Effect>) {
        let (mut story, held, request) = Self::evicting();
        story.freed(20, 4);
        let effects = story.gone(held);
        (story, request, effects)
    }

    fn freed(&mut self, held: u64, available: u64) -> Vec<Effect> {
        self.tell(Event::Freed {
            held: held * GIBIBYTE,
            available: available * GIBIBYTE,
        })
    }

    fn gone(&mut self, launch: Launch) -> Vec<Effect> {
        self.tell(Event::Gone {
            launch,
            exit_code: None,
            reason: String::new(),
        })
    }

    /// So many GiB are available, and these are known to have been taken by models.
    fn measured(&mut self, available: u64, peaks: &[(&str, u64)]) -> Vec<Effect> {
        let peak = |(name, peak): &(&str, u64)| ((*name).to_owned(), peak * GIBIBYTE);
        self.tell(Event::Measured {
            system: system(available),
            peaks: peaks.iter().map(peak).collect(),
        })
    }
}

/// So many GiB are available.
fn system(available: u64) -> SystemMemory {
    SystemMemory {
        available: Some(available * GIBIBYTE),
        ..SystemMemory::default()
    }
}

fn launches(effects: &[Effect]) -> usize {
    let launches = effects.iter();
    launches
        .filter(|effect| matches!(effect, Effect::Launch { .. }))
        .count()
}

#[test]
fn a_load_begins_when_nine_tenths_of_the_freed_memory_are_back() {
    let (mut story, request, effects) = Story::evicted();
    assert!(effects.contains(&Effect::Measure), "{effects:?}");
    assert_eq!(launches(&effects), 0);
    assert_eq!(story.states("b"), ("starting", "loading"));
    assert_eq!(story.measured(21, &[]), [Effect::Measure]);
    let effects = story.measured(22, &[]);
    let effects = story.tell(Event::Loaded {
        launch: launched(&effects),
    });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
    let took = story.entry("b").times.load_took;
    assert_eq!(took, Some(1.0), "without the waiting");
}

#[test]
fn a_load_that_fits_into_what_is_there_does_not_wait_for_the_rest() {
    let (mut story, _, _) = Story::evicted();
    assert_eq!(story.measured(9, &[("b", 10)]), [Effect::Measure]);
    assert_eq!(launches(&story.measured(10, &[("b", 10)])), 1);
}

#[test]
fn a_model_that_was_never_measured_begins_when_half_the_machine_is_free() {
    let (mut story, _, _) = Story::evicted();
    let mut of_forty = |available: u64| {
        story.tell(Event::Measured {
            system: SystemMemory {
                total: Some(40 * GIBIBYTE),
                ..system(available)
            },
            peaks: HashMap::new(),
        })
    };
    assert_eq!(launches(&of_forty(19)), 0);
    assert_eq!(launches(&of_forty(20)), 1);
}

#[test]
fn room_for_one_load_is_not_given_to_two() {
    let (mut story, _, _) = Story::evicted();
    let (_, effects) = story.verb("start", "c");
    assert_eq!(launches(&effects), 0);
    let peaks = [("b", 6), ("c", 6)];
    let effects = story.measured(11, &peaks);
    assert_eq!(launches(&effects), 1, "{effects:?}");
    assert!(effects.contains(&Effect::Measure));
    assert_eq!(launches(&story.measured(22, &peaks)), 1);
}

#[test]
fn memory_that_does_not_come_back_is_not_waited_for_longer_than_ten_seconds() {
    let (mut story, _, effects) = Story::evicted();
    let wake = effects.iter().find_map(|effect| match effect {
        Effect::Wake { after } => Some(*after),
        _ => None,
    });
    // It was freed a second before the load was to begin.
    assert_eq!(wake, Some(Duration::from_secs(9)));
    for _ in 0..8 {
        assert_eq!(launches(&story.tell(Event::Tick)), 0);
    }
    assert_eq!(launches(&story.tell(Event::Tick)), 1);
}

#[test]
fn where_memory_cannot_be_measured_nobody_waits() {
    let (mut story, _, _) = Story::evicted();
    let effects = story.tell(Event::Measured {
        system: SystemMemory::default(),
        peaks: HashMap::new(),
    });
    assert_eq!(launches(&effects), 1);
}

#[test]
fn what_is_on_its_way_back_is_told_until_it_is_given_up() {
    let mut story = Story::of(&["a"]);
    let returning = |story: &Story, available: u64| {
        let returning = story.machine.returning(Some(available * GIBIBYTE));
        returning / GIBIBYTE
    };
    assert_eq!(returning(&story, 4), 0);
    story.freed(20, 4);
    assert_eq!(returning(&story, 4), 20);
    assert_eq!(returning(&story, 2), 20, "no more than it held");
    assert_eq!(returning(&story, 14), 10);
    story.freed(6, 4);
    assert_eq!(returning(&story, 4), 26);
    assert_eq!(story.machine.returning(None), 0);
    story.measured(9, &[]);
    assert_eq!(returning(&story, 9), 16, "of twenty and six");
    for _ in 0..10 {
        story.tell(Event::Tick);
    }
    assert_eq!(returning(&story, 4), 0, "given up");
}

#[test]
fn little_memory_is_not_worth_a_wait() {
    let mut story = Story::of(&["a", "b"]);
    let effects = story.tell(Event::Freed {
        held: settle::WORTH_WAITING - 1,
        available: 0,
    });
    assert_eq!(effects, []);
    assert_eq!(launches(&story.verb("start", "b").1), 1);
}

#[test]
fn memory_seen_to_be_back_holds_up_no_later_load() {
    let mut story = Story::of(&["b", "c"]);
    story.freed(20, 4);
    let (_, effects) = story.verb("start", "b");
    assert_eq!(launches(&effects), 0);
    assert_eq!(launches(&story.measured(23, &[])), 1);
    // `b` takes it again.
    assert_eq!(launches(&story.verb("start", "c").1), 1);
}

#[test]
fn a_model_that_waits_for_memory_can_be_stopped() {
    let (mut story, request, _) = Story::evicted();
    let (stop, effects) = story.verb("stop", "b");
    assert_eq!(status_of(&effects, request), 503);
    assert_eq!(answered(&effects, stop), Some(&Answer::Verb(Outcome::Done)));
    assert_eq!(launches(&story.measured(30, &[])), 0);
    assert_eq!(story.states("b"), ("stopped", "unloaded"));
}

#[test]
fn a_parked_load_is_asked_about_again_when_the_machines_memory_has_moved() {
    let mut story = Story::of(&["a"]);
    story.measured(2, &[]);
    story
        .policies
        .on_load
        .insert("a".into(), LoadVerdict::Wait(60.0));
    story.request("a");
    for _ in 0..5 {
        story.measured(2, &[]);
    }
    assert_eq!(story.policies.asked.len(), 1, "nothing has moved");
    story.measured(3, &[]);
    assert_eq!(story.policies.asked.len(), 2);
    let pressed = SystemMemory {
        pressure: crate::api::Pressure::Warning,
        ..system(3)
    };
    story
        .policies
        .on_load
        .insert("a".into(), LoadVerdict::Allow);
    let effects = story.tell(Event::Measured {
        system: pressed,
        peaks: HashMap::new(),
    });
    assert_eq!(launches(&effects), 1);
}
