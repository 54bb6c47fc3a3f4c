//! The warnings of the status: the exact text of each that a running hub can have for its files.

use std::fmt::Write as _;

use crate::support::{Hub, SOON, wait_until};
use crate::{models, wait_for_warning, warnings, worker};

const POLICY: &str = "return { on_request = function() error(\"a mistake\") end }";

/// What the status warns of now, one to a line.
fn enter(book: &mut String, case: &str, hub: &Hub) {
    let status = hub.status();
    writeln!(book, "# {case}: {}", status["status"].as_str().unwrap()).unwrap();
    for warning in status["warnings"].as_array().unwrap() {
        writeln!(book, "{}", warning.as_str().unwrap()).unwrap();
    }
    writeln!(book).unwrap();
}

#[test]
fn every_warning_about_files_says_what_is_wrong_and_what_holds_meanwhile() {
    let valid = format!(
        "{}\n{}",
        worker(&["--dialect", "jit"]),
        models(&[("alpha", "default: true, kv_bits: 4, jit_enabled: true")])
    );
    let hub = Hub::start_with(&format!("modles: []\n{valid}"), &[("a.lua", POLICY)]);
    wait_until("the worker to be asked", SOON, || {
        crate::warnings(&hub).contains("kv_bits")
    });
    let mut book = String::new();
    enter(
        &mut book,
        "a key of nobody's, and an option that the worker lacks",
        &hub,
    );

    hub.http.chat("alpha", "hello");
    enter(&mut book, "a policy that failed", &hub);

    std::fs::write(hub.folder().join("b.lua"), "return { on_reqest = 1 }").unwrap();
    let text = std::fs::read_to_string(hub.config()).unwrap();
    let port = format!("port: {}\n", hub.http.port);
    std::fs::write(hub.config(), text.replacen(&port, "port: 9\n", 1)).unwrap();
    assert_eq!(
        hub.http
            .post("/hub/reload", &serde_json::Value::Null)
            .status,
        200
    );
    enter(
        &mut book,
        "another port, and a policy that cannot be loaded",
        &hub,
    );

    std::fs::write(hub.config(), "models: [\n").unwrap();
    enter(&mut book, "a broken hub.yaml", &hub);
    std::fs::remove_file(hub.config()).unwrap();
    enter(&mut book, "no hub.yaml", &hub);

    let home = hub.folder().display().to_string().replace('.', r"\.");
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(&home, "HOME");
    settings.add_filter(&format!("`{}`", hub.http.port), "`PORT`");
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(book));
}

#[test]
fn a_cap_that_is_newer_than_what_is_loaded_is_a_warning_that_names_the_group() {
    let command = worker(&[]);
    let two = |keys: &str| {
        let models = models(&[("alpha", keys), ("beta", keys)]);
        format!("{command}\n{models}")
    };
    let hub = Hub::start(&two("default: true"));
    for model in ["alpha", "beta"] {
        hub.wait_for_state(model, "running", "loaded");
    }
    let groups = "groups: [{name: g, max_loaded: 1}]";
    hub.configure(&format!("{groups}\n{}", two("default: true, group: g")));
    hub.run(&["reload"]);
    wait_for_warning(&hub, "group `g` may have 1 loaded and has 2: alpha, beta.");
    assert_eq!(hub.act("beta", "unload").status, 200);
    assert!(!warnings(&hub).contains("and holds 2"));
}
