//! The requests that wait before a model of the real hub: for its load, or for their turn.

use std::sync::Arc;

use tokio::time::sleep_until;

use super::registry::Model;
use crate::api::ApiError;
use crate::core::place::{self, Place};
use crate::core::queue::Decision;

/// A request on its way to the supervisor, which waits for the model to be loaded.
pub type Arrival = place::Arrival<Arc<Model>>;

/// A request's place in a model's queue.
pub type Ticket = Place<Arc<Model>>;

impl Ticket {
    /// Completes when it is time to ask again.
    ///
    /// # Errors
    /// 429 after `queue_timeout`; 503 when the model is stopped or the hub shuts down.
    pub async fn called(&mut self) -> Result<(), ApiError> {
        loop {
            let wake = match self.look() {
                Decision::Ask => return Ok(()),
                Decision::Refuse(why) => return Err(why),
                Decision::Until(at) => self.model().gate.runtime.moment(at),
            };
            tokio::select! {
                biased;
                () = self.bell().notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
