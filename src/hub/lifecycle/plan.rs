//! The consequences of a verb, told before it is done. Nothing is loaded, counted or recorded.

use super::Lifecycle;
use crate::api::{ApiError, MemoryState, ModelFacts, PlannedLoad, ProcessState, Verb, VerbPlan};
use crate::core::machine::victims;
use crate::core::refusals;
use crate::policy::{LoadReason, LoadVerdict, PendingLoad, Policies};

impl Lifecycle {
    /// The verdict of `on_load`, if it was asked now about that model, for which so many requests wait. Nothing is
    /// loaded, and nobody hears of it.
    ///
    /// # Errors
    /// 500 for a fault of the hub's own.
    pub async fn would_load(
        &self,
        model: &str,
        reason: LoadReason,
        waiting: usize,
    ) -> Result<LoadVerdict, ApiError> {
        let (model, pending) = (
            model.to_owned(),
            PendingLoad {
                reason,
                waiting,
                waited_seconds: 0.0,
            },
        );
        let ask = move |policies: &Policies| policies.would_load(&model, pending);
        match self.policies.are_quick() {
            true => Ok(ask(&self.policies)),
            false => self.policies.on_hook_thread(ask).await,
        }
    }

    /// The consequences of that verb on that model now; of a load by the policies' own verdict.
    ///
    /// # Errors
    /// 404 for an unknown name; 500 for a fault of the hub's own.
    pub async fn plan(&self, verb: Verb, name: &str) -> Result<VerbPlan, ApiError> {
        let table = self.registry.table.load_full();
        let find = |name: &str| table.models.iter().find(|model| &*model.name == name);
        let Some(model) = find(name) else {
            let declared = self.policies.declared_names();
            return Err(refusals::unknown_model(name, &table.config, &declared));
        };
        let (facts, counters) = (model.facts.load_full(), model.counters());
        let mut plan = VerbPlan {
            model: name.to_owned(),
            ..VerbPlan::default()
        };
        if verb.frees_memory() {
            plan.in_flight = counters.active_requests;
        }
        if verb == Verb::Stop {
            plan.refused_requests = counters.waiting_requests + counters.parked_requests;
        }
        let Some(reason) = load_of(verb, &facts) else {
            return Ok(plan);
        };
        if reason == LoadReason::Manual && !facts.is_started() {
            plan.load = PlannedLoad::Refused;
            plan.refusal = Some(ApiError::not_started(name).message);
            return Ok(plan);
        }
        let verdict = self.would_load(name, reason, counters.waiting_requests);
        plan.load = match verdict.await? {
            LoadVerdict::Allow => PlannedLoad::Begins,
            LoadVerdict::Evict(names) => {
                let holds = |name: &str| {
                    find(name).is_some_and(|other| other.facts.load().memory_state.holds_memory())
                };
                plan.unloads = victims(name, &names, holds);
                let leaving = plan.unloads.iter().filter_map(|name| find(name));
                plan.in_flight = leaving.map(|other| other.gate.active()).sum();
                PlannedLoad::Begins
            }
            LoadVerdict::Wait(_) => PlannedLoad::Waits,
            LoadVerdict::Reject(error) => {
                plan.refusal = Some(error.message);
                PlannedLoad::Refused
            }
        };
        Ok(plan)
    }
}

/// Why `on_load` would be asked, if that verb loads a model in this state.
fn load_of(verb: Verb, facts: &ModelFacts) -> Option<LoadReason> {
    let is_there = matches!(
        facts.memory_state,
        MemoryState::Loaded | MemoryState::Loading
    );
    let reason = match verb {
        Verb::Load if facts.process_state == ProcessState::Failed => LoadReason::Start,
        Verb::Load => LoadReason::Manual,
        Verb::Start if !facts.is_started() && !facts.jit_enabled => LoadReason::Start,
        _ => return None,
    };
    (!is_there).then_some(reason)
}
