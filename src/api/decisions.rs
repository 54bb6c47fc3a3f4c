//! The decisions, with their authors and reasons: the answer of `GET /hub/policies/decisions`, which
//! `policy explain` tells in words.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The decisions that were asked for, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionsReport {
    /// The decisions.
    pub decisions: Vec<Decision>,
    /// Time of the oldest decision that is kept, Unix seconds; none before the first.
    pub since: Option<f64>,
}

/// One decision of a policy, or a change that no policy decided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Grows with every decision since the hub came up.
    pub number: u64,
    /// Its time, Unix seconds; the first time of one that was repeated.
    pub time: f64,
    /// Its last time.
    pub last_time: f64,
    /// Number of times it was made in a row.
    pub times: u64,
    /// The hook that was asked; none when no policy was.
    pub hook: Option<String>,
    /// The model it is about; none for the hub as a whole, and for a request that names none.
    pub model: Option<String>,
    /// The request's `X-Request-ID`; of the last one, for a decision that was repeated.
    pub request: Option<String>,
    /// The policy that decided; none when all abstained, or none was asked.
    pub policy: Option<String>,
    /// The line that made the verdict: `file:line`.
    pub place: Option<String>,
    /// The verdict's constructor, `unload`, or what was done.
    pub verdict: String,
    /// The verdict's fields. Of what a route sets in a body only the names.
    pub fields: Map<String, Value>,
    /// The reason, in the words of its author.
    pub reason: Option<String>,
    /// The facts of the decision.
    pub inputs: Map<String, Value>,
    /// Policies that were asked before and said nothing.
    pub abstained: Vec<String>,
    /// Policies that were asked before and failed: `file:line: what`.
    pub failed: Vec<String>,
    /// The author, if no policy: `command`, `status page`, `control API`, `reload`, `shutdown`, `hub`.
    pub by: Option<String>,
    /// The outcome; `None` while it is open.
    pub outcome: Option<String>,
}

impl Decision {
    /// The author of what nobody has decided.
    pub const HUB: &'static str = "hub";

    /// True if it is about that model, or unloads it for another.
    pub fn concerns(&self, model: &str) -> bool {
        self.model.as_deref() == Some(model) || self.evicts(model)
    }

    /// True if it is about the hub as a whole.
    fn concerns_all(&self) -> bool {
        self.model.is_none() && self.request.is_none()
    }

    /// True if it unloads that model to make room.
    pub fn evicts(&self, model: &str) -> bool {
        let names = self.fields.get("evict").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|name| name == model))
    }
}

/// A filter of decisions. Without any limit it selects all.
#[derive(Debug, Clone, Default)]
pub struct WantedDecisions {
    /// Decisions about this model, or that unloaded it for another.
    pub model: Option<String>,
    /// Made or repeated since then, Unix seconds.
    pub since: Option<f64>,
    /// Made until then.
    pub until: Option<f64>,
    /// The newest so many.
    pub limit: Option<usize>,
}

impl WantedDecisions {
    /// True if that decision is one of them, limit apart.
    pub fn takes(&self, decision: &Decision) -> bool {
        let model = self.model.as_deref();
        model.is_none_or(|model| decision.concerns_all() || decision.concerns(model))
            && self.since.is_none_or(|since| decision.last_time >= since)
            && self.until.is_none_or(|until| decision.time <= until)
    }
}
