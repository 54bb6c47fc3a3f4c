//! Asks `on_request` about a request, and lets [`decide`] do what it says before any other request is
//! asked about.
//!
//! The gateway calls it until a request may go. Policies that may take long are asked on a thread of their
//! own, so that this one goes on serving others.

use crate::api::ApiError;
use crate::core::admission::{self, Target, decide};
use crate::hub::lifecycle::{Lifecycle, Place};
use crate::policy::{Policies, RequestView};

/// A request that may go.
pub(super) type Admitted = admission::Admitted<Lifecycle>;

/// How it gets its lease.
pub(super) type Entrance = admission::Entrance<Lifecycle>;

/// What is next for a request.
pub(super) type Step = admission::Step<Lifecycle>;

/// The request, and what is next for it.
pub(super) type Asked = (Box<RequestView>, Result<Step, ApiError>);

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
        decide(lifecycle, named, view, verdict, place)
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
            decide(&lifecycle, named, view, verdict, &mut place)
        });
        ((view, step), place)
    };
    policies.on_hook_thread(ask).await
}
