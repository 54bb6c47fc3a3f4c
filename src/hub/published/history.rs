//! The last hour in figures, for charts: of each model tokens, requests, memory and loads, of the machine its memory.
//!
//! The sampler notes a point every ten seconds; a point is what happened in the ten seconds before. Rings of bounded
//! size hold an hour. The hub that takes over a running one gets them with its [`Legacy`](super::legacy::Legacy); one
//! that follows a killed one reads a file that is written every five minutes, beside the runtime state.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::registry::Model;
use crate::api::{HistoryReport, LoadTime, ModelHistory, UsageTotals};
use crate::files;

/// Seconds between two points.
const STEP: u64 = 10;

/// Number of points: an hour.
const POINTS: usize = 360;

/// Most loads of a model that are kept.
const LOADS: usize = 100;

/// Steps between two writings of the file.
const WRITE_EVERY: u64 = 30;

/// Its name, in the folder of the logs.
const FILE: &str = "hub_history.json";

/// The rings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::hub) struct History {
    /// The step of the newest point: Unix seconds, in [`STEP`]s.
    newest: u64,
    /// The machine's memory in use.
    memory: Ring<u64>,
    models: BTreeMap<String, Rings>,
    #[serde(skip)]
    file: Option<PathBuf>,
    #[serde(skip)]
    written: u64,
}

/// Points, the newest last; `None` where nothing is known.
type Ring<T> = VecDeque<Option<T>>;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Rings {
    tokens: Ring<u64>,
    requests: Ring<u64>,
    memory: Ring<u64>,
    loads: VecDeque<LoadTime>,
    /// The counters at the newest point.
    before: UsageTotals,
}

impl Rings {
    /// Forgets what is older than the ring is long.
    fn bound(&mut self) {
        for ring in [&mut self.tokens, &mut self.requests, &mut self.memory] {
            bound(ring);
        }
    }

    fn skip(&mut self, steps: usize) {
        for ring in [&mut self.tokens, &mut self.requests, &mut self.memory] {
            ring.extend(std::iter::repeat_n(None, steps));
        }
    }

    /// Forgets all but the counters.
    fn clear(&mut self) {
        *self = Self {
            before: self.before,
            ..Self::default()
        };
    }

    /// Notes a load that is another one than the last; its time may have gone through a text.
    fn note_load(&mut self, load: LoadTime) {
        if (self.loads.back()).is_none_or(|last| last.time + 1.0 < load.time) {
            self.loads.push_back(load);
            if self.loads.len() > LOADS {
                self.loads.pop_front();
            }
        }
    }

    fn is_empty(&self) -> bool {
        let is_still = |ring: &Ring<u64>| ring.iter().all(|point| point.unwrap_or(0) == 0);
        is_still(&self.requests) && is_still(&self.memory) && self.loads.is_empty()
    }
}

fn bound<T>(ring: &mut VecDeque<T>) {
    while ring.len() > POINTS {
        ring.pop_front();
    }
}

impl History {
    /// Reads what a killed hub has written into the folder of the logs; nothing if that cannot be read.
    pub(in crate::hub) fn recall(folder: &Path) -> Self {
        let file = folder.join(FILE);
        let read = files::read_own(&file).ok();
        let read = read.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let mut history = read.unwrap_or_default();
        for rings in history.models.values_mut() {
            // The counters of this hub begin at 0.
            rings.before = UsageTotals::default();
        }
        history.file = Some(file);
        history.written = history.newest;
        history
    }

    /// Goes on from those of the hub before, which still had the counters that this one has.
    pub(in crate::hub) fn inherit(&mut self, before: Self) {
        let file = self.file.take();
        *self = Self {
            file,
            written: before.newest,
            ..before
        };
    }

    /// Their copy for the hub that takes over.
    pub(in crate::hub) fn handed_on(&self) -> Self {
        Self {
            file: None,
            ..self.clone()
        }
    }

