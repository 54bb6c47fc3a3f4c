//! `GET /hub` and the assets of the page.

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};

use super::error::no_such_route;
use super::hub::Hub;
use crate::api::ApiError;
use crate::hub::dashboard;

pub(super) async fn page<H: Hub>(State(hub): State<H>) -> Result<Response, ApiError> {
    check_enabled(&hub)?;
    let html = dashboard::page(&hub.status()).map_err(|error| not_rendered(&error))?;
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, dashboard::CONTENT_SECURITY_POLICY),
        // `no-referrer` would make browsers send `Origin: null` with some of the page's own POSTs.
        (REFERRER_POLICY, "same-origin"),
    ];
    Ok((headers, Html(html)).into_response())
}

pub(super) async fn asset<H: Hub>(
    State(hub): State<H>,
    Path(name): Path<String>,
    method: Method,
    uri: Uri,
) -> Result<Response, ApiError> {
    check_enabled(&hub)?;
    let Some(asset) = dashboard::asset(&name) else {
        return Err(no_such_route(method, uri).await);
    };
    let headers = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_TYPE, asset.content_type),
    ];
    Ok((headers, asset.text).into_response())
}

/// A fault of the template.
fn not_rendered(error: &minijinja::Error) -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!(
            "The status page cannot be rendered: {error}. This is a fault of the hub; \
             `mlx-openai-server-hub status` shows the same."
        ),
    )
}

fn check_enabled(hub: &impl Hub) -> Result<(), ApiError> {
    if hub.page_enabled() {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        "The status page is disabled; `enable_status_page: true` in hub.yaml enables it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_cannot_be_rendered_says_why() {
        let error = minijinja::Environment::new()
            .render_str("{{ 1 / 0 }}", ())
            .unwrap_err();
        insta::assert_snapshot!(not_rendered(&error), @"The status page cannot be rendered: invalid operation: unable to calculate 1 / 0 (in <string>:1). This is a fault of the hub; `mlx-openai-server-hub status` shows the same.");
    }
}
