//! A hub that does what the test says, behind the real control API and the real page.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use mlx_openai_server_hub::api::{
    Activity, ApiError, CapturedRequest, ConfigCheck, ConfigSaved, ConfigText, DecisionsReport,
    EndedRequest, FleetReport, HistoryReport, HubFacts, MemberLoad, MemoryState, ModelFacts,
    Outcome, PoliciesReport, PolicyChanges, ProcessState, RecordingReport, ReloadReport,
    RequestInFlight, Status, Verb, VerbPlan, WantedDecisions,
};
use mlx_openai_server_hub::config::{self, Config};
use mlx_openai_server_hub::hub::control::{ConfigEditor, Hub, Live, router};
use mlx_openai_server_hub::hub::lifecycle::Models;
use parking_lot::Mutex;
use prometheus::proto::MetricFamily;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What the hub is to show and to answer.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) hub: HubFacts,
    pub(crate) models: Vec<(ModelFacts, Activity)>,
    pub(crate) ended: Vec<EndedRequest>,
    pub(crate) in_flight: Vec<RequestInFlight>,
    /// The bodies of every request, if any are kept.
    pub(crate) captured: Option<CapturedRequest>,
    pub(crate) history: HistoryReport,
    /// What any load would take out of memory.
    pub(crate) unloads: Vec<String>,
    /// What verbs and reloads are refused with.
    pub(crate) refusal: Option<ApiError>,
    /// The pieces of the answer to a chat. All but the first are held as verbs are.
    pub(crate) chat: Vec<String>,
    pub(crate) policies: PoliciesReport,
    pub(crate) decisions: DecisionsReport,
    /// hub.yaml, for its editor.
    pub(crate) config: String,
    /// What becomes of pages that ask for events.
    pub(crate) events: Events,
}

/// What pages get that ask for events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Events {
    #[default]
    Sent,
    /// As of a proxy that knows no such thing.
    Refused,
    /// As of a proxy that waits for the whole answer.
    HeldBack,
}

#[derive(Clone)]
pub(crate) struct ScriptedHub {
    script: Arc<Mutex<Script>>,
    /// Method, path and body of every request so far.
    requests: Arc<Mutex<Vec<(String, String, String)>>>,
    /// While true, verbs do not answer, nor does a chat but for its beginning.
    held: Arc<watch::Sender<bool>>,
}

impl ScriptedHub {
    pub(crate) fn new(script: Script) -> Self {
        Self {
            script: Arc::new(Mutex::new(script)),
            requests: Arc::default(),
            held: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Changes the script.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock());
    }

    /// Keeps verbs from answering, or lets them.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// `path body` of every POST so far.
    pub(crate) fn posts(&self) -> Vec<String> {
        let requests = self.requests.lock();
        let posts = requests.iter().filter(|(method, ..)| method == "POST");
        posts
            .map(|(_, path, body)| format!("{path} {body}"))
            .collect()
    }

