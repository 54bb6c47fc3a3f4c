//! The modules that worker programs import, learned from a real load and kept from one hub to the next.
//!
//! They are learned per program as it lies on disk, and per type of model: a program imports what its model needs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::files;

/// The file in the log folder.
const FILE: &str = "spares.json";
/// Number of remembered versions of programs.
const REMEMBERED: usize = 8;

/// The modules of a program with one model, in the order in which they were imported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Modules {
    /// Those of the program's first process.
    pub(super) server: Vec<String>,
    /// Those of the model process that it spawned; `None` if it spawned none.
    pub(super) model: Option<Vec<String>>,
}

/// All that is known, the program learned last at the end.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    /// The file that keeps them; `None` in tests.
    path: Option<PathBuf>,
    programs: Programs,
}

type Programs = IndexMap<String, BTreeMap<String, Modules>>;

impl Lessons {
    /// Takes over what an earlier hub kept in that folder. A file that cannot be read is as good as none.
    pub(super) fn recall(log_path: &Path) -> Self {
        let path = log_path.join(FILE);
        let programs = match files::read_own(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Programs::new()),
            Err(error) => Err(error),
        };
        let programs = programs.unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "which modules the workers import is learned anew");
            Programs::new()
        });
        Self {
            path: Some(path),
            programs,
        }
    }

    /// The modules of a program with a model of that type; else those with another one.
    pub(super) fn of(&self, program: &str, model_type: &str) -> Option<&Modules> {
        let types = self.programs.get(program)?;
        types.get(model_type).or_else(|| types.values().next())
    }

    /// Forgets those of a program, whose code has changed.
    pub(super) fn forget(&mut self, program: &str) {
        if self.programs.shift_remove(program).is_some() {
            self.keep();
        }
    }

    /// Notes them, and keeps them for the next hub.
    pub(super) fn note(&mut self, program: String, model_type: &str, modules: Modules) {
        let mut types = self.programs.shift_remove(&program).unwrap_or_default();
        types.insert(model_type.to_owned(), modules);
        self.programs.insert(program, types);
        let surplus = self.programs.len().saturating_sub(REMEMBERED);
        self.programs.drain(..surplus);
        self.keep();
    }

    fn keep(&self) {
        let Some(path) = &self.path else { return };
        if let Err(error) = files::replace_private(path, &self.programs) {
            tracing::warn!(path = %path.display(), %error, "which modules the workers import is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(names: &[&str]) -> Modules {
        Modules {
            server: names.iter().map(|&name| name.to_owned()).collect(),
            model: None,
        }
    }

    #[test]
    fn modules_are_kept_by_program_and_type_from_one_hub_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut lessons = Lessons::recall(folder.path());
        assert_eq!(lessons.of("one", "lm"), None);
        lessons.note("one".to_owned(), "lm", modules(&["b", "a"]));
        lessons.note("one".to_owned(), "whisper", modules(&["w"]));
        let later = Lessons::recall(folder.path());
        assert_eq!(later.of("one", "lm"), Some(&modules(&["b", "a"])));
        assert_eq!(later.of("one", "whisper"), Some(&modules(&["w"])));
        assert_eq!(later.of("one", "embeddings"), Some(&modules(&["b", "a"])));
        assert_eq!(later.of("two", "lm"), None);
        lessons.forget("one");
        assert_eq!(Lessons::recall(folder.path()).of("one", "lm"), None);
        std::fs::write(folder.path().join(FILE), "{\"one\": 1}").unwrap();
        assert_eq!(Lessons::recall(folder.path()).of("one", "lm"), None);
    }

    #[test]
    fn programs_that_are_no_more_are_forgotten_in_the_end() {
        let mut lessons = Lessons::default();
        for number in 0..=REMEMBERED {
            lessons.note(number.to_string(), "lm", modules(&[]));
        }
        assert_eq!(lessons.of("0", "lm"), None);
        assert!(lessons.of("1", "lm").is_some());
    }
}
