//! The hub as hooks see it: [`World`], which the lifecycle and the simulated hub implement.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::local_time::LocalTime;
use crate::api::{Activity, GroupFacts, ModelFacts, SystemMemory};
use crate::config::{Config, Settings};

/// The hub as the hooks see it. Every method is cheap: no locks that others hold for long, no waiting.
pub trait World: Send + Sync {
    /// The configuration in force.
    fn config(&self) -> Arc<Config>;
    /// A model by name, or else the first by `model_path`, as requests find them.
    fn model(&self, name_or_path: &str) -> Option<ModelView>;
    /// The same, with no more than was published of it: what most policies look at, at every request.
    fn facts(&self, name_or_path: &str) -> Option<Arc<ModelFacts>> {
        self.model(name_or_path).map(|model| model.facts)
    }
    /// Names of all models in hub.yaml's order.
    fn model_names(&self) -> Vec<String> {
        let config = self.config();
        let names = config.models.iter().map(|model| model.name.clone());
        names.collect()
    }
    /// A group with its members and those that hold memory.
    fn group(&self, name: &str) -> Option<GroupView> {
        let config = self.config();
        let facts = GroupFacts::from(config.group(name)?);
        let members: Vec<_> = config
            .members(name)
            .map(|model| model.name.clone())
            .collect();
        let holds_memory = |name: &&String| {
            let facts = self.facts(name);
            facts.is_some_and(|facts| facts.memory_state.holds_memory())
        };
        Some(GroupView {
            facts,
            loaded: members.iter().filter(holds_memory).cloned().collect(),
            members,
        })
    }
    /// Names of all groups in hub.yaml's order.
    fn group_names(&self) -> Vec<String> {
        let config = self.config();
        let names = config.groups.iter().map(|group| group.name.clone());
        names.collect()
    }
    /// The machine's memory as last measured.
    fn memory(&self) -> SystemMemory;
    /// The top-level `policy:` mapping.
    fn settings(&self) -> Arc<Settings> {
        Arc::new(self.config().policy.clone())
    }
    /// The hub's clock: Unix seconds.
    fn clock(&self) -> f64;
    /// The same moment as clocks on the wall show it, in the machine's time zone.
    fn local_time(&self) -> LocalTime {
        LocalTime::at(self.clock(), TimeZone::system())
    }
}

/// One model as of now.
#[derive(Debug, Clone)]
pub struct ModelView {
    /// The facts published last.
    pub facts: Arc<ModelFacts>,
    /// The counters of the moment.
    pub activity: Activity,
    /// Seconds since the later of its load and the end of its last request; 0 with requests in flight.
    pub idle_seconds: f64,
    /// Seconds since its load, by a monotonic clock; `None` unless it is loaded.
    pub loaded_seconds: Option<f64>,
    /// The last client's wish how long it stays after its last request, in seconds; negative for ever.
    pub keep_alive: Option<f64>,
    /// Its `policy:` mapping.
    pub settings: Arc<Settings>,
}

impl ModelView {
    /// One with which nothing goes on.
    pub(crate) fn at_rest(facts: Arc<ModelFacts>) -> Self {
        Self {
            facts,
            activity: Activity::default(),
            idle_seconds: 0.0,
            loaded_seconds: None,
            keep_alive: None,
            settings: Arc::default(),
        }
    }
}

/// A client's wish how long its model stays in memory after its last request. It counts until the model leaves
/// memory, or another client has another wish.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeepAlive {
    /// Negative for ever.
    pub seconds: f64,
    /// When the client was let in, in Unix seconds: the model was loaded then.
    pub at: f64,
}

impl KeepAlive {
    /// The seconds, if the wish is about the time in memory that these facts tell of.
    pub fn about(&self, facts: &ModelFacts) -> Option<f64> {
        let loaded_at = facts.last_load_at?;
        (self.at >= loaded_at).then_some(self.seconds)
    }
}

/// One group as of now.
#[derive(Debug, Clone, Default)]
pub struct GroupView {
    /// As configured.
    pub facts: GroupFacts,
    /// Names of its models, in hub.yaml's order.
    pub members: Vec<String>,
    /// Names of the members that hold memory or are about to.
    pub loaded: Vec<String>,
}
