//! `policy record`: records the questions and verdicts of the hooks for `policy replay`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::words;
use crate::api::RecordingReport;
use crate::cli::hub_yaml::HubYaml;
use crate::cli::render::Out;

/// Record every call of a hook, for `policy replay`
///
/// The running hub writes one line of JSON per call: when, about which model, what a policy could see, and
/// what was decided. Texts of requests are left out: of a body only sizes, numbers and booleans, of the
/// headers content-type, content-length and user-agent. It is off until you switch it on, and ends by
/// itself with the hub or before the file is larger than 64 MiB.
///
/// Exit status: 0; 1 when the hub does not run, or the file cannot be made.
#[derive(Debug, clap::Args)]
pub(super) struct Record {
    #[command(subcommand)]
    switch: Switch,
}

#[derive(Debug, Subcommand)]
enum Switch {
    /// Begin a recording
    On {
        /// A new file that ends in .jsonl; without it, one in the folder of the logs
        file: Option<PathBuf>,
    },
    /// End the recording
    Off,
    /// Say whether a recording is on, and how large it is
    Status,
}

impl Record {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.running_hub().await?;
        match self.switch {
            Switch::On { file } => {
                let file = file.as_deref().map(std::path::absolute).transpose()?;
                let report = hub.client.start_recording(file.as_deref()).await?;
                out.ok(format_args!("Recording to {}", name(&report)));
                out.line(
                    "Prompts and answers are left out. `policy record off` ends the recording.",
                );
            }
            Switch::Off => {
                let was = hub.client.recording().await?;
                let report = hub.client.stop_recording().await?;
                match was.recording {
                    true => out.ok(format_args!(
                        "Recorded {} to {}",
                        sizes(&report),
                        name(&report)
                    )),
                    false => out.info("Nothing is being recorded"),
                }
                problems(out, &report);
            }
            Switch::Status => {
                let report = hub.client.recording().await?;
                match (report.recording, report.since) {
                    (true, Some(since)) => {
                        let since = words::time(since, &jiff::Zoned::now());
                        out.info(format_args!(
                            "Recording to {} since {since}: {}",
                            name(&report),
                            sizes(&report)
                        ));
                    }
                    _ => out.info("Nothing is being recorded"),
                }
                problems(out, &report);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn name(report: &RecordingReport) -> String {
    let file = report.file.as_deref().map(Path::new);
    file.map_or_else(String::new, |file| file.display().to_string())
}

fn sizes(report: &RecordingReport) -> String {
    format!(
        "{}, {} (limit {} MiB)",
        words::calls(report.calls),
        size(report.bytes),
        report.limit_bytes >> 20
    )
}

/// `3 KiB`, and from 1 MiB on `12.4 MiB`.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

fn problems(out: &mut Out, report: &RecordingReport) {
    if report.dropped > 0 {
        out.warn(format_args!(
            "{} left out: the disk was too slow",
            words::calls(report.dropped)
        ));
    }
    if let Some(error) = &report.error {
        out.warn(format_args!(
            "The recording to {} ended: {error}",
            name(report)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_unit_that_fits() {
        let sizes = [0, 1, 1 << 10, (1 << 20) - 1, 1 << 20, 13_000_000];
        assert_eq!(
            sizes.map(size),
            ["0 KiB", "1 KiB", "1 KiB", "1024 KiB", "1.0 MiB", "12.4 MiB"]
        );
    }
}
