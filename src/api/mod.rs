//! The words that all parts share: what can be done to a model and what came of it, what the hub shows of
//! itself, and how it says that something is wrong.
//!
//! Everything that answers, asks or decides speaks in these types; what they mean is written here once. They
//! do nothing.

mod address;
mod captured;
mod configuration;
mod decisions;
mod download;
mod error;
mod fleet;
mod history;
mod memory;
mod nearest;
mod pattern;
mod plan;
mod policies;
mod recording;
mod requests;
mod status;
mod usage;
mod verb;

pub use address::{is_all_addresses, local_authority};
pub use captured::{CapturedBody, CapturedRequest};
pub use configuration::{ConfigCheck, ConfigFinding, ConfigSaved, ConfigText, DiffKind, DiffLine};
pub use decisions::{Decision, DecisionsReport, WantedDecisions};
pub use download::{Download, bytes};
pub(crate) use error::shown;
pub use error::{ApiError, CANCELLED, GROUP_FULL, kind_of};
pub use fleet::{FleetEntry, FleetReport, FleetState, MemberLoad};
pub use history::{HistoryReport, LoadTime, ModelHistory};
pub use memory::{Pressure, SystemMemory};
pub(crate) use nearest::nearest;
pub(crate) use pattern::{ANY, looks_like};
pub use plan::{PlannedLoad, VerbPlan};
pub use policies::{Origin, PoliciesReport, PolicyFacts};
pub use recording::RecordingReport;
pub use requests::{EndedRequest, RequestInFlight, RequestsReport, Stage};
pub use status::{
    Activity, Counts, EDITED, GroupFacts, GroupStatus, HostFacts, HubFacts, MemoryState,
    ModelFacts, ModelMetadata, ModelStatus, ProcessState, SpareStatus, Status, unix_now,
};
pub use usage::UsageTotals;
pub use verb::{AllReport, Outcome, PolicyChanges, ReloadReport, Verb};