    /// Notes a point if it is time for one; `used` is the machine's memory in use.
    pub(in crate::hub) fn sample<'a>(
        &mut self,
        now: f64,
        models: impl Iterator<Item = &'a Model>,
        used: Option<u64>,
    ) {
        let step = now as u64 / STEP;
        if step == self.newest {
            return;
        }
        if step < self.newest {
            // The clock was set back: the points are of no time that there is.
            self.memory.clear();
            self.models.values_mut().for_each(Rings::clear);
            self.newest = 0;
        }
        let missed = match self.newest {
            0 => 0,
            newest => {
                usize::try_from(step - newest - 1).map_or(POINTS, |missed| missed.min(POINTS))
            }
        };
        self.newest = step;
        self.memory.extend(std::iter::repeat_n(None, missed));
        self.memory.push_back(used);
        bound(&mut self.memory);
        let since = now - (POINTS as u64 * STEP) as f64;
        let mut known = std::mem::take(&mut self.models);
        for model in models {
            let activity = model.activity();
            let facts = model.facts.load();
            let mut rings = known.remove(&*model.name).unwrap_or_default();
            rings.skip(missed);
            let totals = activity.usage;
            let before = std::mem::replace(&mut rings.before, totals);
            let tokens = totals
                .completion_tokens
                .saturating_sub(before.completion_tokens);
            rings.tokens.push_back(Some(tokens));
            let requests = totals.requests.saturating_sub(before.requests);
            rings.requests.push_back(Some(requests));
            let held = facts.memory_state.holds_memory();
            let bytes = if held { activity.memory_bytes } else { Some(0) };
            rings.memory.push_back(bytes);
            rings.bound();
            if let (Some(time), Some(seconds)) = (facts.last_load_at, facts.load_seconds) {
                rings.note_load(LoadTime { time, seconds });
            }
            rings.loads.retain(|load| load.time >= since);
            self.models.insert(model.name.to_string(), rings);
        }
    }

    /// The figures to be drawn: all rings are of one length.
    pub(in crate::hub) fn report(&self) -> HistoryReport {
        let points = self.memory.len();
        let padded = |ring: &Ring<u64>| -> Ring<u64> {
            let missing = points.saturating_sub(ring.len());
            let kept = ring.iter().skip(ring.len().saturating_sub(points));
            std::iter::repeat_n(None, missing)
                .chain(kept.copied())
                .collect()
        };
        let models = self.models.iter().filter(|(_, rings)| !rings.is_empty());
        let models = models.map(|(name, rings)| {
            let tokens = padded(&rings.tokens).into_iter();
            let history = ModelHistory {
                tokens_per_second: tokens
                    .map(|tokens| tokens.map(|tokens| tokens as f64 / STEP as f64))
                    .collect(),
                requests: padded(&rings.requests).into(),
                memory_bytes: padded(&rings.memory).into(),
                loads: rings.loads.iter().copied().collect(),
            };
            (name.clone(), history)
        });
        HistoryReport {
            step: STEP,
            end: self.newest * STEP,
            memory_bytes: self.memory.iter().copied().collect(),
            models: models.collect(),
        }
    }

    /// The file and what is to be written there, if it is time for that.
    pub(in crate::hub) fn unsaved(&mut self) -> Option<Writing> {
        if self.newest < self.written + WRITE_EVERY {
            return None;
        }
        self.written = self.newest;
        self.copy()
    }

    /// The same at any time.
    pub(in crate::hub) fn copy(&self) -> Option<Writing> {
        Some(Writing {
            file: self.file.clone()?,
            history: self.handed_on(),
        })
    }
}

/// The figures to be written, without the lock.
#[derive(Debug)]
pub(in crate::hub) struct Writing {
    file: PathBuf,
    history: History,
}

