//! The Lua host: loads the policy files, shows them read-only views, and returns their verdicts.
//!
//! [`Policies`] is the only handle: the gateway asks it `on_request`, the supervisor all other hooks. It
//! never acts. What hooks see of the hub comes through [`World`], which the lifecycle implements.
//!
//! Hooks run one at a time, in one Lua state. The bundled ones take microseconds and run on the caller's
//! thread. A user's `on_request` runs on a thread of its own, his other hooks on one that may be blocked, so
//! that neither requests nor the lifecycle stand still. Observers have a state and a thread.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::StatusCode;
use parking_lot::Mutex;

use self::bindings::verdicts::Verdict;
use self::bundled::Script;
use self::hook_thread::HookThread;
use self::journal::ruling::Question;
use self::journal::witness::Witness;
use self::observers::{Observe, Observed, Queue};
use self::set::{HookAnswer, PolicySet};
use self::sources::Sources;
use crate::api::ApiError;

mod bindings;
mod bundled;
mod check;
mod failures;
mod hook_thread;
mod host;
mod interface;
mod journal;
mod judge;
mod observers;
mod replay;
mod set;
mod sources;
mod watch;

pub use crate::core::interface::event::{Details, Event, EventName, FinishedRequest, ModelEvent};
pub use crate::core::interface::local_time::LocalTime;
pub use crate::core::interface::plain::Plain;
pub use crate::core::interface::questions::{
    Credential, Exit, ExitVerdict, IdleVerdict, LoadReason, LoadVerdict, Parked, PendingLoad,
    RequestVerdict, RequestView, Route, Trouble, TroubleKind, TroubleVerdict, Wait,
};
pub use crate::core::interface::world::{GroupView, KeepAlive, ModelView, World};
pub(crate) use bindings::inspect::Inspect;
pub(crate) use bindings::verdicts::Fields;
pub(crate) use bindings::views::request::prompt_chars;
pub use check::{Checked, Excerpt, Problem, check};
pub(crate) use host::sandbox_with_state;
pub use interface::declared::DeclaredModel;
pub use interface::unstarted::Unstarted;
pub(crate) use journal::eviction::{Eviction, EvictionReason};
pub(crate) use judge::apart;
pub use replay::{Difference, Replayed, Said, Tally, replay};
pub use watch::Watch;

/// The loaded policies. Cheap to clone.
#[derive(Clone)]
pub struct Policies {
    shared: Arc<Shared>,
}

struct Shared {
    world: Arc<dyn World>,
    set: ArcSwap<PolicySet>,
    /// The reason why the last reload kept the old policies.
    refused: Mutex<Vec<String>>,
    /// What the policies were made of when somebody was last told what has changed.
    told: Mutex<Sources>,
    observed: Observed,
    events: Arc<Queue>,
    /// The thread that decides requests while a policy may take long.
    hook_thread: Arc<HookThread>,
    /// Held by a reload: of two, the later one counts.
    reloading: Mutex<()>,
    /// Held while observers run, so that a reload loses none of their writes to `hub.state`.
    observing: Mutex<()>,
    witness: Arc<Witness>,
}

impl Observe for Shared {
    fn observe(&self, event: &Event) {
        let _observing = self.observing.lock();
        self.set.load_full().observe(event);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.events.close();
        self.hook_thread.close();
    }
}

impl Policies {
    /// Loads the user's `*.lua` of `folder` in name order, then the bundled ones named in `bundled`,
    /// then `create_hub.lua`. A file that does not load is left out, logged, and named in
    /// [`Policies::warnings`] with file and line.
    pub fn load(folder: &Path, bundled: &[String], world: Arc<dyn World>) -> Self {
        Self::load_with(bundled::SCRIPTS, folder, None, bundled, world)
    }

    /// As [`Policies::load`], with these files of `folder` and no others of it.
    pub(crate) fn load_only(
        folder: &Path,
        files: &[String],
        bundled: &[String],
        world: Arc<dyn World>,
    ) -> Self {
        Self::load_with(bundled::SCRIPTS, folder, Some(files), bundled, world)
    }

