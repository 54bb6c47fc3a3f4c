//! The HTTP control API under `/hub`: extract, ask the lifecycle, answer in JSON.
//!
//! [`router`] is the whole of it; the server puts it beside the gateway on the hub's one port and
//! the command line is its client. The server's door admits or refuses callers. It decides
//! nothing about models: a verb is one call of the [`Hub`] behind it, whose refusals are passed on unchanged.

use std::future::{Ready, ready};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};

mod all;
mod clients;
mod configuration;
mod error;
mod extract;
mod fleet;
mod history;
mod hub;
mod live;
mod logs;
mod metrics;
mod models;
mod openapi;
mod page;
mod policies;
mod requests;
mod root;
mod service;

pub use configuration::ConfigEditor;
pub use hub::Hub;
pub use live::Live;

use crate::api::Verb;
use error::{method_not_allowed, no_such_route};

/// The routes of Create-hub for two of the verbs on a model, below `/hub/models/{name}/`.
const OLDER_ROUTES: [(&str, Verb); 2] = [("vram/load", Verb::Load), ("vram/unload", Verb::Unload)];

/// The route of each verb on a model, below `/hub/models/{name}/`.
fn model_verbs() -> impl Iterator<Item = (&'static str, Verb)> {
    let named = Verb::ALL.map(|verb| (verb.as_str(), verb));
    named.into_iter().chain(OLDER_ROUTES)
}

/// The control API, the dashboard, `/health`, `/metrics` and `/openapi.json`, with every error in the OpenAI
/// envelope.
pub fn router<H: Hub>(hub: H, live: Live) -> Router {
    let mut router = Router::new()
        .route("/", get(root::root::<H>))
        .route("/favicon.ico", get(root::favicon))
        .route("/hub/", get(page::page::<H>))
        .route("/hub/assets/{name}", get(page::asset::<H>));
    for (action, _) in model_verbs() {
        // `{name}` matches no empty segment.
        let path = format!("/hub/models//{action}");
        router = router.route(&path, post(models::without_name));
    }
    for (_, path, handler) in routes(live) {
        router = router.route(&path, handler);
    }
    router
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(extract::BODY_LIMIT))
        .layer(map_response(as_it_says))
        .with_state(hub)
}

/// The handler of `GET /hub/events`.
fn events<H: Hub>(live: Live) -> impl Fn(State<H>) -> Ready<Response> + Clone {
    move |State(hub)| ready(live.answer(&hub))
}

/// Keeps browsers from guessing another content type.
async fn as_it_says(mut response: Response) -> Response {
    let nosniff = HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// The routes `/openapi.json` describes: method, path, handler.
fn routes<H: Hub>(live: Live) -> Vec<(Method, String, MethodRouter<H>)> {
    let logs = live.logs();
    let mut routes: Vec<(Method, &str, MethodRouter<H>)> = vec![
        (Method::GET, "/health", get(service::health)),
        (Method::GET, "/health/ready", get(fleet::ready::<H>)),
        (Method::GET, "/metrics", get(metrics::metrics::<H>)),
        (Method::GET, "/openapi.json", get(openapi::openapi)),
        (Method::GET, "/hub", get(page::page::<H>)),
        (Method::GET, "/hub/status", get(service::status::<H>)),
        (Method::GET, "/hub/events", get(events::<H>(live))),
        (Method::GET, "/hub/logs", {
            let logs = logs.clone();
            get(async |hub, query| logs.of_hub::<H>(hub, query).await)
        }),
        (Method::GET, "/hub/models/{name}/logs", {
            get(async |hub, name, query| logs.of_model::<H>(hub, name, query).await)
        }),
        (Method::GET, "/hub/history", get(history::history::<H>)),
        (Method::GET, "/hub/fleet", get(fleet::report::<H>)),
        (Method::POST, "/hub/fleet/drain", post(fleet::drain::<H>)),
        (
            Method::POST,
            "/hub/fleet/undrain",
            post(fleet::undrain::<H>),
        ),
        (
            Method::GET,
            "/fleet/{name}/health",
            get(fleet::model_ready::<H>),
        ),
        (
            Method::GET,
            "/fleet/{name}/v1/models",
            get(fleet::models::<H>),
        ),
        (Method::GET, "/fleet/{name}/v1/loads", get(fleet::load::<H>)),
        (Method::GET, "/hub/clients", get(clients::clients::<H>)),
        (
            Method::GET,
            "/hub/models/{name}/plan",
            get(models::plan::<H>),
        ),
        (Method::GET, "/hub/requests", get(requests::requests::<H>)),
        (
            Method::POST,
            "/hub/requests/{id}/cancel",
            post(requests::cancel::<H>),
        ),
        (
            Method::GET,
            "/hub/requests/{id}/capture",
            get(requests::captured::<H>),
        ),
        (Method::GET, "/hub/policies", get(policies::report::<H>)),
        (
            Method::GET,
            "/hub/policies/decisions",
            get(policies::decisions::<H>),
        ),
        (
            Method::GET,
            "/hub/policies/recording",
            get(policies::recording::<H>),
        ),
        (
            Method::POST,
            "/hub/policies/recording/start",
            post(policies::start_recording::<H>),
        ),
        (
            Method::POST,
            "/hub/policies/recording/stop",
            post(policies::stop_recording::<H>),
        ),
    ];
    routes.extend(configuration::routes());
    for path in ["/hub/reload", "/hub/runtime/reload"] {
        routes.push((Method::POST, path, post(service::reload::<H>)));
    }
    routes.push((Method::POST, "/hub/restart", post(service::restart::<H>)));
    for path in ["/hub/shutdown", "/hub/runtime/shutdown"] {
        routes.push((Method::POST, path, post(service::shutdown::<H>)));
    }
    routes.extend([
        (
            Method::POST,
            "/hub/models/unload-all",
            post(all::unload::<H>),
        ),
        (Method::POST, "/hub/models/stop-all", post(all::stop::<H>)),
    ]);
    let models = model_verbs().map(|(action, verb)| {
        let path = format!("/hub/models/{{name}}/{action}");
        (Method::POST, path, post(models::handler::<H>(verb)))
    });
    let own = routes
        .into_iter()
        .map(|(method, path, handler)| (method, path.to_owned(), handler));
    own.chain(models).collect()
}

#[cfg(test)]
mod tests;
