//! CORS: the headers that let a page of another origin read an answer, and the answer to a preflight.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::hub::gateway::Body;

/// The answer to the preflight of an admitted page.
pub(in crate::hub::server) fn preflight(parts: &Parts) -> Option<Response<Body>> {
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

/// Lets a page of `origin` read the answer with its headers: clients read `Retry-After` and the request's id.
pub(in crate::hub::server) fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
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
