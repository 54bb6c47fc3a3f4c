//! `pull`: downloads a model of the Hugging Face hub ahead of its use.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::hub_yaml::HubYaml;
use super::progress;
use super::render::{Out, bytes, duration, with_tilde};
use crate::download::{Api, DownloadError, Plan, is_revision};
use crate::model_files;

/// The revision that counts where none is named.
const MAIN: &str = "main";
/// The rate is that of so much time.
const WINDOW: Duration = Duration::from_secs(15);
/// Width of the bar, in characters.
const BAR: usize = 24;

/// Download a model ahead of its use
///
/// Brings the files that a worker reads from a repository of the Hugging Face hub into the cache in
/// which workers look for them (HF_HUB_CACHE, HF_HOME). It checks first that the disk has room, goes
/// on where an earlier download broke off, its own or a worker's, and compares weights with the hub's
/// SHA-256. A private or gated model needs HF_TOKEN, or `hf auth login`; HF_ENDPOINT names another hub.
///
/// Examples:
///   mlx-openai-server-hub pull mlx-community/Qwen3-4B-Instruct-2507-4bit
///   mlx-openai-server-hub pull org/name@v1.0 --all
///
/// Exit status: 0, also when all of it is here; 1 when it cannot be had, or after Ctrl+C: what has come
/// is kept.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Pull {
    /// A repository's id, org/name, and perhaps a branch, tag or commit of it
    #[arg(value_name = "REPO[@REVISION]")]
    repository: String,
    /// All files, also those that no worker reads
    #[arg(long)]
    all: bool,
}

type SharedPlan = RefCell<Option<Arc<Plan>>>;

impl Pull {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let plan = SharedPlan::default();
        tokio::select! {
            done = Box::pin(self.download(hub_yaml, &plan, out)) => done?,
            _ = interrupt.recv() => return Err(stopped(plan.take().as_deref())),
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn download(
        &self,
        hub_yaml: &HubYaml,
        shared: &SharedPlan,
        out: &mut Out,
    ) -> anyhow::Result<()> {
        let named = self.repository.split_once('@');
        let (id, revision) = named.unwrap_or((&self.repository, MAIN));
        let repository = model_files::repository(id);
        let repository = repository
            .filter(|_| is_revision(revision))
            .with_context(|| {
                format!(
                    "`{}` names no repository\nhint: it is `org/name`, or `org/name@revision`",
                    self.repository
                )
            })?;
        let api = Api::of(&|name| std::env::var_os(name))?;
        let plan = {
            let (api, revision, all) = (api.clone(), revision.to_owned(), self.all);
            let what = format!("asking {}", api.endpoint());
            let plan = on_thread(move || Plan::of(&api, repository, &revision, all));
            Arc::new(progress::show(&what, plan).await?)
        };
        let total = bytes(plan.total);
        if plan.is_complete() {
            out.ok(format_args!("All of {id} is here: {total}"));
        } else {
            if let Some(lacking) = plan.lacking() {
                anyhow::bail!(
                    "the disk has no room for {id}: {} are needed, and {} are free at `{}`\n\
                     hint: free some, or set HF_HUB_CACHE to a folder on another disk",
                    bytes(lacking.needed),
                    bytes(lacking.free),
                    lacking.folder.display()
                );
            }
            *shared.borrow_mut() = Some(Arc::clone(&plan));
            let (begun, here) = (Instant::now(), plan.here());
            let goes_on = match here {
                0 => String::new(),
                here => format!(", of which {} are here", bytes(here)),
            };
            out.info(format_args!("{id}: {total}{goes_on}"));
            let fetching = {
                let plan = Arc::clone(&plan);
                on_thread(move || plan.fetch(&api))
            };
            let rate = Rate::default();
            let text = || rate.text(&plan);
            progress::show_changing(begun, &text, fetching).await?;
            let took = duration(begun.elapsed());
            out.ok(format_args!(
                "Downloaded {id}: {} in {took}",
                bytes(plan.total - here)
            ));
        }
        next_step(id, revision, &plan, hub_yaml, out);
        Ok(())
    }
}

/// The next step with the model.
fn next_step(id: &str, revision: &str, plan: &Plan, hub_yaml: &HubYaml, out: &mut Out) {
    // Workers read `main` of a repository; another revision is a folder to them.
    let model_path = match revision {
        MAIN => id.to_owned(),
        _ => with_tilde(&plan.snapshot().display().to_string()),
    };
    let config = hub_yaml.config().ok();
    let models = config.map_or(&[][..], |config| &config.models);
    match models.iter().find(|model| model.model_path == model_path) {
        Some(model) => out.line(format_args!("hub.yaml has it: {}", model.name)),
        None => {
            let add = super::hub_command(&hub_yaml.path, &["add", &model_path]);
            out.line(format_args!("Add it: {add}"));
        }
    }
}

fn stopped(plan: Option<&Plan>) -> anyhow::Error {
    match plan {
        Some(plan) => anyhow::anyhow!(
            "stopped; {} of {} are here\nhint: the same command goes on from there",
            bytes(plan.here()),
            bytes(plan.total)
        ),
        None => anyhow::anyhow!("stopped"),
    }
}

/// The result of blocking work. Whoever stops waiting leaves it alone until the process ends.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DownloadError> + Send + 'static,
) -> anyhow::Result<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = sender.send(work());
    });
    let done = receiver.await.context("the download ended unexpectedly")?;
    Ok(done?)
}

