//! What the gateway of a fleet knows of this hub.

use serde::{Deserialize, Serialize};

/// The hub's place in its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetState {
    /// hub.yaml has no `fleet`.
    #[default]
    Alone,
    /// The gateway has not answered yet.
    Joining,
    /// The gateway knows all of this hub as it is.
    Member,
    /// The gateway knows something else, and has been told.
    Differs,
    /// The gateway does not answer, or refuses.
    Unreachable,
    /// The hub is drained: the gateway has no entry of it.
    Out,
}

impl FleetState {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Joining => "joining",
            Self::Member => "member",
            Self::Differs => "differs",
            Self::Unreachable => "unreachable",
            Self::Out => "out",
        }
    }
}

/// `GET /hub/fleet`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FleetReport {
    /// See [`FleetState`].
    pub state: FleetState,
    /// True from `fleet drain` to `fleet undrain`.
    pub drained: bool,
    /// The reason why `/health/ready` answers 503; `None` if it answers 200.
    pub not_ready: Option<String>,
    /// The gateway's address.
    pub gateway: Option<String>,
    /// The address at which the gateway reaches this hub.
    pub advertise: Option<String>,
    /// Time of the gateway's last answer, Unix seconds.
    pub answered_at: Option<f64>,
    /// The reason why the last attempt failed, with what to do on lines of their own.
    pub error: Option<String>,
    /// One for each model that the gateway should know, and each that it should not.
    pub entries: Vec<FleetEntry>,
}

/// One model of this hub, as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FleetEntry {
    /// The model's name.
    pub model: String,
    /// The address at which the gateway asks for it.
    pub url: String,
    /// The gateway's word for the state of the entry; `None` if it has none.
    pub status: Option<String>,
    /// What differs from the model as it is, one sentence each.
    pub differs: Vec<String>,
}

/// How busy a model is, for a gateway that chooses between hubs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MemberLoad {
    /// True if it is in memory.
    pub is_loaded: bool,
    /// Its context length, in tokens.
    pub context_length: u32,
    /// Modification time of hub.yaml, Unix seconds.
    pub created: u64,
    /// Requests in flight.
    pub running: usize,
    /// Requests that wait for it to be loaded, or because a policy says so.
    pub waiting: usize,
    /// Tokens per second of its last stream.
    pub tokens_per_second: Option<f64>,
    /// Seconds that its last load took.
    pub load_seconds: Option<f64>,
}
