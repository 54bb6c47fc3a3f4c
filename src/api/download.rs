//! A download that a model's load waits for, and how bytes are written.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The progress of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// Bytes that are on the disk.
    pub bytes: u64,
    /// Bytes of all of it, about; `None` while that is not known.
    pub total: Option<u64>,
}

/// `1.2 GB of 4.3 GB`
impl fmt::Display for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", bytes(self.bytes))?;
        match self.total {
            Some(total) => write!(f, " of {}", bytes(total)),
            None => Ok(()),
        }
    }
}

/// Bytes as disks are sold and downloads are shown: `812 MB`, `17.2 GB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, f64); 3] = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let count = bytes as f64;
    let unit = UNITS.iter().find(|(_, size)| count >= *size);
    match unit {
        Some((unit, size)) if count / size < 100.0 => format!("{:.1} {unit}", count / size),
        Some((unit, size)) => format!("{:.0} {unit}", count / size),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (812_345_678, "812 MB"),
            (17_179_869_184, "17.2 GB"),
            (2_000_000_000_000, "2000 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
