//! The hub as a member of a fleet: what a gateway asks about it, none of which loads a model, and what its user
//! does about that.

use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::extract::{IgnoredBody, ModelName};
use super::hub::Hub;
use crate::api::{ApiError, FleetReport, MemberLoad, unix_now};

/// Tokens per second for a model of which it is not known.
const USUAL_SPEED: f64 = 50.0;

/// Seconds that a load takes if none has been seen.
const USUAL_LOAD: f64 = 30.0;
/// A quick load counts as this many seconds: it may take another model out of memory.
const SHORTEST_LOAD: f64 = 10.0;

/// Tokens of a prompt that a model reads in a second: it makes waiting work of the seconds of a load.
const PROMPT_SPEED: f64 = 500.0;

/// 200 if gateways may send requests to this hub.
pub(super) async fn ready<H: Hub>(State(hub): State<H>) -> Result<impl IntoResponse, ApiError> {
    hub.readiness()?;
    Ok((
        [(CACHE_CONTROL, "no-store")],
        Json(json!({"status": "ready"})),
    ))
}

/// 200 if gateways may send requests for that model.
pub(super) async fn model_ready<H: Hub>(
    State(hub): State<H>,
    ModelName(name): ModelName,
) -> Result<impl IntoResponse, ApiError> {
    hub.model_readiness(&name)?;
    let body = json!({"status": "ready", "model": name});
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)))
}

/// The list of models at a model's address: it alone.
pub(super) async fn models<H: Hub>(
    State(hub): State<H>,
    ModelName(name): ModelName,
) -> Result<Json<Value>, ApiError> {
    let load = hub.member_load(&name)?;
    Ok(Json(json!({
        "object": "list",
        "data": [{
            "id": name,
            "object": "model",
            "created": load.created,
            "owned_by": "hub",
            "max_model_len": load.context_length,
        }],
    })))
}

/// How busy a model is, in the form of SGLang.
pub(super) async fn load<H: Hub>(
    State(hub): State<H>,
    ModelName(name): ModelName,
) -> Result<impl IntoResponse, ApiError> {
    let load = hub.member_load(&name)?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(loads(&load))))
}

/// A model that is not in memory is as busy as one that has work for the time of its load.
fn loads(load: &MemberLoad) -> Value {
    let speed = load.tokens_per_second.unwrap_or(USUAL_SPEED);
    let until_loaded = match load.is_loaded {
        true => 0.0,
        false => load.load_seconds.unwrap_or(USUAL_LOAD).max(SHORTEST_LOAD),
    };
    let waiting = load.waiting + usize::from(!load.is_loaded);
    json!({
        "timestamp": unix_now().to_string(),
        "dp_rank_count": 1,
        "loads": [{
            "dp_rank": 0,
            "num_running_reqs": load.running,
            "num_waiting_reqs": waiting,
            "num_total_reqs": load.running + waiting,
            "num_waiting_uncached_tokens": (until_loaded * PROMPT_SPEED).round() as u64,
            "num_used_tokens": 0,
            "max_total_num_tokens": load.context_length,
            "token_usage": 0.0,
            "gen_throughput": speed,
        }],
    })
}

pub(super) async fn report<H: Hub>(State(hub): State<H>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(hub.fleet()))
}

pub(super) async fn drain<H: Hub>(State(hub): State<H>, _: IgnoredBody) -> Json<FleetReport> {
    Json(hub.drain().await)
}

pub(super) async fn undrain<H: Hub>(State(hub): State<H>, _: IgnoredBody) -> Json<FleetReport> {
    Json(hub.undrain().await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_not_in_memory_is_busier_than_an_idle_one() {
        let warm = MemberLoad {
            is_loaded: true,
            context_length: 4096,
            running: 2,
            waiting: 1,
            tokens_per_second: Some(50.0),
            load_seconds: Some(20.0),
            ..MemberLoad::default()
        };
        let seen = loads(&warm)["loads"][0].clone();
        assert_eq!(seen["num_running_reqs"], 2);
        assert_eq!(seen["num_waiting_reqs"], 1);
        assert_eq!(seen["num_waiting_uncached_tokens"], 0);
        let cold = MemberLoad {
            is_loaded: false,
            running: 0,
            waiting: 0,
            ..warm
        };
        let seen = loads(&cold)["loads"][0].clone();
        assert_eq!(seen["num_waiting_reqs"], 1);
        assert_eq!(seen["num_waiting_uncached_tokens"], 10_000);
    }
}
