//! `/hub/config`: hub.yaml for the editor of the status page.
//!
//! Whoever may change hub.yaml decides which programs the hub runs. So these routes answer only where hub.yaml
//! itself says so, and only to this machine; in a hub that has keys the server has asked for one that may control it.

use std::net::SocketAddr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::http::header::{CACHE_CONTROL, ETAG, FORWARDED, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::Value;

use super::hub::Hub;
use crate::api::{ApiError, ConfigCheck, ConfigSaved, ConfigText};
use crate::hub::lifecycle::Lifecycle;

/// Longest text: that of the longest hub.yaml.
const MOST: usize = 1 << 20;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// hub.yaml as the hub shows and changes it; see [`Lifecycle`] for what each call promises.
pub trait ConfigEditor {
    /// True if the status page may change hub.yaml.
    fn edits_config(&self) -> bool;

    /// The JSON schema of hub.yaml.
    fn config_schema(&self) -> impl Future<Output = Result<Value, ApiError>> + Send;

    /// hub.yaml as it is on the disk.
    fn config_text(&self) -> impl Future<Output = Result<ConfigText, ApiError>> + Send;

    /// The judgement of a text that may become hub.yaml.
    fn check_config(
        &self,
        text: String,
    ) -> impl Future<Output = Result<ConfigCheck, ApiError>> + Send;

    /// Saves a text in the place of the one of that `version`, and reads it.
    fn save_config(
        &self,
        text: String,
        version: &str,
    ) -> impl Future<Output = Result<ConfigSaved, ApiError>> + Send;
}

impl ConfigEditor for Lifecycle {
    fn edits_config(&self) -> bool {
        Lifecycle::edits_config(self)
    }

    async fn config_schema(&self) -> Result<Value, ApiError> {
        Lifecycle::config_schema(self).await
    }

    async fn config_text(&self) -> Result<ConfigText, ApiError> {
        Lifecycle::config_text(self).await
    }

    async fn check_config(&self, text: String) -> Result<ConfigCheck, ApiError> {
        Lifecycle::check_config(self, text).await
    }

    async fn save_config(&self, text: String, version: &str) -> Result<ConfigSaved, ApiError> {
        Lifecycle::save_config(self, text, version).await
    }
}

/// The routes: method, path, handler.
pub(super) fn routes<H: Hub>() -> [(Method, &'static str, MethodRouter<H>); 4] {
    let limit = DefaultBodyLimit::max(MOST);
    [
        (Method::GET, "/hub/config", get(read::<H>)),
        (
            Method::PUT,
            "/hub/config",
            axum::routing::put(save::<H>).layer(limit),
        ),
        (
            Method::POST,
            "/hub/config/check",
            post(check::<H>).layer(limit),
        ),
        (Method::GET, "/hub/config/schema", get(schema::<H>)),
    ]
}

/// A client that may see and change hub.yaml.
#[derive(Debug)]
struct Editor;

impl<H: Hub> FromRequestParts<H> for Editor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, hub: &H) -> Result<Self, ApiError> {
        let refuse = |message: &str| Err(ApiError::new(StatusCode::FORBIDDEN, message));
        if !hub.edits_config() {
            return refuse(
                "hub.yaml is not shown or changed here; `edit_config: true` in hub.yaml and a reload allow it",
            );
        }
        let client = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let is_here =
            client.is_some_and(|ConnectInfo(client)| client.ip().to_canonical().is_loopback());
        let is_passed_on = [FORWARDED, FORWARDED_FOR]
            .iter()
            .any(|header| parts.headers.contains_key(header));
        if !is_here || is_passed_on {
            return refuse(
                "hub.yaml is shown and changed only on the hub's own machine, without a proxy in between",
            );
        }
        Ok(Self)
    }
}

/// The text of a request.
struct YamlText(String);

impl<S: Send + Sync> FromRequest<S> for YamlText {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        String::from_utf8(bytes.into())
            .map(Self)
            .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "The text has to be UTF-8"))
    }
}

