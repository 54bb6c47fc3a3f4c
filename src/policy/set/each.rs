//! Every policy asked the same question, whatever the others say: for `policy check`.
//!
//! Nothing is counted and nothing is acted on.

use mlua::Value;

use super::super::failures::describe;
use super::super::hook::Hook;
use super::super::views::exit::Ended;
use super::super::views::load::Load;
use super::super::views::model::Model;
use super::super::views::request::Request;
use super::super::{Exit, PendingLoad, RequestView};
use super::{Host, PolicySet, call};

/// One call of a hook.
#[derive(Debug)]
pub(in crate::policy) enum Question {
    /// `on_request`, with the whole body.
    Request(Box<RequestView>),
    /// `on_load`.
    Load { model: String, load: PendingLoad },
    /// `on_idle`.
    Idle(String),
    /// `on_exit`.
    Exit { model: String, exit: Exit },
}

impl Question {
    /// The hook that is asked.
    pub(in crate::policy) fn hook(&self) -> Hook {
        match self {
            Self::Request(_) => Hook::Request,
            Self::Load { .. } => Hook::Load,
            Self::Idle(_) => Hook::Idle,
            Self::Exit { .. } => Hook::Exit,
        }
    }

    /// Puts it on stage; the hook's first argument.
    fn open(self, host: &Host) -> mlua::Result<Value> {
        let (lua, stage) = (&host.lua, &host.stage);
        match self {
            Self::Request(view) => {
                let call = stage.open_request(*view);
                Request::create(lua, call)
            }
            Self::Load { model, load } => {
                let call = stage.open();
                Load::create(lua, call, &model, load)
            }
            Self::Idle(model) => {
                stage.open();
                Model::find(lua, stage, &model)
            }
            Self::Exit { model, exit } => {
                let call = stage.open();
                Ended::create(lua, call, &model, exit)
            }
        }
    }
}

impl PolicySet {
    /// Asks every policy; the failures, each one line that begins with `file:line:`.
    pub(in crate::policy) fn failures_of_each(&self, question: Question) -> Vec<String> {
        let host = self.host.lock();
        let hook = question.hook();
        let argument = question.open(&host);
        let mut failures = Vec::new();
        for policy in &self.policies {
            let Some(function) = policy.function(hook) else {
                continue;
            };
            let said = match &argument {
                Ok(argument) => call(&host, hook, policy, function, argument),
                Err(error) => Err(describe(error, &policy.name)),
            };
            failures.extend(said.err());
        }
        if hook == Hook::Request {
            host.stage.close_request();
        } else {
            host.stage.close();
        }
        failures
    }
}
