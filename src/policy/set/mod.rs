//! The policies in force: the files in their order, and the search for the first verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use mlua::{Function, Lua, Table, Value};
use prometheus::proto::MetricFamily;

use super::Plain;
use super::bindings::verdicts::{Made, Verdict};
use super::bindings::views::handle::Handle;
use super::bindings::views::json;
use super::bundled::{self, Script};
use super::host::{Hearing, Host, Policy};
use super::interface::declared::DeclaredModel;
use super::interface::hook::Hook;
use super::journal::ruling::{Question, Ruling};
use super::journal::witness::Witness;
use super::sources::Sources;
use super::{Event, EventName, RequestView, World};
use crate::api::{Origin, PolicyFacts, shown};
use crate::files;
use crate::sandbox::errors::{at_place, describe};
use crate::sandbox::flood::{Flood, loggable};
use crate::sandbox::limits;
use crate::sandbox::limits::Interrupt;
use crate::sandbox::wording::{did_you_mean, kind};

mod each;
mod seat;

pub(super) use each::RecordedBody;
use seat::Seat;

/// One generation of policies; a reload makes another.
pub(super) struct PolicySet {
    /// The Lua state of the hooks.
    host: Seat,
    /// The Lua state of the observers: no hook waits for them.
    hearing: Option<Seat>,
    /// True if all hooks are bundled ones.
    is_quick: bool,
    policies: Vec<Policy>,
    broken: Vec<String>,
    unknown: Vec<String>,
    sources: Sources,
    witness: Option<Arc<Witness>>,
}

/// The joint answer of the policies.
#[derive(Debug)]
pub(super) enum HookAnswer {
    /// Nothing.
    Abstain,
    /// The first verdict.
    Verdict(Verdict),
    /// The policy of that name failed, and fails closed.
    Denied(String),
    /// A policy needs the body.
    NeedBody,
}

impl PolicySet {
    /// Loads the user's files of `folder`, all of them or those named in `only`, then the bundled ones
    /// that are `wanted` or the default. `hub.state` begins as `state`.
    pub(super) fn load(
        folder: &Path,
        only: Option<&[String]>,
        scripts: &[Script],
        wanted: &[String],
        world: Arc<dyn World>,
        state: &Plain,
    ) -> Self {
        let flood = Arc::<Flood>::default();
        let make_host = || {
            let host = Host::new(folder, Arc::clone(&world), Arc::clone(&flood))
                .expect("the sandbox is a constant that fits into the memory limit");
            host.restore(state);
            host
        };
        let host = make_host();
        let mut hearing = None;
        let (chosen, unknown) = bundled::choose(scripts, wanted);
        let mut broken = Vec::new();
        let mut files = user_files(folder).unwrap_or_else(|error| {
            broken.push(format!("{}: {error}", folder.display()));
            Vec::new()
        });
        if let Some(only) = only {
            files.retain(|(name, _)| only.contains(name));
            let missing = only
                .iter()
                .filter(|name| !files.iter().any(|(file, _)| file == *name));
            let folder = folder.display();
            broken.extend(missing.map(|name| format!("{name}: no such policy in {folder}")));
        }
        files.extend(chosen.iter().map(|(name, source)| {
            let source = Ok(source.as_bytes().to_vec());
            (format!("{}{name}.lua", bundled::FOLDER), source)
        }));

        let mut policies = Vec::new();
        let mut sources = Sources::default();
        for (name, source) in files {
            let loaded = source
                .map_err(|error| format!("{name}: {error}"))
                .and_then(|source| {
                    sources.note(&name, &source);
                    let loaded = host.load(&name, &source)?;
                    // Again in the other state, for the observers there.
                    let heard = loaded.observes().then(|| {
                        let hearing = hearing.get_or_insert_with(make_host);
                        hearing.load_again(&name, &source)
                    });
                    Ok(Policy::new(name, loaded, heard.transpose()?))
                });
            match loaded {
                Ok(policy) => policies.push(policy),
                Err(problem) => {
                    let problem = loggable(&problem).into_owned();
                    tracing::warn!("policy does not load: {problem}");
                    broken.push(problem);
                }
            }
        }
        // Bundled policies end by themselves.
        let is_quick = !policies
            .iter()
            .any(|policy| is_theirs(policy) && policy.has_hooks());
        if is_quick {
            host.trust();
        }
        sources.extend(host.modules());
        let observes = |policy: &Policy| policy.hearing.is_some();
        if !policies
            .iter()
            .any(|policy| is_theirs(policy) && observes(policy))
            && let Some(hearing) = &hearing
        {
            hearing.trust();
        }
        Self {
            host: Seat::new(host),
            hearing: hearing.map(Seat::new),
            is_quick,
            policies,
            broken,
            unknown,
            sources,
            witness: None,
        }
    }

