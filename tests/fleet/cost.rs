//! What a fleet costs: a request at the hub and at the door, and how the gateway's part grows with the number of hubs. A
//! hundred of them, all but one simulated, register with the real gateway.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::time::Instant;

use crate::ask::{ask_by, client};
use crate::door::Door;
use crate::support::processes::cpu_seconds;
use crate::support::within;
use crate::world::World;

/// Numbers of hubs at which the cost is measured; `FLEET_HUBS` is one more, above them.
const HUBS: [u16; 3] = [3, 30, 100];

/// Models of each.
const MODELS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// The heartbeat that hubs have if hub.yaml sets none.
const USUAL_HEARTBEAT: Duration = Duration::from_secs(30);

/// For so long the gateway's processor time is measured.
const WINDOW: Duration = Duration::from_secs(15);

/// Simulated hubs take the ports from here on.
const FIRST_PORT: u16 = 20_000;

/// Simulated hubs: they answer what the gateway asks about their models, and ask for its list at each heartbeat.
struct Crowd {
    runtime: Runtime,
    address: Ipv4Addr,
    /// What a real hub of such models has registered.
    entries: Vec<Value>,
    hubs: u16,
    beats: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ready"}))
}

async fn models(Path(model): Path<String>) -> Json<Value> {
    let model = json!({"id": model, "object": "model", "created": 1, "owned_by": "hub", "max_model_len": 32768});
    Json(json!({"object": "list", "data": [model]}))
}

async fn loads() -> Json<Value> {
    Json(json!({"timestamp": "1", "dp_rank_count": 1, "loads": [{
        "dp_rank": 0, "num_running_reqs": 0, "num_waiting_reqs": 0, "num_total_reqs": 0,
        "num_waiting_uncached_tokens": 0, "num_used_tokens": 0, "max_total_num_tokens": 32768,
        "token_usage": 0.0, "gen_throughput": 50.0,
    }]}))
}

async fn serve(listener: TcpListener, routes: Router) {
    while let Ok((connection, _)) = listener.accept().await {
        let service = TowerToHyperService::new(routes.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(connection), service);
        Handle::current().spawn(connection);
    }
}

impl Crowd {
    fn new(address: Ipv4Addr, entries: Vec<Value>) -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            address,
            entries,
            hubs: 0,
            beats: None,
            is_over: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Adds hubs until there are so many, and waits until the gateway sends requests to all of them.
    fn grow_to(&mut self, hubs: u16, door: &Door) -> Duration {
        let begun = Instant::now();
        for hub in self.hubs..hubs {
            let port = FIRST_PORT + hub;
            let listening = TcpListener::bind((self.address, port));
            let listener = self.runtime.block_on(listening).unwrap();
            let routes = Router::new()
                .route("/fleet/{model}/health", get(health))
                .route("/fleet/{model}/v1/models", get(models))
                .route("/fleet/{model}/v1/loads", get(loads));
            self.runtime.spawn(serve(listener, routes));
            for entry in &self.entries {
                register(door, &self.spec(entry, port));
            }
        }
        self.hubs = hubs;
        // The real one has as many as each of them.
        let expected = (usize::from(hubs) + 1) * MODELS.len();
        let mut ready = 0;
        let limit = Duration::from_secs(60 + 2 * u64::from(hubs));
        let all = within(limit, || {
            ready = door.ready().len();
            (ready == expected).then_some(())
        });
        assert!(all.is_some(), "{ready} of {expected}");
        begun.elapsed()
    }

    /// The entry of a real hub, as one of these would register it.
    fn spec(&self, entry: &Value, port: u16) -> Value {
        let model = entry["models"][0]["id"].as_str().unwrap();
        json!({
            "url": format!("http://{}:{port}/fleet/{model}", self.address),
            "models": entry["models"],
            "labels": {"hub": format!("hub{port}"), "memory": "unloaded"},
            "health": entry["health"],
        })
    }

    /// Asks for the list as often as all of them do.
    fn beat(&mut self, door: &Door) {
        let pause = USUAL_HEARTBEAT / u32::from(self.hubs);
        let (is_over, url) = (Arc::clone(&self.is_over), door.url());
        self.beats = Some(std::thread::spawn(move || {
            let client = client();
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let mut answer = client.get(format!("{url}/workers")).call().unwrap();
                answer
                    .body_mut()
                    .with_config()
                    .limit(u64::MAX)
                    .read_to_vec()
                    .unwrap();
                std::thread::sleep(pause.saturating_sub(begun.elapsed()));
            }
        }));
    }

    fn rest(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(beats) = self.beats.take() {
            beats.join().unwrap();
        }
        self.is_over.store(false, Ordering::Relaxed);
    }
}

