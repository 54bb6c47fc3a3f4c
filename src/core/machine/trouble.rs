//! A worker that runs and does not serve: the policies are asked, and it is replaced if they say so.
//!
//! Measurements come with [`Event::Trouble`](super::Event::Trouble), every few seconds while it lasts.
//! A worker that is to be replaced is ended at once, which cuts its requests; those that come meanwhile
//! wait for the next one.

use std::time::Duration;

use super::entry::Next;
use super::load::seconds_or_zero;
use super::{About, Effect, Machine, Now, Phase};
use crate::core::interface::questions::{Trouble, TroubleKind, TroubleVerdict};

/// The policies' last verdict, by kind of trouble.
#[derive(Debug, Clone, Default)]
pub(super) struct Troubles {
    silent: Leniency,
    errors: Leniency,
    /// Time from the worker's end to its restart.
    pause: Duration,
}

#[derive(Debug, Clone, Default)]
struct Leniency {
    /// They need not be asked before.
    keep_until: Duration,
    /// This spell is to be left alone.
    left: Option<u64>,
}

impl Troubles {
    fn said(&mut self, kind: TroubleKind) -> &mut Leniency {
        match kind {
            TroubleKind::Silent => &mut self.silent,
            TroubleKind::Errors => &mut self.errors,
        }
    }
}

impl Machine {
    /// Has `on_trouble` asked.
    pub(super) fn trouble(
        &mut self,
        model: &str,
        pid: u32,
        trouble: Trouble,
        spell: u64,
        now: Now,
    ) {
        let Some(i) = self.index(model) else { return };
        let entry = &mut self.entries[i];
        if entry.phase != Phase::Loaded || entry.pid != Some(pid) {
            return;
        }
        let said = entry.troubles.said(trouble.kind);
        if said.left == Some(spell) || now.at < said.keep_until {
            return;
        }
        let trouble = Trouble {
            crashes: entry.crashes_so_far(now),
            ..trouble
        };
        self.put_question(i, About::Trouble { trouble, spell });
    }

    /// Does what `on_trouble` says.
    pub(super) fn decide_trouble(
        &mut self,
        i: usize,
        trouble: &Trouble,
        spell: u64,
        verdict: TroubleVerdict,
        now: Now,
    ) {
        let said = self.entries[i].troubles.said(trouble.kind);
        match verdict {
            TroubleVerdict::Keep(seconds) => said.keep_until = now.at + seconds_or_zero(seconds),
            TroubleVerdict::Leave => said.left = Some(spell),
            TroubleVerdict::Restart { seconds, reason } => {
                let reason = reason.unwrap_or_else(|| in_words(trouble));
                self.entries[i].troubles.pause = seconds_or_zero(seconds);
                self.begin_replacement(i, reason);
            }
        }
    }

    fn begin_replacement(&mut self, i: usize, reason: String) {
        let entry = &mut self.entries[i];
        entry.phase = Phase::Ending {
            next: Next::Replace,
            held: true,
        };
        let (model, launch) = (entry.spec.name.clone(), entry.launch);
        self.effects.push(Effect::CloseGate { model });
        self.effects.push(Effect::Recycle { launch, reason });
    }

    /// The worker that hung is gone. Those who wait for the next one need not wait for longer; without
    /// them it comes after the policy's pause.
    pub(super) fn replaced(&mut self, i: usize, reason: &str, now: Now) {
        let entry = &mut self.entries[i];
        entry.be_failed(None, reason, now);
        if entry.is_wanted() {
            return self.begin_start(i, now);
        }
        let after = entry.troubles.pause;
        entry.retry_at = Some(now.at + after);
        self.effects.push(Effect::Wake { after });
    }
}

/// The trouble, for a policy that does not say why it ends the worker.
fn in_words(trouble: &Trouble) -> String {
    match trouble.kind {
        TroubleKind::Silent => {
            let seconds = trouble.silent_seconds.round();
            format!("requests got no byte for {seconds} s")
        }
        TroubleKind::Errors => format!(
            "{} answers in a row were errors, the last one {}",
            trouble.errors,
            trouble.last_status.unwrap_or_default()
        ),
    }
}
