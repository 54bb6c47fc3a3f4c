//! The distributions and counts of a model that only `/metrics` shows. Counting takes no lock for an answer with
//! status 200; any other status is looked up in a table that only its first answer writes to.
//!
//! They begin at 0 with each hub, as Prometheus expects of a process that is another one.

use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};

use crate::core::interface::event::EventName;
use crate::core::interface::questions::RequestView;
use crate::policy::{Eviction, EvictionReason};

/// Upper bounds in seconds, from an embedding to a long answer.
const ANSWERS: [f64; 13] = [
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];

/// Upper bounds in seconds, from a small model in the page cache to a large one on a slow disk.
const LOADS: [f64; 9] = [0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 90.0, 300.0];

/// The meters of one model.
#[derive(Debug)]
pub struct Meters {
    answered: IntCounterVec,
    /// Of these, the counters of status 200, by door.
    ok: Vec<(&'static str, IntCounter)>,
    took: Histogram,
    first_token: Histogram,
    load: Histogram,
    evicted: IntCounterVec,
    failed: IntCounter,
}

impl Meters {
    /// Meters at 0.
    pub(super) fn new(model: &str) -> Self {
        let histogram = |name: &str, help: &str, bounds: &[f64]| {
            let opts = HistogramOpts::new(name, help)
                .const_label("model", model)
                .buckets(bounds.to_vec());
            Histogram::with_opts(opts).expect(VALID)
        };
        let counter = |name: &str, help: &str| Opts::new(name, help).const_label("model", model);
        let answered = IntCounterVec::new(
            counter(
                "mlx_hub_requests_total",
                "Requests to the model that have ended, by the client's API and the answer's status.",
            ),
            &["door", "status"],
        )
        .expect(VALID);
        let ok = RequestView::PROTOCOLS
            .map(|door| (door, answered.with_label_values(&[door, "200"])))
            .to_vec();
        let evicted = IntCounterVec::new(
            counter(
                "mlx_hub_evictions_total",
                "How often the model was taken out of memory, by the reason and the policy that decided it.",
            ),
            &["reason", "policy"],
        )
        .expect(VALID);
        for reason in EvictionReason::WITHOUT_POLICY {
            // One that appears with 1 has no increase.
            evicted.with_label_values(&[reason.as_str(), ""]);
        }
        Self {
            answered,
            ok,
            took: histogram(
                "mlx_hub_request_duration_seconds",
                "From a request's arrival to the end of its answer.",
                &ANSWERS,
            ),
            first_token: histogram(
                "mlx_hub_time_to_first_token_seconds",
                "From a request's arrival to the first event of its stream.",
                &ANSWERS,
            ),
            load: histogram(
                "mlx_hub_model_load_duration_seconds",
                "Loads that have succeeded.",
                &LOADS,
            ),
            evicted,
            failed: IntCounter::with_opts(counter(
                "mlx_hub_model_failures_total",
                "Loads that failed, and processes that ended unasked.",
            ))
            .expect(VALID),
        }
    }

    /// Counts a request that has ended.
    pub(crate) fn answered(
        &self,
        door: &str,
        status: u16,
        took: Duration,
        first_token_seconds: Option<f64>,
    ) {
        match self
            .ok
            .iter()
            .find(|(name, _)| status == 200 && *name == door)
        {
            Some((_, counter)) => counter.inc(),
            None => {
                let status = digits(status, &mut [0; 3]).to_owned();
                self.answered.with_label_values(&[door, &status]).inc();
            }
        }
        self.took.observe(took.as_secs_f64());
        if let Some(seconds) = first_token_seconds {
            self.first_token.observe(seconds);
        }
    }

    /// Counts a change of the model; a load that has ended took so many seconds.
    pub(in crate::hub) fn changed(&self, event: EventName, took: Option<f64>) {
        match event {
            EventName::ModelLoaded => {
                if let Some(took) = took {
                    self.load.observe(took);
                }
            }
            EventName::ModelFailed => self.failed.inc(),
            _ => {}
        }
    }

    /// Counts the end of its time in memory.
    pub(in crate::hub) fn evicted(&self, why: &Eviction) {
        let labels = [
            why.reason.as_str(),
            why.policy.as_deref().unwrap_or_default(),
        ];
        self.evicted.with_label_values(&labels).inc();
    }

    /// Collects their present values.
    pub(in crate::hub) fn collect(&self) -> Vec<MetricFamily> {
        [
            self.answered.collect(),
            self.took.collect(),
            self.first_token.collect(),
            self.load.collect(),
            self.evicted.collect(),
            self.failed.collect(),
        ]
        .concat()
    }
}

const VALID: &str = "the names and the bounds are valid";

/// A status in digits, without an allocation.
fn digits(status: u16, text: &mut [u8; 3]) -> &str {
    let status = status.min(999);
    *text = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    std::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_in_three_digits() {
        for (status, text) in [(200, "200"), (404, "404"), (7, "007"), (65_535, "999")] {
            assert_eq!(digits(status, &mut [0; 3]), text);
        }
    }

    #[test]
    fn loads_and_answers_are_counted() {
        let meters = Meters::new("alpha");
        meters.answered("openai", 200, Duration::from_secs(2), Some(0.2));
        meters.answered("openai", 200, Duration::from_secs(2), None);
        meters.answered("ollama", 499, Duration::from_secs(2), None);
        meters.changed(EventName::ModelLoaded, Some(3.0));
        // One that was taken over: nobody knows how long it took.
        meters.changed(EventName::ModelLoaded, None);
        meters.changed(EventName::ModelFailed, None);
        meters.changed(EventName::ModelStarted, None);
        let families = meters.collect();
        let family = |name: &str| {
            let found = families.iter().find(|family| family.name() == name);
            found.unwrap().get_metric()
        };
        let answers = family("mlx_hub_requests_total").iter();
        let total: f64 = answers.map(|metric| metric.get_counter().get_value()).sum();
        assert_eq!(total, 3.0);
        let count = |name| family(name)[0].get_histogram().get_sample_count();
        assert_eq!(count("mlx_hub_request_duration_seconds"), 3);
        assert_eq!(count("mlx_hub_time_to_first_token_seconds"), 1);
        assert_eq!(count("mlx_hub_model_load_duration_seconds"), 1);
        assert_eq!(
            family("mlx_hub_model_failures_total")[0]
                .get_counter()
                .get_value(),
            1.0
        );
    }
}
