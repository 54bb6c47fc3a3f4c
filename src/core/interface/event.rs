//! Events for observers: one type, from the place where something happens to the table that Lua gets.
//!
//! Both hubs make events and hand them to the policies; the serialized form is the table, so that a name
//! stands here once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its name.
    pub name: EventName,
    /// Its time, Unix seconds.
    pub time: f64,
    /// Its subject, with the details.
    #[serde(flatten)]
    pub details: Details,
}

/// The data of an event besides its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Details {
    /// The details of [`EventName::RequestFinished`].
    Request(Box<FinishedRequest>),
    /// The details of all events of models.
    Model(ModelEvent),
    /// All other events have none.
    None {},
}

/// The fields of the table that Lua gets, over all events.
pub(crate) const FIELDS: &[&str] = &[
    "name",
    "time",
    "model",
    "error",
    "seconds",
    "id",
    "client",
    "key",
    "path",
    "stream",
    "status",
    "wait_seconds",
    "first_token_seconds",
    "prompt_tokens",
    "completion_tokens",
    "tokens_per_second",
];

/// A change in the life of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelEvent {
    /// The model's name.
    pub model: String,
    /// The reason of its failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The time of its load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// A request to `/v1` whose answer has been sent to its end, or was given up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FinishedRequest {
    /// Its `X-Request-ID`.
    pub id: String,
    /// Name of the model that answered, or that the client named.
    pub model: String,
    /// The client's address.
    pub client: String,
    /// The name of its key, if the hub has keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Path of the URL, without the query.
    pub path: String,
    /// True if the answer came as a stream of events.
    pub stream: bool,
    /// HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// From its arrival to the end of the answer.
    pub seconds: f64,
    /// The part of that in which it waited for a model or for its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
    /// From its arrival to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_seconds: Option<f64>,
    /// As the worker counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// As the worker counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Rate of the completion, from the first token on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
}

/// Shortest time over which a rate of tokens is measured: a shorter one is that of the network.
const MIN_SPAN: Duration = Duration::from_millis(50);

/// Rate of a completion of so many tokens, the first of which came so long before its end; none if that says nothing.
pub(crate) fn tokens_per_second(completion: u64, since_first: Duration) -> Option<f64> {
    // The clock begins with the first token.
    let tokens = completion.checked_sub(1)?;
    (tokens > 0 && since_first >= MIN_SPAN).then(|| tokens as f64 / since_first.as_secs_f64())
}

/// The events there are, by the names that `hub.on` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventName {
    /// The model takes requests.
    #[serde(rename = "model.started")]
    ModelStarted,
    /// Its weights are being loaded.
    #[serde(rename = "model.loading")]
    ModelLoading,
    /// Its weights are in memory.
    #[serde(rename = "model.loaded")]
    ModelLoaded,
    /// Its memory is free again.
    #[serde(rename = "model.unloaded")]
    ModelUnloaded,
    /// It was stopped, as a user, a client or a policy wanted.
    #[serde(rename = "model.stopped")]
    ModelStopped,
    /// Its process ended unasked, or a load failed.
    #[serde(rename = "model.failed")]
    ModelFailed,
    /// The answer to a request has ended.
    #[serde(rename = "request.finished")]
    RequestFinished,
    /// hub.yaml was read again.
    #[serde(rename = "config.reloaded")]
    ConfigReloaded,
}

impl EventName {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ModelStarted,
        Self::ModelLoading,
        Self::ModelLoaded,
        Self::ModelUnloaded,
        Self::ModelStopped,
        Self::ModelFailed,
        Self::RequestFinished,
        Self::ConfigReloaded,
    ];

    /// The word Lua sees.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModelStarted => "model.started",
            Self::ModelLoading => "model.loading",
            Self::ModelLoaded => "model.loaded",
            Self::ModelUnloaded => "model.unloaded",
            Self::ModelStopped => "model.stopped",
            Self::ModelFailed => "model.failed",
            Self::RequestFinished => "request.finished",
            Self::ConfigReloaded => "config.reloaded",
        }
    }
}

impl Event {
    /// `name` happened to that model, at that Unix time.
    pub fn of_model(name: EventName, model: ModelEvent, time: f64) -> Self {
        let details = Details::Model(model);
        Self {
            name,
            time,
            details,
        }
    }

    /// That request has ended, at that Unix time.
    pub fn of_request(request: FinishedRequest, time: f64) -> Self {
        Self {
            name: EventName::RequestFinished,
            time,
            details: Details::Request(Box::new(request)),
        }
    }

    /// hub.yaml has been read again, at that Unix time.
    pub fn config_reloaded(time: f64) -> Self {
        Self {
            name: EventName::ConfigReloaded,
            time,
            details: Details::None {},
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_list_of_fields_is_what_events_have() {
        let request = Event::of_request(
            FinishedRequest {
                key: Some(String::new()),
                status: Some(200),
                wait_seconds: Some(1.0),
                first_token_seconds: Some(1.0),
                prompt_tokens: Some(1),
                completion_tokens: Some(1),
                tokens_per_second: Some(1.0),
                ..FinishedRequest::default()
            },
            0.0,
        );
        let model = Event::of_model(
            EventName::ModelLoaded,
            ModelEvent {
                error: Some(String::new()),
                seconds: Some(1.0),
                ..ModelEvent::default()
            },
            0.0,
        );
        let mut fields = BTreeSet::new();
        for event in [request, model, Event::config_reloaded(0.0)] {
            let json = serde_json::to_value(event).unwrap();
            fields.extend(json.as_object().unwrap().keys().cloned());
        }
        let listed = FIELDS.iter().map(|field| (*field).to_owned());
        assert_eq!(fields, listed.collect());
    }

    #[test]
    fn every_event_has_its_name_in_json_and_comes_back_from_it() {
        for name in EventName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), json!(name.as_str()));
        }
        for mut event in [
            Event::config_reloaded(0.0),
            Event::of_request(
                FinishedRequest {
                    id: "1".to_owned(),
                    prompt_tokens: Some(3),
                    ..FinishedRequest::default()
                },
                0.0,
            ),
            Event::of_model(
                EventName::ModelFailed,
                ModelEvent {
                    model: "alpha".to_owned(),
                    error: Some("no memory".to_owned()),
                    seconds: None,
                },
                0.0,
            ),
        ] {
            // Of a time in full precision the last bit may get lost.
            event.time = event.time.floor();
            let written = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&written).unwrap(), event);
        }
    }
}
