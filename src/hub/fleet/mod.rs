//! Keeps this hub registered with the gateway of its fleet: `fleet` in hub.yaml.
//!
//! The daemon runs [`stay`]. It looks every second at what the hub is, and at every heartbeat at what the gateway
//! says of it; [`plan`] decides what to call, and [`gateway`] calls. A gateway that cannot be reached is a warning
//! in the status and changes nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::api::{FleetReport, FleetState, MemoryState, unix_now};
use crate::config::{Config, FleetConfig, KeyDigest, ModelType};
use crate::hub::lifecycle::{Lifecycle, Wish};
use crate::telemetry::Troubles;

mod gateway;
mod local_network;
mod plan;

use gateway::{Fault, Gateway};
use plan::{BELOW, Job, Member, Own, Plan};

/// Interval at which changes of the hub are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Pauses between a call and the readings that show whether it has come to anything.
const READ_BACK: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// The trouble to report while the gateway is not as it should be.
const TROUBLE: &str = "the fleet's gateway";

/// The label that says whether a model is in memory.
const MEMORY_LABEL: &str = "memory";

/// The label that tells one key of the gateway's from another: an entry does not show the key itself.
const KEY_LABEL: &str = "key";
/// Digits of the key's hash that it has.
const KEY_DIGITS: usize = 8;

/// Keeps the hub registered until `stop`.
pub async fn stay(lifecycle: Lifecycle, troubles: Troubles, stop: CancellationToken) {
    let mut client = Client {
        troubles,
        joined: None,
        jobs: BTreeMap::new(),
        answered_at: None,
        unsettled: 0,
    };
    let mut wishes = lifecycle.membership().wishes();
    let (mut last, mut next) = (None, Instant::now());
    loop {
        let wish = *wishes.borrow_and_update();
        let config = lifecycle.config();
        let own = config.fleet.as_ref().map(|fleet| match wish {
            Wish::In => own(&lifecycle, &config, fleet),
            Wish::Out => Own::nothing(fleet),
        });
        if last.as_ref() != Some(&(wish, own.clone())) || Instant::now() >= next {
            let round = client.round(&config, wish, own.clone());
            let report = tokio::select! {
                () = stop.cancelled() => return,
                report = round => report,
            };
            lifecycle.membership().note(wish, report);
            last = Some((wish, own));
            next = Instant::now() + client.pause(&config);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wishes.changed() => if changed.is_err() {
                return;
            },
            () = sleep(LOOK) => {}
        }
    }
}

impl Own {
    fn nothing(fleet: &FleetConfig) -> Self {
        Self {
            advertise: fleet.advertise.clone(),
            members: Vec::new(),
        }
    }
}

/// The started models, as the gateway should know them.
fn own(lifecycle: &Lifecycle, config: &Config, fleet: &FleetConfig) -> Own {
    let key = fleet.hub_key.as_ref().and_then(|key| key.read().ok());
    let key = key.map(|key| KeyDigest::of(key.as_bytes()).to_hex());
    let models = lifecycle.models();
    let started = models.iter().filter_map(|model| {
        let facts = model.facts.load();
        let model_type = config.model(&model.name)?.model_type;
        let mut labels = fleet.labels.clone();
        let memory = match facts.memory_state {
            MemoryState::Loaded => MemoryState::Loaded,
            _ => MemoryState::Unloaded,
        };
        labels
            .entry(MEMORY_LABEL.to_owned())
            .or_insert_with(|| memory.as_str().to_owned());
        if let Some(key) = &key {
            labels.insert(KEY_LABEL.to_owned(), key[..KEY_DIGITS].to_owned());
        }
        facts.is_started().then(|| Member {
            model: model.name.to_string(),
            url: format!("{}{BELOW}{}", fleet.advertise, model.name),
            abilities: abilities(model_type),
            context_length: facts.context_length,
            labels,
        })
    });
    Own {
        advertise: fleet.advertise.clone(),
        members: started.collect(),
    }
}

/// What models of a type can do, in the gateway's words.
fn abilities(model_type: ModelType) -> Vec<&'static str> {
    match model_type {
        ModelType::Lm => vec!["chat", "completions", "responses", "tools"],
        ModelType::Multimodal => vec!["chat", "completions", "responses", "tools", "vision"],
        ModelType::ImageGeneration | ModelType::ImageEdit => vec!["image_gen"],
        ModelType::Embeddings => vec!["embeddings"],
        ModelType::Whisper => vec!["audio"],
    }
}

/// The registration of this hub.
struct Client {
    troubles: Troubles,
    /// The gateway that may have entries of this hub.
    joined: Option<Arc<FleetConfig>>,
    /// The ids of registrations that have been accepted, by address.
    jobs: BTreeMap<String, String>,
    /// Time of the gateway's last answer, Unix seconds.
    answered_at: Option<f64>,
    /// Rounds in a row after which the two did not agree.
    unsettled: u32,
}

impl Client {
    /// The time until the gateway is asked again: a heartbeat, or less while the two do not agree.
    fn pause(&self, config: &Config) -> Duration {
        let heartbeat = config.fleet.as_ref().map_or(LOOK, |fleet| fleet.heartbeat);
        match self.unsettled {
            0 => heartbeat,
            rounds => heartbeat.min(LOOK * 2_u32.saturating_pow((rounds - 1).min(16))),
        }
    }

