//! Watches running workers: the bytes that their requests get, and the workers' activity while none come.
//!
//! It only measures. It reports trouble to the supervisor every few seconds while it lasts, and policies decide in
//! `on_trouble`. It records the length of silences that end.
//!
//! A worker can hang and answer `/health`. What gives it away, whatever the dialect, is that requests wait
//! for it and no byte comes, or nothing but errors.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::sleep;

use super::messages::{Mailbox, Message};
use crate::api::MemoryState;
use crate::config::Config;
use crate::core::silence::{Doings, POLL_EVERY};
use crate::core::vital_signs::Largest;
use crate::core::watchdog::{Sample, WorkerWatch};
use crate::hub::published::registry::{Model, Registry};
use crate::policy::{Trouble, TroubleKind, prompt_chars};
use crate::runtime_file::RuntimeModels;
use crate::worker::group::{CpuTimes, Group};

/// Checks per `stall_timeout`, if that is short.
const CHECKS: u32 = 10;
const MIN_POLL: Duration = Duration::from_millis(20);
/// A smaller change of memory, in bytes, is no sign of life.
const MEMORY_STEP: u64 = 1024 * 1024;
/// Larger bodies are not read: as many characters as bytes are assumed.
const LARGEST_READ: usize = 16 << 20;

pub(super) struct Watchdog {
    registry: Arc<Registry>,
    mailbox: Mailbox,
    /// The workers that have a process.
    models_up: watch::Receiver<RuntimeModels>,
    watched: HashMap<String, Watched>,
}

/// One worker, as of the last check.
#[derive(Default)]
struct Watched {
    watch: WorkerWatch<Still>,
    prompt_chars: Option<usize>,
}

/// The figures that do not change in an inactive worker.
#[derive(Debug, Default)]
struct Still {
    cpu_times: CpuTimes,
    log_size: Option<u64>,
    memory_bytes: Option<u64>,
    /// Requests that came and went: they may be why it logs.
    requests: (usize, u64),
}

/// True if a model is still in the trouble that was told of.
pub(super) fn lasts(model: &Model, kind: TroubleKind, spell: u64) -> bool {
    match kind {
        TroubleKind::Silent => model.gate.signs.vitals().signs == spell,
        TroubleKind::Errors => {
            let errors = model.gate.errors();
            errors.is_some_and(|errors| errors.row == spell)
        }
    }
}

impl Watchdog {
    pub(super) fn new(
        registry: &Arc<Registry>,
        mailbox: &Mailbox,
        models_up: watch::Receiver<RuntimeModels>,
    ) -> Self {
        Self {
            registry: Arc::clone(registry),
            mailbox: mailbox.clone(),
            models_up,
            watched: HashMap::new(),
        }
    }

    /// Looks until the supervisor has ended.
    pub(super) async fn run(mut self) {
        loop {
            let config = Arc::clone(&self.registry.table.load().config);
            let look = look_every(&config);
            sleep(look).await;
            if self.models_up.has_changed().is_err() {
                return;
            }
            let models = self.registry.table.load().models.clone();
            self.watched
                .retain(|name, _| models.iter().any(|model| *model.name == **name));
            for model in models {
                let facts = model.facts.load_full();
                match facts.pid {
                    Some(pid) if facts.memory_state == MemoryState::Loaded => {
                        self.look(&model, pid, look, &config).await;
                    }
                    _ => drop(self.watched.remove(&*model.name)),
                }
            }
        }
    }

    async fn look(&mut self, model: &Arc<Model>, pid: u32, pause: Duration, config: &Config) {
        let watched = self.watched.entry(model.name.to_string()).or_default();
        watched.read_prompt(model).await;
        watched
            .listen(model, pid, pause, config, &self.registry)
            .await;
        let basis = watched.basis(model, &self.registry);
        let errors = model.gate.errors();
        let troubles = watched.watch.troubles(basis, errors, config.stall_timeout);
        for (trouble, spell) in troubles {
            let model = model.name.to_string();
            self.mailbox.send(Message::Trouble {
                model,
                pid,
                trouble,
                spell,
            });
        }
    }
}

impl Watched {
    /// Finds out how long the longest prompt is that may be waiting.
    async fn read_prompt(&mut self, model: &Model) {
        match model.gate.signs.largest() {
            Largest::Same => {}
            Largest::Unknown => self.prompt_chars = None,
            Largest::Body(pieces) => {
                let counted = tokio::task::spawn_blocking(move || chars_in(&pieces)).await;
                self.prompt_chars = counted.ok();
            }
        }
    }