/// Measures the rate at which bytes come.
#[derive(Default)]
struct Rate(RefCell<VecDeque<(Instant, u64)>>);

impl Rate {
    /// `1.2 GB of 4.3 GB, 45.1 MB/s, 1m08s left`, on a terminal with a bar.
    fn text(&self, plan: &Plan) -> String {
        let (here, total) = (plan.here(), plan.total);
        let bar = match std::io::stderr().is_terminal() {
            true => format!("[{}] ", bar(here, total)),
            false => String::new(),
        };
        let speed = self.speed(Instant::now(), here);
        format!("{bar}{}", amount(here, total, speed))
    }

    /// Bytes per second in the time before `now`, when so many are here.
    fn speed(&self, now: Instant, here: u64) -> Option<f64> {
        let mut moments = self.0.borrow_mut();
        moments.push_back((now, here));
        while moments
            .get(1)
            .is_some_and(|(then, _)| now - *then >= WINDOW)
        {
            moments.pop_front();
        }
        let (then, before) = moments.front()?;
        let seconds = (now - *then).as_secs_f64();
        (seconds > 0.5).then(|| here.saturating_sub(*before) as f64 / seconds)
    }
}

fn amount(here: u64, total: u64, speed: Option<f64>) -> String {
    let mut text = format!("{} of {}", bytes(here), bytes(total));
    if let Some(speed) = speed {
        text += &format!(", {}/s", bytes(speed as u64));
        if speed >= 1.0 {
            let left = (total - here) as f64 / speed;
            let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
            text += &format!(", {} left", duration(left));
        }
    }
    text
}

fn bar(here: u64, total: u64) -> String {
    let share = here as f64 / total.max(1) as f64;
    let done = ((share * BAR as f64) as usize).min(BAR);
    "#".repeat(done) + &"-".repeat(BAR - done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_and_not_before() {
        assert_eq!(bar(0, 100), "-".repeat(24));
        assert_eq!(bar(50, 100), "############------------");
        assert_eq!(bar(99, 100), "#######################-");
        assert_eq!(bar(100, 100), "#".repeat(24));
        assert_eq!(bar(0, 0), "-".repeat(24));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let rate = Rate::default();
        let begin = Instant::now();
        let at = |seconds: u64, here: u64| rate.speed(begin + Duration::from_secs(seconds), here);
        assert_eq!(at(0, 1000), None);
        assert_eq!(at(10, 1100), Some(10.0));
        assert_eq!(at(20, 1600), Some(30.0));
        assert_eq!(at(30, 1600), Some(25.0));
        assert_eq!(at(60, 1600), Some(0.0), "nothing came for long");
    }

    #[test]
    fn an_amount_has_a_rate_and_the_time_that_is_left() {
        insta::assert_snapshot!(
            [
                amount(0, 4_300_000_000, None),
                amount(1_200_000_000, 4_300_000_000, Some(45_100_000.0)),
                amount(1_200_000_000, 4_300_000_000, Some(0.0)),
            ]
            .join("\n"),
            @"
        0 B of 4.3 GB
        1.2 GB of 4.3 GB, 45.1 MB/s, 1m08s left
        1.2 GB of 4.3 GB, 0 B/s
        "
        );
    }
}
