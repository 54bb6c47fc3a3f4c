//! The constructors of verdicts, `hub.reject{…}` and the others, and the verdicts they make.
//!
//! A verdict is a userdata of one type, so that a hook cannot return a mere lookalike. Its constructor checks
//! every field: a typo is an error at that line.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use mlua::{FromLua, Lua, LuaSerdeExt as _, MultiValue, Table, Value};

use super::state::plain;
use crate::api::{ApiError, kind_of, shown};
use crate::config::Settings;
use crate::policy::{Route, Wait};
use crate::sandbox::errors::running_line;
use crate::sandbox::wording::{did_you_mean, kind};

/// The decision of a hook.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Route(Arc<Route>),
    Reject(ApiError),
    Allow,
    Evict(Vec<String>),
    Wait(Wait),
    Unload,
    Stop,
    Keep(f64),
    Restart(f64),
    Leave,
}

/// The Lua value of a verdict. Cheap to clone: a policy may return the same one for every request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Made {
    pub(crate) verdict: Verdict,
    /// The line of the policy that made it: `file:line`.
    pub(crate) place: Option<Arc<str>>,
    /// The policy's reason.
    pub(crate) reason: Option<Arc<str>>,
}

impl Verdict {
    /// The constructor that made it.
    pub(crate) fn constructor(&self) -> &'static str {
        match self {
            Self::Route(_) => "route",
            Self::Reject(_) => "reject",
            Self::Allow => "allow",
            Self::Evict(_) => "evict",
            Self::Wait(_) => "wait",
            Self::Unload => "unload",
            Self::Stop => "stop",
            Self::Keep(_) => "keep",
            Self::Restart(_) => "restart",
            Self::Leave => "leave",
        }
    }
}

const ROUTE: &[&str] = &["model", "set", "unset", "headers", "reason"];
const REJECT: &[&str] = &[
    "status",
    "message",
    "type",
    "code",
    "param",
    "retry_after",
    "reason",
];
const WAIT: &[&str] = &["seconds", "client", "reason"];
const KEEP: &[&str] = &["seconds", "reason"];
const RESTART: &[&str] = &["seconds", "reason"];
/// The fields of constructors that take nothing else; `hub.evict` takes them beside its names.
const REASON: &[&str] = &["reason"];

/// The fields of the other constructors, by their class in the editor types.
pub(crate) const FIELDS: [(&str, &[&str]); 6] = [
    ("reasonfields", REASON),
    ("routefields", ROUTE),
    ("rejectfields", REJECT),
    ("waitfields", WAIT),
    ("keepfields", KEEP),
    ("restartfields", RESTART),
];

/// Makes a verdict from the arguments of a call.
type Constructor = fn(&Lua, MultiValue) -> mlua::Result<Verdict>;

const CONSTRUCTORS: &[(&str, Constructor)] = &[
    ("route", route),
    ("reject", reject),
    ("allow", |_, arguments| {
        none("hub.allow", &arguments).map(|()| Verdict::Allow)
    }),
    ("evict", evict),
    ("wait", wait),
    ("unload", |_, arguments| {
        none("hub.unload", &arguments).map(|()| Verdict::Unload)
    }),
    ("stop", |_, arguments| {
        none("hub.stop", &arguments).map(|()| Verdict::Stop)
    }),
    ("keep", keep),
    ("restart", restart),
    ("leave", |_, arguments| {
        none("hub.leave", &arguments).map(|()| Verdict::Leave)
    }),
];

/// The names of the constructors.
pub(crate) fn constructors() -> impl Iterator<Item = &'static str> {
    CONSTRUCTORS.iter().map(|(name, _)| *name)
}

/// Puts the constructors into `hub`.
pub(crate) fn add_constructors(lua: &Lua, hub: &Table) -> mlua::Result<()> {
    for (name, construct) in CONSTRUCTORS {
        let function = lua.create_function(|lua, arguments: MultiValue| {
            let reason = reason(name, &arguments)?;
            lua.create_any_userdata(Made {
                verdict: construct(lua, arguments)?,
                place: running_line(lua).map(Arc::from),
                reason: reason.map(Arc::from),
            })
        })?;
        hub.set(*name, function)?;
    }
    Ok(())
}

