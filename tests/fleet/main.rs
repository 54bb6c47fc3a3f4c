//! Three hubs with simulated workers behind a real gateway (SMG), each in a network of its own.
//!
//! It needs Linux, root, `ip`, `iptables` and target/smg, which tests/run makes.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers fail like the tests they help")]

mod ask;
mod cost;
mod door;
mod keys;
mod lines;
mod member;
mod others;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::time::Duration;

use ask::ask;
use member::{Member, assert_load_nothing};
use support::{SOON, wait_until};
use tokio::time::Instant;
use world::World;

/// For so long the gateway's checks are watched; `FLEET_HEALTH_SECONDS` sets another time.
const CHECKS: u64 = 12;

#[test]
fn a_gateway_knows_every_started_model_and_its_checks_load_none() {
    let Some(mut world) = World::met() else {
        return;
    };
    let mut door = world.door();
    // Asked too early: it is not there yet.
    let studio = world.hub("studio", &door, &["alpha", "beta"]);
    studio.wait_for_state("unreachable");
    let status = studio.run(&["fleet", "status"]);
    assert!(status.out.contains("cannot be reached"), "{status:?}");
    assert_eq!(ask(&studio.url(), "alpha"), (200, "studio".to_owned()));
    studio.said(&["unload-model", "alpha"]);

    door.open(&[]);
    let mini = world.hub("mini", &door, &["gamma"]);
    let laptop = world.hub("laptop", &door, &["delta"]);
    door.wait_for(&[
        (&studio, &["alpha", "beta"]),
        (&mini, &["gamma"]),
        (&laptop, &["delta"]),
    ]);
    for member in [&studio, &mini, &laptop] {
        member.wait_for_state("member");
        assert_eq!(member.readiness(), 200);
    }

    let seconds = std::env::var("FLEET_HEALTH_SECONDS").ok();
    let seconds = seconds.map_or(CHECKS, |seconds| seconds.parse().unwrap());
    assert_load_nothing(&[&studio, &mini, &laptop], Duration::from_secs(seconds));

    for (model, hub) in [
        ("alpha", "studio"),
        ("beta", "studio"),
        ("gamma", "mini"),
        ("delta", "laptop"),
    ] {
        assert_eq!(door.ask(model), (200, hub.to_owned()), "{model}");
    }

    // A model added by reload, and one that is stopped.
    mini.configure(&["gamma", "epsilon"]);
    mini.said(&["reload"]);
    studio.said(&["stop-model", "beta"]);
    door.wait_for(&[
        (&studio, &["alpha"]),
        (&mini, &["epsilon", "gamma"]),
        (&laptop, &["delta"]),
    ]);
    assert_eq!(door.ask("epsilon"), (200, "mini".to_owned()));

    // Those that end take themselves out.
    laptop.said(&["stop"]);
    door.wait_for(&[(&studio, &["alpha"]), (&mini, &["epsilon", "gamma"])]);
}

#[test]
fn a_gateway_that_forgets_or_lies_is_told_again() {
    let Some(mut world) = World::met() else {
        return;
    };
    let mut door = world.open_door();
    let studio = world.hub("studio", &door, &["alpha"]);
    let mini = world.hub("mini", &door, &["alpha", "beta"]);
    let all: [(_, &[&str]); 2] = [(&studio, &["alpha"]), (&mini, &["alpha", "beta"])];
    door.wait_for(&all);

    studio.beats_slowly();
    mini.beats_slowly();
    door.close();
    studio.wait_for_state("unreachable");
    door.open(&[]);
    door.wait_for_a_heartbeat(Instant::now(), &all);
    studio.wait_for_state("member");

    // It takes a model for another, and another hub's for this one's.
    door.change(&studio.at("alpha"), |spec| {
        spec["models"][0]["id"] = "beta".into()
    });
    let length = |url: &str| {
        let entries = door.entries().unwrap_or_default();
        let entry = entries.iter().find(|entry| entry["url"] == url)?;
        Some((
            entry["models"][0]["id"].as_str()?.to_owned(),
            entry["models"][0]["context_length"].as_u64()?,
            entry["labels"]["hub"].as_str()?.to_owned(),
        ))
    };
    let truth = Some(("alpha".to_owned(), 32_768, "studio".to_owned()));
    wait_until("the name to be corrected", SOON, || {
        length(&studio.at("alpha")) == truth
    });
    door.change(&studio.at("alpha"), |spec| {
        spec["models"][0]["context_length"] = 1.into();
        spec["labels"]["hub"] = "mini".into();
    });
    wait_until("the rest to be corrected", SOON, || {
        length(&studio.at("alpha")) == truth
    });
    door.wait_for(&all);
}

#[test]
fn a_gateway_knows_on_which_of_two_hubs_a_model_is_in_memory() {
    let Some(mut world) = World::met() else {
        return;
    };
    let door = world.open_door();
    let studio = world.hub("studio", &door, &["alpha"]);
    let mini = world.hub("mini", &door, &["alpha"]);
    door.wait_for(&[(&studio, &["alpha"]), (&mini, &["alpha"])]);
    for (warm, cold) in [(&studio, &mini), (&mini, &studio)] {
        cold.said(&["unload-model", "alpha"]);
        warm.said(&["load-model", "alpha"]);
        let knows = |member: &Member, memory: &str| {
            let entries = door.entries().unwrap_or_default();
            let entry = entries
                .iter()
                .find(|entry| entry["url"] == member.at("alpha"));
            entry.is_some_and(|entry| {
                let waiting = &entry["engine_load"]["loads"][0]["num_waiting_uncached_tokens"];
                let is_cold = waiting.as_u64().is_some_and(|waiting| waiting > 0);
                entry["labels"]["memory"] == memory && is_cold == (memory == "unloaded")
            })
        };
        wait_until("the gateway to know which is warm", SOON, || {
            knows(warm, "loaded") && knows(cold, "unloaded")
        });
        assert_eq!(cold.memory(), ["unloaded"]);
    }
}
