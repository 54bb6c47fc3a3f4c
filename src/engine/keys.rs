//! The keys of a model's entry that an engine brings.

/// The values that a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// True or false; only a true one is an option.
    Switch,
    /// An integer, not below this one.
    Int(u64),
    /// A finite number.
    Number,
    /// Any text.
    Text,
    /// A file or folder; relative ones start at the folder of hub.yaml.
    Path,
    /// The same, of something that need not be there.
    NewPath,
    /// A file or folder, or the id of a repository.
    PathOrId,
    /// A list of [`KeyType::PathOrId`], joined by commas.
    Paths,
    /// A list of numbers, joined by commas.
    Numbers,
    /// Any value, as JSON.
    Json,
    /// A command line: a list of words, or a text that is split into them.
    Command,
    /// The machines of one model, as JSON: each with `ssh`, `ips` and perhaps `rdma`.
    Hosts,
    /// A hostfile of MLX, as JSON: its `hosts`, and perhaps `backend` and `envs`.
    Hostfile,
    /// Nothing: the key is known to be refused.
    Refused,
}

impl KeyType {
    /// The words by which a file names them, each with the type that it stands for.
    pub(super) const WORDS: [(&'static str, Self); 14] = [
        ("switch", Self::Switch),
        ("int", Self::Int(0)),
        ("number", Self::Number),
        ("text", Self::Text),
        ("path", Self::Path),
        ("new_path", Self::NewPath),
        ("path_or_id", Self::PathOrId),
        ("paths", Self::Paths),
        ("numbers", Self::Numbers),
        ("json", Self::Json),
        ("command", Self::Command),
        ("hosts", Self::Hosts),
        ("hostfile", Self::Hostfile),
        ("refused", Self::Refused),
    ];

    /// The word of a file for it.
    pub fn word(self) -> &'static str {
        let same = |of: &Self| std::mem::discriminant(of) == std::mem::discriminant(&self);
        let found = Self::WORDS.iter().find(|(_, of)| same(of));
        found.map_or("", |(word, _)| word)
    }
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name in hub.yaml.
    pub name: String,
    /// Its values.
    pub kind: KeyType,
    /// Another spelling of its name.
    pub also: Option<String>,
    /// What to do about a key that is refused.
    pub hint: Option<String>,
}
