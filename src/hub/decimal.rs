//! Decimal numbers in the headers of every answer, written without `core::fmt`: 180 instead of 610 instructions
//! a number (callgrind), of which an answer has up to five. itoa writes whole numbers only.

use std::io::{self, Cursor, Write};
use std::time::Duration;

use http::HeaderValue;

/// Longest value; a longer one gives no header.
const MAX_BYTES: usize = 160;

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A header's value from the output of `write`, at most [`MAX_BYTES`] bytes, built without an allocation.
pub(crate) fn header_value(
    write: impl FnOnce(&mut Cursor<[u8; MAX_BYTES]>) -> io::Result<()>,
) -> Option<HeaderValue> {
    let mut text = Cursor::new([0; MAX_BYTES]);
    write(&mut text).ok()?;
    let length = usize::try_from(text.position()).ok()?;
    HeaderValue::from_bytes(&text.get_ref()[..length]).ok()
}

/// Appends `number / 10^places` with all its decimal places, of which there is at least one: 1234 with 3
/// is `1.234`.
pub(crate) fn write(text: &mut impl Write, mut number: u64, places: usize) -> io::Result<()> {
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
    text.write_all(&digits[at..])
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
            let mut text = b"=".to_vec();
            write(&mut text, number, places).unwrap();
            assert_eq!(text[1..], *expected.as_bytes());
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_none() {
        let of_length = |length| header_value(|text| text.write_all(&vec![b'a'; length]));
        assert_eq!(of_length(MAX_BYTES).unwrap().len(), MAX_BYTES);
        assert_eq!(of_length(MAX_BYTES + 1), None);
        assert_eq!(header_value(|text| text.write_all(b"\n")), None);
    }
}