fn route(lua: &Lua, arguments: MultiValue) -> mlua::Result<Verdict> {
    let fields = Fields::open("hub.route", ROUTE, &arguments)?;
    let set = match fields.get::<Table>("set", "a table of body fields")? {
        Some(set) => lua
            .from_value::<Settings>(Value::Table(plain(lua, set)?))
            .map_err(|error| {
                fields.error(format!("`set` must be a table of body fields: {error}"))
            })?,
        None => Settings::new(),
    };
    let mut headers = Vec::new();
    if let Some(table) = fields.get::<Table>("headers", "a table of header values")? {
        for pair in table.pairs::<String, String>() {
            let (name, value) = pair.map_err(|_| {
                fields.error("`headers` must be a table of strings by name".to_owned())
            })?;
            headers.push(header(&fields, &name, &value)?);
        }
        // A Lua table has no order.
        headers.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    }
    Ok(Verdict::Route(Arc::new(Route {
        model: fields.get("model", "the name of a model")?,
        set,
        unset: fields
            .get("unset", "a list of body fields")?
            .unwrap_or_default(),
        headers,
    })))
}

fn header(fields: &Fields<'_>, name: &str, value: &str) -> mlua::Result<(HeaderName, HeaderValue)> {
    let header_name = HeaderName::try_from(name)
        .map_err(|_| fields.error(format!("`{}` is no name of a header", shown(name))))?;
    let value = HeaderValue::try_from(value).map_err(|_| {
        fields.error(format!(
            "the value of header `{}` may not be sent",
            shown(name)
        ))
    })?;
    Ok((header_name, value))
}

fn reject(_: &Lua, arguments: MultiValue) -> mlua::Result<Verdict> {
    let fields = Fields::open("hub.reject", REJECT, &arguments)?;
    let status = fields.required::<u16>("status", STATUS)?;
    if !(400..600).contains(&status) {
        return Err(fields.error(format!("`status` is {status}, it must be {STATUS}")));
    }
    let retry_after = fields.get::<f64>("retry_after", SECONDS)?;
    Ok(Verdict::Reject(ApiError {
        status,
        message: fields.required("message", "a string")?,
        kind: fields
            .get("type", "a string")?
            .unwrap_or_else(|| kind_of(status).to_owned()),
        code: fields
            .get("code", "a string")?
            .unwrap_or_else(|| status.to_string()),
        param: fields.get("param", "a string")?,
        retry_after: match retry_after {
            Some(seconds) => Some(fields.seconds("retry_after", seconds)?.ceil() as u64),
            None => None,
        },
    }))
}

fn evict(lua: &Lua, arguments: MultiValue) -> mlua::Result<Verdict> {
    const USAGE: &str = "hub.evict: takes a list of model names, like hub.evict{\"alpha\"}";
    let names = match arguments.front() {
        Some(Value::Table(names)) if arguments.len() == 1 => plain(lua, names.clone())?,
        _ => return Err(mlua::Error::runtime(USAGE)),
    };
    let listed = names.sequence_values::<String>();
    let listed = listed
        .collect::<mlua::Result<Vec<_>>>()
        .map_err(|_| mlua::Error::runtime(USAGE))?;
    // A key that is not a position would be ignored without a word.
    let has_reason = names.contains_key("reason")?;
    let all = names.pairs::<Value, Value>().count() - usize::from(has_reason);
    if listed.is_empty() || all != listed.len() {
        return Err(mlua::Error::runtime(USAGE));
    }
    Ok(Verdict::Evict(listed))
}

fn wait(_: &Lua, arguments: MultiValue) -> mlua::Result<Verdict> {
    let fields = Fields::open("hub.wait", WAIT, &arguments)?;
    let seconds = fields.required("seconds", SECONDS)?;
    Ok(Verdict::Wait(Wait {
        seconds: fields.seconds("seconds", seconds)?,
        client: fields.get("client", "a string")?,
    }))
}

fn restart(_: &Lua, arguments: MultiValue) -> mlua::Result<Verdict> {
    let fields = Fields::open("hub.restart", RESTART, &arguments)?;
    let seconds = fields.required("seconds", SECONDS)?;
    fields.seconds("seconds", seconds).map(Verdict::Restart)
}

