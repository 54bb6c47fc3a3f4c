//! Why a model is taken out of memory, in the few words that `/metrics` counts by.

use crate::api::Decision;
use crate::policy::interface::hook::Hook;

/// The cause of the end of a model's time in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Eviction {
    /// The kind of the cause.
    pub(crate) reason: EvictionReason,
    /// The policy that decided; none if none did.
    pub(crate) policy: Option<String>,
}

/// The kinds of causes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum EvictionReason {
    /// `on_load` made room for another model.
    Room,
    /// `on_idle` had it unloaded or stopped.
    Idle,
    /// `on_trouble` had its worker ended.
    Trouble,
    /// A command, the status page or the control API asked for it.
    Asked,
    /// hub.yaml was read again, with other launch settings or without the model.
    Reload,
    /// The hub ends, or nobody has decided it.
    #[default]
    Other,
}

impl EvictionReason {
    /// Those that no policy decides.
    pub(crate) const WITHOUT_POLICY: [Self; 3] = [Self::Asked, Self::Reload, Self::Other];

    /// The word of the metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Idle => "idle",
            Self::Trouble => "trouble",
            Self::Asked => "asked",
            Self::Reload => "reload",
            Self::Other => "other",
        }
    }
}

impl Eviction {
    /// The cause that a decision is for the model's end in memory.
    pub(super) fn of(decision: &Decision, model: &str) -> Self {
        let is_of = |hook: Hook| decision.hook.as_deref() == Some(hook.name());
        let reason = match decision.by.as_deref() {
            _ if decision.evicts(model) => EvictionReason::Room,
            None if is_of(Hook::Idle) => EvictionReason::Idle,
            None if is_of(Hook::Trouble) => EvictionReason::Trouble,
            Some("reload") => EvictionReason::Reload,
            Some(by) if by != Decision::HUB => EvictionReason::Asked,
            _ => EvictionReason::Other,
        };
        Self {
            reason,
            policy: decision.policy.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_decision_has_its_word() {
        let by_policy = |hook: Hook, verdict: &str| Decision {
            hook: Some(hook.name().to_owned()),
            model: Some("alpha".to_owned()),
            policy: Some("own".to_owned()),
            verdict: verdict.to_owned(),
            ..Decision::default()
        };
        let by = |by: &str| Decision {
            model: Some("alpha".to_owned()),
            by: Some(by.to_owned()),
            verdict: "unload".to_owned(),
            ..Decision::default()
        };
        let mut evicts = by_policy(Hook::Load, "evict");
        evicts.model = Some("beta".to_owned());
        evicts.fields.insert("evict".to_owned(), json!(["alpha"]));
        for (decision, reason, policy) in [
            (evicts, "room", Some("own")),
            (by_policy(Hook::Idle, "unload"), "idle", Some("own")),
            (by_policy(Hook::Trouble, "restart"), "trouble", Some("own")),
            (by("command"), "asked", None),
            (by("status page"), "asked", None),
            (by("reload"), "reload", None),
            (by(Decision::HUB), "other", None),
        ] {
            let cause = Eviction::of(&decision, "alpha");
            assert_eq!(cause.reason.as_str(), reason);
            assert_eq!(cause.policy.as_deref(), policy);
        }
    }
}
