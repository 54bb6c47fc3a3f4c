//! The answer of `GET /hub/models/{name}/plan`: what a verb on the model would do now.

use serde::{Deserialize, Serialize};

/// The consequences of a verb on a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbPlan {
    /// The model.
    pub model: String,
    /// The outcome of the load, if the verb begins one.
    pub load: PlannedLoad,
    /// The models that would be unloaded first.
    pub unloads: Vec<String>,
    /// The reason why the load would be refused.
    pub refusal: Option<String>,
    /// The requests in flight that would be answered first: of the models that are unloaded, and of one that is stopped.
    pub in_flight: usize,
    /// The requests that wait and would be refused, as the model is stopped.
    pub refused_requests: usize,
}

/// The outcome of a load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedLoad {
    /// It begins, after the models in `unloads` are out of memory.
    Begins,
    /// The verb loads nothing, or the model is in memory or on its way there.
    #[default]
    Needless,
    /// It waits until there is room.
    Waits,
    /// It is refused.
    Refused,
}
