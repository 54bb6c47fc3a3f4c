//! A new hub.yaml, before the machine reconciles: what it cannot change, and which models it changes.

use std::collections::HashSet;

use crate::config::Config;

/// Puts back what takes effect only at the next start, and says so.
pub(crate) fn keep_fixed(config: &mut Config, old: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut changed = |key: &str, was: String, is: String| {
        if was != is {
            warnings.push(format!("the new `{key}` (`{is}` instead of `{was}`) takes effect at the next start of the hub"));
        }
    };
    changed("host", old.host.clone(), config.host.clone());
    changed("port", old.port.to_string(), config.port.to_string());
    changed(
        "log_path",
        old.log_path.display().to_string(),
        config.log_path.display().to_string(),
    );
    config.host.clone_from(&old.host);
    config.port = old.port;
    config.log_path.clone_from(&old.log_path);
    warnings
}

/// Names of the models whose worker would be started differently now.
pub(crate) fn changed_launches(config: &Config, old: &Config) -> HashSet<String> {
    config
        .models
        .iter()
        .filter(|model| {
            old.model(&model.name)
                .is_some_and(|was| !was.same_launch(model))
        })
        .map(|model| model.name.clone())
        .collect()
}