    fn load_with(
        scripts: &[Script],
        folder: &Path,
        files: Option<&[String]>,
        bundled: &[String],
        world: Arc<dyn World>,
    ) -> Self {
        let witness = Arc::new(Witness::new(Arc::clone(&world)));
        let set = PolicySet::load(
            folder,
            files,
            scripts,
            bundled,
            Arc::clone(&world),
            &Plain::default(),
        );
        let set = set.witnessed_by(&witness);
        let told = set.sources().clone();
        let shared = Shared {
            world,
            observed: Observed::default(),
            events: Arc::default(),
            hook_thread: Arc::default(),
            reloading: Mutex::default(),
            observing: Mutex::default(),
            witness,
            set: ArcSwap::from_pointee(set),
            refused: Mutex::default(),
            told: Mutex::new(told),
        };
        shared.observed.set(shared.set.load().observed());
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Loads all files again, in a new Lua state that keeps `hub.state`. The new policies replace the old ones only if every
    /// file loads; otherwise the old ones stay, [`Policies::warnings`] says why, and this returns false.
    pub fn reload(&self, folder: &Path, bundled: &[String]) -> bool {
        self.reload_with(folder, None, bundled)
    }

    /// [`Policies::reload`] for policies that [`Policies::load_only`] loaded, with these files.
    pub(crate) fn reload_with(
        &self,
        folder: &Path,
        files: Option<&[String]>,
        bundled: &[String],
    ) -> bool {
        let _reloading = self.shared.reloading.lock();
        let world = Arc::clone(&self.shared.world);
        let old = self.shared.set.load_full();
        let state = old.state();
        let set = PolicySet::load(folder, files, bundled::SCRIPTS, bundled, world, &state);
        *self.shared.refused.lock() = set.broken().to_vec();
        if set.broken().is_empty() {
            let _observing = self.shared.observing.lock();
            set.restore(&old.state());
            self.shared.observed.set(set.observed());
            self.shared.events.forgive();
            let set = set.witnessed_by(&self.shared.witness);
            self.shared.set.store(Arc::new(set));
            return true;
        }
        false
    }

    /// The files and bundled policies that changed since the last call, or since the first load, whoever had them
    /// loaded; and a line for each file that does not load.
    pub fn changes(&self) -> (Vec<String>, Vec<String>) {
        let set = self.shared.set.load();
        let before = std::mem::replace(&mut *self.shared.told.lock(), set.sources().clone());
        (
            before.changes(set.sources()),
            self.shared.refused.lock().clone(),
        )
    }

    /// Replaces `hub.state` by that of the hub before.
    pub fn inherit_state(&self, state: &Plain) {
        let _observing = self.shared.observing.lock();
        self.shared.set.load_full().restore(state);
    }

    /// Asks `on_request`; gives the view back with the verdict. Waits for the Lua state, which other
    /// calls hold at most for their time limit.
    pub fn on_request(&self, view: Box<RequestView>) -> (Box<RequestView>, RequestVerdict) {
        self.on_request_then(view, |_, verdict| verdict)
    }

    /// Asks `on_request` and acts on the verdict: `then` runs before a policy is asked about any other
    /// request, so that the next one sees `active` and `waiting` with this one counted. It must not wait,
    /// and must not ask the policies.
    pub fn on_request_then<T>(
        &self,
        view: Box<RequestView>,
        then: impl FnOnce(&RequestView, RequestVerdict) -> T,
    ) -> (Box<RequestView>, T) {
        let then = |view: &RequestView, answer| then(view, request_verdict(answer));
        self.shared.set.load().on_request(view, then)
    }

    /// [`Policies::on_request_then`] on this thread, for hooks that take microseconds.
    ///
    /// # Errors
    /// The view, when the user has hooks of his own: those are asked [`Policies::on_hook_thread`].
    pub fn on_request_at_once<T>(
        &self,
        view: Box<RequestView>,
        then: impl FnOnce(&RequestView, RequestVerdict) -> T,
    ) -> Result<(Box<RequestView>, T), Box<RequestView>> {
        let set = self.shared.set.load();
        if !set.is_quick() {
            return Err(view);
        }
        Ok(set.on_request(view, |view, answer| then(view, request_verdict(answer))))
    }

    /// Runs `task` on the thread of the hooks, after earlier tasks, for callers that must not wait for the Lua
    /// state. Dropped before its turn, it never runs; dropped later, its result is dropped.
    ///
    /// # Errors
    /// 500 for a fault of the hub's own, which its log names.
    pub async fn on_hook_thread<T: Send + 'static>(
        &self,
        task: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let policies = self.clone();
        let done = self.shared.hook_thread.run(move || task(&policies)).await;
        done.ok_or_else(failure)
    }

