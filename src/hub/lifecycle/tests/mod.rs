//! The supervisor with a launcher that starts nothing, on a clock that the test holds.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::*;
use crate::api::{Outcome, Verb};
use crate::core::place::Destination as _;
use crate::runtime_file::RuntimeModels;
use crate::upstream::Accepts;
use crate::worker::identity::Identity;
use crate::worker::launch::{Instruction, Order, Report, Spawned};

mod memory;

const LOAD: Duration = Duration::from_secs(5);
const END: Duration = Duration::from_secs(1);

/// Plays workers that need [`LOAD`] to load and [`END`] to end.
#[derive(Debug, Clone, Default)]
struct ScriptedLauncher {
    /// Names of the models launched, in order.
    launched: Arc<Mutex<Vec<String>>>,
    /// Those whose next load fails.
    broken: Arc<Mutex<Vec<String>>>,
    /// The memory that they take from.
    ram: memory::Ram,
    tracker: TaskTracker,
}

impl Launcher for ScriptedLauncher {
    fn launch(
        &self,
        order: Order,
        mut instructions: UnboundedReceiver<Instruction>,
        report: Arc<dyn Fn(Report) + Send + Sync>,
    ) {
        let name = order.model.name.clone();
        if !order.load {
            return report(Report::Standby { process: false });
        }
        let pid = {
            let mut launched = self.launched.lock();
            launched.push(name.clone());
            4320 + u32::try_from(launched.len()).unwrap()
        };
        let (ram, tracker) = (self.ram.clone(), self.tracker.clone());
        let broken = self.broken.lock().contains(&name);
        self.tracker.spawn(async move {
            let identity = Identity { pid, start_time: 1, command: vec![], launch: String::new() };
            let spawned = Spawned::new(identity, "127.0.0.1", order.port, false, Accepts::Any, 0);
            report(Report::Spawned(spawned));
            tokio::select! {
                () = sleep(LOAD) => {
                    if broken {
                        return report(Report::Gone { exit_code: Some(0), reason: "no such model".into() });
                    }
                    ram.take(&name, pid);
                    report(Report::Loaded);
                    let _ = instructions.recv().await;
                }
                _ = instructions.recv() => {}
            }
            sleep(END).await;
            ram.give_back(pid, &tracker);
            report(Report::Gone { exit_code: None, reason: String::new() });
        });
    }
}

struct Scene {
    lifecycle: Lifecycle,
    launcher: ScriptedLauncher,
    supervisor: JoinHandle<()>,
}

impl Scene {
    fn new(yaml: &str) -> Self {
        let config = crate::config::from_yaml(yaml);
        Self::of(config, ScriptedLauncher::default(), Learned::default())
    }

    fn of(config: Config, launcher: ScriptedLauncher, learned: Learned) -> Self {
        let mut ports = PortBook::with_probe(
            config.port,
            config.model_starting_port,
            Box::new(|_, _| true),
        );
        ports.assign(&config.models, &|_| false).unwrap();
        let (lifecycle, running) =
            Lifecycle::new(config, ports, learned, Troubles::default(), Instant::now());
        let (workers, _) = watch::channel(RuntimeModels::default());
        let tracker = launcher.tracker.clone();
        let supervisor = tracker.spawn(running.run(
            launcher.clone(),
            launcher.ram.clone(),
            workers,
            Legacy::default(),
            tracker.clone(),
        ));
        Self {
            lifecycle,
            launcher,
            supervisor,
        }
    }

    fn model(&self, name: &str) -> Arc<Model> {
        self.lifecycle.find(name).unwrap()
    }

    fn states(&self, name: &str) -> (&'static str, &'static str) {
        let facts = self.model(name).facts.load_full();
        (facts.process_state.as_str(), facts.memory_state.as_str())
    }

    async fn acquire(&self, name: &str) -> Result<Grant, ApiError> {
        let model = self.model(name);
        let arrival = arrive(&model, "127.0.0.1");
        self.lifecycle.acquire(arrival).await
    }

    fn acquire_later(&self, name: &str) -> JoinHandle<Result<Grant, ApiError>> {
        let (lifecycle, model) = (self.lifecycle.clone(), self.model(name));
        let arrival = arrive(&model, "127.0.0.1");
        self.launcher
            .tracker
            .spawn(async move { lifecycle.acquire(arrival).await })
    }
}

fn arrive(model: &Arc<Model>, client: &str) -> Arrival {
    Arrival::new(model, model.seen(), client.into(), Duration::ZERO)
}

