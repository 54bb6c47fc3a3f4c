//! A clock that is set, by hours and both ways: nothing is unloaded for it, and nothing is kept.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::support::{Hub, SOON, processes, wait_until};
use crate::{models, not_run, pid, worker};

/// `short` goes after a second without a request: when it has gone, `long` has been looked at too.
const POLICY: &str = "return {
  on_idle = function(model)
    if model.name == 'short' and model.idle_seconds > 1 then return hub.unload() end
  end,
}
";

/// The library that lies about the time, as `faketime` packages have it.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut places = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    places.find(|place| place.exists())
}

/// The clock of a hub.
struct Clock<'a>(&'a Path);

impl Clock<'_> {
    /// Sets it to so many hours from the real time.
    fn set(&self, hours: i64) {
        std::fs::write(self.0, format!("{hours:+}h\n")).unwrap();
    }
}

fn hub_time(hub: &Hub) -> i64 {
    hub.status()["timestamp"].as_i64().unwrap()
}

fn wait_for_step(hub: &Hub, from: i64, hours: i64) {
    wait_until("the clock to be set", SOON, || {
        (hub_time(hub) - from - hours * 3600).abs() < 600
    });
}

#[test]
fn a_step_of_the_clock_neither_unloads_a_model_nor_keeps_one() {
    let Some(library) = library() else {
        return not_run(
            "a clock that is set",
            "the package faketime is not installed",
        );
    };
    let entries = [
        (
            "long",
            "jit_enabled: true, default: true, auto_unload_minutes: 60",
        ),
        ("short", "jit_enabled: true, default: true"),
    ];
    let script = format!(
        "echo +0h > clock && exec env LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE=\"$PWD/clock\" \
         FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \"$0\" \"$@\"",
        library.display()
    );
    let yaml = format!("{}\n{}", worker(&[]), models(&entries));
    let mut hub = Hub::start_under(&yaml, &script);
    std::fs::write(hub.folder().join("short.lua"), POLICY).unwrap();
    assert_eq!(
        hub.http
            .post("/hub/reload", &serde_json::Value::Null)
            .status,
        200
    );
    assert_eq!(hub.http.chat("long", "hello").status, 200);
    let long = pid(&hub, "long").unwrap();
    let (begun, path) = (hub_time(&hub), hub.folder().join("clock"));
    let clock = Clock(&path);
    for hours in [3, -3] {
        assert_eq!(hub.http.chat("short", "hello").status, 200);
        clock.set(hours);
        wait_for_step(&hub, begun, hours);
        // `short` has been idle for more than a second: both have been looked at since the step.
        hub.wait_for_state("short", "running", "unloaded");
        let model = hub.model("long");
        assert_eq!(
            model["memory_state"], "loaded",
            "set by {hours} hours: {model}"
        );
    }
    // A worker is known again when the clock was set meanwhile.
    hub.kill();
    clock.set(0);
    hub.serve_again();
    hub.wait_for_state("long", "running", "loaded");
    assert_eq!(pid(&hub, "long"), Some(long));
    processes::send_to_group(long, Signal::SIGKILL);
    wait_until("the death to be noticed", SOON, || {
        pid(&hub, "long") != Some(long)
    });
}
