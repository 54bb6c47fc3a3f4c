//! Decimal numbers in headers, which every answer has: `core::fmt` would cost as much as the rest of them.

use std::time::Duration;

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Appends `number / 10^places` with all its decimal places, of which there is at least one: 1234 with 3
/// is `1.234`.
pub(crate) fn push(text: &mut String, mut number: u64, places: usize) {
    // Enough for every u64, a point and a zero before it.
    let mut digits = [b'0'; 24];
    let mut at = digits.len();
    let point = at - places - 1;
    while number > 0 || at >= point {
        at -= 1;
        if at == point {
            digits[at] = b'.';
        } else {
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    text.push_str(str::from_utf8(&digits[at..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_with_all_its_places() {
        for (number, places, expected) in [
            (0, 3, "0.000"),
            (7, 3, "0.007"),
            (1_234, 3, "1.234"),
            (60_000_001, 6, "60.000001"),
            (u64::MAX, 6, "18446744073709.551615"),
            (u64::MAX, 1, "1844674407370955161.5"),
            (u64::MAX, 20, "0.18446744073709551615"),
        ] {
            let mut text = String::from("=");
            push(&mut text, number, places);
            assert_eq!(text[1..], *expected);
        }
    }
}
