//! Every way in which a verdict can be wrong, in one table: its text says where, what was wrong and
//! what would be right. The faults that are none of verdicts are in `tests/inputs/bad_policy`.

use std::fmt::Write as _;

use mlx_openai_server_hub::policy::{Exit, LoadReason, Trouble, TroubleKind};

use crate::world::{Hub, pending, request};

const EXIT: Exit = Exit {
    exit_code: Some(1),
    was_ready: true,
    uptime_seconds: 60.0,
    crashes: 1,
};

/// A hook, and what it returns.
const WRONG: &[(&str, &str)] = &[
    ("on_request", "hub.route()"),
    ("on_request", "hub.route{ model = {} }"),
    ("on_request", "hub.route{ modle = 'alpha' }"),
    ("on_request", "hub.route{ model = 'alpha', set = 1 }"),
    (
        "on_request",
        "hub.route{ model = 'alpha', set = { x = print } }",
    ),
    ("on_request", "hub.route{ model = 'alpha', unset = 'x' }"),
    (
        "on_request",
        "hub.route{ model = 'alpha', headers = { ['a b'] = 'x' } }",
    ),
    (
        "on_request",
        "hub.route{ model = 'alpha', headers = { a = '\\n' } }",
    ),
    ("on_request", "hub.route{ model = 'alpha', headers = 'x' }"),
    (
        "on_request",
        "hub.route{ model = 'alpha', headers = { a = {} } }",
    ),
    ("on_request", "hub.reject('no')"),
    ("on_request", "hub.reject{ message = 'no' }"),
    ("on_request", "hub.reject{ status = 429 }"),
    (
        "on_request",
        "hub.reject{ status = 'busy', message = 'no' }",
    ),
    ("on_request", "hub.reject{ status = 429.5, message = 'no' }"),
    ("on_request", "hub.reject{ status = 200, message = 'no' }"),
    ("on_request", "hub.reject{ status = 99999, message = 'no' }"),
    ("on_request", "hub.reject{ status = 429, message = {} }"),
    (
        "on_request",
        "hub.reject{ status = 429, message = 'no', retry_after = -1 }",
    ),
    (
        "on_request",
        "hub.reject{ status = 429, message = 'no', retry_after = 0/0 }",
    ),
    ("on_request", "hub.reject{ status = 429, mesage = 'no' }"),
    (
        "on_request",
        "hub.reject{ status = 429, message = 'no', reason = 1 }",
    ),
    ("on_request", "hub:reject{ status = 429, message = 'no' }"),
    ("on_request", "hub.wait{}"),
    ("on_request", "hub.wait(5)"),
    ("on_request", "hub.wait{ seconds = 'long' }"),
    ("on_request", "hub.wait{ seconds = -1 }"),
    ("on_request", "hub.wait{ seconds = math.huge }"),
    ("on_request", "hub.wait{ second = 1 }"),
    ("on_request", "hub.wait{ seconds = 1, client = {} }"),
    ("on_request", "hub.allow()"),
    ("on_request", "hub.evict{ 'beta' }"),
    ("on_request", "hub.unload()"),
    ("on_request", "hub.restart{ seconds = 1 }"),
    ("on_request", "req"),
    ("on_request", "hub.models.alpha"),
    ("on_request", "hub.route"),
    ("on_request", "{ model = 'alpha' }"),
    ("on_request", "'alpha'"),
    ("on_request", "false"),
    ("on_load", "hub.allow(true)"),
    ("on_load", "hub.allow{ because = 'x' }"),
    ("on_load", "hub.evict()"),
    ("on_load", "hub.evict{}"),
    ("on_load", "hub.evict('alpha')"),
    ("on_load", "hub.evict{ 1, {} }"),
    ("on_load", "hub.evict{ alpha = true }"),
    ("on_load", "hub.evict{ 'alhpa' }"),
    ("on_load", "hub.wait{ seconds = 1, client = 'x' }"),
    ("on_load", "hub.route{ model = 'alpha' }"),
    ("on_load", "hub.keep()"),
    ("on_load", "req.model"),
    ("on_idle", "hub.unload(1)"),
    ("on_idle", "hub.stop('alpha')"),
    ("on_idle", "hub.stop{ model = 'alpha' }"),
    ("on_idle", "hub.keep(60)"),
    ("on_idle", "hub.keep{ seconds = true }"),
    ("on_idle", "hub.keep{ seconds = -0.5 }"),
    ("on_idle", "hub.keep{ minutes = 1 }"),
    ("on_idle", "hub.reject{ status = 429, message = 'no' }"),
    ("on_exit", "hub.restart()"),
    ("on_exit", "hub.restart{}"),
    ("on_exit", "hub.restart{ seconds = {} }"),
    ("on_exit", "hub.restart{ seconds = -1 }"),
    ("on_exit", "hub.restart{ after = 1 }"),
    ("on_exit", "hub.leave('alpha')"),
    ("on_exit", "hub.leave{ model = 'alpha' }"),
    ("on_exit", "hub.stop()"),
    ("on_trouble", "hub.restart{}"),
    ("on_trouble", "hub.unload()"),
];

#[test]
fn every_wrong_verdict_is_told_with_file_and_line_and_what_would_be_right() {
    let mut told = String::new();
    for (hook, returned) in WRONG {
        let policy = format!("return {{ {hook} = function(req, hub)\n  return {returned}\nend }}");
        let policies = Hub::new().file("a.lua", policy).load();
        match *hook {
            "on_request" => drop(policies.on_request(request("alpha"))),
            "on_load" => drop(policies.on_load("beta", pending(LoadReason::Request, 1))),
            "on_idle" => drop(policies.on_idle("alpha")),
            "on_trouble" => drop(policies.on_trouble("alpha", Trouble::of(TroubleKind::Silent))),
            _ => drop(policies.on_exit("alpha", EXIT)),
        }
        let warnings = policies.warnings().join("\n");
        let error = warnings.split_once("The last: ").map(|(_, error)| error);
        let error = error.unwrap_or_else(|| panic!("{hook}: {returned} is no error: {warnings}"));
        // Of a value that is no verdict no line is known but that of the hook.
        let has_line = ["a.lua:1: ", "a.lua:2: "]
            .iter()
            .any(|place| error.starts_with(place));
        assert!(has_line, "{hook}: {returned}: {error}");
        writeln!(told, "{hook}: {returned}\n    {error}").unwrap();
    }
    insta::with_settings!({ filters => [("0x[0-9a-f]+", "[address]")] }, {
        insta::assert_snapshot!(told);
    });
}
