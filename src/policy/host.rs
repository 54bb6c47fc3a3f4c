//! One Lua state: its sandbox, its limits, and the loading of files into hooks.
//!
//! A set has one in which the hooks of all its policies run, and one for their observers, where there are
//! any. Its user holds its lock.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, Lua, Table, Value};
use parking_lot::Mutex;

use super::World;
use super::bindings::stage::{Observer, Stage};
use super::bindings::state::{Changes, HubState};
use super::bindings::views;
use super::bindings::views::{hub, log};
use super::bundled;
use super::failures::Failures;
use super::interface::declared::DeclaredModel;
use super::interface::hook::Hook;
use super::journal::counts::Counts;
use super::sources::Sources;
use super::{EventName, Plain};
use crate::api::{Origin, PolicyFacts, shown};
use crate::files;
use crate::sandbox::Guard;
use crate::sandbox::errors::{at_place, describe};
use crate::sandbox::flood::Flood;
use crate::sandbox::wording::{did_you_mean, kind};
use crate::sandbox::{self, Sandbox};

/// Time limit for loading a file.
const LOADING: Duration = Duration::from_millis(250);

/// One Lua state.
pub(super) struct Host {
    pub(super) lua: Lua,
    pub(super) stage: Arc<Stage>,
    /// The function that makes the globals of a file, the result of `sandbox.lua`.
    globals: Function,
    /// The shared fields of every file's `hub`.
    hub_fields: Table,
    modules: Arc<Modules>,
    guard: Guard,
    pub(super) state: HubState,
}

/// One loaded file.
pub(super) struct Policy {
    /// `alpha.lua`, or `bundled/create_hub.lua`.
    pub(super) name: String,
    pub(super) hub: Table,
    pub(super) failures: Failures,
    pub(super) counts: Counts,
    /// True if a failure refuses instead of leaving the decision to the next policy.
    pub(super) denies: bool,
    hooks: Hooks,
    /// The names that it answers for.
    pub(super) models: Vec<DeclaredModel>,
    /// The observers that it registered with `hub.on`, in their Lua state.
    pub(super) hearing: Option<Hearing>,
}

/// The observers that a file registered with `hub.on`, in that order, and its `hub`.
pub(super) struct Hearing {
    pub(super) hub: Table,
    pub(super) observers: Vec<Observer>,
}

/// A file's values in the Lua state in which it ran.
pub(super) struct Loaded {
    hub: Table,
    hooks: Hooks,
    models: Vec<DeclaredModel>,
    observers: Vec<Observer>,
    denies: bool,
}

impl Loaded {
    /// True if it registered observers.
    pub(super) fn observes(&self) -> bool {
        !self.observers.is_empty()
    }

    fn hearing(self) -> Hearing {
        Hearing {
            hub: self.hub,
            observers: self.observers,
        }
    }
}

/// The functions in the table that a file returns.
#[derive(Default)]
struct Hooks([Option<Function>; Hook::COUNT]);

impl Policy {
    /// The policy of that name: its hooks are those of `loaded`.
    pub(super) fn new(name: String, loaded: Loaded, hearing: Option<Hearing>) -> Self {
        Self {
            counts: Counts::new(&name),
            name,
            hub: loaded.hub,
            failures: Failures::default(),
            denies: loaded.denies,
            hooks: loaded.hooks,
            models: loaded.models,
            hearing,
        }
    }

    /// The function for a hook, if the policy has one.
    pub(super) fn function(&self, hook: Hook) -> Option<&Function> {
        self.hooks.0[hook as usize].as_ref()
    }

    /// Its origin.
    pub(super) fn origin(&self) -> Origin {
        match self.name.starts_with(bundled::FOLDER) {
            true => Origin::Bundled,
            false => Origin::File,
        }
    }

    /// True if it has hooks that decide.
    pub(super) fn has_hooks(&self) -> bool {
        self.hooks.0.iter().any(Option::is_some)
    }

    /// Its observers.
    pub(super) fn observers(&self) -> &[Observer] {
        let hearing = self.hearing.as_ref();
        hearing.map_or(&[], |hearing| &hearing.observers)
    }

    /// Its report.
    pub(super) fn facts(&self) -> PolicyFacts {
        let hooks = Hook::ALL.into_iter();
        let hooks = hooks.filter(|hook| self.function(*hook).is_some());
        let observed = |name| {
            self.observers()
                .iter()
                .any(|(observed, _)| *observed == name)
        };
        let observes = EventName::ALL.into_iter().filter(|name| observed(*name));
        let (failures, last_error) = self.failures.total_and_last();
        PolicyFacts {
            name: self.name.clone(),
            origin: self.origin(),
            hooks: hooks.map(|hook| hook.name().to_owned()).collect(),
            observes: observes.map(|name| name.as_str().to_owned()).collect(),
            models: self.models.iter().map(|model| model.name.clone()).collect(),
            denies: self.denies,
            calls: self.counts.calls(),
            verdicts: self.counts.verdicts(),
            failures,
            average_seconds: self.counts.average_seconds(),
            last_error,
            switched_off: self.failures.is_off(),
        }
    }
}

