//! Everything under `/v1`: `take_in` → `named_model` → `ask` → `forward`.
//!
//! The server hands each request to [`Gateway::take_in`], and the result to [`Gateway::answer`], which picks the
//! route. A request for a worker passes three more steps, each in a file of its own: `named_model` finds the
//! model that it names while the body arrives (`naming`); `ask` asks the policies and takes a lease, or a place
//! among those that wait (`admission`, `waiting`); `forward` passes request and answer through as they come
//! (`addressed`, `forward`). The gateway never decides whether a model may be used or loaded, and knows nothing of
//! processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::api::ApiError;
use crate::config::{ApiKey, Config, Source};
use crate::hub::lifecycle::{Capture, Lifecycle, Model, Ticket};
use crate::policy::{Credential, Policies, RequestView};
use crate::tokenizer::Tokenizers;

mod addressed;
mod admission;
mod answer;
mod cancel;
mod catalogue;
mod count_tokens;
mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod lacking;
mod lists;
mod naming;
mod ollama;
mod only_its_own;
mod protocol;
mod refusals;
mod remembered;
mod request;
mod successor;
#[cfg(test)]
mod tests;
mod translated;
mod upgrade;
mod waiting;

use addressed::Addressed;
use admission::{Admitted, Entrance, Step as Admission};
use answer::account::Account;
pub use answer::body::Body;
use answer::body::noted;
pub use answer::leased_body::LeasedBody;
pub use answer::loading_stream::LoadingStream;
use catalogue::Catalogue;
use naming::{fields_without_model, model_of_query, named_model};
use protocol::lm_studio;
use protocol::openai;
use protocol::openai::response_owners::Maker;
use protocol::openai::routes::Target;
use protocol::responses;
use protocol::{AsChat, Door, Translating};
pub(crate) use protocol::{error_at, error_to};
pub use remembered::{HandedResponses, RememberedResponses};
use request::budget::Budget;
use request::intake::Intake;
pub use request::read_pause::ReadPause;
use request::rewrite;
use request::rewrite::ModelSite;
pub use successor::Successor;
use translated::{Translated, compute, translated, whole_body};
use waiting::Waiting;

/// Answers requests to `/v1`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    lifecycle: Lifecycle,
    policies: Policies,
    budget: Budget,
    remembered: RememberedResponses,
    tunnels: TaskTracker,
    successor: Successor,
    tokenizers: Tokenizers,
    catalogue: Catalogue,
}

/// A request that has arrived. Nothing of its body has been read.
#[derive(Debug)]
pub struct Arrived {
    view: Box<RequestView>,
    /// In a box, for it is large and moved several times before it is read.
    intake: Box<Intake>,
    account: Account,
    /// Notes the bodies, where hub.yaml wants them kept.
    capture: Option<Arc<Capture>>,
}

/// The reason why a request gets no further.
enum Halt {
    Refused(ApiError),
    /// Another hub has taken over.
    Replaced(Box<RequestView>),
}

impl From<ApiError> for Halt {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl Gateway {
    /// A gateway to the models of `lifecycle`.
    pub fn new(lifecycle: Lifecycle, policies: Policies) -> Self {
        Self {
            catalogue: Catalogue::new(&lifecycle, &policies),
            lifecycle,
            policies,
            budget: Budget::default(),
            remembered: RememberedResponses::default(),
            tunnels: TaskTracker::new(),
            successor: Successor::default(),
            tokenizers: Tokenizers::default(),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.lifecycle.config()
    }

    /// What it remembers of responses.
    pub fn remembered(&self) -> &RememberedResponses {
        &self.remembered
    }

    /// The hub that replaces this one.
    pub fn successor(&self) -> &Successor {
        &self.successor
    }

    /// The origin of a request that arrived on a connection from `peer`.
    pub fn source(&self, headers: &HeaderMap, peer: SocketAddr) -> Source {
        self.lifecycle.source(headers, peer)
    }

    /// Whether requests that come from the gateway of a fleet are taken.
    ///
    /// # Errors
    /// 503 while the hub is drained or shuts down.
    pub fn takes_from_gateways(&self) -> Result<(), ApiError> {
        self.lifecycle.takes_from_gateways()
    }

    /// True if requests need a key.
    pub fn has_keys(&self) -> bool {
        self.lifecycle.has_keys()
    }

    /// Takes in a request under `/v1` that arrived at `began`, with its client's key if the hub has keys; `id` is
    /// its `X-Request-ID`, `read_pause` tells its connection when its body is not read, or it is cancelled.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    pub fn take_in(
        self: &Arc<Self>,
        mut parts: Parts,
        key: Option<Arc<ApiKey>>,
        body: Incoming,
        source: Source,
        read_pause: ReadPause,
        id: HeaderValue,
        began: Instant,
    ) -> Arrived {
        let Source { client, via } = source;
        let limits = self.lifecycle.limits();
        let connection = read_pause.cancelled();
        let (headers, budget) = (&parts.headers, &self.budget);
        // Any other has no body, and its answer no text.
        let capture = match parts.method.is_safe() {
            true => None,
            false => self.lifecycle.capture(&id, headers, began),
        };
        let intake = Intake::new(headers, body, limits, budget, read_pause, capture.clone());
        let account = Account::open(
            &parts,
            id.clone(),
            client,
            key.clone(),
            Arc::clone(self),
            began,
            connection,
        );
        Arrived {
            capture,
            intake: Box::new(intake),
            view: Box::new(RequestView {
                credential: key.map(|key| Credential::take(key, &mut parts.headers)),
                via,
                protocol: account.protocol().name,
                ..RequestView::of_head(parts, id, client)
            }),
            account,
        }
    }

