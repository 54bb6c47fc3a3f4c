//! What `policy explain` says became of a decision, where no event tells it: the exact words of each.

use std::fmt::Write as _;

use mlx_openai_server_hub::api::WantedDecisions;
use mlx_openai_server_hub::policy::{Exit, LoadReason, Trouble, TroubleKind};

use crate::world::{Hub, pending, request};

const EXIT: Exit = Exit {
    exit_code: Some(1),
    was_ready: true,
    uptime_seconds: 60.0,
    crashes: 1,
};

/// What a hook runs, and whether the file refuses where it fails.
const DECIDED: &[(&str, &str, bool)] = &[
    (
        "on_request",
        "return hub.reject{ status = 429, message = 'no' }",
        false,
    ),
    ("on_request", "error('no')", true),
    (
        "on_request",
        "return hub.route{ set = { seed = 7 } }",
        false,
    ),
    ("on_request", "return hub.route{ model = 'beta' }", false),
    ("on_request", "return hub.route{ model = 'nosuch' }", false),
    ("on_request", "return hub.wait{ seconds = 1 }", false),
    (
        "on_load",
        "return hub.reject{ status = 400, message = 'no' }",
        false,
    ),
    ("on_load", "error('no')", true),
    ("on_load", "return hub.wait{ seconds = 1 }", false),
    ("on_idle", "return hub.keep()", false),
    ("on_idle", "error('no')", true),
    ("on_idle", "return hub.unload()", false),
    ("on_exit", "return hub.leave()", false),
    ("on_exit", "error('no')", true),
    ("on_trouble", "return hub.leave()", false),
    ("on_trouble", "return hub.keep{ seconds = 60 }", false),
    ("on_trouble", "return hub.restart{ seconds = 1 }", false),
    ("on_trouble", "error('no')", true),
];

#[test]
fn every_outcome_that_is_certain_at_once_has_its_words() {
    let mut told = String::new();
    for (hook, body, denies) in DECIDED {
        let on_error = if *denies { "on_error = 'deny', " } else { "" };
        let hook_of = format!("{on_error}{hook} = function(_, hub) {body} end");
        let hub = Hub::with(&format!("return {{ {hook_of} }}"));
        let policies = hub.load();
        match *hook {
            "on_request" => drop(policies.on_request(request("alpha"))),
            "on_load" => {
                policies.on_load("beta", pending(LoadReason::Request, 1));
                if body.contains("wait") {
                    // It is asked about again, and nobody has anything against it.
                    let hub = hub.file("policy.lua", "return {}");
                    assert!(policies.reload(hub.path(), &[]));
                    policies.on_load("beta", pending(LoadReason::Request, 1));
                }
            }
            "on_idle" => {
                policies.on_idle("alpha");
                policies.note_overtaken("alpha");
            }
            "on_trouble" => {
                policies.on_trouble("alpha", Trouble::of(TroubleKind::Errors));
                policies.note_recovered("alpha");
            }
            _ => drop(policies.on_exit("alpha", EXIT)),
        }
        let report = policies.decisions(&WantedDecisions::default());
        for decision in report.decisions {
            let outcome = decision.outcome.as_deref().unwrap_or("none yet");
            writeln!(told, "{hook}: {body}\n    {outcome}").unwrap();
        }
    }
    insta::assert_snapshot!(told);
}
