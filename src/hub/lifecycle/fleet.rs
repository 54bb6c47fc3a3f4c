//! The lifecycle as a gateway sees it: ready or not, as a whole and for each model. None of it starts or loads
//! anything.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::{Lifecycle, Model};
use crate::api::{ApiError, FleetReport, FleetState, MemberLoad, MemoryState, shown};
use crate::hub::published::fleet::{Membership, Wish};

/// `Retry-After` of a hub that is not ready, in seconds.
const LATER: u64 = 10;

/// Longest wait for a gateway when the hub is drained, and when it is about to end.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

impl Lifecycle {
    /// The hub's place in a fleet.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.registry.membership
    }

    /// Whether a gateway may send requests to this hub: `Err` while it is drained or shuts down, or has no started
    /// model.
    ///
    /// # Errors
    /// 503 with the reason and a `Retry-After`.
    pub fn readiness(&self) -> Result<(), ApiError> {
        self.takes_from_gateways()?;
        let models = &self.registry.table.load().models;
        match models.iter().any(|model| model.facts.load().is_started()) {
            true => Ok(()),
            false => Err(unavailable("No model of this hub is started.".to_owned())),
        }
    }

    /// Whether a gateway may send requests for that model.
    ///
    /// # Errors
    /// 404 for an unknown name; 503 with the reason and a `Retry-After`.
    pub fn model_readiness(&self, name: &str) -> Result<(), ApiError> {
        let model = self.named(name)?;
        self.takes_from_gateways()?;
        match model.facts.load().is_started() {
            true => Ok(()),
            false => Err(unavailable(format!("Model `{name}` is not started."))),
        }
    }

    /// How busy a model is.
    ///
    /// # Errors
    /// 404 for an unknown name.
    pub fn member_load(&self, name: &str) -> Result<MemberLoad, ApiError> {
        let model = self.named(name)?;
        let (facts, activity) = (model.facts.load(), model.activity());
        Ok(MemberLoad {
            is_loaded: facts.memory_state == MemoryState::Loaded,
            context_length: facts.context_length,
            created: self.config().modified_at,
            running: activity.active_requests,
            waiting: activity.waiting_requests + activity.parked_requests,
            tokens_per_second: activity.usage.last_tokens_per_second,
            load_seconds: facts.load_seconds,
        })
    }

    /// The model of exactly that name.
    fn named(&self, name: &str) -> Result<Arc<Model>, ApiError> {
        let table = self.registry.table.load();
        let model = table.models.iter().find(|model| &*model.name == name);
        model.cloned().ok_or_else(|| {
            let message = format!("hub.yaml has no model `{}`.", shown(name));
            ApiError::new(StatusCode::NOT_FOUND, message)
        })
    }

    /// Whether requests that come from a gateway are taken, of whatever model. Costs a request two looks.
    ///
    /// # Errors
    /// 503 with the reason and a `Retry-After`: gateways then ask another hub.
    pub fn takes_from_gateways(&self) -> Result<(), ApiError> {
        if self.shutdown.borrow().is_some() {
            return Err(unavailable("The hub is shutting down.".to_owned()));
        }
        match self.registry.membership.is_drained() {
            true => Err(unavailable("The hub is drained.".to_owned())),
            false => Ok(()),
        }
    }

    /// What the gateway knows of this hub.
    pub fn fleet(&self) -> FleetReport {
        let config = self.config();
        let membership = &self.registry.membership;
        let mut report = membership.report();
        report.drained = membership.is_drained();
        report.not_ready = self.readiness().err().map(|error| error.message);
        report.gateway = config.fleet.as_ref().map(|fleet| fleet.gateway.clone());
        report.advertise = config.fleet.as_ref().map(|fleet| fleet.advertise.clone());
        if config.fleet.is_none() {
            report.state = FleetState::Alone;
        } else if report.state == FleetState::Alone {
            report.state = FleetState::Joining;
        }
        report
    }

    /// Takes the hub out of its fleet and then refuses what gateways send; what clients send themselves is
    /// answered. Returns when the gateway has no entry of it any more, or cannot be told.
    pub async fn drain(&self) -> FleetReport {
        let membership = &self.registry.membership;
        if self.config().fleet.is_some() {
            membership.wish(Wish::Out, DRAIN_LIMIT).await;
        } else {
            membership.wish(Wish::Out, Duration::ZERO).await;
        }
        membership.set_drained(true);
        tracing::info!("the hub is drained");
        self.fleet()
    }

    /// Undoes [`Self::drain`]. Returns when the gateway knows the hub again, or cannot be told.
    pub async fn undrain(&self) -> FleetReport {
        let membership = &self.registry.membership;
        membership.set_drained(false);
        let limit = match self.config().fleet.is_some() {
            true => DRAIN_LIMIT,
            false => Duration::ZERO,
        };
        membership.wish(Wish::In, limit).await;
        tracing::info!("the hub is not drained any more");
        self.fleet()
    }

    /// Takes the hub out of its fleet, as it is about to end.
    pub async fn leave_fleet(&self) {
        if self.config().fleet.is_some() {
            self.registry.membership.wish(Wish::Out, LEAVE_LIMIT).await;
        }
    }
}

fn unavailable(message: String) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).with_retry_after(LATER)
}
