//! A hub as hub.yaml describes it, in which nothing has been started: what policies see where there is
//! no lifecycle, as in `check`.

use std::sync::Arc;

use crate::api::{ModelFacts, SystemMemory, unix_now};
use crate::config::Config;
use crate::policy::{ModelView, World};

/// The world of a configuration alone.
#[derive(Debug)]
pub struct Unstarted {
    config: Arc<Config>,
}

impl Unstarted {
    /// The hub of that configuration.
    pub fn new(config: Config) -> Self {
        let config = Arc::new(config);
        Self { config }
    }
}

impl World for Unstarted {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        let model = self.config.find(name_or_path)?;
        let facts = ModelFacts::configured(model, &self.config.log_path);
        Some(ModelView {
            settings: Arc::new(model.policy.clone()),
            ..ModelView::at_rest(Arc::new(facts))
        })
    }

    fn memory(&self) -> SystemMemory {
        SystemMemory::default()
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
