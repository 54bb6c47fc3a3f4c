//! What a reload changes, and what it leaves alone.

use serde_json::{Value, json};

use super::{pid, states};
use crate::Home;
use crate::support::{SOON, processes, wait_until};

#[test]
fn a_reload_reconciles_and_leaves_everything_else_alone() {
    let model = |name: &str, path: &str, rest: &str| {
        format!("- {{name: {name}, model_path: {path}, {rest}}}\n")
    };
    let yaml = |changed: &str, rest: &str| {
        format!(
            "models:\n{}{}{}{rest}",
            model("kept", "org/kept", "default: true"),
            model("changed", changed, "default: true"),
            model("idle", changed, "default: false"),
        )
    };
    let home = Home::started(&yaml(
        "org/old",
        &model("gone", "org/gone", "default: true"),
    ));
    for name in ["kept", "changed", "gone"] {
        home.wait_for_state(name, "running", "loaded");
    }
    let (kept, changed, gone) = (
        pid(&home, "kept"),
        pid(&home, "changed"),
        pid(&home, "gone"),
    );
    let gone = u32::try_from(gone.as_u64().unwrap()).unwrap();

    let new = model("new", "org/new", "default: true") + &model("later", "org/later", "port: null");
    home.configure(&yaml("org/newer", &new));
    assert_eq!(
        home.reload(),
        json!({"started": ["changed", "new"], "stopped": ["gone", "changed"],
            "unchanged": ["kept", "idle", "later"]})
    );
    assert!(
        processes::members(gone).is_empty(),
        "stopped by the time of the answer"
    );
    for name in ["changed", "new"] {
        home.wait_for_state(name, "running", "loaded");
    }
    assert_eq!(pid(&home, "kept"), kept, "not touched");
    assert_ne!(pid(&home, "changed"), changed);
    let arguments = home.worker_arguments("changed");
    assert!(arguments.contains(&"org/newer".to_owned()), "{arguments:?}");
    assert_eq!(home.states("idle"), states("inactive", "unloaded"));
    assert_eq!(home.http.chat("gone", "hello").status, 404);
    assert_eq!(home.act("gone", "start").status, 404);

    let unchanged = json!({"started": [], "stopped": [],
        "unchanged": ["kept", "changed", "idle", "new", "later"]});
    assert_eq!(home.reload(), unchanged);
}

#[test]
fn a_model_stays_stopped_across_a_reload_and_settings_of_the_hub_restart_nothing() {
    let yaml = |rest: &str| {
        format!(
            "models:\n\
             - {{name: off, model_path: org/off, default: true}}\n\
             - {{name: on, model_path: org/on, default: true{rest}}}\n"
        )
    };
    let home = Home::started(&yaml(""));
    let on = home.wait_for_state("on", "running", "loaded")["pid"].clone();
    home.wait_for_state("off", "running", "loaded");
    home.done("off", "stop");
    home.configure(&yaml(", group: free, policy: {weight: 2}"));
    let unchanged = json!({"started": [], "stopped": [], "unchanged": ["off", "on"]});
    let mut told = unchanged.clone();
    told["policies"] = json!({"changed": [], "settings": ["policy.weight of on"], "refused": []});
    assert_eq!(home.reload(), told);
    assert_eq!(home.reload(), unchanged, "told once");
    assert_eq!(home.states("off"), states("stopped", "unloaded"));
    assert_eq!(pid(&home, "on"), on);
    assert_eq!(home.model("on")["group"], "free", "and it is in force");
}

#[test]
fn changed_policies_are_told_once_whoever_has_read_them() {
    let models = "models: [{name: a, model_path: org/a}]\n";
    let home = Home::started(models);
    let policy = |name: &str, text: &str| std::fs::write(home.base().join(name), text).unwrap();
    let told = |report: Value| report["policies"].clone();
    assert_eq!(told(home.reload()), Value::Null);

    policy("night.lua", "return { on_idle = function() end }");
    wait_until("the hub to read it by itself", SOON, || {
        home.app_log().contains("policies read again")
    });
    home.configure(&format!(
        "policies: [lru_swap]\npolicy: {{hours: 8}}\n{models}"
    ));
    assert_eq!(
        told(home.reload()),
        json!({"changed": ["bundled/lru_swap.lua", "night.lua"], "settings": ["policy.hours"],
            "refused": []})
    );
    assert_eq!(told(home.reload()), Value::Null);

    policy("night.lua", "return {");
    let refused = told(home.reload());
    assert_eq!(
        (&refused["changed"], &refused["settings"]),
        (&json!([]), &json!([]))
    );
    let why = refused["refused"][0].as_str().unwrap();
    assert!(why.starts_with("night.lua:1:"), "{why}");
    std::fs::remove_file(home.base().join("night.lua")).unwrap();
    assert_eq!(told(home.reload())["changed"], json!(["night.lua"]));
}

#[test]
fn a_new_host_port_or_log_path_is_a_warning() {
    let models = "models: [{name: a, model_path: org/a}]\n";
    let home = Home::started(models);
    let elsewhere = processes::ports();
    home.write(&format!(
        "host: 0.0.0.0\nport: {elsewhere}\nlog_path: ~/elsewhere\n{models}"
    ));
    home.reload();
    let warnings = home.warnings();
    for key in ["`host`", "`port`", "`log_path`"] {
        assert!(warnings.contains(key), "{key}: {warnings}");
    }
    assert!(warnings.contains("next start"), "{warnings}");
    let status = home.status();
    assert_eq!(
        (&status["host"], &status["port"]),
        (&json!("127.0.0.1"), &json!(home.port))
    );
    home.configure(models);
    home.reload();
    assert_eq!(home.warnings(), "");
}

#[test]
fn a_policy_that_reads_its_settings_while_it_loads_gets_the_new_ones() {
    let yaml = |names: &str| {
        format!(
            "policies: [alias]\npolicy: {{alias: {{names: {names}}}}}\n\
             models:\n- {{name: kept, model_path: org/kept, default: true}}\n"
        )
    };
    let home = Home::started(&yaml("{old: kept}"));
    home.wait_for_state("kept", "running", "loaded");
    assert_eq!(home.http.chat("old", "hello").status, 200);
    home.configure(&yaml("{new: kept}"));
    home.reload();
    assert_eq!(home.http.chat("new", "hello").status, 200);
    assert_eq!(home.http.chat("old", "hello").status, 404);
    // A wrong setting keeps the old policies, and says why.
    home.configure(&yaml("kept"));
    home.reload();
    assert!(
        home.warnings().contains("`policy: alias.names` must be"),
        "{}",
        home.warnings()
    );
    assert_eq!(home.http.chat("new", "hello").status, 200);
}
