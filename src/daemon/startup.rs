//! The conditions of a hub's start: hub.yaml, the worker programs, the log folder and its lock,
//! the listeners, the log, and what an earlier hub left.
//!
//! All of it is looked at before anything is changed, so that a hub that cannot come up ends nothing.

use std::fs::File;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::Instant;

use super::channel::Channel;
use super::predecessor::{Handed, Predecessor};
use super::successor::Recipe;
use super::threads;
use super::{activation, listen};
use crate::config::ports::{PortBook, PortError};
use crate::config::{Config, is_same};
use crate::hub::server;
use crate::runtime_file::{RuntimeModels, Trail, try_lock};
use crate::telemetry::Troubles;
use crate::worker::command;
use crate::worker::earlier::Earlier;
use crate::{files, telemetry};

/// macOS' OPEN_MAX.
const MAX_DESCRIPTORS: u64 = 10_240;
/// Longest wait for the lock and the port of a killed hub.
const KILLED_HUB: Duration = Duration::from_millis(500);
const POLL_EVERY: Duration = Duration::from_millis(10);
const OPEN_FOLDER: &str =
    "other users may write into the log folder, and so to what the hub reads there";
/// Files that outlive a hub, in its log folder.
const KEPT: [&str; 4] = ["learned.json", "ports.json", "routes.json", "spares.json"];
const OTHER_ADDRESS: &str =
    "the service manager listens for the hub where hub.yaml does not say so";

/// All that has to be there before a hub may serve.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) listeners: Vec<StdListener>,
    /// True if a service manager holds them too.
    pub(super) activated: bool,
    pub(super) lock: File,
    pub(super) earlier: Earlier,
    pub(super) found: RuntimeModels,
    pub(super) ports: PortBook,
    pub(super) begun: Instant,
    pub(super) troubles: Troubles,
    pub(super) connections: server::Threads,
    /// To the service's process, which is that one.
    pub(super) service: Option<(Channel, u32)>,
    pub(super) logging: telemetry::Guard,
}

pub(super) fn prepare(recipe: &Recipe) -> anyhow::Result<Prepared> {
    // First, while this process has one thread: its environment changes.
    let given = activation::listeners()?;
    let activated = given.is_some();
    let mut config = Config::load(&recipe.config_path)?;
    command::check(&config.models)?;
    telemetry::create_log_folder(&config.log_path)?;
    let listeners = match given {
        Some(given) => activation::adopt(&mut config, given)?,
        None => listen::on_all_addresses(&mut config)?,
    };
    let lock = lock(&config.log_path)?;
    let troubles = Troubles::default();
    let logging = log(&config, recipe, &troubles)?;
    if activated {
        note_address(&troubles, &listeners, &config.host);
    }
    let earlier = earlier(&config)?;
    bring_along(&config);
    let mut ports = PortBook::new(config.port, config.model_starting_port);
    ports.recall(&ports_file(&config.log_path));
    assign_ports(&mut ports, &config, earlier.models())?;
    raise_descriptor_limit();
    Ok(Prepared {
        config,
        listeners,
        activated,
        lock,
        found: earlier.models().clone(),
        earlier,
        ports,
        begun: Instant::now(),
        troubles,
        connections: server::Threads::start(threads())?,
        service: None,
        logging,
    })
}

