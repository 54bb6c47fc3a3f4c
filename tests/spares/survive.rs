//! Loads with spares that are killed, stopped and broken at random moments: each load that would have gone well
//! without them does, and nothing is left over.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use nix::sys::signal::Signal;

use crate::support::{Hub, SOON, processes, wait_until, within};
use crate::worker::{SPARE, Worker, facts, python, ready};

/// Without `SPARE_LOADS`; each takes some three seconds.
const LOADS: u64 = 8;
/// A hub opens some descriptors late, and others see the status at the same moment.
const MORE_DESCRIPTORS: usize = 6;
/// Longest wait for a spare that cannot be made.
const BROKEN_SPARE: Duration = Duration::from_secs(5);
/// Modules that a spare cannot import, or not to the end, and that every other process can.
const BROKEN: [&str; 3] = [
    "raise SystemExit('not here')",
    "os._exit(1)",
    "time.sleep(300)",
];
const WHOLE: &str = "NAME = __name__\n";

/// What happens to a spare during a load.
#[derive(Debug, Clone, Copy)]
enum Harm {
    None,
    Killed,
    Stopped,
    /// Stopped for half a second.
    Paused,
}

/// What happens to the hub after one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    None,
    Killed,
    Restarted,
}

/// Loads of a worker in Python, and what is known of them.
struct Loads {
    hub: Hub,
    worker: Worker,
    dice: Rng,
    /// All groups of processes that there were.
    groups: BTreeSet<u32>,
    /// Loads that nothing happened to and for which a spare was there, and how many of them used it.
    unharmed: (u64, u64),
    /// Open descriptors of the hub with a loaded model and a spare.
    descriptors: usize,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn loads_go_well_whatever_happens_to_spares() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("SPARE_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    let loads = number("SPARE_LOADS").unwrap_or(LOADS);
    // To the terminal, past the test runner, which would keep it for failures.
    let _ = writeln!(
        std::io::stderr(),
        "spares: SPARE_SEED={seed} SPARE_LOADS={loads}"
    );
    let worker = Worker::of(&python());
    worker.write("standin_server.py", WHOLE);
    let more = "load_timeout: 5\nstop_timeout: 2\ndrain_timeout: 1\nstall_timeout: 0\n";
    let mut run = Loads {
        hub: Hub::start_in_background(&worker.yaml(more, "env: {A: '1'}")),
        worker,
        dice: Rng::with_seed(seed),
        groups: BTreeSet::new(),
        unharmed: (0, 0),
        descriptors: 0,
    };
    run.hub.wait_for_state("alpha", "running", "loaded");
    run.spare();
    run.descriptors = descriptors(run.hub.pid());
    for turn in 0..loads {
        run.load(turn);
        let changes = [Change::None, Change::Killed, Change::Restarted];
        // Seldom: nearly all loads are to have a spare.
        if run.dice.u8(..8) == 0 {
            let change = changes[run.dice.usize(..3)];
            run.change(change);
        }
    }
    let (unharmed, with_spare) = run.unharmed;
    let _ = writeln!(
        std::io::stderr(),
        "spares: {with_spare} of {unharmed} loads that nothing happened to used theirs"
    );
    assert!(2 * with_spare >= unharmed, "spares are not used");
    run.end();
}

impl Loads {
    fn spare(&self) -> u32 {
        let spare = within(SPARE, || ready(&self.hub).first().copied());
        spare.unwrap_or_else(|| panic!("no spare: {}", self.log()))
    }

