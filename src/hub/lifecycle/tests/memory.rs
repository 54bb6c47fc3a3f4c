//! Admission and eviction by measured memory: a scripted machine, workers that take and give back what
//! the test says, and policies in Lua that decide by it.

use std::collections::HashMap;

use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::api::{Pressure, SystemMemory, Verb};
use crate::memory::Probe;
use crate::worker::spare::tests as spare;

const GIBIBYTE: u64 = 1 << 30;

/// The memory of a machine that does not exist. By default it cannot be measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Ram(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    total: Option<u64>,
    /// Memory of other programs.
    other: u64,
    /// Memory that each model needs.
    sizes: HashMap<&'static str, u64>,
    /// Memory of each worker.
    held: HashMap<u32, u64>,
    /// Memory that ended workers have not given back yet.
    returning: u64,
    /// Time that this takes.
    returns_after: Duration,
    pressure: Pressure,
}

impl Probe for Ram {
    fn system(&self) -> SystemMemory {
        let ram = self.0.lock();
        let taken = ram.other + ram.returning + ram.held.values().sum::<u64>();
        SystemMemory {
            total: ram.total,
            available: ram.total.map(|total| total - taken),
            pressure: ram.pressure,
            ..SystemMemory::default()
        }
    }

    fn group(&self, leader: u32) -> Option<u64> {
        self.0.lock().held.get(&leader).copied()
    }
}

impl Ram {
    /// The worker of that model has its weights in memory.
    pub(super) fn take(&self, model: &str, pid: u32) {
        let mut ram = self.0.lock();
        let size = ram.sizes.get(model).copied();
        ram.held.extend(size.map(|size| (pid, size)));
    }

    /// That worker is gone; the system takes its time.
    pub(super) fn give_back(&self, pid: u32, tracker: &TaskTracker) {
        let mut ram = self.0.lock();
        let held = ram.held.remove(&pid).unwrap_or(0);
        ram.returning += held;
        let (after, ram) = (ram.returns_after, Arc::clone(&self.0));
        tracker.spawn(async move {
            sleep(after).await;
            ram.lock().returning -= held;
        });
    }
}

/// The policies of these tests: a load that fits is admitted; idle models go for one that does not.
const BY_MEMORY: &str = r#"
return {
  on_load = function(load, hub)
    local needed, free = load.model.peak_bytes, hub.memory.available
    if not needed or not free or needed <= free then return hub.allow() end
    local victims = {}
    for name, model in pairs(hub.models) do
      if model.memory_state == "loaded" and model.active == 0 then
        table.insert(victims, name)
        free = free + model.memory_bytes
        if needed <= free then return hub.evict(victims) end
      end
    end
    if load.waited_seconds < 60 then return hub.wait{ seconds = 60 } end
    return hub.reject{ status = 503, message = "too big" }
  end,
}
"#;

const THREE: &str = "
models:
- {name: alpha, model_path: org/alpha}
- {name: beta, model_path: org/beta}
- {name: gamma, model_path: org/gamma}
";

