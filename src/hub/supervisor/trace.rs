//! A span for each load: from the moment at which the hub decided to load the model to its end, whatever that is.

use std::time::{Duration, UNIX_EPOCH};

use crate::api::{MemoryState, ModelFacts};
use crate::telemetry::traces::{Beginning, Span, attribute};

/// Reports a load, if one ends by this change. It took so many seconds from the launch on, if this hub began it.
pub(super) fn load_ended(before: &ModelFacts, now: &ModelFacts, took: Option<f64>) {
    let Some(began) = began(before, now) else {
        return;
    };
    let span = Span::of_work(|| Beginning {
        name: format!("load {}", now.name),
        time: UNIX_EPOCH + began,
        attributes: vec![
            attribute("mlx_hub.model", now.name.clone()),
            attribute("mlx_hub.load.outcome", now.memory_state.as_str()),
        ],
    });
    let Some(mut span) = span else { return };
    match now.memory_state {
        MemoryState::Loaded => {
            if let Some(took) = took {
                span.set("mlx_hub.load.seconds", took);
            }
        }
        MemoryState::Failed => {
            // The rest of the reason is the end of the worker's log, where texts of clients may be.
            let reason = now.memory_last_error.as_deref().unwrap_or_default();
            let reason = reason.lines().next().unwrap_or_default();
            span.failed("load_failed".to_owned(), reason.to_owned());
        }
        _ => {}
    }
}

/// When the load that ends by this change began, as Unix time.
fn began(before: &ModelFacts, now: &ModelFacts) -> Option<Duration> {
    if before.memory_state != MemoryState::Loading || now.memory_state == MemoryState::Loading {
        return None;
    }
    Duration::try_from_secs_f64(before.memory_last_transition_at?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(memory_state: MemoryState, since: f64) -> ModelFacts {
        ModelFacts {
            memory_state,
            memory_last_transition_at: Some(since),
            ..ModelFacts::default()
        }
    }

    #[test]
    fn a_load_ends_when_the_model_is_anything_but_loading() {
        let loading = facts(MemoryState::Loading, 2.5);
        for (before, now, expected) in [
            (&loading, facts(MemoryState::Loaded, 4.0), Some(2.5)),
            (&loading, facts(MemoryState::Failed, 4.0), Some(2.5)),
            (&loading, facts(MemoryState::Unloaded, 4.0), Some(2.5)),
            (&loading, facts(MemoryState::Loading, 2.5), None),
            (
                &facts(MemoryState::Loaded, 1.0),
                facts(MemoryState::Unloading, 2.0),
                None,
            ),
        ] {
            let expected = expected.map(Duration::from_secs_f64);
            assert_eq!(began(before, &now), expected, "{:?}", now.memory_state);
        }
    }
}
