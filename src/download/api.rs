//! Asks the Hugging Face hub over HTTPS for the files of a revision, and for one of them from a byte on.
//!
//! The token goes to the hub alone, and not to the servers that it sends downloads to. Its answers become
//! names of files: nothing that leads out of the cache is taken.

use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::config::RedirectAuthHeaders;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::DownloadError;
use crate::model_files::{Environment, hugging_face_home};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for an answer, and for the next bytes of one.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest list of files, in bytes.
const MAX_LIST: u64 = 64 * 1024 * 1024;
/// Longest text of a refusal that is shown.
const MAX_REASON: usize = 300;

/// Characters to escape in a revision within a route, which may have slashes;
const NOT_IN_A_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// and in a path, whose slashes stay.
const NOT_IN_A_PATH: &AsciiSet = &NOT_IN_A_SEGMENT.remove(b'/');

/// A hub, and who asks it.
#[derive(Debug, Clone)]
pub struct Api {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
}

#[derive(Clone)]
struct Token {
    /// For messages.
    place: String,
    text: String,
}

/// A file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Its path in the repository.
    pub(super) path: String,
    /// Its name in the cache.
    pub(super) blob: String,
    pub(super) size: u64,
    /// Known for large files.
    pub(super) sha256: Option<String>,
}

/// A file that comes.
pub(super) struct Opened {
    /// Its first byte.
    pub(super) from: u64,
    pub(super) body: Box<dyn Read>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Api {
    /// The hub and the token of this environment, as huggingface_hub finds them: HF_ENDPOINT, HF_TOKEN, and the
    /// file that `hf auth login` writes.
    ///
    /// # Errors
    /// When HF_HUB_OFFLINE is set.
    pub fn of(environment: Environment<'_>) -> Result<Self, DownloadError> {
        let set = |name: &str| {
            let value = environment(name)?.into_string().ok()?;
            Some(value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let is_on = |value: String| ["1", "on", "yes", "true"].contains(&&*value.to_lowercase());
        if set("HF_HUB_OFFLINE").is_some_and(is_on) {
            return Err(DownloadError::Offline);
        }
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let of_variable = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
            .into_iter()
            .find_map(|name| {
                Some(Token {
                    place: name.to_owned(),
                    text: set(name)?,
                })
            });
        let of_file = || {
            let path = set("HF_TOKEN_PATH").map(PathBuf::from);
            let path = path.unwrap_or_else(|| hugging_face_home(environment).join("token"));
            let text = std::fs::read_to_string(&path).ok()?.trim().to_owned();
            let place = format!("`{}`", path.display());
            (!text.is_empty()).then_some(Token { place, text })
        };
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .user_agent(AGENT)
            .tls_config(tls.build());
        Ok(Self {
            agent: config.build().new_agent(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: of_variable.or_else(of_file),
        })
    }

    /// The hub's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The commit that a revision is, and its files.
    pub(super) fn files(
        &self,
        id: &str,
        revision: &str,
    ) -> Result<(String, Vec<File>), DownloadError> {
        let name = utf8_percent_encode(revision, NOT_IN_A_SEGMENT);
        let url = format!(
            "{}/api/models/{id}/revision/{name}?blobs=true",
            self.endpoint
        );
        let mut answer = self.get(&url, 0)?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer, &url, id, revision));
        }
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_LIST)
            .read_to_vec();
        let body = body.map_err(|error| self.unreachable(&error))?;
        let strange = |reason: String| DownloadError::Strange {
            endpoint: self.endpoint.clone(),
            reason,
        };
        let info: Info =
            serde_json::from_slice(&body).map_err(|error| strange(error.to_string()))?;
        if !is_hex(&info.sha) {
            return Err(strange("its commit is no commit".to_owned()));
        }
        let files = info.siblings.into_iter().map(|sibling| {
            let path = sibling.rfilename.clone();
            file(sibling).ok_or_else(|| strange(format!("its file {path:?} has no place or size")))
        });
        Ok((info.sha, files.collect::<Result<_, _>>()?))
    }

    /// A file from a byte on, or from its begin if the server does not do that.
    pub(super) fn open(
        &self,
        id: &str,
        commit: &str,
        path: &str,
        from: u64,
    ) -> Result<Opened, DownloadError> {
        let name = utf8_percent_encode(path, NOT_IN_A_PATH);
        let url = format!("{}/{id}/resolve/{commit}/{name}", self.endpoint);
        let answer = self.get(&url, from)?;
        let from = match answer.status() {
            StatusCode::PARTIAL_CONTENT => first_byte(answer.headers()).unwrap_or(0),
            status if status.is_success() => 0,
            _ => return Err(self.refusal(answer, &url, id, commit)),
        };
        Ok(Opened {
            from,
            body: Box::new(answer.into_body().into_reader()),
        })
    }

