//! Lines that are cut, slow, and lose what passes.

use std::time::Duration;

use tokio::time::Instant;

use crate::ask::{ask, ask_by, chat_that_says, patient_client, send};
use crate::member::Member;
use crate::streams::Stream;
use crate::support::network::Line;
use crate::support::{SOON, within};
use crate::world::World;

/// For so long the line is cut.
const CUT: Duration = Duration::from_secs(30);

/// A request that was on its way when a line was cut goes on when it is mended: by then its sender tries again
/// only now and then.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_line_is_cut_for_thirty_seconds_and_heals() {
    let Some(mut world) = World::met() else {
        return;
    };
    let door = world.open_door();
    let studio = world.hub("studio", &door, &["alpha"]);
    let mini = world.hub("mini", &door, &["alpha"]);
    let all: [(_, &[&str]); 2] = [(&studio, &["alpha"]), (&mini, &["alpha"])];
    studio.beats_slowly();
    mini.beats_slowly();
    door.wait_for(&all);

    let cut = Instant::now();
    studio.place.cut();
    // Until the gateway finds out by its own checks, it sends requests to both.
    let mut before = Vec::new();
    while door.ready() != [mini.at("alpha")] {
        assert!(cut.elapsed() < CUT, "{:?}", door.ready());
        let url = door.url();
        before.push(std::thread::spawn(move || {
            ask_by(&patient_client(PATIENCE), &url, "alpha", None)
        }));
        std::thread::sleep(Duration::from_secs(1));
    }
    studio.wait_for_state("unreachable");
    while cut.elapsed() < CUT {
        assert_eq!(door.ask("alpha"), (200, "mini".to_owned()));
        assert_eq!(ask(&mini.url(), "alpha"), (200, "mini".to_owned()));
        // What is asked of the hub itself, on its own machine, is answered as before.
        assert!(!studio.said(&["run", "alpha", "hello"]).trim().is_empty());
        std::thread::sleep(Duration::from_secs(1));
    }

    let mended = Instant::now();
    studio.place.mend();
    door.wait_for_a_heartbeat(mended, &all);
    studio.wait_for_state("member");
    for answer in before {
        let (status, who) = answer.join().unwrap();
        assert_eq!(status, 200, "{who}");
        assert!(["studio", "mini"].contains(&&*who), "{who}");
    }
}

#[test]
fn a_slow_line_that_loses_frames_loses_no_answer_and_no_registration() {
    let Some(mut world) = World::met() else {
        return;
    };
    let door = world.open_door();
    let bad = Line::Bad {
        milliseconds: 300,
        lost: 2,
        kilobytes: 100,
    };
    let studio = world.hub_on(bad, "studio", &door, &["alpha"]);
    let mini = world.hub("mini", &door, &["beta"]);
    let all: [(&Member, &[&str]); 2] = [(&studio, &["alpha"]), (&mini, &["beta"])];
    door.wait_so_long_for(PATIENCE, &all);
    let begun = Instant::now();
    assert_eq!(
        ask_by(&patient_client(PATIENCE), &studio.url(), "alpha", None).0,
        200
    );
    assert!(
        begun.elapsed() >= Duration::from_millis(600),
        "the line is not slow"
    );

    let url = door.url();
    let askers = [(); 4].map(|()| {
        let url = url.clone();
        std::thread::spawn(move || {
            let ask = |_| ask_by(&patient_client(PATIENCE), &url, "alpha", None);
            (0..8).map(ask).collect::<Vec<_>>()
        })
    });
    let streams = [(); 4].map(|()| {
        let url = url.clone();
        std::thread::spawn(move || Stream::begin(&url, "alpha").read_whole())
    });
    let long = std::thread::spawn(move || {
        let body = chat_that_says("alpha", &"much ".repeat(10_000));
        send(&patient_client(PATIENCE), &url, &body, None)
    });
    // The registration holds, and the other hub has no part in it.
    let mut expected = [studio.at("alpha"), mini.at("beta")];
    expected.sort();
    let is_over = || askers.iter().all(|asker| asker.is_finished()) && long.is_finished();
    while !is_over() {
        assert_eq!(door.ready(), expected);
        let begun = Instant::now();
        assert_eq!(door.ask("beta"), (200, "mini".to_owned()));
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    for asker in askers {
        let answers = asker.join().unwrap();
        let good = (200, "studio".to_owned());
        assert!(answers.iter().all(|answer| *answer == good), "{answers:?}");
    }
    for stream in streams {
        assert!(stream.join().unwrap(), "a stream was cut");
    }
    assert_eq!(long.join().unwrap(), (200, "studio".to_owned()));
    let settled = within(PATIENCE, || {
        (studio.fleet()["state"] == "member").then_some(())
    });
    assert!(settled.is_some(), "{}", studio.fleet());
    studio.said(&["stop"]);
    door.wait_so_long_for(PATIENCE, &[(&mini, &["beta"])]);
}
