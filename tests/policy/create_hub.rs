//! The default policy, row by row.

use mlx_openai_server_hub::api::{GroupFacts, MemoryState, ProcessState};
use mlx_openai_server_hub::policy::{
    Exit, ExitVerdict, IdleVerdict, LoadReason, LoadVerdict, ModelView, RequestVerdict,
};

use crate::world::{Hub, ModelViewExt as _, group, model, pending, rejected, request};

const MINUTE: f64 = 60.0;

fn hub(models: Vec<ModelView>, groups: Vec<GroupFacts>) -> Hub {
    let hub = Hub::new();
    *hub.world.models.write() = models;
    *hub.world.groups.write() = groups;
    hub
}

#[test]
fn a_request_passes_unless_its_model_is_not_started() {
    let rows = [
        (ProcessState::Inactive, Some(400)),
        (ProcessState::Starting, None),
        (ProcessState::Running, None),
        (ProcessState::Stopping, Some(503)),
        (ProcessState::Stopped, Some(400)),
        (ProcessState::Failed, None),
    ];
    for (state, refused) in rows {
        let alpha = model("alpha").facts(|facts| facts.process_state = state);
        let policies = hub(vec![alpha], vec![]).load();
        for name in ["alpha", "org/alpha"] {
            let (_, verdict) = policies.on_request(request(name));
            match refused {
                None => assert_eq!(verdict, RequestVerdict::Pass, "{state:?}"),
                Some(status) => assert_eq!(rejected(&verdict).0, status, "{state:?}"),
            }
        }
        assert_eq!(policies.warnings(), [""; 0]);
    }
}

#[test]
fn an_unknown_model_is_left_to_the_gateway() {
    for name in ["nosuch", ""] {
        let (_, verdict) = hub(vec![], vec![]).load().on_request(request(name));
        assert_eq!(verdict, RequestVerdict::Pass);
    }
}

#[test]
fn the_refusals_say_what_to_do() {
    let hub = hub(
        vec![
            model("alpha").in_group("small").loaded(MINUTE),
            model("beta").in_group("small"),
            model("gamma").facts(|facts| facts.process_state = ProcessState::Inactive),
            model("delta").facts(|facts| facts.process_state = ProcessState::Stopping),
        ],
        vec![group("small", Some(1), None)],
    );
    let policies = hub.load();
    let mut texts = Vec::new();
    for name in ["gamma", "delta"] {
        match policies.on_request(request(name)).1 {
            RequestVerdict::Reject(error) => texts.push(error.to_json()),
            other => panic!("{other:?}"),
        }
    }
    match policies.on_load("beta", pending(LoadReason::Request, 1)) {
        LoadVerdict::Reject(error) => texts.push(error.to_json()),
        other => panic!("{other:?}"),
    }
    insta::assert_json_snapshot!("create_hub_refusals", texts);
}

/// What `on_load` says about `wanted`.
enum Expected {
    Allow,
    Evict(&'static [&'static str]),
    Full,
}

#[test]
fn a_load_fits_the_cap_or_evicts_who_is_due_or_is_refused() {
    use Expected::{Allow, Evict, Full};
    let wanted = || model("wanted").in_group("g");
    let member = |name: &str| model(name).in_group("g");
    let busy = |name: &str| {
        let mut view = member(name).loaded(9.0 * MINUTE);
        view.activity.active_requests = 1;
        view
    };
    let loading = |name: &str| {
        let mut view = member(name).loaded(9.0 * MINUTE);
        view = view.facts(|facts| facts.memory_state = MemoryState::Loading);
        view
    };
    let rows: Vec<(&str, Vec<ModelView>, GroupFacts, Expected)> = vec![
        (
            "no cap",
            vec![member("a").loaded(0.0)],
            group("g", None, None),
            Allow,
        ),
        (
            "a free place",
            vec![member("a").loaded(0.0)],
            group("g", Some(2), None),
            Allow,
        ),
        (
            "full",
            vec![member("a").loaded(9.0 * MINUTE)],
            group("g", Some(1), None),
            Full,
        ),
        (
            "full and loading",
            vec![loading("a")],
            group("g", Some(1), Some(1)),
            Full,
        ),
        (
            "not due yet",
            vec![member("a").loaded(2.0 * MINUTE - 1.0)],
            group("g", Some(1), Some(2)),
            Full,
        ),
        (
            "due to the second",
            vec![member("a").loaded(2.0 * MINUTE)],
            group("g", Some(1), Some(2)),
            Evict(&["a"]),
        ),
        (
            "due but busy",
            vec![busy("a")],
            group("g", Some(1), Some(2)),
            Full,
        ),
        (
            "the longest idle goes",
            vec![
                member("a").loaded(3.0 * MINUTE),
                member("b").loaded(5.0 * MINUTE),
            ],
            group("g", Some(2), Some(2)),
            Evict(&["b"]),
        ),
        (
            "as many go as are too many",
            vec![
                member("a").loaded(3.0 * MINUTE),
                member("b").loaded(5.0 * MINUTE),
            ],
            group("g", Some(1), Some(2)),
            Evict(&["b", "a"]),
        ),
        (
            "too few are due",
            vec![member("a").loaded(3.0 * MINUTE), busy("b")],
            group("g", Some(1), Some(2)),
            Full,
        ),
    ];
    for (row, mut models, facts, expected) in rows {
        models.push(wanted());
        let policies = hub(models, vec![facts]).load();
        let verdict = policies.on_load("wanted", pending(LoadReason::Request, 1));
        match (expected, verdict) {
            (Allow, LoadVerdict::Allow) => {}
            (Evict(names), LoadVerdict::Evict(evicted)) => assert_eq!(evicted, names, "{row}"),
            (Full, LoadVerdict::Reject(error)) => {
                assert_eq!(
                    (error.status, error.code.as_str()),
                    (429, "group_full"),
                    "{row}"
                );
            }
            (_, verdict) => panic!("{row}: {verdict:?}"),
        }
        assert_eq!(policies.warnings(), [""; 0], "{row}");
    }
}

