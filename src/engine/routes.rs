//! The APIs that an engine may have, and the routes of each.

/// One API of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of an engine's file")]
pub enum Api {
    Chat,
    Completions,
    Responses,
    Messages,
    Embeddings,
    Rerank,
    Transcriptions,
    Speech,
    Images,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::Messages,
        Self::Embeddings,
        Self::Rerank,
        Self::Transcriptions,
        Self::Speech,
        Self::Images,
    ];

    /// The word in an engine's file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Transcriptions => "transcriptions",
            Self::Speech => "speech",
            Self::Images => "images",
        }
    }

    /// Its routes.
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Chat => &["/v1/chat/completions"],
            Self::Completions => &["/v1/completions"],
            Self::Responses => &["/v1/responses"],
            Self::Messages => &["/v1/messages"],
            Self::Embeddings => &["/v1/embeddings"],
            Self::Rerank => &["/v1/rerank"],
            Self::Transcriptions => &["/v1/audio/transcriptions"],
            Self::Speech => &["/v1/audio/speech"],
            Self::Images => &["/v1/images/generations", "/v1/images/edits"],
        }
    }
}
