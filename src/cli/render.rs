//! Formats the command line's output: lines with marks and colours, durations and command lines.
//!
//! Every verb prints through [`Out`]. It writes colour only to a terminal (and never with `NO_COLOR`), and a
//! closed pipe (`status | head -1`) is no error: the work goes on.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anstream::adapter::strip_str;
use clap::builder::styling::{AnsiColor, Style};

pub(super) use crate::api::bytes;
use crate::api::local_authority;
use crate::clients::shell_words;

/// stdout, which takes a command's answer, or stderr where stdout belongs to another program.
pub(super) struct Out {
    stream: Box<dyn Write>,
    /// Asks for the width, which changes with the terminal's window.
    width: fn() -> Option<usize>,
    closed: bool,
}

impl Out {
    pub(super) fn stdout() -> Self {
        Self::to(anstream::stdout(), || width_of(std::io::stdout()))
    }

    pub(super) fn stderr() -> Self {
        Self::to(anstream::stderr(), || width_of(std::io::stderr()))
    }

    fn to(stream: impl Write + 'static, width: fn() -> Option<usize>) -> Self {
        Self {
            stream: Box::new(stream),
            width,
            closed: false,
        }
    }

    /// True if the reader has gone. Endless commands check it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Width of a line in characters; `None` if unlimited.
    pub(super) fn width(&self) -> Option<usize> {
        (self.width)()
    }

    /// Prints sentences, on a terminal broken between words.
    pub(super) fn sentence(&mut self, text: impl Display) {
        let (text, width) = (text.to_string(), self.width());
        let lines: Vec<String> = text.lines().map(|line| wrapped(line, width)).collect();
        self.line(lines.join("\n"));
    }

    /// Prints a command line, on a terminal broken between words as a shell takes it.
    pub(super) fn command_line(&mut self, indent: usize, words: &[String]) {
        let words = words
            .iter()
            .map(|word| shell_words(std::slice::from_ref(word)) + " ");
        let mut words: Vec<String> = words.collect();
        if let Some(first) = words.first_mut() {
            first.insert_str(0, &" ".repeat(indent));
        }
        let text = broken(
            words.iter().map(String::as_str),
            indent + 2,
            self.width(),
            " \\",
        );
        self.line(text);
    }

    /// Prints one line unchanged.
    pub(super) fn line(&mut self, text: impl Display) {
        let written = writeln!(self.stream, "{text}").and_then(|()| self.stream.flush());
        self.closed |= written.is_err();
    }

    /// Prints a text unchanged.
    pub(super) fn text(&mut self, text: &str) {
        let written = write!(self.stream, "{text}").and_then(|()| self.stream.flush());
        self.closed |= written.is_err();
    }

    pub(super) fn info(&mut self, text: impl Display) {
        self.sentence(info(text));
    }

    pub(super) fn ok(&mut self, text: impl Display) {
        self.sentence(marked("ok", AnsiColor::Green, text));
    }

    pub(super) fn warn(&mut self, text: impl Display) {
        self.sentence(marked("warn", AnsiColor::Yellow, text));
    }

    pub(super) fn err(&mut self, text: impl Display) {
        self.sentence(marked("err", AnsiColor::Red, text));
    }

    /// Prints the path of the logs.
    pub(super) fn log_path(&mut self, log_path: &Path) {
        self.line(format_args!("Hub log path: {}", log_path.display()));
    }

    /// Prints the address of the dashboard, if it is enabled.
    pub(super) fn status_page(&mut self, is_enabled: bool) {
        self.line(format_args!("Status page enabled: {}", yes_no(is_enabled)));
    }
}

/// An `[info]` message, for a stream that leaves colours out where none are wanted.
pub(super) fn info(text: impl Display) -> String {
    marked("info", AnsiColor::Cyan, text)
}

fn marked(mark: &str, color: AnsiColor, text: impl Display) -> String {
    let style = Style::new().fg_color(Some(color.into()));
    // Further lines of a message are indented below its mark.
    let text = text.to_string().replace('\n', "\n  ");
    format!("{style}[{mark}]{style:#} {text}")
}

/// Width of a terminal.
pub(super) fn width_of(stream: impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(size.ws_col.into()).filter(|width| *width > 0)
}

/// A line broken between words where it is wider than the terminal; what follows is indented one step deeper.
fn wrapped(line: &str, width: Option<usize>) -> String {
    let indent = line.len() - line.trim_start().len() + 2;
    broken(line.split_inclusive(' '), indent, width, "")
}

/// The words, each with the blank behind it, in lines of that width that end with `end` but for the last one. A
/// word that is wider alone is for the terminal to break.
fn broken<'w>(
    words: impl Iterator<Item = &'w str>,
    indent: usize,
    width: Option<usize>,
    end: &str,
) -> String {
    let width = width.map_or(usize::MAX, |width| width.saturating_sub(end.len()));
    // Colours take no room.
    let shown = |text: &str| strip_str(text).to_string().chars().count();
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        let length = shown(word.trim_end());
        match lines.last_mut() {
            Some(last) if last.trim().is_empty() || shown(last) + length <= width => {
                last.push_str(word);
            }
            None => lines.push(word.to_owned()),
            Some(_) => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join(&format!("{end}\n"))
}

pub(super) fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// `1h05m`, `1m40s`, `12s`: the two largest units, rounded down.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{:02}s", seconds % 60),
        _ => format!("{hours}h{minutes:02}m"),
    }
}

/// A path below the home folder as a user would write it.
pub(super) fn with_tilde(path: &str) -> String {
    let home = std::env::home_dir().filter(|home| home.as_os_str().len() > 1);
    let below = home.and_then(|home| {
        let below = Path::new(path).strip_prefix(home).ok()?;
        Some(format!("~/{}", below.display()))
    });
    below.unwrap_or_else(|| path.to_owned())
}

/// The dashboard's URL for a browser on this machine.
pub(super) fn dashboard_url(host: &str, port: u16) -> String {
    format!("http://{}/hub", local_authority(host, port))
}

/// The base URL for clients on this machine.
pub(super) fn api_url(host: &str, port: u16) -> String {
    format!("http://{}/v1", local_authority(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_broken_between_words() {
        let line = "  a: failed: the folder is not there; see `logs a`";
        assert_eq!(wrapped(line, None), line);
        assert_eq!(wrapped(line, Some(50)), line);
        insta::assert_snapshot!(wrapped(line, Some(24)), @"
        a: failed: the folder
          is not there; see
          `logs a`
        ");
        assert_eq!(
            wrapped("  a: /a/long/path", Some(8)),
            "  a:\n    /a/long/path"
        );
        let words = ["program", "--text", "a b"].map(str::to_owned);
        let words = words
            .iter()
            .map(|word| shell_words(std::slice::from_ref(word)) + " ");
        let words: Vec<String> = words.collect();
        let words = || words.iter().map(String::as_str);
        assert_eq!(broken(words(), 2, None, " \\"), "program --text 'a b'");
        assert_eq!(
            broken(words(), 2, Some(18), " \\"),
            "program --text \\\n  'a b'"
        );
        let coloured = info("one two");
        assert_eq!(wrapped(&coloured, Some(14)), coloured);
        assert!(wrapped(&coloured, Some(13)).ends_with("one\n  two"));
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (12, "12s"),
            (59, "59s"),
            (60, "1m00s"),
            (100, "1m40s"),
            (3599, "59m59s"),
            (3600, "1h00m"),
            (3900, "1h05m"),
            (90_000, "25h00m"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }
}
