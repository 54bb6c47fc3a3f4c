//! The decisions of the hub, apart from its actions: read this first.
//!
//! Nothing here knows tokio, a clock or I/O. Time comes in as a value or by a trait, what is to be done goes
//! out as one. The real hub and the simulated one of `policy test` run the same code, so that a rule of the
//! hub stands in one place and a policy's test meets it as its hub does.
//!
//! - [`machine`]: the models, from event to effects: loads, evictions, drains, ends.
//! - [`hands`]: what a hub does for its machine, and the one way from event to deed.
//! - [`admission`]: a request, from the verdict of `on_request` to its lease, its wait or its refusal.
//! - [`interface`]: what policies see, are asked and may answer.
//! - [`place`]: a request that waits, for a load or in a queue, counted as long as it does.
//! - [`queue`]: the requests that a policy told to wait before a model.
//! - [`fair`]: who is next among them.
//! - [`gate`]: lets requests to a model in while it is loaded, and counts them.
//! - [`parking`]: the queue before a gate, shared by threads.
//! - [`model`], [`table`]: a model as requests and policies find it, and all models of a configuration.
//! - [`facts`]: the facts about a model, and the events of their changes.
//! - [`publish`]: has both hubs show them.
//! - [`reload`]: what another hub.yaml changes.
//! - [`refusals`], [`unknown`]: the words for those who cannot have what they asked for.
//! - [`silence`]: the length of a worker's silence, as its watchdog measures it.
//! - [`vital_signs`]: the health of a worker, as its answers show it.
//! - [`watchdog`]: what of its measurements the policies are asked about.

pub(crate) mod admission;
pub(crate) mod facts;
pub(crate) mod fair;
pub(crate) mod gate;
pub(crate) mod hands;
pub(crate) mod interface;
pub(crate) mod machine;
pub(crate) mod model;
pub(crate) mod parking;
pub(crate) mod place;
pub(crate) mod publish;
pub(crate) mod queue;
pub(crate) mod refusals;
pub(crate) mod reload;
pub(crate) mod silence;
pub(crate) mod table;
pub(crate) mod unknown;
pub(crate) mod vital_signs;
pub(crate) mod watchdog;
