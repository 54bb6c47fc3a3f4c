//! Decimal numbers in headers, which every answer has: `core::fmt` would cost as much as the rest of them.

use std::time::Duration;

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Appends `number / 10^digits` with all its decimal places: 1234 with 3 digits is `1.234`.
pub(crate) fn push(text: &mut String, number: u64, digits: u32) {
    let unit = 10_u64.pow(digits);
    push_whole(text, number / unit, 1);
    text.push('.');
    push_whole(text, number % unit, digits as usize);
}

/// Appends a whole number, with zeros before it up to so many places.
fn push_whole(text: &mut String, mut number: u64, places: usize) {
    // Enough for every u64.
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    at = at.min(digits.len().saturating_sub(places));
    text.push_str(str::from_utf8(&digits[at..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_with_all_its_places() {
        for (number, digits, expected) in [
            (0, 3, "0.000"),
            (7, 3, "0.007"),
            (1_234, 3, "1.234"),
            (60_000_001, 6, "60.000001"),
            (u64::MAX, 6, "18446744073709.551615"),
        ] {
            let mut text = String::from("=");
            push(&mut text, number, digits);
            assert_eq!(text[1..], *expected);
        }
    }
}
