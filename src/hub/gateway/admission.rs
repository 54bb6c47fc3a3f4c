//! Asks `on_request` about a request, and lets [`decide`] carry out the verdict before policies are asked about any
//! other request.
//!
//! The gateway calls it until a request may go. Policies that may take long run on a thread of their
//! own, so that this one can serve others.

use crate::api::ApiError;
use crate::core::admission::{self, Target, decide};
use crate::hub::lifecycle::{Lifecycle, Ticket};
use crate::policy::{Policies, RequestView};

/// A request that may go.
pub(super) type Admitted = admission::Admitted<Lifecycle>;

/// The way to its lease.
pub(super) type Entrance = admission::Entrance<Lifecycle>;

/// The next step of a request.
pub(super) type Step = admission::Step<Lifecycle>;

/// The request with its next step.
pub(super) type Asked = (Box<RequestView>, Result<Step, ApiError>);

/// Asks about a request, which may have a `place` in the queue; returns its view.
///
/// # Errors
/// The view, when the policies may take long: then [`ask_on_hook_thread`] asks them.
pub(super) fn ask_at_once(
    lifecycle: &Lifecycle,
    policies: &Policies,
    view: Box<RequestView>,
    place: &mut Option<Ticket>,
) -> Result<Asked, Box<RequestView>> {
    let named = Target::named(lifecycle, &view);
    policies.on_request_at_once(view, |view, verdict| {
        decide(lifecycle, named, view, verdict, place)
    })
}

/// [`ask_at_once`] without blocking this thread. Dropped, it gives up the ticket, and the lease if it has one.
///
/// # Errors
/// 500 for a fault of the hub's own; the step has the policies' decision.
pub(super) async fn ask_on_hook_thread(
    lifecycle: Lifecycle,
    policies: &Policies,
    view: Box<RequestView>,
    mut place: Option<Ticket>,
) -> Result<(Asked, Option<Ticket>), ApiError> {
    let ask = move |policies: &Policies| {
        let named = Target::named(&lifecycle, &view);
        let (view, step) = policies.on_request_then(view, |view, verdict| {
            decide(&lifecycle, named, view, verdict, &mut place)
        });
        ((view, step), place)
    };
    policies.on_hook_thread(ask).await
}
