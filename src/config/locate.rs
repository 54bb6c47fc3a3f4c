//! Where hub.yaml is.

use std::path::{Path, PathBuf};

/// The configuration to use: `flag`, else `MLX_HUB_CONFIG_PATH`, else the default one. Absolute.
pub fn locate(flag: Option<&Path>) -> PathBuf {
    let path = flag.map(Path::to_owned).or_else(|| {
        std::env::var_os("MLX_HUB_CONFIG_PATH")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    });
    let path = path.unwrap_or_else(|| PathBuf::from("~/mlx-openai-server-hub/hub.yaml"));
    let path = match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    };
    std::path::absolute(&path).unwrap_or(path)
}
