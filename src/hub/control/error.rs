//! Turns errors into axum's answers, and answers for routes that do not exist.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::api::{ApiError, shown};

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.to_response().map(Body::from)
    }
}

pub(super) async fn no_such_route(method: Method, uri: Uri) -> ApiError {
    let message = format!(
        "There is no {} {}",
        shown(method.as_str()),
        shown(uri.path())
    );
    ApiError::new(StatusCode::NOT_FOUND, message)
}

/// axum adds the `Allow` header.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!(
        "{} does not answer {}",
        shown(uri.path()),
        shown(method.as_str())
    );
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

pub(super) fn bad_path(rejection: &PathRejection) -> ApiError {
    ApiError::new(rejection.status(), rejection.body_text())
}

pub(super) fn bad_query(rejection: QueryRejection) -> ApiError {
    ApiError::new(rejection.status(), rejection.body_text())
}
