//! The running totals of a model's requests: counted by the gateway without a lock, read by the status.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::api::UsageTotals;

/// Counters of one model, for as long as the hub knows it.
#[derive(Debug, Default)]
pub struct Usage {
    requests: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    /// The bits of a number of tokens per second; 0 for none yet.
    last_rate: AtomicU64,
}

impl Usage {
    /// Counts one request that has ended, with what is known of it.
    pub fn add(&self, prompt: Option<u64>, completion: Option<u64>, per_second: Option<f64>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(tokens) = prompt {
            self.prompt_tokens.fetch_add(tokens, Ordering::Relaxed);
        }
        if let Some(tokens) = completion {
            self.completion_tokens.fetch_add(tokens, Ordering::Relaxed);
        }
        if let Some(rate) = per_second {
            self.last_rate.store(rate.to_bits(), Ordering::Relaxed);
        }
    }

    /// Goes on counting from what they came to under the hub before.
    pub(in crate::hub) fn inherit(&self, totals: &UsageTotals) {
        self.requests.fetch_add(totals.requests, Ordering::Relaxed);
        self.prompt_tokens
            .fetch_add(totals.prompt_tokens, Ordering::Relaxed);
        self.completion_tokens
            .fetch_add(totals.completion_tokens, Ordering::Relaxed);
        if let Some(rate) = totals.last_tokens_per_second {
            self.last_rate.store(rate.to_bits(), Ordering::Relaxed);
        }
    }

    /// The totals of the moment.
    pub fn totals(&self) -> UsageTotals {
        let last_rate = self.last_rate.load(Ordering::Relaxed);
        UsageTotals {
            requests: self.requests.load(Ordering::Relaxed),
            prompt_tokens: self.prompt_tokens.load(Ordering::Relaxed),
            completion_tokens: self.completion_tokens.load(Ordering::Relaxed),
            last_tokens_per_second: (last_rate != 0).then(|| f64::from_bits(last_rate)),
        }
    }
}
