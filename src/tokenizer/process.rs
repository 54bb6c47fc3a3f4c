//! The process that counts: it reads a tokenizer, then a line of texts at a time, and writes a number for each.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use tokenizers::Tokenizer;

/// The first line of a process that has read its tokenizer.
pub(super) const READY: &str = "ready";
/// The line for texts that could not be counted.
const REFUSED: &str = "refused";

/// Answers until the end of stdin. Its first line is [`READY`] or why the file is of no use.
pub(crate) fn serve(file: &Path) -> ExitCode {
    let mut counts = std::io::stdout().lock();
    let tokenizer = match read(file) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            let _ = writeln!(counts, "{error}").and_then(|()| counts.flush());
            return ExitCode::FAILURE;
        }
    };
    if writeln!(counts, "{READY}").is_err() {
        return ExitCode::FAILURE;
    }
    let mut texts = std::io::stdin().lock();
    let mut line = Vec::new();
    while matches!(texts.read_until(b'\n', &mut line), Ok(1..)) {
        let answer = match count(&tokenizer, &line) {
            Some(count) => count.to_string(),
            None => REFUSED.to_owned(),
        };
        if writeln!(counts, "{answer}").is_err() {
            return ExitCode::FAILURE;
        }
        // A long one is rare.
        line = Vec::new();
    }
    ExitCode::SUCCESS
}

fn read(file: &Path) -> Result<Tokenizer, String> {
    let mut tokenizer = Tokenizer::from_file(file).map_err(|error| {
        // In one line.
        error.to_string().replace('\n', " ")
    })?;
    // Some files ask for texts of one length.
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(None)
        .map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

/// The tokens of all texts of a line.
fn count(tokenizer: &Tokenizer, line: &[u8]) -> Option<usize> {
    let texts: Vec<String> = serde_json::from_slice(line).ok()?;
    texts.iter().try_fold(0, |tokens, text| {
        let encoding = tokenizer.encode_fast(text.as_str(), false).ok()?;
        Some(tokens + encoding.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_all_texts_counts_whatever_length_the_file_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");
        let written = serde_json::json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": {
                "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]",
            },
            "added_tokens": [], "normalizer": null, "post_processor": null, "decoder": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"},
        });
        std::fs::write(&file, written.to_string()).unwrap();
        let tokenizer = read(&file).unwrap();
        assert_eq!(count(&tokenizer, br#"["a a b c", "", "a"]"#), Some(5));
        assert_eq!(count(&tokenizer, b"a"), None);
        std::fs::write(&file, "{}").unwrap();
        assert!(!read(&file).unwrap_err().contains('\n'));
    }
}
