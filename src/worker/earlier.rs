//! The workers and files that earlier hubs of one hub.yaml left: the next hub takes them over, or `stop` ends
//! them. No edit hides them: they are found by the runtime file of the log folder, by that of the folder that
//! the trail beside hub.yaml names, and by the marks of the workers themselves.
//!
//! A copied folder brings a copy of these files; they name the hub.yaml that they are of.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::leftovers::{self, Survey};
use super::mark::Owner;
use super::ranks::Ranks;
use crate::config::is_same;
use crate::runtime_file::{RuntimeFile, RuntimeModels, RuntimeWorker, Trail, is_locked};

/// Longest time that a killed hub's lock may still be held.
const KILLED_HUB: Duration = Duration::from_millis(500);
const POLL_EVERY: Duration = Duration::from_millis(10);

/// The files and processes that were found.
#[derive(Debug)]
pub struct Earlier {
    owner: Owner,
    survey: Survey,
    models: RuntimeModels,
    /// Those whose leader is gone, with processes on other machines.
    lost: Vec<Ranks>,
    /// Log folders besides the current one.
    others: Vec<PathBuf>,
    /// The current log folder, if its runtime file belongs to this hub.yaml.
    own: Option<PathBuf>,
}

impl Earlier {
    /// Looks for it; `log_path` is the folder that hub.yaml names now.
    pub fn find(config_path: &Path, log_path: &Path) -> Self {
        let mut owner = Owner::new(config_path, log_path);
        let mut files: Vec<(PathBuf, RuntimeFile)> = Vec::new();
        let read = |folder: &Path, owner: &mut Owner| {
            let file = RuntimeFile::read(folder)?;
            match &file.config_path {
                Some(of) if is_same(Path::new(of), config_path) => {}
                // hub.yaml was moved here with its whole folder.
                Some(of) if !Path::new(of).exists() => owner.set_former(Path::new(of)),
                Some(_) => return None,
                None if is_same(folder, log_path) => {}
                None => return None,
            }
            owner.add_log_path(folder);
            Some((folder.to_owned(), file))
        };
        files.extend(read(log_path, &mut owner));
        if let Some(trail) = Trail::read(config_path)
            && !is_same(&trail.log_path, log_path)
        {
            files.extend(read(&trail.log_path, &mut owner));
        }
        let survey = Survey::take();
        for folder in survey.log_paths(&owner) {
            let is_known = files.iter().any(|(known, _)| is_same(known, &folder));
            if !is_known && !is_same(&folder, log_path) {
                files.extend(read(&folder, &mut owner));
            }
        }
        let (mut models, mut lost) = (RuntimeModels::default(), Vec::new());
        for (_, file) in &files {
            for worker in &file.models.workers {
                let is_new = models
                    .workers
                    .iter()
                    .all(|known| known.model != worker.model);
                match survey.has(worker, &owner) {
                    true if is_new => models.workers.push(worker.clone()),
                    true => {}
                    false => lost.push(Ranks::from(worker)),
                }
            }
            for model in &file.models.standby {
                if !models.standby.contains(model) {
                    models.standby.push(model.clone());
                }
            }
        }
        let folders = files.into_iter().map(|(folder, _)| folder);
        let (own, others): (Vec<_>, _) = folders.partition(|folder| is_same(folder, log_path));
        Self {
            owner,
            survey,
            models,
            lost,
            others,
            own: own.into_iter().next(),
        }
    }

    /// Its models: the workers that still run, and the names of those without one.
    pub fn models(&self) -> &RuntimeModels {
        &self.models
    }

    /// Another log folder in which a hub of this hub.yaml runs. Waits for the end of one that was just killed.
    pub fn lives_in(&self) -> Option<&Path> {
        let begun = Instant::now();
        let mut others = self.others.iter().map(PathBuf::as_path);
        others.find(|folder| {
            while is_locked(folder) {
                if begun.elapsed() >= KILLED_HUB {
                    return true;
                }
                std::thread::sleep(POLL_EVERY);
            }
            false
        })
    }

    /// A message about the leftovers: the models, and processes whose model is unknown.
    pub fn names(&self) -> Vec<String> {
        let workers = self.models.workers.iter();
        let mut names: Vec<String> = workers.map(|worker| worker.model.clone()).collect();
        for stray in self.survey.left(&self.owner, &self.pids()) {
            let name = stray.model;
            let name = name.unwrap_or_else(|| format!("process {}", stray.pid));
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Ends all processes but the workers of [`Earlier::models`]; returns when they are gone.
    pub fn end_strays(&self) {
        leftovers::end(&self.owner, &self.pids());
    }

    /// Ends all processes of this hub.yaml's workers, after the last one should have ended; returns when they
    /// are gone.
    pub fn end_all(&self) {
        leftovers::end(&self.owner, &[]);
    }

    /// Ends everything that is left: SIGTERM, and SIGKILL after `limit`.
    pub async fn end(&self, limit: Duration) {
        leftovers::end_all(&self.owner, &self.models.workers, limit).await;
        for ranks in &self.lost {
            if let Err(problem) = ranks.end().await {
                tracing::warn!(
                    "processes on other machines are not known to have ended: {problem}"
                );
            }
        }
    }

    /// Removes the runtime files of other log folders, once the current one names their workers.
    pub fn forget_others(&self) {
        for folder in &self.others {
            RuntimeFile::remove(folder);
        }
    }

    /// Removes the current runtime file too, when nothing is left.
    pub fn forget(&self, config_path: &Path) {
        self.forget_others();
        if let Some(log_path) = &self.own {
            RuntimeFile::remove(log_path);
        }
        Trail::remove(config_path);
    }

    fn pids(&self) -> Vec<u32> {
        let workers: &[RuntimeWorker] = &self.models.workers;
        workers.iter().map(|worker| worker.pid).collect()
    }
}
