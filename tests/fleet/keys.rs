//! A gateway that `fleet config smg` has configured; one that wants a key, and hubs that want one of it.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::ask::{ask, ask_by, client, patient_client};
use crate::door::Door;
use crate::member::Member;
use crate::support::network::Line;
use crate::support::{SOON, processes, wait_until};
use crate::world::World;

/// The hub sends the first to the gateway, and the gateway the second to the hub.
const VARIABLES: &str = ", gateway_key_env: DOOR_KEY, hub_key_env: HUB_KEY";

/// Tells the client whose key the hub has seen.
const TELL: &str = r#"return {
  on_request = function(req, hub)
    return hub.reject{ status = 418, message = "it is " .. tostring(req.key) }
  end,
}
"#;

/// Makes a key of the hub.
fn key(member: &Member, name: &str) -> String {
    let said = member.said(&["key", "add", name, "--yes"]);
    let key = said.lines().find(|line| line.starts_with("mlxhub-"));
    key.unwrap_or_else(|| panic!("no key in {said}")).to_owned()
}

/// What the hub's environment has.
fn set_keys(member: &mut Member, door_key: &str, hub_key: &str) {
    let pairs = [("DOOR_KEY", door_key), ("HUB_KEY", hub_key)];
    member.variables = pairs
        .map(|(name, key)| (name.to_owned(), key.to_owned()))
        .into();
}

/// Seconds; longer than what a gateway's checks forgive.
const LOAD: u64 = 15;

#[test]
fn the_printed_gateway_waits_for_a_model_that_is_loaded() {
    let Some(mut world) = World::met() else {
        return;
    };
    let mut door = world.door();
    let studio = world.idle_hub(Line::Short, "studio", Some(&door));
    studio.configure(&["alpha"]);
    studio.loads_slowly(LOAD);
    door.open_as_printed(&studio.said(&["fleet", "config", "smg"]), None);
    studio.start();
    door.wait_for(&[(&studio, &["alpha"])]);
    assert_eq!(studio.memory(), ["unloaded"]);
    let begun = Instant::now();
    let url = door.url();
    let patient = patient_client(Duration::from_secs(120));
    let asked = std::thread::spawn(move || ask_by(&patient, &url, "alpha", None));
    while !asked.is_finished() {
        assert_eq!(door.ready(), [studio.at("alpha")]);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(asked.join().unwrap(), (200, "studio".to_owned()));
    assert!(
        begun.elapsed() >= Duration::from_secs(LOAD),
        "{:?}",
        begun.elapsed()
    );
    // It has asked once.
    assert_eq!(studio.home.record.events("load").len(), 1);
}

#[test]
fn keys_are_wanted_and_sent_in_both_directions() {
    let Some(mut world) = World::met() else {
        return;
    };
    let mut door = world.door();
    let mut studio = world.idle_hub(Line::Short, "studio", Some(&door));
    studio.configure_with(&["alpha"], VARIABLES, "");
    // Clients send it to the gateway, which passes it on.
    let door_key = key(&studio, "door");
    set_keys(&mut studio, &door_key, &door_key);
    let printed = studio.said(&["fleet", "config", "smg"]);
    door.open_as_printed(&printed, Some(&door_key));
    studio.start();
    door.wait_for(&[(&studio, &["alpha"])]);
    studio.wait_for_state("member");
    assert_eq!(door.ask("alpha"), (200, "studio".to_owned()));
    // Neither takes anybody without a key.
    assert_eq!(ask(&door.url(), "alpha").0, 401);
    assert_eq!(ask(&studio.at("alpha"), "alpha").0, 401);
    assert_eq!(with(&door.url(), "mlxhub-none").0, 401);
    assert_eq!(with(&studio.at("alpha"), "mlxhub-none").0, 401);
    assert_eq!(with(&studio.at("alpha"), &door_key).0, 200);
    // The gateway asks how busy the model is, for which it needs one too.
    let knows_load = || {
        let entries = door.entries().unwrap_or_default();
        let mut loads = entries.iter().map(|entry| &entry["engine_load"]["loads"]);
        loads.any(Value::is_array)
    };
    wait_until("the gateway to know the load", SOON, knows_load);

    // A hub that sends none is told so, and is as it was otherwise.
    let mini = world.hub("mini", &door, &["beta"]);
    mini.wait_for_state("unreachable");
    let status = mini.run(&["fleet", "status"]);
    assert!(status.out.contains("set `gateway_key_env`"), "{status:?}");
    assert_eq!(ask(&mini.url(), "beta"), (200, "mini".to_owned()));
    assert_eq!(door.ready(), [studio.at("alpha")]);
    assert_shows_none(&studio, &door, &[&door_key]);
}

#[test]
fn people_with_keys_of_the_hub_are_known_behind_a_gateway_without_one() {
    let Some(mut world) = World::met() else {
        return;
    };
    let door = world.open_door();
    let mut studio = world.idle_hub(Line::Short, "studio", Some(&door));
    std::fs::write(studio.home.base().join("tell.lua"), TELL).unwrap();
    studio.configure_with(
        &["alpha"],
        ", hub_key_env: HUB_KEY",
        "policies: [./tell.lua]\n",
    );
    let [door_key, other_key, ada] = ["door", "other", "ada"].map(|name| key(&studio, name));
    set_keys(&mut studio, "", &door_key);
    studio.start();
    door.wait_for(&[(&studio, &["alpha"])]);
    let asks = |answer: (u16, String), name: &str| {
        answer.0 == 418 && answer.1.contains(&format!("it is {name}"))
    };
    assert!(asks(with(&door.url(), &ada), "ada"));
    assert!(asks(ask(&door.url(), "alpha"), "door"));
    assert_eq!(with(&door.url(), "mlxhub-none").0, 401);

    // The next hub has another key for the gateway, which still has the entry of the one before.
    processes::send(studio.home.pid(), Signal::SIGKILL);
    wait_until("the hub to be gone", SOON, || !studio.home.is_running());
    set_keys(&mut studio, "", &other_key);
    studio.start();
    wait_until("the gateway to send the other key", SOON, || {
        asks(ask(&door.url(), "alpha"), "other")
    });
    studio.wait_for_state("member");
    assert_shows_none(&studio, &door, &[&door_key, &other_key, &ada]);
}

/// A chat with that key.
fn with(base: &str, key: &str) -> (u16, String) {
    ask_by(&client(), base, "alpha", Some(key))
}

fn assert_shows_none(member: &Member, door: &Door, keys: &[&str]) {
    let shown = [
        door.list().unwrap(),
        member.said(&["fleet", "status", "--json"]),
        member.said(&["status", "--json"]),
        member.home.app_log(),
    ];
    for text in &shown {
        for key in keys {
            assert!(!text.contains(key), "{text}");
        }
    }
}