fn keep(_: &Lua, arguments: MultiValue) -> mlua::Result<Verdict> {
    if arguments.is_empty() {
        return Ok(Verdict::Keep(0.0));
    }
    let fields = Fields::open("hub.keep", KEEP, &arguments)?;
    let seconds = fields.get("seconds", SECONDS)?.unwrap_or_default();
    fields.seconds("seconds", seconds).map(Verdict::Keep)
}

const STATUS: &str = "a whole number from 400 to 599";
const SECONDS: &str = "a number of seconds, 0 or more";

fn none(constructor: &'static str, arguments: &MultiValue) -> mlua::Result<()> {
    match arguments.front() {
        None => Ok(()),
        Some(Value::Table(_)) => Fields::open(constructor, REASON, arguments).map(drop),
        Some(_) => Err(mlua::Error::runtime(format!(
            "{constructor}: takes no arguments but a table with `reason`; write {constructor}()"
        ))),
    }
}

/// `reason`, which every constructor takes.
fn reason(constructor: &str, arguments: &MultiValue) -> mlua::Result<Option<String>> {
    let Some(Value::Table(fields)) = arguments.front() else {
        return Ok(None);
    };
    match fields.raw_get::<Value>("reason")? {
        Value::Nil => Ok(None),
        Value::String(reason) => Ok(Some(reason.to_string_lossy())),
        other => Err(mlua::Error::runtime(format!(
            "hub.{constructor}: `reason` is {}, it must be a string",
            kind(&other)
        ))),
    }
}

/// The one table a constructor takes.
pub(crate) struct Fields<'a> {
    constructor: &'static str,
    table: &'a Table,
}

impl<'a> Fields<'a> {
    /// Checks that there is one table with no unknown field.
    fn open(
        constructor: &'static str,
        known: &[&str],
        arguments: &'a MultiValue,
    ) -> mlua::Result<Self> {
        let table = match arguments.front() {
            Some(Value::Table(table)) if arguments.len() == 1 => table,
            _ => {
                return Err(mlua::Error::runtime(format!(
                    "{constructor}: takes one table; write {constructor}{{…}}, with a dot"
                )));
            }
        };
        Self::of(constructor, known, table)
    }

    /// Checks that the table has no unknown field.
    pub(crate) fn of(
        constructor: &'static str,
        known: &[&str],
        table: &'a Table,
    ) -> mlua::Result<Self> {
        let fields = Self { constructor, table };
        for pair in table.pairs::<Value, Value>() {
            let key = pair?.0.to_string()?;
            if !known.contains(&key.as_str()) {
                let hint = did_you_mean(&key, known.iter().copied());
                return Err(fields.error(format!("unknown field `{}`{hint}", shown(&key))));
            }
        }
        Ok(fields)
    }

    /// An error about this table.
    pub(crate) fn error(&self, text: String) -> mlua::Error {
        mlua::Error::runtime(format!("{}: {text}", self.constructor))
    }

    /// An optional field; `expected` names its type in an error.
    pub(crate) fn get<T: FromLua>(&self, name: &str, expected: &str) -> mlua::Result<Option<T>> {
        let value = self.table.get::<Value>(name)?;
        self.table.get(name).map_err(|_| {
            let shown = match &value {
                Value::Integer(_) | Value::Number(_) | Value::Boolean(_) => {
                    value.to_string().unwrap_or_default()
                }
                _ => kind(&value).to_owned(),
            };
            self.error(format!("`{name}` is {shown}, it must be {expected}"))
        })
    }

    pub(crate) fn required<T: FromLua>(&self, name: &str, expected: &str) -> mlua::Result<T> {
        self.get(name, expected)?
            .ok_or_else(|| self.error(format!("`{name}` is missing, it must be {expected}")))
    }

    fn seconds(&self, name: &str, seconds: f64) -> mlua::Result<f64> {
        if seconds.is_finite() && seconds >= 0.0 {
            return Ok(seconds);
        }
        Err(self.error(format!("`{name}` is {seconds}, it must be {SECONDS}")))
    }
}
