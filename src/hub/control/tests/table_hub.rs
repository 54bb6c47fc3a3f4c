//! A hub that answers from a table.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use parking_lot::Mutex;
use prometheus::proto::MetricFamily;

use crate::api::{
    Activity, ApiError, CapturedRequest, Decision, DecisionsReport, EndedRequest, FleetEntry,
    FleetReport, GroupFacts, HistoryReport, HubFacts, LoadTime, MemberLoad, ModelFacts,
    ModelHistory, Origin, Outcome, PoliciesReport, PolicyFacts, RecordingReport, ReloadReport,
    RequestInFlight, Status, Verb, VerbPlan, WantedDecisions,
};
use crate::hub::control::Hub;
use crate::hub::lifecycle::Models;

/// A hub of two models: `alpha` carries out every verb, `beta` is already in the final state. `full` is over its
/// group's cap; no other exists.
#[derive(Clone, Default)]
pub(in crate::hub::control) struct TableHub {
    pub(in crate::hub::control) page_disabled: bool,
    pub(in crate::hub::control) calls: Arc<Mutex<Vec<String>>>,
    /// The models of the status; without any, one that has the default in all its fields.
    pub(in crate::hub::control) models: Arc<Mutex<Vec<(ModelFacts, Activity)>>>,
    pub(in crate::hub::control) ended: Arc<Mutex<Vec<EndedRequest>>>,
    pub(in crate::hub::control) in_flight: Arc<Mutex<Vec<RequestInFlight>>>,
    pub(in crate::hub::control) log_path: Arc<Mutex<String>>,
    pub(in crate::hub::control) is_drained: Arc<Mutex<bool>>,
    pub(in crate::hub::control) times_asked: Arc<AtomicUsize>,
}

impl TableHub {
    /// Number of times that its status was asked for.
    pub(in crate::hub::control) fn times_asked(&self) -> usize {
        self.times_asked.load(Ordering::Relaxed)
    }
}

impl Hub for TableHub {
    fn status(&self) -> Status {
        let hub = HubFacts {
            groups: vec![GroupFacts::default()],
            has_keys: true,
            edits_config: true,
            capture: true,
            log_path: self.log_path.lock().clone(),
            ..HubFacts::default()
        };
        self.times_asked.fetch_add(1, Ordering::Relaxed);
        let mut models = self.models.lock().clone();
        if models.is_empty() {
            models.push(Default::default());
        }
        let models = models.into_iter();
        let models: Vec<_> = models
            .map(|(facts, activity)| (Arc::new(facts), activity))
            .collect();
        Status::build(&hub, &models, 1)
    }

    fn meters(&self) -> Vec<MetricFamily> {
        Vec::new()
    }

    fn ended_after(&self, number: u64) -> Vec<EndedRequest> {
        let ended = self.ended.lock();
        let after = ended.iter().filter(|request| request.number > number);
        after.cloned().collect()
    }

    async fn plan(&self, _verb: Verb, model: &str) -> Result<VerbPlan, ApiError> {
        Ok(VerbPlan {
            model: model.to_owned(),
            ..VerbPlan::default()
        })
    }

    fn history(&self) -> HistoryReport {
        let models = [(
            "alpha".to_owned(),
            ModelHistory {
                loads: vec![LoadTime::default()],
                ..ModelHistory::default()
            },
        )];
        HistoryReport {
            models: models.into(),
            ..HistoryReport::default()
        }
    }

    fn in_flight(&self) -> Vec<RequestInFlight> {
        self.in_flight.lock().clone()
    }

    fn cancel(&self, id: &str) -> usize {
        self.calls.lock().push(format!("cancel {id}"));
        let in_flight = self.in_flight.lock();
        in_flight.iter().filter(|request| request.id == id).count()
    }

    fn captured(&self, _: &str) -> Result<CapturedRequest, ApiError> {
        Ok(CapturedRequest::default())
    }

    fn policies(&self) -> PoliciesReport {
        PoliciesReport {
            policies: vec![policy()],
            ..PoliciesReport::default()
        }
    }

    fn page_enabled(&self) -> bool {
        !self.page_disabled
    }

    fn decisions(&self, wanted: &WantedDecisions) -> DecisionsReport {
        self.calls.lock().push(format!("decisions {wanted:?}"));
        DecisionsReport {
            decisions: vec![Decision::default()],
            since: None,
        }
    }

    fn recording(&self) -> RecordingReport {
        RecordingReport::default()
    }

    fn start_recording(&self, file: Option<PathBuf>) -> Result<RecordingReport, ApiError> {
        self.calls.lock().push(format!("record {file:?}"));
        Ok(RecordingReport::default())
    }

    fn stop_recording(&self) -> RecordingReport {
        RecordingReport::default()
    }

    async fn run(&self, verb: Verb, model: &str, by: &'static str) -> Result<Outcome, ApiError> {
        let call = match by {
            "control API" => format!("{} {model}", verb.as_str()),
            by => format!("{} {model} by {by}", verb.as_str()),
        };
        self.calls.lock().push(call);
        match model {
            "alpha" => Ok(Outcome::Done),
            "beta" => Ok(Outcome::Already),
            "full" => {
                Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "no room").with_retry_after(7))
            }
            _ => Err(ApiError::new(StatusCode::NOT_FOUND, "no such model")),
        }
    }

    async fn reload(&self, start: bool) -> Result<ReloadReport, ApiError> {
        self.calls.lock().push(format!("reload {start}"));
        Ok(ReloadReport {
            started: vec!["alpha".to_owned()],
            ..ReloadReport::default()
        })
    }

    async fn restart(&self) -> Result<u32, ApiError> {
        self.calls.lock().push("restart".to_owned());
        Ok(7)
    }

    fn request_shutdown(&self, models: Models) {
        self.calls.lock().push(format!("shutdown {models:?}"));
    }

    fn readiness(&self) -> Result<(), ApiError> {
        self.model_readiness("alpha")
    }

    fn model_readiness(&self, model: &str) -> Result<(), ApiError> {
        self.member_load(model)?;
        match *self.is_drained.lock() {
            true => {
                let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "drained");
                Err(error.with_retry_after(10))
            }
            false => Ok(()),
        }
    }

    fn member_load(&self, model: &str) -> Result<MemberLoad, ApiError> {
        match model {
            "alpha" => Ok(MemberLoad::default()),
            _ => Err(ApiError::new(StatusCode::NOT_FOUND, "no such model")),
        }
    }

    fn fleet(&self) -> FleetReport {
        FleetReport {
            drained: *self.is_drained.lock(),
            entries: vec![FleetEntry::default()],
            ..FleetReport::default()
        }
    }

    async fn drain(&self) -> FleetReport {
        *self.is_drained.lock() = true;
        self.fleet()
    }

    async fn undrain(&self) -> FleetReport {
        *self.is_drained.lock() = false;
        self.fleet()
    }
}

pub(in crate::hub::control) fn policy() -> PolicyFacts {
    PolicyFacts {
        name: "alpha.lua".to_owned(),
        origin: Origin::File,
        hooks: vec!["on_load".to_owned()],
        observes: vec!["model.failed".to_owned()],
        models: vec!["auto".to_owned()],
        denies: false,
        calls: 3,
        verdicts: 2,
        failures: 1,
        average_seconds: Some(0.5),
        last_error: None,
        switched_off: false,
    }
}
