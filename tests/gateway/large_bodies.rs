//! Work on a large body holds up no other connection of the same thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Hub, stub};
use crate::{CHAT, alpha};

/// Time between two events of a stream that nothing holds up.
const PACE: Duration = Duration::from_millis(20);

/// More than the hub has threads for connections, so that each has one.
fn streams() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from) + 1
}

/// A body of small values, which take long to read and to write for their length, between that beginning and
/// end.
fn large(beginning: &str, end: &str) -> Vec<u8> {
    let numbers = "[1,2],".repeat(500_000);
    format!(r#"{beginning}"numbers":[{numbers}0]{end}"#).into_bytes()
}

/// The longest time that any of the streams stands still until `is_over`.
fn longest_gap(hub: &Hub, is_over: &AtomicBool) -> Duration {
    let gap = || {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        let mut events = hub.http.stream("alpha", "hello").events();
        // The first is as late as its worker.
        events.next().unwrap().unwrap();
        let mut is_first = true;
        while !is_over.load(Ordering::Relaxed) {
            events.next().unwrap().unwrap();
            let now = Instant::now();
            if !is_first {
                longest = longest.max(now - last);
            }
            (last, is_first) = (now, false);
        }
        longest
    };
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..streams()).map(|_| scope.spawn(gap)).collect();
        let gaps = streams.into_iter().map(|stream| stream.join().unwrap());
        gaps.max().unwrap_or_default()
    })
}

/// Sends `body` beside streams: how long it took, and how long a stream stood still.
fn beside_streams(hub: &Hub, body: &[u8], status: u16) -> (Duration, Duration) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let gap = scope.spawn(|| longest_gap(hub, &is_over));
        std::thread::sleep(Duration::from_millis(500));
        let headers = [("content-type", "application/json")];
        let began = Instant::now();
        let sent = hub.http.send("POST", CHAT, &headers, body);
        let took = began.elapsed();
        std::thread::sleep(Duration::from_millis(100));
        is_over.store(true, Ordering::Relaxed);
        let gap = gap.join().unwrap();
        assert_eq!(sent.unwrap().status, status);
        (took, gap)
    })
}

#[test]
fn streams_go_on_while_a_policy_changes_a_large_body_and_while_one_is_found_wanting() {
    let policy = "return { on_request = function(req, hub)
      if req.model == 'beta' then return hub.route{ model = 'beta', set = { seed = 7 } } end
    end }";
    let models = format!(
        "{}- {{name: beta, model_path: org/beta, jit_enabled: true, default: true, worker_command: {}}}\n",
        alpha(&[
            "--token-ms",
            &PACE.as_millis().to_string(),
            "--tokens",
            "100000"
        ]),
        stub(&[])
    );
    let hub = Hub::start_with(&models, &[("a.lua", policy)]);
    let named = r#"{"model":"beta","messages":[],"#;
    for (body, status) in [(large(named, "}"), 200), (large("{", ",}"), 400)] {
        let mut seen = Vec::new();
        let is_held_up = !(0..3).any(|_| {
            let (took, gap) = beside_streams(&hub, &body, status);
            seen.push((took, gap));
            gap < PACE + took / 5
        });
        assert!(!is_held_up, "{status}: {seen:?}");
    }
}