/// A machine of 64 GiB, of which other programs hold 4.
struct Machine {
    scene: Scene,
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self::under(BY_MEMORY)
    }

    fn under(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("by_memory.lua"), policy).unwrap();
        Self {
            scene: Self::scene(&folder, THREE),
            folder,
        }
    }

    fn scene(folder: &TempDir, yaml: &str) -> Scene {
        let path = folder.path().join("hub.yaml");
        std::fs::write(&path, yaml).unwrap();
        let launcher = ScriptedLauncher::default();
        *launcher.ram.0.lock() = Contents {
            total: Some(64 * GIBIBYTE),
            other: 4 * GIBIBYTE,
            sizes: [("alpha", 30), ("beta", 20), ("gamma", 40)]
                .map(|(name, size)| (name, size * GIBIBYTE))
                .into(),
            returns_after: Duration::from_secs(4),
            ..Contents::default()
        };
        Scene::of(
            Config::load(&path).unwrap(),
            launcher,
            Learned::recall(folder.path()),
        )
    }

    /// A machine that has seen each model once and holds none.
    async fn experienced() -> Self {
        let machine = Self::new();
        for model in ["alpha", "beta", "gamma"] {
            machine.load(model).await;
            machine
                .scene
                .lifecycle
                .run(Verb::Stop, model)
                .await
                .unwrap();
            sleep(Duration::from_secs(20)).await;
        }
        machine
    }

    /// Loads a model and waits until it has been measured.
    async fn load(&self, model: &str) {
        self.scene.lifecycle.run(Verb::Start, model).await.unwrap();
        sleep(Duration::from_secs(6)).await;
    }

    fn view(&self, model: &str) -> crate::policy::ModelView {
        self.scene.lifecycle.registry.model(model).unwrap()
    }

    fn memory(&self) -> u64 {
        self.scene.lifecycle.status().memory.available.unwrap() / GIBIBYTE
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.scene.launcher.ram.0.lock());
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_what_each_model_holds_and_ever_held() {
    let machine = Machine::new();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(machine.memory(), 60);
    machine.load("alpha").await;
    let status = machine.scene.lifecycle.status();
    assert_eq!(status.memory.total, Some(64 * GIBIBYTE));
    assert_eq!(machine.memory(), 30);
    let alpha = &status.models[0].metadata;
    assert_eq!(alpha.activity.memory_bytes, Some(30 * GIBIBYTE));
    assert_eq!(alpha.activity.peak_bytes, Some(30 * GIBIBYTE));
    machine
        .scene
        .lifecycle
        .run(Verb::Stop, "alpha")
        .await
        .unwrap();
    let status = machine.scene.lifecycle.status();
    let alpha = &status.models[0].metadata;
    assert_eq!(alpha.activity.memory_bytes, None, "no process");
    assert_eq!(alpha.activity.peak_bytes, Some(30 * GIBIBYTE));
    let beta = &status.models[1].metadata;
    assert_eq!(
        (beta.activity.memory_bytes, beta.activity.peak_bytes),
        (None, None)
    );
}

