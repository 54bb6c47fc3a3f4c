//! The model that a worker is to serve, as engines see it.

use serde::Serialize;

/// `model_type` in hub.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs, reason = "the words of hub.yaml")]
pub enum ModelType {
    #[default]
    Lm,
    Multimodal,
    ImageGeneration,
    ImageEdit,
    Embeddings,
    Whisper,
}

impl ModelType {
    /// All of them, in the contract's order.
    pub const ALL: [Self; 6] = [
        Self::Lm,
        Self::Multimodal,
        Self::ImageGeneration,
        Self::ImageEdit,
        Self::Embeddings,
        Self::Whisper,
    ];

    /// The word in hub.yaml and on the worker's command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lm => "lm",
            Self::Multimodal => "multimodal",
            Self::ImageGeneration => "image-generation",
            Self::ImageEdit => "image-edit",
            Self::Embeddings => "embeddings",
            Self::Whisper => "whisper",
        }
    }

    /// True for models that answer chats.
    pub fn chats(self) -> bool {
        matches!(self, Self::Lm | Self::Multimodal)
    }

    pub(super) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// An engine's own key that a model's entry sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaunchOption {
    /// The key in hub.yaml, `context_length`.
    pub key: String,
    /// Its value, or `None` for a switch that is on.
    pub value: Option<String>,
}

impl LaunchOption {
    /// The flag on the command line, `--context-length`.
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }
}

/// A model's entry, as far as an engine needs it.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its weights: an absolute path, or a repository id.
    pub path: &'a str,
    /// Its type.
    pub model_type: ModelType,
    /// The address to listen on.
    pub host: &'a str,
    /// The port to listen on.
    pub port: u16,
    /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
    pub log_level: &'a str,
    /// True if it is loaded for its first request.
    pub jit_enabled: bool,
    /// What the processes of the model on other machines are known by.
    pub mark: &'a str,
    /// The engine's own keys that are set, in the order of the engine.
    pub options: &'a [LaunchOption],
}