#[test]
fn a_model_without_a_group_always_fits() {
    let policies = hub(vec![model("alpha")], vec![]).load();
    for reason in [LoadReason::Request, LoadReason::Start, LoadReason::Manual] {
        assert_eq!(
            policies.on_load("alpha", pending(reason, 0)),
            LoadVerdict::Allow
        );
    }
}

#[test]
fn the_smaller_idle_limit_unloads() {
    // jit_enabled, auto_unload_minutes, the group's limit, idle minutes, unloaded?
    let rows = [
        (true, None, None, 600.0, false),
        (true, Some(10), None, 9.9, false),
        (true, Some(10), None, 10.0, true),
        (false, Some(10), None, 600.0, false),
        (true, None, Some(5), 4.9, false),
        (true, None, Some(5), 5.0, true),
        (true, Some(10), Some(5), 5.0, true),
        (true, Some(3), Some(5), 3.0, true),
        (true, Some(3), Some(5), 2.9, false),
    ];
    for row in rows {
        let (jit, minutes, by_group, idle, unloaded) = row;
        let alpha = model("alpha").in_group("g").loaded(idle * MINUTE);
        let alpha = alpha.facts(|facts| {
            facts.jit_enabled = jit;
            facts.auto_unload_minutes = minutes;
        });
        let policies = hub(vec![alpha], vec![group("g", Some(1), by_group)]).load();
        let expected = match unloaded {
            true => IdleVerdict::Unload,
            false => IdleVerdict::Keep(0.0),
        };
        assert_eq!(policies.on_idle("alpha"), expected, "{row:?}");
    }
}

#[test]
fn a_users_allow_beats_the_cap() {
    let hub = hub(
        vec![
            model("alpha").in_group("g").loaded(0.0),
            model("beta").in_group("g"),
        ],
        vec![group("g", Some(1), None)],
    );
    let refused = hub.load().on_load("beta", pending(LoadReason::Request, 1));
    assert!(matches!(refused, LoadVerdict::Reject(_)));
    let hub = hub.file(
        "mine.lua",
        "return { on_load = function(_, hub) return hub.allow() end }",
    );
    let allowed = hub.load().on_load("beta", pending(LoadReason::Request, 1));
    assert_eq!(allowed, LoadVerdict::Allow);
}

#[test]
fn it_is_short_and_says_first_what_it_decides() {
    let source = include_str!("../../scripts/create_hub.lua");
    assert!(source.lines().count() < 140);
    assert!(source.starts_with("-- What the hub does"));
}

#[test]
fn a_worker_that_was_ready_comes_back_ever_more_slowly() {
    let exit = |was_ready, crashes| Exit {
        exit_code: Some(-9),
        was_ready,
        uptime_seconds: 1.0,
        crashes,
    };
    let rows = [
        (exit(true, 1), ExitVerdict::Restart(1.0)),
        (exit(true, 2), ExitVerdict::Restart(2.0)),
        (exit(false, 3), ExitVerdict::Restart(4.0)),
        (exit(true, 6), ExitVerdict::Restart(32.0)),
        (exit(true, 7), ExitVerdict::Restart(60.0)),
        (exit(true, 5000), ExitVerdict::Restart(60.0)),
        (exit(false, 1), ExitVerdict::Leave),
    ];
    let policies = hub(vec![model("alpha")], vec![]).load();
    for (exit, expected) in rows {
        assert_eq!(policies.on_exit("alpha", exit), expected, "{exit:?}");
    }
    assert_eq!(policies.warnings(), [""; 0]);
}
