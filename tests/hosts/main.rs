//! One model over several machines, with the real `mlx.launch` and `mlx_lm.server`: each machine is a network
//! namespace with processes of its own and Debian's sshd. The hub's machine is the one of the test.
//!
//! It needs Linux, root, `ip`, `sshd` and target/real-worker, which tests/run makes.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers fail like the tests they help")]

#[path = "../support/mod.rs"]
mod support;
mod world;

use std::time::Duration;

use nix::sys::signal::Signal;
use support::{SOON, processes, wait_for, wait_until, within};
use tokio::time::Instant;
use world::World;

/// In so long trouble is noticed; the rest is for a machine that does much else.
const NOTICED: Duration = Duration::from_secs(30 + 30);

/// In so long a machine that is back is tried again; the rest is for an attempt that was under way.
const RETRIED: Duration = Duration::from_secs(60 + 30);

#[test]
fn two_and_three_machines_answer_as_one_and_nothing_is_left_on_them() {
    let Some(world) = World::started() else {
        return;
    };
    let expected = world.said("one");
    assert!(!expected.is_empty());
    for (model, machines) in [("two", 2), ("three", 3)] {
        assert_eq!(world.said(model), expected, "{model}");
        let there = world.hosts().map(|host| host.ranks().len());
        assert_eq!(there.sum::<usize>(), machines - 1, "{model}");
        world.home.said(&["unload-model", model]);
        world.assert_no_ranks();
    }
    assert_eq!(world.said("three"), expected);
    world.home.said(&["stop"]);
    world.assert_no_ranks();
}

#[test]
fn a_hub_that_is_killed_leaves_the_machines_to_the_next_and_stop_ends_them() {
    let Some(world) = World::started() else {
        return;
    };
    let expected = world.said("two");
    let before = world.host(0).ranks();
    assert_eq!(before.len(), 1);
    world.kill_hub();
    world.start();
    wait_until("the model to be adopted", SOON, || {
        world.home.states("two").1 == "loaded"
    });
    assert_eq!(world.said("two"), expected);
    assert_eq!(world.host(0).ranks(), before, "adopted");
    world.kill_hub();
    world.home.said(&["stop"]);
    world.assert_no_ranks();
}

/// A machine of the model on all three.
#[derive(Debug, Clone, Copy)]
enum Machine {
    /// The hub's. To be cut off from the others is the same for it as for both of them.
    Own,
    Other(usize),
}

/// What happens to a machine.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Killed,
    Stopped,
    CutOff,
    /// It can be reached over ssh, and not where the machines compute together.
    LineCut,
}

#[test]
fn a_machine_that_dies_hangs_or_is_cut_off_ends_all_and_the_next_request_loads_them_anew() {
    all_end(&[
        (Machine::Other(0), Trouble::Killed),
        (Machine::Other(1), Trouble::Stopped),
        (Machine::Other(0), Trouble::CutOff),
        (Machine::Other(1), Trouble::Killed),
        (Machine::Other(0), Trouble::Stopped),
        (Machine::Other(1), Trouble::CutOff),
    ]);
}

/// Its process answers `/health`, and all requests.
#[test]
fn the_hubs_own_machine_is_as_any_other() {
    all_end(&[
        (Machine::Own, Trouble::Stopped),
        (Machine::Own, Trouble::CutOff),
        (Machine::Own, Trouble::Killed),
    ]);
}

/// Whatever happens to one machine, the processes on all of them end, and the next request loads them anew.
fn all_end(troubles: &[(Machine, Trouble)]) {
    let Some(world) = World::started() else {
        return;
    };
    let expected = world.said("three");
    for (machine, trouble) in troubles {
        let leader = world.pid_of("three");
        let (ranks, lines): (_, Vec<_>) = match machine {
            Machine::Own => (World::own_ranks(leader), world.hosts().collect()),
            Machine::Other(index) => {
                let host = world.host(*index);
                (host.ranks(), vec![host])
            }
        };
        let [rank] = ranks[..] else {
            panic!("{machine:?}: {ranks:?}")
        };
        match trouble {
            Trouble::Killed => processes::send(rank, Signal::SIGKILL),
            Trouble::Stopped => processes::send(rank, Signal::SIGSTOP),
            Trouble::CutOff => lines.iter().for_each(|host| host.place.cut()),
            Trouble::LineCut => unreachable!("a matter of loads"),
        }
        let what = format!("{machine:?}, {trouble:?}");
        let begun = Instant::now();
        let noticed = within(NOTICED, || {
            let is_gone = processes::members(leader).is_empty();
            (is_gone && world.home.states("three").1 != "loaded").then_some(())
        });
        assert!(noticed.is_some(), "{what}: {}", world.home.app_log());
        let took = begun.elapsed();
        support::show("the test", &format!("{what}: noticed after {took:?}"));
        if matches!(trouble, Trouble::CutOff) {
            // It cannot be told to end, and so nothing is loaded.
            let refused = world.chat("three");
            assert_eq!(refused.status, 503, "{}", refused.text());
            assert!(refused.text().contains("over ssh"), "{}", refused.text());
            lines.iter().for_each(|host| world.mend(host));
        } else {
            wait_until("no rank to be left", SOON, || world.ranks().is_empty());
        }
        assert_eq!(world.said("three"), expected, "{what}");
        assert_ne!(world.pid_of("three"), leader);
        assert_eq!(world.ranks().len(), 2, "one on each, none of before");
    }
    world.home.said(&["stop"]);
    world.assert_no_ranks();
}

