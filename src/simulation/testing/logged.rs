//! The log lines of policies during a test, for the test to read.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// One line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// `info`, `warn` or `error`.
    pub(super) level: String,
    pub(super) text: String,
    /// The policy's line, as `file:line`.
    pub(super) policy: String,
}

/// The lines since the case began.
pub(super) type Lines = Arc<Mutex<Vec<Line>>>;

/// Runs `body` and keeps what policies log meanwhile.
pub(super) fn keep<R>(lines: &Lines, body: impl FnOnce() -> R) -> R {
    let subscriber = tracing_subscriber::registry().with(Keep(Arc::clone(lines)));
    tracing::subscriber::with_default(subscriber, body)
}

struct Keep(Lines);

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line {
            level: event.metadata().level().as_str().to_lowercase(),
            ..Line::default()
        };
        event.record(&mut line);
        // Everything else that is logged has other fields.
        if line.policy.contains(".lua:") {
            self.0.lock().push(line);
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "policy" {
            value.clone_into(&mut self.policy);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.text, "{value:?}");
        }
    }
}
