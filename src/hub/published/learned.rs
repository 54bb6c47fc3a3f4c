//! Facts learned about models while they run: the peak memory of each, the time of its last load, and the
//! silences that prompts caused.
//!
//! The sampler, the watchdog and the publisher write it, policies and the status read it. It is kept
//! in a file from one hub to the next, and holds as long as a model is launched with the same settings.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::served::Served;

use crate::config::ModelConfig;
use crate::files;

/// The facts about all models.
#[derive(Debug, Default)]
pub struct Learned {
    /// The file that keeps it; `None` in tests.
    path: Option<PathBuf>,
    models: BTreeMap<String, Lesson>,
    is_saved: bool,
    /// The routes of their programs.
    pub(in crate::hub) served: Served,
}

/// The facts for the next hub.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(in crate::hub) struct Lessons(BTreeMap<String, Lesson>);

/// The facts about one model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Lesson {
    /// Tells the launch settings it was learned with from others. The settings themselves may hold
    /// secrets (`env`), which need not lie about.
    settings: u64,
    peak_bytes: Option<u64>,
    load_seconds: Option<f64>,
    /// The longest silence that a byte ended, in seconds, by the [size](size_of) of the prompt.
    silences: BTreeMap<u8, f64>,
    /// The most it held in an unfinished load: less than it needs.
    #[serde(skip)]
    so_far: u64,
}

/// Tells launch settings from others. Another build of the hub may number them otherwise: then all is
/// learned anew.
pub(in crate::hub) fn fingerprint(settings: &serde_json::Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    settings.to_string().hash(&mut hasher);
    hasher.finish()
}

/// The size of a prompt whose length is not known.
const UNKNOWN_SIZE: u8 = 255;

/// Length below which the silence of a prompt does not depend on it.
const SHORT: usize = 1024;

/// Prompts of one size are at most twice as long as one another, or short.
fn size_of(chars: Option<usize>) -> u8 {
    chars.map_or(UNKNOWN_SIZE, |chars| {
        u8::try_from(chars.max(SHORT).ilog2()).unwrap_or(UNKNOWN_SIZE - 1)
    })
}

