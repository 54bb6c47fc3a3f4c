//! What happens to processes: workers and the daemon are killed, the daemon is replaced.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::census::Census;
use crate::dice::Dice;
use crate::support::processes;
use crate::tally::Tally;
use crate::world::{CONFIGURATIONS, World, configuration};

pub(crate) fn rage(world: &World, tally: &Tally, mut dice: Dice) {
    let mut census = Census::new(world.record.clone());
    // Rare things happen once at least, however short it is.
    kill_hub(world, tally, &mut census, &mut dice);
    restart(world, tally);
    while world.goes_on() {
        match dice.below(20) {
            0..13 => kill_worker(tally, &mut census, &mut dice),
            13..17 => kill_hub(world, tally, &mut census, &mut dice),
            17 => restart(world, tally),
            _ => {}
        }
        // Blows come at any time: the dice are the input.
        std::thread::sleep(Duration::from_millis(dice.below(700) as u64));
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
        hub.kill();
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

fn restart(world: &World, tally: &Tally) {
    world.during_outage(|hub| {
        let output = hub.restart();
        if output.status.code() != Some(0) {
            tally.broken(format!("restart: {output:?}"));
        }
    });
    tally.count("restart", "done");
}
