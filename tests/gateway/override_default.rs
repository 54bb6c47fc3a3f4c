//! Each rule of the default policy, overruled by a user's: none of them lives anywhere but in Lua.

use serde_json::json;

use crate::support::{Hub, stub};

const GROUP: &str = "groups:\n- {name: small, max_loaded: 1}\n";

#[test]
fn the_cap_of_a_group_is_lifted() {
    let yaml = format!(
        "worker_command: {}\n{GROUP}models:\n\
         - {{name: alpha, model_path: org/alpha, group: small, default: true, jit_enabled: true}}\n\
         - {{name: beta, model_path: org/beta, group: small, default: true, jit_enabled: true}}\n",
        stub(&[])
    );
    let both = |hub: &Hub| {
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        hub.http.chat("beta", "hello").status
    };
    assert_eq!(both(&Hub::start(&yaml)), 429);
    let lifted = Hub::start_with(
        &yaml,
        &[(
            "allow.lua",
            "return { on_load = function() return hub.allow() end }",
        )],
    );
    assert_eq!(both(&lifted), 200);
    assert_eq!(
        lifted.status()["groups"][0]["loaded"],
        json!(["alpha", "beta"])
    );
}

#[test]
fn a_request_starts_a_model_that_is_not_started() {
    let yaml = format!(
        "worker_command: {}\nmodels:\n- {{name: alpha, model_path: org/alpha}}\n",
        stub(&[])
    );
    assert_eq!(Hub::start(&yaml).http.chat("alpha", "hello").status, 400);
    let route = "return { on_request = function(req) return hub.route{ model = req.model } end }";
    let open = Hub::start_with(&yaml, &[("route.lua", route)]);
    assert_eq!(open.http.chat("alpha", "hello").status, 200);
    assert_eq!(open.model("alpha")["process_state"], "running");
}
