//! The lifecycle service: the only thing that starts, stops, loads, unloads and counts models.
//!
//! [`Lifecycle`] is its handle. It is cheap to clone; the gateway, the control API, the dashboard
//! and the daemon each hold one. Reads (`find`, `status`, …) look at what the supervisor published;
//! everything that changes a model is a message to the one supervisor task.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use prometheus::proto::MetricFamily;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::api::{
    ApiError, CapturedRequest, EndedRequest, HistoryReport, Outcome, ReloadReport, RequestInFlight,
    Status, Verb, shown,
};
use crate::config::ports::PortBook;
use crate::config::{Config, Limits, Source};
use crate::core::admission::Doors;
pub use crate::core::admission::Seen;
use crate::core::refusals;
pub use crate::hub::published::captures::Capture;
pub use crate::hub::published::ended::Ended;
pub use crate::hub::published::fleet::{Membership, Wish};
pub use crate::hub::published::flights::Flight;
pub use crate::hub::published::gate::{Gate, Lease};
pub use crate::hub::published::grant::Grant;
pub use crate::hub::published::learned::Learned;
pub use crate::hub::published::legacy::{Frozen, Held, InFlight, Legacy};
pub use crate::hub::published::parking::{Arrival, Ticket};
pub use crate::hub::published::registry::Model;
use crate::hub::published::registry::Registry;
use crate::hub::published::served;
pub use crate::hub::published::served::{Lack, Refuses};
pub use crate::hub::supervisor::Running;
pub use crate::hub::supervisor::launcher::{Launcher, Processes};
use crate::hub::supervisor::messages::{Command, Mailbox, Message, Reply};
use crate::policy::{Policies, Watch, World};
use crate::telemetry::Troubles;
use crate::upstream::Upstream;
use crate::worker::command;

mod configuration;
mod fleet;
mod plan;
#[cfg(test)]
mod tests;

/// The fate of the models when the daemon shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Models {
    /// They are stopped.
    Stop,
    /// They stay as they are, for the daemon that comes next.
    Keep,
}

/// The handle.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    registry: Arc<Registry>,
    policies: Policies,
    mailbox: Mailbox,
    shutdown: Arc<watch::Sender<Option<Models>>>,
    restarts: Arc<Restarts>,
    /// Held while hub.yaml is changed.
    saving: Arc<AsyncMutex<()>>,
}

/// A request to replace the hub, answered with the process id of the new one, or the reason why there is none.
pub type Restarted = oneshot::Sender<Result<u32, String>>;

/// The channel of these requests to the daemon.
#[derive(Debug)]
struct Restarts {
    sender: mpsc::UnboundedSender<Restarted>,
    receiver: AsyncMutex<mpsc::UnboundedReceiver<Restarted>>,
}

impl Default for Restarts {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver: AsyncMutex::new(receiver),
        }
    }
}

impl Doors for Lifecycle {
    type Model = Arc<Model>;
    type Grant = Grant;

    fn find(&self, name_or_path: &str) -> Option<Arc<Model>> {
        Self::find(self, name_or_path)
    }

    fn config(&self) -> Arc<Config> {
        Self::config(self)
    }

    fn declared(&self) -> Vec<String> {
        self.policies.declared_names()
    }

    /// The hot path: without a message, a lock or an allocation.
    fn try_acquire(&self, model: &Arc<Model>) -> Option<Grant> {
        Grant::of(model)
    }

    fn bell(&self) -> Arc<Notify> {
        Arc::default()
    }
}

impl Lifecycle {
    /// The service over the models of `config`, whose ports are in `ports`, with what was `learned` of
    /// them before; its status shows the `troubles`. Its clock counts from `begun`. Nothing happens until
    /// [`Running::run`] does.
    pub fn new(
        config: Config,
        ports: PortBook,
        learned: Learned,
        troubles: Troubles,
        begun: Instant,
    ) -> (Self, Running) {
        let config = Arc::new(config);
        let registry = Arc::new(Registry::new(
            Arc::clone(&config),
            ports,
            learned,
            troubles,
            begun,
        ));
        let world: Arc<dyn World> = Arc::clone(&registry) as _;
        let policies = Policies::load(config.folder(), &config.policies, world);
        let (mailbox, messages) = Mailbox::new();
        let handle = Self {
            registry,
            policies,
            mailbox,
            shutdown: Arc::new(watch::Sender::new(None)),
            restarts: Arc::default(),
            saving: Arc::default(),
        };
        let running = Running::new(
            &handle.registry,
            &handle.policies,
            &handle.mailbox,
            messages,
        );
        (handle, running)
    }

