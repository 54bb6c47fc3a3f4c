//! The facts about models and groups that hub.yaml alone gives, before anything has happened.
//!
//! The supervisor builds on them, `status` shows them without a hub, and `check` shows them to policies.

use std::path::Path;

use super::{GroupConfig, ModelConfig};
use crate::api::{GroupFacts, ModelFacts};

impl ModelFacts {
    /// A model that has never been started, with its logs in `log_path`. A port is known only if
    /// hub.yaml sets one.
    pub fn configured(model: &ModelConfig, log_path: &Path) -> Self {
        let log_file = model.log_file(log_path);
        Self {
            name: model.name.clone(),
            model_path: model.model_path.clone(),
            model_type: model.model_type.as_str().into(),
            engine: model.engine.name.clone(),
            hosts: model.hosts(),
            group: model.group.clone(),
            default: model.default,
            jit_enabled: model.jit_enabled,
            auto_unload_minutes: model.auto_unload_minutes,
            context_length: model.context_length,
            log_path: (!model.no_log_file).then(|| log_file.display().to_string()),
            port: model.port,
            ..Self::default()
        }
    }
}

impl From<&GroupConfig> for GroupFacts {
    fn from(group: &GroupConfig) -> Self {
        Self {
            name: group.name.clone(),
            max_loaded: group.max_loaded,
            idle_unload_trigger_min: group.idle_unload_trigger_min,
        }
    }
}
