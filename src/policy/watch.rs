//! Watches the folder of the policies for changed files.
//!
//! The daemon starts it and reloads the policies on its report. The system's events are only hints: changes
//! are found by comparing the files, so that editors which write by renaming, removed files and replaced
//! folders need no special case. It reads no file and knows nothing of Lua.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher as _};
use tokio::time::Instant;

/// Quiet time before the files are compared: an editor writes in several steps.
const SETTLE: Duration = Duration::from_millis(200);
/// Longest wait for the quiet time.
const MAX_SETTLE: Duration = Duration::from_secs(2);
/// Interval of comparisons without an event: network folders report none.
const POLL_EVERY: Duration = Duration::from_secs(10);
/// Interval while a folder that should be watched is not.
const POLL_UNWATCHED_EVERY: Duration = Duration::from_secs(1);
/// Depth of watched subfolders: there are no modules further down.
const MAX_DEPTH: usize = 4;
/// Number of watched folders.
const MAX_FOLDERS: usize = 64;

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    to_thread: Sender<Message>,
}

enum Message {
    Changed,
    Stop,
}

impl Watch {
    /// Watches the `*.lua` files of `folder` and of its subfolders, without those in `except`. Calls
    /// `changed` with their paths in `folder`, on a thread of its own, 200 ms after the last change. If the
    /// thread cannot start, nothing is watched, which is logged.
    pub fn start(
        folder: PathBuf,
        except: PathBuf,
        mut changed: impl FnMut(&[String]) + Send + 'static,
    ) -> Self {
        let (to_thread, messages) = mpsc::channel();
        let hints = to_thread.clone();
        let mut files = Files::of(&folder, &except);
        let thread = thread::Builder::new().name("policy-watch".to_owned());
        let started = thread.spawn(move || {
            let mut system = System::new(hints);
            system.watch(&files.folders);
            let mut patience = SETTLE;
            while wait(&messages, patience) {
                // Watch first and compare then, so that no change is missed in between.
                patience = system.watch(&files.folders);
                let now = Files::of(&folder, &except);
                if now.folders != files.folders {
                    patience = SETTLE;
                }
                if now.folders.is_empty() {
                    // The folder is gone with hub.yaml; another may take its place.
                    files.folders.clear();
                    patience = POLL_UNWATCHED_EVERY;
                    continue;
                }
                let names = files.changes(&now);
                files = now;
                if !names.is_empty() {
                    changed(&names);
                }
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "changed policies are not noticed; `reload` reads them");
        }
        Self { to_thread }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An error means that the thread has ended.
        let _ = self.to_thread.send(Message::Stop);
    }
}

/// Waits for the next comparison; false when the watch ends.
fn wait(messages: &Receiver<Message>, longest: Duration) -> bool {
    match messages.recv_timeout(longest) {
        Err(RecvTimeoutError::Timeout) => return true,
        Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        Ok(Message::Changed) => {}
    }
    let begun = Instant::now();
    while begun.elapsed() < MAX_SETTLE {
        match messages.recv_timeout(SETTLE) {
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(Message::Changed) => {}
        }
    }
    true
}

/// The system's events, as far as there are any.
struct System {
    watcher: Option<notify::RecommendedWatcher>,
    watched: Vec<(PathBuf, Identity)>,
}

/// The identity of a folder of a given name: inode numbers are reused, so the time counts too.
type Identity = Option<(u64, u64, Option<SystemTime>)>;

fn identity(folder: &Path) -> Identity {
    let metadata = fs::metadata(folder).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

impl System {
    fn new(hints: Sender<Message>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_access = event.is_ok_and(|event| event.kind.is_access());
            if !is_access {
                // An error means that the watch has ended.
                let _ = hints.send(Message::Changed);
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "the system does not report changed policies: they are looked at every second");
        });
        Self {
            watcher: watcher.ok(),
            watched: Vec::new(),
        }
    }

    /// Watches these folders, only if one was added, removed or replaced: on macOS each call stops all events
    /// and starts them again. Returns the time for which the events can be relied on.
    fn watch(&mut self, folders: &[PathBuf]) -> Duration {
        let now: Vec<_> = folders
            .iter()
            .map(|folder| (folder.clone(), identity(folder)))
            .collect();
        if !now.is_empty() && self.watched == now {
            return POLL_EVERY;
        }
        let Some(watcher) = &mut self.watcher else {
            return POLL_UNWATCHED_EVERY;
        };
        for (folder, _) in self.watched.drain(..) {
            // An error means that the folder is gone.
            let _ = watcher.unwatch(&folder);
        }
        let mut is_whole = !folders.is_empty();
        for (folder, identity) in now {
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched.push((folder, identity)),
                Err(_) => is_whole = false,
            }
        }
        match is_whole {
            true => POLL_EVERY,
            false => POLL_UNWATCHED_EVERY,
        }
    }
}

