//! The models of one configuration, and those that an earlier one named and that may still be ending.
//!
//! A reload makes another table of the same models. Both hubs find models here, by every name that a request may use.

use std::ops::Deref;
use std::sync::Arc;

use super::gate::Runtime;
use super::model::Model;
use crate::api::ApiError;
use crate::config::{Config, ModelConfig, Settings};

/// The models, each a hub's own `M`.
#[derive(Debug)]
pub(crate) struct ModelTable<M> {
    pub(crate) config: Arc<Config>,
    /// In hub.yaml's order.
    pub(crate) models: Vec<Arc<M>>,
    /// Models that this configuration no longer names and that may still be ending.
    leaving: Vec<Arc<M>>,
    /// The top-level `policy:` mapping.
    pub(crate) settings: Arc<Settings>,
    by_key: foldhash::HashMap<Box<str>, usize>,
}

impl<M, R: Runtime> ModelTable<M>
where
    M: Deref<Target = Model<R>>,
{
    /// The table of `config`: models keep what they were in `old`; `new` makes the others.
    pub(crate) fn after(
        old: Option<&Self>,
        config: Arc<Config>,
        new: impl Fn(&ModelConfig) -> M,
    ) -> Self {
        let known = || old.into_iter().flat_map(Self::all);
        let of = |model: &ModelConfig| {
            let known = known().find(|known| *known.name == *model.name).cloned();
            let known = known.unwrap_or_else(|| Arc::new(new(model)));
            known.settings.store(Arc::new(model.policy.clone()));
            known
        };
        let models = config.models.iter().map(of).collect();
        let leaving = known().filter(|model| config.model(&model.name).is_none());
        let mut by_key = foldhash::HashMap::default();
        for (i, model) in config.models.iter().enumerate() {
            by_key.insert(model.name.as_str().into(), i);
        }
        // A name outranks a path; of two equal paths the first in the file counts.
        for (i, model) in config.models.iter().enumerate() {
            for path in [&model.model_path, &model.resolved_path] {
                by_key.entry(path.as_str().into()).or_insert(i);
            }
        }
        Self {
            leaving: leaving.cloned().collect(),
            settings: Arc::new(config.policy.clone()),
            config,
            models,
            by_key,
        }
    }

    /// All models, also those that are leaving.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<M>> {
        self.models.iter().chain(&self.leaving)
    }

    /// The models that hub.yaml no longer names.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = &Arc<M>> {
        self.leaving.iter()
    }

    /// A model by name, also one that is leaving.
    pub(crate) fn present_or_leaving(&self, name: &str) -> Option<&Arc<M>> {
        self.all().find(|model| *model.name == *name)
    }

    /// The model of that name, or else the first with that path.
    pub(crate) fn find(&self, name_or_path: &str) -> Option<&Arc<M>> {
        self.by_key.get(name_or_path).map(|&i| &self.models[i])
    }

    /// Other policies may be in force: they are asked about every parked request. Those of a model that
    /// hub.yaml no longer names are refused.
    pub(crate) fn ask_parked_again(&self) {
        for model in &self.models {
            model.gate.parking.changed();
        }
        for model in &self.leaving {
            let why = ApiError::being_stopped(&model.name);
            model.gate.parking.dismiss(&why);
        }
    }

    /// Has `idle` rung whenever a model has no request in flight any more, or no longer.
    pub(crate) fn tell_when_idle(&self, idle: Option<&R::Bell>) {
        for model in self.all() {
            model.gate.parking.tell_when_idle(idle);
        }
    }
}
