//! One asking of `on_request`, and what comes of it before any other request is asked about: a lease,
//! a place among those that wait for the model, or one in its queue.
//!
//! The gateway calls it until a request may go. Because the lease is taken before the next request is
//! asked about, a rule about `model.active` holds exactly. Policies that may take long are asked on a thread
//! of their own, so that this one goes on serving others.

use std::sync::Arc;
use std::time::Duration;

use super::refusals;
use crate::api_error::ApiError;
use crate::lifecycle::{Arrival, Grant, Lifecycle, Model, Place, Seen};
use crate::policy::{Policies, RequestVerdict, RequestView, Route, Wait};

/// A request that may go.
#[derive(Debug)]
pub(super) struct Admitted {
    /// The model it goes to.
    pub(super) model: Arc<Model>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) entrance: Entrance,
}

/// How it gets its lease.
#[derive(Debug)]
pub(super) enum Entrance {
    /// It has it.
    Open(Grant),
    /// The model is not loaded, or leaves.
    Closed(Arrival),
}

/// What is next for a request.
#[derive(Debug)]
pub(super) enum Step {
    Go(Admitted),
    /// A policy wants the body.
    NeedBody,
    /// It is parked.
    Wait,
}

/// The request, and what is next for it.
pub(super) type Asked = (Box<RequestView>, Result<Step, ApiError>);

/// A model that a verdict is about.
struct Target {
    model: Arc<Model>,
    /// Taken before the verdict, so that neither a stop nor another change since then is overlooked.
    seen: Seen,
}

/// Asks about a request, which may have a `place` in the queue; gives its view back.
///
/// # Errors
/// The view, when the policies may take long: then [`ask_on_hook_thread`] asks them.
pub(super) fn ask_at_once(
    lifecycle: &Lifecycle,
    policies: &Policies,
    view: Box<RequestView>,
    place: &mut Option<Place>,
) -> Result<Asked, Box<RequestView>> {
    let named = Target::find(lifecycle, &view.model);
    policies.on_request_at_once(view, |view, verdict| {
        act(lifecycle, named, view, verdict, place)
    })
}

/// The same, without keeping this thread. Dropped, it gives up the place, and the lease if it has one.
///
/// # Errors
/// 500 for a fault of the hub's own; of what the policies say, the step tells.
pub(super) async fn ask_on_hook_thread(
    lifecycle: Lifecycle,
    policies: &Policies,
    view: Box<RequestView>,
    mut place: Option<Place>,
) -> Result<(Asked, Option<Place>), ApiError> {
    let ask = move |policies: &Policies| {
        let named = Target::find(&lifecycle, &view.model);
        let (view, step) = policies.on_request_then(view, |view, verdict| {
            act(&lifecycle, named, view, verdict, &mut place)
        });
        ((view, step), place)
    };
    policies.on_hook_thread(ask).await
}

impl Target {
    fn find(lifecycle: &Lifecycle, name: &str) -> Option<Self> {
        let model = lifecycle.find(name)?;
        let seen = lifecycle.seen(&model);
        Some(Self { model, seen })
    }
}

/// Does what the policies said about a request for `named`.
fn act(
    lifecycle: &Lifecycle,
    named: Option<Target>,
    view: &RequestView,
    verdict: RequestVerdict,
    place: &mut Option<Place>,
) -> Result<Step, ApiError> {
    let route = match verdict {
        RequestVerdict::Reject(error) => return Err(error),
        RequestVerdict::NeedBody if view.body.is_none() => {
            if let Some(place) = place {
                place.step_aside();
            }
            return Ok(Step::NeedBody);
        }
        RequestVerdict::Wait(wait) => {
            let named =
                named.ok_or_else(|| refusals::unknown_model(&view.model, &lifecycle.config()))?;
            return park(lifecycle, &named, view, &wait, place);
        }
        // A policy that has the body and still asks for it abstains.
        RequestVerdict::NeedBody | RequestVerdict::Pass => None,
        RequestVerdict::Route(route) => Some(route),
    };
    let to = match route.as_ref().and_then(|route| route.model.as_deref()) {
        // The verdict named it just now; nothing can have changed since.
        Some(elsewhere) => Target::find(lifecycle, elsewhere)
            .ok_or_else(|| refusals::routed_to_unknown(elsewhere))?,
        // Only now: a policy may know where to send a name that the hub does not know.
        None => named.ok_or_else(|| refusals::unknown_model(&view.model, &lifecycle.config()))?,
    };
    let entrance = match lifecycle.try_acquire(&to.model) {
        Some(grant) => Entrance::Open(grant),
        None => Entrance::Closed(arrive(lifecycle, &to, view, place.as_ref())),
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

fn park(
    lifecycle: &Lifecycle,
    named: &Target,
    view: &RequestView,
    wait: &Wait,
    place: &mut Option<Place>,
) -> Result<Step, ApiError> {
    match place {
        Some(place) if Arc::ptr_eq(place.model(), &named.model) => place.stay(wait.seconds),
        // A reload gave the name to another model.
        _ => {
            let client = match &wait.client {
                Some(client) => Arc::from(client.as_str()),
                None => client(view),
            };
            *place = Some(lifecycle.park(&named.model, named.seen, &client, wait.seconds)?);
        }
    }
    Ok(Step::Wait)
}

fn arrive(
    lifecycle: &Lifecycle,
    to: &Target,
    view: &RequestView,
    place: Option<&Place>,
) -> Arrival {
    let (client, parked) = match place {
        Some(place) => (Arc::clone(place.client()), place.waited()),
        None => (client(view), Duration::ZERO),
    };
    lifecycle.arrive(&to.model, to.seen, client, parked)
}

/// The key under which a request takes turns when no policy gives another.
fn client(view: &RequestView) -> Arc<str> {
    view.client.ip().to_string().into()
}
