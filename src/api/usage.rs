//! The totals of the requests to a model since the hub started.

use serde::{Deserialize, Serialize};

/// Totals of one model.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct UsageTotals {
    /// Requests that were sent to its worker and have ended, however they did.
    pub requests: u64,
    /// Tokens of these requests, as far as the worker said.
    pub prompt_tokens: u64,
    /// Tokens of their answers, as far as the worker said.
    pub completion_tokens: u64,
    /// Tokens per second of the last answer that told its tokens.
    pub last_tokens_per_second: Option<f64>,
}
