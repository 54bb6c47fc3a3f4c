//! `GET /openapi.json`: the description of the control API, written by hand in
//! `openapi.yaml`. Tests hold it to the route table and to the shape of the status.

use std::sync::LazyLock;

use axum::Json;
use serde_json::Value;

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    serde_yaml::from_str(include_str!("openapi.yaml")).expect("the tests read this very text")
});

/// The description.
pub(super) fn description() -> &'static Value {
    &DESCRIPTION
}

pub(super) async fn openapi() -> Json<&'static Value> {
    Json(description())
}
