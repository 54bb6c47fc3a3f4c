//! Ollama's routes: the lists that the hub answers, and the requests that a worker does, which go the same
//! way as all others.

use http::{Response, StatusCode};

use super::answer::account::Account;
use super::answer::body::Body;
use super::protocol::ollama::routes::Route;
use super::protocol::ollama::{Form, lists};
use super::protocol::{Door, openai, read};
use super::request::intake::Intake;
use super::{Gateway, compute, refusals, whole_body};
use crate::api::{ApiError, shown};
use crate::policy::RequestView;

impl Gateway {
    /// The answer to a request of Ollama's API.
    pub(super) async fn ollama(
        &self,
        route: Route,
        mut view: Box<RequestView>,
        intake: &mut Intake,
        account: &mut Account,
    ) -> Result<Response<Body>, ApiError> {
        let (method, path) = (&view.parts.method, view.parts.uri.path());
        let door = match route {
            Route::Version => return Ok(openai::json(&lists::version())),
            Route::Tags => {
                let entries = self.catalogue.all(view.key()).await;
                return Ok(openai::json(&lists::tags(
                    &entries,
                    self.config().modified_at,
                )));
            }
            Route::Running => {
                let entries = self.catalogue.all(view.key()).await;
                return Ok(openai::json(&lists::running(&entries)));
            }
            Route::Show => {
                let body = whole_body(&mut view.parts, intake).await?;
                let body = compute(body.len(), move || read(&body)).await?;
                let entry = self.catalogue.one(lists::asked(&body)?, view.key()).await?;
                return Ok(openai::json(&lists::show(
                    &entry,
                    self.config().modified_at,
                )));
            }
            Route::Chat => Door::Ollama(Form::Chat),
            Route::Generate => Door::Ollama(Form::Generate),
            Route::Embed => Door::OllamaEmbed,
            Route::Embeddings => Door::OllamaEmbeddings,
            Route::Change => return Err(not_here(path)),
            Route::NotAllowed(allowed) => {
                let protocol = account.protocol();
                return Ok(openai::allowed_methods(protocol, method, path, allowed));
            }
            Route::Unknown => return Err(refusals::unknown_route(method, path)),
        };
        self.proxy(view, Some(door), intake, account).await
    }
}

/// hub.yaml says which models there are.
fn not_here(path: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        format!(
            "This hub does not do {}: its models are those of hub.yaml. Add or remove one there, then run \
             `mlx-openai-server-hub reload`.",
            shown(path)
        ),
    )
}
