//! One entry of `api_keys`: who may use the models of the hub, and who may control it.
//!
//! An entry has the SHA-256 of a key, or names the variable or the file that has the key itself. Keys are read
//! when hub.yaml is, and only their hashes are kept. A key that cannot be read is a warning and lets nobody in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::problem::{Findings, KeyPath};
use super::raw::Table;
use super::schema::{Shape, Shapes};
use super::yaml::Node;
use super::{ModelConfig, locate, slug};
use crate::api::{ANY, looks_like, unix_now};
use crate::files;

/// The key of hub.yaml.
pub(super) const KEY: &str = "api_keys";

/// A key with fewer characters could be guessed.
const SHORT: usize = 16;

/// The words of `may`.
const WORDS: [&str; 2] = ["use", "control"];

/// The SHA-256 of a key. It is compared in constant time, and never shown.
#[derive(Clone, Copy, Eq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// That of a key as a client sends it.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// That of 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.is(other).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The place of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// hub.yaml has its hash, and nobody the key but its owner.
    Sha256,
    /// An environment variable of the hub's.
    Env(String),
    /// A file, absolute.
    File(PathBuf),
}

/// One entry of `api_keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Unique slug.
    pub name: String,
    /// The place of the key.
    pub source: KeySource,
    /// True if it controls the hub too; every key may use the models.
    pub may_control: bool,
    /// The names that it may ask for, some perhaps with `*`; `None` for all.
    pub models: Option<Vec<String>>,
    /// Unix seconds; from then on it lets nobody in.
    pub expires: Option<i64>,
    /// `None` for a key that could not be read.
    digest: Option<KeyDigest>,
}

impl ApiKey {
    /// A key of that name that may use all models, and that nobody has: for requests that are only imagined.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            source: KeySource::Sha256,
            may_control: false,
            models: None,
            expires: None,
            digest: None,
        }
    }

    /// True if its time is over.
    pub fn is_expired(&self) -> bool {
        self.expires
            .is_some_and(|expires| unix_now() >= expires as f64)
    }

    /// True if it may ask for that name.
    pub fn lets_use(&self, name: &str) -> bool {
        match &self.models {
            Some(models) => models.iter().any(|model| looks_like(name, model)),
            None => true,
        }
    }

    /// Its hash; `None` for a key that could not be read, or that nobody has.
    pub fn digest(&self) -> Option<KeyDigest> {
        self.digest
    }

    /// True if it is the key with that hash.
    pub fn has(&self, digest: &KeyDigest) -> bool {
        self.digest.is_some_and(|own| own == *digest)
    }
}

/// The key with that hash. It takes as long whichever it is, and if there is none.
pub(super) fn find<'k>(keys: &'k [Arc<ApiKey>], digest: &KeyDigest) -> Option<&'k Arc<ApiKey>> {
    let mut found = u64::MAX;
    for (at, key) in (0..).zip(keys) {
        if let Some(own) = &key.digest {
            found.conditional_assign(&at, own.is(digest));
        }
    }
    keys.get(usize::try_from(found).ok()?)
}

/// The entries of `api_keys`. Without the key there are none; one that is there must have an entry, since a hub
/// without keys is open.
pub(super) fn entries<'a>(table: &mut Table<'a, '_>) -> &'a [Node] {
    table.expect(KEY, Shape::Entries);
    let is_empty = match table.node(KEY) {
        Some(Node::List(items)) => items.is_empty(),
        Some(_) => {
            // It may be a key.
            let hint = "begin each entry with `- name: …`".to_owned();
            table.refuse(KEY, "`api_keys` must be a list of entries", Some(hint));
            return &[];
        }
        None => table.has(KEY),
    };
    if is_empty {
        let hint = "add one with `mlx-openai-server-hub key add NAME`, or remove `api_keys`: a hub without \
                    it is open to everybody who reaches it";
        table.refuse(KEY, "`api_keys` has no entry", Some(hint.to_owned()));
        return &[];
    }
    table.entries(KEY).unwrap_or_default()
}

