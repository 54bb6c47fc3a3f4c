//! The files of models on this disk: where they lie, what they are, and whether all of them are there.
//!
//! [`found`] lists what a worker could serve, in the caches and folders of [`Places`]; [`folder_of`] finds
//! the files of one entry of hub.yaml, as its worker would. It reads small files of foreign formats
//! (`config.json`, the header of a safetensors file) and no weights. It downloads nothing, and knows neither
//! hub nor worker. A file that is not understood leaves its facts unknown and is no error.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{Config, ModelConfig, ModelType};

mod facts;
mod folders;
mod hugging_face;
mod lm_studio;
mod parsers;
mod weights;

pub use facts::Facts;
pub use hugging_face::Repository;
pub(crate) use hugging_face::home as hugging_face_home;
pub use parsers::{Guess, Parsers};

/// Reads a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The kind of place in which a model was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The cache of the Hugging Face libraries.
    HuggingFace,
    /// The folder in which LM Studio keeps models.
    LmStudio,
    /// A folder of `model_folders`.
    Folder,
}

impl Origin {
    /// The words for users.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HuggingFace => "Hugging Face cache",
            Self::LmStudio => "LM Studio",
            Self::Folder => "model_folders",
        }
    }
}

/// A model whose files are all on this disk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelFiles {
    /// The folder with `config.json`; in a cache, that of one revision.
    pub folder: PathBuf,
    /// The `model_path` for hub.yaml: a repository's id, or a folder's path.
    pub model_path: String,
    /// The place.
    pub origin: Origin,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Bytes of its weights, about what they take in memory.
    pub weights: u64,
    /// The facts that its files tell.
    #[serde(flatten)]
    pub facts: Facts,
}

impl ModelFiles {
    /// The model in a folder; `None` if weights are missing there, or it is no model that a worker serves.
    pub fn read(folder: &Path, model_path: String, origin: Origin) -> Option<Self> {
        let weights = weights::Weights::complete(folder)?;
        let facts = Facts::read(folder, &model_path, &weights)?;
        Some(Self {
            folder: folder.to_owned(),
            model_path,
            origin,
            bytes: folders::bytes(folder),
            weights: weights.bytes(),
            facts,
        })
    }

    /// Its type, for `model_type`.
    pub fn model_type(&self) -> ModelType {
        self.facts.model_type
    }

    /// The last part of its path: `Qwen3-4B-4bit`.
    pub fn short_name(&self) -> &str {
        let path = self.model_path.trim_end_matches('/');
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// The places in which models are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The cache of the Hugging Face libraries.
    pub hugging_face: PathBuf,
    /// LM Studio's folder of models, if it was ever run here.
    pub lm_studio: Option<PathBuf>,
    /// Those of `model_folders`.
    pub folders: Vec<PathBuf>,
}

impl Places {
    /// The places of this user, with the folders of a hub.yaml.
    pub fn of(config: Option<&Config>) -> Self {
        let environment: Environment<'_> = &|name| std::env::var_os(name);
        Self {
            hugging_face: hugging_face::cache(environment),
            lm_studio: lm_studio::folder(environment),
            folders: config.map_or_else(Vec::new, |config| config.model_folders.clone()),
        }
    }
}

/// The models in all places, by place and path. It may read some hundred small files.
pub fn found(places: &Places) -> Vec<ModelFiles> {
    let mut found = hugging_face::models(&places.hugging_face);
    if let Some(folder) = &places.lm_studio {
        found.extend(folders::models(folder, Origin::LmStudio));
    }
    for folder in &places.folders {
        found.extend(folders::models(folder, Origin::Folder));
    }
    // One folder may be reached by two of the places.
    let mut seen = std::collections::HashSet::new();
    found.retain(|model| seen.insert(crate::config::canonical(&model.folder)));
    found.sort_by(|one, other| {
        let key = |model: &ModelFiles| (model.origin, model.model_path.to_lowercase());
        key(one).cmp(&key(other))
    });
    found
}

/// The folder with the files of an entry of hub.yaml, where its worker looks for them (with the entry's
/// `env`): a folder as it is, or the snapshot of a repository in the cache. `None` if there is none; weights
/// may still be missing there.
pub fn folder_of(model: &ModelConfig) -> Option<PathBuf> {
    folder_in(model, &|name| std::env::var_os(name))
}

fn folder_in(model: &ModelConfig, environment: Environment<'_>) -> Option<PathBuf> {
    let path = Path::new(&model.resolved_path);
    if path.is_absolute() {
        return path.is_dir().then(|| path.to_owned());
    }
    repository_in(model, environment)?.snapshot()
}

/// The context length in tokens for which the model of an entry of hub.yaml was made, by its `config.json`;
/// `None` if it is not on this disk, or does not tell.
pub fn context_length_of(model: &ModelConfig) -> Option<u64> {
    let config = facts::json(&folder_of(model)?.join("config.json"))?;
    facts::context_length(&config)
}

/// The place of an entry's repository in the cache of its worker (with the entry's `env`), there or not;
/// `None` if `model_path` is a folder.
pub fn repository_of(model: &ModelConfig) -> Option<Repository> {
    repository_in(model, &|name| std::env::var_os(name))
}

/// A repository's place in the cache of this user, there or not; `None` if `id` cannot be one's id.
pub fn repository(id: &str) -> Option<Repository> {
    let cache = hugging_face::cache(&|name| std::env::var_os(name));
    Repository::new(&cache, id)
}

/// True for a text that can be a repository's id.
pub fn is_repository(id: &str) -> bool {
    Repository::new(Path::new(""), id).is_some()
}

fn repository_in(model: &ModelConfig, environment: Environment<'_>) -> Option<Repository> {
    let own = |name: &str| model.env.get(name).map(OsString::from);
    let cache = hugging_face::cache(&|name| own(name).or_else(|| environment(name)));
    Repository::new(&cache, &model.resolved_path)
}

#[cfg(test)]
mod tests;
