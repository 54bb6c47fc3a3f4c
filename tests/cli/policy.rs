//! `policy`: what it prints without a hub, and with one that answers from a table.

use std::net::TcpListener;
use std::path::Path;

use insta_cmd::assert_cmd_snapshot;
use serde_json::{Value, json};

use crate::home_of_four;
use crate::messages::{Book, also};
use crate::support::home::Home;
use crate::with_hub::hub;

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn write_policy(home: &Home, name: &str, text: &str) {
    std::fs::write(home.config().with_file_name(name), text).unwrap();
}

const KEEPER: &str = "return { on_idle = function(model, hub) return hub.keep() end }\n";

#[test]
fn show_prints_the_file_byte_for_byte() {
    let home = Home::empty();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(root.join("scripts/create_hub.lua")).unwrap();
    for name in ["create_hub", "create_hub.lua", "bundled/create_hub.lua"] {
        let output = home.command(["policy", "show", name]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stdout == file, "{name}");
    }
}

#[test]
fn show_without_a_name_lists_every_bundled_policy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Home::empty().command(["policy", "show"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let files = std::fs::read_dir(root.join("scripts")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let policies = files.filter(|path| path.extension().is_some_and(|end| end == "lua"));
    let mut names: Vec<_> = policies
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), names.len(), "{text}");
    for (line, name) in lines.iter().zip(&names) {
        let (listed, about) = line.split_once("  ").unwrap();
        assert_eq!(listed, name);
        assert!(about.trim().len() > 10 && about.ends_with('.'), "{line}");
    }
    assert!(text.contains("What the hub does when no other policy decides"));
}

#[test]
fn show_of_an_unknown_name_says_which_is_near() {
    let home = Home::empty();
    assert_cmd_snapshot!(home.command(["policy", "show", "creat_hub"]));
}

#[test]
fn list_without_a_hub_shows_what_the_folder_has() {
    let port = free_port();
    let home = home_of_four(port);
    write_policy(&home, "keeper.lua", KEEPER);
    write_policy(&home, "broken.lua", "return { on_idel = print }\n");
    write_policy(&home, "keeper_test.lua", "no policy\n");
    let _filters = home.filters(port);
    assert_cmd_snapshot!(home.command(["policy", "list"]));
}

/// A name with a model that there is not, and one about which the policy fails.
#[test]
fn check_asks_about_the_names_that_policies_answer_for() {
    let home = home_of_four(free_port());
    write_policy(
        &home,
        "names.lua",
        "return {\n  models = { auto = { model = 'alpah' }, other = 'fails' },\n  on_request = function(req)\n    \
         if req.model == 'other' then error('no') end\n  end,\n}\n",
    );
    assert_cmd_snapshot!(home.command(["policy", "check"]));
}

#[test]
fn check_of_good_policies_says_so() {
    let home = home_of_four(free_port());
    write_policy(&home, "keeper.lua", KEEPER);
    assert_cmd_snapshot!(home.command(["policy", "check"]));
}

/// What hooks would meet only in a hub that runs: a verdict of another hook once a model is idle, a field
/// that is not there behind a condition, a reject without a message.
#[test]
fn check_reports_every_mistake_once_with_its_line_and_what_would_be_right() {
    let home = home_of_four(free_port());
    home.write(
        "host: 127.0.0.1\npolicies: [lru_swop]\n\
         groups: [{name: small, max_loaded: 1}]\n\
         models:\n\
         - {name: a, model_path: org/a, group: small}\n\
         - {name: b, model_path: org/b, group: small, model_type: embeddings}\n",
    );
    write_policy(&home, "1_keeper.lua", KEEPER);
    write_policy(
        &home,
        "2_idle.lua",
        "return {\n  on_idle = function(model, hub)\n    if model.idle_seconds > 3600 then\n      \
         return hub.reject{ status = 429, message = 'no' }\n    end\n  end,\n}\n",
    );
    write_policy(
        &home,
        "3_request.lua",
        "return { on_request = function(req, hub)\n  if req.path == '/v1/embeddings' then\n    \
         return hub.reject{ status = 400 }\n  end\n  return req.modle and hub.route{}\nend }\n",
    );
    write_policy(
        &home,
        "6_nameless.lua",
        "return { on_request = function(req, hub)\n  if req.model:find('^gpt') then\n    \
         return hub.route{ model = 'a' }\n  end\nend }\n",
    );
    write_policy(
        &home,
        "4_syntax.lua",
        "return {\n  on_load = functoin() end\n}\n",
    );
    write_policy(
        &home,
        "5_observer.lua",
        "hub.on('model.failed', function(event)\n  local text = event.eror .. '!'\nend)\nreturn {}\n",
    );
    let mut settings = insta::Settings::clone_current();
    // The list of bundled policies grows.
    settings.add_filter("there are: .*", "there are: …");
    settings.bind(|| assert_cmd_snapshot!(home.command(["policy", "check"])));
    assert!(!home.logs().exists(), "it left something behind");
}

