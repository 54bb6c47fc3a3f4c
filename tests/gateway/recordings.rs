//! `policy record` and `policy replay`: what is written down of a real hub's decisions, what never is, and
//! what other policies would have decided.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};

use crate::CHAT;
use crate::decisions::models;
use crate::support::{Hub, SOON, wait_until};

/// Puts what it can of a request's text into verdicts and errors.
const GOSSIP: &str = r#"return {
  on_request = function(req, hub)
    local text = req.body.messages and req.body.messages[1].content or ""
    if req.model == "refused" then
      return hub.reject{ status = 400, message = text, code = text, type = text, param = text }
    elseif req.model == "changed" then
      return hub.route{ model = "alpha", set = { user = text, [text] = true }, headers = { ["X-T"] = text } }
    elseif req.model == "astray" then
      return hub.route{ model = text }
    elseif req.model == "broken" then
      error(text)
    end
  end,
}
"#;

const MARKER: &str = "marker 7f3a of a prompt";

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn recording(hub: &Hub) -> Value {
    hub.http.get("/hub/policies/recording").json()
}

/// Begins a recording in the folder of the test.
fn record(hub: &Hub, name: &str) -> PathBuf {
    let file = hub.folder().join(name);
    let output = hub.run(&["policy", "record", "on", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).starts_with(&format!("[ok] Recording to {}\n", file.display())));
    file
}

