//! Carries out one verdict of `on_request` before policies are asked about any other request: it grants a lease, a
//! place among the requests that wait for the model, or one in its queue.
//!
//! [`decide`] is that decision. The gateway calls it with the gates of the real hub, the simulation with
//! those of its own; both are [`Doors`]. Because the lease is taken before the next request is asked about,
//! a rule about `model.active` holds exactly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::place::{Arrival, Destination, Place};
use super::queue::QueueLimits;
use super::refusals::{model_required, not_for_key, routed_to_unknown, unknown_model};
use crate::api::ApiError;
use crate::config::Config;
use crate::core::interface::questions::{RequestVerdict, RequestView, Route, Wait};

/// A point in the life of a model that a verdict was reached at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Number of its stops.
    pub(crate) stops: u64,
    /// Number of changes, and of returned leases.
    pub(crate) changes: (u64, u64),
}

impl Seen {
    /// True if something has changed since the `earlier` point that may change a verdict about `model`.
    ///
    /// # Errors
    /// 503 when it has been stopped since: a verdict that was reached before does not undo that.
    pub(crate) fn is_past(self, earlier: Self, model: &str) -> Result<bool, ApiError> {
        if self.stops != earlier.stops {
            return Err(ApiError::being_stopped(model));
        }
        Ok(self.changes != earlier.changes)
    }
}

/// The models as a request finds them. What these methods do counts at once in what policies see.
pub(crate) trait Doors {
    /// A model.
    type Model: Destination;
    /// The right to send one request to its worker.
    type Grant;

    /// The model of that name, or else the first with that `model_path`.
    fn find(&self, name_or_path: &str) -> Option<Self::Model>;
    /// The configuration in force.
    fn config(&self) -> Arc<Config>;
    /// The names that policies answer for.
    fn declared(&self) -> Vec<String>;
    /// A grant, if the model is loaded and takes requests.
    fn try_acquire(&self, model: &Self::Model) -> Option<Self::Grant>;
    /// Tells the request to look what has been decided about it.
    fn bell(&self) -> <Self::Model as Destination>::Bell;

    /// Parks a request, as a policy said that looked at the model after `seen`. It takes turns under the
    /// key `client`.
    ///
    /// # Errors
    /// 429 when `queue_size` requests are parked; 503 when the model has been stopped since `seen` or the
    /// hub shuts down.
    fn park(
        &self,
        model: &Self::Model,
        seen: Seen,
        client: &Arc<str>,
        seconds: f64,
    ) -> Result<Place<Self::Model>, ApiError> {
        let config = self.config();
        let limits = config.model(model.name()).map(QueueLimits::of);
        // hub.yaml may name it no longer.
        let limits = limits.ok_or_else(|| ApiError::being_stopped(model.name()))?;
        Place::take(model, seen, self.bell(), client, limits, seconds)
    }
}

/// A model that a verdict is about.
#[derive(Debug)]
pub(crate) struct Target<M> {
    model: M,
    /// Taken before the verdict, so that neither a stop nor another change since then is overlooked.
    seen: Seen,
}

impl<M: Destination> Target<M> {
    /// The model that a request names, if it names one, as it is before the policies are asked.
    pub(crate) fn named(doors: &impl Doors<Model = M>, view: &RequestView) -> Option<Self> {
        Self::find(doors, view.model.as_deref()?)
    }

    fn find(doors: &impl Doors<Model = M>, name: &str) -> Option<Self> {
        let model = doors.find(name)?;
        let seen = model.seen();
        Some(Self { model, seen })
    }
}

/// A request that may go.
pub(crate) struct Admitted<D: Doors> {
    /// The model it goes to.
    pub(crate) model: D::Model,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) entrance: Entrance<D>,
}

/// The way to its lease.
pub(crate) enum Entrance<D: Doors> {
    /// It has it.
    Open(D::Grant),
    /// The model is not loaded, or leaves.
    Closed(Arrival<D::Model>),
}

/// The next step of a request.
pub(crate) enum Step<D: Doors> {
    Go(Admitted<D>),
    /// A policy wants the body.
    NeedBody,
    /// It is parked.
    Wait,
}

