//! Numbers in lines of the log. As `tracing` writes them, a short time is `4.0767e-5` and a long one has 17 digits.

use std::fmt;

use tracing::field::{DisplayValue, display};

/// A number with so many decimal places; it is formatted only if its line is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed<const PLACES: usize>(f64);

impl<const PLACES: usize> fmt::Display for Fixed<PLACES> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.PLACES$}", self.0)
    }
}

/// Seconds, as microseconds are read: `0.000041`.
pub(crate) fn seconds(seconds: f64) -> DisplayValue<Fixed<6>> {
    display(Fixed(seconds))
}

/// So many per second: `51.3`.
pub(crate) fn rate(per_second: f64) -> DisplayValue<Fixed<1>> {
    display(Fixed(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form_however_small_or_large() {
        let written = |number| (seconds(number).to_string(), rate(number).to_string());
        let pair = |seconds: &str, rate: &str| (seconds.to_owned(), rate.to_owned());
        assert_eq!(written(4.0767e-5), pair("0.000041", "0.0"));
        assert_eq!(written(0.0), pair("0.000000", "0.0"));
        assert_eq!(written(762_497.25), pair("762497.250000", "762497.2"));
    }
}
