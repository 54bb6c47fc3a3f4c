//! The files with a model's weights: which there are, whether one is missing, and the names and types of the
//! tensors in them.
//!
//! The header of a safetensors file is a JSON text after its length in eight bytes:
//! <https://github.com/huggingface/safetensors#format>.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::folders;
use crate::files;

/// Longest header that is read, in bytes; those of large models have about a megabyte.
const MAX_HEADER: u64 = 32 << 20;

/// Largest number of files that a name is believed to count.
const MAX_SHARDS: u32 = 10_000;

/// The weights of a complete model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weights {
    /// Not empty.
    files: Vec<PathBuf>,
}

/// The header of one safetensors file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Header {
    /// The names of its tensors.
    pub(super) tensors: BTreeSet<String>,
    /// The type that most bytes have: `BF16`, `U32`, …
    pub(super) dtype: Option<String>,
    /// Free texts of the writer.
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    data_offsets: (u64, u64),
}

impl Weights {
    /// The weights in a folder and in its parts (`transformer`, `vae`, …); `None` if there are none, or one is
    /// missing that an index names or that the names of others count.
    pub(super) fn complete(folder: &Path) -> Option<Self> {
        let mut files = BTreeSet::new();
        let parts = folders::entries(folder).into_iter();
        let parts: Vec<PathBuf> = parts.filter(|path| path.is_dir()).collect();
        for part in std::iter::once(folder.to_owned()).chain(parts) {
            for path in folders::entries(&part) {
                if is_index(&path) {
                    let names = indexed(&path)?;
                    files.extend(names.into_iter().map(|name| part.join(name)));
                } else if is_weights(&path) {
                    files.insert(path);
                }
            }
        }
        let others: Vec<PathBuf> = files.iter().flat_map(|path| shards(path)).collect();
        files.extend(others);
        // A link into a cache whose target is gone, or not there yet, is none.
        let is_there = |path: &PathBuf| path.is_file();
        (!files.is_empty() && files.iter().all(is_there)).then(|| Self {
            files: files.into_iter().collect(),
        })
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        let sizes = self.files.iter().filter_map(|path| path.metadata().ok());
        sizes.map(|metadata| metadata.len()).sum()
    }

    /// The headers of its safetensors files, those that can be read.
    pub(super) fn headers(&self) -> impl Iterator<Item = Header> {
        self.files.iter().filter_map(|path| Header::read(path))
    }
}

/// Bytes of all weights by the index in a folder, if it is there.
pub(super) fn total(folder: &Path) -> Option<u64> {
    let index = files::read(&folder.join("model.safetensors.index.json")).ok()?;
    let index: Value = serde_json::from_slice(&index).ok()?;
    index["metadata"]["total_size"].as_u64()
}

fn is_index(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".safetensors.index.json")
}

fn is_weights(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "safetensors" || extension == "npz")
}

/// The files that an index names.
fn indexed(path: &Path) -> Option<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(&files::read(path).ok()?).ok()?;
    Some(index.weight_map.into_values().collect())
}

/// All files that a name like `model-00001-of-00002.safetensors` counts; none for another name.
fn shards(path: &Path) -> Vec<PathBuf> {
    counted(path).unwrap_or_default()
}

fn counted(path: &Path) -> Option<Vec<PathBuf>> {
    let name = path.file_name()?.to_str()?;
    let (stem, extension) = name.rsplit_once('.')?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (base, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(number) || !is_number(count) {
        return None;
    }
    let total: u32 = count.parse().ok().filter(|total| *total <= MAX_SHARDS)?;
    let width = number.len();
    let at = |number: u32| {
        path.with_file_name(format!("{base}-{number:0width$}-of-{count}.{extension}"))
    };
    // Some count from zero.
    let first = u32::from(!at(0).exists());
    Some((first..first + total).map(at).collect())
}

impl Header {
    pub(super) fn read(path: &Path) -> Option<Self> {
        if path.extension()? != "safetensors" {
            return None;
        }
        let mut file = files::open(path).ok()?;
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return None;
        }
        let mut text = Vec::new();
        file.take(length).read_to_end(&mut text).ok()?;
        let entries: BTreeMap<String, Value> = serde_json::from_slice(&text).ok()?;
        let mut header = Self::default();
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for (name, value) in entries {
            if name == "__metadata__" {
                header.metadata = serde_json::from_value(value).unwrap_or_default();
                continue;
            }
            let tensor: Tensor = serde_json::from_value(value).ok()?;
            let (start, end) = tensor.data_offsets;
            *bytes.entry(tensor.dtype).or_default() += end.saturating_sub(start);
            header.tensors.insert(name);
        }
        let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
        header.dtype = most.map(|(dtype, _)| dtype);
        Some(header)
    }
}