fn register(door: &Door, spec: &Value) {
    let answer = client()
        .post(format!("{}/workers", door.url()))
        .content_type("application/json")
        .send(spec.to_string())
        .unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn took(work: impl Fn()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

#[test]
#[expect(clippy::print_stdout, reason = "measurements")]
fn a_hundred_hubs_register_and_what_that_costs_is_measured() {
    let Some(mut world) = World::met() else {
        return;
    };
    let mut door = world.door();
    let studio = world.hub("studio", &door, &MODELS);
    door.open_as_printed(&studio.said(&["fleet", "config", "smg"]), None);
    let at = |models: &[&str]| {
        models
            .iter()
            .map(|model| studio.at(model))
            .collect::<Vec<_>>()
    };
    let knows = |models: &[&str]| {
        let ready = door.ready();
        let mut ready = ready.iter().filter(|url| url.starts_with(&studio.url()));
        let urls = at(models);
        ready.clone().count() == urls.len() && ready.all(|url| urls.contains(url))
    };
    assert!(within(Duration::from_secs(60), || knows(&MODELS).then_some(())).is_some());
    let mut crowd = Crowd::new(world.network.here(), door.entries().unwrap());
    println!(
        "| hubs | entries | registered after | list | time of the list | a chat | a new model | processor |"
    );
    let more = std::env::var("FLEET_HUBS").ok();
    let more = more.map(|hubs| hubs.parse().unwrap());
    for hubs in HUBS.into_iter().chain(more) {
        let registered = crowd.grow_to(hubs - 1, &door);
        let list = door.list().unwrap().len();
        let list_time = median((0..9).map(|_| took(|| drop(door.list()))).collect());
        crowd.beat(&door);
        let (begun, before) = (Instant::now(), cpu_seconds(door.group()));
        // No simulated hub answers; "six" is the real one's alone.
        studio.configure(&[&MODELS[..], &["six"]].concat());
        studio.said(&["reload"]);
        let asked = Instant::now();
        let six = within(Duration::from_secs(60), || {
            (door.ask("six").0 == 200).then_some(())
        });
        assert!(six.is_some(), "a new model among {hubs} hubs");
        let joined = asked.elapsed();
        let chats =
            (0..31).map(|_| took(|| assert_eq!(door.ask("six"), (200, "studio".to_owned()))));
        let chat = median(chats.collect());
        std::thread::sleep(WINDOW.saturating_sub(begun.elapsed()));
        let processor = (cpu_seconds(door.group()) - before) / begun.elapsed().as_secs_f64();
        crowd.rest();
        studio.wait_for_state("member");
        studio.configure(&MODELS);
        studio.said(&["reload"]);
        assert!(within(Duration::from_secs(60), || knows(&MODELS).then_some(())).is_some());
        println!(
            "| {hubs} | {} | {registered:.1?} | {} KB | {list_time:.1?} | {chat:.1?} | {joined:.1?} | {:.1} % |",
            usize::from(hubs) * MODELS.len(),
            list / 1000,
            processor * 100.0
        );
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "measurements")]
fn the_hubs_part_adds_no_latency() {
    let Some(mut world) = World::met() else {
        return;
    };
    let door = world.open_door();
    let studio = world.hub("studio", &door, &["alpha"]);
    door.wait_for(&[(&studio, &["alpha"])]);
    // A gateway keeps its connections, and so does each of these.
    let bases = [studio.url(), studio.at("alpha"), door.url()];
    let clients = [(); 3].map(|()| client());
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..200 {
        for ((base, client), times) in bases.iter().zip(&clients).zip(&mut times) {
            times.push(took(|| {
                let answer = ask_by(client, base, "alpha", None);
                assert_eq!(answer, (200, "studio".to_owned()));
            }));
        }
    }
    let [hub, member, door] = times.map(median);
    println!(
        "a chat takes {hub:.2?} at the hub, {member:.2?} at its address for gateways, {door:.2?} at the door"
    );
    // None, but what two medians of the same differ by.
    let none = hub / 4 + Duration::from_micros(500);
    assert!(member < hub + none, "{member:?} instead of {hub:?}");
}
