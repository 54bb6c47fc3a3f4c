//! What the hub remembers of its decisions, and how `policy explain` tells it.

use serde_json::Value;

use crate::support::{Hub, SOON, processes, stub, wait_for, wait_until};

/// Two models in a group that holds one.
pub(crate) fn models() -> String {
    format!(
        "worker_command: {}\n\
         groups:\n- {{name: small, max_loaded: 1}}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, group: small, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, group: small, jit_enabled: true, default: true}}\n",
        stub(&[])
    )
}

/// Evicts whoever is loaded; unloads what has been idle for half a second when that is switched on.
const SWAP: &str = r#"return {
  on_load = function(load, hub)
    if load.group.free <= 0 then
      return hub.evict(load.group.loaded)
    end
  end,
  on_idle = function(model, hub)
    if model.idle_seconds > 0.5 and not hub.models[model.name].settings.keep then
      return hub.unload{ reason = "it had its time" }
    end
    return hub.keep{ reason = "in use" }
  end,
}
"#;

/// What `policy explain` prints, without the times.
fn explain(hub: &Hub, arguments: &[&str]) -> String {
    let output = hub.run(&[&["policy", "explain"], arguments].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until `policy explain` has a line with all of these words.
#[track_caller]
fn wait_for_line(hub: &Hub, model: &str, words: &[&str]) -> String {
    let has = |line: &&str| words.iter().all(|word| line.contains(word));
    wait_for(&format!("a line with {words:?}"), SOON, || {
        let text = explain(hub, &[model]);
        text.lines().find(has).map(str::to_owned)
    })
}

fn decisions(hub: &Hub, query: &str) -> Vec<Value> {
    let path = format!("/hub/policies/decisions?{query}");
    let answer = hub.http.get(&path).json();
    answer["decisions"].as_array().unwrap().clone()
}

#[test]
fn an_idle_unload_is_told_with_the_line_that_said_so() {
    let hub = Hub::start_with(&models(), &[("swap.lua", SWAP)]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let line = wait_for_line(&hub, "alpha", &["alpha  unloaded"]);
    assert!(
        line.contains("on_idle of swap.lua:9 said unload: it had its time (idle "),
        "{line}"
    );
    // Nobody else's business.
    assert!(!explain(&hub, &["beta"]).contains("unload"));
    // Keeping it until then is one decision, however often it was made.
    let kept = decisions(&hub, "model=alpha");
    let kept: Vec<_> = kept
        .iter()
        .filter(|decision| decision["verdict"] == "keep")
        .collect();
    assert!(kept.len() <= 1, "{kept:?}");
}

#[test]
fn an_eviction_is_told_for_both_models() {
    let yaml = models().replace("default: true}", "default: true, policy: {keep: true}}");
    let hub = Hub::start_with(&yaml, &[("swap.lua", SWAP)]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(hub.http.chat("beta", "hello").status, 200);
    let line = wait_for_line(&hub, "beta", &["beta  loaded in", "said evict alpha"]);
    let place = "on_load of swap.lua:4 said evict alpha (a request waits, group small has 1 of at most 1 loaded: alpha)";
    assert!(line.ends_with(place), "{line}");
    let line = wait_for_line(&hub, "alpha", &["alpha  unloaded to make room for beta"]);
    assert!(line.ends_with(place), "{line}");
    // The first load was nobody's but the default's.
    wait_for_line(
        &hub,
        "alpha",
        &["on_load of bundled/create_hub.lua:", "said allow"],
    );
}

#[test]
fn evictions_are_counted_by_their_reason() {
    let hub = Hub::start_with(&models(), &[("swap.lua", SWAP)]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(hub.http.chat("beta", "hello").status, 200);
    // In its own time beta is unloaded by the same policy.
    wait_for_line(&hub, "beta", &["beta  unloaded"]);
    assert_eq!(hub.http.chat("beta", "hello").status, 200);
    assert_eq!(hub.act("beta", "stop").status, 200);
    for (model, reason, policy) in [
        ("alpha", "room", "swap.lua"),
        ("beta", "idle", "swap.lua"),
        ("beta", "asked", ""),
    ] {
        let line = format!(
            r#"mlx_hub_evictions_total{{model="{model}",policy="{policy}",reason="{reason}"}} 1"#
        );
        wait_until(&line, SOON, || {
            let metrics = hub.http.get("/metrics").text();
            metrics.lines().any(|other| other == line)
        });
    }
}

#[test]
fn what_people_did_is_told_with_who_it_was() {
    let hub = Hub::start_with(&models(), &[]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(hub.act("alpha", "unload").status, 200);
    wait_for_line(
        &hub,
        "alpha",
        &["alpha  a program asked to unload, by the control API: unloaded"],
    );
    assert!(hub.run(&["load", "alpha"]).status.success());
    assert!(hub.run(&["stop-model", "alpha"]).status.success());
    wait_for_line(&hub, "alpha", &["alpha  a command asked to stop: stopped"]);
    wait_for_line(&hub, "alpha", &["load was asked for", "alpha  loaded in"]);
    assert_eq!(hub.act("alpha", "load").status, 400);
    wait_for_line(
        &hub,
        "alpha",
        &["alpha  a program asked to load, by the control API: refused with 400: "],
    );
    // Each of them once: what an event tells is no second decision.
    let text = explain(&hub, &["alpha"]);
    assert_eq!(text.matches("unloaded").count(), 1, "{text}");
    assert_eq!(text.matches("stopped").count(), 1, "{text}");
    assert!(!text.contains("by itself"), "{text}");
}

#[test]
fn a_crash_is_told_with_its_signal_and_what_came_after() {
    let hub = Hub::start_with(&models(), &[]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let pid = hub.model("alpha")["pid"].as_u64().unwrap();
    processes::send(
        u32::try_from(pid).unwrap(),
        nix::sys::signal::Signal::SIGKILL,
    );
    let line = wait_for_line(
        &hub,
        "alpha",
        &["on_exit of bundled/create_hub.lua:", "alpha  started"],
    );
    assert!(
        line.contains("said restart in 1s (killed by signal 9, after "),
        "{line}"
    );
}

#[test]
fn a_reload_says_why_it_stopped_a_model() {
    let hub = Hub::start_with(&models(), &[]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    hub.configure(&models().replace("org/alpha", "org/other"));
    assert!(hub.run(&["reload"]).status.success());
    let line = wait_for_line(&hub, "alpha", &["reload of hub.yaml, restart"]);
    assert!(
        line.contains("alpha  reload of hub.yaml, restart: its launch settings changed: "),
        "{line}"
    );
    let both = models();
    let (alone, _) = both.split_once("- {name: beta").unwrap();
    hub.configure(alone);
    assert!(hub.run(&["reload"]).status.success());
    let of_beta = decisions(&hub, "model=beta");
    insta::assert_json_snapshot!(of_beta.last().unwrap()["reason"], @r#""hub.yaml no longer names it""#);
}

#[test]
fn verdicts_on_requests_are_counted_together_and_a_pass_is_none() {
    let hub = Hub::start_with(
        &models(),
        &[(
            "alias.lua",
            "return { on_request = function(req, hub)\n  if req.model == 'fast' then\n    return hub.route{ model = 'alpha' }\n  end\nend }\n",
        )],
    );
    for _ in 0..5 {
        assert_eq!(hub.http.chat("fast", "hello").status, 200);
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    }
    let routed = decisions(&hub, "model=fast");
    assert_eq!(routed.len(), 1, "{routed:?}");
    assert_eq!(routed[0]["times"], 5);
    assert_eq!(routed[0]["place"], "alias.lua:3");
    assert_eq!(routed[0]["outcome"], "sent to alpha");
    let of_alpha = decisions(&hub, "model=alpha");
    assert!(
        of_alpha
            .iter()
            .all(|decision| decision["hook"] != "on_request"),
        "{of_alpha:?}"
    );
}

#[test]
fn a_time_of_day_and_a_number_limit_what_is_told() {
    let hub = Hub::start_with(&models(), &[]);
    for _ in 0..3 {
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        assert_eq!(hub.act("alpha", "unload").status, 200);
    }
    wait_until("three unloads", SOON, || {
        explain(&hub, &["alpha"]).matches(": unloaded").count() == 3
    });
    assert_eq!(explain(&hub, &["alpha", "--last", "1"]).lines().count(), 1);
    // Twelve hours away from now nothing was decided; the last before that may be nothing at all.
    let now = jiff::Zoned::now();
    let then = now.saturating_sub(jiff::SignedDuration::from_hours(12));
    let text = explain(
        &hub,
        &["alpha", "--at", &then.strftime("%H:%M").to_string()],
    );
    assert!(
        text.starts_with("[info] Nothing was decided about alpha around "),
        "{text}"
    );
    let text = explain(&hub, &["alpha", "--at", &now.strftime("%H:%M").to_string()]);
    assert_eq!(text.matches(": unloaded").count(), 3, "{text}");
    let json = explain(&hub, &["alpha", "--json", "--last", "2"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["decisions"].as_array().unwrap().len(), 2);
    let output = hub.run(&["policy", "explain", "alhpa"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.ends_with("hint: did you mean `alpha`?\n"),
        "{stderr}"
    );
}
