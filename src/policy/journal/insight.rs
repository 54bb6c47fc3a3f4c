//! The part of [`Policies`] that reports: the policies in force, their recent decisions, and the recording.
//! Commands and the control API read it; the lifecycle reports changes and outcomes to it.

use std::path::Path;

use prometheus::proto::MetricFamily;

use crate::api::{DecisionsReport, PoliciesReport, RecordingReport, WantedDecisions};
use crate::core::interface::questions::ModelQuestion;
use crate::policy::interface::hook::Hook;
use crate::policy::{Eviction, Policies};

impl Policies {
    /// Records a change that no policy decided: `what` (`unload`, `shutdown`, …) is done to `model`, or to the
    /// hub, at the request of `by`. Returns the number for [`Policies::note_outcome`].
    pub fn note_change(&self, model: Option<&str>, what: &str, by: &str, why: Option<&str>) -> u64 {
        let now = self.shared.world.clock();
        self.shared.witness.history.done(now, model, what, by, why)
    }

    /// Records the outcome of such a change, unless an event has given it before.
    pub fn note_outcome(&self, number: u64, outcome: &str) {
        self.shared.witness.history.ended(number, outcome);
    }

    /// Why a model is no longer in memory, asked before the observers hear of it.
    pub(crate) fn eviction(&self, model: &str) -> Eviction {
        self.shared.witness.history.eviction(model)
    }

    /// Records that the last verdict of `on_idle` about `model` was not carried out: a request came.
    pub fn note_overtaken(&self, model: &str) {
        let history = &self.shared.witness.history;
        history.overtaken(model, Hook::Idle, "a request");
    }

    /// Records that the last verdict of `on_trouble` about `model` was not carried out: its worker answered.
    pub fn note_recovered(&self, model: &str) {
        let history = &self.shared.witness.history;
        history.overtaken(model, Hook::Trouble, "an answer");
    }

    /// Records that the last verdict on such a question about `model` was not carried out: the model was another
    /// by the time it came.
    pub(crate) fn note_discarded(&self, model: &str, question: &ModelQuestion) {
        let hook = match question {
            ModelQuestion::Load(_) => Hook::Load,
            ModelQuestion::Idle => Hook::Idle,
            ModelQuestion::Exit(_) => Hook::Exit,
            ModelQuestion::Trouble { .. } => Hook::Trouble,
        };
        let history = &self.shared.witness.history;
        history.overtaken(model, hook, "another change of the model");
    }

    /// Writes every call of a hook to that new file from now on, without texts of requests; see docs/testing-policies.md.
    ///
    /// # Errors
    /// One sentence: when a recording is on, or the file is no new `*.jsonl` in a folder that can be
    /// written.
    pub fn start_recording(&self, file: &Path) -> Result<(), String> {
        self.shared.witness.recorder.start(file)
    }

    /// Ends the recording; returns when its last line is written.
    pub fn stop_recording(&self) {
        self.shared.witness.recorder.stop();
    }

    /// The current recording, or the last one.
    pub fn recording(&self) -> RecordingReport {
        self.shared.witness.recorder.report()
    }

    /// The recent decisions with their outcomes.
    pub fn decisions(&self, wanted: &WantedDecisions) -> DecisionsReport {
        self.shared.witness.history.report(wanted)
    }

    /// The report of each policy in force, in the order they are asked.
    pub fn report(&self) -> PoliciesReport {
        PoliciesReport {
            policies: self.shared.set.load().facts(),
            warnings: self.warnings(),
            memory_bytes: u64::try_from(self.memory_bytes()).unwrap_or(u64::MAX),
        }
    }

    /// The times of the hooks of each policy in force.
    pub fn meters(&self) -> Vec<MetricFamily> {
        self.shared.set.load().meters().collect()
    }
}
