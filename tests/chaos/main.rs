//! Everything at once, by chance, for a while: verbs, requests, clients that leave, workers and hubs that
//! are killed, a hub.yaml that changes, with workers of several engines. Afterwards nothing may be lost, left
//! over or there twice.
//!
//! `CHAOS_SEED` repeats the decisions of a run (how the threads meet is the machine's business),
//! `CHAOS_SECONDS` says how long. The seed and the totals are printed whether it passes or not.

mod census;
mod clients;
mod dice;
mod mayhem;
#[path = "../support/mod.rs"]
mod support;
mod tally;
mod world;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dice::Dice;
use support::{Hub, SOON, processes, wait_until};
use tally::Tally;
use world::World;

/// Without `CHAOS_SECONDS`; tests/run takes a minute.
const SECONDS: u64 = 15;
const CLIENTS: u64 = 4;
const COMMANDERS: u64 = 2;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// To the terminal, past the test runner, which would keep it for failures.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[test]
fn nothing_is_lost_left_over_or_there_twice_whatever_happens() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(1, |since| u64::from(since.subsec_nanos()));
    let seed = number("CHAOS_SEED").unwrap_or(now);
    let seconds = number("CHAOS_SECONDS").unwrap_or(SECONDS);
    say(&format!(
        "chaos: CHAOS_SEED={seed} CHAOS_SECONDS={seconds}\n"
    ));
    let world = World::new(Duration::from_secs(seconds), seed);
    let tally = Tally::default();
    run(&world, &tally, seed);
    say(&format!("chaos: CHAOS_SEED={seed}, {seconds} s\n{tally}"));
    for what in [
        "plain",
        "stream",
        "left stream",
        "hang-up",
        "look",
        "verb",
        "kill",
        "hub kill",
        "kill in restart",
        "restart",
    ] {
        assert!(tally.total(what) > 0, "no {what} was tried");
    }
    let World {
        hub, http, record, ..
    } = world;
    let hub = hub.into_inner().expect("no thread has panicked");
    if let Err(difference) = census::compare(http, &record) {
        tally.broken(format!(
            "the status differs from the processes: {difference}"
        ));
    }
    check_service(&hub, &tally);
    check_end(&hub, &tally);
    let broken = tally.all_broken();
    if !broken.is_empty() {
        keep(&hub);
    }
    assert!(broken.is_empty(), "seed {seed}:\n{}", broken.join("\n"));
}

/// Keeps what the hub and its workers wrote down, for whoever looks into a failure.
fn keep(hub: &Hub) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos");
    let app_log = hub.logs().join("app.log");
    let kept = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::copy(app_log, folder.join("app.log")))
        .and_then(|_| std::fs::copy(hub.record.path(), folder.join("record.jsonl")));
    say(&format!("chaos: see {} ({kept:?})\n", folder.display()));
}

/// All threads, until the time is over.
fn run(world: &World, tally: &Tally, seed: u64) {
    let begin = |thread: u64, work: fn(&World, &Tally, Dice)| {
        let dice = Dice::of(seed, thread);
        // A thread that panics must not leave the others in the dark.
        let done = catch_unwind(AssertUnwindSafe(|| work(world, tally, dice)));
        if done.is_err() {
            tally.broken(format!("thread {thread} panicked"));
            world.give_up();
        }
    };
    std::thread::scope(|scope| {
        let begin = &begin;
        scope.spawn(move || begin(0, |world, tally, _| census::watch_for_doubles(world, tally)));
        scope.spawn(move || begin(1, mayhem::rage));
        scope.spawn(move || begin(2, mayhem::replace));
        for thread in 0..COMMANDERS {
            scope.spawn(move || begin(10 + thread, clients::command));
        }
        for thread in 0..CLIENTS {
            scope.spawn(move || begin(100 + thread, clients::ask));
        }
    });
}

/// After all that each model still does its work, one after the other: a group that is full of others
/// would refuse it.
fn check_service(hub: &Hub, tally: &Tally) {
    let status = hub.status();
    let models = status["models"].as_array().expect("models").iter();
    let names: Vec<&str> = models
        .map(|model| model["id"].as_str().expect("a name"))
        .collect();
    let stop = |name: &str| {
        let stopped = hub.act(name, "stop");
        if stopped.status != 200 {
            tally.broken(format!("{name} does not stop: {}", stopped.text()));
        }
    };
    names.iter().for_each(|name| stop(name));
    for name in names {
        let started = hub.act(name, "start");
        let answer = hub.http.chat(name, "hello");
        if answer.status != 200 {
            let (started, text) = (started.text(), answer.text());
            tally.broken(format!("{name} does not answer: {started} {text}"));
        }
        stop(name);
    }
}

/// The hub ends when it is told to, and nothing is left.
fn check_end(hub: &Hub, tally: &Tally) {
    let home = hub.folder().display().to_string();
    let stopped = hub.run(&["stop"]);
    if stopped.status.code() != Some(0) {
        tally.broken(format!("stop: {stopped:?}"));
    }
    let left = hub.worker_processes();
    if !left.is_empty() {
        tally.broken(format!("processes of workers are left: {left:?}"));
    }
    wait_until("the daemons to be gone", SOON, || {
        // A child of this test that nobody has waited for is no daemon.
        processes::with_argument(&home)
            .iter()
            .all(|line| line.contains("<defunct>"))
    });
    let said = hub.output()
        + &std::fs::read_to_string(hub.logs().join("app.stderr.log")).unwrap_or_default();
    for line in said.lines().filter(|line| line.contains("panicked")) {
        tally.broken(line.to_owned());
    }
}
