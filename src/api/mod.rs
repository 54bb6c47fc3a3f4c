//! The words that all parts share: what can be done to a model and what came of it, what the hub shows of
//! itself, and how it says that something is wrong.
//!
//! Everything that answers, asks or decides speaks in these types; what they mean is written here once. They
//! do nothing.

mod address;
mod decisions;
mod download;
mod error;
mod history;
mod memory;
mod plan;
mod policies;
mod recording;
mod requests;
mod status;
mod usage;
mod verb;

pub use address::{is_all_addresses, local_authority};
pub use decisions::{Decision, DecisionsReport, WantedDecisions};
pub use download::{Download, bytes};
pub(crate) use error::shown;
pub use error::{ApiError, CANCELLED, GROUP_FULL, kind_of};
pub use history::{HistoryReport, LoadTime, ModelHistory};
pub use memory::{Pressure, SystemMemory};
pub use plan::{LoadPlan, PlannedLoad};
pub use policies::{Origin, PoliciesReport, PolicyFacts};
pub use recording::RecordingReport;
pub use requests::{EndedRequest, RequestInFlight, RequestsReport, Stage};
pub use status::{
    Activity, Counts, EDITED, GroupFacts, GroupStatus, HubFacts, MemoryState, ModelFacts,
    ModelMetadata, ModelStatus, ProcessState, SpareStatus, Status, unix_now,
};
pub use usage::UsageTotals;
pub use verb::{AllReport, Outcome, ReloadReport, Verb};
