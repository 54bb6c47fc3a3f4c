//! `start --wait` returns when the models are loaded, and fails with one that cannot be.

use crate::support::home::Home;

#[test]
fn start_waits_for_loads_when_it_is_told_to() {
    let home = Home::with_stub(
        "models:\n\
         - {name: slow, model_path: org/slow, default: true, env: {STUB_LOAD_SECONDS: '1'}}\n\
         - {name: later, model_path: org/later, default: true, jit_enabled: true}\n\
         - {name: broken, model_path: org/broken, default: true, env: {STUB_FAIL_LOAD: 'true'}}\n",
    );
    let started = home.start();
    assert!(
        started
            .out
            .contains(&format!("API: http://127.0.0.1:{}/v1\n", home.port))
    );
    assert!(started.out.contains("\nLoading slow"), "{started:?}");
    let ran = home.run(&["start", "--wait"]);
    ran.assert_failed();
    assert!(ran.out.contains("\n[ok] slow: loaded in "), "{ran:?}");
    assert!(ran.out.contains("\n[err] broken: failed: "), "{ran:?}");
    assert!(!ran.out.contains("\nLoading "), "{ran:?}");
    home.assert_states("slow", "running", "loaded");
    // Nothing is left to wait for, and one is still failed.
    let again = home.run(&["start", "--wait"]);
    again.assert_failed();
    assert!(again.out.contains("\n[err] broken: failed: "), "{again:?}");
    home.run(&["stop"]).assert_ok();
}
