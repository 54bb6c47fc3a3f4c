//! A request that comes in another protocol's form: read to its end, made a chat completion, and put back where
//! its worker needs no translation.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_ENCODING;
use http::request::Parts;

use super::answer::account::Account;
use super::answer::body::Body;
use super::protocol::openai::response_owners::ResponseOwners;
use super::protocol::{self, Door, Translating};
use super::refusals;
use super::request::intake::Intake;
use super::request::rewrite::ModelSite;
use crate::api::ApiError;
use crate::hub::lifecycle::{Grant, Lifecycle, Model};
use crate::policy::{RequestView, Route};

/// A request that is translated, unless its worker has the client's route.
pub(super) struct Translated {
    pub(super) by: Translating,
    pub(super) door: Door,
    /// The changes of a policy.
    pub(super) route: Option<Arc<Route>>,
    pub(super) lifecycle: Lifecycle,
    pub(super) owners: ResponseOwners,
}

impl Translated {
    /// True if the worker of `model` has the client's route itself. Of responses some have, so that a worker
    /// of which nothing is known yet is asked.
    pub(super) async fn is_needless(&self, model: &Model, grant: &Grant) -> bool {
        let path = self.by.path();
        match self.door {
            Door::Responses => {
                let upstream = &grant.upstream;
                self.lifecycle.serves_now(model, upstream, path).await
            }
            _ => self.lifecycle.serves(model, path),
        }
    }
}

/// A request that is translated: the model that it names, and where it does after that.
pub(super) async fn translated(
    door: Door,
    view: &mut RequestView,
    intake: &mut Intake,
    account: &Account,
) -> Result<(String, ModelSite, Option<Translating>), ApiError> {
    let body = whole_body(&mut view.parts, intake).await?;
    let (translating, model, site) = Translating::of(door, &mut view.parts, intake, body)?;
    view.protocol = account.protocol().name;
    Ok((model, site, Some(translating)))
}

pub(super) async fn count_tokens(
    mut view: Box<RequestView>,
    intake: &mut Intake,
) -> Result<Response<Body>, ApiError> {
    let body = whole_body(&mut view.parts, intake).await?;
    protocol::count_tokens(&body)
}

/// All of a body, without its content codings.
pub(super) async fn whole_body(parts: &mut Parts, intake: &mut Intake) -> Result<Bytes, ApiError> {
    check_length(intake)?;
    if parts.headers.contains_key(CONTENT_ENCODING) {
        intake.decode(&mut parts.headers)?;
    }
    intake.collect().await
}

/// Refuses a body that says itself that it is too long.
pub(super) fn check_length(intake: &Intake) -> Result<(), ApiError> {
    match intake.is_too_long() {
        true => Err(refusals::too_large(intake.limits().body)),
        false => Ok(()),
    }
}
