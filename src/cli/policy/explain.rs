//! `policy explain`: why the hub did what it did.

use std::process::ExitCode;

use jiff::civil::Time;
use jiff::{ToSpan as _, Zoned};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::words;
use crate::api::{Decision, DecisionsReport};
use crate::cli::find::Hub;
use crate::cli::hub_yaml::HubYaml;
use crate::cli::render::Out;
use crate::cli::unknown::unknown;

/// Largest distance of a decision from the requested time: users remember times roughly.
const AROUND: f64 = 60.0;

/// Tell why the hub did what it did
///
/// Shows what was decided lately, the newest last: what happened, which line of which policy said so, and
/// what it was decided from. Loads, unloads and exits that no policy decided are there too, with who wanted
/// them. The running hub remembers the last 1,000 decisions about models and 250 about requests.
///
/// Exit status: 0; 1 when the hub does not run or has no such model.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// Decisions about this model or this name that a policy answers for, or that unloaded it for another
    model: Option<String>,
    /// Those around that time of day, today or, if that is still to come, yesterday
    #[arg(long, value_name = "HH:MM")]
    at: Option<Time>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    /// Print them as GET /hub/policies/decisions answers
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.running_hub().await?;
        if let Some(model) = &self.model {
            must_be_known(&hub, model).await?;
        }
        let now = Zoned::now();
        let at = self.at.map(|at| latest(at, &now)).transpose()?;
        let around = at.map(|at| (at - AROUND, at + 2.0 * AROUND));
        let report = self.ask(&hub, around).await?;
        if self.json {
            out.line(serde_json::to_string_pretty(&report)?);
            return Ok(ExitCode::SUCCESS);
        }
        let model = self.model.as_deref();
        if !report.decisions.is_empty() {
            self.print(out, &report, &now);
            return Ok(ExitCode::SUCCESS);
        }
        let about = model
            .map(|model| format!(" about {model}"))
            .unwrap_or_default();
        let Some((_, until)) = around else {
            out.info(format_args!("Nothing has been decided{about} yet"));
            return Ok(ExitCode::SUCCESS);
        };
        let time = words::time(until - 2.0 * AROUND, &now);
        let earlier = self.before(&hub, until).await?;
        match earlier.decisions.is_empty() {
            true => out.info(format_args!(
                "Nothing was decided{about} around {time}{}",
                since(&earlier, &now)
            )),
            false => {
                out.info(format_args!(
                    "Nothing was decided{about} around {time}; the last before that:"
                ));
                self.print(out, &earlier, &now);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, out: &mut Out, report: &DecisionsReport, now: &Zoned) {
        for decision in &report.decisions {
            let decision = &told_once(decision, &report.decisions);
            for line in words::paragraph(decision, self.model.as_deref(), now) {
                out.sentence(line);
            }
        }
    }

    async fn ask(&self, hub: &Hub, around: Option<(f64, f64)>) -> anyhow::Result<DecisionsReport> {
        let limit = around.is_none_or(|_| self.last != 20).then_some(self.last);
        let mut query = self.about();
        if let Some((since, until)) = around {
            query.push(format!("since={since}"));
            query.push(format!("until={until}"));
        }
        query.extend(limit.map(|limit| format!("limit={limit}")));
        Ok(hub.client.decisions(&query.join("&")).await?)
    }

    /// The last decision before that time.
    async fn before(&self, hub: &Hub, until: f64) -> anyhow::Result<DecisionsReport> {
        let mut query = self.about();
        query.push(format!("until={until}"));
        query.push("limit=1".to_owned());
        Ok(hub.client.decisions(&query.join("&")).await?)
    }

    fn about(&self) -> Vec<String> {
        let model = self.model.iter();
        model
            .map(|model| format!("model={}", utf8_percent_encode(model, NON_ALPHANUMERIC)))
            .collect()
    }
}

/// A request that a policy refused: the policy's own line gives the reason.
fn told_once(decision: &Decision, all: &[Decision]) -> Decision {
    let mut decision = decision.clone();
    let is_wish = decision.hook.is_none();
    if let Some((refused, why)) = decision
        .outcome
        .as_deref()
        .and_then(|it| it.split_once(": "))
        && is_wish
        && refused.starts_with("refused")
    {
        let tells = |other: &Decision| {
            let words = [&other.outcome, &other.reason].into_iter().flatten();
            other.hook.is_some()
                && other.model == decision.model
                && words.into_iter().any(|text| text.contains(why))
        };
        if all.iter().any(tells) {
            decision.outcome = Some(refused.to_owned());
        }
    }
    decision
}

/// The reach of the hub's history.
fn since(report: &DecisionsReport, now: &Zoned) -> String {
    report.since.map_or_else(String::new, |since| {
        format!("; the hub remembers since {}", words::time(since, now))
    })
}

/// A time of day, today or, if it is still to come, yesterday, in Unix seconds.
fn latest(at: Time, now: &Zoned) -> anyhow::Result<f64> {
    let today = now.with().time(at).build()?;
    let latest = match today > *now {
        true => today.checked_sub(1.day())?,
        false => today,
    };
    Ok(latest.timestamp().as_second() as f64)
}

async fn must_be_known(hub: &Hub, model: &str) -> anyhow::Result<()> {
    let status = hub.client.status().await?;
    let Some(hint) = unknown(&status, model) else {
        return Ok(());
    };
    let policies = hub.client.policies().await?.policies;
    match policies
        .iter()
        .any(|policy| policy.models.iter().any(|name| name == model))
    {
        true => Ok(()),
        false => anyhow::bail!("the hub has no model called `{model}`\nhint: {hint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_still_to_come_was_yesterday() {
        let now: jiff::Timestamp = "2026-11-22T13:00:00Z".parse().unwrap();
        let now = now.to_zoned(jiff::tz::TimeZone::UTC);
        let at = |text: &str| latest(text.parse().unwrap(), &now).unwrap();
        let midnight = now.start_of_day().unwrap().timestamp().as_second() as f64;
        assert_eq!(at("12:30"), midnight + 12.5 * 3600.0);
        assert_eq!(at("14:02"), midnight - 10.0 * 3600.0 + 120.0);
    }
}
