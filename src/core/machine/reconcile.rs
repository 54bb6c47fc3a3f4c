//! Reconciles the models with another hub.yaml: starts some, stops some, keeps the rest.

use std::collections::HashSet;

use super::{Answer, Entry, Machine, Now, Phase, ReloadReport, Spec, Waiter};

/// A reload that waits until what it stops has ended.
#[derive(Debug)]
pub(super) struct Reload {
    waiter: Waiter,
    report: ReloadReport,
}

impl Machine {
    /// Models gone from hub.yaml are stopped, new `default` ones started, running ones whose launch
    /// settings `changed` restarted, all others left alone. With `start` false nothing is started.
    pub(super) fn reconcile(
        &mut self,
        waiter: Waiter,
        models: Vec<Spec>,
        changed: &HashSet<String>,
        start: bool,
        now: Now,
    ) {
        let mut report = ReloadReport::default();
        self.remove_missing(&models, &mut report);
        let (mut starts, mut restarts) = (Vec::new(), Vec::new());
        for spec in &models {
            let name = spec.name.clone();
            match self
                .entries
                .iter()
                .position(|entry| entry.spec.name == name)
            {
                None => {
                    self.entries.push(Entry::new(spec.clone()));
                    if spec.default && start {
                        starts.push(name)
                    } else {
                        report.unchanged.push(name)
                    }
                }
                Some(i) if self.entries[i].removed => {
                    // It comes back while its last process is still ending.
                    self.entries[i].removed = false;
                    self.entries[i].spec = spec.clone();
                    if spec.default && start {
                        starts.push(name)
                    } else {
                        report.unchanged.push(name)
                    }
                }
                Some(i) => {
                    self.entries[i].spec = spec.clone();
                    if changed.contains(&name) {
                        self.entries[i].times.load_took = None;
                    }
                    let down = matches!(self.entries[i].phase, Phase::Down(_))
                        || self.entries[i].phase.is_stopping();
                    if down || !changed.contains(&name) {
                        report.unchanged.push(name);
                        continue;
                    }
                    report.stopped.push(name.clone());
                    if start {
                        restarts.push(name);
                    } else {
                        self.begin_stop(i);
                    }
                }
            }
        }
        self.sort_as(&models);
        // What is to leave memory is on its way before anybody asks for room.
        for name in &restarts {
            if let Some(i) = self.index(name) {
                self.begin_restart(i, now);
            }
        }
        for name in &starts {
            if let Some(i) = self.index(name) {
                match self.entries[i].phase {
                    Phase::Down(_) => self.begin_start(i, now),
                    _ => self.begin_restart(i, now),
                }
            }
        }
        let names = models.iter().map(|spec| spec.name.clone());
        report.started = names
            .filter(|name| starts.contains(name) || restarts.contains(name))
            .collect();
        self.reloads.push(Reload { waiter, report });
    }

    fn remove_missing(&mut self, models: &[Spec], report: &mut ReloadReport) {
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            if entry.removed || models.iter().any(|spec| spec.name == entry.spec.name) {
                continue;
            }
            report.stopped.push(entry.spec.name.clone());
            let is_started =
                !matches!(self.entries[i].phase, Phase::Down(_)) || self.is_load_asked(i);
            self.entries[i].removed = true;
            if is_started {
                self.begin_stop(i);
            }
        }
    }

    /// hub.yaml's order; models it no longer names come last.
    fn sort_as(&mut self, models: &[Spec]) {
        let place = |entry: &Entry| {
            models
                .iter()
                .position(|spec| spec.name == entry.spec.name)
                .unwrap_or(usize::MAX)
        };
        self.entries.sort_by_key(place);
    }

    pub(super) fn forget_reload(&mut self, waiter: Waiter) {
        self.reloads.retain(|reload| reload.waiter != waiter);
    }

    /// Answers the reloads whose stopped models have all ended, and about whose started ones the policies have
    /// been asked.
    pub(super) fn answer_reloads(&mut self) {
        let is_asked = |i: &usize| self.is_load_asked(*i);
        let asked = (0..self.entries.len()).filter(is_asked);
        let asked: HashSet<String> = asked.map(|i| self.entries[i].spec.name.clone()).collect();
        let stopping: HashSet<String> = self
            .entries
            .iter()
            .filter(|entry| entry.phase.is_stopping() || entry.phase.is_restarting())
            .map(|entry| entry.spec.name.clone())
            .collect();
        let (waiting, done): (Vec<_>, Vec<_>) = std::mem::take(&mut self.reloads)
            .into_iter()
            .partition(|Reload { report, .. }| {
                report.stopped.iter().any(|name| stopping.contains(name))
                    || report.started.iter().any(|name| asked.contains(name))
            });
        self.reloads = waiting;
        for reload in done {
            self.answer(reload.waiter, Answer::Reloaded(reload.report));
        }
    }
}
