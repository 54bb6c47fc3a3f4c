//! The task that measures: the memory of each worker, the machine's available memory, and how far the downloads
//! are that loads wait for.
//!
//! It publishes the workers' memory into the registry, where policies and the status look, and reports the
//! machine's to the supervisor, which may have loads waiting for memory. It measures models that have a process, knows no
//! states beyond "something is on its way", and holds up no task: the probe is asked on a blocking thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::messages::{Mailbox, Message};
use crate::api::{Download, MemoryState, SystemMemory, unix_now};
use crate::config::Config;
use crate::core::hands::MEASURE_AGAIN;
use crate::hub::published::learned::fingerprint;
use crate::hub::published::registry::{Downloading, Measured, Model, Registry};
use crate::memory::Probe;
use crate::model_files::repository_of;
use crate::runtime_file::RuntimeModels;
use crate::worker::keep_below;

/// Interval of measurements while a model is loading or unloading.
const BUSY: Duration = Duration::from_secs(1);
/// Interval otherwise.
const CALM: Duration = Duration::from_secs(5);
/// Measuring takes at most one part in so many of the time: a Linux that walks the pages of a hundred
/// gigabytes needs a second.
const SHARE: u32 = 10;

pub(super) struct Sampler {
    pub(super) probe: Arc<dyn Probe>,
    pub(super) registry: Arc<Registry>,
    pub(super) mailbox: Mailbox,
    /// The workers that have a process.
    pub(super) models_up: watch::Receiver<RuntimeModels>,
    /// The last look at files.
    pub(super) upkeep: Option<JoinHandle<()>>,
}

/// The pauses between the measurements that a load waits for: memory that is back at once is seen at once, and what
/// takes seconds to come back is not asked for all the time.
#[derive(Debug, Default)]
struct Again(Option<(Instant, Duration)>);

impl Again {
    const FIRST: Duration = Duration::from_millis(2);

    /// The pause before the measurement that is asked for now.
    fn next(&mut self, now: Instant) -> Duration {
        let last = self.0.filter(|(at, _)| now < *at + 2 * MEASURE_AGAIN);
        let pause = last.map_or(Self::FIRST, |(_, pause)| MEASURE_AGAIN.min(pause * 2));
        self.0 = Some((now + pause, pause));
        pause
    }
}

/// One worker, with its launch settings.
struct Worker {
    model: String,
    pid: u32,
    settings: u64,
}