    /// True while hooks take microseconds, as the user has none of his own.
    pub fn are_quick(&self) -> bool {
        self.shared.set.load().is_quick()
    }

    /// Asks `on_load` about a model that needs memory.
    pub fn on_load(&self, model: &str, pending: PendingLoad) -> LoadVerdict {
        load_verdict(self.shared.set.load().rule(&Question::Load(model, pending)))
    }

    /// The verdict of `on_load`, if it was asked now. Nothing is loaded, counted or recorded, and the policies'
    /// log lines are dropped.
    pub fn would_load(&self, model: &str, pending: PendingLoad) -> LoadVerdict {
        let asked = Question::Load(model, pending);
        load_verdict(self.shared.set.load().supposed(&asked))
    }

    /// Asks `on_idle` about a loaded model without requests. A policy that fails closed keeps it.
    pub fn on_idle(&self, model: &str) -> IdleVerdict {
        match self.shared.set.load().rule(&Question::Idle(model)) {
            HookAnswer::Verdict(Verdict::Unload) => IdleVerdict::Unload,
            HookAnswer::Verdict(Verdict::Stop) => IdleVerdict::Stop,
            HookAnswer::Verdict(Verdict::Keep(seconds)) => IdleVerdict::Keep(seconds),
            _ => IdleVerdict::Keep(0.0),
        }
    }

    /// Asks `on_exit` about a model whose worker ended unasked.
    pub fn on_exit(&self, model: &str, exit: Exit) -> ExitVerdict {
        match self.shared.set.load().rule(&Question::Exit(model, exit)) {
            HookAnswer::Verdict(Verdict::Restart(seconds)) => ExitVerdict::Restart(seconds),
            _ => ExitVerdict::Leave,
        }
    }

    /// Asks `on_trouble` about a model whose worker runs and does not serve.
    pub fn on_trouble(&self, model: &str, trouble: Trouble) -> TroubleVerdict {
        let ruling = self
            .shared
            .set
            .load()
            .ruling(&Question::Trouble(model, trouble));
        match ruling.answer {
            HookAnswer::Verdict(Verdict::Restart(seconds)) => TroubleVerdict::Restart {
                seconds,
                reason: ruling.reason.as_deref().map(str::to_owned),
            },
            HookAnswer::Verdict(Verdict::Leave) => TroubleVerdict::Leave,
            HookAnswer::Verdict(Verdict::Keep(seconds)) => TroubleVerdict::Keep(seconds),
            _ => TroubleVerdict::Keep(0.0),
        }
    }

    /// True if a policy observes events of that name, or a recording any: without one, no event need be made.
    pub fn observes(&self, name: EventName) -> bool {
        self.shared.observed.contains(name) || self.shared.witness.recorder.is_on()
    }

    /// Tells the observers, in the order of the calls, on a thread of their own. Never waits: when
    /// they are too slow, the oldest events are dropped, and [`Policies::warnings`] says how many.
    pub fn observe(&self, event: Event) {
        self.shared.witness.hear(&event);
        if self.shared.observed.contains(event.name) {
            self.shared.events.push(event, &self.shared);
        }
    }

    /// Tells the observers and waits for them: for a hub that has nothing else to do, like the simulated one of
    /// a test.
    pub fn observe_now(&self, event: &Event) {
        self.shared.observe(event);
    }

    /// A copy of what `hub.state` holds.
    pub(crate) fn state(&self) -> Plain {
        self.shared.set.load().state()
    }

    /// The files in force, in the order they are asked: `alpha.lua`, `bundled/create_hub.lua`.
    pub fn names(&self) -> Vec<String> {
        self.shared.set.load().names()
    }

    /// The names that policies answer for, by policy in the order they are asked, each once.
    pub fn declared(&self) -> Vec<DeclaredModel> {
        let mut declared: Vec<DeclaredModel> = Vec::new();
        for one in self.shared.set.load().declared() {
            if !declared.iter().any(|other| other.name == one.name) {
                declared.push(one.clone());
            }
        }
        declared
    }

