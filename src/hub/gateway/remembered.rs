//! What a hub remembers of responses: those that it keeps, and the models that made others. The hub that takes over goes
//! on with it, for a client that continues a response is not to notice.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::protocol::openai::response_owners::{HandedOwners, ResponseOwners};
use super::protocol::responses::{HandedKept, Kept};

/// All responses that a hub remembers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RememberedResponses {
    /// The models that made them.
    pub(super) owners: ResponseOwners,
    /// Those of workers that keep none.
    pub(super) kept: Kept,
}

/// The responses of a hub for the one that takes over.
#[derive(Default, Serialize, Deserialize)]
pub struct HandedResponses {
    owners: HandedOwners,
    kept: HandedKept,
}

impl fmt::Debug for HandedResponses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandedResponses")
    }
}

impl RememberedResponses {
    /// Those that go along to the hub that takes over.
    pub fn handed_on(&self) -> HandedResponses {
        HandedResponses {
            owners: self.owners.handed_on(),
            kept: self.kept.handed_on(),
        }
    }

    /// Goes on with those of the hub before.
    pub fn inherit(&self, handed: HandedResponses) {
        self.owners.inherit(handed.owners);
        self.kept.inherit(handed.kept);
    }
}