impl Learned {
    /// Takes over what an earlier hub kept in `learned.json` of that folder, and keeps it there from now
    /// on. A file that cannot be read is as good as none; the log says so.
    pub fn recall(log_path: &Path) -> Self {
        let path = log_path.join("learned.json");
        let models = match files::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        let models = models.unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "what was learned of the models is not known any more");
            BTreeMap::new()
        });
        Self {
            path: Some(path),
            models,
            is_saved: true,
            served: Served::recall(log_path),
        }
    }

    /// A copy of all facts.
    pub(in crate::hub) fn lessons(&self) -> Lessons {
        Lessons(self.models.clone())
    }

    /// Takes over the facts of the hub before, which may have kept them elsewhere.
    pub(in crate::hub) fn inherit(&mut self, lessons: Lessons) {
        self.models.extend(lessons.0);
        self.is_saved = false;
    }

    /// Forgets the facts about models whose launch settings have changed.
    pub(in crate::hub) fn forget_changed(&mut self, models: &[ModelConfig]) {
        for model in models {
            let settings = fingerprint(&model.launch_settings());
            let lesson = self.models.entry(model.name.clone()).or_default();
            if lesson.settings != settings {
                *lesson = Lesson {
                    settings,
                    ..Lesson::default()
                };
            }
        }
    }

    /// A process that was launched with these settings holds so much now, with the weights in memory or
    /// on their way there.
    pub(in crate::hub) fn note_held(
        &mut self,
        model: &str,
        settings: u64,
        bytes: u64,
        is_loaded: bool,
    ) {
        let lesson = self.models.get_mut(model);
        let Some(lesson) = lesson.filter(|lesson| lesson.settings == settings) else {
            return;
        };
        lesson.so_far = lesson.so_far.max(bytes);
        if !is_loaded && lesson.peak_bytes.is_none() {
            return;
        }
        let (peak, most) = (lesson.peak_bytes.unwrap_or(0), lesson.so_far);
        if most > peak {
            lesson.peak_bytes = Some(most);
            // Less than a hundredth more is not worth a write; the last save has it.
            self.is_saved &= most - peak < peak / 100;
        }
    }

    /// Records the time of a load.
    pub(in crate::hub) fn note_load(&mut self, model: &str, seconds: f64) {
        if let Some(lesson) = self.models.get_mut(model) {
            lesson.load_seconds = Some(seconds);
            self.is_saved = false;
        }
    }

    /// Records the silence caused by a prompt of so many characters.
    pub(in crate::hub) fn note_silence(&mut self, model: &str, chars: Option<usize>, seconds: f64) {
        let Some(lesson) = self.models.get_mut(model) else {
            return;
        };
        let longest = lesson.silences.entry(size_of(chars)).or_default();
        if seconds > *longest {
            // A little more is not worth a write; the last save has it.
            self.is_saved &= seconds < *longest * 1.1;
            *longest = seconds;
        }
    }

    /// The silence to expect of a prompt of so many characters: the longest recorded for its size, else
    /// estimated in proportion to length from shorter ones, or taken from longer ones.
    pub(in crate::hub) fn expected_silence(
        &self,
        model: &str,
        chars: Option<usize>,
    ) -> Option<f64> {
        let silences = &self.models.get(model)?.silences;
        let size = size_of(chars);
        if chars.is_none() {
            return silences.get(&size).copied();
        }
        let up_to = || silences.range(..=size).rev();
        let longer = || silences.range(size..UNKNOWN_SIZE).next();
        let Some((nearest, seconds)) = up_to().next() else {
            return longer().map(|(_, seconds)| *seconds);
        };
        let scaled = seconds * 2f64.powi(i32::from(size - nearest));
        Some(up_to().fold(scaled, |most, (_, seconds)| most.max(*seconds)))
    }

    /// The most a model ever held, in bytes.
    pub(in crate::hub) fn peak_bytes(&self, model: &str) -> Option<u64> {
        self.models.get(model)?.peak_bytes
    }

    /// All peaks that are known.
    pub(in crate::hub) fn peaks(&self) -> impl Iterator<Item = (&String, u64)> {
        let models = self.models.iter();
        models.filter_map(|(name, lesson)| Some((name, lesson.peak_bytes?)))
    }

    /// Seconds that a model's last load took.
    pub(in crate::hub) fn load_seconds(&self, model: &str) -> Option<f64> {
        self.models.get(model)?.load_seconds
    }

    /// A copy to be written, if anything has changed.
    pub(in crate::hub) fn unsaved(&mut self) -> Option<Writing> {
        if self.is_saved {
            return None;
        }
        self.is_saved = true;
        self.copy()
    }

    /// A copy to be written, if there is a file for it.
    pub(in crate::hub) fn copy(&self) -> Option<Writing> {
        Some(Writing {
            path: self.path.clone()?,
            models: self.models.clone(),
        })
    }
}

/// The facts to be written, without the lock.
#[derive(Debug)]
pub(in crate::hub) struct Writing {
    path: PathBuf,
    models: BTreeMap<String, Lesson>,
}