    /// The files that loaded, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.policies.iter().map(|policy| policy.name.clone());
        names.collect()
    }

    /// The texts of the files and of the modules that they required.
    pub(super) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The files with the report of each.
    pub(super) fn facts(&self) -> Vec<PolicyFacts> {
        self.policies.iter().map(Policy::facts).collect()
    }

    /// The times of the hooks of each.
    pub(super) fn meters(&self) -> impl Iterator<Item = MetricFamily> {
        self.policies
            .iter()
            .flat_map(|policy| policy.counts.collect())
    }

    /// The names that those of them answer for which are not switched off.
    pub(super) fn declared(&self) -> impl Iterator<Item = &DeclaredModel> {
        let policies = self.policies.iter();
        let asked = policies.filter(|policy| !policy.failures.is_off());
        asked.flat_map(|policy| &policy.models)
    }

    /// The same of all of them, each with the file that declares it.
    pub(super) fn declarations(&self) -> impl Iterator<Item = (&str, &DeclaredModel)> {
        let policies = self.policies.iter();
        policies.flat_map(|policy| policy.models.iter().map(|model| (&*policy.name, model)))
    }

    /// The file of that number.
    pub(super) fn name(&self, number: usize) -> &str {
        &self.policies[number].name
    }

    /// A line for each file that did not load.
    pub(super) fn broken(&self) -> &[String] {
        &self.broken
    }

    /// A sentence for each unknown name of a bundled policy.
    pub(super) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// A sentence for each policy that does not load, fails or names what there is not.
    pub(super) fn faults(&self) -> Vec<String> {
        let broken = self
            .broken
            .iter()
            .map(|problem| format!("A policy did not load and is left out. {problem}"));
        let failing = self
            .policies
            .iter()
            .filter_map(|policy| policy.failures.warning(&policy.name));
        self.unknown
            .iter()
            .cloned()
            .chain(broken)
            .chain(failing)
            .collect()
    }

    /// A sentence for each hook that takes long.
    pub(super) fn slow(&self) -> impl Iterator<Item = String> {
        self.policies
            .iter()
            .flat_map(|policy| policy.counts.warnings(&policy.name))
    }

    /// Memory of the Lua states. Waits for no policy.
    pub(super) fn memory_bytes(&self) -> usize {
        let hearing = self.hearing.as_ref();
        self.host.memory_bytes() + hearing.map_or(0, Seat::memory_bytes)
    }

    /// True while hooks take microseconds and can run on any thread, as the user has none of his own.
    pub(super) fn is_quick(&self) -> bool {
        self.is_quick
    }

    /// Asks about a request, and lets `then` act on the answer before another one is asked about;
    /// gives the view back.
    pub(super) fn on_request<T>(
        &self,
        view: Box<RequestView>,
        then: impl FnOnce(&RequestView, HookAnswer) -> T,
    ) -> (Box<RequestView>, T) {
        if !self.has(Hook::Request) {
            let ruling = Ruling::abstain();
            self.tell_witness(&Question::Request(&view), &ruling);
            let done = then(&view, ruling.answer);
            return (view, done);
        }
        let host = self.host.lock();
        let call = host.stage.open_request(view);
        let ruling = self.ask(&host, Hook::Request, Ok(Handle::of_request(call).value()));
        let view = host
            .stage
            .close_request()
            .expect("the request put on stage above is still there");
        self.tell_witness(&Question::Request(&view), &ruling);
        let done = then(&view, ruling.answer);
        (view, done)
    }

    /// Asks about anything but a request.
    pub(super) fn rule(&self, asked: &Question<'_>) -> HookAnswer {
        self.ruling(asked).answer
    }

    /// Asks about anything but a request; returns the answer with its origin.
    pub(super) fn ruling(&self, asked: &Question<'_>) -> Ruling {
        let hook = asked.hook();
        if !self.has(hook) {
            let ruling = Ruling::abstain();
            self.tell_witness(asked, &ruling);
            return ruling;
        }
        let host = self.host.lock();
        let argument = asked.open(&host);
        let ruling = self.ask(&host, hook, argument);
        host.stage.close();
        self.tell_witness(asked, &ruling);
        self.host.note_memory(&host);
        ruling
    }

    /// Lets `witness` see every call from now on.
    pub(super) fn witnessed_by(mut self, witness: &Arc<Witness>) -> Self {
        self.witness = Some(Arc::clone(witness));
        self
    }

    fn tell_witness(&self, asked: &Question<'_>, ruling: &Ruling) {
        if let Some(witness) = &self.witness {
            witness.see(asked, ruling, &self.policies);
        }
    }

    /// The content of `hub.state`.
    pub(super) fn state(&self) -> Plain {
        self.host.lock().content()
    }

    /// Replaces the content of `hub.state`.
    pub(super) fn restore(&self, state: &Plain) {
        for seat in self.hearing.iter().chain([&self.host]) {
            seat.lock().restore(state);
        }
    }

    /// The events that observers of a policy that is not switched off wait for.
    pub(super) fn observed(&self) -> impl Iterator<Item = EventName> {
        let observers = self.policies.iter().flat_map(Policy::observers);
        observers.map(|(name, _)| *name)
    }

    /// Runs the observers of an event, one after the other.
    pub(super) fn observe(&self, event: &Event) {
        let Some(seat) = &self.hearing else { return };
        for (policy, hearing, function) in self.observers_of(event) {
            if policy.failures.is_off() {
                continue;
            }
            let host = seat.lock();
            let told = policy
                .counts
                .observer(|| self.tell(&host, policy, hearing, function, event));
            match told {
                Ok(()) => policy.failures.succeeded(Hook::Observer),
                Err(problem) => failed(&host, policy, Hook::Observer, problem),
            }
            seat.note_memory(&host);
        }
    }

    /// The functions that hear of that event, in their order.
    fn observers_of(&self, event: &Event) -> impl Iterator<Item = (&Policy, &Hearing, &Function)> {
        let name = event.name;
        let policies = self.policies.iter();
        let hearing = policies.filter_map(|policy| Some((policy, policy.hearing.as_ref()?)));
        hearing.flat_map(move |(policy, hearing)| {
            let observers = hearing.observers.iter();
            let observers = observers.filter(move |(observed, _)| *observed == name);
            observers.map(move |(_, function)| (policy, hearing, function))
        })
    }

    /// Runs one observer, and lets the hooks know what it wrote. It gets a table of its own, and what it
    /// returns is ignored.
    fn tell(
        &self,
        host: &Host,
        policy: &Policy,
        hearing: &Hearing,
        function: &Function,
        event: &Event,
    ) -> Result<(), String> {
        host.stage.open();
        host.state.set_writable(true);
        let told = match json(&host.lua, event) {
            Ok(event) => call(
                host,
                Hook::Observer,
                policy,
                (function, &hearing.hub),
                &event,
            ),
            Err(error) => Err(describe(&error, &policy.name)),
        };
        host.state.set_writable(false);
        host.stage.close();
        if let Some(changes) = host.changes(told.is_err()) {
            let hooks = self.host.lock();
            if !hooks.follow(&changes) {
                hooks.restore(&host.content());
            }
        }
        told.map(drop)
    }

    fn has(&self, hook: Hook) -> bool {
        self.policies
            .iter()
            .any(|policy| policy.function(hook).is_some())
    }

    /// The first verdict of the policies in their order.
    fn ask(&self, host: &Host, hook: Hook, argument: mlua::Result<Value>) -> Ruling {
        let mut ruling = Ruling::abstain();
        for (number, policy) in self.policies.iter().enumerate() {
            let Some(function) = policy.function(hook) else {
                continue;
            };
            if policy.failures.is_off() {
                if policy.denies {
                    ruling.deny(number, policy);
                    return ruling;
                }
                continue;
            }
            let verdict = match &argument {
                Ok(argument) => policy.counts.call(hook, || {
                    call(host, hook, policy, (function, &policy.hub), argument)
                }),
                Err(error) => Err(describe(error, &policy.name)),
            };
            if host.stage.limits.interrupted() == Some(Interrupt::NeedBody) {
                ruling.answer = HookAnswer::NeedBody;
                return ruling;
            }
            match verdict {
                Ok(None) => policy.failures.succeeded(hook),
                Ok(Some(made)) => {
                    policy.failures.succeeded(hook);
                    policy.counts.decided();
                    ruling.decide(number, made);
                    return ruling;
                }
                Err(problem) => {
                    ruling.failed.push(problem.clone());
                    failed(host, policy, hook, problem);
                    if policy.denies {
                        ruling.deny(number, policy);
                        return ruling;
                    }
                }
            }
        }
        ruling
    }
}