/// Reads entry number `index`. What is wrong goes to `findings`; the name is empty then.
pub(super) fn read(
    node: &Node,
    index: usize,
    folder: &Path,
    models: &[ModelConfig],
    findings: &mut Findings,
) -> ApiKey {
    let key_path = KeyPath::default().key(KEY).item(index);
    let position = format!("key entry #{}", index + 1);
    let Node::Map(map) = node else {
        let message = format!("{position} must be a mapping");
        let hint = "begin it with `- name: …`".to_owned();
        findings.value(key_path, message, Some(hint));
        return ApiKey::named("");
    };
    let mut table = Table::new(map, key_path, findings);
    let key = read_keys(&mut table, &position, folder);
    for name in key.models.iter().flatten() {
        if !models.iter().any(|model| looks_like(&model.name, name)) {
            table.warn(&match name.contains(ANY) {
                true => format!(
                    "hub.yaml has no model like `{name}`: the key may use only names that policies answer for"
                ),
                false => format!(
                    "hub.yaml has no model `{name}`: the key may use it only if a policy answers for the name"
                ),
            });
        }
    }
    // A misspelt `expires` would make a key that is good for ever.
    table.finish_strictly();
    key
}

/// The keys of an entry.
pub(super) fn shapes() -> Shapes {
    Table::shapes(|table| {
        read_keys(table, "", Path::new("/"));
    })
}

fn read_keys(table: &mut Table<'_, '_>, position: &str, folder: &Path) -> ApiKey {
    table.set_subject(position);
    let name = slug::required_name(table, position);
    if !name.is_empty() {
        table.set_subject(&format!("key `{name}`"));
    }
    let may_control = may(table);
    let models = table.list("models");
    if models.as_ref().is_some_and(Vec::is_empty) {
        let hint =
            "name the models that it may use, or leave `models` out for all of them".to_owned();
        table.refuse("models", "`models` is empty", Some(hint));
    }
    let expires = expires(table);
    let (source, digest) = secret(table, folder).unwrap_or((KeySource::Sha256, None));
    if expires.is_some_and(|expires| unix_now() >= expires as f64) {
        table.warn("it has expired, and lets nobody in any more");
    }
    ApiKey {
        name,
        source,
        may_control,
        models,
        expires,
        digest,
    }
}

/// True if `may` has `control`.
fn may(table: &mut Table<'_, '_>) -> bool {
    let hint = || "write `may: [use]`, or `may: [use, control]`".to_owned();
    let words = table.list_of("may", |word| {
        let word = word.trim();
        let known = WORDS.iter().find(|known| **known == word);
        known.ok_or_else(|| ("is no right", hint()))
    });
    let is_set = table
        .node("may")
        .is_some_and(|may| matches!(may, Node::List(items) if words.len() == items.len()));
    if is_set && !words.contains(&&"use") {
        table.refuse("may", "`may` lacks `use`", Some(hint()));
    }
    words.contains(&&"control")
}

/// The moment of `expires`: a day begins at midnight, UTC.
fn expires(table: &mut Table<'_, '_>) -> Option<i64> {
    let written = table.text("expires")?;
    let text = written.trim();
    let day = || {
        let day: Date = text.parse().ok()?;
        day.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp())
    };
    let moment = text.parse::<Timestamp>().ok().or_else(day);
    if moment.is_none() {
        let shown = Node::Text(written.clone()).shown();
        let message = format!("`expires` must be a day or a moment, not {shown}");
        let hint = "write `2027-01-31`, or `2027-01-31T18:00:00Z`".to_owned();
        table.refuse("expires", &message, Some(hint));
    }
    moment.map(Timestamp::as_second)
}

/// The place of the key and its hash.
fn secret(table: &mut Table<'_, '_>, folder: &Path) -> Option<(KeySource, Option<KeyDigest>)> {
    let hash = table.text("sha256");
    let variable = table.text("env");
    let file = table.text("file");
    let add = "`mlx-openai-server-hub key add NAME` makes a key and writes its hash";
    match (hash, variable, file) {
        (Some(hash), None, None) => {
            let digest = KeyDigest::from_hex(&hash);
            if digest.is_none() {
                // It may be the key itself.
                let message =
                    "`sha256` must be 64 hexadecimal digits: the hash of the key, not the key";
                table.refuse("sha256", message, Some(add.to_owned()));
            }
            Some((KeySource::Sha256, digest))
        }
        (None, Some(variable), None) => {
            let variable = variable.trim();
            if !is_variable(variable) {
                let message = "`env` must be the name of an environment variable that has the key";
                table.refuse("env", message, None);
                return None;
            }
            let source = KeySource::Env(variable.to_owned());
            let digest = hashed(table, &source);
            Some((source, digest))
        }
        (None, None, Some(file)) => {
            let source = KeySource::File(locate::beside(&file, folder));
            let digest = hashed(table, &source);
            Some((source, digest))
        }
        (None, None, None) => {
            table.refuse_whole("one of `sha256`, `env` and `file` is missing", add);
            None
        }
        _ => {
            let hint = "the key has one place: keep one of them";
            table.refuse_whole("only one of `sha256`, `env` and `file` may be set", hint);
            None
        }
    }
}

