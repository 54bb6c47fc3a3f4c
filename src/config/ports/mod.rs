//! The book of ports: one for each worker.
//!
//! The daemon alone owns a [`PortBook`]: it assigns ports at start and at reload, and takes the next one
//! when another program has bound a port between assignment and launch. `Config::load` has already checked
//! hub.yaml's own rules about ports (ranges, two models with one port).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ModelConfig;
use crate::files;

mod probe;

pub use probe::{is_free, is_here};

/// Ports that a worker may have, set by hub.yaml or assigned.
const PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;

/// True if a port of a host can be bound now.
type Probe = dyn Fn(&str, u16) -> bool + Send + Sync;

/// The reason why a model cannot have a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Another program listens on the port that hub.yaml sets.
    #[error(
        "model `{model}`: port {port} is in use by another program\n\
         hint: free it, or set another `port` for this model, or none and the hub finds one"
    )]
    InUse {
        /// The model.
        model: String,
        /// Its port in hub.yaml.
        port: u16,
    },
    /// A running worker was assigned the port that hub.yaml sets.
    #[error(
        "model `{model}`: port {port} is in use by model `{holder}`\n\
         hint: stop `{holder}` first, or set another `port` for this model"
    )]
    Held {
        /// The model.
        model: String,
        /// Its port in hub.yaml.
        port: u16,
        /// The model whose worker listens there.
        holder: String,
    },
    /// The hub itself listens on the port that hub.yaml sets.
    #[error(
        "model `{model}`: port {port} is the hub's own\n\
         hint: set another `port` for this model, or none and the hub finds one"
    )]
    HubPort {
        /// The model.
        model: String,
        /// Its port in hub.yaml.
        port: u16,
    },
    /// No free port is left.
    #[error(
        "model `{model}`: no port from {from} to 65535 is free\n\
         hint: set a lower `model_starting_port`"
    )]
    NoneFree {
        /// The model.
        model: String,
        /// First port of the search.
        from: u16,
    },
}

/// The port of every model, kept across reloads.
pub struct PortBook {
    hub_port: u16,
    starting_port: u16,
    ports: BTreeMap<String, u16>,
    probe: Box<Probe>,
}

/// The assignments as they are kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    starting_port: u16,
    ports: BTreeMap<String, u16>,
}

impl std::fmt::Debug for PortBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PortBook")
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

impl PortBook {
    /// An empty book: assigned ports begin at `starting_port` and leave out `hub_port`.
    pub fn new(hub_port: u16, starting_port: u16) -> Self {
        Self::with_probe(hub_port, starting_port, Box::new(is_free))
    }

    /// [`PortBook::new`] with another probe for free ports.
    pub fn with_probe(hub_port: u16, starting_port: u16, probe: Box<Probe>) -> Self {
        Self {
            hub_port,
            starting_port,
            ports: BTreeMap::new(),
            probe,
        }
    }

    /// Takes over the assignments of an earlier run.
    pub fn restore(&mut self, ports: impl IntoIterator<Item = (String, u16)>) {
        self.ports.extend(ports);
    }

    /// All assignments.
    pub fn all(&self) -> impl Iterator<Item = (&str, u16)> {
        self.ports.iter().map(|(name, port)| (name.as_str(), *port))
    }

