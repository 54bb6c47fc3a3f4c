//! `watch`: shows the processes repeatedly.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::NOT_RUNNING;
use super::find::HubAddress;
use super::hub_yaml::HubYaml;
use super::render::Out;
use super::table::print_processes;
use crate::api::{ProcessState, Status, unix_now};

/// Shortest useful interval.
const MIN_INTERVAL: f64 = 0.5;

/// Print the state of all processes every few seconds
///
/// Goes on until Ctrl+C, also while the hub is not running: it shows up when it comes back.
///
/// Exit status: 0 after Ctrl+C; 1 when no hub runs and hub.yaml is not valid.
#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// Seconds between two looks, 0.5 at least
    #[arg(long, value_name = "SECONDS", default_value = "5.0", value_parser = interval, allow_negative_numbers = true)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    if seconds.is_nan() {
        return Err("not a number of seconds".to_owned());
    }
    Duration::try_from_secs_f64(seconds.max(MIN_INTERVAL)).map_err(|error| error.to_string())
}

impl Watch {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        // From here on, and not from the first wait.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hub_address = hub_yaml.hub_address();
        // The hub, and the hub.yaml to fall back on, are determined once.
        let _ = hub_yaml.hub().await?;
        out.line("Watching hub manager (press Ctrl+C to stop)...");
        while !out.is_closed() {
            let pause = async {
                look(&hub_address, out).await;
                tokio::time::sleep(self.interval).await;
            };
            tokio::select! {
                () = pause => {}
                _ = interrupt.recv() => {
                    out.line("Stopped watching hub manager");
                    break;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn look(hub_address: &HubAddress, out: &mut Out) {
    let hub = match hub_address.hub().await {
        Ok(Some(hub)) => hub,
        Ok(None) => return out.line(NOT_RUNNING),
        Err(error) => return out.err(error),
    };
    match hub.client.status().await {
        Ok(status) => print(&status, out),
        Err(error) => out.err(error),
    }
}

fn print(status: &Status, out: &mut Out) {
    let count = |state| {
        let models = status.models.iter();
        models
            .filter(|model| model.metadata.facts.process_state == state)
            .count()
    };
    let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    out.line(format_args!(
        "[{now}] models={} running={} stopped={} failed={}",
        status.models.len(),
        count(ProcessState::Running),
        count(ProcessState::Stopped),
        count(ProcessState::Failed),
    ));
    print_processes(out, status, unix_now());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_interval_is_under_half_a_second() {
        for (text, seconds) in [
            ("5.0", 5.0),
            ("0.5", 0.5),
            ("0.1", 0.5),
            ("0", 0.5),
            ("-3", 0.5),
        ] {
            assert_eq!(
                interval(text),
                Ok(Duration::from_secs_f64(seconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_interval_is_a_finite_number() {
        for text in ["soon", "", "nan", "inf", "1e300"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