fn unread(rejection: BytesRejection) -> ApiError {
    let message = match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => "hub.yaml must not be larger than 1 MiB".to_owned(),
        _ => rejection.body_text(),
    };
    ApiError::new(rejection.status(), message)
}

async fn read<H: Hub>(State(hub): State<H>, _: Editor) -> Result<Response, ApiError> {
    let text = hub.config_text().await?;
    let tag = tag(&text.version);
    Ok(([(CACHE_CONTROL, no_store()), (ETAG, tag)], Json(text)).into_response())
}

async fn check<H: Hub>(
    State(hub): State<H>,
    _: Editor,
    YamlText(text): YamlText,
) -> Result<Json<ConfigCheck>, ApiError> {
    hub.check_config(text).await.map(Json)
}

async fn save<H: Hub>(
    State(hub): State<H>,
    _: Editor,
    headers: HeaderMap,
    YamlText(text): YamlText,
) -> Result<Response, ApiError> {
    let version = headers.get(IF_MATCH).and_then(|tag| tag.to_str().ok());
    let Some(version) = version.map(|tag| tag.trim().trim_matches('"')) else {
        return Err(ApiError::new(
            StatusCode::PRECONDITION_REQUIRED,
            "`If-Match` is missing: the ETag of the `GET /hub/config` that the text was made from",
        ));
    };
    let saved: ConfigSaved = hub.save_config(text, version).await?;
    let tag = tag(&saved.version);
    Ok(([(ETAG, tag)], Json(saved)).into_response())
}

async fn schema<H: Hub>(State(hub): State<H>) -> Result<Json<Value>, ApiError> {
    hub.config_schema().await.map(Json)
}

fn no_store() -> HeaderValue {
    HeaderValue::from_static("no-store")
}