    fn get(&self, url: &str, from: u64) -> Result<Response<Body>, DownloadError> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.text));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &ureq::Error) -> DownloadError {
        DownloadError::Unreachable {
            endpoint: self.endpoint.clone(),
            cause: error.to_string(),
        }
    }

    /// The error of a refusal. The hub hides private repositories from those who may not see them.
    fn refusal(
        &self,
        mut answer: Response<Body>,
        url: &str,
        id: &str,
        revision: &str,
    ) -> DownloadError {
        let (id, endpoint) = (id.to_owned(), self.endpoint.clone());
        let token = self.token.as_ref().map(|token| token.place.clone());
        let text = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
        let (code, reason) = (text("x-error-code"), text("x-error-message"));
        match (answer.status().as_u16(), code.as_deref(), token) {
            (401 | 403, Some("GatedRepo"), None) => DownloadError::GatedNoToken { id, endpoint },
            (401 | 403, Some("GatedRepo"), Some(token)) => DownloadError::Gated {
                id,
                endpoint,
                token,
            },
            (404, Some("RevisionNotFound"), _) => DownloadError::NoRevision {
                id,
                endpoint,
                revision: revision.to_owned(),
            },
            (401, _, Some(token)) => DownloadError::Token { endpoint, token },
            (401 | 404, _, _) => DownloadError::NoRepository { id, endpoint },
            (status, _, _) => {
                let body = answer.body_mut().read_to_string().ok();
                let more = reason.or(body).map(|text| text.trim().to_owned());
                let more = more.filter(|text| !text.is_empty() && !text.starts_with('<'));
                let more = more.map(|text| {
                    let end = text.floor_char_boundary(MAX_REASON);
                    format!(": {}", text[..end].escape_debug())
                });
                DownloadError::Refused {
                    url: url.to_owned(),
                    status,
                    more: more.unwrap_or_default(),
                }
            }
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the token of {}", self.place)
    }
}

/// A file with names that are safe; `None` if they are not, or its size is unknown.
fn file(sibling: Sibling) -> Option<File> {
    let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
    let path = sibling.rfilename;
    if path.is_empty() || path.contains('\0') || !Path::new(&path).components().all(is_name) {
        return None;
    }
    let lfs = sibling.lfs.as_ref();
    let size = lfs.map(|lfs| lfs.size).or(sibling.size)?;
    let sha256 = sibling.lfs.map(|lfs| lfs.sha256);
    let blob = sha256.clone().or(sibling.blob_id).filter(|id| is_hex(id))?;
    Some(File {
        path,
        blob,
        size,
        sha256,
    })
}

fn is_hex(text: &str) -> bool {
    text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "0123456789012345678901234567890123456789";

    fn read(sibling: Value) -> Option<File> {
        file(serde_json::from_value(sibling).unwrap())
    }

    #[test]
    fn a_file_has_a_place_in_the_cache() {
        let small = json!({"rfilename": "a/config.json", "size": 5, "blobId": ID});
        let expected = File {
            path: "a/config.json".to_owned(),
            blob: ID.to_owned(),
            size: 5,
            sha256: None,
        };
        assert_eq!(read(small), Some(expected));
        let sum = ID.repeat(2)[..64].to_owned();
        let large = read(
            json!({"rfilename": "m.safetensors", "size": 130, "blobId": ID,
            "lfs": {"sha256": sum, "size": 7, "pointerSize": 130}}),
        );
        let large = large.unwrap();
        assert_eq!((large.size, &large.blob), (7, &sum));
        assert_eq!(large.sha256, Some(sum));
    }

    #[test]
    fn no_name_leads_out_of_the_cache() {
        for path in ["", "../x", "/etc/x", "a/../../x", "./x", "a\0b"] {
            let file = json!({"rfilename": path, "size": 5, "blobId": ID});
            assert_eq!(read(file), None, "{path:?}");
        }
        for id in [
            "",
            "../../x",
            "abc",
            "..//..//..//..//..//..//..//..//..//..//x",
        ] {
            let file = json!({"rfilename": "x", "size": 5, "blobId": id});
            assert_eq!(read(file), None, "{id:?}");
        }
        assert_eq!(read(json!({"rfilename": "x", "blobId": ID})), None);
    }

    #[test]
    fn the_token_is_no_part_of_what_is_logged() {
        let environment = |name: &str| (name == "HF_TOKEN").then(|| "hf_secret".into());
        let api = Api::of(&environment).unwrap();
        assert!(!format!("{api:?}").contains("hf_secret"));
    }
}
