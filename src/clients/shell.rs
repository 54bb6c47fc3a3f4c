//! Words for a shell.

/// A command line, quoted for a shell.
pub(crate) fn shell_words<S: AsRef<str>>(words: &[S]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let words: Vec<_> = words
        .iter()
        .map(|word| match word.as_ref() {
            word if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
            word => format!("'{}'", word.replace('\'', r"'\''")),
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        assert_eq!(
            shell_words(&["a-b", "", "two words", "it's", "$HOME", "org/model:q4"]),
            r"a-b '' 'two words' 'it'\''s' '$HOME' org/model:q4"
        );
    }
}
