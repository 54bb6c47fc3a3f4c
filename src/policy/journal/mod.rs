//! The decisions of policies and their reasons: the history that `policy explain` shows, the counts of each
//! policy, and the recordings that `policy replay` decides again.

pub(super) mod counts;
pub(super) mod eviction;
pub(super) mod history;
mod insight;
pub(super) mod record;
pub(super) mod recorded;
pub(super) mod ruling;
pub(super) mod witness;
