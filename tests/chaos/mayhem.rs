//! What happens to processes: workers and the daemon are killed, and the daemon is replaced while all goes on.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::census::Census;
use crate::dice::Dice;
use crate::support::{Hub, SOON, processes, wait_until};
use crate::tally::Tally;
use crate::world::{CONFIGURATIONS, World, configuration};

/// No restart takes longer, whatever the machine does besides: it does not wait for requests.
const RESTART_LIMIT: Duration = Duration::from_secs(15);

pub(crate) fn rage(world: &World, tally: &Tally, mut dice: Dice) {
    let mut census = Census::new(world.record.clone());
    // Rare things happen once at least, however short it is.
    kill_hub(world, tally, &mut census, &mut dice);
    kill_during_restart(world, tally, &mut dice);
    while world.goes_on() {
        match dice.below(20) {
            0..13 => kill_worker(tally, &mut census, &mut dice),
            13..15 => kill_hub(world, tally, &mut census, &mut dice),
            15 => kill_during_restart(world, tally, &mut dice),
            _ => {}
        }
        // Blows come at any time: the dice are the input.
        std::thread::sleep(Duration::from_millis(dice.below(700) as u64));
    }
}

/// Replaces the hub again and again, beside everything else.
pub(crate) fn replace(world: &World, tally: &Tally, mut dice: Dice) {
    while world.goes_on() {
        restart(world, tally, &mut dice);
        // They come at any time: the dice are the input.
        std::thread::sleep(Duration::from_millis(dice.below(2_000) as u64));
    }
}

/// SIGKILL to one process of a worker, or to all of it.
fn kill_worker(tally: &Tally, census: &mut Census, dice: &mut Dice) {
    let groups = census.groups();
    if groups.is_empty() {
        return;
    }
    let group = dice.pick(&groups);
    let how = match dice.below(3) {
        0 => {
            processes::send_to_group(group.leader, Signal::SIGKILL);
            "group"
        }
        1 => {
            processes::send(group.leader, Signal::SIGKILL);
            "leader"
        }
        _ => {
            processes::send(*dice.pick(&group.members), Signal::SIGKILL);
            "any of it"
        }
    };
    tally.count("kill", how);
}

/// SIGKILL to the daemon; perhaps more happens before the next one comes.
fn kill_hub(world: &World, tally: &Tally, census: &mut Census, dice: &mut Dice) {
    world.during_outage(|hub| {
        let killed = kill(hub);
        wait_until_gone(hub, killed);
        let mut how = "hub";
        if dice.percent(30) {
            kill_worker(tally, census, dice);
            how = "hub and a worker";
        }
        if dice.percent(30) {
            hub.configure(&configuration(dice.below(CONFIGURATIONS)));
            how = "hub, hub.yaml changed";
        }
        hub.serve_again();
        tally.count("hub kill", how);
    });
}

/// SIGKILL to the process that a service manager would follow, or to the hub in the background. Returns that
/// process and the hub's.
fn kill(hub: &mut Hub) -> [u32; 2] {
    let killed = [hub.pid(), hub.serving_pid()];
    hub.kill();
    killed
}

/// A hub ends soon after its service, and might answer until then. In the background another one may have come
/// into its place.
fn wait_until_gone(hub: &Hub, [service, serving]: [u32; 2]) {
    if hub.is_in_background() {
        return;
    }
    for process in [service, serving, hub.serving_pid()] {
        wait_until("the hub to end with its service", SOON, || {
            !processes::is_alive(process)
        });
    }
}

/// A `restart` while clients and verbs are under way: nobody may notice.
fn restart(world: &World, tally: &Tally, dice: &mut Dice) {
    let hub = world.hub.read().expect("no thread has panicked");
    let is_changed = dice.percent(40);
    if is_changed {
        hub.configure(&configuration(dice.below(CONFIGURATIONS)));
    }
    let before = hub.serving_pid();
    let is_double = dice.percent(20);
    let how = match (is_double, is_changed) {
        (true, _) => "two at once",
        (false, true) => "hub.yaml changed",
        (false, false) => "same hub.yaml",
    };
    let command = || {
        hub.command(&["restart"])
            .output()
            .expect("the command runs")
    };
    let outputs = std::thread::scope(|scope| {
        let other = is_double.then(|| scope.spawn(command));
        let one = command();
        let other = other.map(|other| other.join().expect("no thread has panicked"));
        [Some(one), other]
    });
    for output in outputs.iter().flatten() {
        if output.status.code() != Some(0) {
            tally.broken(format!("restart: {output:?}"));
        }
    }
    hub.follow();
    if hub.serving_pid() == before {
        tally.broken(format!("the hub is still process {before} after a restart"));
    }
    tally.count("restart", how);
}

/// A `restart` during which the hub is killed, or all of the service: the next one comes up all the same.
fn kill_during_restart(world: &World, tally: &Tally, dice: &mut Dice) {
    world.during_outage(|hub| {
        let restart = hub.begin(&["restart"]);
        // The blow may come at any moment: the time is the input.
        std::thread::sleep(Duration::from_millis(dice.below(400) as u64));
        let killed = kill(hub);
        // It may say this or that, and must not wait for a hub that is gone.
        restart.end_within(RESTART_LIMIT);
        wait_until_gone(hub, killed);
        hub.serve_again();
        let how = match hub.is_in_background() {
            true => "in the background",
            false => "a service",
        };
        tally.count("kill in restart", how);
    });
}