/// The same beside a hub that still serves.
pub(super) fn prepare_beside(
    recipe: &Recipe,
    predecessor: &mut Predecessor,
    handed: Handed,
) -> anyhow::Result<Prepared> {
    let hello = &mut predecessor.hello;
    let mut config = Config::load(&recipe.config_path)?;
    command::check(&config.models)?;
    telemetry::create_log_folder(&config.log_path)?;
    let listeners = if hello.activated {
        activation::adopt(&mut config, handed.listeners)?
    } else if (&config.host, config.port) == (&hello.host, hello.port) {
        handed.listeners
    } else {
        listen::beside(&mut config, handed.listeners)?
    };
    let lock = match config.log_path == hello.log_path {
        true => handed.lock,
        false => lock(&config.log_path)?,
    };
    let troubles = Troubles::default();
    let logging = log(&config, recipe, &troubles)?;
    if hello.activated {
        note_address(&troubles, &listeners, &config.host);
    }
    // The hub before knows better what there is; but what is left at the end is this one's to end.
    let earlier = Earlier::find(&config.path, &config.log_path);
    files::has_room(&config.log_path).map_err(|error| cannot_write(&config.log_path, &error))?;
    let found = std::mem::take(&mut hello.found);
    let mut ports = PortBook::new(config.port, config.model_starting_port);
    ports.restore(std::mem::take(&mut hello.ports));
    assign_ports(&mut ports, &config, &found)?;
    let now = Instant::now();
    Ok(Prepared {
        config,
        listeners,
        activated: hello.activated,
        lock,
        earlier,
        found,
        ports,
        begun: now.checked_sub(hello.clock).unwrap_or(now),
        troubles,
        connections: server::Threads::start(threads())?,
        service: handed.service.zip(hello.service),
        logging,
    })
}

fn log(
    config: &Config,
    recipe: &Recipe,
    troubles: &Troubles,
) -> Result<telemetry::Guard, telemetry::TelemetryError> {
    if let Some(remedy) = telemetry::open_to_others(&config.log_path) {
        troubles.note(OPEN_FOLDER, Err(remedy));
    }
    let level = config.log_level.as_str();
    telemetry::init(&config.log_path, level, recipe.foreground, troubles.clone())
}

/// Warns where the hub is reached from further away than hub.yaml says.
fn note_address(troubles: &Troubles, listeners: &[StdListener], host: &str) {
    if let Some(beyond) = activation::beyond_host(listeners, host) {
        troubles.note(OTHER_ADDRESS, Err(beyond));
    }
}

/// The most files that a hub started here may have open at once; `None` if the system does not tell.
pub(crate) fn descriptor_limit() -> Option<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    // macOS refuses more than this, although it calls the hard limit endless.
    Some(hard.min(MAX_DESCRIPTORS))
}

/// A stream takes two descriptors, and macOS gives a shell 256 to begin with.
fn raise_descriptor_limit() {
    let (Ok((soft, hard)), Some(wanted)) = (getrlimit(Resource::RLIMIT_NOFILE), descriptor_limit())
    else {
        return;
    };
    if soft < wanted
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    {
        tracing::warn!(soft, wanted, %error, "the limit of open files stays as it is");
    }
}

/// Takes what may be held by a hub that was killed a moment ago: a worker that it was about to start has
/// its descriptors until its program is loaded.
pub(super) fn once_free<T, E>(
    mut take: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + KILLED_HUB;
    loop {
        match take() {
            Err(error) if is_held(&error) && Instant::now() < deadline => {
                std::thread::sleep(POLL_EVERY)
            }
            taken => return taken,
        }
    }
}

/// The workers, as far as they still run, of ended hubs of this hub.yaml. Other processes of these are ended.
fn earlier(config: &Config) -> anyhow::Result<Earlier> {
    let earlier = Earlier::find(&config.path, &config.log_path);
    if let Some(log_path) = earlier.lives_in() {
        anyhow::bail!(
            "the hub of {} runs already, with the log folder `{}`\n\
             hint: `restart` replaces it",
            config.path.display(),
            log_path.display()
        );
    }
    // A hub that cannot come up ends nothing.
    files::has_room(&config.log_path).map_err(|error| cannot_write(&config.log_path, &error))?;
    earlier.end_strays();
    Ok(earlier)
}

/// Keeps the log folder to one hub at a time.
fn lock(log_path: &Path) -> anyhow::Result<File> {
    let taken = once_free(
        || match try_lock(log_path) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(None),
            Err(failed) => Err(Some(failed)),
        },
        Option::is_none,
    );
    taken.map_err(|failed| match failed {
        Some((path, error)) => cannot_write(&path, &error),
        None => anyhow::anyhow!(
            "another hub uses the log folder `{}`\nhint: stop it, or set another `log_path`",
            log_path.display()
        ),
    })
}