/// The ports on which the machines of a model exchange what they compute.
const RING: &str = "20000:31999";

#[test]
fn machines_that_ssh_reaches_but_that_do_not_compute_together_are_ended() {
    let Some(world) = World::started() else {
        return;
    };
    let expected = world.said("two");
    let leader = world.pid_of("two");
    let place = &world.host(0).place;
    // All but the closed one, at which the hub looks for the machine.
    let port = world.home.model("two")["port"].as_u64().unwrap();
    let first = 20_000 + port % 750 * 16;
    let computing = format!("{first}:{}", first + 14);
    place.cut_ports(&computing);
    let noticed = within(NOTICED, || {
        let is_gone = processes::members(leader).is_empty();
        (is_gone && world.ranks().is_empty()).then_some(())
    });
    place.mend_ports(&computing);
    assert!(noticed.is_some(), "{}", world.home.app_log());
    wait_until("the reason to be told", SOON, || {
        let told = world.home.model("two").to_string();
        told.contains("have computed nothing together")
    });
    assert_eq!(world.said("two"), expected);
    world.home.said(&["stop"]);
    world.assert_no_ranks();
}

#[test]
fn a_machine_that_hangs_or_is_cut_off_while_the_model_loads_is_noticed() {
    let Some(world) = World::started() else {
        return;
    };
    let expected = world.said("three");
    for trouble in [Trouble::Stopped, Trouble::CutOff, Trouble::LineCut] {
        world.home.said(&["unload-model", "three"]);
        world.assert_no_ranks();
        let host = world.host(0);
        std::thread::scope(|scope| {
            let load = scope.spawn(|| world.home.run(&["load-model", "three"]));
            // It imports its modules then, and computes nothing yet.
            let rank = wait_for("a rank", SOON, || host.ranks().first().copied());
            let leader = world.pid_of("three");
            match trouble {
                Trouble::Stopped => processes::send(rank, Signal::SIGSTOP),
                Trouble::LineCut => host.place.cut_ports(RING),
                _ => host.place.cut(),
            }
            let begun = Instant::now();
            let noticed = within(NOTICED, || {
                processes::members(leader).is_empty().then_some(())
            });
            assert!(noticed.is_some(), "{trouble:?}: {}", world.home.app_log());
            let took = begun.elapsed();
            support::show(
                "the test",
                &format!("{trouble:?} in a load: noticed after {took:?}"),
            );
            match trouble {
                Trouble::CutOff => world.mend(host),
                Trouble::LineCut => {
                    host.place.mend_ports(RING);
                    let told = format!("`{}` cannot be reached for", host.place.address);
                    wait_until("the reason to be told", SOON, || {
                        world.home.app_log().contains(&told)
                    });
                }
                _ => {}
            }
            load.join().unwrap();
        });
        assert_eq!(world.said("three"), expected, "{trouble:?}");
        assert_eq!(world.ranks().len(), 2, "one on each, none of before");
    }
    world.home.said(&["stop"]);
    world.assert_no_ranks();
}

#[test]
fn what_a_machine_out_of_reach_keeps_is_ended_once_it_is_back() {
    let Some(world) = World::started() else {
        return;
    };
    world.said("two");
    let host = world.host(0);
    host.place.cut();
    world.home.said(&["unload-model", "two"]);
    assert_eq!(host.ranks().len(), 1, "nobody can have told it");
    world.mend(host);
    let ended = format!("its processes on `{}` have ended", host.place.address);
    wait_until("the machine to have been told", RETRIED, || {
        world.home.app_log().contains(&ended)
    });
    assert_eq!(host.ranks(), [0; 0]);
}

#[test]
fn check_says_what_each_machine_needs_and_tries_it() {
    let Some(world) = World::met() else { return };
    let host = world.host(0);
    let said = world.home.said(&["check"]);
    let needed = format!(
        "    {} needs ssh without a password, and `",
        host.place.address
    );
    let line = said.lines().find(|line| line.starts_with(&needed));
    let line = line.unwrap_or_else(|| panic!("no `{needed}` in {said}"));
    assert!(line.contains("/mlx_lm.server` and `"), "{line}");
    assert!(line.ends_with("/tiny`"), "{line}");
    let tried = world.home.said(&["check", "--hosts"]);
    assert!(tried.contains("Nothing is wrong"), "{tried}");

    host.place.cut();
    let tried = world.home.run(&["check", "--hosts"]);
    tried.assert_failed();
    let problem = format!("`{}` cannot be asked over ssh", host.place.address);
    assert!(tried.out.contains(&problem), "{tried:?}");
}