fn failed(host: &Host, policy: &Policy, hook: Hook, problem: String) {
    let problem = loggable(&problem).into_owned();
    if host.stage.flood.admits() {
        tracing::warn!(policy = policy.name, hook = hook.name(), "{problem}");
    }
    policy.failures.failed(hook, problem);
}

/// Calls one hook of one policy. An error is one line that begins with `file:line:`.
fn call(
    host: &Host,
    hook: Hook,
    policy: &Policy,
    (function, hub): (&Function, &Table),
    argument: &Value,
) -> Result<Option<Made>, String> {
    let limits = &host.stage.limits;
    limits.begin(hook.allowed());
    let returned = host.guarded(function, (argument, hub));
    let checked = match returned {
        // A policy may have caught the interrupt otherwise than by `pcall`.
        Ok(_) if limits.interrupted() == Some(Interrupt::Overrun) => {
            Err(mlua::Error::runtime(limits.overrun_text()))
        }
        Ok(returned) => verdict(host, hook, &returned),
        Err(error) => Err(error),
    };
    checked.map_err(|error| {
        if host.lua.used_memory() > MAX_KEPT {
            collect(&host.lua);
        }
        let line = function.info().line_defined.unwrap_or(1);
        let fallback = format!("{}:{line}", policy.name);
        match limits.interrupted() {
            Some(Interrupt::Overrun) => at_place(&error, &fallback, &limits.overrun_text()),
            _ => describe(&error, &fallback),
        }
    })
}

