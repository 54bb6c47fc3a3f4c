//! A hub as hub.yaml describes it, in which nothing has been started: what policies see where there is
//! no lifecycle, as in `check`.

use std::sync::Arc;

use crate::api::{GroupFacts, ModelFacts, SystemMemory, unix_now};
use crate::config::{Config, ModelConfig, Settings};
use crate::policy::{GroupView, ModelView, World};

/// The world of a configuration alone.
#[derive(Debug)]
pub struct Unstarted {
    config: Config,
}

impl Unstarted {
    /// Of that configuration.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    fn by_path(&self, path: &str) -> Option<&ModelConfig> {
        let mut models = self.config.models.iter();
        models.find(|model| model.model_path == path || model.resolved_path == path)
    }
}

impl World for Unstarted {
    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        let model = self
            .config
            .model(name_or_path)
            .or_else(|| self.by_path(name_or_path))?;
        let facts = ModelFacts::configured(model, &self.config.log_path);
        Some(ModelView {
            settings: Arc::new(model.policy.clone()),
            ..ModelView::at_rest(Arc::new(facts))
        })
    }

    fn model_names(&self) -> Vec<String> {
        let names = self.config.models.iter().map(|model| model.name.clone());
        names.collect()
    }

    fn group(&self, name: &str) -> Option<GroupView> {
        let group = self.config.group(name)?;
        let members = self.config.members(name).map(|model| model.name.clone());
        Some(GroupView {
            facts: GroupFacts::from(group),
            members: members.collect(),
            loaded: Vec::new(),
        })
    }

    fn group_names(&self) -> Vec<String> {
        let names = self.config.groups.iter().map(|group| group.name.clone());
        names.collect()
    }

    fn memory(&self) -> SystemMemory {
        SystemMemory::default()
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::new(self.config.policy.clone())
    }

    fn clock(&self) -> f64 {
        unix_now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_yaml;

    #[test]
    fn a_model_is_found_by_name_and_by_path_as_requests_find_it() {
        let world = Unstarted::new(from_yaml(
            "groups: [{name: g, max_loaded: 1}]\n\
             models:\n\
             - {name: a, model_path: org/shared, group: g}\n\
             - {name: b, model_path: org/shared}\n",
        ));
        assert_eq!(world.model("b").unwrap().facts.name, "b");
        assert_eq!(world.model("org/shared").unwrap().facts.name, "a");
        assert!(world.model("org/other").is_none());
        assert_eq!(world.group("g").unwrap().members, ["a"]);
        assert!(world.group("g").unwrap().loaded.is_empty());
    }
}
