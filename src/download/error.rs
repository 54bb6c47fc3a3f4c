//! The reasons why a download fails, each with what to do.

use std::io;
use std::path::{Path, PathBuf};

/// The reason why a repository could not be downloaded. No cause is a `source`: `{:#}` would print it twice.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The environment forbids it.
    #[error("HF_HUB_OFFLINE is set, so nothing is downloaded\nhint: unset it for this command")]
    Offline,
    /// No answer.
    #[error(
        "{endpoint} cannot be reached: {cause}\n\
         hint: look at the network, a proxy (HTTPS_PROXY) and HF_ENDPOINT; what has come is kept"
    )]
    Unreachable {
        /// The hub.
        endpoint: String,
        /// The text of the client.
        cause: String,
    },
    /// No such repository, or one that only its members see.
    #[error(
        "there is no model `{id}` on {endpoint}, or it is private\n\
         hint: look for it at {endpoint}/models; for a private one `hf auth login`, or set HF_TOKEN"
    )]
    NoRepository {
        /// The repository.
        id: String,
        /// The hub.
        endpoint: String,
    },
    /// No such branch, tag or commit.
    #[error(
        "`{id}` has no revision `{revision}`\nhint: {endpoint}/{id}/tree/main lists its branches and tags"
    )]
    NoRevision {
        /// The repository.
        id: String,
        /// The revision.
        revision: String,
        /// The hub.
        endpoint: String,
    },
    /// Its licence must be accepted, and nobody has said who asks.
    #[error(
        "`{id}` is gated\n\
         hint: accept its licence at {endpoint}/{id}, then `hf auth login`, or set HF_TOKEN"
    )]
    GatedNoToken {
        /// The repository.
        id: String,
        /// The hub.
        endpoint: String,
    },
    /// The account of the token may not have it.
    #[error(
        "`{id}` is gated, and the account of {token} has no access to it\n\
         hint: accept its licence at {endpoint}/{id} with that account; some owners take days to answer"
    )]
    Gated {
        /// The repository.
        id: String,
        /// The hub.
        endpoint: String,
        /// The place of the token.
        token: String,
    },
    /// The token is none that the hub knows.
    #[error(
        "{endpoint} refuses the token of {token}\nhint: `hf auth login` again, or set another HF_TOKEN"
    )]
    Token {
        /// The hub.
        endpoint: String,
        /// The place of the token.
        token: String,
    },
    /// Another refusal.
    #[error("{url} was answered with {status}{more}\nhint: try again later; what has come is kept")]
    Refused {
        /// The address of the request.
        url: String,
        /// The status.
        status: u16,
        /// The text of the hub.
        more: String,
    },
    /// The answer is not that of a hub.
    #[error(
        "{endpoint} gave an answer that is not understood: {reason}\nhint: is HF_ENDPOINT right?"
    )]
    Strange {
        /// The hub.
        endpoint: String,
        /// The fault.
        reason: String,
    },
    /// Only files that no worker reads.
    #[error(
        "`{id}` has no weights that a worker reads (*.safetensors, *.npz)\n\
         hint: look for its conversion to MLX at {endpoint}/models?library=mlx; `--all` downloads it as it is"
    )]
    NoWeights {
        /// The repository.
        id: String,
        /// The hub.
        endpoint: String,
    },
    /// The connection broke, several times.
    #[error(
        "the download of `{file}` broke off: {cause}\nhint: the same command goes on from there"
    )]
    BrokenOff {
        /// The file in the repository.
        file: String,
        /// The text of the client.
        cause: String,
    },
    /// The bytes are not those that the hub has.
    #[error(
        "`{file}` is not what it should be ({reason}), so it was removed\nhint: the same command downloads it again"
    )]
    Wrong {
        /// The file in the repository.
        file: String,
        /// The difference.
        reason: String,
    },
    /// The disk.
    #[error("cannot write `{}`: {cause}", .path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
}

/// An error of the disk at that path.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> DownloadError + use<> {
    let path = path.to_owned();
    move |cause| DownloadError::Disk { path, cause }
}
