//! Policies that think for long about one model, and what that does to another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Hub, SOON, stub, wait_for, wait_until};

/// A policy that thinks for 200 ms about every load of `slow`, which never begins.
const POLICY: &str = "return { on_load = function(load, hub)
  if load.model.name == 'slow' then
    local from = hub.clock() while hub.clock() - from < 0.2 do end
    return hub.wait{ seconds = 0.1 }
  end
end }";

/// Each deed is done so often, and its median taken.
const TIMES: usize = 7;

fn hub() -> Hub {
    let slow = format!("jit_enabled: true\n    worker_command: {}", stub(&[]));
    let quick = stub(&["--dialect", "jit"]);
    let yaml = format!(
        "models:\n  - name: slow\n    model_path: some/slow\n    default: true\n    queue_size: 1000\n    \
         queue_timeout: 600\n    {slow}\n  - name: quick\n    model_path: some/quick\n    jit_enabled: true\n    \
         worker_command: {quick}\n"
    );
    Hub::start_with(&yaml, &[("slow.lua", POLICY)])
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The median time of each deed to `quick`.
fn deeds(hub: &Hub) -> [(&'static str, Duration); 5] {
    let mut times: [Vec<Duration>; 5] = Default::default();
    for _ in 0..TIMES {
        for (deed, times) in DEEDS.iter().zip(&mut times) {
            let began = Instant::now();
            match *deed {
                "status" => assert!(hub.status()["models"].is_array()),
                verb => assert_eq!(hub.act("quick", verb).status, 200, "{verb}"),
            }
            times.push(began.elapsed());
            // The next deed begins at any moment of the policy's thinking.
            std::thread::sleep(Duration::from_millis(23));
        }
    }
    let mut medians = times.into_iter().map(median);
    DEEDS.map(|deed| (deed, medians.next().unwrap_or_default()))
}

/// `load` is asked about, and waits for its turn.
const DEEDS: [&str; 5] = ["start", "load", "status", "unload", "stop"];

/// What a machine that does something else besides may add.
const SLACK: Duration = Duration::from_millis(60);

#[test]
fn deeds_to_one_model_do_not_wait_for_what_policies_think_about_another() {
    let hub = hub();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let alone = beside_a_busy_thread(|| deeds(&hub));
        let beside = beside_a_thinking_policy(&hub, || deeds(&hub));
        let is_held_up = |i: usize| {
            let (deed, alone) = alone[i];
            // A question is not asked before the one that the policies think about.
            let turn = match deed {
                "load" => Duration::from_millis(250),
                _ => Duration::ZERO,
            };
            beside[i].1 > alone.mul_f64(1.5) + SLACK + turn
        };
        if !(0..DEEDS.len()).any(is_held_up) {
            return;
        }
        seen.push(format!("{beside:?}, alone {alone:?}"));
    }
    panic!("{seen:#?}");
}

/// Does `deeds` while the test itself is as busy as the policy: what that does is the machine's doing.
fn beside_a_busy_thread<R>(deeds: impl FnOnce() -> R) -> R {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let from = Instant::now();
                while from.elapsed() < Duration::from_millis(200) {}
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(deeds));
        is_over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Does `deeds` while a request waits for a load about which the policy thinks again and again.
fn beside_a_thinking_policy<R>(hub: &Hub, deeds: impl FnOnce() -> R) -> R {
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| hub.http.chat("slow", "hello").status);
        wait_until("a load that is thought about", SOON, || {
            hub.model("slow")["waiting_requests"] == 1
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(deeds));
        // Nobody is left who waits for it.
        assert_eq!(hub.act("slow", "stop").status, 200);
        assert!(matches!(waits.join(), Ok(503)));
        assert_eq!(hub.act("slow", "start").status, 200);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_stop_overtakes_a_load_that_is_thought_about_and_explain_says_so() {
    let policy = "return { on_load = function(load, hub)
      hub.log.info('thinks')
      local from = hub.clock() while hub.clock() - from < 0.2 do end
      return hub.wait{ seconds = 60 }
    end }";
    let yaml = format!(
        "models:\n  - name: m\n    model_path: some/m\n    worker_command: {}\n",
        stub(&[])
    );
    let hub = Hub::start_with(&yaml, &[("slow.lua", policy)]);
    std::thread::scope(|scope| {
        let start = scope.spawn(|| hub.act("m", "start").status);
        wait_until("the policy to think", SOON, || {
            std::fs::read_to_string(hub.logs().join("app.log"))
                .is_ok_and(|log| log.contains("thinks"))
        });
        assert_eq!(hub.act("m", "stop").status, 200);
        assert!(matches!(start.join(), Ok(503)));
    });
    let outcome = || {
        let path = "/hub/policies/decisions?model=m";
        let decisions = hub.http.get(path).json();
        let decisions = decisions["decisions"].as_array().cloned();
        let mut hooks = decisions.unwrap_or_default().into_iter();
        hooks.find_map(|decision| {
            let is_load = decision["hook"] == "on_load";
            is_load.then(|| decision["outcome"].as_str().map(str::to_owned))?
        })
    };
    let said = wait_for("the verdict", SOON, outcome);
    assert_eq!(said, "not done: another change of the model came meanwhile");
    assert_eq!(hub.model("m")["process_state"], "stopped");
}
