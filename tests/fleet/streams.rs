//! Streams through the gateway, while their hub is drained or killed.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::ask::{ask, chat, patient_client, with_key};
use crate::support::{SOON, processes, wait_until};
use crate::world::World;

/// No stream of a test takes longer.
const LONG: Duration = Duration::from_secs(120);

/// A stream that is read on a thread.
pub(crate) struct Stream {
    pieces: mpsc::Receiver<String>,
}

impl Stream {
    /// Begins one; returns at its first piece.
    pub(crate) fn begin(base: &str, model: &str) -> Self {
        Self::begin_with_key(base, model, None)
    }

    pub(crate) fn begin_with_key(base: &str, model: &str, key: Option<&str>) -> Self {
        let (told, pieces) = mpsc::channel();
        let request = patient_client(LONG).post(format!("{base}/v1/chat/completions"));
        let request = with_key(request, key).content_type("application/json");
        let body = chat(model, true);
        std::thread::spawn(move || {
            let sent = request.send(body);
            let Ok(answer) = sent else { return };
            for line in BufReader::new(answer.into_body().into_reader()).lines() {
                let Ok(line) = line else { return };
                if let Some(data) = line.strip_prefix("data: ") {
                    let _ = told.send(data.to_owned());
                }
            }
        });
        let stream = Self { pieces };
        stream.pieces.recv_timeout(SOON).expect("a first piece");
        stream
    }

    /// True if it comes to the end of its answer. Gateways end a stream properly whose hub is gone.
    pub(crate) fn read_whole(self) -> bool {
        let mut rest = Vec::new();
        while let Ok(piece) = self.pieces.recv_timeout(SOON) {
            rest.push(piece);
        }
        let is_finished = |piece: &String| piece.contains(r#""finish_reason":"stop""#);
        rest.last().is_some_and(|last| last == "[DONE]") && rest.iter().any(is_finished)
    }
}

#[test]
fn a_drained_hub_finishes_its_streams_and_gets_no_others() {
    let Some(mut world) = World::met() else {
        return;
    };
    let door = world.open_door();
    let studio = world.hub("studio", &door, &["alpha"]);
    studio.is_slow(4000);
    studio.said(&["reload"]);
    door.wait_for(&[(&studio, &["alpha"])]);
    let stream = Stream::begin(&door.url(), "alpha");
    let mini = world.hub("mini", &door, &["alpha"]);
    door.wait_for(&[(&studio, &["alpha"]), (&mini, &["alpha"])]);

    studio.said(&["fleet", "drain"]);
    assert_eq!(studio.readiness(), 503);
    door.wait_for(&[(&mini, &["alpha"])]);
    for _ in 0..5 {
        assert_eq!(door.ask("alpha"), (200, "mini".to_owned()));
    }
    // A gateway that has not heard it is sent elsewhere, and a client of its own is served.
    let (status, body) = ask(&studio.at("alpha"), "alpha");
    assert_eq!(status, 503, "{body}");
    assert_eq!(ask(&studio.url(), "alpha").0, 200);
    assert!(stream.read_whole(), "the stream was cut");

    // Another hub in its place is drained too.
    studio.said(&["restart"]);
    assert_eq!(studio.readiness(), 503);
    assert_eq!(studio.fleet()["drained"], true);
    assert_eq!(door.ready(), [mini.at("alpha")]);
    studio.said(&["fleet", "undrain"]);
    assert_eq!(studio.readiness(), 200);
    door.wait_for(&[(&studio, &["alpha"]), (&mini, &["alpha"])]);
    studio.said(&["stop"]);
}

#[test]
fn a_killed_hub_loses_its_own_streams_alone() {
    let Some(mut world) = World::met() else {
        return;
    };
    let door = world.open_door();
    let studio = world.hub("studio", &door, &["alpha", "gamma"]);
    let mini = world.hub("mini", &door, &["beta", "gamma"]);
    for member in [&studio, &mini] {
        member.is_slow(4000);
        member.said(&["reload"]);
    }
    door.wait_for(&[(&studio, &["alpha", "gamma"]), (&mini, &["beta", "gamma"])]);
    let lost = Stream::begin(&door.url(), "alpha");
    let kept = Stream::begin(&door.url(), "beta");
    processes::send(studio.home.pid(), Signal::SIGKILL);
    wait_until("the hub to be gone", SOON, || !studio.home.is_running());

    // Both have this one: the very next request is answered, by the other.
    let begun = Instant::now();
    let first = Stream::begin(&door.url(), "gamma");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "elsewhere after {took:?}");
    assert!(first.read_whole());
    assert!(kept.read_whole(), "a stream of another hub was cut");
    assert!(!lost.read_whole(), "a stream without its hub is whole");

    // The next hub takes over the workers, and is back within a heartbeat.
    let begun = Instant::now();
    studio.start();
    let all: [(_, &[&str]); 2] = [(&studio, &["alpha", "gamma"]), (&mini, &["beta", "gamma"])];
    door.wait_for_a_heartbeat(begun, &all);
    assert_eq!(door.ask("alpha").0, 200);
    studio.said(&["stop"]);
}
