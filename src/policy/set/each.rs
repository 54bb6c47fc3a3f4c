//! Every policy asked the same question, whatever the others say: for `policy check`.
//!
//! Nothing is counted, nobody is told, and nothing is acted on.

use mlua::Value;

use super::super::RequestView;
use super::super::failures::describe;
use super::super::hook::Hook;
use super::super::ruling::Asked;
use super::super::views::request::Request;
use super::{Host, PolicySet, call};

impl PolicySet {
    /// Asks every policy about a request, whose body has arrived; the failures, each one line that
    /// begins with `file:line:`.
    pub(in crate::policy) fn failures_about_request(&self, view: RequestView) -> Vec<String> {
        let host = self.host.lock();
        let call = host.stage.open_request(view);
        let argument = Request::create(&host.lua, call);
        let failures = self.each(&host, Hook::Request, &argument);
        host.stage.close_request();
        failures
    }

    /// The same about anything else.
    pub(in crate::policy) fn failures_about(&self, asked: &Asked<'_>) -> Vec<String> {
        let host = self.host.lock();
        let argument = asked.open(&host);
        let failures = self.each(&host, asked.hook(), &argument);
        host.stage.close();
        failures
    }

    fn each(&self, host: &Host, hook: Hook, argument: &mlua::Result<Value>) -> Vec<String> {
        let policies = self.policies.iter();
        let asked = policies.filter_map(|policy| Some((policy, policy.function(hook)?)));
        let said = asked.map(|(policy, function)| match argument {
            Ok(argument) => call(host, hook, policy, function, argument).map(drop),
            Err(error) => Err(describe(error, &policy.name)),
        });
        said.filter_map(Result::err).collect()
    }
}
