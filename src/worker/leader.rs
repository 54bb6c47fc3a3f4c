//! The process that leads a worker's group: a child of this hub, or one that an earlier hub left.

use std::os::unix::process::ExitStatusExt as _;

use tokio::process::Child;

use super::identity::Identity;

/// The leader of a worker's process group.
#[derive(Debug)]
pub(super) enum Leader {
    /// Started by this hub: it must be reaped, and its exit code is known.
    Child(Child),
    /// Started by an earlier hub: another process reaps it, and its exit code stays unknown.
    Adopted(Identity),
}

impl Leader {
    /// Completes when it has ended; −N for signal N, `None` when its exit code cannot be known.
    pub(super) async fn ended(&mut self) -> Option<i32> {
        match self {
            Self::Child(child) => {
                let status = child.wait().await.ok()?;
                status
                    .code()
                    .or_else(|| status.signal().map(|signal| -signal))
            }
            Self::Adopted(identity) => {
                identity.ended().await;
                None
            }
        }
    }

    /// True if it has ended; reaps it if it is a child.
    pub(super) fn has_ended(&mut self) -> bool {
        match self {
            Self::Child(child) => !matches!(child.try_wait(), Ok(None)),
            Self::Adopted(identity) => !identity.is_running(),
        }
    }
}
