//! The interface from the control API to the lifecycle: a trait, so that its tests and the dashboard's can
//! answer from a table.

use std::future::Future;
use std::path::PathBuf;

use http::StatusCode;
use prometheus::proto::MetricFamily;

use super::configuration::ConfigEditor;
use crate::api::{
    ApiError, CapturedRequest, DecisionsReport, EndedRequest, FleetReport, HistoryReport,
    MemberLoad, Outcome, PoliciesReport, RecordingReport, ReloadReport, RequestInFlight, Status,
    Verb, VerbPlan, WantedDecisions,
};
use crate::hub::lifecycle::{Lifecycle, Models};

/// The hub as its control API sees it; see [`Lifecycle`] for what each call promises.
pub trait Hub: ConfigEditor + Clone + Send + Sync + 'static {
    /// The snapshot of the moment.
    fn status(&self) -> Status;

    /// The meters of all models, by model and then by name.
    fn meters(&self) -> Vec<MetricFamily>;

    /// Of the requests that ended last, those with a higher number than `number`, the oldest first.
    fn ended_after(&self, number: u64) -> Vec<EndedRequest>;

    /// The consequences of loading that model now.
    fn plan(
        &self,
        verb: Verb,
        model: &str,
    ) -> impl Future<Output = Result<VerbPlan, ApiError>> + Send;

    /// The last hour in figures.
    fn history(&self) -> HistoryReport;

    /// The requests in flight.
    fn in_flight(&self) -> Vec<RequestInFlight>;

    /// Cancels the requests in flight with that id; returns their number.
    fn cancel(&self, id: &str) -> usize;

    /// The kept bodies of the newest request with that id, and of its answer.
    fn captured(&self, id: &str) -> Result<CapturedRequest, ApiError>;

    /// The report of each policy.
    fn policies(&self) -> PoliciesReport;

    /// True if `GET /hub` serves the dashboard.
    fn page_enabled(&self) -> bool;

    /// The decisions of the query, with their outcomes.
    fn decisions(&self, wanted: &WantedDecisions) -> DecisionsReport;

    /// The current recording of hook calls, or the last one.
    fn recording(&self) -> RecordingReport;

    /// Begins a recording, in a new file of that path or, without one, in the folder of the logs.
    fn start_recording(&self, file: Option<PathBuf>) -> Result<RecordingReport, ApiError>;

    /// Ends the recording, if one is on; may wait for the disk.
    fn stop_recording(&self) -> RecordingReport;

    /// Does `verb` at the request of `by`, and returns at the final state. Dropping the future undoes nothing.
    fn run(
        &self,
        verb: Verb,
        model: &str,
        by: &'static str,
    ) -> impl Future<Output = Result<Outcome, ApiError>> + Send;

    /// Reads hub.yaml again and reconciles; with `start` false nothing is started.
    fn reload(&self, start: bool) -> impl Future<Output = Result<ReloadReport, ApiError>> + Send;

    /// Replaces this hub by another one; returns the process id of that one afterwards.
    fn restart(&self) -> impl Future<Output = Result<u32, ApiError>> + Send;

    /// Asks for a shutdown and returns at once.
    fn request_shutdown(&self, models: Models);

    /// `Err` if gateways are to send no requests.
    fn readiness(&self) -> Result<(), ApiError>;

    /// The same for one model.
    fn model_readiness(&self, model: &str) -> Result<(), ApiError>;

    /// How busy a model is.
    fn member_load(&self, model: &str) -> Result<MemberLoad, ApiError>;

    /// What the gateway of the fleet knows of the hub.
    fn fleet(&self) -> FleetReport;

    /// Takes the hub out of its fleet, and returns when that is done.
    fn drain(&self) -> impl Future<Output = FleetReport> + Send;

    /// Undoes that.
    fn undrain(&self) -> impl Future<Output = FleetReport> + Send;
}

impl Hub for Lifecycle {
    fn status(&self) -> Status {
        Lifecycle::status(self)
    }

    fn meters(&self) -> Vec<MetricFamily> {
        Lifecycle::meters(self)
    }

    fn ended_after(&self, number: u64) -> Vec<EndedRequest> {
        Lifecycle::ended_after(self, number)
    }

    async fn plan(&self, verb: Verb, model: &str) -> Result<VerbPlan, ApiError> {
        Lifecycle::plan(self, verb, model).await
    }

    fn history(&self) -> HistoryReport {
        Lifecycle::history(self)
    }

    fn in_flight(&self) -> Vec<RequestInFlight> {
        self.requests_in_flight()
    }

    fn cancel(&self, id: &str) -> usize {
        Lifecycle::cancel(self, id)
    }

    fn captured(&self, id: &str) -> Result<CapturedRequest, ApiError> {
        Lifecycle::captured(self, id)
    }

    fn policies(&self) -> PoliciesReport {
        Lifecycle::policies(self).report()
    }

    fn page_enabled(&self) -> bool {
        self.config().enable_status_page
    }

    fn decisions(&self, wanted: &WantedDecisions) -> DecisionsReport {
        Lifecycle::policies(self).decisions(wanted)
    }

    fn recording(&self) -> RecordingReport {
        Lifecycle::policies(self).recording()
    }

    fn start_recording(&self, file: Option<PathBuf>) -> Result<RecordingReport, ApiError> {
        let file = file.unwrap_or_else(|| {
            let name = jiff::Zoned::now().strftime("policies-%Y%m%d-%H%M%S.jsonl");
            self.config().log_path.join(name.to_string())
        });
        let policies = Lifecycle::policies(self);
        policies
            .start_recording(&file)
            .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error))?;
        tracing::info!(file = %file.display(), "calls of policies are recorded");
        Ok(policies.recording())
    }

    fn stop_recording(&self) -> RecordingReport {
        let policies = Lifecycle::policies(self);
        policies.stop_recording();
        policies.recording()
    }

    async fn run(&self, verb: Verb, model: &str, by: &'static str) -> Result<Outcome, ApiError> {
        let policies = Lifecycle::policies(self);
        let number = policies.note_change(Some(model), verb.as_str(), by, None);
        let result = Lifecycle::run(self, verb, model).await;
        let outcome = match &result {
            Ok(Outcome::Done) => verb.done().to_owned(),
            Ok(Outcome::Already) => format!("was already {}", verb.done()),
            Err(error) => format!("refused with {}: {}", error.status, error.message),
        };
        policies.note_outcome(number, &outcome);
        result
    }

    async fn reload(&self, start: bool) -> Result<ReloadReport, ApiError> {
        Lifecycle::reload(self, start).await
    }

    async fn restart(&self) -> Result<u32, ApiError> {
        Lifecycle::restart(self).await
    }

    fn request_shutdown(&self, models: Models) {
        Lifecycle::request_shutdown(self, models);
    }

    fn readiness(&self) -> Result<(), ApiError> {
        Lifecycle::readiness(self)
    }

    fn model_readiness(&self, model: &str) -> Result<(), ApiError> {
        Lifecycle::model_readiness(self, model)
    }

    fn member_load(&self, model: &str) -> Result<MemberLoad, ApiError> {
        Lifecycle::member_load(self, model)
    }

    fn fleet(&self) -> FleetReport {
        Lifecycle::fleet(self)
    }

    async fn drain(&self) -> FleetReport {
        Lifecycle::drain(self).await
    }

    async fn undrain(&self) -> FleetReport {
        Lifecycle::undrain(self).await
    }
}