#[tokio::test(start_paused = true)]
async fn memory_that_cannot_be_read_is_a_warning_until_it_can() {
    let machine = Machine::new();
    sleep(Duration::from_secs(1)).await;
    let of_memory = || {
        let warnings = machine.scene.lifecycle.status().warnings.into_iter();
        let of_memory = warnings.filter(|warning| warning.contains("memory"));
        of_memory.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(of_memory(), "");
    machine.change(|ram| ram.total = None);
    sleep(Duration::from_secs(20)).await;
    insta::assert_snapshot!(of_memory(), @"The machine's memory cannot be read: policies see nil, and `memory_fit` goes by what the models hold and ever held.");
    assert_eq!(machine.scene.lifecycle.status().memory.available, None);
    machine.change(|ram| ram.total = Some(64 * GIBIBYTE));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(of_memory(), "");
}

#[tokio::test(start_paused = true)]
async fn a_policy_admits_what_fits_and_evicts_for_what_does_not() {
    let machine = Machine::experienced().await;
    machine.load("alpha").await;
    machine.load("beta").await;
    assert_eq!(machine.memory(), 10, "both fit");
    // Gamma needs 40: alpha's 30 and the 10 that are left.
    let grant = machine.scene.acquire("gamma").await.unwrap();
    assert_eq!(machine.scene.states("alpha").1, "unloaded");
    assert_eq!(machine.scene.states("beta").1, "loaded");
    sleep(Duration::from_secs(6)).await;
    assert_eq!(machine.memory(), 0);
    drop(grant);
}

#[tokio::test(start_paused = true)]
async fn a_load_waits_until_the_memory_of_the_evicted_is_back() {
    let machine = Machine::experienced().await;
    machine.load("alpha").await;
    machine.load("beta").await;
    let began = Instant::now();
    machine.scene.acquire("gamma").await.unwrap();
    let took = began.elapsed();
    // Alpha ends in one second, its memory is back four later, and the load takes five.
    let least = END + Duration::from_secs(4) + LOAD;
    assert!(
        took >= least && took < least + Duration::from_secs(1),
        "{took:?}"
    );
    let load_seconds = machine.view("gamma").facts.load_seconds.unwrap();
    assert!((5.0..5.5).contains(&load_seconds), "{load_seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fits_does_not_wait_for_what_is_on_its_way_back() {
    let machine = Machine::experienced().await;
    machine.load("alpha").await;
    machine
        .scene
        .lifecycle
        .run(Verb::Stop, "alpha")
        .await
        .unwrap();
    let began = Instant::now();
    // 30 are left, beta needs 20.
    machine.scene.acquire("beta").await.unwrap();
    assert!(began.elapsed() < LOAD + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn memory_that_never_comes_back_holds_a_load_up_for_ten_seconds() {
    let machine = Machine::under("return {}");
    machine.load("gamma").await;
    machine.change(|ram| ram.returns_after = Duration::from_secs(3600));
    machine
        .scene
        .lifecycle
        .run(Verb::Unload, "gamma")
        .await
        .unwrap();
    let began = Instant::now();
    machine
        .scene
        .lifecycle
        .run(Verb::Load, "gamma")
        .await
        .unwrap();
    let took = began.elapsed();
    let limit = Duration::from_secs(10) + LOAD;
    assert!(
        took >= limit && took < limit + Duration::from_secs(1),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_parked_load_begins_when_other_programs_leave_room() {
    let machine = Machine::experienced().await;
    machine.change(|ram| ram.other = 40 * GIBIBYTE);
    sleep(Duration::from_secs(6)).await;
    let request = machine.scene.acquire_later("gamma");
    sleep(Duration::from_secs(30)).await;
    assert_eq!(machine.scene.states("gamma").1, "unloaded");
    machine.change(|ram| ram.other = 4 * GIBIBYTE);
    let began = Instant::now();
    request.await.unwrap().unwrap();
    assert!(began.elapsed() < LOAD + Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn spares_end_when_memory_becomes_scarce() {
    let folder = tempfile::tempdir().unwrap();
    let config = spare::config(folder.path(), " [{name: alpha, model_path: org/alpha}]\n");
    let alpha = config.models[0].clone();
    let scene = Scene::of(config, ScriptedLauncher::default(), Learned::default());
    let spares = &scene.lifecycle.registry.spares;
    let seen = || {
        spares
            .seen()
            .iter()
            .map(|seen| seen.pid)
            .collect::<Vec<_>>()
    };
    for pressure in [Pressure::Warning, Pressure::Critical] {
        scene.launcher.ram.0.lock().pressure = Pressure::Normal;
        sleep(Duration::from_secs(60)).await;
        let pid = spare::hold(spares, &alpha);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(seen(), [pid], "memory is not scarce");
        scene.launcher.ram.0.lock().pressure = pressure;
        sleep(Duration::from_secs(20)).await;
        assert_eq!(seen(), [0; 0]);
        spare::ended(pid).await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_can_be_measured_loads_go_on_as_before() {
    let machine = Machine::new();
    machine.change(|ram| *ram = Contents::default());
    for model in ["alpha", "beta", "gamma"] {
        machine.load(model).await;
    }
    assert_eq!(machine.view("alpha").activity.memory_bytes, None);
    assert_eq!(machine.scene.states("alpha").1, "loaded");
    let began = Instant::now();
    machine
        .scene
        .lifecycle
        .run(Verb::Unload, "alpha")
        .await
        .unwrap();
    machine
        .scene
        .lifecycle
        .run(Verb::Load, "alpha")
        .await
        .unwrap();
    assert!(began.elapsed() < END + LOAD + Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_outlives_the_hub_and_not_other_launch_settings() {
    let mut machine = Machine::experienced().await;
    let seconds = machine.view("alpha").facts.load_seconds;
    assert!(seconds.is_some());
    machine.scene = Machine::scene(&machine.folder, THREE);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        machine.view("alpha").activity.peak_bytes,
        Some(30 * GIBIBYTE)
    );
    assert_eq!(machine.view("alpha").facts.load_seconds, seconds);

    let other = THREE.replace("org/alpha", "org/alpha-8bit");
    std::fs::write(machine.folder.path().join("hub.yaml"), other).unwrap();
    machine.scene.lifecycle.reload(false).await.unwrap();
    let alpha = machine.view("alpha");
    assert_eq!(
        (alpha.activity.peak_bytes, alpha.facts.load_seconds),
        (None, None)
    );
    assert_eq!(
        machine.view("beta").activity.peak_bytes,
        Some(20 * GIBIBYTE)
    );
}

/// Refuses what will never fit, by what is available or on its way back.
const BY_WHAT_RETURNS: &str = r#"
return {
  on_load = function(load, hub)
    local needed, memory = load.model.peak_bytes or 0, hub.memory
    if needed > memory.available + memory.returning then
      return hub.reject{ status = 503, message = "too big" }
    end
  end,
}
"#;

#[tokio::test(start_paused = true)]
async fn memory_on_its_way_back_is_no_reason_to_refuse() {
    let machine = Machine::under(BY_WHAT_RETURNS);
    machine.load("gamma").await;
    machine
        .scene
        .lifecycle
        .run(Verb::Stop, "gamma")
        .await
        .unwrap();
    let memory = machine.scene.lifecycle.status().memory;
    assert_eq!(memory.available, Some(20 * GIBIBYTE));
    assert_eq!(memory.returning, 40 * GIBIBYTE);
    machine.scene.acquire("gamma").await.unwrap();
    sleep(Duration::from_secs(6)).await;
    let memory = machine.scene.lifecycle.status().memory;
    assert_eq!(memory.available, Some(20 * GIBIBYTE));
    assert_eq!(memory.returning, 0, "it was back, and is taken again");
}

#[tokio::test(start_paused = true)]
async fn the_bundled_memory_fit_waits_for_what_is_on_its_way_back() {
    let mut machine = Machine::under("return {}");
    let yaml = format!("policies: [memory_fit]\n{THREE}");
    machine.scene = Machine::scene(&machine.folder, &yaml);
    machine.load("gamma").await;
    machine
        .scene
        .lifecycle
        .run(Verb::Stop, "gamma")
        .await
        .unwrap();
    let began = Instant::now();
    // It needs 40 GiB, 20 are there, and the rest comes after four seconds.
    machine.scene.acquire("gamma").await.unwrap();
    let (took, least) = (began.elapsed(), Duration::from_secs(4) + LOAD);
    assert!(
        took >= least && took < least + Duration::from_secs(1),
        "{took:?}"
    );
    assert_eq!(machine.scene.lifecycle.policies().warnings(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_policies_see_at_first_and_what_they_see_in_all_is_one_model() {
    let machine = Machine::new();
    machine.load("alpha").await;
    let registry = &machine.scene.lifecycle.registry;
    let view = machine.view("alpha");
    assert!(view.loaded_seconds.is_some_and(|loaded| loaded > 0.0));
    assert_eq!(Some(view.idle_seconds), view.loaded_seconds);
    assert_eq!(view.activity.memory_bytes, Some(30 * GIBIBYTE));
    for name in ["alpha", &view.facts.model_path] {
        let facts = registry.facts(name).unwrap();
        assert!(Arc::ptr_eq(&facts, &view.facts), "{name}");
    }
    assert!(registry.facts("nobody").is_none());
}
