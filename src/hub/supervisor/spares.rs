//! Keeps spare processes ready for the next loads.
//!
//! They are made a while after a load has ended, when no other model is on its way, and end when memory is scarce, when
//! a load needs their bytes, and with the hub. The launches take from them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Supervisor;
use crate::api::{Pressure, SystemMemory};
use crate::core::machine::Launch;
use crate::hub::published::registry::Registry;
use crate::runtime_file::RuntimeModels;
use crate::worker::mark::Owner;

/// From the end of a load to the making of spares.
const PAUSE: Duration = Duration::from_secs(2);
/// For so long memory has not been scarce.
const CALM: Duration = Duration::from_secs(30);
/// Interval at which it is looked whether models are still on their way.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Makes spares until the supervisor has ended.
pub(super) async fn keep(registry: Arc<Registry>, mut models_up: watch::Receiver<RuntimeModels>) {
    let ended = async { while models_up.changed().await.is_ok() {} };
    let keeping = async {
        loop {
            registry.spares.changed().await;
            let loads = quiet(&registry).await;
            let config = Arc::clone(&registry.table.load().config);
            let owner = Owner::new(&config.path, &config.log_path);
            let folder = config.log_path.join("workers");
            registry.spares.fill(loads, &owner, &folder).await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = keeping => {}
    }
}

/// Completes when spares may be made; the number of loads until then.
async fn quiet(registry: &Registry) -> u64 {
    let mut calm_since = None;
    loop {
        if is_scarce(&registry.memory.load()) {
            calm_since = Some(Instant::now());
        }
        let is_calm = calm_since.is_none_or(|since| since.elapsed() >= CALM);
        let (loads, since) = registry.spares.loads();
        let rested = since.is_none_or(|since| since >= PAUSE);
        if rested && is_calm && !registry.is_busy() {
            return loads;
        }
        sleep(POLL_EVERY).await;
    }
}

fn is_scarce(memory: &SystemMemory) -> bool {
    matches!(memory.pressure, Pressure::Warning | Pressure::Critical)
}

impl Supervisor {
    /// Spares give back their memory before programs have to wait for some.
    pub(super) fn spare_memory(&self, system: &SystemMemory) {
        if is_scarce(system) {
            self.hands.registry.spares.end("memory is scarce");
        }
    }

    /// A launch has come to where it was to, or has failed.
    pub(super) fn load_ended(&self, launch: Launch) {
        let config = &self.hands.registry.table.load().config;
        let model = self.hands.workers.model(launch);
        if let Some(model) = model.and_then(|name| config.model(name)) {
            self.hands.registry.spares.load_ended(model);
        }
    }
}
