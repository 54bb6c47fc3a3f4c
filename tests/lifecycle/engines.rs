//! A program that hub.yaml describes itself: loaded, used, lost and ended as any other.

use nix::sys::signal::Signal;

use crate::support::home::Home;
use crate::support::{BINARY, Hub, SOON, processes, wait_until};

/// A hub.yaml with a model `m` that the simulated worker of the newer dialect serves as `engine: command`.
fn yaml(keys: &str) -> String {
    format!(
        "models:\n  - name: m\n    model_path: some/m\n    default: true\n    jit_enabled: true\n    \
         engine: command\n    served_name: inner\n    command: \"'{BINARY}' stub-worker --dialect 1.8.1 launch \
         --model-path {{model_path}} --host {{host}} --port {{port}} --served-model-name inner\"\n{keys}"
    )
}

#[test]
fn any_program_with_a_port_is_loaded_used_and_ended() {
    let hub = Hub::start(&yaml(""));
    assert_eq!(hub.model("m")["memory_state"], "unloaded");
    let answer = hub.http.chat("m", "hello");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["model"], "m", "the client's name comes back");
    let pid = u32::try_from(hub.model("m")["pid"].as_u64().unwrap()).unwrap();

    processes::send(pid, Signal::SIGKILL);
    wait_until("its group to be gone", SOON, || {
        processes::members(pid).is_empty()
    });
    wait_until("another worker to answer", SOON, || {
        hub.http.chat("m", "hello").status == 200
    });
    let pid = u32::try_from(hub.model("m")["pid"].as_u64().unwrap()).unwrap();
    assert_eq!(
        hub.http
            .post("/hub/models/m/unload", &serde_json::json!({}))
            .status,
        200
    );
    assert_eq!(processes::members(pid), [0; 0]);
    assert_eq!(hub.http.chat("m", "hello").status, 200);
}

#[test]
fn a_program_that_starts_others_is_missed_by_check_doctor_and_start() {
    let home = Home::with_stub(
        "models:\n  - {name: m, model_path: org/m, engine: mlx_lm, hosts: [here, there]}\n",
    );
    home.write_script("mlx_lm.server", "echo '--model MODEL --port PORT'");
    let missing = "`mlx.launch`, which starts `";
    for (command, fails) in [("check", false), ("doctor", true), ("start", true)] {
        let ran = home.run(&[command]);
        let said = ran.out + &ran.err;
        assert!(said.contains(missing), "{command}: {said}");
        assert!(said.contains("uv tool install mlx-lm"), "{command}: {said}");
        assert_eq!(ran.code != 0, fails, "{command}: {said}");
    }
    assert!(!home.is_running());
    home.write_script("mlx.launch", "exit 1");
    for command in ["check", "doctor"] {
        let ran = home.run(&[command]);
        let said = ran.out + &ran.err;
        assert!(!said.contains(missing), "{command}: {said}");
        // No spare can be: it says so.
        assert!(
            said.contains("model `m` spans several machines"),
            "{command}: {said}"
        );
    }
}
