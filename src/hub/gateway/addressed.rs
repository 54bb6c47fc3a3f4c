//! `forward`: the last step of a request to a worker, with what the steps before have found.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use super::answer::account::Account;
use super::answer::body::Body;
use super::forward::Named;
use super::protocol::ollama::only_moved;
use super::protocol::{Answering, Door, Translating};
use super::request::intake::Intake;
use super::request::rewrite::{self, ModelSite};
use super::request::scan::ScanStep;
use super::translated::{Translated, compute};
use super::{called, content_type, forward, upgrade};
use crate::api::ApiError;
use crate::hub::lifecycle::{Grant, Model};
use crate::policy::{RequestView, Route};
use crate::upstream::Accepts;

/// A request with its destination.
pub(super) struct Addressed {
    pub(super) view: Box<RequestView>,
    /// The place in which the client wrote the model.
    pub(super) site: ModelSite,
    /// The body's fields, if a policy changed any.
    pub(super) fields: Option<Box<Map<String, Value>>>,
    /// Runs the connection after the handshake of a WebSocket, if the request asks for one.
    pub(super) tunnels: Option<TaskTracker>,
    /// True if the worker would load whatever a request names.
    pub(super) loads_what_is_named: bool,
    /// The request before its translation into a chat completion.
    pub(super) translated: Option<Box<Translated>>,
}

impl Addressed {
    /// Sends it, under the name that the worker answers to.
    pub(super) async fn forward(
        mut self,
        grant: Grant,
        model: Arc<Model>,
        intake: &mut Intake,
        account: &mut Account,
    ) -> Result<Response<Body>, ApiError> {
        if let Some(seconds) = self.view.keep_alive {
            model.is_wished_for(seconds);
        }
        let answering = match self.translated.take() {
            // A policy's changes are those of a chat completion.
            Some(translated)
                if self.fields.is_none()
                    && Box::pin(translated.is_needless(&model, &grant)).await =>
            {
                if matches!(translated.door, Door::Responses) {
                    account.makes_response(&translated.owners);
                }
                Box::pin(self.undo(*translated, intake)).await?;
                None
            }
            Some(translated) => {
                account.asks(translated.by.asked);
                let mut answering = translated.by.answering;
                answering.is_loaded();
                Some(answering)
            }
            None => None,
        };
        if let Some(Answering::Moved(form, stream)) = answering {
            return Ok(only_moved(form, called(&self.view, &model), stream, "load"));
        }
        let accepts = &grant.upstream.accepts;
        let name = match (&self.view.model, accepts) {
            (Some(written), _) => rewrite::replacement(accepts, written),
            (None, Accepts::Only(name)) => Some(&**name),
            (None, Accepts::Any) => Some(&*model.name),
        };
        if let Some(mut fields) = self.fields {
            let name = match accepts {
                // Whatever became of the client's model there: a policy may have set or removed it.
                Accepts::Only(name) => Some(&**name),
                Accepts::Any => name,
            };
            // Its other routes need none.
            let is_named = !matches!(self.site, ModelSite::Path) || fields.contains_key("model");
            if let Some(name) = name.filter(|_| is_named) {
                fields.insert("model".to_owned(), Value::from(name));
            }
            let length = intake.held();
            let body = Box::pin(compute(length, move || rewrite::written(*fields))).await;
            rewrite::replace(&mut self.view.parts, intake, body);
        } else if self.loads_what_is_named && matches!(self.site, ModelSite::Path) {
            Box::pin(rename_below_upstream(&mut self.view.parts, intake, accepts)).await?;
        } else if let Some(name) = name {
            rewrite::rename(&mut self.view.parts, intake, &self.site, name);
        }
        if matches!(self.site, ModelSite::Path) {
            rewrite::to_own_route(&mut self.view.parts);
        }
        account.propagate(&mut self.view.parts.headers);
        let (body, limits) = (intake.take_body(), intake.limits());
        if let Some(tunnels) = &self.tunnels {
            let request = forward::outgoing(*self.view, body);
            let forwarded = upgrade::forward(grant, &model.name, request, limits, account, tunnels);
            return Box::pin(forwarded).await;
        }
        let written = match self.site {
            ModelSite::Path => String::new(),
            ModelSite::Body(..) | ModelSite::Query | ModelSite::Nowhere => {
                let written = self.view.model.take();
                written.unwrap_or_else(|| model.name.to_string())
            }
        };
        let named = Named {
            model,
            written,
            answering,
        };
        forward::forward(grant, named, self.view, body, limits, account).await
    }

    /// Restores the client's request, which no policy has changed.
    async fn undo(&mut self, translated: Translated, intake: &mut Intake) -> Result<(), ApiError> {
        let body = translated.by.body();
        translated.by.undo(&mut self.view.parts, intake);
        let work = move || {
            let site = Translating::model_of(&body).map_or(ModelSite::Nowhere, |(_, site)| site);
            let is_nowhere = matches!(site, ModelSite::Nowhere);
            let fields = is_nowhere.then(|| rewrite::edit(&body, &Route::default()));
            (site, fields.transpose())
        };
        let (site, fields) = compute(intake.held(), work).await;
        self.site = site;
        if let Some(fields) = fields? {
            self.fields = Some(Box::new(fields));
        }
        Ok(())
    }

    /// The request as the client sent it.
    pub(super) fn into_sent(self, intake: &mut Intake) -> RequestView {
        let mut view = *self.view;
        if let Some(translated) = self.translated {
            translated.by.undo(&mut view.parts, intake);
        }
        view
    }
}

/// Writes the worker's own name in place of the one that a body below `/upstream` has.
///
/// # Errors
/// 400 for a body that names more than one model, and what reading it comes to.
async fn rename_below_upstream(
    parts: &mut Parts,
    intake: &mut Intake,
    accepts: &Accepts,
) -> Result<(), ApiError> {
    if let ScanStep::Found(found) = intake.read_to_model(content_type(parts)).await?
        && let Some(name) = rewrite::replacement(accepts, &found.value)
    {
        let site = ModelSite::Body(found.range, found.syntax);
        rewrite::rename(parts, intake, &site, name);
    }
    Ok(())
}