const TWO: &str = "
models:
- {name: alpha, model_path: org/alpha, default: true}
- {name: beta, model_path: org/beta, jit_enabled: true, auto_unload_minutes: 1}
";

#[tokio::test(start_paused = true)]
async fn fifty_first_requests_are_one_launch() {
    let scene = Scene::new(TWO);
    scene.lifecycle.run(Verb::Start, "beta").await.unwrap();
    assert_eq!(scene.states("beta"), ("running", "unloaded"));
    let requests: Vec<_> = (0..50).map(|_| scene.acquire_later("beta")).collect();
    let mut grants = Vec::new();
    for request in requests {
        grants.push(request.await.unwrap().unwrap());
    }
    assert_eq!(*scene.launcher.launched.lock(), ["beta"]);
    assert_eq!(scene.model("beta").gate.active(), 50);
    drop(grants);
    assert_eq!(scene.model("beta").gate.active(), 0);
    assert!(
        scene.lifecycle.try_acquire(&scene.model("beta")).is_some(),
        "loaded: no waiting any more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gives_up_its_place_and_not_the_load() {
    let scene = Scene::new(TWO);
    scene.lifecycle.run(Verb::Start, "beta").await.unwrap();
    let (leaves, stays) = (scene.acquire_later("beta"), scene.acquire_later("beta"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.model("beta").activity().waiting_requests, 2);
    leaves.abort();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(scene.model("beta").activity().waiting_requests, 1);
    let grant = stays.await.unwrap().unwrap();
    assert_eq!(scene.model("beta").gate.active(), 1);
    drop(grant);
    assert_eq!(scene.launcher.launched.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn unload_waits_for_the_lease_and_then_ends_the_worker() {
    let scene = Scene::new(TWO);
    scene.lifecycle.start_defaults(HashSet::new()).await;
    assert_eq!(scene.states("alpha"), ("starting", "loading"));
    let grant = scene.acquire("alpha").await.unwrap();
    let lifecycle = scene.lifecycle.clone();
    let unload = scene
        .launcher
        .tracker
        .spawn(async move { lifecycle.run(Verb::Unload, "alpha").await });
    sleep(Duration::from_secs(30)).await;
    assert_eq!(scene.states("alpha"), ("running", "unloading"));
    assert!(!unload.is_finished());
    drop(grant);
    assert_eq!(unload.await.unwrap(), Ok(Outcome::Done));
    assert_eq!(scene.states("alpha"), ("running", "unloaded"));
    assert_eq!(
        scene.lifecycle.run(Verb::Unload, "alpha").await,
        Ok(Outcome::Already)
    );
}

#[tokio::test(start_paused = true)]
async fn the_drain_limit_cuts_a_lease_that_does_not_come_back() {
    let scene = Scene::new(&format!("drain_timeout: 10\n{TWO}"));
    scene.lifecycle.run(Verb::Start, "alpha").await.unwrap();
    let grant = scene.acquire("alpha").await.unwrap();
    let began = tokio::time::Instant::now();
    scene.lifecycle.run(Verb::Stop, "alpha").await.unwrap();
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(10) && took < Duration::from_secs(13),
        "{took:?}"
    );
    assert_eq!(scene.states("alpha"), ("stopped", "unloaded"));
    drop(grant);
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_is_told_to_all_who_wait() {
    let scene = Scene::new(TWO);
    scene.launcher.broken.lock().push("beta".into());
    scene.lifecycle.run(Verb::Start, "beta").await.unwrap();
    let (one, two) = (scene.acquire_later("beta"), scene.acquire_later("beta"));
    for request in [one, two] {
        let error = request.await.unwrap().unwrap_err();
        assert_eq!(error.status, 503);
        assert!(error.message.contains("no such model"), "{error}");
    }
    assert_eq!(scene.states("beta"), ("failed", "failed"));
    let status = scene.lifecycle.status();
    assert_eq!(status.models[1].metadata.facts.exit_code, Some(0));
    scene.launcher.broken.lock().clear();
    scene.acquire("beta").await.unwrap();
    assert_eq!(scene.states("beta"), ("running", "loaded"));
}

#[tokio::test(start_paused = true)]
async fn unknown_models_and_models_that_are_not_started_are_refused() {
    let scene = Scene::new(TWO);
    assert_eq!(
        scene
            .lifecycle
            .run(Verb::Start, "nosuch")
            .await
            .unwrap_err()
            .status,
        404
    );
    assert_eq!(
        scene
            .lifecycle
            .run(Verb::Load, "beta")
            .await
            .unwrap_err()
            .status,
        400
    );
    assert_eq!(
        scene.lifecycle.run(Verb::Stop, "beta").await,
        Ok(Outcome::Already)
    );
    assert_eq!(
        scene.lifecycle.run(Verb::Unload, "beta").await,
        Ok(Outcome::Already)
    );
    assert!(scene.launcher.launched.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn stop_all_ends_every_process_and_then_refuses() {
    let scene = Scene::new(TWO);
    scene.lifecycle.run(Verb::Start, "alpha").await.unwrap();
    let waiting = scene.acquire_later("beta");
    sleep(Duration::from_millis(1)).await;
    scene.lifecycle.stop_all(false);
    assert_eq!(waiting.await.unwrap().unwrap_err().status, 503);
    scene.supervisor.await.unwrap();
    assert_eq!(
        scene
            .lifecycle
            .run(Verb::Start, "alpha")
            .await
            .unwrap_err()
            .status,
        503
    );
}

#[tokio::test(start_paused = true)]
async fn status_counts_what_is_published() {
    let scene = Scene::new(TWO);
    scene.lifecycle.run(Verb::Start, "alpha").await.unwrap();
    scene.lifecycle.run(Verb::Start, "beta").await.unwrap();
    let status = scene.lifecycle.status();
    assert_eq!(
        (
            status.counts.registered,
            status.counts.started,
            status.counts.loaded
        ),
        (2, 2, 1)
    );
    assert_eq!(status.models[0].metadata.facts.pid, Some(4321));
    assert_eq!(
        (
            status.models[1].metadata.facts.pid,
            status.models[1].metadata.facts.port
        ),
        (None, Some(47851))
    );
}

/// The simulation's own tests of the same names expect the same.
#[tokio::test(start_paused = true)]
async fn a_full_and_a_late_queue_say_when_to_come_back() {
    let limits = "queue_size: 1, queue_timeout: 20, ";
    let scene = Scene::new(&TWO.replace("name: beta, ", &format!("name: beta, {limits}")));
    scene.lifecycle.run(Verb::Start, "beta").await.unwrap();
    let beta = scene.model("beta");
    let running = scene.acquire("beta").await.unwrap();
    let park = || {
        let lifecycle = &scene.lifecycle;
        let seen = beta.seen();
        lifecycle.park(&beta, seen, &"10.0.0.7".into(), 600.0)
    };
    let told = |error: ApiError| (error.status, error.retry_after);
    // Loaded: as long as the first one waits by now, and what the queue may take in all.
    let mut parked = park().unwrap();
    sleep(Duration::from_secs(8)).await;
    assert_eq!(told(park().unwrap_err()), (429, Some(8)));
    assert_eq!(told(parked.called().await.unwrap_err()), (429, Some(20)));
    drop(parked);
    // On its way out and to be loaded again: as long as its last load took.
    let mut parked = park().unwrap();
    let unload = {
        let lifecycle = scene.lifecycle.clone();
        let unload = async move { lifecycle.run(Verb::Unload, "beta").await };
        scene.launcher.tracker.spawn(unload)
    };
    sleep(Duration::from_secs(8)).await;
    assert_eq!(told(park().unwrap_err()), (429, Some(5)));
    parked.called().await.expect("something has changed");
    parked.stay(600.0);
    assert_eq!(told(parked.called().await.unwrap_err()), (429, Some(5)));
    drop(running);
    assert_eq!(unload.await.unwrap(), Ok(Outcome::Done));
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_stale_when_the_model_was_stopped_meanwhile() {
    let scene = Scene::new(TWO);
    scene.lifecycle.run(Verb::Start, "alpha").await.unwrap();
    let alpha = scene.model("alpha");
    let seen = alpha.seen();
    scene.lifecycle.run(Verb::Stop, "alpha").await.unwrap();
    let stopped = ApiError::being_stopped("alpha");
    let client: Arc<str> = "10.0.0.7".into();
    let parked = scene.lifecycle.park(&alpha, seen, &client, 1.0);
    assert_eq!(parked.unwrap_err(), stopped);
    let arrival = Arrival::new(&alpha, seen, client, Duration::ZERO);
    assert_eq!(scene.lifecycle.acquire(arrival).await.unwrap_err(), stopped);
}
