//! `policy check`: reports the problems of policies in the form of a compiler.

use std::process::ExitCode;

use crate::cli::render::Out;
use crate::config::Config;
use crate::policy::{self, Problem};

/// Load every policy and ask it about samples of everything
///
/// Reads the *.lua files beside hub.yaml and the bundled policies that it names, and calls each hook with
/// a request, loads, an idle model and an exit for every model of hub.yaml, and with a request that names
/// none. What fails, or returns what it
/// may not, is shown with file, line and choices. It asks no running hub and changes nothing.
///
/// Exit status: 0 when nothing is wrong; 1 when something is.
#[derive(Debug, clap::Args)]
pub(super) struct Check {}

impl Check {
    pub(super) fn run(self, config: &Config, out: &mut Out) -> ExitCode {
        let checked = policy::check(config);
        for policy in &checked.policies {
            let is_wrong = |problem: &Problem| is_in(&policy.name, &problem.text);
            if !checked.problems.iter().any(is_wrong) {
                let hooks = policy.hooks.join(", ");
                out.ok(format_args!("{}: {hooks}", policy.name));
            }
        }
        for problem in &checked.problems {
            out.err(told(problem));
        }
        match checked.problems.len() {
            0 => ExitCode::SUCCESS,
            1 => {
                out.line("1 problem");
                ExitCode::FAILURE
            }
            problems => {
                out.line(format_args!("{problems} problems"));
                ExitCode::FAILURE
            }
        }
    }
}

/// True if a problem is in that file.
fn is_in(file: &str, problem: &str) -> bool {
    let rest = problem.strip_prefix(file);
    rest.is_some_and(|rest| rest.starts_with(':'))
}

/// The sentence, its line, and the question.
fn told(problem: &Problem) -> String {
    let mut text = problem.text.clone();
    if let Some(excerpt) = &problem.excerpt {
        let number = excerpt.line.to_string();
        let gutter = " ".repeat(number.len());
        text.push_str(&format!(
            "\n{gutter} |\n{number} | {}\n{gutter} |",
            excerpt.text
        ));
    }
    if let Some(asked) = &problem.asked {
        text.push_str(&format!("\nasked: {asked}"));
    }
    text
}
