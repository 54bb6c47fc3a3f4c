//! Asks the current policies about recorded calls of hooks, and compares their verdicts.
//!
//! `policy replay` calls it. Nothing is started and no hub is asked: the world is that of the recording,
//! with its clock, over the current hub.yaml. Each call is decided by the facts of its moment and by what
//! observers learned from earlier events; a different verdict does not change later lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderName, HeaderValue, Method};

use super::journal::record::line;
use super::journal::record::line::{CallLine, Heard, Line};
use super::journal::record::said;
use super::journal::ruling::{Question, Ruling};
use super::set::{HookAnswer, PolicySet, RecordedBody};
use super::{Credential, Details, LoadReason, Parked, PendingLoad, RequestView, World, bundled};
use crate::config::Config;

pub use super::journal::record::line::Said;
use super::journal::recorded::Recorded;

/// Differences that are kept; further ones are only counted.
const MAX_DIFFERENCES: usize = 1000;

/// The id of every replayed request: the clients' ids are not recorded.
const REPLAYED: &str = "replayed";

/// The result of a replay.
#[derive(Debug, Default)]
pub struct Replayed {
    /// By hook: `on_request`, …
    pub hooks: BTreeMap<String, Tally>,
    /// The first thousand; equal ones in a row count as one.
    pub differences: Vec<Difference>,
    /// Calls that read an unrecorded part of a request: they were not compared if the body had not arrived,
    /// and saw nil instead of its texts if it had.
    pub unrecorded: u64,
    /// The failures of policies, each once.
    pub failures: Vec<String>,
    /// Calls that the recorder left out.
    pub dropped: u64,
}

/// The calls of one hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// The number compared.
    pub calls: u64,
    /// The number that would be decided otherwise.
    pub different: u64,
    /// The number that could not be compared: hub.yaml no longer names their model, or the body is missing.
    pub skipped: u64,
}

/// A call that would be decided otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The time of the first, in Unix seconds.
    pub time: f64,
    /// Number in a row.
    pub times: u64,
    /// `on_load`, …
    pub hook: String,
    /// Its model; `None` for a request that names none.
    pub model: Option<String>,
    /// The recorded verdict.
    pub before: Said,
    /// The verdict of the current policies.
    pub now: Said,
}

impl Replayed {
    /// True if every call would be decided in the same way.
    pub fn is_same(&self) -> bool {
        self.hooks.values().all(|tally| tally.different == 0)
    }

    fn failed(&mut self, failures: Vec<String>) {
        for failure in failures {
            if !self.failures.contains(&failure) {
                self.failures.push(failure);
            }
        }
    }

    fn add(&mut self, difference: Difference) {
        if let Some(last) = self.differences.last_mut()
            && last.hook == difference.hook
            && last.model == difference.model
            && last.before == difference.before
            && last.now == difference.now
        {
            last.times += 1;
        } else if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(difference);
        }
    }
}

/// Asks the policies of `config` about the calls of `file`.
///
/// # Errors
/// One or more lines: when the file is not a recording, or a policy does not load.
pub fn replay(config: &Config, file: &Path) -> Result<Replayed, String> {
    let world = Arc::new(Recorded::new(config.clone()));
    let seen: Arc<dyn World> = Arc::clone(&world) as _;
    let set = PolicySet::load(
        config.folder(),
        None,
        bundled::SCRIPTS,
        &config.policies,
        seen,
        &super::Plain::default(),
    );
    let wrong: Vec<_> = set.unknown().iter().chain(set.broken()).cloned().collect();
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    let path = file.display();
    let lines = File::open(file).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
    let mut replay = Replay {
        set,
        world,
        result: Replayed::default(),
    };
    let mut lines = BufReader::new(lines).lines().enumerate();
    let head = lines.next().and_then(|(_, line)| line.ok());
    match head.as_deref().map(serde_json::from_str) {
        Some(Ok(Line::Head { recording, .. })) if recording == line::VERSION => {}
        Some(Ok(Line::Head { recording, .. })) => {
            return Err(format!(
                "`{path}` is a recording of version {recording}; this program reads version {}",
                line::VERSION
            ));
        }
        _ => return Err(format!("`{path}` is no recording of `policy record`")),
    }
    let mut lines = lines.peekable();
    while let Some((number, text)) = lines.next() {
        let text = text.map_err(|error| format!("`{path}` cannot be read: {error}"))?;
        match serde_json::from_str(&text) {
            Ok(Line::Call(call)) => replay.call(*call),
            Ok(Line::Event(heard)) => replay.event(*heard),
            Ok(Line::End { dropped, .. }) => replay.result.dropped += dropped,
            // A killed hub leaves half a line at the end.
            Err(_) if lines.peek().is_none() => {}
            Ok(Line::Head { .. }) | Err(_) => {
                return Err(format!(
                    "{path}:{}: this is no line of a recording",
                    number + 1
                ));
            }
        }
    }
    Ok(replay.result)
}

