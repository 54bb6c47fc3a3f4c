//! A hub that does what the test says, behind the real control API and the real page.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use mlx_openai_server_hub::api::{
    Activity, ApiError, DecisionsReport, EndedRequest, HistoryReport, HubFacts, LoadPlan,
    MemoryState, ModelFacts, Outcome, PoliciesReport, ProcessState, RecordingReport, ReloadReport,
    RequestInFlight, Status, Verb, WantedDecisions,
};
use mlx_openai_server_hub::hub::control::{Hub, Live, router};
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
    pub(crate) history: HistoryReport,
    /// What any load would take out of memory.
    pub(crate) unloads: Vec<String>,
    /// What verbs and reloads are refused with.
    pub(crate) refusal: Option<ApiError>,
}

#[derive(Clone)]
pub(crate) struct ScriptedHub {
    script: Arc<Mutex<Script>>,
    /// Method, path and body of every request so far.
    requests: Arc<Mutex<Vec<(String, String, String)>>>,
    /// While true, verbs do not answer.
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

    async fn plan(&self, model: &str) -> Result<LoadPlan, ApiError> {
        Ok(LoadPlan {
            model: model.to_owned(),
            unloads: self.script.lock().unloads.clone(),
            ..LoadPlan::default()
        })
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

    fn policies(&self) -> PoliciesReport {
        PoliciesReport::default()
    }

    fn page_enabled(&self) -> bool {
        true
    }

    fn decisions(&self, _: &WantedDecisions) -> DecisionsReport {
        DecisionsReport::default()
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
            }),
        }
    }

    async fn restart(&self) -> Result<u32, ApiError> {
        Ok(1)
    }

    fn request_shutdown(&self, _: Models) {}
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
        let router =
            router(hub.clone(), Live::default()).layer(from_fn_with_state(hub.clone(), record));
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

async fn record(State(hub): State<ScriptedHub>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let entry = (
        parts.method.to_string(),
        parts.uri.path().to_owned(),
        String::from_utf8(body.to_vec()).unwrap(),
    );
    hub.requests.lock().push(entry);
    next.run(Request::from_parts(parts, Body::from(body))).await
}