/// Does what the policies said about a request for `named`, which may have a `place` in the queue.
///
/// # Errors
/// The policies' refusal; when they abstain, 400 for a request that names no model and 404 for a
/// name that no model has; 403 for a model that is not for the client's key; 429 and 503 of [`Doors::park`].
pub(crate) fn decide<D: Doors>(
    doors: &D,
    named: Option<Target<D::Model>>,
    view: &RequestView,
    verdict: RequestVerdict,
    place: &mut Option<Place<D::Model>>,
) -> Result<Step<D>, ApiError> {
    let unknown = || match &view.model {
        Some(written) => unknown_model(written, &doors.config(), &doors.declared()),
        None => model_required(),
    };
    let route = match verdict {
        RequestVerdict::Reject(error) => return Err(error),
        RequestVerdict::NeedBody if view.body.is_none() => {
            if let Some(place) = place {
                place.step_aside();
            }
            return Ok(Step::NeedBody);
        }
        RequestVerdict::Wait(wait) => {
            let named = named.ok_or_else(unknown)?;
            must_be_for_key(doors, view, &named.model)?;
            return park(doors, &named, view, &wait, place);
        }
        // A policy that has the body and still asks for it abstains.
        RequestVerdict::NeedBody | RequestVerdict::Pass => None,
        RequestVerdict::Route(route) => Some(route),
    };
    let to = match route.as_ref().and_then(|route| route.model.as_deref()) {
        // The verdict named it just now; nothing can have changed since.
        Some(elsewhere) => {
            Target::find(doors, elsewhere).ok_or_else(|| routed_to_unknown(elsewhere))?
        }
        // Only now: a policy may know where to send a name that the hub does not know, or none.
        None => named.ok_or_else(unknown)?,
    };
    must_be_for_key(doors, view, &to.model)?;
    let entrance = match doors.try_acquire(&to.model) {
        Some(grant) => Entrance::Open(grant),
        None => Entrance::Closed(arrive(&to, view, place.as_ref())),
    };
    // The next in the queue is asked about now that this one is counted elsewhere.
    if let Some(place) = place.take() {
        place.leave();
    }
    Ok(Step::Go(Admitted {
        model: to.model,
        route,
        entrance,
    }))
}

/// Holds a request to the models of its key: what counts is the model that answers, or the name that a policy
/// answers for.
///
/// # Errors
/// 403 for another model.
fn must_be_for_key<D: Doors>(
    doors: &D,
    view: &RequestView,
    model: &D::Model,
) -> Result<(), ApiError> {
    let Some(key) = view.key() else {
        return Ok(());
    };
    let by_name = || {
        let written = view.model.as_deref();
        written.is_some_and(|written| key.lets_use(written) && doors.find(written).is_none())
    };
    match key.lets_use(model.name()) || by_name() {
        true => Ok(()),
        false => Err(not_for_key(key, model.name())),
    }
}

fn park<D: Doors>(
    doors: &D,
    named: &Target<D::Model>,
    view: &RequestView,
    wait: &Wait,
    place: &mut Option<Place<D::Model>>,
) -> Result<Step<D>, ApiError> {
    match place {
        Some(place) if place.model().is(&named.model) => place.stay(wait.seconds),
        // A reload gave the name to another model.
        _ => {
            let client = match &wait.client {
                Some(client) => Arc::from(client.as_str()),
                None => client(view.client),
            };
            *place = Some(doors.park(&named.model, named.seen, &client, wait.seconds)?);
        }
    }
    Ok(Step::Wait)
}

fn arrive<M: Destination>(
    to: &Target<M>,
    view: &RequestView,
    place: Option<&Place<M>>,
) -> Arrival<M> {
    let (client, parked) = match place {
        Some(place) => (Arc::clone(place.client()), place.waited()),
        None => (client(view.client), Duration::ZERO),
    };
    Arrival::new(&to.model, to.seen, client, parked)
}

/// The key under which a request takes turns when no policy gives another.
fn client(address: SocketAddr) -> Arc<str> {
    address.ip().to_string().into()
}