fn report() -> Value {
    let policy = |name: &str, facts: Value| {
        let mut policy = json!({
            "name": name, "origin": "file", "hooks": ["on_request"], "observes": [], "models": [], "denies": false, "calls": 0,
            "verdicts": 0, "failures": 0, "average_seconds": null, "last_error": null,
            "switched_off": false,
        });
        for (key, value) in facts.as_object().unwrap() {
            policy[key] = value.clone();
        }
        policy
    };
    json!({
        "memory_bytes": 123_456,
        "warnings": ["Policy `b.lua` is switched off until it is reloaded."],
        "policies": [
            policy("a.lua", json!({"models": ["auto", "best"], "calls": 1200, "verdicts": 7, "average_seconds": 0.000_002_4})),
            policy("b.lua", json!({"observes": ["model.failed"], "calls": 10, "failures": 10, "switched_off": true,
                "average_seconds": 0.0005, "last_error": "b.lua:3: no such thing"})),
            policy("bundled/create_hub.lua", json!({"origin": "bundled",
                "hooks": ["on_request", "on_load", "on_idle", "on_exit", "on_trouble"]})),
        ],
    })
}

#[test]
fn list_shows_what_the_hub_counted() {
    let (hub, home) = hub(|request| (request == "GET /hub/policies").then(|| (200, report())));
    let _filters = home.filters(hub.port());
    assert_cmd_snapshot!(home.command(["policy", "list"]));
    let output = home.command(["policy", "list", "--json"]).output().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        report()
    );
    assert_eq!(hub.requests(), ["GET /hub/policies", "GET /hub/policies"]);
}

/// With the files of `tests/inputs/policy_test` beside hub.yaml.
fn home_with_tests() -> Home {
    let home = Home::empty();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root.join("tests/inputs/policy_test")).unwrap() {
        let entry = entry.unwrap();
        let beside = home.config().with_file_name(entry.file_name());
        std::fs::copy(entry.path(), beside).unwrap();
    }
    home
}

#[test]
fn test_tells_what_each_case_expected_and_where() {
    let home = home_with_tests();
    let _filters = home.filters(0);
    assert_cmd_snapshot!(home.command(["policy", "test"]));
}

#[test]
fn test_runs_the_named_files_alone() {
    let home = home_with_tests();
    let file = "mlx-openai-server-hub/empty_test.lua";
    let output = home.command(["policy", "test", file]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("0 passed, 1 failed\n"), "{text}");
    assert!(!text.contains("turns_test.lua"), "{text}");
}