    /// The one that answers for `name`, by that or by a pattern.
    pub(crate) fn declared_for(&self, name: &str) -> Option<DeclaredModel> {
        let set = self.shared.set.load();
        let declared: Vec<&DeclaredModel> = set.declared().collect();
        DeclaredModel::for_name(declared.into_iter(), name).cloned()
    }

    /// The whole names alone: those that a client may have meant.
    pub(crate) fn declared_names(&self) -> Vec<String> {
        let declared = self.declared().into_iter();
        let whole = declared.filter(|declared| !declared.is_pattern());
        whole.map(|declared| declared.name).collect()
    }

    /// Memory of the Lua states, in bytes; at most 64 MiB for the hooks, and as much for the observers.
    pub fn memory_bytes(&self) -> usize {
        self.shared.set.load().memory_bytes()
    }

    /// Warnings for the user, one sentence each: files that do not load, hooks that fail or take long.
    pub fn warnings(&self) -> Vec<String> {
        let set = self.shared.set.load();
        let refused = self.shared.refused.lock().clone();
        let refused = refused
            .iter()
            .map(|problem| format!("The policies were not reloaded, the old ones stay. {problem}"));
        let mut warnings = set.faults();
        warnings.extend(set.slow());
        warnings.extend(refused);
        warnings.extend(self.shared.events.warning());
        warnings
    }

    /// Those among them that no faster machine would do away with.
    pub fn faults(&self) -> Vec<String> {
        self.shared.set.load().faults()
    }
}

/// The policies that come with the program: name and source, by name.
pub fn bundled_policies() -> impl Iterator<Item = (&'static str, &'static str)> {
    bundled::SCRIPTS.iter().copied()
}

/// The names Lua sees, by the class that `scripts/types/hub.lua` gives them: views, `hub`, its log,
/// the fields of verdicts and the keys of a policy. For the test that compares the two.
pub fn bound_names() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut names = bindings::views::names_by_view();
    let verdicts = bindings::verdicts::FIELDS.map(|(class, fields)| (class, fields.to_vec()));
    names.extend(verdicts);
    names.push(("event", crate::core::interface::event::FIELDS.to_vec()));
    names.push(("policy", host::names().collect()));
    names.push(("declaredmodel", DeclaredModel::FIELDS.to_vec()));
    names.push(("time", LocalTime::NAMES.to_vec()));
    names
}

impl fmt::Debug for Policies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Policies").finish_non_exhaustive()
    }
}

fn request_verdict(answer: HookAnswer) -> RequestVerdict {
    match answer {
        HookAnswer::Verdict(Verdict::Route(route)) => RequestVerdict::Route(route),
        HookAnswer::Verdict(Verdict::Reject(error)) => RequestVerdict::Reject(error),
        HookAnswer::Verdict(Verdict::Wait(wait)) => RequestVerdict::Wait(wait),
        HookAnswer::NeedBody => RequestVerdict::NeedBody,
        HookAnswer::Denied(policy) => {
            RequestVerdict::Reject(denial(StatusCode::INTERNAL_SERVER_ERROR, &policy))
        }
        HookAnswer::Abstain | HookAnswer::Verdict(_) => RequestVerdict::Pass,
    }
}

