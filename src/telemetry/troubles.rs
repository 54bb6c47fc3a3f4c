//! The hub's own current troubles, for the status: a file that cannot be written, a connection not accepted.
//!
//! The part that fails notes it, and clears it when it works again; no past trouble is kept. The daemon makes
//! the one list and hands it to the parts that may fail and to the lifecycle, whose status shows it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Mutex;

/// The troubles of the moment. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Troubles {
    by_what: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Troubles {
    /// Notes the result of an attempt at `what`: an error stays until an attempt at the same succeeds.
    /// Returns true if the state or the error is new.
    pub fn note<E: Display>(&self, what: &'static str, went: Result<(), E>) -> bool {
        let mut by_what = self.by_what.lock();
        match went {
            Ok(()) => by_what.remove(what).is_some(),
            Err(error) => {
                let text = format!("{what}: {error}");
                by_what.insert(what, text.clone()) != Some(text)
            }
        }
    }

    /// One sentence for each trouble.
    pub fn warnings(&self) -> Vec<String> {
        self.by_what.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_shown_until_it_is_over_and_is_news_once() {
        let troubles = Troubles::default();
        assert!(!troubles.note("to write", Ok::<_, &str>(())));
        assert!(troubles.note("to write", Err("disk full")));
        assert!(!troubles.note("to write", Err("disk full")));
        assert!(troubles.clone().note("to read", Err("no such file")));
        assert_eq!(
            troubles.warnings(),
            ["to read: no such file", "to write: disk full"]
        );
        assert!(troubles.note("to write", Ok::<_, &str>(())));
        assert_eq!(troubles.warnings(), ["to read: no such file"]);
    }
}
