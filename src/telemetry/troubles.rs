//! What the hub itself cannot do at the moment, for the status: write a file, take a connection.
//!
//! Whoever fails notes it, and takes it back when it works again; nothing is kept of the past. The
//! daemon makes the one list and hands it to those who may fail and to the lifecycle, whose status
//! shows it.

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
    /// Notes how an attempt at `what` went: an error stays until an attempt at the same succeeds.
    /// Says whether that is news.
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

    /// A sentence each.
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