fn tag(version: &str) -> HeaderValue {
    // Hexadecimal digits.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| no_store())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::{Body, to_bytes};
    use serde::Serialize;
    use serde_json::json;
    use tower::ServiceExt as _;

    use super::super::openapi::description;
    use super::super::tests::TableHub;
    use super::super::{Live, router};
    use super::*;
    use crate::api::{ConfigFinding, DiffLine, PolicyChanges, ReloadReport};

    /// A hub that says what it was asked.
    impl ConfigEditor for TableHub {
        fn edits_config(&self) -> bool {
            *self.log_path.lock() != "closed"
        }

        async fn config_schema(&self) -> Result<Value, ApiError> {
            Ok(json!({}))
        }

        async fn config_text(&self) -> Result<ConfigText, ApiError> {
            Ok(ConfigText {
                version: "1a".to_owned(),
                ..ConfigText::default()
            })
        }

        async fn check_config(&self, text: String) -> Result<ConfigCheck, ApiError> {
            Ok(ConfigCheck {
                restarts: vec![text.len().to_string()],
                ..ConfigCheck::default()
            })
        }

        async fn save_config(&self, text: String, version: &str) -> Result<ConfigSaved, ApiError> {
            Ok(ConfigSaved {
                backup: format!("{text} in the place of {version}"),
                version: "2b".to_owned(),
                ..ConfigSaved::default()
            })
        }
    }

    const ROUTES: [(&str, &str); 3] = [
        ("GET", "/hub/config"),
        ("POST", "/hub/config/check"),
        ("PUT", "/hub/config"),
    ];

    /// The status, the ETag and the body of an answer.
    async fn ask(
        hub: &TableHub,
        method: &str,
        path: &str,
        client: Option<&str>,
        header: (&str, &str),
        body: impl Into<Body>,
    ) -> (u16, Option<String>, Value) {
        let request = Request::builder().method(method).uri(path);
        let mut request = request
            .header(header.0, header.1)
            .body(body.into())
            .unwrap();
        if let Some(client) = client {
            let client: SocketAddr = client.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(client));
        }
        let answer = router(hub.clone(), Live::default()).oneshot(request);
        let (parts, body) = answer.await.unwrap().into_parts();
        let tag = parts.headers.get(ETAG);
        let tag = tag.map(|tag| tag.to_str().unwrap().to_owned());
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (
            parts.status.as_u16(),
            tag,
            serde_json::from_slice(&body).unwrap(),
        )
    }

    #[tokio::test]
    async fn nobody_sees_hub_yaml_from_elsewhere_or_unless_it_says_so() {
        let (open, closed) = (TableHub::default(), TableHub::default());
        "closed".clone_into(&mut closed.log_path.lock());
        for (method, path) in ROUTES {
            for (hub, client, header, status) in [
                (&open, Some("127.0.0.1:5"), "if-match", 200),
                (&open, Some("[::1]:5"), "if-match", 200),
                (&open, Some("[::ffff:127.0.0.1]:5"), "if-match", 200),
                (&open, Some("192.168.1.5:5"), "if-match", 403),
                (&open, Some("[fe80::1]:5"), "if-match", 403),
                (&open, None, "if-match", 403),
                (&open, Some("127.0.0.1:5"), "x-forwarded-for", 403),
                (&open, Some("127.0.0.1:5"), "forwarded", 403),
                (&closed, Some("127.0.0.1:5"), "if-match", 403),
            ] {
                let (found, _, body) = ask(hub, method, path, client, (header, "\"1a\""), "").await;
                assert_eq!(found, status, "{method} {path} {client:?} {header}: {body}");
                let word = if client == Some("127.0.0.1:5") && header == "if-match" {
                    "`edit_config: true`"
                } else {
                    "only on the hub's own machine"
                };
                let message = body["error"]["message"].as_str();
                assert!(status == 200 || message.unwrap().contains(word), "{body}");
            }
        }
    }

    #[tokio::test]
    async fn a_text_is_saved_in_the_place_of_the_one_that_it_was_made_from() {
        let hub = TableHub::default();
        let here = Some("127.0.0.1:5");
        let none = ("accept", "*/*");
        let (status, tag, body) = ask(&hub, "GET", "/hub/config", here, none, "").await;
        assert_eq!((status, body["version"].as_str()), (200, Some("1a")));
        let tag = tag.unwrap();
        assert_eq!(tag, "\"1a\"");
        let mine = ("if-match", &*tag);
        let (status, tag, body) = ask(&hub, "PUT", "/hub/config", here, mine, "mine").await;
        assert_eq!((status, tag.as_deref()), (200, Some("\"2b\"")));
        assert_eq!(body["backup"], "mine in the place of 1a");

        let (status, _, body) = ask(&hub, "PUT", "/hub/config", here, none, "mine").await;
        assert_eq!(status, 428, "{body}");
        let (status, ..) = ask(&hub, "PUT", "/hub/config", here, mine, &b"\xff"[..]).await;
        assert_eq!(status, 400);
        for (length, status) in [(MOST, 200), (MOST + 1, 413)] {
            let text = "x".repeat(length);
            let (found, _, body) = ask(&hub, "POST", "/hub/config/check", here, none, text).await;
            assert_eq!(found, status, "{body}");
        }
    }

    #[test]
    fn the_description_has_exactly_the_keys_of_the_answers() {
        fn assert_described(schema: &str, value: &impl Serialize) {
            let described = &description()["components"]["schemas"][schema]["properties"];
            let keys = |value: &Value| -> BTreeSet<String> {
                value.as_object().unwrap().keys().cloned().collect()
            };
            let value = serde_json::to_value(value).unwrap();
            assert_eq!(keys(described), keys(&value), "{schema}");
        }
        assert_described("ConfigText", &ConfigText::default());
        assert_described("ConfigCheck", &ConfigCheck::default());
        assert_described("ConfigFinding", &ConfigFinding::default());
        assert_described("DiffLine", &DiffLine::default());
        let policies = PolicyChanges {
            changed: vec!["night.lua".to_owned()],
            ..PolicyChanges::default()
        };
        assert_described("PolicyChanges", &policies);
        let reloaded = ReloadReport {
            policies: policies.clone(),
            ..ReloadReport::default()
        };
        assert_described("ReloadReport", &reloaded);
        let saved = ConfigSaved {
            policies,
            ..ConfigSaved::default()
        };
        assert_described("ConfigSaved", &saved);
    }
}
