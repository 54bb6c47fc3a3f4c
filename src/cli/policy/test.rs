//! `policy test`: runs `*_test.lua` in simulated hubs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::super::render::Out;
use crate::simulation::{self, Case};

/// Run tests of policies, in a simulated hub with a clock that they set
///
/// A test is a *_test.lua file beside the policies. It starts nothing and touches no running hub: models
/// load in no time of yours, and hours pass when the test says so. docs/testing-policies.md shows how to write one.
///
/// Exit status: 0 when every case passed; 1 when one failed, or there is none.
#[derive(Debug, clap::Args)]
pub(super) struct Test {
    /// The tests to run; without any, all *_test.lua in the folder of hub.yaml
    files: Vec<PathBuf>,
}

impl Test {
    pub(super) fn run(self, config: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        let files = match self.files.is_empty() {
            true => {
                let folder = config.parent().unwrap_or(Path::new("."));
                tests_in(folder, "docs/testing-policies.md")?
            }
            false => self.files,
        };
        Ok(run_all(&files, config, out))
    }
}

/// Runs the cases of these files, and prints how each went.
pub(in crate::cli) fn run_all(files: &[PathBuf], config: &Path, out: &mut Out) -> ExitCode {
    let mut totals = Totals::default();
    for file in files {
        for case in simulation::run(file, &hub_yaml(file, config)) {
            totals.count(&case);
            print(file, &case, out);
        }
    }
    out.line(totals.text());
    match totals.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// All tests of a folder, by name; `page` of the documentation tells how to write one.
pub(in crate::cli) fn tests_in(folder: &Path, page: &str) -> anyhow::Result<Vec<PathBuf>> {
    let shown = folder.display();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.to_string_lossy().ends_with("_test.lua"));
    files.sort();
    if files.is_empty() {
        anyhow::bail!(
            "no *_test.lua in {shown}\nhint: name the files to run, or write one: {page}"
        );
    }
    Ok(files)
}

/// The hub.yaml beside a test, or else the one in use.
fn hub_yaml(file: &Path, config: &Path) -> PathBuf {
    let beside = file.with_file_name("hub.yaml");
    match beside.is_file() {
        true => beside,
        false => config.to_owned(),
    }
}

fn print(file: &Path, case: &Case, out: &mut Out) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match &case.failure {
        None => out.ok(format_args!("{name}: {}", case.name)),
        Some(failure) => {
            let place = case.place.as_deref().unwrap_or(&name);
            let title = if case.name.is_empty() {
                "it does not run"
            } else {
                &case.name
            };
            out.err(format_args!("{place}: {title}\n{failure}"));
        }
    }
    for line in &case.printed {
        out.line(format_args!("  | {line}"));
    }
}

#[derive(Default)]
struct Totals {
    passed: usize,
    failed: usize,
}

impl Totals {
    fn count(&mut self, case: &Case) {
        match case.failure {
            None => self.passed += 1,
            Some(_) => self.failed += 1,
        }
    }

    fn text(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}
