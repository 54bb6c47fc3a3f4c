//! A hub of the fleet: a daemon as a user starts it, on a machine of the network.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::ask::client;
use crate::support::home::{Home, Ran, ran};
use crate::support::network::Place;
use crate::support::{BINARY, SOON, wait_for};

/// The hubs' names. The number of tokens in an answer says whose it is: its last digit is the place here.
pub(crate) const NAMES: [&str; 4] = ["", "studio", "mini", "laptop"];

/// The heartbeat of those whose way back is measured; of all others it is [`SHORT`].
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);
/// Seconds.
const SHORT: u64 = 2;

/// A hub of the fleet.
pub(crate) struct Member {
    pub(crate) place: Place,
    pub(crate) home: Home,
    pub(crate) name: String,
    /// The address of the gateway that it registers with.
    pub(crate) door: Option<String>,
    /// More variables of its environment.
    pub(crate) variables: Vec<(String, String)>,
}

impl Member {
    pub(crate) fn url(&self) -> String {
        format!("http://{}:{}", self.place.address, self.home.port)
    }

    /// The address at which the gateway asks for a model.
    pub(crate) fn at(&self, model: &str) -> String {
        format!("{}/fleet/{model}", self.url())
    }

    /// Writes hub.yaml.
    pub(crate) fn configure(&self, models: &[&str]) {
        self.configure_with(models, "", "");
    }

    /// The same with more keys of `fleet`, and more of the hub.
    pub(crate) fn configure_with(&self, models: &[&str], of_fleet: &str, of_hub: &str) {
        let (port, first) = (self.home.port, self.home.port + 1);
        let mut text = format!(
            "host: 0.0.0.0\nport: {port}\nmodel_starting_port: {first}\nworker_command: [jit-openai-server]\n{of_hub}"
        );
        if let Some(door) = &self.door {
            text += &format!(
                "fleet: {{gateway: '{door}', advertise: '{}', labels: {{hub: {}}}, heartbeat_seconds: {SHORT}{of_fleet}}}\n",
                self.url(),
                self.name
            );
        }
        text += "models:\n";
        for model in models {
            text += &format!(
                "  - {{name: {model}, model_path: org/{model}, default: true, jit_enabled: true, \
                 env: {{STUB_TOKENS: {}, STUB_TOKEN_MS: 1}}}}\n",
                self.number()
            );
        }
        self.home.write(&text);
    }

    /// Its place in [`NAMES`].
    fn number(&self) -> usize {
        NAMES.iter().position(|name| *name == self.name).unwrap()
    }

    /// The same with models whose streams take that many milliseconds, in 20 pieces and a few.
    pub(crate) fn is_slow(&self, milliseconds: u32) {
        let number = self.number();
        let pace = milliseconds / 20;
        self.rewrite(
            &format!("STUB_TOKENS: {number}, STUB_TOKEN_MS: 1"),
            &format!("STUB_TOKENS: 2{number}, STUB_TOKEN_MS: {pace}"),
        );
    }

    /// The same with models that take so long to load.
    pub(crate) fn loads_slowly(&self, seconds: u64) {
        self.rewrite("env: {", &format!("env: {{STUB_LOAD_SECONDS: {seconds}, "));
    }

    /// Gives it a heartbeat of [`HEARTBEAT`].
    pub(crate) fn beats_slowly(&self) {
        let beat = |seconds: u64| format!("heartbeat_seconds: {seconds}");
        self.rewrite(&beat(SHORT), &beat(HEARTBEAT.as_secs()));
        self.said(&["reload"]);
    }

    /// Changes hub.yaml.
    fn rewrite(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.home.config()).unwrap();
        assert!(text.contains(from), "no `{from}` in {text}");
        self.home.write(&text.replace(from, to));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let as_user = self.home.command(arguments);
        let mut command = self.place.command(Path::new(BINARY));
        command
            .args(arguments)
            .env_clear()
            .current_dir(self.home.path());
        for (name, value) in as_user.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.envs(self.variables.iter().cloned());
        command
    }

    pub(crate) fn start(&self) {
        let started = self.run(&["start"]);
        started.assert_ok();
        self.home.note_daemon(&started.out);
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    #[track_caller]
    pub(crate) fn said(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        ran.assert_ok();
        ran.out
    }

    /// `GET /hub/fleet`.
    pub(crate) fn fleet(&self) -> Value {
        let ran = self.run(&["fleet", "status", "--json"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// Waits until the hub sees itself like this.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, state: &str) {
        wait_for(&format!("{} to be {state}", self.name), SOON, || {
            (self.fleet()["state"] == state).then_some(())
        });
    }

    /// The memory state of each model.
    pub(crate) fn memory(&self) -> Vec<Value> {
        self.facts("memory_state")
    }

    /// That field of each model.
    fn facts(&self, field: &str) -> Vec<Value> {
        let status: Value = serde_json::from_str(&self.said(&["status", "--json"])).unwrap();
        let models = status["models"].as_array().unwrap().iter();
        models
            .map(|model| model["metadata"][field].clone())
            .collect()
    }

    /// The status of `GET /health/ready`.
    pub(crate) fn readiness(&self) -> u16 {
        let answer = client().get(format!("{}/health/ready", self.url())).call();
        answer.map_or(0, |answer| answer.status().as_u16())
    }
}

/// Nothing is in memory, and nothing is loaded for so long.
#[track_caller]
pub(crate) fn assert_load_nothing(members: &[&Member], time: Duration) {
    let loads = || members.iter().map(|member| member.facts("last_load_at"));
    let before: Vec<_> = loads().collect();
    std::thread::sleep(time);
    assert!(loads().eq(before), "a model was loaded");
    for member in members {
        let memory = member.memory();
        assert!(memory.iter().all(|state| state == "unloaded"), "{memory:?}");
    }
}
