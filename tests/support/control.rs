//! The control API, through the plain client.

use serde_json::{Value, json};

use super::http::{Answer, Http};
use super::{SOON, wait_for};

impl Http {
    /// `GET /hub/status`.
    pub fn hub_status(self) -> Value {
        self.get("/hub/status").json()
    }

    /// The status of one model: its `metadata`.
    pub fn model(self, name: &str) -> Value {
        let status = self.hub_status();
        let models = status["models"].as_array().expect("a list of models");
        let model = models.iter().find(|model| model["id"] == name);
        model.expect("a model of that name")["metadata"].clone()
    }

    /// Waits until `process_state` and `memory_state` of a model are these.
    pub fn wait_for_state(self, name: &str, process: &str, memory: &str) -> Value {
        wait_for(&format!("{name} to be {process}, {memory}"), SOON, || {
            let model = self.model(name);
            (model["process_state"] == process && model["memory_state"] == memory).then_some(model)
        })
    }

    /// `POST /hub/models/{name}/{action}`.
    pub fn act(self, name: &str, action: &str) -> Answer {
        let path = format!("/hub/models/{name}/{action}");
        self.post(&path, &json!({}))
    }
}