fn lines(file: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn no_text_of_a_request_is_written_down_whatever_policies_do_with_it() {
    let hub = Hub::start_with(&models(), &[("gossip.lua", GOSSIP)]);
    let file = record(&hub, "calls.jsonl");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    for model in ["alpha", "refused", "changed", "astray", "broken"] {
        let mut body = json!({"model": model, "max_tokens": 7, "temperature": 0.5, "stream": false,
            "user": MARKER, "messages": [{"role": "user", "content": MARKER}]});
        body[MARKER] = json!(true);
        let headers = [
            ("content-type", "application/json"),
            ("user-agent", "a test/1"),
            ("authorization", MARKER),
            ("x-other", MARKER),
            ("cookie", MARKER),
            ("x-request-id", "id-7f3a"),
        ];
        let path = format!("{CHAT}?key={}", MARKER.replace(' ', "+"));
        let reply = hub
            .http
            .send("POST", &path, &headers, body.to_string().as_bytes());
        reply.unwrap().whole().unwrap();
    }
    wait_until("all requests to be written", SOON, || {
        recording(&hub)["calls"]
            .as_u64()
            .is_some_and(|calls| calls >= 5)
    });
    wait_until("an event to be written", SOON, || {
        let text = std::fs::read_to_string(&file).unwrap();
        text.contains("request.finished")
    });
    let output = hub.run(&["policy", "record", "off"]);
    assert!(stdout(&output).starts_with("[ok] Recorded "), "{output:?}");

    let text = std::fs::read_to_string(&file).unwrap();
    for part in [MARKER, "7f3a", "authorization", "cookie", "x-other", "X-T"] {
        assert!(!text.contains(part), "{part} in {text}");
    }
    let lines = lines(&file);
    let request = lines
        .iter()
        .find(|line| line["hook"] == "on_request")
        .unwrap();
    let size = request["request"]["body"]["size_bytes"].as_u64().unwrap();
    assert!(size > 100, "{request}");
    assert_eq!(
        request["request"]["body"],
        json!({"size_bytes": size, "prompt_chars": MARKER.len(), "is_json": true,
               "fields": {"max_tokens": 7, "temperature": 0.5, "stream": false}})
    );
    assert_eq!(request["request"]["headers"]["user-agent"], "a test/1");
    assert_eq!(request["request"]["path"], CHAT);
    let said = |model: &str| {
        let line = lines.iter().find(|line| line["model"] == model).unwrap();
        line["said"].clone()
    };
    assert_eq!(said("refused")["fields"], json!({"status": 400}));
    assert_eq!(said("refused")["place"], "gossip.lua:5");
    assert_eq!(said("changed")["fields"]["model"], "alpha");
    assert_eq!(said("astray")["fields"]["model"], "?");
    assert_eq!(said("broken")["verdict"], "pass");
    assert_eq!(lines[0]["recording"], 1);
    assert_eq!(lines.last().unwrap()["end"], "off");
}

#[test]
fn observers_hear_in_a_replay_what_happened_and_decide_from_it() {
    let hub = Hub::start_with(&models(), &[]);
    let file = record(&hub, "calls.jsonl");
    for finished in 1..=3 {
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        wait_until("the end of a request to be written", SOON, || {
            let text = std::fs::read_to_string(&file).unwrap();
            text.matches("\"request.finished\"").count() == finished
        });
    }
    assert!(hub.run(&["policy", "record", "off"]).status.success());

    // Nobody observed anything when that was recorded.
    let learns = r#"
hub.on("model.loaded", function(event, hub) hub.state.loaded = event.model end)
hub.on("request.finished", function(event, hub)
  assert(event.id == "replayed" and event.status == 200)
  assert(hub.models.alpha.memory_state == "loaded")
  hub.state.finished = (hub.state.finished or 0) + 1
end)
return { on_request = function(req, hub)
  if hub.state.loaded == "alpha" and hub.state.finished == 2 then
    return hub.route{ model = "beta" }
  end
end }
"#;
    std::fs::write(hub.folder().join("learns.lua"), learns).unwrap();
    let output = hub.run(&["policy", "replay", file.to_str().unwrap()]);
    let text = stdout(&output);
    assert!(
        text.contains("on_request: 3 calls, 1 would differ\n"),
        "{text}"
    );
    assert!(text.contains("route to beta (learns.lua:10)"), "{text}");
    assert!(!text.contains("[warn]"), "{text}");
}

#[test]
fn troubles_are_recorded_and_replayed() {
    let patient = "return { on_trouble = function(trouble, hub) return hub.leave{} end }\n";
    let hub = Hub::start_with(
        &crate::alpha(&["--fail-requests"]),
        &[("patient.lua", patient)],
    );
    let file = record(&hub, "calls.jsonl");
    wait_until("a trouble to be written", SOON, || {
        assert_eq!(hub.http.chat("alpha", "hello").status, 500);
        let text = std::fs::read_to_string(&file).unwrap();
        text.contains("\"hook\":\"on_trouble\"")
    });
    assert!(hub.run(&["policy", "record", "off"]).status.success());
    let replay = || stdout(&hub.run(&["policy", "replay", file.to_str().unwrap()]));
    let text = replay();
    assert!(
        text.contains("on_trouble: 1 call, 0 would differ\n"),
        "{text}"
    );
    std::fs::remove_file(hub.folder().join("patient.lua")).unwrap();
    let text = replay();
    assert!(
        text.contains("on_trouble: 1 call, 1 would differ\n"),
        "{text}"
    );
    assert!(
        text.contains("on_trouble: leave (patient.lua:1) → restart"),
        "{text}"
    );
}

#[test]
fn a_replay_shows_what_changed_policies_would_decide_otherwise() {
    let swap = "return { on_load = function(load, hub)\n  if load.group.free <= 0 then\n    \
                return hub.evict(load.group.loaded)\n  end\nend }\n";
    let hub = Hub::start_with(&models(), &[("swap.lua", swap)]);
    let file = record(&hub, "calls.jsonl");
    for model in ["alpha", "beta", "alpha"] {
        assert_eq!(hub.http.chat(model, "hello").status, 200);
    }
    wait_until("the loads to be written", SOON, || {
        let text = std::fs::read_to_string(&file).unwrap();
        text.matches("\"hook\":\"on_load\"").count() >= 3
    });
    assert!(hub.run(&["policy", "record", "off"]).status.success());

    let replay = |file: &PathBuf| hub.run(&["policy", "replay", file.to_str().unwrap()]);
    let same = replay(&file);
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let text = stdout(&same);
    assert!(
        text.contains("on_load: 3 calls, 0 would differ\n"),
        "{text}"
    );
    assert!(
        text.contains("on_request: 3 calls, 0 would differ\n"),
        "{text}"
    );
    assert!(
        text.ends_with("[ok] Every call would be decided as it was\n"),
        "{text}"
    );

    // Without the swap a full group refuses; a new rule reads what is not recorded.
    std::fs::remove_file(hub.folder().join("swap.lua")).unwrap();
    let nosy = "return { on_request = function(req, hub)\n  if req.body.user == nil and \
                req.prompt_chars == 5 then\n    return hub.route{ model = 'beta' }\n  end\nend }\n";
    std::fs::write(hub.folder().join("nosy.lua"), nosy).unwrap();
    let other = replay(&file);
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    let text = stdout(&other);
    let line = |words: &[&str]| {
        text.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(
        line(&[
            "beta  on_load: evict alpha (swap.lua:3) → reject with 429 (bundled/create_hub.lua:"
        ]),
        "{text}"
    );
    assert!(
        line(&["alpha  on_request: pass (nobody) → route to beta (nosy.lua:3)"]),
        "{text}"
    );
    assert!(
        text.contains("on_load: 3 calls, 2 would differ\n"),
        "{text}"
    );
    assert!(
        text.contains("on_request: 3 calls, 3 would differ\n"),
        "{text}"
    );
    assert!(
        text.contains("[warn] 3 calls read something of a request that is not recorded"),
        "{text}"
    );

    // A policy that does not load is trouble, and so is a file that is no recording.
    std::fs::write(hub.folder().join("nosy.lua"), "return 1").unwrap();
    assert_eq!(replay(&file).status.code(), Some(2));
    std::fs::remove_file(hub.folder().join("nosy.lua")).unwrap();
    let output = replay(&hub.config());
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.ends_with("is no recording of `policy record`\n"),
        "{stderr}"
    );
}

#[test]
fn a_recording_is_off_until_it_is_asked_for_and_takes_no_file_that_is_there() {
    let hub = Hub::start_with(&models(), &[]);
    let run = |arguments: &[&str]| hub.run(&[&["policy", "record"], arguments].concat());
    assert_eq!(recording(&hub)["recording"], false);
    assert_eq!(recording(&hub)["file"], Value::Null);
    for switch in ["status", "off"] {
        assert_eq!(
            stdout(&run(&[switch])),
            "[info] Nothing is being recorded\n"
        );
    }
    let config = std::fs::read(hub.config()).unwrap();
    let mut told = String::new();
    let mut refused = |arguments: &[&str]| {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1));
        told += &String::from_utf8(output.stderr).unwrap();
    };
    refused(&["on", hub.config().to_str().unwrap()]);
    let nowhere = hub.folder().join("no/such/folder.jsonl");
    refused(&["on", nowhere.to_str().unwrap()]);
    assert_eq!(std::fs::read(hub.config()).unwrap(), config);

    // Without a file it is among the logs.
    assert!(run(&["on"]).status.success());
    let report = recording(&hub);
    let file = PathBuf::from(report["file"].as_str().unwrap());
    assert_eq!(file.parent(), Some(hub.logs().as_path()));
    assert!(
        stdout(&run(&["status"]))
            .starts_with(&format!("[info] Recording to {} since ", file.display()))
    );
    refused(&["on"]);
    assert!(run(&["off"]).status.success());
    refused(&["on", file.to_str().unwrap()]);
    assert_eq!(lines(&file).last().unwrap()["end"], "off");
    let told = told.replace(&file.display().to_string(), "FILE");
    let told = told.replace(&hub.folder().display().to_string(), "HOME");
    insta::assert_snapshot!(told, @"
    Error: `HOME/hub.yaml` must be an absolute path that ends in `.jsonl`
    Error: `HOME/no/such/folder.jsonl` cannot be written: No such file or directory (os error 2)
    Error: calls are being recorded in `FILE` already
    Error: `FILE` already exists
    ");
}
