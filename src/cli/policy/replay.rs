//! `policy replay`: shows the recorded decisions that the current policies would make otherwise.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::words;
use crate::cli::render::Out;
use crate::config::Config;
use crate::policy::{self, Difference, Replayed, Said};

/// Ask the policies as they are now about what was recorded
///
/// Puts every call of a hook in FILE, a recording of `policy record`, to the policies beside hub.yaml and
/// the bundled ones that it names, with the models, the memory and the clock of then, and shows each
/// decision that would be another. It needs no running hub, and starts nothing. Observers receive
/// the recorded events, and `hub.state` begins empty.
///
/// Exit status, as of diff: 0 when nothing differs; 1 when something does; 2 when it could not be found
/// out.
#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// The recording
    file: PathBuf,
}

impl Replay {
    pub(super) fn run(self, config: &Path, out: &mut Out) -> ExitCode {
        let trouble = |text: String| {
            Out::stderr().sentence(format_args!("Error: {text}"));
            ExitCode::from(2)
        };
        let config = match Config::load(config) {
            Ok(config) => config,
            Err(error) => return trouble(error.to_string()),
        };
        match policy::replay(&config, &self.file) {
            Ok(replayed) => print(out, &replayed),
            Err(problem) => trouble(problem),
        }
    }
}

fn print(out: &mut Out, replayed: &Replayed) -> ExitCode {
    let now = jiff::Zoned::now();
    for difference in &replayed.differences {
        let Difference {
            time,
            times,
            hook,
            model,
            before,
            now: after,
        } = difference;
        let when = words::time(*time, &now);
        let model = model.as_deref().unwrap_or(words::NO_MODEL);
        let times = if *times > 1 {
            format!("  ({times} times)")
        } else {
            String::new()
        };
        out.sentence(format_args!(
            "{when}  {model}  {hook}: {} → {}{times}",
            told(before),
            told(after)
        ));
    }
    for failure in &replayed.failures {
        out.err(failure);
    }
    for (hook, tally) in &replayed.hooks {
        let calls = words::calls(tally.calls);
        let skipped = match tally.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} not compared"),
        };
        out.sentence(format_args!(
            "{hook}: {calls}, {} would differ{skipped}",
            tally.different
        ));
    }
    if replayed.unrecorded > 0 {
        out.warn(format_args!(
            "{} read something of a request that is not recorded, as its text: nil was seen, or the call not compared",
            words::calls(replayed.unrecorded)
        ));
    }
    if replayed.dropped > 0 {
        out.warn(format_args!(
            "{} missing: the recorder left them out",
            words::calls(replayed.dropped)
        ));
    }
    let calls: u64 = replayed.hooks.values().map(|tally| tally.calls).sum();
    match replayed.is_same() {
        true if calls == 0 => {
            out.warn("Nothing was compared: the recording has no call that could be");
            ExitCode::SUCCESS
        }
        true => {
            out.ok("Every call would be decided as it was");
            ExitCode::SUCCESS
        }
        false => ExitCode::from(1),
    }
}

/// A verdict with its line.
fn told(said: &Said) -> String {
    let verdict = words::verdict(&said.verdict, &said.fields);
    match &said.place {
        Some(place) => format!("{verdict} ({place})"),
        None => format!("{verdict} (nobody)"),
    }
}
