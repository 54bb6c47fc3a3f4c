//! Whether hub.yaml, as it lies on disk now, is still valid.
//!
//! The hub serves its last good configuration; the status says when the file would not load. It is
//! read again only when its size or modification time changed.

use std::time::SystemTime;

use parking_lot::Mutex;

use crate::config::Config;

/// Size and modification time; `None` when there is no such file.
type Stamp = Option<(u64, SystemTime)>;

#[derive(Debug)]
pub(super) struct OnDisk {
    last: Mutex<(Stamp, Option<String>)>,
}

impl OnDisk {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            last: Mutex::new((stamp(config), None)),
        }
    }

    /// Why the file on disk is not valid.
    pub(super) fn error(&self, config: &Config) -> Option<String> {
        let now = stamp(config);
        let mut last = self.last.lock();
        if last.0 != now {
            let error = Config::load(&config.path).err();
            let warning = |error| {
                format!("hub.yaml on disk is not valid, the last good one stays in force: {error}")
            };
            *last = (now, error.map(warning));
        }
        last.1.clone()
    }
}

fn stamp(config: &Config) -> Stamp {
    let metadata = std::fs::metadata(&config.path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
