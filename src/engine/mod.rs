//! Engines: what the hub must know of a worker program, in Lua.
//!
//! An engine is one file of plain values and a few pure functions. The bundled ones are the files of
//! `scripts/engines/`; one in `engines/` beside hub.yaml replaces that of the same name. [`Engines::find`] loads
//! and checks a file, once per configuration; the checker of hub.yaml reads its keys and types, and a launch
//! calls its functions, never a request. They run in the sandbox of policies, get tables and return tables.
//! This module knows neither hub.yaml nor processes.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

mod bundled;
mod call;
mod cli;
mod keys;
mod model;
mod read;
mod routes;

pub use bundled::{Engines, NoEngine, bundled_engines};
pub use call::{Answer, Checked, Memory, Refused, WorkerPlan};
pub use cli::Cli;
pub use keys::{Key, KeyType};
pub use model::{LaunchOption, Model, ModelType};
pub use read::{bound_names, bound_words};
pub use routes::Api;

use call::Functions;

/// The engine of a hub.yaml that names none.
pub const DEFAULT: &str = "mlx_openai_server";

/// A request to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `GET` of that path.
    Get(String),
    /// `POST` of a JSON body to that path.
    Post(String, String),
}

/// One worker program, as its file describes it.
pub struct Engine {
    /// The name of its file, without `.lua`.
    pub name: String,
    /// Its file, as errors name it.
    pub file: String,
    /// True for a file of the program's own.
    pub is_bundled: bool,
    /// Its source.
    pub source: String,
    /// The program and its first arguments, unless hub.yaml sets `worker_command`; empty if a model's entry
    /// decides.
    pub program: Vec<String>,
    /// The commands that install it, any of them.
    pub install: Vec<String>,
    /// The arguments with which the program lists its options; `None` if it is not asked.
    pub help: Option<Vec<String>>,
    /// Options that any such program lists; one that lacks them is another.
    pub lists: Vec<String>,
    /// The types of models that it serves.
    pub types: Vec<ModelType>,
    /// Fields of a request's body that would make the program load something else than its model.
    pub refuses: Vec<String>,
    /// The keys of a model's entry that are its own, in the order of the command line.
    pub keys: Vec<Key>,
    /// Options that the hub passes itself, each with the key of hub.yaml to use instead, or a sentence.
    pub reserved: Vec<(String, String)>,
    /// The request that loads a worker which is up without its model.
    pub load: Option<Request>,
    /// A text that the log has when the model cannot be loaded, of a program that lives on then.
    pub fails: Option<String>,
    /// True if its program may begin as a spare process.
    pub spares: bool,
    functions: Mutex<Functions>,
}

impl Engine {
    /// The key of that name, or with that other spelling.
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys
            .iter()
            .find(|key| key.name == name || key.also.as_deref() == Some(name))
    }

    /// The commands that install it, as a sentence has them; `None` if the file names none.
    pub fn install_hint(&self) -> Option<String> {
        let commands = self.install.iter().map(|command| format!("`{command}`"));
        let commands: Vec<_> = commands.collect();
        (!commands.is_empty()).then(|| commands.join(" or "))
    }

    /// The words of `model_type` that it serves.
    pub fn type_words(&self) -> String {
        let words = self.types.iter().map(|kind| kind.as_str());
        words.collect::<Vec<_>>().join(", ")
    }

    /// A value for each key that must be one, as a model's entry could have it: for calls with samples.
    pub fn samples(&self) -> Vec<LaunchOption> {
        let commands = self.keys.iter().filter(|key| key.kind == KeyType::Command);
        let sample = r#"["sample","{model_path}","--port","{port}"]"#;
        commands
            .map(|key| LaunchOption {
                key: key.name.clone(),
                value: Some(sample.to_owned()),
            })
            .collect()
    }

    /// The first sentence of its first comment.
    pub fn about(&self) -> String {
        first_sentence(&self.source)
    }

    /// True for the engine of a hub.yaml that names none, unless a file of the user's replaces it.
    pub fn is_default(&self) -> bool {
        self.is_bundled && self.name == DEFAULT
    }
}

/// The first sentence of a file's first comment.
pub(crate) fn first_sentence(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("--"));
    let said: Vec<_> = lines
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let said = said.join(" ");
    let end = said.find(". ").map_or(said.len(), |end| end + 1);
    said[..end].to_owned()
}

impl PartialEq for Engine {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.source == other.source
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A bundled engine is its name, whatever a later hub's file says; a user's file is its content too.
impl Serialize for Engine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_bundled {
            return serializer.serialize_str(&self.name);
        }
        let digest: [u8; 32] = Sha256::digest(&self.source).into();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&format!("{} {hex}", self.name))
    }
}

/// The bundled engine that a hub.yaml has that names none.
pub fn default_engine() -> Arc<Engine> {
    bundled::bundled(DEFAULT)
        .and_then(Result::ok)
        .expect("the bundled engines are checked by tests")
}

#[cfg(test)]
mod tests;
