//! A real worker that began as a spare, beside one that was started by itself.

use serde_json::{Value, json};

use crate::models::{LOAD, SPARE, home_with_two, real_worker};
use crate::support::home::Home;
use crate::support::{http, processes, spares, wait_for, wait_until};

const CHATS: usize = 10;
/// The most that a worker from a spare holds more: a part in so many, and as KiB.
const PART: u64 = 20;
const MORE: u64 = 30 * 1024;

/// What `plain`, which has just been loaded, answers to the same chat each time, and KiB that its processes hold then.
fn answers_and_memory(home: &Home) -> (Vec<Value>, u64) {
    let mut chat = http::chat("plain", "hello", false);
    let of_seed = json!({"seed": 7, "temperature": 1.0, "max_tokens": 32});
    let keys = of_seed.as_object().unwrap().clone();
    chat.as_object_mut().unwrap().extend(keys);
    let answer = |_| {
        let answer = home.http.post("/v1/chat/completions", &chat);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["choices"][0]["message"].clone()
    };
    let answers = (0..CHATS).map(answer).collect();
    let members = processes::members(pid(home));
    (
        answers,
        members.into_iter().map(processes::memory_kib).sum(),
    )
}

fn pid(home: &Home) -> u32 {
    let pid = home.model("plain")["pid"].as_u64().unwrap();
    u32::try_from(pid).unwrap()
}

#[test]
fn a_worker_from_a_spare_answers_to_a_seed_as_one_by_itself_and_holds_little_more() {
    let Some(worker) = real_worker() else { return };
    if !spares::are_kept() {
        return;
    }
    let home = home_with_two(worker);
    // The worker heeds seeds only where it does not batch.
    let yaml = format!(
        "models:\n- {{name: plain, model_path: {}, default: true, disable_batching: true}}\n",
        home.model_path("plain")
    );
    home.configure(&format!("spares: 0\n{yaml}"));
    home.said(&["start"]);
    wait_until("plain to be loaded", LOAD, || {
        home.states("plain").1 == "loaded"
    });
    let (alone, bare) = answers_and_memory(&home);
    home.done("plain", "unload");
    home.done("plain", "load");
    let (again, _) = answers_and_memory(&home);
    assert_eq!(again, alone, "the seed is heeded");

    home.configure(&yaml);
    home.said(&["reload"]);
    home.done("plain", "unload");
    home.done("plain", "load");
    let spare = wait_for("a spare process", SPARE, || {
        let spare = &home.status()["spares"][0];
        spare["pid"].as_u64().filter(|_| spare["ready"] == true)
    });
    home.done("plain", "unload");
    home.done("plain", "load");
    assert_eq!(u64::from(pid(&home)), spare);
    let (same, held) = answers_and_memory(&home);
    assert_eq!(same, alone);
    let most = bare + MORE.min(bare / PART);
    assert!(held <= most, "{held} KiB instead of {bare}");
    home.said(&["stop"]);
}
