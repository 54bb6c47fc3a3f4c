//! Who may come in: the question the server asks about every request before anybody sees it.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::api_error::ApiError;
use crate::gateway::Body;

/// Keeps web pages and strangers out.
pub trait Guard: Send + Sync {
    /// Looks at the head of a request. `Ok` lets it in, with the origin that its answer is to allow,
    /// if the request comes from a web page that may read it.
    ///
    /// # Errors
    /// What to answer instead.
    fn check(&self, parts: &Parts) -> Result<Option<HeaderValue>, ApiError>;
}

/// The answer to a browser that asks first whether a page of an allowed origin may send a request.
pub(super) fn preflight(parts: &Parts) -> Option<Response<Body>> {
    if parts.method != Method::OPTIONS {
        return None;
    }
    let method = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut response = Response::new(Body::full(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(wanted) = parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    let ten_minutes = HeaderValue::from_static("600");
    headers.insert(ACCESS_CONTROL_MAX_AGE, ten_minutes);
    Some(response)
}

/// Lets a page of `origin` read the answer.
pub(super) fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn only_a_preflight_is_answered_as_one() {
        let options = |name: &str| {
            let request = Request::options("/v1/models").header(name, "POST").body(());
            preflight(&request.unwrap().into_parts().0)
        };
        assert!(options("x-other").is_none());
        let response = options("access-control-request-method").unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_METHODS], "POST");
        let post = Request::post("/").header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
        assert!(preflight(&post.body(()).unwrap().into_parts().0).is_none());
    }
}