    /// Paths of all GETs so far, each once.
    pub(crate) fn paths_read(&self) -> Vec<String> {
        let requests = self.requests.lock();
        let reads = requests.iter().filter(|(method, ..)| method == "GET");
        let mut paths: Vec<_> = reads.map(|(_, path, _)| path.clone()).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

impl Hub for ScriptedHub {
    fn status(&self) -> Status {
        let script = self.script.lock();
        let models: Vec<_> = script
            .models
            .iter()
            .map(|(facts, activity)| (Arc::new(facts.clone()), *activity))
            .collect();
        Status::build(&script.hub, &models, 1_764_000_000)
    }

    fn meters(&self) -> Vec<MetricFamily> {
        Vec::new()
    }

    fn ended_after(&self, number: u64) -> Vec<EndedRequest> {
        let ended = &self.script.lock().ended;
        let after = ended.iter().filter(|request| request.number > number);
        after.cloned().collect()
    }

    async fn plan(&self, verb: Verb, model: &str) -> Result<VerbPlan, ApiError> {
        let script = self.script.lock();
        let find = |name: &str| script.models.iter().find(|(facts, _)| facts.name == name);
        let (facts, activity) = find(model).expect("the page offers only what it was shown");
        let mut plan = VerbPlan::default();
        if verb.frees_memory() {
            plan.in_flight = activity.active_requests;
            plan.refused_requests = activity.parked_requests;
        } else if facts.memory_state != MemoryState::Loaded
            && !(verb == Verb::Start && facts.jit_enabled)
        {
            plan.unloads.clone_from(&script.unloads);
            let leaving = plan.unloads.iter().filter_map(|name| find(name));
            plan.in_flight = leaving.map(|(_, activity)| activity.active_requests).sum();
        }
        Ok(plan)
    }

    fn history(&self) -> HistoryReport {
        self.script.lock().history.clone()
    }

    fn in_flight(&self) -> Vec<RequestInFlight> {
        self.script.lock().in_flight.clone()
    }

    fn cancel(&self, id: &str) -> usize {
        let in_flight = &mut self.script.lock().in_flight;
        let before = in_flight.len();
        in_flight.retain(|request| request.id != id);
        before - in_flight.len()
    }

    fn captured(&self, id: &str) -> Result<CapturedRequest, ApiError> {
        let captured = self.script.lock().captured.clone();
        let nothing =
            || ApiError::new(StatusCode::NOT_FOUND, format!("Nothing is kept of `{id}`."));
        captured.ok_or_else(nothing)
    }

    fn policies(&self) -> PoliciesReport {
        self.script.lock().policies.clone()
    }

    fn page_enabled(&self) -> bool {
        true
    }

    fn decisions(&self, wanted: &WantedDecisions) -> DecisionsReport {
        let mut report = self.script.lock().decisions.clone();
        if let Some(model) = &wanted.model {
            report.decisions.retain(|decision| decision.concerns(model));
        }
        report
    }

    fn recording(&self) -> RecordingReport {
        RecordingReport::default()
    }

    fn start_recording(&self, _: Option<PathBuf>) -> Result<RecordingReport, ApiError> {
        Ok(RecordingReport::default())
    }

    fn stop_recording(&self) -> RecordingReport {
        RecordingReport::default()
    }

    async fn run(&self, verb: Verb, model: &str, _: &'static str) -> Result<Outcome, ApiError> {
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.unwrap();
        let mut script = self.script.lock();
        if let Some(refusal) = &script.refusal {
            return Err(refusal.clone());
        }
        let (facts, _) = script
            .models
            .iter_mut()
            .find(|(facts, _)| facts.name == model)
            .expect("the page offers only what it was shown");
        match verb {
            Verb::Start => facts.process_state = ProcessState::Running,
            Verb::Stop => facts.process_state = ProcessState::Stopped,
            Verb::Load => facts.memory_state = MemoryState::Loaded,
            Verb::Unload => facts.memory_state = MemoryState::Unloaded,
        }
        Ok(Outcome::Done)
    }

    async fn reload(&self, _start: bool) -> Result<ReloadReport, ApiError> {
        match &self.script.lock().refusal {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(ReloadReport {
                started: vec!["alpha".to_owned(), "beta".to_owned()],
                stopped: Vec::new(),
                unchanged: vec!["gamma".to_owned()],
                policies: PolicyChanges {
                    changed: vec!["night.lua".to_owned()],
                    ..PolicyChanges::default()
                },
            }),
        }
    }

    async fn restart(&self) -> Result<u32, ApiError> {
        Ok(1)
    }

    fn request_shutdown(&self, _: Models) {}

    fn readiness(&self) -> Result<(), ApiError> {
        Ok(())
    }

    fn model_readiness(&self, _: &str) -> Result<(), ApiError> {
        Ok(())
    }

    fn member_load(&self, _: &str) -> Result<MemberLoad, ApiError> {
        Ok(MemberLoad::default())
    }

    fn fleet(&self) -> FleetReport {
        FleetReport::default()
    }

    async fn drain(&self) -> FleetReport {
        self.fleet()
    }

    async fn undrain(&self) -> FleetReport {
        self.fleet()
    }
}

/// hub.yaml is what the script says; nothing is saved.
impl ConfigEditor for ScriptedHub {
    fn edits_config(&self) -> bool {
        self.script.lock().hub.edits_config
    }

    async fn config_schema(&self) -> Result<serde_json::Value, ApiError> {
        Ok(config::schema())
    }

    async fn config_text(&self) -> Result<ConfigText, ApiError> {
        Ok(ConfigText {
            path: "/home/ada/hub.yaml".to_owned(),
            text: self.script.lock().config.clone(),
            version: "0".to_owned(),
        })
    }

    async fn check_config(&self, text: String) -> Result<ConfigCheck, ApiError> {
        let findings = match Config::parse("/home/ada/hub.yaml".as_ref(), &text) {
            Ok(_) => Vec::new(),
            Err(error) => error.findings,
        };
        Ok(ConfigCheck {
            valid: findings.is_empty(),
            findings,
            ..ConfigCheck::default()
        })
    }

    async fn save_config(&self, _: String, _: &str) -> Result<ConfigSaved, ApiError> {
        Ok(ConfigSaved::default())
    }
}

/// A server on 127.0.0.1; dropping it closes its port and its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
    tasks: JoinSet<()>,
}

impl Server {
    /// Serves `hub` at `address`; port 0 for a free one.
    pub(crate) async fn start(hub: &ScriptedHub, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let chat = axum::routing::post(chat).with_state(hub.clone());
        let router = router(hub.clone(), Live::default())
            .route("/v1/chat/completions", chat)
            .layer(from_fn_with_state(hub.clone(), record));
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let task = tasks.spawn(serve(listener, router));
        Self {
            address,
            task,
            tasks,
        }
    }

    /// On a free port.
    pub(crate) async fn start_anywhere(hub: &ScriptedHub) -> Self {
        Self::start(hub, ([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) fn page(&self) -> String {
        format!("http://{}/hub", self.address)
    }

    /// Closes the port and all connections, and waits until that is done.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            // A browser closes its connections as it likes.
            let _ = connection.await;
        });
    }
}

/// The answer to a chat, as server-sent events.
async fn chat(State(hub): State<ScriptedHub>) -> Response {
    let pieces = hub.script.lock().chat.clone();
    let pieces = stream::iter(pieces.into_iter().enumerate()).then(move |(index, piece)| {
        let mut held = hub.held.subscribe();
        async move {
            if index > 0 {
                held.wait_for(|held| !held).await.unwrap();
            }
            Ok::<_, Infallible>(piece)
        }
    });
    Body::from_stream(pieces).into_response()
}

async fn record(State(hub): State<ScriptedHub>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let entry = (
        parts.method.to_string(),
        parts.uri.path().to_owned(),
        String::from_utf8(body.to_vec()).unwrap(),
    );
    let events = hub.script.lock().events;
    match (&*entry.1, events) {
        ("/hub/events", Events::Refused) => return StatusCode::BAD_GATEWAY.into_response(),
        ("/hub/events", Events::HeldBack) => std::future::pending().await,
        _ => {}
    }
    hub.requests.lock().push(entry);
    let mut request = Request::from_parts(parts, Body::from(body));
    let here = SocketAddr::from(([127, 0, 0, 1], 1));
    request.extensions_mut().insert(ConnectInfo(here));
    next.run(request).await
}