#[test]
fn a_slow_policy_passes_its_test_on_any_machine() {
    let home = Home::empty();
    home.write("models:\n- {name: a, model_path: org/a, jit_enabled: true, auto_unload_minutes: 1, default: true}\n");
    let slow =
        "return { on_idle = function(model, hub) for _ = 1, 4e5 do end return hub.keep() end }\n";
    write_policy(&home, "slow.lua", slow);
    let test = "test.case('it keeps', function()\n  local hub = test.hub()\n  hub:request('a', { seconds = 1 })\n  \
                hub:settle()\n  hub:advance('10m')\n  test.matches(hub.warnings[1], 'is slow')\nend)\n";
    write_policy(&home, "slow_test.lua", test);
    let output = home.command(["policy", "test"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("1 passed, 0 failed\n"), "{text}");
}

#[test]
fn test_without_a_test_says_so() {
    let home = Home::empty();
    let _filters = home.filters(0);
    assert_cmd_snapshot!(home.command(["policy", "test"]));
}

#[test]
fn list_of_a_hub_without_policies_says_what_that_means() {
    let (hub, home) = hub(|_| {
        Some((
            200,
            json!({"memory_bytes": 0, "warnings": [], "policies": []}),
        ))
    });
    let _filters = home.filters(hub.port());
    assert_cmd_snapshot!(home.command(["policy", "list"]));
}

/// 12:30 of a day long ago, in UTC.
const LONG_AGO: f64 = 1_764_073_800.0;

#[test]
fn explain_says_when_there_is_nothing_to_tell() {
    let nothing = |since: Value| json!({"decisions": [], "since": since});
    let unload = json!({
        "number": 1, "time": LONG_AGO, "last_time": LONG_AGO, "times": 1, "hook": null, "model": "a",
        "request": null, "policy": null, "place": null, "verdict": "unload", "fields": {},
        "reason": null, "inputs": {}, "abstained": [], "failed": [], "by": "command",
        "outcome": "unloaded",
    });
    let (hub, home) = hub(move |request| {
        Some((
            200,
            match request {
                "GET /hub/policies" => report(),
                // The last before that.
                request if request.contains("model=a") && request.contains("limit=1") => {
                    json!({"decisions": [unload], "since": LONG_AGO})
                }
                request if request.contains("limit=1") => nothing(json!(LONG_AGO)),
                _ => nothing(Value::Null),
            },
        ))
    });
    let mut book = Book::of(&home);
    book.run("no decision", &["policy", "explain"]);
    book.run("none about that model", &["policy", "explain", "a"]);
    book.run("none at that time", &["policy", "explain", "--at", "12:30"]);
    book.run(
        "but one before",
        &["policy", "explain", "a", "--at", "12:30"],
    );
    book.run("no such model", &["policy", "explain", "zebra"]);
    book.run("a name of a policy", &["policy", "explain", "auto"]);
    let _filters = home.filters(hub.port());
    let _more = also(&[(r"around (\S+ )?12:30:00", "around TIME")]);
    insta::assert_snapshot!(book.text);
}

#[test]
fn record_says_where_how_much_and_what_went_wrong() {
    let report = |recording: bool, calls: u64, dropped: u64, error: Value| {
        let since = LONG_AGO;
        let file = "/logs/calls.jsonl";
        json!({"recording": recording, "file": file, "since": since, "calls": calls, "bytes": 2000,
               "limit_bytes": 67_108_864, "dropped": dropped, "error": error})
    };
    let (hub, home) = hub(move |request| {
        Some((
            200,
            match request {
                "POST /hub/policies/recording/stop" => {
                    report(false, 1, 3, json!("it cannot be written: disk full"))
                }
                _ => report(true, 12, 0, Value::Null),
            },
        ))
    });
    let mut book = Book::of(&home);
    book.run("a new file", &["policy", "record", "on", "calls.jsonl"]);
    book.run("it goes on", &["policy", "record", "status"]);
    book.run("it ended", &["policy", "record", "off"]);
    let _filters = home.filters(hub.port());
    insta::assert_snapshot!(book.text);
}

/// A recording of one call of `on_load` about `model`, of a request whose body is not there, and, if
/// that is `a`, of one that names no model.
pub(crate) fn recording(model: &str, version: u32) -> String {
    let load = json!({
        "time": LONG_AGO, "hook": "on_load", "model": model,
        "load": {"reason": "manual", "waiting": 0, "waited_seconds": 0.0},
        "said": {"verdict": "allow", "place": "old.lua:1"},
    });
    let nameless = json!({
        "time": LONG_AGO, "hook": "on_request",
        "said": {"verdict": "route", "fields": {"model": "a"}, "place": "old.lua:2"},
        "request": {"method": "POST", "path": "/v1/chat/completions", "client": "127.0.0.1",
                    "waited_seconds": 0.0, "headers": {},
                    "body": {"size_bytes": 2, "prompt_chars": 0, "is_json": true, "fields": {}}},
    });
    let request = json!({
        "time": LONG_AGO, "hook": "on_request", "model": "a", "said": {"verdict": "pass"},
        "request": {"method": "POST", "path": "/v1/chat/completions", "client": "127.0.0.1",
                    "waited_seconds": 0.0, "headers": {}},
    });
    let head = json!({"recording": version, "program": "0.1.0", "time": LONG_AGO});
    let end = json!({"end": "off", "time": LONG_AGO, "dropped": 3});
    let mut lines = vec![head, load, request, nameless, end];
    if model != "a" {
        lines.remove(3);
    }
    let lines = lines.iter().map(|line| format!("{line}\n"));
    lines.collect()
}

#[test]
fn replay_says_what_differs_what_is_missing_and_what_is_no_recording() {
    let port = free_port();
    let home = home_of_four(port);
    write_policy(
        &home,
        "nosy.lua",
        "return {\n  on_request = function(req) return req.body.user and nil end,\n  \
         on_load = function(load, hub) return hub.wait{ seconds = 5 } end,\n}\n",
    );
    let write = |name: &str, text: &[u8]| std::fs::write(home.path().join(name), text).unwrap();
    write("calls.jsonl", recording("a", 1).as_bytes());
    write("others.jsonl", recording("gone", 1).as_bytes());
    write("newer.jsonl", recording("a", 9).as_bytes());
    write("no.jsonl", b"{}\n");
    let calls = recording("a", 1);
    let is_call = |line: &&str| line.contains("\"hook\"");
    let without_calls = calls.lines().filter(|line| !is_call(line));
    write(
        "empty.jsonl",
        without_calls.collect::<Vec<_>>().join("\n").as_bytes(),
    );
    write(
        "broken.jsonl",
        recording("a", 1).replacen("on_load", "\"", 1).as_bytes(),
    );
    write(
        "binary.jsonl",
        &[recording("a", 1).as_bytes(), b"\xff\n{}\n"].concat(),
    );
    let mut book = Book::of(&home);
    for (case, file) in [
        ("another verdict", "calls.jsonl"),
        ("a model that is gone", "others.jsonl"),
        ("a newer version", "newer.jsonl"),
        ("no recording", "no.jsonl"),
        ("no calls", "empty.jsonl"),
        ("a broken line", "broken.jsonl"),
        ("a line that is no text", "binary.jsonl"),
        ("no file", "nosuch.jsonl"),
    ] {
        book.run(case, &["policy", "replay", file]);
    }
    write_policy(&home, "nosy.lua", "return 1");
    book.run(
        "a policy that does not load",
        &["policy", "replay", "calls.jsonl"],
    );
    let _filters = home.filters(port);
    insta::assert_snapshot!(book.text);
}
