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
/// A module that no spare can import, and every other process can.
const BROKEN: &str = "import sys\nif sys.argv[0] == '-c' and '--multiprocessing-fork' not in sys.argv:\n    raise SystemExit('not here')\nNAME = __name__\n";
const WHOLE: &str = "NAME = __name__\n";

#[derive(Debug, Clone, Copy)]
enum Harm {
    None,
    Killed,
    Stopped,
    /// Stopped for half a second.
    Paused,
    /// The next spare cannot import a module.
    Broken,
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
    let mut dice = Rng::with_seed(seed);
    let worker = Worker::of(&python());
    worker.write("standin_server.py", WHOLE);
    let more = "load_timeout: 3\nstop_timeout: 2\ndrain_timeout: 1\nstall_timeout: 0\n";
    let mut hub = Hub::start(&worker.yaml(more, "env: {A: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    let mut groups = BTreeSet::new();
    let spare = |hub: &Hub| {
        let spare = within(SPARE, || ready(hub).first().copied());
        spare.unwrap_or_else(|| panic!("no spare: {}", hub.output()))
    };
    spare(&hub);
    let before = descriptors(hub.pid());
    let mut with_spare = 0;
    for turn in 0..loads {
        unload(&hub);
        let kept = if dice.u8(..5) == 0 {
            ready(&hub).first().copied()
        } else {
            Some(spare(&hub))
        };
        let harm = [
            Harm::None,
            Harm::Killed,
            Harm::Stopped,
            Harm::Paused,
            Harm::Broken,
        ][dice.usize(..5)];
        let before_load = dice.bool();
        let moment = Duration::from_micros(dice.u64(..80_000));
        let members = kept.map(processes::members).unwrap_or_default();
        groups.extend(kept);
        // The server, the model process, or both.
        let hit: Vec<u32> = match dice.usize(..3) {
            2 => members,
            one => members.get(one).copied().into_iter().collect(),
        };
        if before_load {
            harm.to(&hit, &worker);
        }
        let is_over = AtomicBool::new(false);
        let loaded = std::thread::scope(|scope| {
            let harmed = scope.spawn(|| {
                std::thread::sleep(moment);
                if !before_load && !is_over.load(Ordering::Relaxed) {
                    harm.to(&hit, &worker);
                }
            });
            let loaded = hub.act("alpha", "load");
            is_over.store(true, Ordering::Relaxed);
            harmed.join().unwrap();
            loaded
        });
        let what =
            format!("{turn}: {harm:?} of {hit:?} of {kept:?}, before: {before_load}, {moment:?}");
        assert_eq!(
            loaded.status,
            200,
            "{what}: {}\n{}",
            loaded.text(),
            hub.output()
        );
        let pid = hub.model("alpha")["pid"]
            .as_u64()
            .map(|pid| u32::try_from(pid).unwrap());
        groups.extend(pid);
        with_spare += u64::from(pid.is_some() && pid == kept);
        if before_load || matches!(harm, Harm::None | Harm::Broken) {
            facts(&hub, "alpha");
        }
        if pid != kept
            && let Some(kept) = kept
            && !ready(&hub).contains(&kept)
        {
            wait_until(
                &format!("the end of a spare that was not used, {what}"),
                SOON,
                || processes::members(kept).is_empty(),
            );
        }
        worker.write("standin_server.py", WHOLE);
    }
    let _ = writeln!(
        std::io::stderr(),
        "spares: {with_spare} of {loads} loads with one"
    );
    unload(&hub);
    assert_eq!(hub.act("alpha", "load").status, 200);
    spare(&hub);
    let after = descriptors(hub.pid());
    assert!(
        after <= before + MORE_DESCRIPTORS,
        "{before} descriptors became {after}"
    );
    groups.extend(ready(&hub));
    hub.signal(Signal::SIGTERM);
    hub.wait_for_end();
    for group in groups {
        wait_until(&format!("the end of group {group}"), SOON, || {
            processes::members(group).is_empty()
        });
    }
}

impl Harm {
    fn to(self, hit: &[u32], worker: &Worker) {
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
            Self::Broken => worker.write("standin_server.py", BROKEN),
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