/// The answer after a fault of the hub's own.
fn failure() -> ApiError {
    let text = "The hub failed to decide about this. Its log says why.";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn load_verdict(answer: HookAnswer) -> LoadVerdict {
    match answer {
        HookAnswer::Verdict(Verdict::Evict(names)) => LoadVerdict::Evict(names),
        HookAnswer::Verdict(Verdict::Wait(wait)) => LoadVerdict::Wait(wait.seconds),
        HookAnswer::Verdict(Verdict::Reject(error)) => LoadVerdict::Reject(error),
        HookAnswer::Denied(policy) => {
            LoadVerdict::Reject(denial(StatusCode::SERVICE_UNAVAILABLE, &policy))
        }
        HookAnswer::Abstain | HookAnswer::NeedBody | HookAnswer::Verdict(_) => LoadVerdict::Allow,
    }
}

/// The answer when a policy with `on_error = "deny"` fails.
fn denial(status: StatusCode, policy: &str) -> ApiError {
    ApiError::new(
        status,
        format!(
            "Policy `{policy}` failed, and refuses what it cannot decide. The hub's log says why."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MemoryState, ModelFacts, SystemMemory};
    use crate::config::{Config, from_yaml};

    /// A full group, with `beta` loaded, and `alpha` in it: idle for long, and not started. Its clock takes so
    /// long to read.
    #[derive(Default)]
    struct OverTheCap(std::time::Duration);

    impl World for OverTheCap {
        fn config(&self) -> Arc<Config> {
            Arc::new(from_yaml(
                "groups: [{name: g, max_loaded: 1}]\n\
                 models:\n\
                 - {name: alpha, model_path: org/alpha, group: g, jit_enabled: true, auto_unload_minutes: 1}\n\
                 - {name: beta, model_path: org/beta, group: g}\n",
            ))
        }

        fn model(&self, name: &str) -> Option<ModelView> {
            let config = self.config();
            let mut facts = ModelFacts::configured(config.model(name)?, &config.log_path);
            if name == "beta" {
                facts.memory_state = MemoryState::Loaded;
            }
            Some(ModelView {
                idle_seconds: 3600.0,
                ..ModelView::at_rest(Arc::new(facts))
            })
        }

        fn memory(&self) -> SystemMemory {
            SystemMemory::default()
        }

        fn clock(&self) -> f64 {
            std::thread::sleep(self.0);
            0.0
        }
    }

    fn request() -> Box<RequestView> {
        let (parts, ()) = http::Request::new(()).into_parts();
        Box::new(RequestView {
            parts,
            id: http::HeaderValue::from_static("1"),
            model: Some("alpha".to_owned()),
            client: ([127, 0, 0, 1], 1).into(),
            via: None,
            credential: None,
            protocol: RequestView::OPENAI,
            keep_alive: None,
            body: None,
            parked: Parked::default(),
        })
    }

    /// True for a request, a load, the idle timer, a silent worker and a failing one, if it meets a rule.
    fn decides(scripts: &[Script]) -> [bool; 5] {
        let folder = tempfile::tempdir().unwrap();
        let policies = Policies::load_with(
            scripts,
            folder.path(),
            None,
            &[],
            Arc::new(OverTheCap::default()),
        );
        let (_, request) = policies.on_request(request());
        let pending = PendingLoad {
            reason: LoadReason::Request,
            waiting: 1,
            waited_seconds: 0.0,
        };
        let load = policies.on_load("alpha", pending);
        assert_eq!(policies.warnings(), [""; 0]);
        let dead = Trouble {
            silent_seconds: 3600.0,
            still_seconds: 3600.0,
            stall_timeout: Some(300.0),
            ..Trouble::of(TroubleKind::Silent)
        };
        let failing = Trouble {
            errors: 100,
            recent_errors: 100,
            last_status: Some(500),
            ..Trouble::of(TroubleKind::Errors)
        };
        [
            request != RequestVerdict::Pass,
            load != LoadVerdict::Allow,
            policies.on_idle("alpha") != IdleVerdict::Keep(0.0),
            policies.on_trouble("alpha", dead) != TroubleVerdict::Keep(0.0),
            policies.on_trouble("alpha", failing) != TroubleVerdict::Keep(0.0),
        ]
    }

    #[test]
    fn without_the_bundled_default_nothing_is_capped_unloaded_refused_or_replaced() {
        assert_eq!(decides(&[]), [false; 5]);
        assert_eq!(decides(bundled::SCRIPTS), [true; 5]);
    }

    #[test]
    fn time_is_limited_where_there_is_a_file_of_the_users() {
        let slow = "return { on_request = function(_, hub)
          for _ = 1, 1000 do string.format('') end
          hub.clock()
          for _ = 1, 1000 do string.format('') end
        end }";
        let folder = tempfile::tempdir().unwrap();
        for (file, failures) in [(false, [0, 0]), (true, [1, 1])] {
            if file {
                std::fs::write(folder.path().join("mine.lua"), slow).unwrap();
            }
            let world = OverTheCap(interface::hook::Hook::Request.allowed() * 2);
            let scripts = [(bundled::DEFAULT, slow)];
            let policies = Policies::load_with(&scripts, folder.path(), None, &[], Arc::new(world));
            let (_, _) = policies.on_request(request());
            let facts = policies.shared.set.load().facts();
            let failed: Vec<_> = facts.iter().map(|policy| policy.failures).collect();
            assert_eq!(failed, failures[..1 + usize::from(file)]);
        }
    }
}
