//! Section 5: the limits that count in minutes. One hub for all of them, since the shortest is one
//! minute; the module's name makes it begin before the other tests.

use std::time::Duration;

use crate::Home;
use crate::home::JIT;
use crate::support::wait_until;

/// A minute, the five seconds between two looks, and what a busy machine adds.
const A_MINUTE_AND_A_LOOK: Duration = Duration::from_secs(80);

#[test]
fn idle_models_are_unloaded_after_their_minutes_and_busy_ones_are_not() {
    let home = Home::started(&format!(
        "groups: [{{name: tight, max_loaded: 3, idle_unload_trigger_min: 1}}]\n\
         models:\n\
         - {{name: idle, model_path: org/idle, jit_enabled: true, auto_unload_minutes: 1, \
            worker_command: {JIT}}}\n\
         - {{name: bare, model_path: org/bare, jit_enabled: true, auto_unload_minutes: 1}}\n\
         - {{name: busy, model_path: org/busy, jit_enabled: true, auto_unload_minutes: 1, \
            env: {{STUB_TOKENS: '100000', STUB_TOKEN_MS: '100'}}}}\n\
         - {{name: smaller, model_path: org/smaller, jit_enabled: true, auto_unload_minutes: 90, \
            group: tight}}\n\
         - {{name: forever, model_path: org/forever, jit_enabled: true}}\n\
         - {{name: plain, model_path: org/plain}}\n"
    ));
    for name in ["idle", "bare", "busy", "smaller", "forever", "plain"] {
        home.done(name, "start");
        home.done(name, "load");
    }
    let mut stream = home.http.stream("busy", "hello").events();
    let loaded_at = |name: &str| home.model(name)["last_load_at"].as_f64().unwrap();
    for name in ["idle", "bare", "smaller"] {
        let since = loaded_at(name);
        wait_until(
            &format!("{name} to be unloaded"),
            A_MINUTE_AND_A_LOOK,
            || {
                stream.next().unwrap().unwrap();
                home.states(name).1 == "unloaded"
            },
        );
        let held = home.model(name)["last_unload_at"].as_f64().unwrap() - since;
        assert!((60.0..75.0).contains(&held), "{name}: {held} s");
        assert_eq!(home.states(name).0, "running", "it stays started");
    }
    for name in ["busy", "forever", "plain"] {
        assert_eq!(home.states(name).1, "loaded", "{name}");
    }
    assert_eq!(
        home.http.chat("idle", "hello").status,
        200,
        "and loads again"
    );
}
