//! The answers of the status page's login: its page, the body that it reads, and the cookie that it sets.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::api::ApiError;
use crate::hub::dashboard;
use crate::hub::gateway::Body;

/// Longest body of a login, and longest time for it.
const MOST: usize = 4096;
const LIMIT: Duration = Duration::from_secs(10);

/// The page in the place of an answer that refuses the status page.
pub(super) fn page(refusal: Response<Body>) -> Response<Body> {
    let Ok(html) = dashboard::login_page() else {
        return refusal;
    };
    let (mut parts, _) = refusal.into_parts();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, dashboard::CONTENT_SECURITY_POLICY),
    ] {
        parts.headers.insert(name, HeaderValue::from_static(value));
    }
    Response::from_parts(parts, Body::full(html))
}

/// The body of a login.
///
/// # Errors
/// 400 for one that is too long, too slow, or breaks off.
pub(super) async fn body(body: Incoming) -> Result<Bytes, ApiError> {
    let whole = timeout(LIMIT, Limited::new(body, MOST).collect()).await;
    let failed = || {
        let message = format!("A login has at most {MOST} bytes, and comes at once.");
        ApiError::new(StatusCode::BAD_REQUEST, message)
    };
    match whole {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(_)) | Err(_) => Err(failed()),
    }
}

/// The answer that sets or removes the cookie.
pub(super) fn done(cookie: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}
