//! A model's text as a terminal may have it: without escape sequences, and without control characters other
//! than tabs and line feeds.

use anstream::adapter::strip_str;

/// The printable part of a piece of text. Of a sequence that comes in two pieces the harmless letters stay.
pub(super) fn printable(piece: &str) -> String {
    let text = strip_str(piece).flat_map(str::chars);
    text.filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_left_wherever_a_text_is_cut() {
        for (text, shown) in [
            ("plain\n\ttext — ö", "plain\n\ttext — ö"),
            ("\u{1b}[2J\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]52;c;cm0gLXJm\u{1b}\\after", "after"),
            ("over\rwritten\u{8}\u{7f}\0\u{c}", "overwritten"),
            ("\u{9b}31mC1", "31mC1"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
            for cut in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let all = printable(&text[..cut]) + &printable(&text[cut..]);
                let odd = |c: char| c.is_control() && !"\n\t".contains(c);
                assert!(!all.contains(odd), "{text:?} cut at {cut}: {all:?}");
            }
        }
    }
}
