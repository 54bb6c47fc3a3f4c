//! The composition root.

use std::path::Path;

/// Runs the hub.
///
/// # Errors
/// When it cannot start.
pub fn run(config_path: &Path, foreground: bool) -> anyhow::Result<()> {
    let config = crate::config::Config::load(config_path)?;
    anyhow::bail!("cannot serve {} {foreground}", config.path.display())
}