impl Host {
    /// A new state in which nothing has run. Modules for `require` are looked for in `folder`.
    pub(super) fn new(
        folder: &Path,
        world: Arc<dyn World>,
        flood: Arc<Flood>,
    ) -> mlua::Result<Self> {
        let (sandbox, state) = sandbox_with_state()?;
        let Sandbox {
            lua,
            limits,
            globals,
            guard,
        } = sandbox;
        let stage = Arc::new(Stage::new(world, limits, flood));
        views::register(&lua, &stage)?;
        let modules = Arc::new(Modules {
            folder: folder.to_owned(),
            loaded: Mutex::default(),
            sources: Mutex::default(),
        });
        Ok(Self {
            hub_fields: hub::shared_fields(&lua, &stage, &state.root)?,
            globals,
            guard,
            stage,
            modules,
            state,
            lua,
        })
    }

    /// Calls a function of a policy. Of one that may do anything, an error is a short text, made before the call
    /// ends and in its time.
    pub(super) fn guarded(
        &self,
        function: &Function,
        (argument, hub): (&Value, &Table),
    ) -> mlua::Result<Value> {
        if self.stage.limits.is_lifted() {
            return function.call((argument, hub));
        }
        self.guard.call(function, (argument, hub))
    }

    /// The texts of the modules that files required.
    pub(super) fn modules(&self) -> Sources {
        self.modules.sources.lock().clone()
    }

    /// Lifts the time limit of the loaded files.
    pub(super) fn trust(&self) {
        if let Err(error) = self.stage.limits.lift(&self.lua) {
            tracing::debug!("the policies stay limited: {error}");
        }
    }

    /// The content of `hub.state`.
    pub(super) fn content(&self) -> Plain {
        self.apart(HubState::content).unwrap_or_default()
    }

    /// Replaces the content of `hub.state`.
    pub(super) fn restore(&self, content: &Plain) {
        self.apart(|state| state.restore(content));
    }

    /// Runs `task` on `hub.state` with a time limit and memory of its own, even if policies have used up theirs.
    fn apart<R>(&self, task: impl FnOnce(&HubState) -> mlua::Result<R>) -> Option<R> {
        self.stage.limits.begin(LOADING);
        let done = self
            .stage
            .limits
            .with_memory(&self.lua, HubState::MAX_MEMORY, || task(&self.state));
        done.inspect_err(|error| tracing::error!("hub.state is not kept: {error}"))
            .ok()
    }

    /// The writes to `hub.state` since the last call.
    pub(super) fn changes(&self, has_failed: bool) -> Option<Changes> {
        self.apart(|state| state.changes(has_failed)).flatten()
    }

    /// Applies another state's writes to `hub.state`; false when the two may differ now.
    pub(super) fn follow(&self, changes: &Changes) -> bool {
        self.apart(|state| state.follow(changes)).is_some()
    }

    /// Runs a file that another state has run before, without its log lines; takes its observers.
    ///
    /// # Errors
    /// As [`Host::load`].
    pub(super) fn load_again(&self, name: &str, source: &[u8]) -> Result<Hearing, String> {
        self.stage.set_silent(true);
        let loaded = self.load(name, source);
        self.stage.set_silent(false);
        loaded.map(Loaded::hearing)
    }

    /// Runs a file and takes its hooks and observers.
    ///
    /// # Errors
    /// One line that begins with the file's name.
    pub(super) fn load(&self, name: &str, source: &[u8]) -> Result<Loaded, String> {
        self.stage.limits.begin(LOADING);
        self.stage.load();
        let hub = hub::create(&self.lua, &self.hub_fields);
        let loaded = hub.and_then(|hub| {
            let globals = Globals {
                make: &self.globals,
                hub: &hub,
                modules: &self.modules,
                stage: &self.stage,
            };
            let returned = globals.run(&self.lua, name, source)?;
            let hooks = Returned::check(returned)?;
            Ok((hub, hooks))
        });
        let observers = self.stage.loaded();
        let limits = &self.stage.limits;
        let loaded = match loaded {
            Ok(_) if limits.interrupted().is_some() => Err(limits.overrun(&self.lua)),
            other => other,
        };
        let (hub, returned) = loaded.map_err(|error| {
            let fallback = format!("{name}:1");
            match limits.interrupted() {
                Some(_) => at_place(&error, &fallback, &limits.overrun_text()),
                None => describe(&error, &fallback),
            }
        })?;
        let Returned {
            denies,
            hooks,
            models,
        } = returned;
        Ok(Loaded {
            hub,
            hooks,
            models,
            observers,
            denies,
        })
    }
}

/// A sandbox in which tables of `hub.state` are like others.
pub(crate) fn sandbox_with_state() -> mlua::Result<(Sandbox, HubState)> {
    Sandbox::with(|lua| {
        let state = HubState::install(lua)?;
        let raw = state.raw.clone();
        Ok((state, raw))
    })
}

/// The parts of a file's globals.
#[derive(Clone, Copy)]
struct Globals<'a> {
    make: &'a Function,
    hub: &'a Table,
    modules: &'a Arc<Modules>,
    stage: &'a Arc<Stage>,
}

