//! Asks on the terminal. In a pipe nobody can answer, so nothing is asked there.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// True if a user can answer.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// The answer to a question, trimmed; empty at the end of the input.
pub(super) fn ask(question: &str) -> std::io::Result<String> {
    Ok(line(question)?.unwrap_or_default())
}

/// True for yes, which an empty line means too; the end of the input means no.
pub(super) fn confirm(question: &str) -> std::io::Result<bool> {
    let answer = line(&format!("{question} [Y/n]"))?;
    let answer = answer.map(|answer| answer.to_lowercase());
    Ok(matches!(answer.as_deref(), Some("" | "y" | "yes")))
}

/// A line after a question, trimmed; `None` at the end of the input.
pub(super) fn line(question: &str) -> std::io::Result<Option<String>> {
    let mut stderr = anstream::stderr();
    write!(stderr, "{question} ")?;
    stderr.flush()?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer)?;
    Ok((read > 0).then(|| answer.trim().to_owned()))
}