    /// Keeps the assignments in a file, for its owner only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let kept = Kept {
            starting_port: self.starting_port,
            ports: self.ports.clone(),
        };
        files::replace_private(path, &kept)
    }

    /// Restores the assignments that [`PortBook::save`] wrote, without ports that are taken now or that no
    /// worker may have; none of them if `starting_port` has changed. A file that is missing or cannot be read
    /// restores nothing.
    pub fn recall(&mut self, path: &Path) {
        let kept = files::read(path)
            .ok()
            .and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        if let Some(mut kept) = kept.filter(|kept| kept.starting_port == self.starting_port) {
            kept.ports
                .retain(|_, port| PORTS.contains(port) && (self.probe)("127.0.0.1", *port));
            self.restore(kept.ports);
        }
    }

    /// Sets the first port of later searches (a reload may change it); assigned ports stay.
    pub fn set_starting_port(&mut self, starting_port: u16) {
        self.starting_port = starting_port;
    }

    /// Gives each of `models`, in this order, its port: the one hub.yaml sets, else the one it had,
    /// else the first free one. Models that are gone lose theirs.
    ///
    /// `is_up` is true for a model whose worker is running: its port is bound by that worker, and stays
    /// assigned until [`PortBook::release`], even if the model is gone from hub.yaml.
    ///
    /// # Errors
    /// When a port of hub.yaml is taken or no port is left; no assignment changes then.
    pub fn assign(
        &mut self,
        models: &[ModelConfig],
        is_up: &dyn Fn(&str) -> bool,
    ) -> Result<(), PortError> {
        let mut given = BTreeMap::new();
        for model in models {
            if let Some(port) = model.port {
                self.check_explicit(model, port, is_up)?;
                given.insert(model.name.clone(), port);
            }
        }
        let explicit: BTreeSet<u16> = given.values().copied().collect();
        let kept = self.ports.iter().filter(|&(name, port)| {
            let wanted = is_up(name) || models.iter().any(|model| model.name == *name);
            wanted
                && !given.contains_key(name)
                && !explicit.contains(port)
                && *port != self.hub_port
        });
        let mut taken = explicit.clone();
        let mut ports = given.clone();
        for (name, port) in kept {
            // A restored book may name one port twice: the first keeps it.
            if taken.insert(*port) {
                ports.insert(name.clone(), *port);
            }
        }
        for model in models {
            if !ports.contains_key(&model.name) {
                let port = self.search(model, self.starting_port, &taken)?;
                taken.insert(port);
                ports.insert(model.name.clone(), port);
            }
        }
        self.ports = ports;
        Ok(())
    }

    fn check_explicit(
        &self,
        model: &ModelConfig,
        port: u16,
        is_up: &dyn Fn(&str) -> bool,
    ) -> Result<(), PortError> {
        let name = model.name.clone();
        if port == self.hub_port {
            return Err(PortError::HubPort { model: name, port });
        }
        let holder = self
            .ports
            .iter()
            .find(|&(holder, held)| *held == port && is_up(holder));
        match holder {
            Some((holder, _)) if *holder == name => Ok(()),
            Some((holder, _)) => Err(PortError::Held {
                model: name,
                port,
                holder: holder.clone(),
            }),
            None if (self.probe)(&model.host, port) => Ok(()),
            None => Err(PortError::InUse { model: name, port }),
        }
    }

    /// The first free port from `from` on.
    fn search(
        &self,
        model: &ModelConfig,
        from: u16,
        taken: &BTreeSet<u16>,
    ) -> Result<u16, PortError> {
        (from..=u16::MAX)
            .filter(|port| *port != self.hub_port && !taken.contains(port))
            .find(|port| (self.probe)(&model.host, *port))
            .ok_or_else(|| PortError::NoneFree {
                model: model.name.clone(),
                from,
            })
    }

    /// The model's port.
    pub fn port_of(&self, name: &str) -> Option<u16> {
        self.ports.get(name).copied()
    }

    /// All assignments, for the runtime file.
    pub fn ports(&self) -> &BTreeMap<String, u16> {
        &self.ports
    }

    /// Assigns the next free port, as the model's own was taken at launch.
    ///
    /// # Errors
    /// When hub.yaml sets the port, or none is left; the model keeps its port then.
    pub fn next(&mut self, model: &ModelConfig) -> Result<u16, PortError> {
        let name = model.name.clone();
        if let Some(port) = model.port {
            return Err(PortError::InUse { model: name, port });
        }
        let current = self.port_of(&name);
        let from = match current {
            Some(u16::MAX) => {
                return Err(PortError::NoneFree {
                    model: name,
                    from: u16::MAX,
                });
            }
            Some(port) => port + 1,
            None => self.starting_port,
        };
        let taken = self.ports.values().copied().collect();
        let port = self.search(model, from, &taken)?;
        self.ports.insert(name, port);
        Ok(port)
    }

    /// Forgets the port of a model that is gone.
    pub fn release(&mut self, name: &str) {
        self.ports.remove(name);
    }
}

#[cfg(test)]
mod tests;
