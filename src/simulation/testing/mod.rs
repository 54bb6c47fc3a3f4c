//! `*_test.lua`: tests of policies, written in Lua, run in simulated hubs.
//!
//! `policy test` calls [`run`], and so do the tests of the bundled policies and the examples. Each case
//! runs in a Lua state of its own, in which its file has run from the top: cases cannot disturb each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, Lua, LuaSerdeExt as _, Table, Value, Variadic};
use parking_lot::Mutex;

use super::Simulation;
use crate::config::{Config, ConfigError};
use crate::engine::Engines;
use crate::policy::{Fields, Inspect, Policies, World as _, sandbox_with_state};
use crate::sandbox::Sandbox;
use crate::sandbox::errors::{describe, running_line};
use checks::{Failed, Failure};
use hub::{Shared, TestHub};
use logged::Lines;

pub(super) mod asked;
mod checks;
mod engines;
mod hub;
mod logged;
mod options;
mod values;

/// Time limit of a case.
const ALLOWED: Duration = Duration::from_secs(60);

/// Begin of a simulated hub, unless its test says otherwise: a Monday.
const BEGUN: &str = "2026-03-02 08:00";

/// One case, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name; none for a file that does not run.
    pub name: String,
    /// `file:line` of what failed; without a line where there is none.
    pub place: Option<String>,
    /// The failure, of one or more lines; `None` when it passed.
    pub failure: Option<String>,
    /// Its output.
    pub printed: Vec<String>,
}

/// The names that tests see, by the class that `scripts/types/test.lua` gives them; for the test that
/// compares the two.
pub fn bound_names() -> Vec<(&'static str, Vec<&'static str>)> {
    let all = |fields: &[&'static str], methods: &[&'static str]| {
        fields.iter().chain(methods).copied().collect()
    };
    vec![
        (
            "test",
            all(&["case", "each", "engine", "hub"], &checks::NAMES),
        ),
        ("testenginefields", all(engines::TAKES, &[])),
        ("testengine", all(engines::GIVES, &[])),
        ("testhubfields", all(options::HUB, &[])),
        ("testreloadfields", all(options::RELOAD, &[])),
        ("testworkerfields", all(options::WORKER, &[])),
        ("testmemoryfields", all(options::MEMORY, &[])),
        ("testrequestfields", all(options::REQUEST, &[])),
        ("testfinishfields", all(options::FINISH, &[])),
        (
            "testhub",
            all(hub::FIELDS, &hub::methods().collect::<Vec<_>>()),
        ),
        ("testrequest", all(asked::FIELDS, asked::METHODS)),
    ]
}

/// Runs the cases of one file, in their order. Its folder is that of the policies; `hub_yaml` is the
/// configuration of a hub for which the test gives none.
pub fn run(file: &Path, hub_yaml: &Path) -> Vec<Case> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let source = match std::fs::read(file) {
        Ok(source) => source,
        Err(error) => return vec![Case::broken(&name, error.to_string())],
    };
    let file = Arc::new(File {
        folder: file.parent().unwrap_or(Path::new("")).to_owned(),
        hub_yaml: hub_yaml.to_owned(),
        name: name.into_owned(),
        source,
    });
    let mut cases = Vec::new();
    loop {
        let lines = Lines::default();
        match logged::keep(&lines, || file.run_case(cases.len(), &lines)) {
            Ok(Some(case)) => cases.push(case),
            Ok(None) if cases.is_empty() => {
                return vec![Case::broken(&file.name, "it has no test.case".to_owned())];
            }
            Ok(None) => return cases,
            Err(broken) => {
                cases.push(broken);
                return cases;
            }
        }
    }
}

impl Case {
    fn broken(file: &str, why: String) -> Self {
        Self {
            name: String::new(),
            place: Some(file.to_owned()),
            failure: Some(why),
            printed: Vec::new(),
        }
    }
}

/// A file of cases.
struct File {
    name: String,
    folder: PathBuf,
    hub_yaml: PathBuf,
    source: Vec<u8>,
}

/// The source of a hub's configuration and policies.
struct Source {
    file: Arc<File>,
    /// Those of its folder, if not all.
    files: Option<Vec<String>>,
    failed: Failed,
}

impl Source {
    /// Another configuration, as `hub:reload` is given it.
    fn config(&self, lua: &Lua, table: &Table) -> mlua::Result<Config> {
        let fields = Fields::of("hub:reload", options::RELOAD, table)?;
        self.file.config(lua, &fields, &self.failed)
    }

    /// The policies are read again.
    fn reload(&self, policies: &Policies, bundled: &[String]) {
        policies.reload_with(&self.file.folder, self.files.as_deref(), bundled);
    }
}

/// The parts of a case, in its Lua state.
#[derive(Clone, Default)]
struct CaseContext {
    cases: Arc<Mutex<Vec<(String, Function)>>>,
    /// Those whose policies must not fail.
    hubs: Arc<Mutex<Vec<Shared>>>,
    failed: Failed,
    lines: Lines,
    printed: Arc<Mutex<Vec<String>>>,
}

