//! A stand-in for the Hugging Face hub on the loopback: one repository, whose files come as a test wants.
//!
//! It answers in HTTP/1.1 what huggingface_hub asks: the files of a revision, and parts of them. Large files
//! are sent away to a second name of the same server, as the hub sends them to other servers.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The repository.
pub const REPOSITORY: &str = "org/tiny";
/// The commit that `main` is.
pub const COMMIT: &str = "00000000000000000000000000000000000000aa";
/// Bytes of a piece that is sent at once.
const PIECE: usize = 16 * 1024;

/// A file of the repository.
#[derive(Debug, Clone)]
pub struct File {
    pub path: &'static str,
    pub bytes: Vec<u8>,
    /// Kept apart from git: it has a SHA-256, and comes from another server.
    pub large: bool,
}

/// How it behaves. By default it answers at once and in full.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// Pause before each piece of a large file.
    pub pause: Duration,
    /// How many answers with a large file are broken off in the middle.
    pub cuts: usize,
    /// A status and an `X-Error-Code` for files.
    pub refuses_files: Option<(u16, &'static str)>,
    /// The same for the list of files.
    pub refuses_list: Option<(u16, &'static str)>,
    /// Large files have another content than is said.
    pub forges: bool,
    /// Large files are shorter than is said.
    pub shortens: bool,
    /// The size that is said of large files.
    pub pretends: Option<u64>,
}

/// A request: its path, its range, its token, and how many bytes of a file it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
    pub sent: u64,
}

/// The server; it ends when it is dropped.
pub struct HuggingFace {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    files: Mutex<Vec<File>>,
    manners: Mutex<Manners>,
    /// By their number.
    asked: Mutex<BTreeMap<usize, Asked>>,
    count: AtomicUsize,
    done: AtomicBool,
    port: u16,
}

impl HuggingFace {
    /// One whose repository is a model with weights of so many bytes, in one file.
    pub fn start(weights: usize, manners: Manners) -> Self {
        let config = json!({"model_type": "qwen3", "max_position_embeddings": 4096});
        let header =
            json!({"w": {"dtype": "U8", "shape": [weights], "data_offsets": [0, weights]}});
        let header = header.to_string();
        let mut safetensors = (header.len() as u64).to_le_bytes().to_vec();
        safetensors.extend(header.bytes());
        safetensors.extend((0..weights).map(|at| (at * 31 % 251) as u8));
        let file = |path, bytes, large| File { path, bytes, large };
        let files = vec![
            file("config.json", config.to_string().into_bytes(), false),
            file("nested/notes.json", b"{}".to_vec(), false),
            file("README.md", b"# Tiny".to_vec(), false),
            file("model.safetensors", safetensors, true),
        ];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            files: Mutex::new(files),
            manners: Mutex::new(manners),
            asked: Mutex::default(),
            count: AtomicUsize::new(0),
            done: AtomicBool::new(false),
            port: address.port(),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if shared.done.load(Ordering::SeqCst) {
                        return;
                    }
                    let (stream, shared) = (stream.unwrap(), Arc::clone(&shared));
                    std::thread::spawn(move || shared.answer(stream));
                }
            })
        };
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// HF_ENDPOINT.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, manners: Manners) {
        *self.shared.manners.lock().unwrap() = manners;
    }

    /// The requests so far, and forgets them.
    pub fn asked(&self) -> Vec<Asked> {
        let asked = std::mem::take(&mut *self.shared.asked.lock().unwrap());
        asked.into_values().collect()
    }

    /// The file at a path.
    pub fn file(&self, path: &str) -> File {
        self.shared.file(path).unwrap()
    }

    /// Takes a file out of the repository.
    pub fn forget(&self, path: &str) {
        let mut files = self.shared.files.lock().unwrap();
        files.retain(|file| file.path != path);
    }
}

