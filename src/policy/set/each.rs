//! Asks questions without consequences: one to every policy, whatever the others decide, for `policy check`; one
//! about a recorded request, for `policy replay`; and one about what would be decided now, for lists of models.
//!
//! No observer hears of them, and no verdict is carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::{Lua, Table, Value};
use serde_json::{Map, Value as Json};

use super::super::RequestView;
use super::{HookAnswer, Host, PolicySet, call};
use crate::core::interface::event::Event;
use crate::policy::bindings::views::handle::Handle;
use crate::policy::bindings::views::json;
use crate::policy::interface::hook::Hook;
use crate::policy::journal::ruling::{Question, Ruling};
use crate::sandbox::errors::describe;

/// The recorded part of a body.
pub(in crate::policy) struct RecordedBody {
    /// Its numbers and booleans.
    pub(in crate::policy) fields: Map<String, Json>,
    pub(in crate::policy) is_json: bool,
    /// The name in it, if there is one.
    pub(in crate::policy) model: Option<String>,
    pub(in crate::policy) prompt_chars: usize,
    /// Set when a policy reads another field.
    pub(in crate::policy) missed: Arc<AtomicBool>,
}

impl RecordedBody {
    fn put_on_stage(mut self, host: &Host) -> mlua::Result<()> {
        let lua = &host.lua;
        if let Some(model) = self.model {
            self.fields.insert("model".to_owned(), Json::from(model));
        }
        let table = match json(lua, &self.fields)? {
            Value::Table(table) if self.is_json => {
                table.set_metatable(Some(noticing(lua, self.missed)?))?;
                Value::Table(table)
            }
            _ => Value::Nil,
        };
        let fields = Some(Json::Object(self.fields)).filter(|_| self.is_json);
        host.stage.request(|request| {
            request.json = Some(fields);
            request.body = Some(table);
            request.prompt_chars = Some(self.prompt_chars);
            Ok(())
        })
    }
}

/// A metatable that notices reads of missing fields.
fn noticing(lua: &Lua, missed: Arc<AtomicBool>) -> mlua::Result<Table> {
    let notice = lua.create_function(move |_, _: (Value, Value)| {
        missed.store(true, Ordering::Relaxed);
        Ok(Value::Nil)
    })?;
    let metatable = lua.create_table()?;
    metatable.set("__index", notice)?;
    metatable.set("__metatable", false)?;
    Ok(metatable)
}

impl PolicySet {
    /// Asks every policy about a request whose body has arrived; returns the failures, each one line that begins
    /// with `file:line:`.
    pub(in crate::policy) fn failures_about_request(&self, view: Box<RequestView>) -> Vec<String> {
        let host = self.host.lock();
        let call = host.stage.open_request(view);
        let argument = Ok(Handle::of_request(call).value());
        let failures = self.each(&host, Hook::Request, &argument);
        host.stage.close_request();
        failures
    }

    /// Asks every policy about anything else.
    pub(in crate::policy) fn failures_about(&self, asked: &Question<'_>) -> Vec<String> {
        let host = self.host.lock();
        let argument = asked.open(&host);
        let failures = self.each(&host, asked.hook(), &argument);
        host.stage.close();
        failures
    }

    /// Tells the observers of every policy of an event; returns the failures.
    pub(in crate::policy) fn failures_about_event(&self, event: &Event) -> Vec<String> {
        let Some(seat) = &self.hearing else {
            return Vec::new();
        };
        let host = seat.lock();
        let told = self
            .observers_of(event)
            .map(|(policy, hearing, function)| self.tell(&host, policy, hearing, function, event));
        told.filter_map(Result::err).collect()
    }

    /// The answer to anything but a request, if it was asked now. Nothing is counted, and nothing logged.
    pub(in crate::policy) fn supposed(&self, asked: &Question<'_>) -> HookAnswer {
        let host = self.host.lock();
        host.stage.set_silent(true);
        let answer = match asked.open(&host) {
            Ok(argument) => self.first(&host, asked.hook(), &argument),
            Err(_) => HookAnswer::Abstain,
        };
        host.stage.close();
        host.stage.set_silent(false);
        answer
    }

    fn first(&self, host: &Host, hook: Hook, argument: &Value) -> HookAnswer {
        for policy in &self.policies {
            let Some(function) = policy.function(hook) else {
                continue;
            };
            let said = match policy.failures.is_off() {
                true => Err(()),
                false => call(host, hook, policy, (function, &policy.hub), argument).map_err(drop),
            };
            match said {
                Ok(None) => {}
                Ok(Some(made)) => return HookAnswer::Verdict(made.verdict),
                Err(()) if policy.denies => return HookAnswer::Denied(policy.name.clone()),
                Err(()) => {}
            }
        }
        HookAnswer::Abstain
    }

    /// Asks about a recorded request; without a `body` it is one that has not arrived.
    pub(in crate::policy) fn ruling_about_recorded(
        &self,
        view: Box<RequestView>,
        body: Option<RecordedBody>,
    ) -> (Box<RequestView>, Ruling) {
        let host = self.host.lock();
        let call = host.stage.open_request(view);
        let on_stage = body.map_or(Ok(()), |body| body.put_on_stage(&host));
        let argument = on_stage.map(|()| Handle::of_request(call).value());
        let ruling = self.ask(&host, Hook::Request, argument);
        let view = host.stage.close_request();
        (
            view.expect("the request put on stage above is still there"),
            ruling,
        )
    }

    fn each(&self, host: &Host, hook: Hook, argument: &mlua::Result<Value>) -> Vec<String> {
        let policies = self.policies.iter();
        let asked = policies.filter_map(|policy| Some((policy, policy.function(hook)?)));
        let said = asked.map(|(policy, function)| match argument {
            Ok(argument) => call(host, hook, policy, (function, &policy.hub), argument).map(drop),
            Err(error) => Err(describe(error, &policy.name)),
        });
        said.filter_map(Result::err).collect()
    }
}
