//! Which groups of real workers there are, and that no model ever has two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::home::Home;
use crate::support::processes;

/// A worker needs seconds to come up: none is missed.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks at the process table all the time, until it is dropped.
pub(crate) struct Census {
    seen: Arc<Mutex<Seen>>,
    _end: Sender<()>,
}

#[derive(Default)]
struct Seen {
    /// All that there ever were.
    groups: BTreeSet<u32>,
    doubles: Vec<String>,
}

impl Census {
    pub(crate) fn of(home: &Home, models: &[&str]) -> Self {
        let paths: Vec<String> = models.iter().map(|model| home.model_path(model)).collect();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (end, ended) = mpsc::channel();
        let census = Self {
            seen: Arc::clone(&seen),
            _end: end,
        };
        std::thread::spawn(move || {
            let mut before = BTreeMap::new();
            while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let now = look(&paths);
                let mut seen = seen.lock().unwrap();
                for (model, groups) in &now {
                    seen.groups.extend(groups);
                    // A look takes a while, in which one may go and the other come.
                    let both: Vec<_> = before
                        .get(model)
                        .map_or_else(Vec::new, |old| groups.intersection(old).collect());
                    if both.len() > 1 {
                        seen.doubles.push(format!("{model}: {both:?}"));
                    }
                }
                drop(seen);
                before = now;
            }
        });
        census
    }

    pub(crate) fn groups(&self) -> BTreeSet<u32> {
        self.seen.lock().unwrap().groups.clone()
    }

    /// Each of these is alive and leads its group, and of all other groups nothing is left.
    #[track_caller]
    pub(crate) fn assert_groups(&self, leaders: &BTreeSet<u32>) {
        let living = processes::living();
        let led = living.iter().filter(|(pid, group)| pid == group);
        let led: BTreeSet<u32> = led.map(|(pid, _)| *pid).collect();
        assert!(leaders.is_subset(&led), "{leaders:?}: {living:?}");
        let seen = self.seen.lock().unwrap();
        let left: Vec<_> = living
            .iter()
            .filter(|(_, group)| seen.groups.contains(group) && !leaders.contains(group))
            .collect();
        assert!(left.is_empty(), "(process, group) left over: {left:?}");
        assert_eq!(seen.doubles, Vec::<String>::new(), "two workers at once");
    }
}

/// The groups that work for a model. Only a worker's first process names it.
fn look(models: &[String]) -> BTreeMap<String, BTreeSet<u32>> {
    let lines: Vec<_> = models
        .iter()
        .map(|model| processes::with_argument(model))
        .collect();
    // Afterwards: a worker that names its model has left the group of the hub that forked it.
    let groups: BTreeMap<u32, u32> = processes::living().into_iter().collect();
    let group_of = |line: &String| {
        let pid = line.split_whitespace().next()?.parse().ok()?;
        groups.get(&pid).copied()
    };
    let of_model = |(model, lines): (&String, &Vec<String>)| {
        (model.clone(), lines.iter().filter_map(group_of).collect())
    };
    models.iter().zip(&lines).map(of_model).collect()
}