    fn log(&self) -> String {
        let path = self.hub.logs().join("app.log");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// One load, with all that may happen to its spare.
    fn load(&mut self, turn: u64) {
        let broken = (self.dice.u8(..6) == 0).then(|| BROKEN[self.dice.usize(..3)]);
        if let Some(broken) = broken {
            self.break_spares(broken);
        }
        unload(&self.hub);
        let kept = match broken {
            Some(_) => within(BROKEN_SPARE, || ready(&self.hub).first().copied()),
            None if self.dice.u8(..5) == 0 => ready(&self.hub).first().copied(),
            None => Some(self.spare()),
        };
        let harm = [Harm::None, Harm::Killed, Harm::Stopped, Harm::Paused][self.dice.usize(..4)];
        let before_load = self.dice.bool();
        let moment = Duration::from_micros(self.dice.u64(..80_000));
        let members = kept.map(processes::members).unwrap_or_default();
        self.groups.extend(kept);
        // The server, the model process, or both.
        let hit: Vec<u32> = match self.dice.usize(..3) {
            2 => members,
            one => members.get(one).copied().into_iter().collect(),
        };
        if before_load {
            harm.to(&hit);
        }
        let is_over = AtomicBool::new(false);
        let hub = &self.hub;
        let loaded = std::thread::scope(|scope| {
            let harmed = scope.spawn(|| {
                std::thread::sleep(moment);
                if !before_load && !is_over.load(Ordering::Relaxed) {
                    harm.to(&hit);
                }
            });
            let loaded = hub.act("alpha", "load");
            is_over.store(true, Ordering::Relaxed);
            harmed.join().unwrap();
            loaded
        });
        let what = format!(
            "{turn}: {harm:?} of {hit:?} of {kept:?}, before: {before_load}, {moment:?}, {broken:?}"
        );
        assert_eq!(
            loaded.status,
            200,
            "{what}: {}\n{}",
            loaded.text(),
            self.log()
        );
        let pid = self.hub.model("alpha")["pid"].as_u64();
        let pid = pid.map(|pid| u32::try_from(pid).unwrap());
        self.groups.extend(pid);
        let is_unharmed = matches!(harm, Harm::None);
        if is_unharmed && kept.is_some() {
            self.unharmed.0 += 1;
            self.unharmed.1 += u64::from(pid == kept);
        }
        if before_load || is_unharmed {
            facts(&self.hub, "alpha");
        }
        if pid != kept
            && let Some(kept) = kept
            && !ready(&self.hub).contains(&kept)
        {
            wait_until(
                &format!("the end of a spare that was not used, {what}"),
                SOON,
                || processes::members(kept).is_empty(),
            );
        }
        if broken.is_some() {
            self.worker.write("standin_server.py", WHOLE);
        }
    }

    /// Has the next spare be one that cannot import a module, and not the one that there is.
    fn break_spares(&self, how: &str) {
        let in_spare = "sys.argv[0] == '-c' and '--multiprocessing-fork' not in sys.argv";
        let text = format!("import os, sys, time\nif {in_spare}:\n    {how}\n{WHOLE}");
        self.worker.write("standin_server.py", &text);
        let spares = ready(&self.hub);
        for spare in &spares {
            processes::send_to_group(*spare, Signal::SIGKILL);
        }
        // It is seen to be gone at the next load, after which others are made.
        self.hub.act("alpha", "unload");
        assert_eq!(self.hub.act("alpha", "load").status, 200);
    }

    /// Another hub, which has the worker of the one before and none of its spares.
    fn change(&mut self, change: Change) {
        if change == Change::None {
            return;
        }
        self.look_for_leaks();
        let worker = self.hub.model("alpha")["pid"].clone();
        let spares = ready(&self.hub);
        if change == Change::Killed {
            self.hub.kill();
            self.hub.serve_again();
        } else {
            assert!(self.hub.restart().status.success());
        }
        for spare in &spares {
            wait_until("the end of a spare without its hub", SOON, || {
                processes::members(*spare).is_empty()
            });
        }
        self.groups.extend(spares);
        wait_until("the worker to be taken over", SOON, || {
            let model = self.hub.model("alpha");
            // One that was harmed after its load may have ended meanwhile.
            model["pid"] == worker && model["memory_state"] == "loaded"
                || model["process_state"] == "failed"
                || model["pid"].is_u64() && model["pid"] != worker
        });
        self.descriptors = self.descriptors();
    }

    /// Open ones of the hub with a loaded model and a spare.
    fn descriptors(&self) -> usize {
        unload(&self.hub);
        assert_eq!(self.hub.act("alpha", "load").status, 200);
        self.spare();
        descriptors(self.hub.pid())
    }

    /// A hub that has loaded for a while has no more descriptors open than at first.
    fn look_for_leaks(&self) {
        let (before, after) = (self.descriptors, self.descriptors());
        assert!(
            after <= before + MORE_DESCRIPTORS,
            "{before} descriptors became {after}"
        );
    }

    /// Nothing is left over.
    fn end(mut self) {
        self.look_for_leaks();
        self.groups.extend(ready(&self.hub));
        assert!(self.hub.run(&["stop"]).status.success());
        for group in std::mem::take(&mut self.groups) {
            wait_until(&format!("the end of group {group}"), SOON, || {
                processes::members(group).is_empty()
            });
        }
    }
}

impl Harm {
    fn to(self, hit: &[u32]) {
        let send = |what| hit.iter().for_each(|pid| processes::send(*pid, what));
        match self {
            Self::None => {}
            Self::Killed => send(Signal::SIGKILL),
            Self::Stopped => send(Signal::SIGSTOP),
            Self::Paused => {
                send(Signal::SIGSTOP);
                std::thread::sleep(Duration::from_millis(500));
                send(Signal::SIGCONT);
            }
        }
    }
}

/// A worker that was harmed after its load may have failed, and is started again by the hub or here.
fn unload(hub: &Hub) {
    wait_until("the model to be unloaded", 2 * SOON, || {
        let model = hub.model("alpha");
        if model["process_state"] == "failed" {
            hub.act("alpha", "start");
        }
        model["memory_state"] == "unloaded" || hub.act("alpha", "unload").status == 200
    });
}

/// Open ones of another process.
fn descriptors(pid: u32) -> usize {
    if let Ok(folder) = std::fs::read_dir(format!("/proc/{pid}/fd")) {
        return folder.count();
    }
    let listed = Command::new("lsof")
        .args(["-p", &pid.to_string()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&listed.stdout).lines().count()
}