impl Globals<'_> {
    /// Runs `source` in globals of its own and returns what it returns.
    fn run(self, lua: &Lua, name: &str, source: &[u8]) -> mlua::Result<Value> {
        let own = lua.create_table()?;
        own.set("hub", self.hub)?;
        own.set("print", log::function(lua, self.stage, "info")?)?;
        own.set("require", self.require(lua)?)?;
        sandbox::run(lua, self.make, own, name, source)
    }

    /// `require` for a file: modules see the `hub` of the file that required them first.
    fn require(self, lua: &Lua) -> mlua::Result<Function> {
        let (make, hub) = (self.make.clone(), self.hub.clone());
        let (modules, stage) = (Arc::clone(self.modules), Arc::clone(self.stage));
        lua.create_function(move |lua, name: String| {
            let globals = Globals {
                make: &make,
                hub: &hub,
                modules: &modules,
                stage: &stage,
            };
            modules.require(lua, &name, globals)
        })
    }
}

/// The modules that files of a set required.
struct Modules {
    folder: PathBuf,
    /// By name; `None` while the module runs for the first time.
    loaded: Mutex<HashMap<String, Option<Value>>>,
    sources: Mutex<Sources>,
}

impl Modules {
    fn require(&self, lua: &Lua, name: &str, globals: Globals<'_>) -> mlua::Result<Value> {
        let file = file_of(name)?;
        let known = self.loaded.lock().get(name).cloned();
        match known {
            Some(Some(value)) => return Ok(value),
            Some(None) => {
                return Err(mlua::Error::runtime(format!(
                    "require: module `{name}` requires itself"
                )));
            }
            None => {}
        }
        if globals.stage.current().is_some() {
            return Err(mlua::Error::runtime(format!(
                "require: modules are read while the files load; write `local {} = require(\"{name}\")` at the top of the file",
                name.rsplit('.').next().unwrap_or(name)
            )));
        }
        let source = files::read(&self.folder.join(&file)).map_err(|error| {
            mlua::Error::runtime(format!("require: module `{name}` ({file}): {error}"))
        })?;
        self.sources.lock().note(&file, &source);
        self.loaded.lock().insert(name.to_owned(), None);
        let result = globals.run(lua, &file, &source);
        match &result {
            Ok(value) => self
                .loaded
                .lock()
                .insert(name.to_owned(), Some(value.clone())),
            Err(_) => self.loaded.lock().remove(name),
        };
        result
    }
}

/// `lib.names` is `lib/names.lua`; no name leads outside the folder.
fn file_of(name: &str) -> mlua::Result<String> {
    /// In bytes; systems have no longer ones.
    const LONGEST_PATH: usize = 1024;
    let is_part = |part: &str| {
        let allowed = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        !part.is_empty() && part.chars().all(allowed)
    };
    if name.len() > LONGEST_PATH || !name.split('.').all(is_part) {
        return Err(mlua::Error::runtime(format!(
            "require: `{}` is no module; `lib.names` is lib/names.lua in the folder of hub.yaml",
            shown(name)
        )));
    }
    Ok(format!("{}.lua", name.replace('.', "/")))
}

/// The table a file returns.
#[derive(Default)]
struct Returned {
    denies: bool,
    hooks: Hooks,
    models: Vec<DeclaredModel>,
}

impl Returned {
    const ON_ERROR: &'static str = "on_error";
    const MODELS: &'static str = "models";

    fn check(returned: Value) -> mlua::Result<Self> {
        let Value::Table(table) = returned else {
            return Err(mlua::Error::runtime(format!(
                "a policy returns a table of hooks ({}), this one returned {}",
                names().collect::<Vec<_>>().join(", "),
                kind(&returned)
            )));
        };
        let mut hooks = Self::default();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            hooks.take(&key.to_string()?, value)?;
        }
        Ok(hooks)
    }

    fn take(&mut self, key: &str, value: Value) -> mlua::Result<()> {
        if key == Self::ON_ERROR {
            if value.as_string().is_none_or(|word| word != "deny") {
                return Err(mlua::Error::runtime(
                    "`on_error` must be \"deny\" or left out",
                ));
            }
            self.denies = true;
            return Ok(());
        }
        if key == Self::MODELS {
            self.models = DeclaredModel::read_all(&value)?;
            return Ok(());
        }
        let Some(hook) = Hook::ALL.into_iter().find(|hook| hook.name() == key) else {
            return Err(mlua::Error::runtime(format!(
                "unknown hook `{}`{}",
                shown(key),
                did_you_mean(key, names())
            )));
        };
        let Value::Function(function) = value else {
            return Err(mlua::Error::runtime(format!(
                "`{}` must be a function, it is {}",
                shown(key),
                kind(&value)
            )));
        };
        self.hooks.0[hook as usize] = Some(function);
        Ok(())
    }
}

/// The keys of the table a policy returns.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    Hook::ALL
        .map(Hook::name)
        .into_iter()
        .chain([Returned::MODELS, Returned::ON_ERROR])
}