/// A file's modification time and length.
type Stamp = (Option<SystemTime>, u64);

/// The watched files at one moment.
#[derive(Debug, Default)]
struct Files {
    stamps: BTreeMap<PathBuf, Stamp>,
    /// The folder, and its subfolders that may hold modules.
    folders: Vec<PathBuf>,
}

impl Files {
    fn of(folder: &Path, except: &Path) -> Self {
        let mut files = Self::default();
        files.add(folder, folder, except, 0);
        files.folders.sort();
        files
    }

    /// Lists the files; an unreadable one is skipped.
    fn add(&mut self, root: &Path, folder: &Path, except: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        self.folders.push(folder.to_owned());
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                let is_wanted = !name.starts_with('.') && path != except;
                if is_wanted && depth < MAX_DEPTH && self.folders.len() < MAX_FOLDERS {
                    self.add(root, &path, except, depth + 1);
                }
            } else if name.ends_with(".lua") && !name.ends_with("_test.lua") {
                let stamp = (metadata.modified().ok(), metadata.len());
                let path = path.strip_prefix(root).unwrap_or(&path).to_owned();
                self.stamps.insert(path, stamp);
            }
        }
    }

    /// The files that differ in `now`, or are missing there.
    fn changes(&self, now: &Self) -> Vec<String> {
        let is_other = |path: &&PathBuf| self.stamps.get(*path) != now.stamps.get(*path);
        let mut paths: Vec<_> = self.stamps.keys().chain(now.stamps.keys()).collect();
        paths.sort();
        paths.dedup();
        let changed = paths.into_iter().filter(is_other);
        changed.map(|path| path.display().to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder, what changed in it, and the watch.
    fn watched() -> (tempfile::TempDir, Receiver<Vec<String>>, Watch) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("logs")).unwrap();
        let (tell, told) = mpsc::channel();
        let (path, logs) = (folder.path().to_owned(), folder.path().join("logs"));
        let watch = Watch::start(path, logs, move |names| {
            let _ = tell.send(names.to_vec());
        });
        (folder, told, watch)
    }

    /// Waits until so many changes have been told, in whatever portions.
    fn hears(told: &Receiver<Vec<String>>, expected: &[&str]) {
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            heard.extend(told.recv_timeout(Duration::from_secs(30)).unwrap());
        }
        heard.sort();
        assert_eq!(heard, expected);
    }

    #[test]
    fn files_that_come_change_and_go_are_told_and_others_are_not() {
        let (folder, told, watch) = watched();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("hub.yaml"), "models: []").unwrap();
        fs::write(path("a_test.lua"), "").unwrap();
        fs::write(path("logs/x.lua"), "").unwrap();
        fs::write(path("a.lua"), "return {}").unwrap();
        hears(&told, &["a.lua"]);
        // As editors do that never leave half a file behind.
        fs::write(path("a.lua~"), "return { }").unwrap();
        fs::rename(path("a.lua~"), path("a.lua")).unwrap();
        hears(&told, &["a.lua"]);
        fs::create_dir(path("lib")).unwrap();
        fs::write(path("lib/names.lua"), "return 1").unwrap();
        hears(&told, &["lib/names.lua"]);
        fs::write(path("lib/names.lua"), "return 12").unwrap();
        hears(&told, &["lib/names.lua"]);
        fs::remove_file(path("a.lua")).unwrap();
        fs::remove_dir_all(path("lib")).unwrap();
        hears(&told, &["a.lua", "lib/names.lua"]);
        drop(watch);
        // The sender goes with the thread.
        while told.recv().is_ok() {}
    }

    #[test]
    fn folders_are_watched_anew_only_when_one_is_another() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("hub");
        fs::create_dir(&folder).unwrap();
        let first = identity(&folder);
        fs::write(folder.join("a.lua"), "1").unwrap();
        assert_eq!(identity(&folder), first, "a new file makes no new folder");
        fs::rename(&folder, parent.path().join("old")).unwrap();
        assert_eq!(identity(&folder), None);
        fs::create_dir(&folder).unwrap();
        assert_ne!(identity(&folder), first);
    }

    #[test]
    fn a_folder_that_is_replaced_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("hub");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.lua"), "1").unwrap();
        let (tell, told) = mpsc::channel();
        let _watch = Watch::start(folder.clone(), parent.path().join("logs"), move |names| {
            let _ = tell.send(names.to_vec());
        });
        fs::rename(&folder, parent.path().join("old")).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.lua"), "22").unwrap();
        hears(&told, &["a.lua"]);
        fs::write(folder.join("b.lua"), "3").unwrap();
        hears(&told, &["b.lua"]);
    }
}