impl File {
    /// Runs the file and then its case of that index; `None` when it has no more. An error is a file
    /// that does not run.
    fn run_case(self: &Arc<Self>, index: usize, lines: &Lines) -> Result<Option<Case>, Case> {
        let context = CaseContext {
            lines: Arc::clone(lines),
            ..CaseContext::default()
        };
        let ran = sandbox_with_state().and_then(|(sandbox, _)| {
            sandbox.allow(ALLOWED);
            let own = self.globals(&sandbox, &context)?;
            sandbox.run(own, &self.name, &self.source)?;
            Ok(sandbox)
        });
        // The state has to be there while its functions are called.
        let _sandbox = match ran {
            Ok(sandbox) => sandbox,
            Err(error) => {
                let failure = self.failure(&context, &error);
                return Err(self.case(String::new(), Some(failure), &context));
            }
        };
        let Some((name, body)) = context.cases.lock().get(index).cloned() else {
            return Ok(None);
        };
        let failure = match body.call::<Variadic<Value>>(()) {
            Ok(_) => self.failing_policy(&context),
            Err(error) => Some(self.failure(&context, &error)),
        };
        Ok(Some(self.case(name, failure, &context)))
    }

    fn case(&self, name: String, failure: Option<Failure>, context: &CaseContext) -> Case {
        let (place, failure) = failure.map_or((None, None), |failure| {
            let excerpt = failure
                .place
                .as_deref()
                .and_then(|place| self.excerpt(place));
            let text = excerpt.into_iter().chain([failure.text]);
            let text = text.collect::<Vec<_>>().join("\n");
            (failure.place, Some(text))
        });
        Case {
            name,
            place,
            failure,
            printed: std::mem::take(&mut context.printed.lock()),
        }
    }

    /// The line of the test that a place names.
    fn excerpt(&self, place: &str) -> Option<String> {
        let line = place.strip_prefix(&self.name)?.strip_prefix(':')?;
        let line: usize = line.parse().ok()?;
        let source = String::from_utf8_lossy(&self.source);
        let text = source.lines().nth(line.checked_sub(1)?)?;
        Some(text.trim().to_owned())
    }

    fn failure(&self, context: &CaseContext, error: &mlua::Error) -> Failure {
        if let Some(failure) = context.failed.lock().take() {
            return failure;
        }
        let text = describe(error, &self.name);
        match text.split_once(": ") {
            Some((place, text)) if place.starts_with(&self.name) => Failure {
                place: Some(place.to_owned()),
                text: text.to_owned(),
            },
            _ => Failure { place: None, text },
        }
    }

    /// A policy that failed while a case was content.
    fn failing_policy(&self, context: &CaseContext) -> Option<Failure> {
        let hubs = context.hubs.lock();
        let faults = hubs.iter().map(|hub| hub.lock().policies().faults());
        let text = faults.flatten().next()?;
        Some(Failure {
            place: Some(self.name.clone()),
            text: format!("{text}\nhint: `may_fail = true` in test.hub allows it"),
        })
    }

    /// The globals of a test besides Lua's own.
    fn globals(self: &Arc<Self>, sandbox: &Sandbox, context: &CaseContext) -> mlua::Result<Table> {
        let lua = &sandbox.lua;
        let own = lua.create_table()?;
        own.set("test", self.test(lua, context)?)?;
        let printed = Arc::clone(&context.printed);
        let print = lua.create_function(move |_, values: Variadic<Value>| {
            let texts = values.iter().map(|value| value.to_string());
            let text = texts.collect::<mlua::Result<Vec<_>>>()?.join("\t");
            printed.lock().push(text);
            Ok(())
        })?;
        own.set("print", print)?;
        Ok(own)
    }

    /// `test`.
    fn test(self: &Arc<Self>, lua: &Lua, context: &CaseContext) -> mlua::Result<Table> {
        let test = lua.create_table()?;
        let cases = Arc::clone(&context.cases);
        let case = lua.create_function(move |_, (name, body): (String, Function)| {
            cases.lock().push((name, body));
            Ok(())
        })?;
        test.set("case", case)?;
        let cases = Arc::clone(&context.cases);
        let each = lua.create_function(move |_, (rows, body): (Vec<Table>, Function)| {
            for row in rows {
                let name = match row.get::<Option<String>>("name")? {
                    Some(name) => name,
                    None => row.get::<Option<String>>(1)?.ok_or_else(|| {
                        mlua::Error::runtime("test.each: each row needs a `name`, or one in front")
                    })?,
                };
                cases.lock().push((name, body.bind(row)?));
            }
            Ok(())
        })?;
        test.set("each", each)?;
        checks::add(lua, &test, &context.failed)?;
        let (file, failed) = (Arc::clone(self), Arc::clone(&context.failed));
        let engine = lua.create_function(move |lua, table: Table| {
            let fields = Fields::of("test.engine", engines::TAKES, &table)?;
            let place = file.hub_folder().join(format!("entry of {}", file.name));
            let config = engines::config(lua, &fields, &place)?;
            let config = config.map_err(|error| file.refused(lua, &fields, &failed, &error))?;
            engines::worker(lua, &fields, config)
        })?;
        test.set("engine", engine)?;
        let (file, context) = (Arc::clone(self), context.clone());
        let hub = lua.create_function(move |lua, table: Option<Table>| {
            let table = table.map_or_else(|| lua.create_table(), Ok)?;
            file.hub(lua, &table, &context)
        })?;
        test.set("hub", hub)?;
        Ok(test)
    }