    /// Makes the gateway agree with what this hub is, and reports.
    async fn round(&mut self, config: &Config, wish: Wish, own: Option<Own>) -> FleetReport {
        self.leave_former(config).await;
        let (Some(fleet), Some(own)) = (&config.fleet, own) else {
            self.unsettled = 0;
            self.troubles.note(TROUBLE, Ok::<_, String>(()));
            return FleetReport::default();
        };
        self.joined = Some(Arc::clone(fleet));
        let settled = self.settle(fleet, config.port, &own).await;
        let (state, error, plan) = match settled {
            Ok(plan) => {
                let state = match wish {
                    _ if !plan.is_settled() => FleetState::Differs,
                    Wish::In => FleetState::Member,
                    Wish::Out => FleetState::Out,
                };
                (state, None, plan)
            }
            Err(fault) => (
                FleetState::Unreachable,
                Some(fault.to_string()),
                Plan::default(),
            ),
        };
        self.unsettled = match state {
            FleetState::Member | FleetState::Out => 0,
            _ => self.unsettled + 1,
        };
        self.tell(state, error.as_deref(), &plan);
        FleetReport {
            state,
            error,
            answered_at: self.answered_at,
            entries: plan.entries,
            ..FleetReport::default()
        }
    }

    /// Warns in the status and in the log of what is not as it should be.
    fn tell(&self, state: FleetState, error: Option<&str>, plan: &Plan) {
        let differs = plan.entries.iter().find(|entry| !entry.differs.is_empty());
        let differs = differs.map(|entry| format!("{}: {}", entry.model, entry.differs.join("; ")));
        let wrong = error.map(str::to_owned).or(differs);
        let noted = match &wrong {
            Some(wrong) => self.troubles.note(TROUBLE, Err(wrong)),
            None => self.troubles.note(TROUBLE, Ok::<_, String>(())),
        };
        if noted {
            match wrong {
                Some(wrong) => tracing::warn!("{TROUBLE}: {wrong}"),
                None => tracing::info!(state = state.as_str(), "{TROUBLE} knows this hub as it is"),
            }
        }
    }

    /// Takes the hub out of a gateway that hub.yaml does not name any more.
    async fn leave_former(&mut self, config: &Config) {
        let Some(former) = self.joined.clone() else {
            return;
        };
        let is_same = config.fleet.as_ref().is_some_and(|fleet| {
            (&fleet.gateway, &fleet.advertise) == (&former.gateway, &former.advertise)
        });
        if is_same {
            return;
        }
        self.joined = None;
        let left = self
            .settle(&former, config.port, &Own::nothing(&former))
            .await;
        if let Err(error) = left {
            tracing::warn!("{TROUBLE} that hub.yaml named before still knows this hub: {error}");
        }
        self.jobs.clear();
    }

    /// Calls and reads back until the two agree, or the pauses of [`READ_BACK`] are over.
    async fn settle(&mut self, fleet: &FleetConfig, port: u16, own: &Own) -> Result<Plan, Fault> {
        let gateway = Gateway::of(fleet, port)?;
        let mut pauses = READ_BACK.iter();
        loop {
            let (gateway, own, jobs) = (gateway.clone(), own.clone(), self.jobs.clone());
            let (plan, jobs) = on_a_thread(move || agree(&gateway, &own, jobs)).await?;
            self.jobs = jobs;
            self.answered_at = Some(unix_now());
            match pauses.next() {
                Some(pause) if !plan.is_settled() => sleep(*pause).await,
                _ => return Ok(plan),
            }
        }
    }
}

/// One reading, and the calls that follow from it. Returns the registrations that are under way.
fn agree(
    gateway: &Gateway,
    own: &Own,
    mut ids: BTreeMap<String, String>,
) -> Result<(Plan, BTreeMap<String, String>), Fault> {
    let heard = gateway.entries()?;
    ids.retain(|url, _| !heard.iter().any(|entry| entry.url == *url));
    let mut jobs = BTreeMap::new();
    for (url, id) in &ids {
        if let Some(job) = gateway.job(id)? {
            jobs.insert(url.clone(), job);
        }
    }
    ids.retain(|url, _| jobs.get(url) == Some(&Job::UnderWay));
    let plan = plan::plan(own, &heard, &jobs);
    for call in &plan.calls {
        tracing::debug!(?call, "call to the gateway");
        ids.extend(gateway.make(call)?);
    }
    Ok((plan, ids))
}

/// Runs blocking calls on a thread that nobody waits for at the end of the process.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (tell, told) = oneshot::channel();
    let began = std::thread::Builder::new()
        .name("fleet".to_owned())
        .spawn(move || {
            let _ = tell.send(work());
        });
    let fault = |reason: String| Fault::Strange {
        address: "the gateway's client".to_owned(),
        reason,
    };
    began.map_err(|error| fault(error.to_string()))?;
    told.await
        .unwrap_or_else(|_| Err(fault("it has panicked".to_owned())))
}
