//! A thousand reloads, and hundreds of loads, leave nothing behind: no memory, no descriptor, no process.

use serde_json::Value;

use crate::support::{Hub, processes};
use crate::{models, pid, worker};

const RELOADS: usize = 1000;
/// The allocator may keep so much for later, in KiB.
const SLACK: u64 = 4 * 1024;

/// What the daemon holds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    memory_kib: u64,
    descriptors: usize,
    children: usize,
}

fn held(hub: &Hub) -> Held {
    let pid = hub.pid();
    // Linux and macOS tell it in different places; where neither does, it is not checked.
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    Held {
        memory_kib: processes::memory_kib(pid),
        descriptors,
        children: processes::children(pid).len(),
    }
}

fn reload(hub: &Hub, yaml: &str) -> Value {
    hub.configure(yaml);
    let answer = hub.http.post("/hub/reload", &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn a_thousand_reloads_leave_memory_descriptors_and_processes_as_they_were() {
    let one = [("alpha", "default: true"), ("beta", "jit_enabled: true")];
    let two = [
        (
            "alpha",
            "default: true, auto_unload_minutes: 5, jit_enabled: false",
        ),
        ("gamma", "policy: {a: [1, 2, 3]}"),
        ("delta", "port: 47999"),
    ];
    // A configuration that is not let go would show in no time.
    let words = format!("policy: {{words: {}}}\n{}", "x".repeat(20_000), worker(&[]));
    let one = format!("{words}\n{}", models(&one));
    // `auto_unload_minutes` needs `jit_enabled`: a broken file every fourth time.
    let broken = format!("{words}\n{}", models(&two));
    let two = broken.replace("auto_unload_minutes: 5, ", "");
    let hub = Hub::start(&one);
    hub.wait_for_state("alpha", "running", "loaded");
    let worker = pid(&hub, "alpha");
    let mut warm = None;
    for round in 0..RELOADS {
        if round % 4 == 3 {
            hub.configure(&broken);
            assert_eq!(hub.http.post("/hub/reload", &Value::Null).status, 400);
        } else {
            let yaml = if round % 2 == 0 { &two } else { &one };
            assert_eq!(reload(&hub, yaml)["started"], Value::Array(Vec::new()));
        }
        if round == RELOADS / 5 {
            warm = Some(held(&hub));
        }
    }
    let (warm, end) = (warm.unwrap(), held(&hub));
    assert_eq!(pid(&hub, "alpha"), worker, "left alone all the time");
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert!(
        end.memory_kib <= warm.memory_kib + SLACK,
        "{warm:?} {end:?}"
    );
    assert!(end.descriptors <= warm.descriptors + 2, "{warm:?} {end:?}");
    assert_eq!(end.children, warm.children, "{warm:?} {end:?}");
}

const LOADS: usize = 600;

#[test]
fn hundreds_of_loads_leave_memory_descriptors_and_processes_as_they_were() {
    let alpha = models(&[("alpha", "default: true, jit_enabled: true")]);
    let hub = Hub::start(&format!("{}\n{alpha}", worker(&["--dialect", "jit"])));
    hub.wait_for_state("alpha", "running", "unloaded");
    let mut warm = None;
    for round in 0..LOADS {
        // Each is a process of its own.
        for verb in ["load", "unload"] {
            let answer = hub.act("alpha", verb);
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        if round == LOADS / 5 {
            warm = Some(held(&hub));
        }
    }
    let (warm, end) = (warm.unwrap(), held(&hub));
    assert!(
        end.memory_kib <= warm.memory_kib + SLACK,
        "{warm:?} {end:?}"
    );
    assert!(end.descriptors <= warm.descriptors + 2, "{warm:?} {end:?}");
    assert!(end.children <= warm.children + 1, "{warm:?} {end:?}");
}
