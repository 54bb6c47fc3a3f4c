//! Spare processes: interpreters of worker programs that have imported what the program imports, before a model is
//! to be loaded. Most of a small model's load is that.
//!
//! A [`Spares`] is shared by the launches, which take from it, and by the supervisor's keeper, which has it filled
//! while nothing is loaded. A spare is the hub's own until it is handed a command line: from then on it is a worker.
//! Whatever is unlike what was expected makes the launch start its program itself. It knows no models by name and no
//! policies.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::dialect::Program;
use super::mark::{Owner, spare_id};
use crate::config::ModelConfig;
use crate::files;
use crate::telemetry;

mod interpreter;
mod lessons;
mod process;

use interpreter::Interpreter;
use lessons::{Lessons, Modules};
use process::HURRY;
pub(super) use process::{Begun, HandOver, NotTaken, Spare, SpareFault, Teacher};

/// A load waits for a spare of its kind that imports, once it has done so for this part of the time that the last one
/// took: then it is there sooner than a program that begins to import.
const PART: u32 = 3;
/// One that has imported so many times as long as the last one hangs.
const TIMES: u32 = 2;
/// Interval at which it is looked whether one that is awaited is there.
const POLL: Duration = Duration::from_millis(10);
/// A model whose loads went well so often without a spare, after one had failed with it, uses none any more.
const TRIES: u32 = 3;

/// The processes that may stand in for one another: the same program in the same environment. The type of model only
/// says what they import.
#[derive(Debug, Clone)]
pub(super) struct SpareKind {
    pub(super) program: Program,
    pub(super) env: BTreeMap<String, String>,
    model_type: &'static str,
    /// The engine that wants none.
    refusing: Option<String>,
}

impl PartialEq for SpareKind {
    fn eq(&self, other: &Self) -> bool {
        (&self.program, &self.env, &self.refusing) == (&other.program, &other.env, &other.refusing)
    }
}

impl SpareKind {
    /// That of a model whose processes have these variables besides those of every worker.
    fn of(model: &ModelConfig, env: &BTreeMap<String, String>) -> Option<Self> {
        if model.spans_machines() {
            // Another program starts its processes.
            return None;
        }
        Some(Self {
            program: Program::of_model(model).ok()?,
            env: env.clone(),
            model_type: model.model_type.as_str(),
            refusing: (!model.engine.spares).then(|| model.engine.name.clone()),
        })
    }

    /// What runs the program.
    ///
    /// # Errors
    /// The reason why it can have no spares: a sentence about the program without its name.
    fn interpreter(&self) -> Result<Interpreter, String> {
        if let Some(engine) = &self.refusing {
            return Err(format!("its engine `{engine}` has `spares = false`"));
        }
        Interpreter::of(self.program.path(), &self.env)
    }
}

/// The reason why loads of a model cannot use spares; `None` if they can.
pub fn obstacle(model: &ModelConfig) -> Option<String> {
    if model.spans_machines() {
        let name = &model.name;
        return Some(format!(
            "model `{name}` spans several machines, and another program starts its processes"
        ));
    }
    let kind = SpareKind::of(model, &model.env)?;
    let program = kind.program.path().display();
    let why = kind.interpreter().err()?;
    Some(format!("`{program}`: {why}"))
}

/// A spare as the status shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The process that leads its group.
    pub pid: u32,
    /// True if it has imported everything.
    pub is_ready: bool,
    /// Bytes that its processes hold, as last measured.
    pub bytes: Option<u64>,
}

/// The spares of one hub.
#[derive(Debug, Clone, Default)]
pub struct Spares(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lessons: Mutex<Lessons>,
    state: Mutex<State>,
    /// A load has ended, or hub.yaml has changed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The most there may be; zero while none is wanted.
    wanted: usize,
    held: Vec<Held>,
    /// By model, the variables of its last launch: those of hub.yaml and what its engine returned.
    env: HashMap<String, BTreeMap<String, String>>,
    /// The kinds that were loaded, the last one first.
    recent: Vec<SpareKind>,
    /// When the last load ended.
    load_ended: Option<Instant>,
    /// Number of loads that have begun.
    loads: u64,
    /// How long the last one of a program imported.
    took: HashMap<String, Duration>,
    /// By model, what speaks against loads with spares.
    failed: HashMap<String, Failed>,
    /// Programs of which the log has said that they can have none.
    told: Vec<PathBuf>,
}

#[derive(Debug, Default)]
struct Failed {
    /// The last load failed with a spare: the next one, by itself, shows whose fault it was.
    is_doubtful: bool,
    /// How often in a row one failed with a spare and went well without.
    times: u32,
}

