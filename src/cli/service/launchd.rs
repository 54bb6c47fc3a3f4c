//! launchd: a property list, and `launchctl`.
//!
//! The keys are those of launchd.plist(5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use nix::unistd::getuid;
use plist::{Dictionary, Value};
use serde::Deserialize;

use super::plan::ServicePlan;
use super::{Act, MARK, Manager, NewFile, Rule, Scope, State, Step, Told};

/// The name of a listener below `Sockets`, which the hub asks for.
const LISTENERS: &str = "Listeners";
/// Open files that a hub with many clients needs; launchd allows 256.
const OPEN_FILES: i64 = 10_240;

/// A LaunchAgent or a LaunchDaemon.
pub(super) struct Launchd {
    pub(super) label: String,
    pub(super) scope: Scope,
    pub(super) home: PathBuf,
}

/// The keys of a property list that are read.
#[derive(Deserialize)]
struct Read {
    #[serde(rename = "ProgramArguments", default)]
    arguments: Vec<String>,
    #[serde(rename = "EnvironmentVariables", default)]
    environment: BTreeMap<String, String>,
}

impl Launchd {
    fn file(&self) -> PathBuf {
        let folder = match self.scope {
            Scope::User => self.home.join("Library/LaunchAgents"),
            Scope::System => PathBuf::from("/Library/LaunchDaemons"),
        };
        folder.join(format!("{}.plist", self.label))
    }

    fn domain(&self) -> String {
        match self.scope {
            Scope::User => format!("gui/{}", getuid()),
            Scope::System => "system".to_owned(),
        }
    }

    fn target(&self) -> String {
        format!("{}/{}", self.domain(), self.label)
    }

    fn launchctl(&self, words: &[&str]) -> Step {
        Step::new("launchctl", words)
    }

    fn boot_out(&self) -> Step {
        self.launchctl(&["bootout", &self.target()])
            .that(Rule::Ends)
    }

    /// launchd refuses to load again what it has not quite forgotten.
    fn bootstrap(&self) -> Step {
        let file = self.file().display().to_string();
        self.launchctl(&["bootstrap", &self.domain(), &file])
            .that(Rule::MustInTime)
    }
}

impl Manager for Launchd {
    fn name(&self) -> &str {
        &self.label
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.file()]
    }

    fn new_files(&self, plan: &ServicePlan) -> anyhow::Result<Vec<NewFile>> {
        let mut text = Vec::new();
        property_list(&self.label, plan).to_writer_xml(&mut text)?;
        let text = String::from_utf8(text)?;
        // After the document type, where a comment may stand.
        let (head, body) = text.split_once("<plist").unwrap_or(("", &text));
        Ok(vec![NewFile {
            path: self.file(),
            text: format!("{head}<!-- {MARK} -->\n<plist{body}\n"),
        }])
    }

    fn read(&self, text: &str) -> Option<Told> {
        plist::from_bytes::<Read>(text.as_bytes())
            .ok()
            .map(|read| Told {
                command: read.arguments,
                environment: read.environment,
            })
    }

    fn steps(&self, act: Act) -> Vec<Step> {
        match act {
            Act::Install => vec![self.boot_out(), self.bootstrap()],
            // One that is not loaded starts when it is.
            Act::Start => vec![
                self.launchctl(&["kickstart", &self.target()])
                    .that(Rule::Suffices),
                self.bootstrap(),
            ],
            // A job that only ends is started again by the next connection to its sockets.
            Act::Stop | Act::Uninstall => vec![self.boot_out()],
            Act::Forget => Vec::new(),
        }
    }

    fn question(&self) -> Step {
        self.launchctl(&["print", &self.target()])
    }

    fn state(&self, answer: &Output) -> State {
        if !answer.status.success() {
            return State::Unknown;
        }
        let text = String::from_utf8_lossy(&answer.stdout);
        let pid = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("pid = "));
        match pid.and_then(|pid| pid.parse().ok()) {
            Some(pid) => State::Running(pid),
            None => State::Loaded,
        }
    }

    fn logs(&self, stderr_log: &Path, lines: usize, follow: bool) -> Step {
        let (lines, file) = (lines.to_string(), stderr_log.display().to_string());
        let mut words = vec!["-n", &lines];
        words.extend(follow.then_some("-F"));
        words.push(&file);
        Step::new("tail", &words)
    }

    fn ends_at_logout(&self) -> bool {
        false
    }
}

fn property_list(label: &str, plan: &ServicePlan) -> Value {
    let text = |path: &Path| Value::from(path.display().to_string());
    let arguments = vec![
        text(&plan.program),
        "--config".into(),
        text(&plan.config_path),
        "serve".into(),
    ];
    let mut list = Dictionary::new();
    let mut set = |key: &str, value: Value| list.insert(key.to_owned(), value);
    set("Label", label.into());
    set("ProgramArguments", Value::Array(arguments));
    let environment = plan.environment.iter();
    let environment = environment.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    set(
        "EnvironmentVariables",
        Value::Dictionary(environment.collect()),
    );
    if let Some(user) = &plan.user {
        set("UserName", user.as_str().into());
    }
    set("RunAtLoad", true.into());
    set("KeepAlive", dictionary([("SuccessfulExit", false.into())]));
    set("ExitTimeOut", seconds(plan).into());
    // Otherwise its work counts as background work, and gets what others leave.
    set("ProcessType", "Interactive".into());
    set(
        "SoftResourceLimits",
        dictionary([("NumberOfFiles", OPEN_FILES.into())]),
    );
    set("StandardErrorPath", text(&plan.stderr_log));
    let listeners = plan.listeners.iter().map(|address| {
        dictionary([
            ("SockNodeName", address.ip().to_string().into()),
            ("SockServiceName", address.port().to_string().into()),
        ])
    });
    let listeners: Vec<Value> = listeners.collect();
    if !listeners.is_empty() {
        set(
            "Sockets",
            dictionary([(LISTENERS, Value::Array(listeners))]),
        );
    }
    Value::Dictionary(list)
}

fn dictionary<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.map(|(key, value)| (key.to_owned(), value));
    Value::Dictionary(entries.into_iter().collect())
}

fn seconds(plan: &ServicePlan) -> i64 {
    i64::try_from(plan.stop_limit.as_secs()).unwrap_or(i64::MAX)
}
