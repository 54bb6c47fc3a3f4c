//! What was tried, how it went, and what must not have happened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Mutex<BTreeMap<(&'static str, String), usize>>,
    broken: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn count(&self, what: &'static str, how: impl Into<String>) {
        let mut counts = self.counts.lock().expect("no thread has panicked");
        *counts.entry((what, how.into())).or_default() += 1;
    }

    /// A promise that was broken.
    pub(crate) fn broken(&self, what: String) {
        let mut broken = self.broken.lock().expect("no thread has panicked");
        broken.push(what);
    }

    pub(crate) fn all_broken(&self) -> Vec<String> {
        self.broken.lock().expect("no thread has panicked").clone()
    }

    /// How often something was done, whatever came of it.
    pub(crate) fn total(&self, what: &str) -> usize {
        let counts = self.counts.lock().expect("no thread has panicked");
        let of_what = counts.iter().filter(|((key, _), _)| *key == what);
        of_what.map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.lock().expect("no thread has panicked");
        let mut whats: Vec<&str> = counts.keys().map(|(what, _)| *what).collect();
        whats.dedup();
        for what in whats {
            let of_what = counts.iter().filter(|((key, _), _)| *key == what);
            let total: usize = of_what.clone().map(|(_, count)| count).sum();
            let ways: Vec<String> = of_what
                .map(|((_, how), count)| format!("{how} {count}"))
                .collect();
            writeln!(f, "{what:>15} {total:>6}: {}", ways.join(", "))?;
        }
        Ok(())
    }
}
