//! The verbs on a model, their outcomes, and the report of a reload.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// A verb on a model. The command line, the control API, the lifecycle and `policy test` all speak of
/// these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Let it take requests.
    Start,
    /// End its process.
    Stop,
    /// Bring it into memory.
    Load,
    /// Free its memory.
    Unload,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Start, Self::Stop, Self::Load, Self::Unload];

    /// The verb that is called so.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }

    /// The word itself: the end of the route, and `action` in its answer.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Load => "load",
            Self::Unload => "unload",
        }
    }

    /// The model's activity meanwhile.
    pub fn under_way(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Stop => "stopping",
            Self::Load => "loading",
            Self::Unload => "unloading",
        }
    }

    /// The model's state afterwards.
    pub fn done(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Stop => "stopped",
            Self::Load => "loaded",
            Self::Unload => "unloaded",
        }
    }

    /// True if a model that was loaded is not in memory afterwards.
    pub fn frees_memory(self) -> bool {
        match self {
            Self::Stop | Self::Unload => true,
            Self::Start | Self::Load => false,
        }
    }

    /// A sentence about what came of it.
    pub fn message(self, model: &str, outcome: Outcome) -> String {
        let done = self.done();
        match outcome {
            Outcome::Done => format!("Model '{model}' {done}"),
            Outcome::Already => format!("Model '{model}' is already {done}"),
        }
    }
}

/// The outcome of a verb on a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model changed its state.
    Done,
    /// It was in that state already.
    Already,
}

/// The report of a reload, with names in hub.yaml's order. It is also the answer of `POST /hub/reload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// New `default` models, and models restarted because their launch settings changed.
    pub started: Vec<String>,
    /// Models gone from hub.yaml, and restarted ones.
    pub stopped: Vec<String>,
    /// All others.
    pub unchanged: Vec<String>,
    /// What changed about the policies, if anything did.
    #[serde(default, skip_serializing_if = "PolicyChanges::is_empty")]
    pub policies: PolicyChanges,
}

/// What a reload changes about the policies, compared with when hub.yaml was read before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyChanges {
    /// Files that are new, gone or different, modules among them, and bundled policies that were switched on or off:
    /// `night.lua`, `bundled/lru_swap.lua`.
    pub changed: Vec<String>,
    /// Settings of policies in hub.yaml that are new, gone or different: `policy.token_budget`, `policy.keep of alpha`.
    pub settings: Vec<String>,
    /// A line for each file that does not load: the policies stay as they were.
    pub refused: Vec<String>,
}

impl PolicyChanges {
    /// True if there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.settings.is_empty() && self.refused.is_empty()
    }
}

/// The report of a verb on all models, with names in hub.yaml's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllReport {
    /// Models that changed their state.
    pub done: Vec<String>,
    /// Models that stay loaded, for they have requests in flight.
    pub busy: Vec<String>,
    /// Models that refused, each with the reason.
    pub failed: IndexMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_found_by_its_word_and_told_apart_from_the_others() {
        let words = Verb::ALL.map(Verb::as_str);
        assert_eq!(words.map(Verb::named), Verb::ALL.map(Some));
        assert_eq!(Verb::named("restart"), None);
    }
}