/// Memory above which garbage is collected right after a failure: policies themselves need less.
const MAX_KEPT: usize = limits::MEMORY / 8;

/// Frees the memory that a failed policy has filled, for the next one.
fn collect(lua: &Lua) {
    if let Err(error) = lua.gc_collect() {
        tracing::warn!("collecting the memory of the policies failed: {error}");
    }
}

/// Checks the result of a hook.
fn verdict(host: &Host, hook: Hook, returned: &Value) -> mlua::Result<Option<Made>> {
    let wrong = |what: &str| {
        mlua::Error::runtime(format!(
            "{} returned {what}; it may return {}",
            hook.name(),
            hook.choices()
        ))
    };
    let Made {
        verdict,
        place,
        reason,
    } = match returned {
        _ if hook == Hook::Observer => return Ok(None),
        Value::Nil => return Ok(None),
        Value::UserData(data) => data
            .borrow_scoped(Made::clone)
            .map_err(|_| wrong("a view"))?,
        Value::LightUserData(_) => return Err(wrong("a view")),
        other => return Err(wrong(kind(other))),
    };
    if !hook.takes(&verdict) {
        let wrong = wrong(&format!("hub.{}", verdict.constructor()));
        return Err(at(place.as_deref(), wrong));
    }
    let checked = match verdict {
        Verdict::Evict(names) => evictable(host, names).map(Verdict::Evict),
        Verdict::Wait(wait) if hook == Hook::Load && wait.client.is_some() => Err(
            mlua::Error::runtime("hub.wait: `client` is for on_request: a load is not a client's"),
        ),
        Verdict::Wait(wait) if hook == Hook::Request => host
            .stage
            .request(super::bindings::stage::StagedRequest::keep_vars)
            .map(|()| Verdict::Wait(wait)),
        verdict => Ok(verdict),
    };
    match checked {
        Ok(verdict) => Ok(Some(Made {
            verdict,
            place,
            reason,
        })),
        Err(error) => Err(at(place.as_deref(), error)),
    }
}

/// The error with the line of its verdict, which is nearer than that of the hook.
fn at(place: Option<&str>, error: mlua::Error) -> mlua::Error {
    match place {
        Some(place) => mlua::Error::runtime(describe(&error, place)),
        None => error,
    }
}

/// The names of the models that `hub.evict` named by name or path.
fn evictable(host: &Host, names: Vec<String>) -> mlua::Result<Vec<String>> {
    let world = &host.stage.world;
    let known = |name: String| match world.facts(&name) {
        Some(facts) => Ok(facts.name.clone()),
        None => Err(mlua::Error::runtime(format!(
            "hub.evict names `{}`, which is no model{}",
            shown(&name),
            did_you_mean(&name, world.model_names().iter().map(String::as_str))
        ))),
    };
    names.into_iter().map(known).collect()
}

fn is_theirs(policy: &Policy) -> bool {
    policy.origin() == Origin::File
}

/// A file's name, and its content or the error from reading it.
type File = (String, io::Result<Vec<u8>>);

/// The user's policies in name order. A missing folder has none.
fn user_files(folder: &Path) -> io::Result<Vec<File>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.is_file());
    let mut files = paths
        .iter()
        .filter_map(|path| Some((path.file_name()?.to_str()?, path)))
        .filter(|(name, _)| is_policy(name))
        .map(|(name, path)| (name.to_owned(), files::read(path)))
        .collect::<Vec<_>>();
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

/// `*.lua`, without tests, modules and hidden files.
fn is_policy(name: &str) -> bool {
    name.ends_with(".lua") && !name.ends_with("_test.lua") && !name.starts_with(['_', '.'])
}
