//! The problems of a hub.yaml: collected while the tree is read, printed by [`super::diagnose`].
//!
//! Each has a path of keys and positions, not a line: lines are looked up only for a report.

use crate::api::nearest;

/// Further problems are counted and not shown: each takes an excerpt, and a file can hold a hundred thousand.
const MAX_PROBLEMS: usize = 50;

/// One step from the root of hub.yaml towards a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    /// Position in a list, from 0.
    Item(usize),
}

/// The path of a value in hub.yaml; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct KeyPath(pub(super) Vec<Segment>);

impl KeyPath {
    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Segment::Key(key.to_owned()))
    }

    pub(super) fn item(&self, index: usize) -> Self {
        self.then(Segment::Item(index))
    }

    fn then(&self, step: Segment) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

/// The part of an entry that the caret marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The value, or the start of a list or mapping.
    Value,
    /// The key before the value.
    Key,
    /// The last of several keys that are written alike.
    LastKey,
}

/// One problem, with the text and hint to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) key_path: KeyPath,
    pub(super) mark: Mark,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// The problems, which refuse the file, and the warnings, which do not.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    /// Number of problems beyond [`MAX_PROBLEMS`].
    pub(super) unnamed: usize,
    pub(super) warnings: Vec<Problem>,
}

impl Findings {
    /// Refuses the value at `key_path`.
    pub(super) fn value(&mut self, key_path: KeyPath, message: String, hint: Option<String>) {
        self.add(key_path, Mark::Value, message, hint);
    }

    /// Refuses the key at `key_path`.
    pub(super) fn key(&mut self, key_path: KeyPath, message: String, hint: Option<String>) {
        self.add(key_path, Mark::Key, message, hint);
    }

    /// Refuses the second occurrence of the key at `key_path`.
    pub(super) fn repeated(&mut self, key_path: KeyPath, message: String) {
        let hint = Some("keep one of them".to_owned());
        self.add(key_path, Mark::LastKey, message, hint);
    }

    /// Warns about what stands at `key_path`.
    pub(super) fn warn(&mut self, key_path: KeyPath, mark: Mark, message: String) {
        self.warnings.push(Problem {
            key_path,
            mark,
            message,
            hint: None,
        });
    }

    fn add(&mut self, key_path: KeyPath, mark: Mark, message: String, hint: Option<String>) {
        if self.problems.len() >= MAX_PROBLEMS {
            self.unnamed += 1;
            return;
        }
        self.problems.push(Problem {
            key_path,
            mark,
            message,
            hint,
        });
    }
}

/// ``did you mean `x`?`` for the nearest candidate.
pub(super) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}