    /// The policies that the lifecycle and the gateway share.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The model of that name, or else the first with that `model_path`; case-sensitive.
    pub fn find(&self, name_or_path: &str) -> Option<Arc<Model>> {
        self.registry.table.load().find(name_or_path).cloned()
    }

    /// All models in hub.yaml's order.
    pub fn models(&self) -> Vec<Arc<Model>> {
        self.registry.table.load().models.clone()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.registry.table.load().config)
    }

    /// The origin of a request that arrived on a connection from `peer`.
    pub fn source(&self, headers: &HeaderMap, peer: SocketAddr) -> Source {
        let table = self.registry.table.load();
        table.config.proxies.source(headers, peer)
    }

    /// True if hub.yaml has keys.
    pub fn has_keys(&self) -> bool {
        !self.registry.table.load().config.api_keys.is_empty()
    }

    /// The gateway's limits, as configured.
    pub fn limits(&self) -> Limits {
        self.registry.table.load().config.limits
    }

    /// The snapshot of the moment.
    pub fn status(&self) -> Status {
        self.registry.status(self.policies.warnings())
    }

    /// Notes a request that has ended. Takes no lock.
    pub fn note_ended(&self, ended: Ended) {
        self.registry.ended.note(ended);
    }

    /// Begins to keep the bodies of a request of that id, which arrived at `began` with these headers, if hub.yaml
    /// wants that. Without it this costs a look.
    pub fn capture(
        &self,
        id: &HeaderValue,
        headers: &HeaderMap,
        began: Instant,
    ) -> Option<Arc<Capture>> {
        let limits = self.registry.table.load().config.capture?;
        let id = id.to_str().unwrap_or_default();
        Some(self.registry.captures.begin(limits, id, headers, began))
    }

    /// The kept bodies of the newest request with that id, and of its answer.
    ///
    /// # Errors
    /// 404 where none are kept, or no longer.
    pub fn captured(&self, id: &str) -> Result<CapturedRequest, ApiError> {
        let Some(limits) = self.registry.table.load().config.capture else {
            let message =
                "Bodies of requests are not kept: hub.yaml does not have `capture: true`.";
            return Err(ApiError::new(StatusCode::NOT_FOUND, message));
        };
        self.registry.captures.find(id).ok_or_else(|| {
            let (id, minutes) = (shown(id), limits.time.as_secs() / 60);
            let megabytes = limits.bytes >> 20;
            let message = format!(
                "Nothing is kept of a request `{id}`: the hub keeps {minutes} minutes, and {megabytes} MiB, of those \
                 that have a body."
            );
            ApiError::new(StatusCode::NOT_FOUND, message)
        })
    }

    /// Registers a request that has arrived. Waits for nobody.
    pub fn register(&self, flight: &Arc<Flight>) {
        self.registry.flights.register(flight);
    }

    /// The requests in flight.
    pub fn requests_in_flight(&self) -> Vec<RequestInFlight> {
        self.registry.flights.list()
    }

    /// Cancels the requests in flight with that id; returns their number. Their leases come back, and the
    /// connections to their workers close, as if their clients had left.
    pub fn cancel(&self, id: &str) -> usize {
        self.registry.flights.cancel(id)
    }

    /// The meters of all models and policies.
    pub fn meters(&self) -> Vec<MetricFamily> {
        let table = self.registry.table.load();
        let models = table.models.iter();
        let meters = models.flat_map(|model| model.meters.collect());
        meters.chain(self.policies.meters()).collect()
    }

    /// The requests that ended last with a higher number than `number`, the oldest first.
    pub fn ended_after(&self, number: u64) -> Vec<EndedRequest> {
        self.registry.ended.after(number)
    }

    /// The report on a route that the worker of `model` lacks: a request there can only be refused,
    /// and need not load it. Costs the hot path a look.
    pub fn lack(&self, model: &Model, path: &str) -> Option<Lack> {
        if !model.seems_to_lack(path) {
            return None;
        }
        served::lack(&self.registry, model)
    }

    /// The worker of `model`, to be named in a refusal.
    pub fn worker_of(&self, model: &Model) -> Lack {
        served::worker_of(&self.registry, model)
    }

    /// What no request may ask of the worker of `model`.
    pub fn refuses(&self, model: &Model) -> Option<Refuses> {
        served::refuses(&self.registry, model)
    }

    /// True if the worker of `model` is known to have a route of this path.
    pub fn serves(&self, model: &Model, path: &str) -> bool {
        model.seems_to_serve(path) && served::is_of_its_program(&self.registry, model)
    }

    /// The same of a worker that is there, and is asked when nothing is known yet.
    pub async fn serves_now(&self, model: &Model, upstream: &Upstream, path: &str) -> bool {
        if model.seems_to_lack(path) {
            return false;
        }
        self.serves(model, path) || served::asked(upstream, path).await
    }

    /// The worker of `model` has answered that there is no such path.
    pub fn note_missing(&self, model: &Model, path: &str) {
        served::note_missing(&self.registry, model, path);
    }

    /// The last hour in figures.
    pub fn history(&self) -> HistoryReport {
        self.registry.history.lock().report()
    }

    /// A grant, loading the model first if need be (once, however many wait). Dropping the future
    /// gives up the place; the load goes on.
    ///
    /// # Errors
    /// The refusal of `on_load`; 429 when too many wait for a load that `on_load` puts off, or it
    /// for too long; 503 when the load failed (the message holds the last lines of the log), when the
    /// model is being or has been stopped since the arrival's `seen`, or the hub shuts down.
    pub async fn acquire(&self, arrival: Arrival) -> Result<Grant, ApiError> {
        match self.mailbox.ask(Command::Acquire(arrival)).await? {
            Reply::Granted(grant) => Ok(grant),
            Reply::Verb(_) | Reply::Reloaded(_) => Err(refusals::wrong_reply()),
        }
    }

    /// Does that to a model and returns at the final state: a started one runs (and is loaded, unless it is
    /// JIT), the processes of a stopped one are gone. Stopping and unloading drain. Dropping the future undoes
    /// nothing.
    ///
    /// # Errors
    /// 404 for an unknown name; 400 to load what is not started; what `on_load` refused with; 503 when the
    /// start or the load failed.
    pub async fn run(&self, verb: Verb, name: &str) -> Result<Outcome, ApiError> {
        match self
            .mailbox
            .ask(Command::Verb(verb, name.to_owned()))
            .await?
        {
            Reply::Verb(outcome) => Ok(outcome),
            Reply::Granted(_) | Reply::Reloaded(_) => Err(refusals::wrong_reply()),
        }
    }

    /// Reads hub.yaml again and reconciles; returns when what it stops has ended and what it starts
    /// is starting. With `start` false nothing is started (the `stop` command reloads so).
    ///
    /// # Errors
    /// 400 with the reason when hub.yaml is not valid or a worker program is missing; nothing has
    /// changed then.
    pub async fn reload(&self, start: bool) -> Result<ReloadReport, ApiError> {
        let path = self.config().path.clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&path)).await;
        let config = match loaded {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => {
                return Err(ApiError::new(StatusCode::BAD_REQUEST, error.to_string()));
            }
            Err(_) => return Err(refusals::reading_failed()),
        };
        if start {
            command::check(&config.models)
                .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        }
        match self
            .mailbox
            .ask(Command::Reload {
                config: Box::new(config),
                start,
            })
            .await?
        {
            Reply::Reloaded(report) => Ok(report),
            Reply::Granted(_) | Reply::Verb(_) => Err(refusals::wrong_reply()),
        }
    }

    /// Reads the policies again whenever their files change, for as long as the watch is kept. hub.yaml
    /// is left as it was read.
    pub fn watch_policies(&self) -> Watch {
        let config = self.config();
        let (registry, policies) = (Arc::clone(&self.registry), self.policies.clone());
        let mailbox = self.mailbox.clone();
        let (folder, except) = (config.folder().to_owned(), config.log_path.clone());
        Watch::start(folder, except, move |changed| {
            let config = Arc::clone(&registry.table.load().config);
            let changed = changed.join(", ");
            if policies.reload(config.folder(), &config.policies) {
                tracing::info!(changed, "policies read again");
                mailbox.send(Message::NewPolicies);
            } else {
                tracing::warn!(
                    changed,
                    "the policies stay as they were: a file does not load"
                );
            }
        })
    }

    /// Asks the daemon to shut down; returns at once. The daemon owns the order. Of several wishes
    /// the first counts.
    pub fn request_shutdown(&self, models: Models) {
        self.shutdown.send_if_modified(|wish| {
            let first = wish.is_none();
            wish.get_or_insert(models);
            first
        });
    }

    /// Completes when a shutdown has been asked for; returns the fate of the models.
    pub async fn shutdown_requested(&self) -> Models {
        let mut wish = self.shutdown.subscribe();
        let wished = wish.wait_for(Option::is_some).await;
        // An error would mean that the sender is gone, and `self` holds it.
        wished.ok().and_then(|wish| *wish).unwrap_or(Models::Stop)
    }

    /// Asks the daemon to let another hub take its place; returns its process id when it has.
    ///
    /// # Errors
    /// 400 with the reason why the other one cannot serve: this one goes on then. 503 when the hub shuts
    /// down.
    pub async fn restart(&self) -> Result<u32, ApiError> {
        let (wish, told) = oneshot::channel();
        let _ = self.restarts.sender.send(wish);
        match told.await {
            Ok(Ok(pid)) => Ok(pid),
            Ok(Err(reason)) => Err(ApiError::new(StatusCode::BAD_REQUEST, reason)),
            Err(_) => Err(ApiError::shutting_down()),
        }
    }

    /// Lets no caller ask for that any more; those that wait are refused with 503.
    pub async fn close_restarts(&self) {
        let mut receiver = self.restarts.receiver.lock().await;
        receiver.close();
        while receiver.try_recv().is_ok() {}
    }

    /// Completes when that has been asked for; returns the way to answer.
    pub async fn restart_requested(&self) -> Restarted {
        match self.restarts.receiver.lock().await.recv().await {
            Some(wish) => wish,
            // `self` holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Stops every model and takes no more orders; with `now`, without waiting for requests in
    /// flight. [`Running`] completes when all processes are gone.
    pub fn stop_all(&self, now: bool) {
        self.mailbox.send(Message::Shutdown { now });
    }

    /// Ends the service and leaves every process running, for the next hub to adopt. [`Running`]
    /// completes then.
    pub fn hand_over(&self) {
        self.mailbox.send(Message::HandOver);
    }

    /// Keeps what was learned of the models, for the next hub.
    pub fn remember_learned(&self) {
        let copy = self.registry.learned.lock().copy();
        if let Some(copy) = copy {
            copy.write();
        }
    }

    /// Keeps the figures of the last hour, for the next hub.
    pub fn remember_history(&self) {
        let copy = self.registry.history.lock().copy();
        if let Some(copy) = copy {
            copy.write();
        }
    }

    /// Keeps the ports of all models in that file, for the next hub.
    pub fn remember_ports(&self, path: &Path) {
        if let Err(error) = self.registry.ports.lock().save(path) {
            tracing::warn!(path = %path.display(), %error, "the ports of the models are not kept");
        }
    }

    /// For how long the clock has been going.
    pub fn clock(&self) -> Duration {
        self.registry.begun.elapsed()
    }

    /// The port of every model.
    pub fn ports(&self) -> BTreeMap<String, u16> {
        let ports = self.registry.ports.lock();
        let all = ports.all().map(|(name, port)| (name.to_owned(), port));
        all.collect()
    }

    /// Lets the models stand still and says what another hub has to know to take over: no request is let
    /// in any more, and requests that come wait. `None` when the hub shuts down.
    pub async fn freeze(&self) -> Option<(Legacy, Frozen)> {
        let (told, legacy) = oneshot::channel();
        let (frozen, taken) = oneshot::channel();
        self.mailbox.send(Message::Freeze { told, taken });
        Some((legacy.await.ok()?, Frozen(frozen)))
    }

    /// The requests that are in flight here, also those of hubs before this one.
    pub fn in_flight(&self) -> InFlight {
        self.registry.in_flight()
    }

    /// For the requests that the hub before this one still serves.
    pub fn held(&self) -> Held {
        Held::new(Arc::clone(&self.registry))
    }

    /// Starts the models that hub.yaml marks `default`, but for those that are known from the hub before;
    /// returns when they are `starting`.
    pub async fn start_defaults(&self, except: HashSet<String>) {
        let (done, begun) = oneshot::channel();
        self.mailbox.send(Message::StartDefaults { except, done });
        // An error means that the supervisor has ended: nothing will start.
        let _ = begun.await;
    }
}