impl Writing {
    /// Replaces the file; a failure costs the next hub what was learned, and is logged.
    pub(in crate::hub) fn write(&self) {
        if let Err(error) = files::replace_private(&self.path, &self.models) {
            tracing::warn!(path = %self.path.display(), %error, "what was learned of the models is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::from_yaml;

    fn models(context_length: u32) -> Vec<ModelConfig> {
        let yaml = format!(
            "models: [{{name: alpha, model_path: org/alpha, context_length: {context_length}}}]"
        );
        from_yaml(&yaml).models
    }

    fn settings(context_length: u32) -> u64 {
        fingerprint(&models(context_length)[0].launch_settings())
    }

    #[test]
    fn the_most_ever_held_is_kept_from_one_hub_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut learned = Learned::recall(folder.path());
        learned.forget_changed(&models(4096));
        for bytes in [500, 900, 700] {
            learned.note_held("alpha", settings(4096), bytes, true);
        }
        learned.note_load("alpha", 2.5);
        learned.unsaved().unwrap().write();
        assert!(learned.unsaved().is_none(), "no news since");
        let mode = folder.path().join("learned.json").metadata().unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);

        let mut later = Learned::recall(folder.path());
        later.forget_changed(&models(4096));
        assert_eq!(later.peak_bytes("alpha"), Some(900));
        assert_eq!(later.load_seconds("alpha"), Some(2.5));
    }

    #[test]
    fn a_load_that_is_not_over_does_not_tell_what_the_model_needs() {
        let mut learned = Learned::default();
        learned.forget_changed(&models(4096));
        learned.note_held("alpha", settings(4096), 300, false);
        learned.note_held("alpha", settings(4096), 950, false);
        assert_eq!(learned.peak_bytes("alpha"), None);
        learned.note_held("alpha", settings(4096), 900, true);
        assert_eq!(
            learned.peak_bytes("alpha"),
            Some(950),
            "with what the load took"
        );
        learned.note_held("alpha", settings(4096), 960, false);
        assert_eq!(learned.peak_bytes("alpha"), Some(960));
    }

    #[test]
    fn other_launch_settings_forget_it() {
        let mut learned = Learned::default();
        learned.forget_changed(&models(4096));
        learned.note_held("alpha", settings(4096), 900, true);
        learned.note_load("alpha", 2.5);
        learned.forget_changed(&models(8192));
        assert_eq!(learned.peak_bytes("alpha"), None);
        assert_eq!(learned.load_seconds("alpha"), None);
        // The old process, still ending, teaches nothing about the new settings.
        learned.note_held("alpha", settings(4096), 900, true);
        assert_eq!(learned.peak_bytes("alpha"), None);
        learned.note_held("alpha", settings(8192), 950, true);
        assert_eq!(learned.peak_bytes("alpha"), Some(950));
    }

    #[test]
    fn a_broken_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["{\"alpha\": {\"peak", "[1, 2]", "\0\0", ""] {
            std::fs::write(folder.path().join("learned.json"), text).unwrap();
            let mut learned = Learned::recall(folder.path());
            learned.forget_changed(&models(4096));
            assert_eq!(learned.peak_bytes("alpha"), None);
            learned.note_held("alpha", settings(4096), 900, true);
            learned.unsaved().unwrap().write();
            let later = Learned::recall(folder.path());
            assert_eq!(later.peak_bytes("alpha"), Some(900));
        }
    }

    #[test]
    fn the_silence_to_expect_is_told_from_prompts_of_about_that_length() {
        let mut learned = Learned::default();
        learned.forget_changed(&models(4096));
        let expected = |learned: &Learned, chars| learned.expected_silence("alpha", chars);
        assert_eq!(expected(&learned, Some(5_000)), None);
        assert_eq!(expected(&learned, None), None);
        for seconds in [30.0, 20.0] {
            learned.note_silence("alpha", Some(100_000), seconds);
        }
        learned.note_silence("alpha", Some(2_000), 1.0);
        // The longest of its size counts, and half of a size is none.
        assert_eq!(expected(&learned, Some(90_000)), Some(30.0));
        assert_eq!(expected(&learned, Some(2_000)), Some(1.0));
        // Longer ones take as much longer, of the nearest size that is known.
        assert_eq!(expected(&learned, Some(200_000)), Some(60.0));
        assert_eq!(expected(&learned, Some(4_096)), Some(4.0));
        // A shorter one takes no longer than one that is known.
        assert_eq!(expected(&learned, Some(10)), Some(1.0));
        // A prompt of unknown length is compared with its like alone.
        assert_eq!(expected(&learned, None), None);
        learned.note_silence("alpha", None, 7.0);
        assert_eq!(expected(&learned, None), Some(7.0));
        assert_eq!(expected(&learned, Some(90_000)), Some(30.0));
        assert_eq!(learned.expected_silence("beta", None), None);
        // It goes by the launch settings.
        learned.forget_changed(&models(8192));
        assert_eq!(expected(&learned, Some(90_000)), None);
    }

    #[test]
    fn a_little_more_is_not_worth_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let mut learned = Learned::recall(folder.path());
        learned.forget_changed(&models(4096));
        let mut news = |bytes| {
            learned.note_held("alpha", settings(4096), bytes, true);
            learned.unsaved().is_some()
        };
        assert!(news(10_000));
        assert!(!news(10_000));
        assert!(!news(10_099));
        assert!(news(11_000));
        assert_eq!(learned.peak_bytes("alpha"), Some(11_000));
    }
}
