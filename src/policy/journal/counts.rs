//! Counts the questions and verdicts of each policy, times its hooks, and reports slow ones.
//!
//! Written only under the lock of the Lua state that the function runs in, so a count is a plain load and
//! store; the atomics are for the readers of the report and of the metrics, who take no lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec};
use tokio::time::Instant;

use crate::policy::interface::hook::Hook;

/// Number of untimed calls after one that was [`QUICK`]: reading the clock twice takes a tenth of such a call.
const UNTIMED: u64 = 63;

/// Number of first calls that are all timed. Before it is reached, no hook is reported as slow.
const KNOWN: u64 = 20;

/// Of calls that take no longer than this, some are timed.
const QUICK: Duration = Duration::from_micros(100);

/// Longest average of a hook that decides.
const MAX_AVERAGE: Duration = Duration::from_millis(1);

/// Upper bounds in seconds, from a bundled policy to the longest time that a hook has.
const BOUNDS: [f64; 8] = [
    0.000_005, 0.000_025, 0.000_1, 0.000_5, 0.001, 0.01, 0.05, 0.25,
];

/// The counts of one policy since it was loaded.
#[derive(Debug)]
pub(crate) struct Counts {
    calls: AtomicU64,
    verdicts: AtomicU64,
    took: HistogramVec,
    hooks: [Times; Hook::COUNT],
}

/// The times of one hook, or of all observers.
#[derive(Debug, Default)]
struct Times {
    /// Made by the first timed call.
    took: OnceLock<Histogram>,
    /// Calls until the next one that is timed.
    untimed: AtomicU64,
    /// Number of timed calls that took nearly as long as they may.
    nearly: AtomicU64,
}

impl Counts {
    /// Counts at 0.
    pub(crate) fn new(policy: &str) -> Self {
        let opts = HistogramOpts::new(
            "mlx_hub_policy_call_duration_seconds",
            "Calls of a hook since its policy was loaded, of those that were timed.",
        );
        let opts = opts.const_label("policy", policy).buckets(BOUNDS.to_vec());
        Self {
            calls: AtomicU64::new(0),
            verdicts: AtomicU64::new(0),
            took: HistogramVec::new(opts, &["hook"]).expect("the names and the bounds are valid"),
            hooks: Default::default(),
        }
    }

    /// Counts a call of a hook that decides. Timed are the first ones, those after one that took long, and some of the
    /// others.
    pub(crate) fn call<R>(&self, hook: Hook, call: impl FnOnce() -> R) -> R {
        add(&self.calls, 1);
        let untimed = &self.hooks[hook as usize].untimed;
        match untimed.load(Ordering::Relaxed) {
            0 => self.time(hook, call),
            calls => {
                untimed.store(calls - 1, Ordering::Relaxed);
                call()
            }
        }
    }

    /// Times an observer.
    pub(crate) fn observer<R>(&self, call: impl FnOnce() -> R) -> R {
        self.time(Hook::Observer, call)
    }

    fn time<R>(&self, hook: Hook, call: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let result = call();
        self.took(hook, begun.elapsed());
        result
    }

    fn took(&self, hook: Hook, time: Duration) {
        let times = &self.hooks[hook as usize];
        if time > hook.allowed().mul_f64(0.8) {
            add(&times.nearly, 1);
        }
        let made = || self.took.with_label_values(&[hook.name()]);
        times.took.get_or_init(made).observe(time.as_secs_f64());
        let is_sampled = time <= QUICK && times.timed() >= KNOWN;
        let untimed = if is_sampled { UNTIMED } else { 0 };
        times.untimed.store(untimed, Ordering::Relaxed);
    }

    /// The policy returned a verdict.
    pub(crate) fn decided(&self) {
        add(&self.verdicts, 1);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn verdicts(&self) -> u64 {
        self.verdicts.load(Ordering::Relaxed)
    }

    /// Seconds of a call of a hook, over those that were timed.
    pub(crate) fn average_seconds(&self) -> Option<f64> {
        let hooks = Hook::ALL.into_iter().map(|hook| &self.hooks[hook as usize]);
        let (timed, seconds) = hooks.fold((0, 0.0), |(timed, seconds), times| {
            (timed + times.timed(), seconds + times.seconds())
        });
        (timed > 0).then(|| seconds / timed as f64)
    }

    /// Collects the times of its hooks.
    pub(crate) fn collect(&self) -> Vec<MetricFamily> {
        self.took.collect()
    }

    /// A sentence for the status about each hook that takes too long.
    pub(crate) fn warnings(&self, policy: &str) -> impl Iterator<Item = String> {
        let hooks = Hook::ALL.into_iter().chain([Hook::Observer]);
        hooks.filter_map(move |hook| self.hooks[hook as usize].warning(policy, hook))
    }
}

impl Times {
    fn timed(&self) -> u64 {
        self.took.get().map_or(0, Histogram::get_sample_count)
    }

