//! The answer of `GET /hub/models/{name}/plan`: what would happen if the model was loaded now.

use serde::{Deserialize, Serialize};

/// The consequences of a load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPlan {
    /// The model.
    pub model: String,
    /// The outcome of the load.
    pub load: PlannedLoad,
    /// The models that would be unloaded first.
    pub unloads: Vec<String>,
    /// The reason why it would be refused.
    pub refusal: Option<String>,
}

/// The outcome of a load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedLoad {
    /// It begins, after the models in `unloads` are out of memory.
    #[default]
    Begins,
    /// The model is in memory, or on its way there.
    Needless,
    /// It waits until there is room.
    Waits,
    /// It is refused.
    Refused,
}