impl Sampler {
    /// Measures until the supervisor has ended.
    pub(super) async fn run(mut self) {
        let mut look = interval(BUSY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        let mut again = Again::default();
        loop {
            tokio::select! {
                changed = self.models_up.changed() => match changed {
                    // A worker has come or gone: at the next look.
                    Ok(()) => last = None,
                    Err(_) => return,
                },
                _ = look.tick() => {
                    self.note_history();
                    if self.is_due(last) {
                        let began = Instant::now();
                        self.sample().await;
                        last = Some((began, began.elapsed()));
                    }
                }
                () = self.registry.measure_soon.notified() => {
                    sleep(again.next(Instant::now())).await;
                    self.tell(self.system().await);
                }
            }
        }
    }

    /// Notes the figures of the moment for the charts, as last measured.
    fn note_history(&self) {
        let table = self.registry.table.load();
        let memory = self.registry.memory.load();
        let used = (memory.total.zip(memory.available))
            .map(|(total, available)| total.saturating_sub(available));
        let models = table.models.iter().map(Arc::as_ref);
        (self.registry.history.lock()).sample(unix_now(), models, used);
    }

    /// True if all is to be measured again; the last time began then and took so long.
    fn is_due(&self, last: Option<(Instant, Duration)>) -> bool {
        let Some((began, took)) = last else {
            return true;
        };
        let pause = if self.registry.is_busy() { BUSY } else { CALM };
        // A look may come a little early.
        began.elapsed() + BUSY / 10 >= pause.max(took * SHARE)
    }

    /// Measures the machine.
    pub(super) async fn system(&self) -> SystemMemory {
        let probe = Arc::clone(&self.probe);
        let measured = tokio::task::spawn_blocking(move || probe.system()).await;
        measured.unwrap_or_default()
    }

    /// Publishes the memory of each worker, and reports the machine's.
    async fn sample(&mut self) {
        let workers: Vec<Worker> = self.models_up.borrow().workers.iter().map(worker).collect();
        let (probe, registry) = (Arc::clone(&self.probe), Arc::clone(&self.registry));
        let measured = tokio::task::spawn_blocking(move || {
            let system = probe.system();
            for worker in workers {
                if let Some(bytes) = probe.group(worker.pid) {
                    note(&registry, &worker, bytes, system);
                }
            }
            for spare in registry.spares.seen() {
                registry.spares.measured(spare.pid, probe.group(spare.pid));
            }
            let news = registry.learned.lock().unsaved();
            if let Some(news) = news {
                news.write();
            }
            let history = registry.history.lock().unsaved();
            if let Some(history) = history {
                history.write();
            }
            system
        });
        // A disk that does not answer holds up no other task.
        if self.upkeep.as_ref().is_none_or(JoinHandle::is_finished) {
            let registry = Arc::clone(&self.registry);
            self.upkeep = Some(tokio::task::spawn_blocking(move || upkeep(&registry)));
        }
        self.tell(measured.await.unwrap_or_default());
    }

    /// Tells the supervisor, which publishes it: only there it is known what is on its way back.
    fn tell(&self, system: SystemMemory) {
        let learned = self.registry.learned.lock();
        let peaks = learned.peaks().map(|(name, peak)| (name.clone(), peak));
        self.mailbox.send(Message::Measured {
            system,
            peaks: peaks.collect(),
        });
    }
}

/// Sees which files of models are missing and how far downloads are, and keeps the logs of workers to their size.
fn upkeep(registry: &Registry) {
    registry.look_for_paths();
    let table = registry.table.load_full();
    for model in &table.models {
        model
            .downloading
            .store(downloading(model, &table.config).map(Arc::new));
    }
    let most = table.config.worker_log_max;
    for model in table.models.iter().filter(|_| most > 0) {
        let Some(file) = model.log_file(&table.config) else {
            continue;
        };
        let hub_model = &*model.name;
        let log = file.display();
        match keep_below(most, &file) {
            Ok(false) => {}
            Ok(true) => tracing::info!(hub_model, %log, "its log was full and goes on empty"),
            Err(error) => {
                tracing::warn!(hub_model, %log, %error, "its full log could not be kept");
            }
        }
    }
}

/// The download of a model's repository, while it loads and a file is not whole.
fn downloading(model: &Model, config: &Config) -> Option<Downloading> {
    let facts = model.facts.load();
    if facts.memory_state != MemoryState::Loading {
        return None;
    }
    let (pid, repository) = (facts.pid?, repository_of(config.model(&model.name)?)?);
    let (bytes, total) = repository.incomplete()?;
    let before = model.downloading.load_full();
    let before = before.filter(|before| before.pid == pid);
    Some(Downloading {
        pid,
        at_first: before.map_or(bytes, |before| before.at_first),
        now: Download { bytes, total },
    })
}

fn worker(worker: &crate::runtime_file::RuntimeWorker) -> Worker {
    Worker {
        model: worker.model.clone(),
        pid: worker.pid,
        settings: fingerprint(&worker.settings),
    }
}

fn note(registry: &Registry, worker: &Worker, bytes: u64, system: SystemMemory) {
    let table = registry.table.load();
    let Some(model) = table.present_or_leaving(&worker.model) else {
        return;
    };
    let measured = Measured {
        pid: worker.pid,
        bytes,
        available: system.available,
    };
    model.measured.store(Some(Arc::new(measured)));
    let state = model.facts.load().memory_state;
    if !state.holds_memory() {
        // A process that stays up without the weights says nothing about the model.
        return;
    }
    let mut learned = registry.learned.lock();
    let is_loaded = state != MemoryState::Loading;
    learned.note_held(&worker.model, worker.settings, bytes, is_loaded);
    model.learn(&learned);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_measured_at_once_and_then_less_and_less_often() {
        let (mut again, mut now) = (Again::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = again.next(now);
            pauses.push(pause.as_millis());
            now += pause + Duration::from_millis(1);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 100, 100]);
        now += Duration::from_secs(1);
        assert_eq!(again.next(now).as_millis(), 2);
    }
}
