//! The temporary folder of a demo: hub.yaml, a policy, and the hub's logs.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::fake_worker;

/// The default port of a hub.
const USUAL_PORT: u16 = 8000;

/// The default start of the search for worker ports.
const USUAL_WORKER_PORT: u16 = 47850;
/// Number of ports that the search needs.
const ROOM: u16 = 100;

const HUB_YAML: &str = include_str!("hub.yaml");

/// The policy of the demo.
pub(super) const POLICY: &str = include_str!("idle_unload.lua");
/// Its file name.
pub(super) const POLICY_NAME: &str = "idle_unload.lua";

/// A folder with everything a hub needs; removed when dropped.
pub(super) struct Folder {
    folder: TempDir,
    /// The port its hub.yaml names.
    pub(super) port: u16,
    /// True if nobody asked for that port, and the usual one was taken.
    pub(super) is_evading: bool,
}

impl Folder {
    /// Makes the folder for a hub on a port that is free now: the one that was asked for, else the usual one or any.
    pub(super) fn create(asked: Option<u16>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("mlx-openai-server-hub-demo-")
            .tempdir()
            .map_err(FolderError::Temporary)?;
        let program = std::env::current_exe().map_err(FolderError::Program)?;
        let port = match asked {
            Some(port) if is_free(port) => port,
            Some(port) => return Err(FolderError::Taken(port).into()),
            None => free_port().map_err(FolderError::Port)?,
        };
        let this = Self {
            folder,
            port,
            is_evading: asked.is_none() && port != USUAL_PORT,
        };
        std::fs::write(this.config(), hub_yaml(port, &program))?;
        std::fs::write(this.path().join(POLICY_NAME), POLICY)?;
        Ok(this)
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its hub.yaml.
    pub(super) fn config(&self) -> PathBuf {
        self.path().join("hub.yaml")
    }

    /// Removes it, and says so when it cannot.
    pub(super) fn remove(self) -> Result<(), FolderError> {
        let path = self.path().to_owned();
        self.folder
            .close()
            .map_err(|cause| FolderError::Left { path, cause })
    }
}

/// The reason why the folder could not be created or removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error(
        "the demo needs a temporary folder: {0}\nhint: set `TMPDIR` to one that can be written"
    )]
    Temporary(std::io::Error),
    #[error("the demo cannot find its own program: {0}")]
    Program(std::io::Error),
    #[error("the demo needs a free port: {0}")]
    Port(std::io::Error),
    #[error(
        "port {0} cannot be had: another program has it, or it is for root alone\nhint: try another, or leave `--port` out"
    )]
    Taken(u16),
    #[error(
        "the folder of the demo `{}` could not be removed: {cause}\nhint: remove it yourself",
        .path.display()
    )]
    Left {
        path: PathBuf,
        cause: std::io::Error,
    },
}

fn hub_yaml(port: u16, program: &Path) -> String {
    // Two demos' workers must not share ports, and a port is only taken once a model is loaded.
    let workers = match port {
        USUAL_PORT => USUAL_WORKER_PORT,
        another => another.clamp(1023, u16::MAX - ROOM) + 1,
    };
    // A JSON string is a YAML string too, whatever stands in the path.
    let program = serde_json::Value::from(program.to_string_lossy());
    HUB_YAML
        .replace("{port}", &port.to_string())
        .replace("{workers}", &workers.to_string())
        .replace("{program}", &program.to_string())
        .replace("{stub}", fake_worker::SUBCOMMAND)
}

fn free_port() -> std::io::Result<u16> {
    if is_free(USUAL_PORT) {
        return Ok(USUAL_PORT);
    }
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(any.local_addr()?.port())
}

fn is_free(port: u16) -> bool {
    // Some systems let two programs bind one port, on all addresses and on this one: a port that answers is
    // taken, even if it can be bound.
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpStream::connect(address).is_err() && TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_template_is_a_hub_yaml_without_a_warning() {
        let folder = Folder::create(None).unwrap();
        let config = Config::load(&folder.config()).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new());
        assert_eq!(config.port, folder.port);
        let jit: Vec<bool> = config
            .models
            .iter()
            .map(|model| model.jit_enabled)
            .collect();
        assert_eq!(jit, [false, true, true]);
        assert!(config.log_path.starts_with(folder.path()));
    }

    #[test]
    fn the_port_is_the_one_that_was_asked_for_or_there_is_no_demo() {
        let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = any.local_addr().unwrap().port();
        let refused = Folder::create(Some(port)).err().unwrap();
        assert!(refused.to_string().contains("another program has it"));
        drop(any);
        let folder = Folder::create(Some(port)).unwrap();
        assert_eq!(Config::load(&folder.config()).unwrap().port, port);
        assert!(!folder.is_evading);
    }

    #[test]
    fn every_reason_why_there_is_no_demo_is_told() {
        let cause = || std::io::Error::other("no more of it");
        let path = "demo".into();
        let told = [
            FolderError::Temporary(cause()),
            FolderError::Program(cause()),
            FolderError::Port(cause()),
            FolderError::Taken(80),
            FolderError::Left {
                path,
                cause: cause(),
            },
        ]
        .map(|error| error.to_string());
        insta::assert_snapshot!(told.join("\n"), @"
        the demo needs a temporary folder: no more of it
        hint: set `TMPDIR` to one that can be written
        the demo cannot find its own program: no more of it
        the demo needs a free port: no more of it
        port 80 cannot be had: another program has it, or it is for root alone
        hint: try another, or leave `--port` out
        the folder of the demo `demo` could not be removed: no more of it
        hint: remove it yourself
        ");
    }

    #[test]
    fn a_removed_folder_is_gone() {
        let folder = Folder::create(None).unwrap();
        let path = folder.path().to_owned();
        folder.remove().unwrap();
        assert!(!path.exists());
    }
}
