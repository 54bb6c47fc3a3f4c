//! The life of a model of the engine `mlx_lm`, with the real `mlx_lm.server`: all that holds for the default engine.

mod contract;

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::census::Census;
use crate::models::{LOAD, real_worker, tiny_model};
use crate::rounds::{ENDLESS, SOME};
use crate::support::home::Home;
use crate::support::{SOON, processes, wait_until};

const STALL: Duration = Duration::from_secs(4);

/// A home whose hub.yaml has the models `plain` and `jit` of an engine, in a group that holds one of them.
pub(crate) fn home_of(engine: &str) -> Option<Home> {
    let home = Home::with_real_worker(real_worker()?);
    for (name, seed) in [("plain", "0"), ("jit", "1")] {
        tiny_model(home.real_worker(), home.model_path(name).as_ref(), seed);
    }
    configure_group(&home, engine, "max_tokens: 8");
    Some(home)
}

/// Writes the hub.yaml of [`home_of`], whose entries have one key more.
pub(crate) fn configure_group(home: &Home, engine: &str, key: &str) {
    let entries = ["plain", "jit"].map(|name| {
        let path = home.model_path(name);
        let jit = name == "jit";
        format!(
            "  - name: {name}\n    model_path: {path}\n    group: one\n    default: true\n    jit_enabled: {jit}\n    \
             {key}\n"
        )
    });
    home.configure(&format!(
        "engine: {engine}\nstall_timeout: {}\npolicies: [lru_swap]\ngroups: [{{name: one, max_loaded: 1}}]\nmodels:\n{}",
        STALL.as_secs(),
        entries.concat()
    ));
}

#[track_caller]
pub(crate) fn is_loaded(home: &Home, model: &str) {
    wait_until("the model to be loaded", LOAD, || {
        home.states(model).1 == "loaded"
    });
}

/// A chat that is answered, by the name that the client wrote.
#[track_caller]
pub(crate) fn answers(home: &Home, model: &str) -> Value {
    let answer = home.chat(model, SOME);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["model"], model, "{body}");
    assert_eq!(body["choices"][0]["message"]["role"], "assistant", "{body}");
    body
}

#[test]
fn a_model_of_mlx_lm_lives_as_any_other() {
    let Some(home) = home_of("mlx_lm") else {
        return;
    };
    lives_as_any_other(&home, what_it_serves);
}

/// From `start` to `stop`, with requests of each kind in between.
pub(crate) fn lives_as_any_other(home: &Home, what_it_serves: fn(&Home)) {
    let census = Census::of(home, &["plain", "jit"]);
    home.said(&["start"]);
    is_loaded(home, "plain");
    let first = answers(home, "plain");
    assert_eq!(first["usage"]["completion_tokens"], SOME, "{first}");

    // Whatever a request names, the program is asked for its own model: this would load another.
    let path = home.model_path("plain");
    answers(home, &path);
    let plain = home.pid_of("plain");

    what_it_serves(home);
    home.assert_states("jit", "running", "unloaded");

    // The group holds one of them.
    answers(home, "jit");
    home.assert_states("plain", "running", "unloaded");
    assert_eq!(processes::members(plain), [0; 0]);
    home.said(&["unload-model", "jit"]);
    home.said(&["load-model", "plain"]);

    survives(home);

    home.said(&["stop"]);
    assert!(home.http.try_get("/health").is_err());
    census.assert_groups(&std::collections::BTreeSet::new());
    assert_eq!(home.processes(), Vec::<String>::new());
}

/// What it speaks is passed on, other chats are translated, and the rest is refused before anything is loaded.
fn what_it_serves(home: &Home) {
    let prompt = json!({"model": "plain", "prompt": "hello", "max_tokens": 4, "temperature": 0});
    let answer = home.http.post("/v1/completions", &prompt);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["model"], "plain", "{}", answer.text());
    let message = json!({"model": "plain", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]});
    let answer = home.http.post("/v1/messages", &message);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["type"], "message", "{}", answer.text());
    let answer = home
        .http
        .post("/v1/embeddings", &json!({"model": "jit", "input": "hello"}));
    assert_eq!(answer.status, 404, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains("engine `mlx_lm`"), "{text}");
    assert!(text.contains("/v1/chat/completions"), "{text}");
    let embed = json!({"model": "jit", "input": "hello"});
    let answer = home.http.post("/api/embed", &embed);
    assert_eq!(answer.status, 400, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains("engine `mlx_lm`"), "{text}");
    what_it_does_not_load(home);
}