impl Drop for HuggingFace {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl File {
    fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// Its name in the cache. That of a small file is git's, of which any 40 digits will do.
    pub fn blob(&self) -> String {
        match self.large {
            true => self.sha256(),
            false => self.sha256()[..40].to_owned(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Shared {
    fn file(&self, path: &str) -> Option<File> {
        let files = self.files.lock().unwrap();
        files.iter().find(|file| file.path == path).cloned()
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap_or_default();
        let Some(target) = line.split(' ').nth(1).map(str::to_owned) else {
            return;
        };
        let (mut range, mut token) = (None, None);
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                break;
            }
            let (name, value) = line.trim_end().split_once(": ").unwrap_or((&line, ""));
            match &*name.to_lowercase() {
                "range" => range = Some(value.to_owned()),
                "authorization" => token = Some(value.to_owned()),
                _ => {}
            }
        }
        let asked = Asked {
            path: target.clone(),
            range,
            token,
            sent: 0,
        };
        let nth = self.count.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().unwrap().insert(nth, asked.clone());
        let list = format!("/api/models/{REPOSITORY}/revision/");
        let resolve = format!("/{REPOSITORY}/resolve/{COMMIT}/");
        if let Some(revision) = target.strip_prefix(&list) {
            self.list(&mut stream, revision.split('?').next().unwrap());
        } else if let Some(path) = target.strip_prefix(&resolve) {
            self.resolve(&mut stream, path, &asked, nth);
        } else if let Some(path) = target.strip_prefix("/cdn/") {
            self.send(&mut stream, path, &asked, nth);
        } else {
            refuse(&mut stream, 404, "RepoNotFound");
        }
    }

    fn list(&self, stream: &mut TcpStream, revision: &str) {
        let manners = self.manners.lock().unwrap().clone();
        if let Some((status, code)) = manners.refuses_list {
            return refuse(stream, status, code);
        }
        if !["main", COMMIT, "v1"].contains(&revision) {
            return refuse(stream, 404, "RevisionNotFound");
        }
        let files = self.files.lock().unwrap().clone();
        let files = files.iter().map(|file| {
            let size = file.bytes.len() as u64;
            let mut said = json!({"rfilename": file.path, "size": size, "blobId": file.blob()});
            if file.large {
                let size = manners.pretends.unwrap_or(size);
                said["size"] = json!(size);
                said["lfs"] = json!({"sha256": file.sha256(), "size": size, "pointerSize": 134});
            }
            said
        });
        let files: Vec<Value> = files.collect();
        let body = json!({"id": REPOSITORY, "sha": COMMIT, "siblings": files}).to_string();
        head(
            stream,
            "200 OK",
            &[("Content-Length", body.len().to_string())],
        );
        let _ = stream.write_all(body.as_bytes());
    }

    fn resolve(&self, stream: &mut TcpStream, path: &str, asked: &Asked, nth: usize) {
        if let Some((status, code)) = self.manners.lock().unwrap().refuses_files {
            return refuse(stream, status, code);
        }
        match self.file(path) {
            None => refuse(stream, 404, "EntryNotFound"),
            Some(file) if file.large => {
                let elsewhere = format!("http://localhost:{}/cdn/{path}", self.port);
                let nothing = ("Content-Length", "0".to_owned());
                head(stream, "302 Found", &[("Location", elsewhere), nothing]);
            }
            Some(_) => self.send(stream, path, asked, nth),
        }
    }

    /// A file, from the first byte that is asked for.
    fn send(&self, stream: &mut TcpStream, path: &str, asked: &Asked, nth: usize) {
        let file = self.file(path).unwrap();
        let (manners, is_cut) = {
            let mut manners = self.manners.lock().unwrap();
            let is_cut = file.large && manners.cuts > 0;
            manners.cuts -= usize::from(is_cut);
            (manners.clone(), is_cut)
        };
        let mut bytes = file.bytes.clone();
        if file.large && manners.forges {
            *bytes.last_mut().unwrap() ^= 1;
        }
        if file.large && manners.shortens {
            bytes.pop();
        }
        let from = asked.range.as_deref().map(|range| {
            let first = range
                .strip_prefix("bytes=")
                .unwrap()
                .strip_suffix('-')
                .unwrap();
            first.parse::<usize>().unwrap()
        });
        let rest = &bytes[from.unwrap_or(0)..];
        let length = ("Content-Length", rest.len().to_string());
        match from {
            None => head(stream, "200 OK", &[length]),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                head(
                    stream,
                    "206 Partial Content",
                    &[length, ("Content-Range", range)],
                );
            }
        }
        let rest = if is_cut {
            &rest[..rest.len() / 2]
        } else {
            rest
        };
        for piece in rest.chunks(PIECE) {
            if file.large {
                std::thread::sleep(manners.pause);
            }
            if stream.write_all(piece).is_err() {
                return;
            }
            if let Some(asked) = self.asked.lock().unwrap().get_mut(&nth) {
                asked.sent += piece.len() as u64;
            }
        }
    }
}

fn head(stream: &mut TcpStream, status: &str, headers: &[(&str, String)]) {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    let _ = stream.write_all((text + "\r\n").as_bytes());
}

fn refuse(stream: &mut TcpStream, status: u16, code: &str) {
    let body = "Access to this resource is refused.";
    let headers = [
        ("X-Error-Code", code.to_owned()),
        ("X-Error-Message", body.to_owned()),
        ("Content-Length", body.len().to_string()),
    ];
    head(stream, &format!("{status} Refused"), &headers);
    let _ = stream.write_all(body.as_bytes());
}
