//! The hub.yaml files in `examples/` do what their readers expect: they start, and serve.

use crate::home::Home;

/// Everything but the address, which is each test's own.
fn example(name: &str) -> String {
    let path = format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let own = ["host:", "port:", "model_starting_port:"];
    let kept = text
        .lines()
        .filter(|line| !own.iter().any(|key| line.starts_with(key)));
    kept.map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_example_starts_and_serves_its_default_models() {
    for name in ["minimal.yaml", "hub.yaml", "policies.yaml"] {
        let home = Home::with_stub(&example(name));
        home.run(&["check"]).assert_ok();
        home.start().assert_ok();
        home.wait_for_state("qwen3-4b", "running", "loaded");
        assert_eq!(home.http.chat("qwen3-4b", "hello").status, 200, "{name}");
        home.run(&["stop"]).assert_ok();
    }
}

#[test]
fn the_larger_example_loads_one_large_model_at_a_time() {
    let home = Home::with_stub(&example("hub.yaml"));
    home.start().assert_ok();
    home.run(&["start-model", "gemma3-27b"]).assert_ok();
    assert_eq!(home.http.chat("qwen3-coder-30b", "hello").status, 200);
    home.wait_for_state("qwen3-coder-30b", "running", "loaded");
    // Its `lru_swap` makes room: clients ask two models in one breath.
    assert_eq!(home.http.chat("gemma3-27b", "hello").status, 200);
    home.wait_for_state("qwen3-coder-30b", "running", "unloaded");
}

#[test]
fn the_example_of_bundled_policies_swaps_and_knows_the_alias() {
    let home = Home::with_stub(&example("policies.yaml"));
    home.start().assert_ok();
    assert_eq!(home.http.chat("best", "hello").status, 200);
    home.wait_for_state("qwen3-coder-30b", "running", "loaded");
    assert_eq!(home.http.chat("gemma3-27b", "hello").status, 200);
    home.wait_for_state("qwen3-coder-30b", "running", "unloaded");
}
