//! An answer on its way to the client: a worker's, passed on as it comes, or the hub's own.
//!
//! [`body::Body`] is the body of both. Its bytes are counted in the request's [`account::Account`] and
//! searched for the model's name and the usage; nothing is parsed or held back. It knows nothing of the way a
//! request found its worker.

pub(super) mod account;
pub(super) mod body;
pub(super) mod kind;
pub(super) mod leased_body;
pub(super) mod loading_stream;
pub(super) mod model_name;
pub(super) mod progress;
mod trace;
pub(super) mod usage;
