//! A new hub.yaml, before the machine reconciles: what it cannot change, and which models it changes.

use std::collections::HashSet;

use crate::config::{Config, Settings};

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

/// The settings of policies that are new, gone or different, of the hub and of the models that were there before.
pub(crate) fn changed_settings(config: &Config, old: &Config) -> Vec<String> {
    let mut changed = differing(&old.policy, &config.policy);
    for model in &config.models {
        if let Some(was) = old.model(&model.name) {
            let keys = differing(&was.policy, &model.policy).into_iter();
            changed.extend(keys.map(|key| format!("{key} of {}", model.name)));
        }
    }
    changed
}

fn differing(old: &Settings, new: &Settings) -> Vec<String> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let changed = keys
        .into_iter()
        .filter(|key| old.get(*key) != new.get(*key));
    changed.map(|key| format!("policy.{key}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_yaml;

    #[test]
    fn changed_settings_of_policies_are_named_with_their_model() {
        let old = from_yaml(
            "policy: {same: 1, other: {deep: 1}, gone: 1}
models:
- {name: a, model_path: org/a, policy: {keep: 1, same: [2]}}
- {name: b, model_path: org/b}
",
        );
        let new = from_yaml(
            "policy: {other: {deep: 2}, same: 1, new: null}
models:
- {name: c, model_path: org/c, policy: {keep: 1}}
- {name: a, model_path: org/a, policy: {same: [2]}}
- {name: b, model_path: org/b, policy: {keep: 1}}
",
        );
        assert_eq!(
            changed_settings(&new, &old),
            [
                "policy.gone",
                "policy.new",
                "policy.other",
                "policy.keep of a",
                "policy.keep of b"
            ]
        );
        assert_eq!(changed_settings(&old, &old), [""; 0]);
    }
}
