//! `.hub.yaml.running` beside hub.yaml names the log folder that its hub uses, or used when it was killed.
//!
//! `log_path` and `port` can be edited at any time: without this file a command, and the next hub, would
//! look for the hub and its workers in the wrong folder. If hub.yaml's folder cannot be written, there is no
//! such file, and only hub.yaml and the marks of the workers lead to them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// Its log folder.
    pub log_path: PathBuf,
}

impl Trail {
    fn path(given: &Path) -> PathBuf {
        // All links to a hub.yaml share one.
        let config_path = given.canonicalize();
        let config_path = &config_path.unwrap_or_else(|_| given.to_owned());
        files::beside(config_path, ".running")
    }

    /// Reads the file of a hub.yaml; `None` when there is none.
    pub fn read(config_path: &Path) -> Option<Self> {
        serde_json::from_slice(&files::read(&Self::path(config_path)).ok()?).ok()
    }

    /// Writes it, readable by its owner only.
    ///
    /// # Errors
    /// When the folder of hub.yaml cannot be written.
    pub fn write(&self, config_path: &Path) -> std::io::Result<()> {
        files::replace_private(&Self::path(config_path), self)
    }

    /// Removes it, if it exists.
    pub fn remove(config_path: &Path) {
        let _ = std::fs::remove_file(Self::path(config_path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hub_yaml_of_a_folder_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
        let trail = Trail {
            log_path: "/var/log/hub".into(),
        };
        trail.write(&one).unwrap();
        assert_eq!(Trail::read(&one), Some(trail));
        assert_eq!(Trail::read(&other), None);
        Trail::remove(&one);
        Trail::remove(&one);
        assert_eq!(Trail::read(&one), None);
    }

    #[test]
    fn a_link_to_hub_yaml_leads_to_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (
            folder.path().join("hub.yaml"),
            folder.path().join("link.yaml"),
        );
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let log_path = "/var/log/hub".into();
        Trail { log_path }.write(&link).unwrap();
        assert!(Trail::read(&file).is_some());
    }
}