impl Writing {
    /// Replaces the file; a failure costs a hub that follows a killed one its charts, and is logged.
    pub(in crate::hub) fn write(&self) {
        if let Err(error) = files::replace_private(&self.file, &self.history) {
            tracing::warn!(path = %self.file.display(), %error, "the figures of the last hour are not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that has answered with so many tokens in all.
    fn answered(model: &Model, tokens: u64) {
        model.usage.add(Some(1), Some(tokens), None);
    }

    fn tokens(history: &History) -> Vec<Option<f64>> {
        history.report().models["alpha"].tokens_per_second.clone()
    }

    const BEGAN: f64 = 1_764_000_000.0;

    #[test]
    fn a_point_tells_of_the_ten_seconds_before_it() {
        let (mut history, alpha, idle) =
            (History::default(), Model::new("alpha"), Model::new("idle"));
        let mut sample =
            |after: f64, used| history.sample(BEGAN + after, [&alpha, &idle].into_iter(), used);
        answered(&alpha, 20);
        sample(0.0, Some(7));
        answered(&alpha, 30);
        sample(5.0, Some(8));
        sample(10.0, Some(9));
        // The hub was held up for half a minute.
        answered(&alpha, 10);
        sample(41.0, None);
        let report = history.report();
        assert_eq!((report.step, report.end), (10, BEGAN as u64 + 40));
        assert_eq!(report.memory_bytes, [Some(7), Some(9), None, None, None]);
        assert_eq!(
            tokens(&history),
            [Some(2.0), Some(3.0), None, None, Some(1.0)]
        );
        let requests = &report.models["alpha"].requests;
        assert_eq!(*requests, [Some(1), Some(1), None, None, Some(1)]);
        assert_eq!(report.models.len(), 1, "nothing happened to the other one");
    }

    #[test]
    fn an_hour_is_kept_whatever_the_clock_does() {
        let (mut history, alpha) = (History::default(), Model::new("alpha"));
        answered(&alpha, 10);
        for step in 0..1000 {
            history.sample(
                BEGAN + f64::from(step) * 10.0,
                [&alpha].into_iter(),
                Some(1),
            );
        }
        assert_eq!(history.report().memory_bytes.len(), POINTS);
        assert!(
            history.report().models.is_empty(),
            "the answer is an hour ago"
        );
        history.sample(BEGAN + 1e9, [&alpha].into_iter(), Some(1));
        assert_eq!(history.report().memory_bytes.len(), POINTS);
        history.sample(BEGAN, [&alpha].into_iter(), Some(1));
        assert_eq!(history.report().memory_bytes, [Some(1)]);
        assert_eq!(history.report().end, BEGAN as u64);
        assert!(
            history.report().models.is_empty(),
            "nothing is counted twice"
        );
    }

    #[test]
    fn a_load_is_noted_once_with_its_time() {
        let (mut history, alpha) = (History::default(), Model::new("alpha"));
        let facts = crate::api::ModelFacts {
            last_load_at: Some(BEGAN - 1.0),
            load_seconds: Some(2.5),
            ..Default::default()
        };
        alpha.facts.store(std::sync::Arc::new(facts));
        for after in [0.0, 10.0] {
            history.sample(BEGAN + after, [&alpha].into_iter(), None);
        }
        let load = LoadTime {
            time: BEGAN - 1.0,
            seconds: 2.5,
        };
        assert_eq!(history.report().models["alpha"].loads, [load]);
        history.sample(BEGAN + 4000.0, [&alpha].into_iter(), None);
        assert!(!history.report().models.contains_key("alpha"));
    }

    #[test]
    fn a_hub_that_takes_over_counts_on_and_one_after_a_killed_one_from_nought() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::recall(folder.path());
        let alpha = Model::new("alpha");
        answered(&alpha, 100);
        history.sample(BEGAN, [&alpha].into_iter(), None);
        history.copy().unwrap().write();
        answered(&alpha, 10);

        let mut heir = History::default();
        heir.inherit(history.handed_on());
        heir.sample(BEGAN + 10.0, [&alpha].into_iter(), None);
        assert_eq!(tokens(&heir), [Some(10.0), Some(1.0)]);

        let again = Model::new("alpha");
        answered(&again, 10);
        let mut later = History::recall(folder.path());
        later.sample(BEGAN + 20.0, [&again].into_iter(), None);
        assert_eq!(tokens(&later), [Some(10.0), None, Some(1.0)]);

        std::fs::write(folder.path().join(FILE), "no json").unwrap();
        assert!(History::recall(folder.path()).report().models.is_empty());
    }

    #[test]
    fn the_file_is_written_every_five_minutes() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::recall(folder.path());
        let mut written = 0;
        for second in 0..1800 {
            history.sample(BEGAN + f64::from(second), std::iter::empty(), None);
            written += usize::from(history.unsaved().is_some());
        }
        assert!((6..=7).contains(&written), "{written}");
    }
}
