//! The engines that there are: the bundled ones, and the user's files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::{DEFAULT, Engine, read};
use crate::api::nearest;
use crate::files;

/// Name and source of each bundled engine, by name.
const SCRIPTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/engines.rs"));

type Loaded = Result<Arc<Engine>, String>;

/// Each bundled engine, once it was asked for.
static LOADED: [OnceLock<Loaded>; SCRIPTS.len()] = [const { OnceLock::new() }; SCRIPTS.len()];

/// The bundled engine of that name.
pub(super) fn bundled(name: &str) -> Option<Loaded> {
    let at = SCRIPTS.iter().position(|(known, _)| *known == name)?;
    let (name, source) = SCRIPTS[at];
    let load = || {
        let file = format!("bundled/{}/{name}.lua", Engines::FOLDER);
        read::engine(name, &file, source, true).map(Arc::new)
    };
    Some(LOADED[at].get_or_init(load).clone())
}

/// The bundled engines, by name.
pub fn bundled_engines() -> impl Iterator<Item = Arc<Engine>> {
    let names = SCRIPTS.iter().map(|(name, _)| *name);
    names.filter_map(|name| bundled(name)?.ok())
}

/// The engines that a hub.yaml may name.
#[derive(Debug, Clone)]
pub struct Engines {
    folder: PathBuf,
}

/// The reason why there is no engine of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoEngine {
    /// None is called so; with a hint.
    Unknown(String),
    /// Its file is no engine; the line begins with `FILE:LINE:`.
    Broken(String),
}

impl Engines {
    /// The folder of the user's files, beside hub.yaml.
    pub const FOLDER: &str = "engines";

    /// Those of a hub.yaml in that folder.
    pub fn beside(hub_yaml: &Path) -> Self {
        let folder = hub_yaml.parent().unwrap_or(Path::new(""));
        Self {
            folder: folder.join(Self::FOLDER),
        }
    }

    /// Loads the engine of that name, in which `-` counts as `_`: a file of the user's, or else the bundled one.
    ///
    /// # Errors
    /// When there is none, or its file is no engine.
    pub fn find(&self, written: &str) -> Result<Arc<Engine>, NoEngine> {
        let name = written.trim().replace('-', "_");
        let path = self.folder.join(format!("{name}.lua"));
        if is_name(&name) && path.is_file() {
            let file = format!("{}/{name}.lua", Self::FOLDER);
            let source = files::read_text(&path)
                .map_err(|error| NoEngine::Broken(format!("{file}:1: {error}")))?;
            let engine = read::engine(&name, &file, &source, false);
            return engine.map(Arc::new).map_err(NoEngine::Broken);
        }
        match bundled(&name) {
            Some(loaded) => loaded.map_err(NoEngine::Broken),
            None => Err(NoEngine::Unknown(self.hint(&name))),
        }
    }

    fn hint(&self, name: &str) -> String {
        let names = self.names();
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "there are: {}; a file `{}/NAME.lua` beside hub.yaml makes another",
                names.join(", "),
                Self::FOLDER
            ),
        }
    }

    /// The names of all of them: the default one first, the others by name.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = SCRIPTS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        for entry in entries.flatten() {
            let file = entry.file_name();
            let stem = file.to_str().and_then(|file| file.strip_suffix(".lua"));
            let stem = stem.filter(|stem| is_name(stem) && !stem.ends_with("_test"));
            names.extend(stem.map(str::to_owned));
        }
        names.sort_by_key(|name| (name != DEFAULT, name.clone()));
        names.dedup();
        names
    }

    /// All of them that load, as [`Engines::names`] has them.
    pub fn all(&self) -> Vec<Arc<Engine>> {
        let names = self.names();
        names
            .iter()
            .filter_map(|name| self.find(name).ok())
            .collect()
    }
}

/// True for the name of an engine; no name leads out of the folder.
fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with('_') && name.chars().all(is_letter)
}
