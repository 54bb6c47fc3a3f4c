//! Knows the routes that the worker of a model serves. A request for any other is refused before the model is loaded
//! for it.

use http::Method;
use http::request::Parts;

use super::admission::{Admitted, Entrance};
use super::naming::named_model;
use super::protocol::openai;
use super::protocol::openai::routes::Target;
use super::protocol::{Door, Translating, read};
use super::request::intake::Intake;
use super::request::rewrite::ModelSite;
use super::translated::compute;
use super::{Gateway, refusals, upgrade};
use crate::api::ApiError;
use crate::hub::lifecycle::Model;

impl Gateway {
    /// The model that a request names, if that is known to have the route: then it goes there as it comes,
    /// without waiting for all of it. What is wrong with it is found when it is translated.
    pub(super) async fn native(
        &self,
        parts: &mut Parts,
        intake: &mut Intake,
    ) -> Option<(String, ModelSite)> {
        let (name, site) = Box::pin(named_model(parts, intake)).await.ok()?;
        let name = name?;
        let model = self.lifecycle.find(&name)?;
        let path = parts.uri.path();
        self.lifecycle.serves(&model, path).then_some((name, site))
    }

    /// The model that a request names which cannot be translated, if policies answer for that name, or if it
    /// names none: they may send it to a worker that has the route.
    ///
    /// # Errors
    /// `error`, for which it cannot be translated.
    pub(super) async fn perhaps_native(
        &self,
        door: Door,
        intake: &mut Intake,
        error: &ApiError,
    ) -> Result<(Option<String>, ModelSite), ApiError> {
        let body = match door {
            Door::Messages | Door::Responses => intake.whole(),
            Door::Ollama(_) | Door::OllamaEmbed | Door::OllamaEmbeddings => None,
        };
        let body = body.ok_or_else(|| error.clone())?;
        let work = move || {
            let is_json = read(&body).is_ok_and(|json| json.is_object());
            is_json.then(|| Translating::model_of(&body)).flatten()
        };
        match compute(intake.held(), work).await {
            Some((Some(model), _)) if self.lifecycle.find(&model).is_some() => Err(error.clone()),
            Some(found) => Ok(found),
            None => Err(error.clone()),
        }
    }

    /// Refuses what the worker of `model` would answer with a 404, before the model is loaded for it. What
    /// is below `/upstream` is the worker's own business, and no description tells of WebSocket.
    pub(super) fn must_have_route(
        &self,
        parts: &Parts,
        admitted: &Admitted,
    ) -> Result<(), ApiError> {
        let (path, model) = (parts.uri.path(), &admitted.model);
        match self.lifecycle.lack(model, path) {
            Some(lack) if path.starts_with("/v1") && !upgrade::is_wanted(&parts.headers) => {
                Err(match path {
                    openai::COMPLETIONS => refusals::no_completions(&model.name, &lack),
                    _ => refusals::no_such_route(&parts.method, path, &model.name, &lack),
                })
            }
            // Of the known programs none has it, and no model is loaded to find out about another.
            None if path == openai::COMPLETIONS
                && matches!(admitted.entrance, Entrance::Closed(_))
                && !self.lifecycle.serves(model, path) =>
            {
                let worker = self.lifecycle.worker_of(model);
                Err(refusals::unknown_completions(&model.name, &worker))
            }
            _ => Ok(()),
        }
    }

    /// Notes that a worker has no such path.
    pub(super) fn note_missing(&self, model: &Model, path: &str) {
        if Target::of(&Method::POST, path) == Target::Worker {
            self.lifecycle.note_missing(model, path);
        }
    }
}
