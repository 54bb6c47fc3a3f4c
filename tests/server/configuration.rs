//! The editor of hub.yaml over HTTP: who may use it, and what it never does to the file.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use mlx_openai_server_hub::config::KeyDigest;
use serde_json::{Value, json};

use crate::support::Hub;
use crate::support::http::{Answer, Reply};
use crate::{alpha, assert_error};

const CONTROL: &str = "a-key-that-may-control-the-hub";
const USE: &str = "a-key-that-may-use-the-models";

fn yaml(more: &str) -> String {
    format!("edit_config: true\n{more}{}", alpha(&[]))
}

fn send(hub: &Hub, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let reply = hub.http.send(method, path, headers, body.as_bytes());
    reply.and_then(Reply::whole).unwrap()
}

fn read(hub: &Hub) -> (String, String) {
    let answer = hub.http.get("/hub/config");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let file = answer.json();
    let tag = answer.header("etag").unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", file["version"].as_str().unwrap()));
    (file["text"].as_str().unwrap().to_owned(), tag)
}

fn save(hub: &Hub, tag: &str, text: &str) -> Answer {
    send(hub, "PUT", "/hub/config", &[("if-match", tag)], text)
}

fn check(hub: &Hub, text: &str) -> Value {
    let answer = send(hub, "POST", "/hub/config/check", &[], text);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn on_disk(hub: &Hub) -> String {
    std::fs::read_to_string(hub.config()).unwrap()
}

fn backup(hub: &Hub, number: u32) -> String {
    let path = hub.folder().join(format!("hub.yaml.bak.{number}"));
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_text_is_checked_shown_beside_the_file_saved_and_in_force() {
    let hub = Hub::start(&yaml("# mine\nspares: 0\n"));
    let (text, tag) = read(&hub);
    assert_eq!(text, on_disk(&hub));
    let after =
        text.replace("spares: 0", "spares: 0   # none") + "- {name: beta, model_path: org/beta}\n";
    let told = check(&hub, &after);
    assert_eq!(
        (&told["valid"], &told["findings"]),
        (&json!(true), &json!([]))
    );
    let changed: Vec<_> = (told["difference"].as_array().unwrap().iter())
        .filter(|line| line["kind"] != "same")
        .map(|line| {
            (
                line["kind"].as_str().unwrap(),
                line["text"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        changed,
        [
            ("removed", "spares: 0"),
            ("added", "spares: 0   # none"),
            ("added", "- {name: beta, model_path: org/beta}"),
        ]
    );
    assert_eq!(on_disk(&hub), text, "a check changes nothing");
    // A warning has its place too, and keeps nobody from saving.
    let told = check(&hub, &format!("sparse: 1\n{text}"));
    let warning = &told["warnings"][0];
    assert_eq!(
        (&told["valid"], &warning["line"], &warning["length"]),
        (&json!(true), &json!(1), &json!(6))
    );
    let message = warning["message"].as_str().unwrap();
    assert!(
        message.starts_with("unknown key `sparse` in hub.yaml is ignored"),
        "{told}"
    );

    let saved = save(&hub, &tag, &after);
    assert_eq!(saved.status, 200, "{}", saved.text());
    let said = saved.json();
    assert_eq!(said["unchanged"], json!(["alpha", "beta"]));
    assert_eq!(saved.header("etag").unwrap(), read(&hub).1);
    assert_eq!(on_disk(&hub), after);
    assert_eq!(backup(&hub, 1), text);
    assert!(said["backup"].as_str().unwrap().ends_with("hub.yaml.bak.1"));
    assert_eq!(hub.model("beta")["process_state"], "inactive");

    // A started model whose worker would be another one is named before it is.
    hub.act("alpha", "load");
    let other = after.replace("org/alpha", "org/other");
    assert_eq!(check(&hub, &other)["restarts"], json!(["alpha"]));
    let schema = hub.http.get("/hub/config/schema").json();
    assert!(schema["properties"]["edit_config"].is_object());
}

#[test]
fn a_text_with_mistakes_is_told_where_they_are_and_not_saved() {
    let hub = Hub::start(&yaml(""));
    let (text, tag) = read(&hub);
    for (wrong, line, column, length, message) in [
        (
            format!("{text}spares: many\n"),
            text.lines().count() + 1,
            9,
            4,
            "`spares` must be an integer, not `many`",
        ),
        (format!("{text}models: [\n"), 0, 0, 0, ""),
        (format!("\u{b}{text}"), 0, 0, 0, ""),
    ] {
        let told = check(&hub, &wrong);
        let finding = &told["findings"][0];
        assert_eq!(told["valid"], false, "{told}");
        assert!(
            finding["line"].is_u64() && finding["column"].is_u64(),
            "{told}"
        );
        if line > 0 {
            let place = [&finding["line"], &finding["column"], &finding["length"]];
            assert_eq!(
                place,
                [&json!(line), &json!(column), &json!(length)],
                "{told}"
            );
            assert_eq!(finding["message"], message);
        }
        let refused = save(&hub, &tag, &wrong);
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    // What `reload` would refuse is no text to save either.
    let missing = text.replace("worker_command:", "worker_command: /nosuch/program #");
    let refused = save(&hub, &tag, &missing);
    assert_error(
        &refused,
        400,
        "invalid_request_error",
        "400",
        &["/nosuch/program"],
    );
    assert_eq!(on_disk(&hub), text);
    assert!(!hub.folder().join("hub.yaml.bak.1").exists());
}

#[test]
fn a_file_that_has_changed_meanwhile_is_left_as_it_is() {
    let hub = Hub::start(&yaml(""));
    let (text, tag) = read(&hub);
    let theirs = format!("{text}spares: 0\n");
    std::fs::write(hub.config(), &theirs).unwrap();
    let refused = save(&hub, &tag, &format!("{text}spares: 2\n"));
    let words = ["has changed on the disk since it was read", "Read it again"];
    assert_error(&refused, 409, "invalid_request_error", "409", &words);
    assert_eq!(on_disk(&hub), theirs);
    let blind = send(&hub, "PUT", "/hub/config", &[], &text);
    assert_error(&blind, 428, "invalid_request_error", "428", &["`If-Match`"]);

    let (_, tag) = read(&hub);
    assert_eq!(save(&hub, &tag, &text).status, 200);
    // The tag of an earlier text is good for nothing any more.
    assert_eq!(save(&hub, &tag, &theirs).status, 409);
    assert_eq!((on_disk(&hub), backup(&hub, 1)), (text, theirs));
}

#[test]
fn a_link_stays_a_link_and_a_private_file_private() {
    let hub = Hub::start(&yaml(""));
    let real = hub.folder().join("real.yaml");
    std::fs::rename(hub.config(), &real).unwrap();
    std::fs::set_permissions(&real, Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("real.yaml", hub.config()).unwrap();
    for number in 0..7 {
        let (text, tag) = read(&hub);
        let saved = save(&hub, &tag, &format!("{text}# {number}\n"));
        assert_eq!(saved.status, 200, "{}", saved.text());
    }
    assert!(hub.config().is_symlink());
    assert!(backup(&hub, 1).ends_with("# 5\n") && backup(&hub, 5).ends_with("# 1\n"));
    for file in ["real.yaml", "hub.yaml.bak.1", "hub.yaml.bak.5"] {
        let mode = hub
            .folder()
            .join(file)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(!hub.folder().join("hub.yaml.bak.6").exists());
}

#[test]
fn only_whoever_may_control_the_hub_sees_it_and_only_where_it_says_so() {
    let hash = |key: &str| KeyDigest::of(key.as_bytes()).to_hex();
    let keys = format!(
        "api_keys:\n- {{name: owner, sha256: {}, may: [use, control]}}\n- {{name: user, sha256: {}}}\n",
        hash(CONTROL),
        hash(USE)
    );
    let (open, closed, keyed) = (
        Hub::start(&yaml("")),
        Hub::start(&alpha(&[])),
        Hub::start(&yaml(&keys)),
    );
    let [owner, user] = [CONTROL, USE].map(|key| format!("Bearer {key}"));
    let text = on_disk(&keyed);
    for (method, path) in [
        ("GET", "/hub/config"),
        ("POST", "/hub/config/check"),
        ("PUT", "/hub/config"),
    ] {
        let status = |hub: &Hub, headers: &[(&str, &str)]| {
            let mut all = vec![("if-match", "\"0\"")];
            all.extend(headers);
            send(hub, method, path, &all, &text).status
        };
        let allowed = match method {
            // Of another text, and nothing is saved.
            "PUT" => 409,
            _ => 200,
        };
        assert_eq!(status(&open, &[]), allowed, "{method}");
        assert_eq!(status(&open, &[("x-forwarded-for", "10.0.0.1")]), 403);
        assert_eq!(status(&closed, &[]), 403, "{method}");
        assert_eq!(status(&keyed, &[]), 401, "{method}");
        assert_eq!(status(&keyed, &[("authorization", &user)]), 403, "{method}");
        assert_eq!(
            status(&keyed, &[("authorization", &owner)]),
            allowed,
            "{method}"
        );
        let foreign = [
            ("origin", "http://evil.example"),
            ("sec-fetch-site", "cross-site"),
        ];
        if method != "GET" {
            assert_eq!(status(&open, &foreign), 403, "{method}");
        }
    }
    // The page says so only to those who can use it.
    assert!(open.http.get("/hub").text().contains("tab-config"));
    assert!(!closed.http.get("/hub").text().contains("tab-config"));
    assert_eq!(on_disk(&keyed), text);
    // A reload opens and closes it.
    closed.configure(&yaml(""));
    assert_eq!(closed.http.post("/hub/reload", &Value::Null).status, 200);
    assert_eq!(closed.http.get("/hub/config").status, 200);
    let (text, tag) = read(&closed);
    let shut = save(
        &closed,
        &tag,
        &text.replace("edit_config: true", "edit_config: false"),
    );
    assert_eq!(shut.status, 200, "{}", shut.text());
    assert_eq!(closed.http.get("/hub/config").status, 403);
}
