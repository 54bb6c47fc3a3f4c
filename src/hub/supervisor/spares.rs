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
const PAUSE: Duration = Duration::from_millis(500);
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

#[cfg(test)]
mod tests {
    use tokio::join;

    use super::*;
    use crate::config::ports::PortBook;
    use crate::hub::published::learned::Learned;
    use crate::telemetry::Troubles;
    use crate::worker::spare::tests as spare;

    #[tokio::test(start_paused = true)]
    async fn they_are_made_a_while_after_a_load_and_once_memory_has_not_been_scarce_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let config = spare::config(folder.path(), " [{name: alpha, model_path: org/alpha}]\n");
        let ports = PortBook::with_probe(1, 2, Box::new(|_, _| true));
        let (learned, troubles) = (Learned::default(), Troubles::default());
        let registry = Registry::new(Arc::new(config), ports, learned, troubles, Instant::now());
        let config = Arc::clone(&registry.table.load().config);
        let is_about = |took: Duration, expected: Duration| {
            assert!(
                took >= expected && took <= expected + 2 * POLL_EVERY,
                "{took:?} instead of {expected:?}"
            );
        };
        let took = async || {
            let begun = Instant::now();
            quiet(&registry).await;
            begun.elapsed()
        };
        registry.spares.load_ended(&config.models[0]);
        is_about(took().await, PAUSE);

        let feel = |pressure| {
            registry.memory.store(Arc::new(SystemMemory {
                pressure,
                ..SystemMemory::default()
            }));
        };
        for pressure in [Pressure::Warning, Pressure::Critical] {
            feel(pressure);
            let scarce = Duration::from_secs(60);
            let relieved = async {
                sleep(scarce).await;
                feel(Pressure::Normal);
            };
            let (took, ()) = join!(took(), relieved);
            is_about(took, scarce + CALM - POLL_EVERY);
        }
    }
}