    /// The answer to a request. Dropping the future or the answer frees all that the request held, and so does
    /// cancelling it.
    pub async fn answer(&self, mut arrived: Arrived) -> Response<Body> {
        let account = &arrived.account;
        let (protocol, flight) = (account.protocol(), account.flight().cloned());
        let capture = arrived.capture.take();
        // In a box, for it is large, and what holds it is moved several times before it runs.
        let answer = Box::pin(self.answer_arrived(arrived));
        noted(
            cancel::unless_cancelled(flight, protocol, answer).await,
            capture,
        )
    }

    async fn answer_arrived(&self, arrived: Arrived) -> Response<Body> {
        let Arrived {
            mut view,
            mut intake,
            mut account,
            ..
        } = arrived;
        let protocol = account.protocol();
        let parts = &view.parts;
        let answer = match Target::of(&parts.method, parts.uri.path()) {
            Target::Models => Box::pin(self.models(protocol, &view)).await,
            Target::Model(id) => Box::pin(self.model(protocol, id, &view)).await,
            Target::NotAllowed(allowed) => Ok(openai::allowed_methods(
                protocol,
                &parts.method,
                parts.uri.path(),
                allowed,
            )),
            Target::Made(id) => {
                match responses::retrieve(&self.remembered.kept.of(view.key()), parts, id) {
                    Some(answer) => answer,
                    None => self.proxy(view, None, &mut intake, &mut account).await,
                }
            }
            Target::Worker | Target::Unknown | Target::Upstream(_) => {
                self.proxy(view, None, &mut intake, &mut account).await
            }
            Target::Ollama(route) => {
                let asked = self.ollama(route, view, &mut intake, &mut account);
                Box::pin(asked).await
            }
            Target::LmStudio(lm_studio::Route::Shared) => {
                view.parts.uri = lm_studio::shared(&view.parts.uri);
                self.proxy(view, None, &mut intake, &mut account).await
            }
            Target::LmStudio(route) => {
                let (method, path) = (&parts.method, parts.uri.path());
                match route {
                    lm_studio::Route::NotAllowed(allowed) => {
                        Ok(openai::allowed_methods(protocol, method, path, allowed))
                    }
                    route => Box::pin(self.lm_studio(route, &view)).await,
                }
            }
            Target::CountTokens(door) => Box::pin(self.count_tokens(door, view, &mut intake)).await,
            Target::Door(door) => {
                self.proxy(view, Some(door), &mut intake, &mut account)
                    .await
            }
        };
        // A worker's answer has taken the rest of the request.
        let is_read = match (&answer, intake.has_more()) {
            (Ok(_), false) => true,
            _ => Box::pin(intake.discard()).await,
        };
        let mut answer = answer.unwrap_or_else(|error| {
            let mut answer = (protocol.error)(&error);
            account.write_timing(answer.headers_mut());
            answer
        });
        if !is_read {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        // Has been taken along by an answer of a worker.
        account.ended_with(answer.status().as_u16());
        answer
    }

    /// A worker's answer.
    async fn proxy(
        &self,
        mut view: Box<RequestView>,
        door: Option<Door>,
        intake: &mut Intake,
        account: &mut Account,
    ) -> Result<Response<Body>, ApiError> {
        let named = match door {
            None => self.model_of_path(&view)?,
            Some(Door::Messages | Door::Responses) => self.native(&mut view.parts, intake).await,
            // Ollama's: no worker has them.
            Some(_) => None,
        };
        let (mut site, mut translating);
        // Why it cannot be translated.
        let mut refused = None;
        (view.model, site, translating) = match (named, door) {
            (Some((model, site)), _) => (Some(model), site, None),
            (None, Some(door)) => {
                let kept = self.remembered.kept.of(view.key());
                match Box::pin(translated(door, kept, &mut view, intake)).await {
                    Ok(translated) => translated,
                    Err(error) => {
                        let (model, site) = self.perhaps_native(door, intake, &error).await?;
                        refused = Some(error);
                        (model, site, None)
                    }
                }
            }
            (None, None) => {
                let (model, site) = named_model(&mut view.parts, intake).await?;
                (model, site, None)
            }
        };
        account.asks_for(view.model.as_deref());
        // What its worker gets as it is, policies see as a chat completion.
        let native = door.filter(|_| translating.is_none());
        if native.is_none() {
            view.body = intake.whole();
        }
        let (mut view, admitted) = match self.ask(view, native, intake, account).await {
            Ok(admitted) => admitted,
            Err(Halt::Refused(error)) => return Err(error),
            Err(Halt::Replaced(mut view)) => {
                if let Some(translating) = translating {
                    translating.undo(&mut view.parts, intake);
                }
                return Box::pin(self.successor.pass_on(*view, intake, account)).await;
            }
        };
        account.goes_to(&admitted.model);
        if let Some(error) = refused
            && !self
                .lifecycle
                .serves(&admitted.model, view.parts.uri.path())
        {
            return Err(error);
        }
        let is_served = |by: &Translating| self.lifecycle.serves(&admitted.model, by.path());
        if !translating.as_deref().is_some_and(is_served) {
            let has_route = self.must_have_route(&view.parts, &admitted);
            has_route.map_err(|error| match &translating {
                Some(by) => {
                    let model = &admitted.model;
                    refusals::lacks_for_door(
                        &model.name,
                        by.asked,
                        Some(&self.lifecycle.worker_of(model)),
                    )
                }
                None => error,
            })?;
        }

        let only_unloads = (translating.as_ref())
            .and_then(|by| by.only_unloads(called(&view, &admitted.model), view.keep_alive));
        if let Some(answer) = only_unloads {
            // One that is not in memory is not loaded to be unloaded.
            if let Entrance::Open(_) = admitted.entrance {
                admitted.model.is_wished_for(0.0);
            }
            return Ok(answer);
        }

        let mut fields = None;
        if let Some(route) = &admitted.route {
            if !route.set.is_empty() || !route.unset.is_empty() {
                if let Some(door) = native {
                    // The changes are those of a chat completion.
                    let kept = self.remembered.kept.of(view.key());
                    (_, site, translating) =
                        Box::pin(translated(door, kept, &mut view, intake)).await?;
                }
                let body = Box::pin(intake.collect()).await?;
                let route = Arc::clone(route);
                let edited = compute(body.len(), move || rewrite::edit(&body, &route));
                fields = Some(Box::new(Box::pin(edited).await?));
            }
            forward::add_headers(&mut view.parts.headers, &route.headers);
        }
        if fields.is_none() && matches!(site, ModelSite::Nowhere) {
            fields = Box::pin(fields_without_model(&view.parts, intake)).await?;
        }

        let refuses = self.lifecycle.refuses(&admitted.model);
        if let Some(refuses) = &refuses {
            let asked = only_its_own::Asked {
                parts: &view.parts,
                site: &site,
                fields: &mut fields,
                sent: translating.as_deref().map(Translating::body),
            };
            Box::pin(asked.check(refuses, &admitted.model.name, intake)).await?;
        }

        if view.parts.uri.path() == "/v1/responses" {
            account.makes_response(&self.remembered.owners);
        }
        let tunnels = upgrade::is_wanted(&view.parts.headers).then(|| self.tunnels.clone());
        let request = Addressed {
            view,
            site,
            fields,
            tunnels,
            loads_what_is_named: refuses.is_some(),
            translated: translating.zip(door).map(|(by, door)| {
                Box::new(Translated {
                    by,
                    door,
                    owners: self.remembered.owners.clone(),
                    lifecycle: self.lifecycle.clone(),
                })
            }),
        };
        let arrival = match admitted.entrance {
            Entrance::Open(grant) => {
                let model = admitted.model;
                return request.forward(grant, model, intake, account).await;
            }
            Entrance::Closed(arrival) => arrival,
        };
        let lifecycle = self.lifecycle.clone();
        let waiting = Waiting {
            model: admitted.model,
            grant: Box::pin(async move { lifecycle.acquire(arrival).await }),
            request,
            notice: self.lifecycle.config().loading_notice,
            successor: self.successor.clone(),
        };
        // Off the hot path, and large: in a box it does not make every request's future so.
        Box::pin(waiting.answer(intake, account)).await
    }

    /// The model that a path names, or that made what it names; `None` where body or query do.
    ///
    /// # Errors
    /// 404 for a response that nobody is known to have made, or that another key has asked for, 400 where the query
    /// names more than one model.
    fn model_of_path(&self, view: &RequestView) -> Result<Option<(String, ModelSite)>, ApiError> {
        let parts = &view.parts;
        let model = match Target::of(&parts.method, parts.uri.path()) {
            Target::Upstream(name) => percent_decode_str(name).decode_utf8_lossy().into_owned(),
            Target::Made(id) => match self.remembered.owners.by(id, view.key()) {
                Maker::Model(model) => model.to_string(),
                Maker::Unknown if model_of_query(parts)?.is_some() => return Ok(None),
                Maker::Unknown | Maker::Hidden => return Err(refusals::unknown_response(id)),
            },
            _ => return Ok(None),
        };
        Ok(Some((model, ModelSite::Path)))
    }

    /// Asks `on_request` until it lets the request go: again with the whole body if a policy wants to
    /// see it, and again when it is time for a request that was told to wait. One that came through `native` is
    /// no chat completion itself.
    async fn ask(
        &self,
        mut view: Box<RequestView>,
        native: Option<Door>,
        intake: &mut Intake,
        account: &mut Account,
    ) -> Result<(Box<RequestView>, Admitted), Halt> {
        let (mut thinking, mut parked) = (Duration::ZERO, Duration::ZERO);
        let mut place: Option<Ticket> = None;
        loop {
            let began = Instant::now();
            let step;
            (view, step) =
                match admission::ask_at_once(&self.lifecycle, &self.policies, view, &mut place) {
                    Ok(asked) => asked,
                    Err(view) => {
                        let asking = admission::ask_on_hook_thread(
                            self.lifecycle.clone(),
                            &self.policies,
                            view,
                            place.take(),
                        );
                        let asked;
                        (asked, place) = Box::pin(intake.while_waiting(asking)).await?;
                        asked
                    }
                };
            thinking += began.elapsed();
            account.was_asked_about(thinking, parked);
            if let Ok(Admission::Go(admitted)) = step {
                return Ok((view, admitted));
            }
            // This may be the end of the request.
            let named = view.model.as_deref();
            if let Some(model) = named.and_then(|name| self.lifecycle.find(name)) {
                account.names(&model);
            }
            match step {
                Err(_) if self.successor.is_there() => return Err(Halt::Replaced(view)),
                Err(error) => return Err(error.into()),
                Ok(Admission::Go(_) | Admission::Wait) => {}
                Ok(Admission::NeedBody) => {
                    let body = Box::pin(intake.collect()).await?;
                    view.body = Some(match native {
                        Some(door) => {
                            let kept = self.remembered.kept.of(view.key());
                            let read = move || AsChat::seen(door, body, &kept);
                            compute(intake.held(), read).await
                        }
                        None => body,
                    });
                    if let Some(place) = &mut place {
                        place.step_back();
                    }
                }
            }
            let Some(place) = &mut place else { continue };
            account.waits("wait");
            let called = Box::pin(intake.while_waiting(place.called())).await;
            parked = place.waited();
            account.was_asked_about(thinking, parked);
            match called {
                Err(_) if self.successor.is_there() => return Err(Halt::Replaced(view)),
                called => called?,
            }
            view.parked.waited_seconds = parked.as_secs_f64();
            if view.body.is_none() && native.is_none() {
                view.body = intake.whole();
            }
        }
    }
}

/// The client's name for the model that answers, or else the hub's.
fn called<'a>(view: &'a RequestView, model: &'a Model) -> &'a str {
    view.model.as_deref().unwrap_or(&model.name)
}

/// The length that a request announces.
fn content_length(parts: &Parts) -> Option<u64> {
    let length = parts.headers.get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn content_type(parts: &Parts) -> Option<&str> {
    parts.headers.get(CONTENT_TYPE)?.to_str().ok()
}