    /// Looks whether a byte has come, and at the worker's activity while none comes.
    async fn listen(
        &mut self,
        model: &Model,
        pid: u32,
        pause: Duration,
        config: &Config,
        registry: &Registry,
    ) {
        let vitals = model.gate.signs.vitals();
        if let Some(ended) = self.watch.listen(pid, vitals, pause) {
            let mut learned = registry.learned.lock();
            learned.note_silence(&model.name, self.prompt_chars, ended.as_secs_f64());
        }
        if !self.watch.is_awaited() {
            model.gate.signs.forget_largest();
            return;
        }
        let now = registry.begun.elapsed();
        let still = Still::of(model, pid, config).await;
        self.watch.look(now, pause, still);
    }

    /// The facts about it that are not measured look by look.
    fn basis(&self, model: &Model, registry: &Registry) -> Trouble {
        let learned = registry.learned.lock();
        Trouble {
            prompt_chars: self.prompt_chars,
            expected_seconds: learned.expected_silence(&model.name, self.prompt_chars),
            requests: model.gate.active(),
            ..Trouble::of(TroubleKind::Silent)
        }
    }
}

impl Still {
    async fn of(model: &Model, pid: u32, config: &Config) -> Self {
        let gate = &model.gate;
        let requests = (gate.active(), gate.given_back());
        let memory_bytes = model.measured().map(|measured| measured.bytes);
        let log_file = model.log_file(config);
        let read = tokio::task::spawn_blocking(move || read(pid, log_file));
        let (cpu_times, log_size) = read.await.unwrap_or_default();
        Self {
            cpu_times,
            log_size,
            memory_bytes,
            requests,
        }
    }
}

impl Sample for Still {
    fn doings_since(&self, before: &Self, _: Duration) -> Doings {
        let logged = self.log_size != before.log_size && self.requests == before.requests;
        let memory = match (self.memory_bytes, before.memory_bytes) {
            (Some(now), Some(before)) => now.abs_diff(before) >= MEMORY_STEP,
            // An unknown size may have changed.
            (now, before) => now != before,
        };
        Doings {
            cpu: self.cpu_times.since(&before.cpu_times),
            moved: logged || memory,
        }
    }
}

fn read(pid: u32, log_file: Option<PathBuf>) -> (CpuTimes, Option<u64>) {
    let cpu_times = Group::led_by(pid).map(Group::cpu_times).unwrap_or_default();
    let log = log_file.and_then(|path| std::fs::metadata(path).ok());
    (cpu_times, log.map(|log| log.len()))
}

fn look_every(config: &Config) -> Duration {
    match config.stall_timeout {
        Duration::ZERO => POLL_EVERY,
        limit => (limit / CHECKS).clamp(MIN_POLL, POLL_EVERY),
    }
}

/// Characters of the prompt in a body.
fn chars_in(pieces: &[Bytes]) -> usize {
    let size = pieces.iter().map(Bytes::len).sum();
    if size > LARGEST_READ {
        return size;
    }
    let mut body = BytesMut::with_capacity(size);
    for piece in pieces {
        body.put_slice(piece);
    }
    serde_json::from_slice(&body).map_or(0, |body| prompt_chars(&body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn still(log_size: u64, memory_bytes: Option<u64>, requests: usize) -> Still {
        Still {
            cpu_times: CpuTimes::default(),
            log_size: Some(log_size),
            memory_bytes,
            requests: (requests, 0),
        }
    }

    #[test]
    fn a_log_counts_unless_it_may_be_the_clients_who_make_it_grow() {
        let before = still(10, Some(MEMORY_STEP), 1);
        let moved = |now: Still| now.doings_since(&before, POLL_EVERY).moved;
        assert!(!moved(still(10, Some(MEMORY_STEP), 1)));
        assert!(moved(still(11, Some(MEMORY_STEP), 1)));
        assert!(!moved(still(11, Some(MEMORY_STEP), 2)));
        assert!(!moved(still(10, Some(2 * MEMORY_STEP - 1), 1)));
        assert!(moved(still(10, Some(2 * MEMORY_STEP), 1)));
        assert!(moved(still(10, None, 1)));
    }

    #[test]
    fn the_prompt_is_counted_as_policies_count_it() {
        let pieces = |text: &'static str| [Bytes::from(&text[..9]), Bytes::from(&text[9..])];
        assert_eq!(chars_in(&pieces("{\"prompt\": \"hello\"}")), 5);
        assert_eq!(chars_in(&pieces("no JSON at all")), 0);
    }
}
