//! Folders of models that are complete, as downloads leave them, with weights of nothing.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Writes a model into `folder`: its `config.json`, and a file of weights of `bytes`, which takes no room.
pub fn write(folder: &Path, config: &Value, bytes: u64) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let header = json!({"w": {"dtype": "U32", "shape": [1], "data_offsets": [0, 4]}}).to_string();
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.extend(header.bytes());
    let weights = folder.join("model.safetensors");
    std::fs::write(&weights, &start).unwrap();
    let weights = std::fs::File::options().write(true).open(weights).unwrap();
    weights.set_len(start.len() as u64 + bytes).unwrap();
}

/// Writes it as a repository in the Hugging Face cache of a home folder, and gives its snapshot.
pub fn write_cached(home: &Path, id: &str, config: &Value, bytes: u64) -> PathBuf {
    let name = format!("models--{}", id.replace('/', "--"));
    let repository = home.join(".cache/huggingface/hub").join(name);
    let snapshot = repository.join("snapshots/abc");
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(repository.join("refs/main"), "abc").unwrap();
    let blobs = repository.join("blobs");
    write(&blobs, config, bytes);
    for file in ["config.json", "model.safetensors"] {
        symlink(blobs.join(file), snapshot.join(file)).unwrap();
    }
    snapshot
}
