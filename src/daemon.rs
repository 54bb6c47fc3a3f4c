//! The composition root.

use std::path::Path;

/// Runs the hub.
///
/// # Errors
/// When it cannot start.
pub fn run(config_path: &Path, foreground: bool) -> anyhow::Result<()> {
    anyhow::bail!("{} {foreground}", config_path.display())
}
