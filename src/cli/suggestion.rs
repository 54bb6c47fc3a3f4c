//! The suggestion for a mistyped command. clap finds words similar that share some letters: for `show` it
//! suggests `shutdown`. No suggestion here names a command that ends something.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::api::nearest;

/// The commands that end the hub or a model.
const ENDING: [&str; 3] = ["shutdown", "stop", "stop-model"];

/// The commands of similar programs.
const ELSEWHERE: [(&str, &[&str]); 2] = [("show", &["status"]), ("log", &["logs"])];

/// The error with harmless suggestions.
pub(super) fn harmless(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let typed = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(typed)) => typed.clone(),
        _ => String::new(),
    };
    let suggested = match error.remove(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(suggested)) => suggested,
        Some(ContextValue::String(suggested)) => vec![suggested],
        _ => Vec::new(),
    };
    let better = better(&typed, suggested);
    if !better.is_empty() {
        let better = ContextValue::Strings(better);
        error.insert(ContextKind::SuggestedSubcommand, better);
    }
    error
}

fn better(typed: &str, suggested: Vec<String>) -> Vec<String> {
    let elsewhere = ELSEWHERE.iter().find(|(word, _)| *word == typed);
    if let Some((_, ours)) = elsewhere {
        return ours.iter().map(|word| (*word).to_owned()).collect();
    }
    let harmless = suggested
        .into_iter()
        .filter(|word| !ENDING.contains(&word.as_str()));
    // Only close matches, and few enough to read.
    let mut alike: Vec<String> = harmless
        .filter(|word| nearest(typed, [word.as_str()]).is_some())
        .collect();
    alike.truncate(3);
    alike
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_what_ends_something() {
        let all = || ["shutdown", "stop", "status", "start", "demo"].map(str::to_owned);
        for (typed, better_ones) in [
            ("show", &["status"][..]),
            ("log", &["logs"]),
            ("stpo", &[]),
            ("shutdwon", &[]),
            ("statsu", &["status", "start"]),
            ("xyz", &[]),
        ] {
            assert_eq!(better(typed, all().into()), better_ones, "{typed}");
        }
    }
}