/// The error about a file in the log folder that cannot be written.
pub(super) fn cannot_write(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let path = path.display();
    anyhow::anyhow!("`{path}` cannot be written: {error}\nhint: set another `log_path` in hub.yaml")
}

/// Leaves the path of the log folder beside hub.yaml. If that folder cannot be written, hub.yaml itself has
/// it.
pub(super) fn leave_trail(config_path: &Path, log_path: &Path) {
    let trail = Trail {
        log_path: log_path.to_owned(),
    };
    if let Err(error) = trail.write(config_path) {
        tracing::debug!(%error, "nothing beside hub.yaml says where the log folder is");
    }
}

/// Takes over the files that a killed hub kept in another log folder, unless this one has its own.
fn bring_along(config: &Config) {
    let Some(trail) = Trail::read(&config.path) else {
        return;
    };
    if is_same(&trail.log_path, &config.log_path) {
        return;
    }
    for name in KEPT {
        let (from, to) = (trail.log_path.join(name), config.log_path.join(name));
        let Ok(text) = files::read_own(&from) else {
            continue;
        };
        let kept = serde_json::from_slice::<serde_json::Value>(&text);
        if let Ok(kept) = kept
            && !to.exists()
            && let Err(error) = files::replace_private(&to, &kept)
        {
            tracing::warn!(path = %to.display(), %error, "what the hub before kept stays where it was");
        }
    }
}

/// The file that keeps the ports of all models from one hub to the next.
pub(super) fn ports_file(log_path: &Path) -> PathBuf {
    log_path.join("ports.json")
}

/// Every model's port; a worker that is still there keeps its own.
fn assign_ports(
    ports: &mut PortBook,
    config: &Config,
    found: &RuntimeModels,
) -> Result<(), PortError> {
    let workers = found.workers.iter();
    ports.restore(workers.map(|worker| (worker.model.clone(), worker.port)));
    ports.assign(&config.models, &|name| {
        found.workers.iter().any(|worker| worker.model == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_hub_still_holds_is_waited_for_and_what_another_holds_is_not_for_long() {
        let mut tries = 0;
        let taken = once_free(
            || {
                tries += 1;
                if tries < 3 { Err("held") } else { Ok(tries) }
            },
            |_| true,
        );
        assert_eq!(taken, Ok(3));
        assert_eq!(once_free(|| Err::<(), _>("held"), |_| true), Err("held"));
        let mut asked = 0;
        let refused = once_free(
            || {
                asked += 1;
                Err::<(), _>("broken")
            },
            |error| *error == "held",
        );
        assert_eq!((refused, asked), (Err("broken"), 1));
    }

    #[test]
    fn what_a_hub_kept_in_another_log_folder_is_brought_along_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let models = "models: [{name: alpha, model_path: alpha}]";
        std::fs::write(at("hub.yaml"), format!("log_path: ./new\n{models}\n")).unwrap();
        let config = Config::load(&at("hub.yaml")).unwrap();
        for logs in ["old", "new"] {
            std::fs::create_dir(at(logs)).unwrap();
        }
        for (file, text) in [
            ("old/learned.json", r#"{"old":1}"#),
            ("old/ports.json", r#"{"old":2}"#),
            ("old/routes.json", "no JSON"),
            ("new/ports.json", r#"{"new":3}"#),
        ] {
            std::fs::write(at(file), text).unwrap();
        }
        let kept = || KEPT.map(|name| std::fs::read_to_string(config.log_path.join(name)).ok());
        let own = Some(r#"{"new":3}"#.to_owned());

        leave_trail(&config.path, &config.log_path);
        bring_along(&config);
        assert_eq!(kept(), [None, own.clone(), None, None]);

        leave_trail(&config.path, &at("old"));
        bring_along(&config);
        assert_eq!(kept(), [Some(r#"{"old":1}"#.to_owned()), own, None, None]);
    }
}