    fn seconds(&self) -> f64 {
        self.took.get().map_or(0.0, Histogram::get_sample_sum)
    }

    fn warning(&self, policy: &str, hook: Hook) -> Option<String> {
        let timed = self.timed();
        if timed < KNOWN {
            return None;
        }
        let nearly = self.nearly.load(Ordering::Relaxed);
        let average = Duration::from_secs_f64(self.seconds() / timed as f64);
        let (name, allowed) = (hook.name(), hook.allowed().as_millis());
        // Nothing waits for an observer.
        if hook != Hook::Observer && average > MAX_AVERAGE {
            return Some(format!(
                "Policy `{policy}` is slow: `{name}` takes {:.1} ms on average, and what it decides about \
                 waits for it, one after the other.",
                average.as_secs_f64() * 1e3
            ));
        }
        (nearly * 20 >= timed).then(|| {
            format!(
                "Policy `{policy}` is slow: of {timed} calls of `{name}`, {nearly} took nearly the \
                 {allowed} ms that it may, or more."
            )
        })
    }
}

/// There is one writer at a time. Returns the new value.
fn add(counter: &AtomicU64, more: u64) -> u64 {
    let value = counter.load(Ordering::Relaxed).saturating_add(more);
    counter.store(value, Ordering::Relaxed);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_counted_and_quick_ones_are_timed_now_and_then() {
        let counts = Counts::new("a.lua");
        assert_eq!(counts.average_seconds(), None);
        assert!(counts.collect()[0].get_metric().is_empty());
        let timed = || counts.hooks[Hook::Idle as usize].timed();
        let call = |calls| {
            for _ in 0..calls {
                counts.call(Hook::Idle, || ());
            }
        };
        call(KNOWN - 1);
        counts.took(Hook::Idle, QUICK);
        assert_eq!((counts.calls(), timed()), (KNOWN - 1, KNOWN));
        call(UNTIMED);
        assert_eq!((counts.calls(), timed()), (KNOWN - 1 + UNTIMED, KNOWN));
        call(1);
        assert_eq!(timed(), KNOWN + 1);
        counts.took(Hook::Idle, QUICK * 2);
        call(1);
        assert_eq!(timed(), KNOWN + 3);
        assert!(counts.average_seconds().is_some());
        let families = counts.collect();
        let shown = &families[0].get_metric()[0];
        assert_eq!(shown.get_histogram().get_sample_count(), timed());
        let labels = shown.get_label().iter();
        let labels: Vec<_> = labels.map(|label| (label.name(), label.value())).collect();
        assert_eq!(labels, [("hook", "on_idle"), ("policy", "a.lua")]);
    }

    /// The warning about a hook whose calls took these milliseconds.
    fn said(hook: Hook, milliseconds: impl IntoIterator<Item = u64>) -> String {
        let counts = Counts::new("a.lua");
        for time in milliseconds {
            counts.took(hook, Duration::from_millis(time));
        }
        counts.warnings("a.lua").collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_hook_that_takes_long_is_named_with_its_figure() {
        insta::assert_snapshot!(said(Hook::Request, [40; 20]), @"Policy `a.lua` is slow: `on_request` takes 40.0 ms on average, and what it decides about waits for it, one after the other.");
        assert_eq!(said(Hook::Request, [40; 19]), "", "too few to tell");
        assert_eq!(said(Hook::Load, [1; 100]), "");
        let rarely = (0..100).map(|call| if call < 5 { 210 } else { 0 });
        insta::assert_snapshot!(said(Hook::Observer, rarely), @"Policy `a.lua` is slow: of 100 calls of `hub.on`, 5 took nearly the 250 ms that it may, or more.");
        let once = (0..100).map(|call| if call == 0 { 49 } else { 0 });
        assert_eq!(said(Hook::Request, once), "");
        assert_eq!(said(Hook::Observer, [100; 100]), "", "nobody waits for it");
    }
}
