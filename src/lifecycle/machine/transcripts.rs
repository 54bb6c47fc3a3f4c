//! The machine told as stories: what happens, and what it does about it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::*;

/// Policies that say what the test says, and allow otherwise.
#[derive(Default)]
struct Script {
    on_load: HashMap<String, LoadVerdict>,
    on_idle: HashMap<String, IdleVerdict>,
    asked: Vec<(String, LoadReason, usize)>,
}

impl Decide for Script {
    fn on_load(
        &mut self,
        _: &Machine,
        model: &str,
        reason: LoadReason,
        waiting: usize,
    ) -> LoadVerdict {
        self.asked.push((model.to_owned(), reason, waiting));
        self.on_load
            .get(model)
            .cloned()
            .unwrap_or(LoadVerdict::Allow)
    }

    fn on_idle(&mut self, _: &Machine, model: &str) -> IdleVerdict {
        self.on_idle
            .get(model)
            .copied()
            .unwrap_or(IdleVerdict::Keep(0.0))
    }
}

struct Story {
    machine: Machine,
    policies: Script,
    seconds: u64,
    waiters: u64,
}

impl Story {
    /// Models whose name begins with `j` are JIT.
    fn of(names: &[&str]) -> Self {
        let machine = Machine::new(names.iter().map(|name| spec(name)).collect());
        Self {
            machine,
            policies: Script::default(),
            seconds: 0,
            waiters: 0,
        }
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.seconds += 1;
        let now = Now {
            at: Duration::from_secs(self.seconds),
            unix: 1000.0 + self.seconds as f64,
        };
        self.machine.handle(event, now, &mut self.policies)
    }

    fn waiter(&mut self, is_request: bool) -> Waiter {
        self.waiters += 1;
        Waiter {
            id: self.waiters,
            is_request,
        }
    }

    fn request(&mut self, model: &str) -> (Waiter, Vec<Effect>) {
        let waiter = self.waiter(true);
        let seen = self.entry(model).stops;
        (
            waiter,
            self.tell(Event::Acquire {
                model: model.into(),
                waiter,
                seen,
            }),
        )
    }

    fn verb(&mut self, verb: &str, model: &str) -> (Waiter, Vec<Effect>) {
        let waiter = self.waiter(false);
        let model = model.to_owned();
        let event = match verb {
            "start" => Event::Start { model, waiter },
            "stop" => Event::Stop { model, waiter },
            "load" => Event::Load { model, waiter },
            _ => Event::Unload { model, waiter },
        };
        (waiter, self.tell(event))
    }

    fn entry(&self, model: &str) -> &Entry {
        self.machine
            .entries()
            .find(|entry| entry.spec.name == model)
            .unwrap()
    }

    fn states(&self, model: &str) -> (&'static str, &'static str) {
        let entry = self.entry(model);
        (
            entry.process_state().as_str(),
            entry.memory_state().as_str(),
        )
    }

    /// Starts a model that is not JIT and brings it into memory.
    fn loaded(&mut self, model: &str) -> Launch {
        let (_, effects) = self.verb("start", model);
        let launch = launched(&effects);
        self.tell(Event::Spawned {
            launch,
            pid: 40 + launch as u32,
        });
        self.tell(Event::Loaded { launch });
        assert_eq!(self.states(model), ("running", "loaded"));
        launch
    }
}

fn spec(name: &str) -> Spec {
    Spec {
        name: name.into(),
        jit: name.starts_with('j'),
        default: false,
    }
}

fn launched(effects: &[Effect]) -> Launch {
    effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Launch { launch, .. } => Some(*launch),
            _ => None,
        })
        .unwrap_or_else(|| panic!("nothing was launched: {effects:?}"))
}

fn answered(effects: &[Effect], waiter: Waiter) -> Option<&Answer> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer {
            waiter: told,
            answer,
        } if *told == waiter => Some(answer),
        _ => None,
    })
}

fn status_of(effects: &[Effect], waiter: Waiter) -> u16 {
    match answered(effects, waiter) {
        Some(Answer::Refused(error)) => error.status,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

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
    let effects = story.tell(Event::Gone {
        launch,
        exit_code: None,
        reason: String::new(),
    });
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
    let effects = story.tell(Event::Gone {
        launch,
        exit_code: None,
        reason: String::new(),
    });
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
    let effects = story.tell(Event::Gone {
        launch: held,
        exit_code: None,
        reason: String::new(),
    });
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
    let effects = story.tell(Event::Gone {
        launch,
        exit_code: None,
        reason: String::new(),
    });
    launched(&effects);
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
    let effects = story.tell(Event::Gone {
        launch: held,
        exit_code: None,
        reason: String::new(),
    });
    let effects = story.tell(Event::Loaded {
        launch: launched(&effects),
    });
    assert_eq!(answered(&effects, request), Some(&Answer::Granted));
}

#[test]
fn a_parked_load_is_refused_in_the_end() {
    let mut story = Story::of(&["a"]);
    story
        .policies
        .on_load
        .insert("a".into(), LoadVerdict::Wait(3.0));
    let (request, _) = story.request("a");
    assert_eq!(story.tell(Event::Tick), []);
    story.tell(Event::Tick);
    let effects = story.tell(Event::Tick);
    assert_eq!(status_of(&effects, request), 429);
    assert_eq!(story.states("a"), ("inactive", "unloaded"));
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
    story.tell(Event::Gone {
        launch: a,
        exit_code: None,
        reason: String::new(),
    });
    let effects = story.tell(Event::Gone {
        launch: b,
        exit_code: None,
        reason: String::new(),
    });
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
    let effects = story.tell(Event::Gone {
        launch,
        exit_code: None,
        reason: String::new(),
    });
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
    let effects = story.tell(Event::Gone {
        launch,
        exit_code: None,
        reason: String::new(),
    });
    assert_eq!(effects.last(), Some(&Effect::Finished));
    assert_eq!(story.tell(Event::Tick), []);
}