#[derive(Debug)]
struct Held {
    pid: u32,
    kind: SpareKind,
    began: Instant,
    /// `None` while it imports.
    ready: Option<Spare>,
    bytes: Option<u64>,
}

/// The way in which a launch starts its program.
pub(super) enum Start {
    /// By handing a command line to this one.
    With(Box<Spare>),
    /// By itself.
    Alone,
}

impl Spares {
    /// None yet, with what an earlier hub kept in its log folder.
    pub fn recall(log_path: &Path) -> Self {
        Self(Arc::new(Shared {
            lessons: Mutex::new(Lessons::recall(log_path)),
            ..Shared::default()
        }))
    }

    /// Has so many be kept from now on; those that are too many end.
    pub fn want(&self, count: usize) {
        let mut state = self.0.state.lock();
        state.wanted = count;
        while state.held.len() > count {
            let Some(held) = state.held.pop() else { break };
            held.end();
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// Takes the one that fits a model with these variables, or starts one that learns what the program imports if
    /// that is not known.
    pub(super) fn take(
        &self,
        model: &ModelConfig,
        env: &BTreeMap<String, String>,
        owner: &Owner,
        folder: &Path,
    ) -> Start {
        let mut state = self.0.state.lock();
        state.env.insert(model.name.clone(), env.clone());
        let Some(kind) = state.kind_of(model) else {
            return Start::Alone;
        };
        if !state.may_use(model) {
            return Start::Alone;
        }
        let fitting = |held: &Held| held.kind == kind && held.ready.is_some();
        while let Some(at) = state.held.iter().position(fitting) {
            let held = state.held.swap_remove(at);
            let Some(mut spare) = held.ready else {
                continue;
            };
            if spare.is_alive() {
                return Start::With(Box::new(spare));
            }
            spare.end();
        }
        drop(state);
        let known = self.0.lessons.lock();
        if known.of(&kind.program.key(), kind.model_type).is_some() {
            return Start::Alone;
        }
        drop(known);
        let Ok(interpreter) = kind.interpreter() else {
            return Start::Alone;
        };
        let pupil =
            Spare::start(&kind, &interpreter, owner, spare_id(), folder).and_then(|mut spare| {
                match spare.learn() {
                    Ok(()) => Ok(spare),
                    Err(error) => {
                        spare.end();
                        Err(error.to_string())
                    }
                }
            });
        match pupil {
            Ok(spare) => Start::With(Box::new(spare)),
            Err(error) => {
                tracing::info!(hub_model = %model.name, error, "what its program imports is not learned");
                Start::Alone
            }
        }
    }

    /// Completes when a spare that the model's launch takes is ready: at once, unless one of its kind imports that is
    /// worth the wait.
    pub(super) async fn soon(&self, model: &ModelConfig) {
        let Some((pid, limit)) = self.awaited(model) else {
            return;
        };
        let imports = || {
            let state = self.0.state.lock();
            let mut held = state.held.iter();
            held.any(|held| held.pid == pid && held.ready.is_none())
        };
        let ready = async {
            while imports() {
                sleep(POLL).await;
            }
        };
        if timeout(limit, ready).await.is_err() {
            let mut state = self.0.state.lock();
            let gone = state.held.extract_if(.., |held| held.pid == pid);
            gone.for_each(|held| held.end());
        }
    }

    /// The spare that a launch of the model waits for, and for how long; it imports as fast as it can from now on.
    fn awaited(&self, model: &ModelConfig) -> Option<(u32, Duration)> {
        let state = self.0.state.lock();
        let kind = state.kind_of(model).filter(|_| state.may_use(model))?;
        let mut own = state.held.iter().filter(|held| held.kind == kind);
        if own.clone().any(|held| held.ready.is_some()) {
            return None;
        }
        let (held, limit) = own.find_map(|held| Some((held, state.worth(held)?)))?;
        held.signal(HURRY);
        tracing::debug!(hub_model = %model.name, pid = held.pid, "its launch waits for a spare process that imports");
        Some((held.pid, limit))
    }

    /// Notes what a worker tells of its imports, when it is time; never completes if it has nothing to tell.
    pub(super) async fn learn(&self, teacher: Option<&mut Teacher>) {
        let Some(teacher) = teacher else {
            return std::future::pending().await;
        };
        let Some(modules) = teacher.tell().await else {
            return;
        };
        let kind = &teacher.kind;
        let (server, model) = (modules.server.len(), modules.model.as_ref().map(Vec::len));
        tracing::debug!(server, model, "what the worker program imports is known");
        let mut lessons = self.0.lessons.lock();
        lessons.note(kind.program.key(), kind.model_type, modules);
        drop(lessons);
        self.0.changed.notify_one();
    }

    /// The code of the program has changed: the next load learns anew what it imports.
    pub(super) fn forget(&self, kind: &SpareKind) {
        self.0.lessons.lock().forget(&kind.program.key());
    }

    /// A load begins that needs so many bytes of those available: spares that import stop doing so, and those that
    /// it leaves no room for end, except for one of its own, which may still import if that is worth the wait.
    pub fn load_begins(&self, model: &ModelConfig, needed: Option<u64>, available: Option<u64>) {
        let mut state = self.0.state.lock();
        state.loads += 1;
        if state.held.is_empty() {
            return;
        }
        let is_short = needed
            .zip(available)
            .is_some_and(|(needed, available)| needed > available);
        let kind = state.kind_of(model);
        let is_own = |held: &&Held| Some(&held.kind) == kind.as_ref();
        let ready = state.held.iter().filter(is_own);
        let mut ready = ready.filter(|held| held.ready.is_some());
        let mut worth = state.held.iter().filter(is_own);
        let own = ready
            .next()
            .or_else(|| worth.find(|held| state.worth(held).is_some()));
        let own = own.map(|held| held.pid);
        state.held.retain(|held| {
            let stays = own == Some(held.pid) || (held.ready.is_some() && !is_short);
            if !stays {
                held.end();
            }
            stays
        });
    }

    /// A load of that model has ended, well or not.
    pub fn load_ended(&self, model: &ModelConfig) {
        let mut state = self.0.state.lock();
        let Some(kind) = state.kind_of(model) else {
            return;
        };
        state.recent.retain(|other| *other != kind);
        state.recent.insert(0, kind);
        state.load_ended = Some(Instant::now());
        drop(state);
        self.0.changed.notify_one();
    }

    /// A load failed with a spare, perhaps because of it: the model's next one is without.
    pub(super) fn note_failed(&self, model: &str) {
        let mut state = self.0.state.lock();
        let failed = state.failed.entry(model.to_owned()).or_default();
        failed.is_doubtful = true;
    }

    /// A load went well, `with` a spare or without. Tells if the model's loads use none from now on.
    pub(super) fn note_well(&self, model: &str, with: bool) -> bool {
        let mut state = self.0.state.lock();
        if with {
            state.failed.remove(model);
            return false;
        }
        let failed = state.failed.get_mut(model);
        let Some(failed) = failed.filter(|failed| failed.is_doubtful) else {
            return false;
        };
        failed.is_doubtful = false;
        failed.times += 1;
        failed.times == TRIES
    }

    /// Ends all of them.
    pub fn end(&self, why: &str) {
        let held = std::mem::take(&mut self.0.state.lock().held);
        if !held.is_empty() {
            tracing::info!(spares = held.len(), "spare processes end: {why}");
        }
        for held in held {
            held.end();
        }
        self.0.changed.notify_one();
    }

    /// Ends all of them, and keeps none any more.
    pub fn close(&self) {
        self.want(0);
    }

    /// Those there are.
    pub fn seen(&self) -> Vec<Seen> {
        let state = self.0.state.lock();
        let seen = |held: &Held| Seen {
            pid: held.pid,
            is_ready: held.ready.is_some(),
            bytes: held.bytes,
        };
        state.held.iter().map(seen).collect()
    }

    /// Bytes that all of them hold, as last measured.
    pub fn bytes(&self) -> u64 {
        let state = self.0.state.lock();
        state.held.iter().filter_map(|held| held.bytes).sum()
    }

    /// Notes what one holds now; one that has ended is forgotten.
    pub fn measured(&self, pid: u32, bytes: Option<u64>) {
        let mut state = self.0.state.lock();
        let is_gone = |held: &mut Held| held.ready.as_mut().is_some_and(|spare| !spare.is_alive());
        state.held.retain_mut(|held| {
            if held.pid == pid {
                held.bytes = bytes.or(held.bytes);
            }
            !is_gone(held)
        });
    }

    /// One may be missing: a launch that has ended others is over, well or not.
    pub fn look_again(&self) {
        self.0.changed.notify_one();
    }

    /// Completes when one may be missing.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Number of loads that have begun, and the time since the last one ended.
    pub fn loads(&self) -> (u64, Option<Duration>) {
        let state = self.0.state.lock();
        (state.loads, state.load_ended.map(|at| at.elapsed()))
    }

    /// Makes those that are missing, one after the other; completes when they are there, when one cannot be made, or
    /// when there have been other than so many `loads`.
    pub async fn fill(&self, loads: u64, owner: &Owner, folder: &Path) {
        while let Some((kind, interpreter)) = self.missing() {
            let program = kind.program.key();
            let modules = self.0.lessons.lock().of(&program, kind.model_type).cloned();
            // Without them its next load is one that teaches.
            let Some(modules) = modules else { return };
            let making = self.make(loads, &kind, &interpreter, &modules, owner, folder);
            match making.await {
                Ok(true) => {}
                Ok(false) => return,
                Err(reason) => return tracing::warn!("no spare process: {reason}"),
            }
        }
    }

    /// Makes one; false if a load began meanwhile or it is not wanted any more.
    async fn make(
        &self,
        loads: u64,
        kind: &SpareKind,
        interpreter: &Interpreter,
        modules: &Modules,
        owner: &Owner,
        folder: &Path,
    ) -> Result<bool, String> {
        files::create_private_folder(folder)
            .map_err(|error| format!("`{}` cannot be written: {error}", folder.display()))?;
        let mut spare = Spare::start(kind, interpreter, owner, spare_id(), folder)?;
        let pid = spare.pid;
        {
            let mut state = self.0.state.lock();
            if state.loads != loads || state.held.len() >= state.wanted {
                spare.end();
                return Ok(false);
            }
            state.held.push(Held {
                pid,
                kind: kind.clone(),
                began: Instant::now(),
                ready: None,
                bytes: None,
            });
        }
        let imported = spare.import(modules).await;
        let failed = {
            let mut state = self.0.state.lock();
            let at = state.held.iter().position(|held| held.pid == pid);
            match (imported, at) {
                (Ok(()), Some(at)) => {
                    let took = state.held[at].began.elapsed();
                    tracing::info!(
                        pid,
                        seconds = telemetry::seconds(took.as_secs_f64()),
                        "a spare process is ready"
                    );
                    state.took.insert(kind.program.key(), took);
                    state.held[at].ready = Some(spare);
                    return Ok(true);
                }
                // It was ended meanwhile.
                (_, None) => None,
                (Err(reason), Some(at)) => {
                    state.held.swap_remove(at);
                    Some(reason)
                }
            }
        };
        spare.end();
        match failed {
            Some(reason) => Err(spare.reason(reason).await),
            None => Ok(false),
        }
    }

    /// The kind of which one more is to be made; spares of kinds that are not wanted any more end. The kinds that
    /// were loaded last get one each, and what is left goes round again.
    fn missing(&self) -> Option<(SpareKind, Interpreter)> {
        let mut state = self.0.state.lock();
        let able = state.able();
        let wanted = if able.is_empty() { 0 } else { state.wanted };
        let mut missing: Vec<_> = able.iter().cycle().take(wanted).collect();
        state.held.retain(|held| {
            let at = missing.iter().position(|(kind, _)| *kind == held.kind);
            match at {
                Some(at) => drop(missing.remove(at)),
                None => held.end(),
            }
            at.is_some()
        });
        missing.first().map(|&missing| missing.clone())
    }
}

impl State {
    /// That of a model as it was launched last; one that an earlier hub launched has what hub.yaml sets.
    fn kind_of(&self, model: &ModelConfig) -> Option<SpareKind> {
        SpareKind::of(model, self.env.get(&model.name).unwrap_or(&model.env))
    }

    /// True unless there are to be none, or loads of the model failed with some.
    fn may_use(&self, model: &ModelConfig) -> bool {
        let failed = self.failed.get(&model.name);
        let is_able = failed.is_none_or(|failed| !failed.is_doubtful && failed.times < TRIES);
        self.wanted > 0 && is_able
    }

    /// How long one that imports is worth waiting for; `None` if it is not.
    fn worth(&self, held: &Held) -> Option<Duration> {
        let took = *self.took.get(&held.kind.program.key())?;
        let elapsed = held.began.elapsed();
        let is_worth = held.ready.is_none() && elapsed >= took / PART;
        let limit = (took * TIMES).checked_sub(elapsed)?;
        is_worth.then_some(limit)
    }

    /// The kinds that were loaded and that can have spares, the last one first.
    fn able(&mut self) -> Vec<(SpareKind, Interpreter)> {
        let mut able = Vec::new();
        for kind in &self.recent {
            match kind.interpreter() {
                Ok(interpreter) => able.push((kind.clone(), interpreter)),
                Err(why) => {
                    let path = kind.program.path().to_owned();
                    if !self.told.contains(&path) {
                        tracing::info!("no spare processes: `{}`: {why}", path.display());
                        self.told.push(path);
                    }
                }
            }
        }
        able
    }
}

impl Held {
    fn end(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Sends both its processes that.
    fn signal(&self, what: Signal) {
        if let Some(group) = super::group::Group::led_by(self.pid) {
            group.signal(what);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