/// The program would drop its model and load what these requests name.
fn what_it_does_not_load(home: &Home) {
    let other = home.model_path("jit");
    let chat = |model: &str, field: &str| json!({"model": model, "max_tokens": 4, field: other, "messages": [{"role": "user", "content": "hello"}]});
    let chats = "/v1/chat/completions";
    for (model, field) in [
        ("plain", "draft_model"),
        ("plain", "adapters"),
        ("jit", "adapters"),
    ] {
        for below in [String::new(), format!("/upstream/{model}")] {
            let answer = home
                .http
                .post(&format!("{below}{chats}"), &chat(model, field));
            assert_eq!(answer.status, 400, "{}", answer.text());
            let text = answer.text();
            assert!(text.contains(&format!("`{field}`")), "{text}");
            assert!(text.contains("engine `mlx_lm`"), "{text}");
        }
    }
    home.assert_states("jit", "running", "unloaded");
    let said = |path: &str, model: &str| {
        let answer = home.http.post(path, &chat(model, "user"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["choices"].clone()
    };
    // The two models say different things.
    let expected = said(chats, "plain");
    assert_eq!(
        said("/upstream/plain/v1/chat/completions", &other),
        expected
    );
    assert_eq!(
        said("/upstream/plain/chat/completions", "default_model"),
        expected
    );
    let form = [("content-type", "multipart/form-data; boundary=B")];
    let sent = chat(&other, "user").to_string();
    let answer = home.http.send(
        "POST",
        &format!("{chats}?model=plain"),
        &form,
        sent.as_bytes(),
    );
    let answer = answer.unwrap().whole().unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    home.assert_states("jit", "running", "unloaded");
}

/// One look at the status: between two of them the worker may go.
fn is_loaded_in_another(home: &Home, pid: u32) -> bool {
    let plain = home.model("plain");
    let others = plain["pid"]
        .as_u64()
        .filter(|other| *other != u64::from(pid));
    plain["memory_state"] == "loaded" && others.is_some()
}

/// A killed hub, `restart`, a killed worker and one that hangs.
fn survives(home: &Home) {
    let pid = home.pid_of("plain");
    let daemon = home.daemon();
    processes::send(daemon, Signal::SIGKILL);
    wait_until("the daemon to be gone", SOON, || {
        !processes::is_alive(daemon)
    });
    home.said(&["start"]);
    is_loaded(home, "plain");
    answers(home, "plain");
    assert_eq!(home.pid_of("plain"), pid, "adopted");

    std::thread::scope(|scope| {
        let stream = home.stream("plain", SOME * 5);
        let client = scope.spawn(move || stream.said());
        home.said(&["restart"]);
        client.join().expect("a whole stream");
    });
    is_loaded(home, "plain");
    answers(home, "plain");
    assert_eq!(home.pid_of("plain"), pid, "adopted");

    let mut events = home.stream("plain", ENDLESS).events();
    events.next().expect("an event").expect("a stream");
    processes::send(pid, Signal::SIGKILL);
    // Its answers end with their connection: nothing tells a cut stream from a whole one.
    events.for_each(drop);
    wait_until("another worker", LOAD, || is_loaded_in_another(home, pid));
    answers(home, "plain");

    let pid = home.pid_of("plain");
    let mut events = home.stream("plain", ENDLESS).events();
    events.next().expect("an event").expect("a stream");
    processes::send_to_group(pid, Signal::SIGSTOP);
    // Its answers end with their connection: nothing tells a cut stream from a whole one.
    events.for_each(drop);
    wait_until("the worker that hangs to be replaced", LOAD, || {
        is_loaded_in_another(home, pid)
    });
    assert_eq!(processes::members(pid), [0; 0]);
    answers(home, "plain");
}

/// The file or folder of `jit` has been broken: its load fails, and tells the end of its program's log, which says
/// `why`. `plain` is served.
#[track_caller]
pub(crate) fn fails_with_its_log(home: &Home, why: &str) {
    home.said(&["start"]);
    is_loaded(home, "plain");
    answers(home, "plain");
    let answer = home.chat("jit", SOME);
    assert_eq!(answer.status, 503, "{}", answer.text());
    let error = home.model("jit")["memory_last_error"].to_string();
    assert!(error.contains("its log ends"), "{error}");
    assert!(error.contains(why), "{error}");
}

/// Ends the hub, and every process with it.
#[track_caller]
pub(crate) fn ends(home: &Home) {
    home.said(&["stop"]);
    assert_eq!(home.processes(), Vec::<String>::new());
}

#[test]
fn a_model_of_mlx_lm_that_cannot_be_loaded_fails_with_its_log() {
    let Some(home) = home_of("mlx_lm") else {
        return;
    };
    let path = home.path().join("models/jit/config.json");
    std::fs::write(path, "{}").unwrap();
    // Its program would live on, and answer nothing.
    fails_with_its_log(&home, "KeyError");
    ends(&home);
}