struct Replay {
    set: PolicySet,
    world: Arc<Recorded>,
    result: Replayed,
}

impl Replay {
    /// Tells the observers, as the hub did; the hooks see what they store.
    fn event(&mut self, heard: Heard) {
        let Heard {
            mut event,
            models,
            memory,
        } = heard;
        self.world.advance(event.time, models, memory);
        if let Details::Request(request) = &mut event.details {
            request.id = REPLAYED.to_owned();
        }
        self.result.failed(self.set.failures_about_event(&event));
    }

    fn call(&mut self, mut call: CallLine) {
        let models = std::mem::take(&mut call.models);
        self.world.advance(call.time, models, call.memory);
        let tally = self.result.hooks.entry(call.hook.clone()).or_default();
        let is_about_a_model = call.request.is_none();
        if is_about_a_model && self.world.model(&call.model).is_none() {
            tally.skipped += 1;
            return;
        }
        let missed = Arc::new(AtomicBool::new(false));
        let Some((now, failed)) = self.ask(&call, &missed) else {
            let tally = self.result.hooks.entry(call.hook).or_default();
            tally.skipped += 1;
            self.result.unrecorded += 1;
            return;
        };
        self.result.failed(failed);
        self.result.unrecorded += u64::from(missed.load(Ordering::Relaxed));
        let is_same = now.verdict == call.said.verdict && now.fields == call.said.fields;
        let tally = self.result.hooks.entry(call.hook.clone()).or_default();
        tally.calls += 1;
        if is_same {
            return;
        }
        tally.different += 1;
        self.result.add(Difference {
            time: call.time,
            times: 1,
            hook: call.hook.clone(),
            model: named(&call),
            before: call.said,
            now,
        });
    }

    /// The verdict and the failures of the current policies; `None` when they need a body that had not arrived.
    fn ask(&self, call: &CallLine, missed: &Arc<AtomicBool>) -> Option<(Said, Vec<String>)> {
        if let Some(request) = &call.request {
            let body = request.body.as_ref().map(|body| RecordedBody {
                fields: body.fields.clone(),
                is_json: body.is_json,
                model: named(call),
                prompt_chars: body.prompt_chars,
                missed: Arc::clone(missed),
            });
            let (view, ruling) = self.set.ruling_about_recorded(view(call, request), body);
            return self.said(&Question::Request(&view), ruling);
        }
        let model = call.model.as_str();
        let asked = match (&call.load, call.exit, call.trouble) {
            (Some(load), ..) => Question::Load(
                model,
                PendingLoad {
                    reason: LoadReason::of(&load.reason),
                    waiting: load.waiting,
                    waited_seconds: load.waited_seconds,
                },
            ),
            (None, Some(exit), _) => Question::Exit(model, exit),
            (None, None, Some(trouble)) => Question::Trouble(model, trouble),
            (None, None, None) => Question::Idle(model),
        };
        self.said(&asked, self.set.ruling(&asked))
    }

    fn said(&self, asked: &Question<'_>, ruling: Ruling) -> Option<(Said, Vec<String>)> {
        if matches!(ruling.answer, HookAnswer::NeedBody) {
            return None;
        }
        let policy = ruling.policy.map(|number| self.set.name(number));
        let said = said(asked, &ruling, policy, &*self.world);
        Some((said, ruling.failed))
    }
}

/// The model that the request names, if it names one.
fn named(call: &CallLine) -> Option<String> {
    Some(call.model.clone()).filter(|model| !model.is_empty())
}

/// The recorded part of the request.
fn view(call: &CallLine, request: &line::RequestLine) -> Box<RequestView> {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::from_bytes(request.method.as_bytes()).unwrap_or(Method::POST);
    parts.uri = request.path.parse().unwrap_or_default();
    for (name, value) in &request.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            parts.headers.insert(name, value);
        }
    }
    if let Some(body) = &request.body {
        let length = HeaderValue::from(body.size_bytes);
        parts.headers.insert(http::header::CONTENT_LENGTH, length);
    }
    let client: IpAddr = request.client.parse().unwrap_or(IpAddr::from([0; 4]));
    Box::new(RequestView {
        parts,
        id: HeaderValue::from_static(REPLAYED),
        model: named(call),
        client: (client, 0).into(),
        via: request.via.map(|proxy| (proxy, 0).into()),
        credential: request.key.as_deref().map(Credential::named),
        protocol: RequestView::protocol_of(&request.protocol),
        keep_alive: request.keep_alive,
        body: None,
        parked: Parked {
            waited_seconds: request.waited_seconds,
            ..Parked::default()
        },
    })
}
