//! `top`: a live view of the whole screen, with keys for what commands do.
//!
//! [`feed`] brings what the hub tells, the terminal brings keys and sizes; [`view`] has what follows from them, and
//! [`screen`] draws it. The terminal is restored however the command ends: by a key, a signal or a panic.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use crossterm::event::{self, Event};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::tz::TimeZone;
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::{MissedTickBehavior, interval};

use super::hub_yaml::HubYaml;
use crate::api::{Verb, unix_now};
use crate::telemetry::Followed;
use feed::Fed;
use view::{Act, View};

mod feed;
mod screen;
mod view;

/// Interval at which times are brought up to date, and a log is read.
const TICK: Duration = Duration::from_secs(1);
/// Lines of a log.
const LINES: usize = 200;

/// Watch the hub on the whole screen, and act on models
///
/// Shows each model with its state, memory, tokens per second and requests in flight and waiting, the memory of
/// the machine, and the last requests, as they change. It goes on while the hub is not running: the hub shows up
/// when it comes back.
///
/// Keys: arrows choose a model; s starts it, x stops it, l loads it, u unloads it, g shows its log; ? explains
/// them, q ends.
///
/// Exit status: 0; 1 without a terminal, or when no hub runs and hub.yaml is not valid.
#[derive(Debug, clap::Args)]
pub(super) struct Top {}

/// The outcome of a verb.
type Done = (String, Verb, Result<String, String>);

impl Top {
    pub(super) async fn run(self, hub_yaml: &HubYaml) -> anyhow::Result<ExitCode> {
        ensure!(
            std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
            "`top` needs a terminal\nhint: `status` shows the models once, `watch` again and again"
        );
        // A hub.yaml that leads nowhere is told before the screen is taken.
        let _ = hub_yaml.hub().await?;
        let mut view = View::new(TimeZone::system());
        let mut terminal = Screen::take()?;
        let events = keys();
        Box::pin(run(&mut terminal.0, &mut view, events, hub_yaml)).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The whole screen; dropped, it is as it was before.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> anyhow::Result<Self> {
        // A panic restores it too, before its message is shown.
        let terminal = ratatui::try_init().context("the terminal cannot be used")?;
        Ok(Self(terminal))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Keys and sizes, read by a thread of their own that ends with the process.
fn keys() -> UnboundedReceiver<Event> {
    let (send, events) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read()
            && send.send(event).is_ok()
        {}
    });
    events
}

async fn run(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    mut events: UnboundedReceiver<Event>,
    hub_yaml: &HubYaml,
) -> anyhow::Result<()> {
    let mut ends = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    let (send, mut fed) = mpsc::unbounded_channel();
    let address = hub_yaml.hub_address();
    let mut feeding = Box::pin(feed::feed(&address, send));
    let mut acting: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        view.now = unix_now();
        terminal.draw(|frame| screen::draw(frame, view))?;
        let [interrupt, terminate, hangup] = &mut ends;
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return Ok(()) };
                match view.take(&event) {
                    Some(Act::Quit) => return Ok(()),
                    Some(Act::Verb(verb, model)) => {
                        let client = view.client.clone();
                        acting.push(async move {
                            let answer = match &client {
                                Some(client) => client.act(&model, verb).await.map_err(|error| error.to_string()),
                                None => Err("no hub runs".to_owned()),
                            };
                            (model, verb, answer)
                        }.boxed());
                    }
                    Some(Act::Log) => read_log(view),
                    None => {}
                }
            }
            Some(news) = fed.recv() => view.hear(news),
            Some((model, verb, answer)) = acting.next() => view.done(&model, verb, answer),
            () = &mut feeding => {}
            _ = ticks.tick() => read_log(view),
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}

/// Reads the end of the log that is shown, if one is.
fn read_log(view: &mut View) {
    let Some(path) = view.log_path() else { return };
    let text = Followed::open(&path, LINES).and_then(|mut log| {
        let mut text = String::new();
        while let Some(piece) = log.read()? {
            text += &piece;
        }
        Ok(text)
    });
    view.show_log(match text {
        Ok(text) => anstream::adapter::strip_str(&text).to_string(),
        Err(error) => format!("the log `{}` cannot be read: {error}", path.display()),
    });
}
