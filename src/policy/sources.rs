//! What the policies in force were made of, to tell which of them a reload has changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Marks of the texts of policies and of the modules that they required, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources(BTreeMap<String, u64>);

impl Sources {
    /// Notes the text of that file.
    pub(super) fn note(&mut self, name: &str, text: &[u8]) {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        self.0.insert(name.to_owned(), hasher.finish());
    }

    /// Adds all of `others`.
    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Names of the files that are new, gone or different in `now`.
    pub(super) fn changes(&self, now: &Self) -> Vec<String> {
        let mut names: Vec<&String> = self.0.keys().chain(now.0.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let is_other = |name: &&String| self.0.get(*name) != now.0.get(*name);
        names.into_iter().filter(is_other).cloned().collect()
    }
}