pub(super) fn is_variable(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name
            .bytes()
            .all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

/// The hash of the key in that place; `None`, with a warning, if there is none.
fn hashed(table: &mut Table<'_, '_>, source: &KeySource) -> Option<KeyDigest> {
    match source.read() {
        Ok(key) => {
            if key.len() < SHORT {
                table.warn(&format!(
                    "it has fewer than {SHORT} characters, and can be guessed"
                ));
            }
            Some(KeyDigest::of(key.as_bytes()))
        }
        Err(why) => {
            table.warn(&format!("{why}: the key lets nobody in"));
            None
        }
    }
}

impl KeySource {
    /// The key itself, which a hash does not tell.
    ///
    /// # Errors
    /// The reason why it cannot be had, without the key.
    pub(crate) fn read(&self) -> Result<String, String> {
        let text = match self {
            Self::Sha256 => return Err("only its owner has it".to_owned()),
            Self::Env(variable) => std::env::var(variable).map_err(|error| match error {
                std::env::VarError::NotPresent => {
                    format!("the environment variable {variable} is not set")
                }
                std::env::VarError::NotUnicode(_) => {
                    format!("the environment variable {variable} is no text")
                }
            })?,
            Self::File(path) => {
                let bytes = files::read(path)
                    .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
                String::from_utf8(bytes).map_err(|_| format!("`{}` is no text", path.display()))?
            }
        };
        let key = text.trim();
        if key.is_empty() {
            return Err(match self {
                Self::Env(variable) => format!("the environment variable {variable} is empty"),
                Self::File(path) => format!("`{}` is empty", path.display()),
                Self::Sha256 => String::new(),
            });
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has characters that no client can send".to_owned());
        }
        Ok(key.to_owned())
    }
}

/// The rules between the entries: names and keys are unique.
pub(super) fn check(keys: &[ApiKey], findings: &mut Findings) {
    let names = keys.iter().map(|key| key.name.as_str());
    slug::unique(names, "key", KEY, str::to_lowercase, findings);
    for (index, key) in keys.iter().enumerate() {
        let Some(digest) = &key.digest else { continue };
        if let Some(first) = keys[..index].iter().find(|other| other.has(digest)) {
            let message = format!(
                "key `{}` is the same as `{}`: requests with it would count as either's",
                key.name, first.name
            );
            let hint = "give each its own, with `mlx-openai-server-hub key add NAME`".to_owned();
            let key_path = KeyPath::default().key(KEY).item(index);
            findings.value(key_path, message, Some(hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc", from FIPS 180-4.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_hash_is_read_in_either_case_and_never_shown() {
        let digest = KeyDigest::of(b"abc");
        assert_eq!(digest.to_hex(), ABC);
        assert_eq!(KeyDigest::from_hex(&ABC.to_uppercase()), Some(digest));
        for wrong in [&ABC[1..], &format!("{ABC}0"), &ABC.replace('b', "x"), "é"] {
            assert_eq!(KeyDigest::from_hex(wrong), None, "{wrong}");
        }
        assert!(!format!("{digest:?}").contains("ba78"));
    }

    #[test]
    fn a_key_lets_use_what_it_names_and_what_looks_like_its_patterns() {
        let mut key = ApiKey::named("a");
        assert!(key.lets_use("anything"));
        key.models = Some(vec!["alpha".to_owned(), "claude-*haiku*".to_owned()]);
        for (name, lets) in [
            ("alpha", true),
            ("alpha2", false),
            ("claude-3-5-haiku-latest", true),
            ("claude-*haiku*", true),
            ("claude-opus", false),
            ("x-claude-haiku", false),
        ] {
            assert_eq!(key.lets_use(name), lets, "{name}");
        }
    }

    #[test]
    fn each_key_is_found_by_its_hash_and_one_without_by_none() {
        let key = |name: &str, digest| {
            let mut key = ApiKey::named(name);
            key.digest = digest;
            Arc::new(key)
        };
        let keys = [
            key("a", Some(KeyDigest::of(b"1"))),
            key("unread", None),
            key("b", Some(KeyDigest::of(b"2"))),
        ];
        let found = |sent: &[u8]| find(&keys, &KeyDigest::of(sent)).map(|key| key.name.as_str());
        assert_eq!(
            [found(b"1"), found(b"2"), found(b"3")],
            [Some("a"), Some("b"), None]
        );
        assert_eq!(find(&[], &KeyDigest::of(b"")), None);
    }
}