    /// `test.hub{…}`.
    fn hub(
        self: &Arc<Self>,
        lua: &Lua,
        table: &Table,
        context: &CaseContext,
    ) -> mlua::Result<TestHub> {
        let fields = Fields::of("test.hub", options::HUB, table)?;
        let config = self.config(lua, &fields, &context.failed)?;
        let files = fields.get::<Vec<String>>("files", "a list of files beside the test")?;
        let time = fields.get::<String>("time", values::DAY)?;
        let begun = values::day(time.as_deref().unwrap_or(BEGUN))
            .ok_or_else(|| fields.error(format!("`time` must be {}", values::DAY)))?;
        let bundled = config.policies.clone();
        let mut hub = Simulation::new(config, begun, |world| match &files {
            Some(files) => Policies::load_only(&self.folder, files, &bundled, world),
            None => Policies::load(&self.folder, &bundled, world),
        });
        if let Some(problem) = hub.policies().warnings().first() {
            return Err(fields.error(problem.clone()));
        }
        let workers = fields.get::<BTreeMap<String, Table>>("workers", "a table by model")?;
        for (model, table) in workers.unwrap_or_default() {
            if !hub::change_worker(&mut hub, &model, &table)? {
                let known = hub.world().model_names();
                return Err(hub::unknown("model", &model, &known));
            }
        }
        if let Some(table) = fields.get("memory", "a table")? {
            hub::change_memory(&mut hub, &table)?;
        }
        if fields.get("start", "true or false")? != Some(false) {
            hub.start_defaults();
        }
        let world = Arc::clone(hub.world());
        let shared = Arc::new(Mutex::new(hub));
        if fields.get("may_fail", "true or false")? != Some(true) {
            context.hubs.lock().push(Arc::clone(&shared));
        }
        Ok(TestHub {
            look: Arc::new(Inspect::new(world)),
            lines: Arc::clone(&context.lines),
            hub: shared,
            source: Source {
                file: Arc::clone(self),
                files,
                failed: Arc::clone(&context.failed),
            },
        })
    }

    /// The configuration that a test gives, as a text or a table, or that of its folder, with the policies
    /// and settings that it gives.
    fn config(&self, lua: &Lua, fields: &Fields<'_>, failed: &Failed) -> mlua::Result<Config> {
        let mut config = self.hub_yaml(lua, fields, failed)?;
        if let Some(policies) = fields.get("policies", "a list of bundled policies")? {
            config.policies = policies;
        }
        if let Some(policy) = fields.get::<Table>("policy", "a table of settings")? {
            config.policy = options::settings(lua, fields, "policy", policy)?;
        }
        Ok(config)
    }

    fn hub_yaml(&self, lua: &Lua, fields: &Fields<'_>, failed: &Failed) -> mlua::Result<Config> {
        const EXPECTED: &str = "the text of a hub.yaml, or a table like one";
        let place = self.folder.join(format!("config of {}", self.name));
        let read = match fields.get::<Value>("config", EXPECTED)? {
            None | Some(Value::Nil) => Config::load(&self.hub_yaml),
            Some(Value::String(text)) => Config::parse(&place, &text.to_string_lossy()),
            Some(Value::Table(table)) => {
                let json = lua.from_value::<serde_json::Value>(Value::Table(table))?;
                Config::parse(&place, &json.to_string())
            }
            Some(_) => return Err(fields.error(format!("`config` must be {EXPECTED}"))),
        };
        read.map_err(|error| self.refused(lua, fields, failed, &error))
    }

    /// The error of a configuration that is not valid.
    fn refused(
        &self,
        lua: &Lua,
        fields: &Fields<'_>,
        failed: &Failed,
        error: &ConfigError,
    ) -> mlua::Error {
        // Its excerpt takes several lines, which an error of Lua does not keep.
        let text = error
            .to_string()
            .replace(&format!("{}/", self.folder.display()), "");
        let place = running_line(lua);
        let error = fields.error(text.replace('\n', "; "));
        failed.lock().get_or_insert(Failure { place, text });
        error
    }

    /// The folder of hub.yaml for a test of engines, which may stand in its `engines`.
    fn hub_folder(&self) -> &Path {
        match self.folder.parent() {
            Some(parent) if self.folder.ends_with(Engines::FOLDER) => parent,
            _ => &self.folder,
        }
    }
}
