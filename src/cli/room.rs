//! The memory of this machine beside what models take: whether one more fits.
//!
//! The hub's figures are used while one runs, since it knows what ended workers give back; else the machine is
//! measured here.

use serde::Serialize;

use super::hub_yaml::HubYaml;
use crate::api::Status;
use crate::memory::{self, Probe as _, ThisMachine};
use crate::model_files::ModelFiles;

/// Bytes besides the weights: the worker's own memory,
const WORKER: u64 = 300 << 20;
/// and a share of the weights for what is computed and kept while requests run.
const SHARE: u64 = 10;

/// The answer to the question if a model fits into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fits {
    /// It is in memory.
    Loaded,
    /// Now, beside what is there.
    Yes,
    /// Once others have left.
    Alone,
    /// Not on this machine.
    No,
    /// The memory cannot be measured.
    Unknown,
}

impl Fits {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Yes => "yes",
            Self::Alone => "alone",
            Self::No => "no",
            Self::Unknown => "-",
        }
    }
}

/// Bytes of this machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes that can be taken now.
    pub(super) available: Option<u64>,
    /// The most bytes that models can ever have.
    pub(super) most: Option<u64>,
}

impl Room {
    /// The memory that a running hub reports, or else that of this machine.
    pub(super) fn of(status: Option<&Status>) -> Self {
        let measured = || ThisMachine.system();
        let hubs = status.map(|status| status.memory);
        let system = hubs.filter(|memory| memory.total.is_some());
        let system = system.unwrap_or_else(measured);
        Self {
            available: system.available.map(|bytes| bytes + system.returning),
            most: system.total.map(memory::usable),
        }
    }

    /// Tells if so many bytes fit.
    pub(super) fn fits(&self, need: u64) -> Fits {
        match (self.available, self.most) {
            (Some(available), _) if need <= available => Fits::Yes,
            (_, Some(most)) if need <= most => Fits::Alone,
            (Some(_), Some(_)) => Fits::No,
            _ => Fits::Unknown,
        }
    }
}

/// Bytes that a model takes in memory, about.
pub(super) fn need(model: &ModelFiles) -> u64 {
    model.weights + model.weights / SHARE + WORKER
}

/// The status of the hub of hub.yaml, if it runs.
pub(super) async fn status(hub_yaml: &HubYaml) -> Option<Status> {
    let hub = hub_yaml.hub_address().hub().await.ok()??;
    hub.client.status().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_fits_now_or_alone_or_not_at_all() {
        let room = Room {
            available: Some(10),
            most: Some(40),
        };
        for (need, fits) in [
            (10, Fits::Yes),
            (11, Fits::Alone),
            (40, Fits::Alone),
            (41, Fits::No),
        ] {
            assert_eq!(room.fits(need), fits, "{need}");
        }
        let unmeasured = Room {
            available: None,
            most: None,
        };
        assert_eq!(unmeasured.fits(1), Fits::Unknown);
    }
}
