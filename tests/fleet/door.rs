//! The real gateway, started, closed and lied to.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ask::{ask_by, client, with_key};
use crate::member::{HEARTBEAT, Member};
use crate::support::network::Place;
use crate::support::{SOON, wait_until};
use crate::world::smg;

/// The gateway's port.
pub(crate) const DOOR: u16 = 30_000;

/// The calls that follow a heartbeat take no longer than this, on a machine that does much else.
const CALLS: Duration = Duration::from_secs(5);

/// The gateway.
pub(crate) struct Door {
    pub(crate) place: Place,
    /// The key that it wants.
    key: Option<String>,
    process: Option<Child>,
}

impl Door {
    pub(crate) fn at(place: Place) -> Self {
        Self {
            place,
            key: None,
            process: None,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}:{DOOR}", self.place.address)
    }

    /// Starts it, with more options.
    pub(crate) fn open(&mut self, options: &[&str]) {
        let mut command = self.place.command(smg());
        command
            .args([
                "launch",
                "--host",
                "0.0.0.0",
                "--enable-igw",
                "--log-level",
                "warn",
            ])
            .args(["--port", &DOOR.to_string(), "--load-monitor-interval", "1"])
            .args(options);
        self.run(command);
    }

    /// Starts it by what `fleet config smg` prints, with a key if that has one.
    pub(crate) fn open_as_printed(&mut self, text: &str, key: Option<&str>) {
        let programs = smg();
        let programs = programs.parent().unwrap().display();
        let mut command = self.place.command(Path::new("/bin/sh"));
        command
            .args(["-c", text])
            .env("PATH", format!("{programs}:/usr/bin:/bin"));
        if let Some(key) = key {
            command.env("GATEWAY_KEY", key);
        }
        self.key = key.map(str::to_owned);
        self.run(command);
    }

    fn run(&mut self, mut command: Command) {
        command
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        wait_until("the gateway to answer", Duration::from_secs(60), || {
            self.entries().is_some()
        });
    }

    /// Kills it.
    pub(crate) fn close(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Its entries; `None` while it does not answer.
    pub(crate) fn entries(&self) -> Option<Vec<Value>> {
        let list: Value = serde_json::from_str(&self.list()?).ok()?;
        Some(list["workers"].as_array()?.clone())
    }

    /// The text that hubs read.
    pub(crate) fn list(&self) -> Option<String> {
        let request = client().get(format!("{}/workers", self.url()));
        let mut answer = with_key(request, self.key.as_deref()).call().ok()?;
        answer.body_mut().read_to_string().ok()
    }

    /// The group of its processes.
    pub(crate) fn group(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// The addresses of those that it sends requests to, sorted.
    pub(crate) fn ready(&self) -> Vec<String> {
        let entries = self.entries().unwrap_or_default();
        let ready = entries.iter().filter(|entry| entry["status"] == "ready");
        let mut urls: Vec<_> = ready
            .map(|entry| entry["url"].as_str().unwrap().to_owned())
            .collect();
        urls.sort();
        urls
    }

    /// Waits until it sends requests to all these, and to no other.
    #[track_caller]
    pub(crate) fn wait_for(&self, members: &[(&Member, &[&str])]) {
        self.wait_so_long_for(SOON, members);
    }

    /// The same with another limit.
    #[track_caller]
    pub(crate) fn wait_so_long_for(&self, limit: Duration, members: &[(&Member, &[&str])]) {
        let mut expected: Vec<_> = members
            .iter()
            .flat_map(|(member, models)| models.iter().map(|model| member.at(model)))
            .collect();
        expected.sort();
        let mut seen = Vec::new();
        let found = crate::support::within(limit, || {
            seen = self.ready();
            (seen == expected).then_some(())
        });
        assert!(found.is_some(), "expected {expected:#?}\nfound {seen:#?}");
    }

    /// The same within a heartbeat and the time of its calls.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "a measurement")]
    pub(crate) fn wait_for_a_heartbeat(&self, begun: Instant, members: &[(&Member, &[&str])]) {
        self.wait_for(members);
        let took = begun.elapsed();
        println!("all back after {took:.1?}; the heartbeat is {HEARTBEAT:?}");
        assert!(took < HEARTBEAT + CALLS, "all back after {took:?}");
    }

    /// Changes an entry behind the hub's back.
    pub(crate) fn change(&self, url: &str, change: impl Fn(&mut Value)) {
        let entries = self.entries().unwrap();
        let entry = entries.iter().find(|entry| entry["url"] == url).unwrap();
        let mut spec = json!({
            "url": url,
            "models": entry["models"],
            "labels": entry["labels"],
            "health": entry["health"],
        });
        change(&mut spec);
        let id = entry["id"].as_str().unwrap();
        let request = client().put(format!("{}/workers/{id}", self.url()));
        let answer = with_key(request, self.key.as_deref())
            .content_type("application/json")
            .send(spec.to_string())
            .unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Asks a model, and gives the status and the name of the hub that has answered.
    pub(crate) fn ask(&self, model: &str) -> (u16, String) {
        ask_by(&client(), &self.url(), model, self.key.as_deref())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
