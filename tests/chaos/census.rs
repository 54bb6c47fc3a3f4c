//! Which workers there are: the process table beside what the workers wrote down themselves.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::support::http::Http;
use crate::support::processes;
use crate::support::record::Record;
use crate::support::{SOON, wait_for};
use crate::tally::Tally;
use crate::world::World;

/// Process ids are not used again within so many seconds, and times of processes are whole ones.
const REUSED: f64 = 5.0;

/// A worker's process group, as far as it lives.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) leader: u32,
    pub(crate) model: String,
    pub(crate) members: Vec<u32>,
}

/// Looks at the living groups of workers.
pub(crate) struct Census {
    record: Record,
    /// Which model a worker is for, and when it said so.
    models: HashMap<u32, (String, f64)>,
}

impl Census {
    pub(crate) fn new(record: Record) -> Self {
        let models = HashMap::new();
        Self { record, models }
    }

    pub(crate) fn groups(&mut self) -> Vec<Group> {
        let mut members = BTreeMap::<u32, Vec<u32>>::new();
        // Others may have the process ids of workers that have ended.
        for (pid, group) in processes::living_workers() {
            members.entry(group).or_default().push(pid);
        }
        // After the look at the processes: each of them has had its say, or will the next time.
        for start in self.record.events("start") {
            let pid = start["pid"]
                .as_u64()
                .and_then(|pid| u32::try_from(pid).ok());
            let model = start["model"].as_str().expect("a model");
            let name = model.strip_prefix("org/").unwrap_or(model);
            let at = start["at"].as_f64().expect("a time");
            self.models
                .insert(pid.expect("a process id"), (name.to_owned(), at));
        }
        let leaders: Vec<u32> = members.keys().copied().collect();
        let began = processes::began(&leaders);
        members
            .into_iter()
            .filter_map(|(leader, members)| {
                let (model, said_at) = self.models.get(&leader)?.clone();
                // In minutes a hub, or a worker that has had no say yet, has the id of one that ended long ago.
                let is_another = |began: &u64| *began as f64 > said_at + REUSED;
                (!began.get(&leader).is_some_and(is_another)).then_some(Group {
                    leader,
                    model,
                    members,
                })
            })
            .collect()
    }
}

/// Two groups of one model, if there are.
fn double(groups: &[Group]) -> Option<(&Group, &Group)> {
    groups.iter().enumerate().find_map(|(i, one)| {
        let other = groups[..i].iter().find(|other| other.model == one.model)?;
        Some((other, one))
    })
}

/// Looks again and again whether a model has two workers.
pub(crate) fn watch_for_doubles(world: &World, tally: &Tally) {
    let mut census = Census::new(world.record.clone());
    while world.goes_on() {
        let before = census.groups();
        tally.count("sample", "taken");
        let Some((one, two)) = double(&before) else {
            // A sample, not a wait: there is nothing to wait for. Each look costs a `ps`.
            std::thread::sleep(std::time::Duration::from_millis(40));
            continue;
        };
        // A look takes a while, in which one may go and the other come: both must be there later too.
        let after = census.groups();
        let is_there = |group: &Group| after.iter().any(|other| other.leader == group.leader);
        if is_there(one) && is_there(two) {
            tally.broken(format!("two workers at once: {one:?} and {two:?}"));
        }
    }
}

/// What the status and the process table say of one moment; they must say the same.
pub(crate) fn compare(http: Http, record: &Record) -> Result<(), String> {
    let mut census = Census::new(record.clone());
    wait_for(
        "every model to be at rest, and what belongs to none to be gone",
        SOON * 2,
        || {
            let models = models(http);
            let before = models.iter().map(facts).collect::<Vec<_>>();
            let groups = census.groups();
            let same = before == self::models(http).iter().map(facts).collect::<Vec<_>>();
            let at_rest = models.iter().all(is_at_rest);
            // hub.yaml may have lost a model whose worker is being ended: no status tells of it any more.
            let known = |group: &Group| {
                models
                    .iter()
                    .any(|model| model["id"] == group.model.as_str())
            };
            (same && at_rest && groups.iter().all(known)).then(|| agree(&models, &groups))
        },
    )
}

fn models(http: Http) -> Vec<Value> {
    let status = http.hub_status();
    status["models"].as_array().expect("models").clone()
}

fn facts(model: &Value) -> [Value; 4] {
    let of = &model["metadata"];
    [
        &model["id"],
        &of["process_state"],
        &of["memory_state"],
        &of["pid"],
    ]
    .map(Value::clone)
}

fn is_at_rest(model: &Value) -> bool {
    let [_, process, memory, _] = facts(model);
    let moves = ["starting", "stopping", "loading", "unloading"];
    !moves.iter().any(|word| process == *word || memory == *word)
        && model["metadata"]["active_requests"] == 0
}

fn agree(models: &[Value], groups: &[Group]) -> Result<(), String> {
    for model in models {
        let [name, process, memory, pid] = facts(model);
        let mut of_model = groups.iter().filter(|group| name == group.model.as_str());
        let (found, second) = (of_model.next(), of_model.next());
        let leader = found.map(|group| u64::from(group.leader));
        let is_running = process == "running";
        let is_right = pid.as_u64() == leader
            && second.is_none()
            && (is_running || leader.is_none())
            && (leader.is_some() || memory != "loaded");
        if !is_right {
            return Err(format!(
                "{name}: {process}, {memory}, pid {pid}; there is {found:?} {second:?}"
            ));
        }
    }
    Ok(())
}
