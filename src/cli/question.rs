//! Asks on the terminal. In a pipe nobody can answer, so nothing is asked there.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// True if a user can answer.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// True for yes, which an empty line means too; the end of the input means no.
pub(super) fn confirm(question: &str) -> std::io::Result<bool> {
    let mut stderr = anstream::stderr();
    write!(stderr, "{question} [Y/n] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    let is_end = std::io::stdin().lock().read_line(&mut answer)? == 0;
    let answer = answer.trim().to_lowercase();
    Ok(!is_end && (answer.is_empty() || answer == "y" || answer == "yes"))
}
