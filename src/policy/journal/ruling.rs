//! The joint answer of the policies to one question, with the policy and the line it comes from.
//!
//! `set` makes a [`Ruling`] at every call of a hook; the history and the recorder read it. Only this
//! file turns a verdict into words and JSON.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::policy::bindings::verdicts::{Made, Verdict};
use crate::policy::bindings::views::exit::Ended;
use crate::policy::bindings::views::handle::Handle;
use crate::policy::bindings::views::load::Load;
use crate::policy::bindings::views::model;
use crate::policy::bindings::views::trouble::InTrouble;
use crate::policy::host::{Host, Policy};
use crate::policy::interface::hook::Hook;
use crate::policy::set::HookAnswer;
use crate::policy::{Exit, PendingLoad, RequestView, Trouble};

/// One question, as its caller put it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Question<'a> {
    Request(&'a RequestView),
    Load(&'a str, PendingLoad),
    Idle(&'a str),
    Exit(&'a str, Exit),
    Trouble(&'a str, Trouble),
}

impl Question<'_> {
    pub(crate) fn hook(&self) -> Hook {
        match self {
            Self::Request(_) => Hook::Request,
            Self::Load(..) => Hook::Load,
            Self::Idle(_) => Hook::Idle,
            Self::Exit(..) => Hook::Exit,
            Self::Trouble(..) => Hook::Trouble,
        }
    }

    /// The hook's first argument, put on the stage; a request must stand there already.
    pub(crate) fn open(&self, host: &Host) -> mlua::Result<mlua::Value> {
        let (lua, stage) = (&host.lua, &host.stage);
        match self {
            Self::Request(_) => {
                let call = stage.enter("request")?;
                Ok(Handle::of_request(call).value())
            }
            Self::Load(model, load) => Load::create(lua, stage.open(), model, *load),
            Self::Idle(model) => {
                stage.open();
                model::find(stage, model)
            }
            Self::Exit(model, exit) => Ended::create(lua, stage.open(), model, *exit),
            Self::Trouble(model, trouble) => InTrouble::create(lua, stage.open(), model, *trouble),
        }
    }

    /// The model it is about, as the question names it; `None` for a request that names none.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::Request(view) => view.model.as_deref(),
            Self::Load(model, _)
            | Self::Idle(model)
            | Self::Exit(model, _)
            | Self::Trouble(model, _) => Some(model),
        }
    }
}

/// An answer with its origin. Without a verdict it costs nothing.
#[derive(Debug)]
pub(crate) struct Ruling {
    pub(crate) answer: HookAnswer,
    /// Number of the policy that decided.
    pub(crate) policy: Option<usize>,
    /// The line that made the verdict: `file:line`.
    pub(crate) place: Option<Arc<str>>,
    /// The reason that it gave.
    pub(crate) reason: Option<Arc<str>>,
    /// The failures of the policies before it: `file:line: what`.
    pub(crate) failed: Vec<String>,
}

impl Ruling {
    /// No policy decided.
    pub(crate) fn abstain() -> Self {
        Self {
            answer: HookAnswer::Abstain,
            policy: None,
            place: None,
            reason: None,
            failed: Vec::new(),
        }
    }

    /// Policy `number` decided.
    pub(crate) fn decide(&mut self, number: usize, made: Made) {
        self.answer = HookAnswer::Verdict(made.verdict);
        self.policy = Some(number);
        self.place = made.place;
        self.reason = made.reason;
    }

    /// Policy `number` failed, and refuses then.
    pub(crate) fn deny(&mut self, number: usize, policy: &Policy) {
        self.answer = HookAnswer::Denied(policy.name.clone());
        self.policy = Some(number);
    }

    /// True if a policy decided, or refuses because it failed.
    pub(crate) fn is_verdict(&self) -> bool {
        matches!(self.answer, HookAnswer::Verdict(_) | HookAnswer::Denied(_))
    }

    /// The verdict's constructor; if all abstained, the default.
    pub(crate) fn word(&self, hook: Hook) -> &'static str {
        match (&self.answer, hook) {
            (HookAnswer::Verdict(verdict), _) => verdict.constructor(),
            (HookAnswer::Denied(_), _) => "deny",
            (HookAnswer::NeedBody | HookAnswer::Abstain, Hook::Request) => "pass",
            (_, Hook::Load) => "allow",
            (_, Hook::Idle | Hook::Trouble) => "keep",
            _ => "leave",
        }
    }

    /// The verdict's fields, for users.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let mut fields = match &self.answer {
            HookAnswer::Verdict(verdict) => fields(verdict),
            _ => Map::new(),
        };
        fields.retain(|_, value| !value.is_null());
        fields
    }

    /// The policies that have the hook, came before the one that decided, and abstained.
    pub(crate) fn abstained<'a>(
        &self,
        hook: Hook,
        policies: &'a [Policy],
    ) -> impl Iterator<Item = &'a str> {
        let before = self.policy.unwrap_or(policies.len());
        let asked = policies[..before]
            .iter()
            .filter(move |policy| policy.function(hook).is_some() && !policy.failures.is_off());
        let failed: Vec<&str> = asked
            .clone()
            .map(|policy| policy.name.as_str())
            .filter(|name| self.failed.iter().any(|text| text.starts_with(name)))
            .collect();
        let names = asked.map(|policy| policy.name.as_str());
        names.filter(move |name| !failed.contains(name))
    }
}

/// The fields of a verdict. The fields that a route sets in a request stay out: they may be the prompt.
fn fields(verdict: &Verdict) -> Map<String, Value> {
    let fields = match verdict {
        Verdict::Route(route) => {
            let headers = route.headers.iter().map(|(name, _)| name.as_str());
            json!({
                "model": route.model,
                "set": list(route.set.keys().map(String::as_str)),
                "unset": list(route.unset.iter().map(String::as_str)),
                "headers": list(headers),
            })
        }
        Verdict::Reject(error) => json!({
            "status": error.status,
            "message": error.message,
            "code": error.code,
            "retry_after": error.retry_after,
        }),
        Verdict::Evict(names) => json!({ "evict": names }),
        Verdict::Wait(wait) => json!({ "seconds": wait.seconds, "client": wait.client }),
        Verdict::Keep(seconds) | Verdict::Restart(seconds) => {
            json!({ "seconds": seconds })
        }
        Verdict::Allow | Verdict::Unload | Verdict::Stop | Verdict::Leave => json!({}),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Null for an empty list.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> Value {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return Value::Null;
    }
    json!(names)
}
