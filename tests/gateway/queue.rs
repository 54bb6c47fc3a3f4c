//! Requests that a policy told to wait: in which order they go, and what ends their wait.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::http::{Answer, chat};
use crate::support::{Hub, SOON, stub, wait_for, wait_until};
use crate::{
    CHAT, ENDLESS, ask_and_wait, assert_error, begin_stream, wait_for_active, wait_for_event,
};

/// `policy.at_once` requests of a model at a time; the header `x-client` tells clients apart.
const AT_ONCE: &str = r#"return {
  on_request = function(req, hub)
    local model = hub.models[req.model]
    local limit = model and model.settings.at_once
    local is_new = req.waited_seconds == 0
    if limit and (model.active + model.waiting >= limit or is_new and model.parked > 0) then
      return hub.wait{ seconds = 600, client = req.headers["x-client"] }
    end
  end,
}"#;

/// One model, `alpha`, that answers one request at a time, with more keys, and a comma, for its entry.
fn one_at_a_time(keys: &str) -> String {
    format!(
        "worker_command: {}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true, {keys}\n   \
            policy: {{at_once: 1}}}}\n",
        stub(&ENDLESS)
    )
}

fn hub(keys: &str) -> Hub {
    Hub::start_with(&one_at_a_time(keys), &[("at_once.lua", AT_ONCE)])
}

/// A chat with a short answer.
fn short(model: &str, prompt: &str) -> Value {
    let mut body = chat(model, prompt, false);
    body["max_tokens"] = json!(2);
    body
}

fn ask(hub: &Hub) -> Answer {
    hub.http.post(CHAT, &short("alpha", "hello"))
}

/// A short chat of that client; its prompt says who it is.
fn ask_as(hub: &Hub, client: &str, prompt: &str) -> u16 {
    let body = short("alpha", prompt);
    let headers = [("content-type", "application/json"), ("x-client", client)];
    let body = body.to_string();
    let reply = hub.http.send("POST", CHAT, &headers, body.as_bytes());
    reply.and_then(|reply| reply.whole()).unwrap().status
}

fn parked(hub: &Hub) -> u64 {
    hub.model("alpha")["parked_requests"].as_u64().unwrap()
}

fn wait_for_parked(hub: &Hub, count: u64) {
    wait_until(&format!("{count} requests parked"), SOON, || {
        parked(hub) == count
    });
}

/// The prompts in the order in which they came to the worker.
fn arrived(hub: &Hub) -> Vec<String> {
    let requests = hub.record.requests(CHAT);
    let prompt = |request: &Value| {
        let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
        body["messages"][0]["content"].as_str().unwrap().to_owned()
    };
    requests.iter().map(prompt).collect()
}

#[test]
fn forty_requests_of_one_client_do_not_starve_another() {
    let hub = hub("");
    let stream = begin_stream(&hub);
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for i in 0..40 {
            let hub = &hub;
            clients.push(scope.spawn(move || ask_as(hub, "many", &format!("many {i}"))));
        }
        wait_for_parked(&hub, 40);
        clients.push(scope.spawn(|| ask_as(&hub, "one", "one")));
        wait_for_parked(&hub, 41);
        drop(stream);
        while !clients.iter().all(|client| client.is_finished()) {
            let active = hub.model("alpha")["active_requests"].as_u64().unwrap();
            assert!(active <= 1, "{active} at once");
        }
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
    });
    // First what was there before, then the clients in turn.
    let order = arrived(&hub);
    assert_eq!(order.len(), 42);
    assert_eq!(order[2], "one", "{order:?}");
    assert_eq!(parked(&hub), 0);
}

#[test]
fn whoever_leaves_or_stays_nobody_is_forgotten() {
    let hub = hub("");
    std::thread::scope(|scope| {
        for i in 0..20 {
            let hub = &hub;
            let client = format!("client {}", i % 4);
            scope.spawn(move || {
                for turn in 0..8 {
                    if (i + turn) % 3 == 0 {
                        // Leaves at some moment: unasked, parked, or with its answer on the way.
                        let client = ask_and_wait(hub, &short("alpha", "leaves"));
                        std::thread::sleep(Duration::from_millis(i * turn % 40));
                        drop(client);
                    } else {
                        assert_eq!(ask_as(hub, &client, "stays"), 200);
                    }
                }
            });
        }
    });
    wait_for_parked(&hub, 0);
    wait_for_active(&hub, "alpha", 0);
    assert_eq!(hub.model("alpha")["waiting_requests"], 0);
    assert_eq!(ask(&hub).status, 200);
}

#[test]
fn a_full_queue_answers_429_and_says_when_to_come_back() {
    let hub = hub("queue_size: 2,");
    let stream = begin_stream(&hub);
    std::thread::scope(|scope| {
        let parked = [scope.spawn(|| ask(&hub)), scope.spawn(|| ask(&hub))];
        wait_for_parked(&hub, 2);
        let answer = ask(&hub);
        let words = ["`alpha`", "`queue_size` is 2"];
        assert_error(&answer, 429, "rate_limit_error", "429", &words);
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        drop(stream);
        for client in parked {
            assert_eq!(client.join().unwrap().status, 200);
        }
    });
}

#[test]
fn a_request_is_parked_for_queue_timeout_and_no_longer() {
    let hub = hub("queue_timeout: 1,");
    let _stream = begin_stream(&hub);
    let began = Instant::now();
    let answer = ask(&hub);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let words = ["`alpha`", "`queue_timeout`"];
    assert_error(&answer, 429, "rate_limit_error", "429", &words);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(parked(&hub), 0);
}

#[test]
#[expect(clippy::print_stderr, reason = "the figure is of interest")]
fn a_client_that_leaves_while_parked_frees_its_place() {
    let hub = hub("queue_size: 1,");
    let stream = begin_stream(&hub);
    // One with a body of one read, and one of many.
    for prompt in ["hello".to_owned(), "long ".repeat(200_000)] {
        let client = ask_and_wait(&hub, &chat("alpha", &prompt, false));
        wait_for_parked(&hub, 1);
        assert_eq!(ask(&hub).status, 429);
        let left = Instant::now();
        drop(client);
        wait_for_parked(&hub, 0);
        eprintln!("the place was free after {:?}", left.elapsed());
    }
    drop(stream);
    assert_eq!(ask(&hub).status, 200);
    assert_eq!(
        arrived(&hub).len(),
        2,
        "those that left never came to the worker"
    );
}

#[test]
fn parked_requests_are_asked_about_by_the_new_policies_after_a_reload() {
    let hub = hub("");
    let _stream = begin_stream(&hub);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| ask(&hub));
        wait_for_parked(&hub, 1);
        let policy = r#"return { on_request = function(req)
            if req.waited_seconds > 0 then
              return hub.reject{ status = 418, message = "the new rule" }
            end
          end }"#;
        std::fs::write(hub.folder().join("at_once.lua"), policy).unwrap();
        assert!(hub.run(&["reload"]).status.success());
        let answer = client.join().unwrap();
        assert_error(
            &answer,
            418,
            "invalid_request_error",
            "418",
            &["the new rule"],
        );
    });
}

#[test]
fn a_stop_of_the_model_ends_the_wait_at_once() {
    let hub = hub("");
    let stream = begin_stream(&hub);
    std::thread::scope(|scope| {
        let clients = [scope.spawn(|| ask(&hub)), scope.spawn(|| ask(&hub))];
        wait_for_parked(&hub, 2);
        // The stop itself waits for the stream.
        let stop = scope.spawn(|| hub.act("alpha", "stop").status);
        for client in clients {
            let answer = client.join().unwrap();
            assert_error(
                &answer,
                503,
                "service_unavailable",
                "503",
                &["`alpha`", "stopped"],
            );
        }
        assert!(!stop.is_finished());
        drop(stream);
        assert_eq!(stop.join().unwrap(), 200);
    });
}

#[test]
fn a_shutdown_ends_the_wait_at_once() {
    let mut hub = hub("");
    let mut stream = begin_stream(&hub);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| ask(&hub));
        wait_for_parked(&hub, 1);
        hub.signal(Signal::SIGTERM);
        let answer = client.join().unwrap();
        assert_error(
            &answer,
            503,
            "service_unavailable",
            "503",
            &["shutting down"],
        );
    });
    stream.next().unwrap().unwrap();
    drop(stream);
    assert!(hub.wait_for_end().success());
}

#[test]
fn a_request_that_waits_for_no_time_is_not_asked_about_in_a_circle() {
    let policy = r#"return { on_request = function(req)
        req.vars.asked = (req.vars.asked or 0) + 1
        if req.waited_seconds < 1 then return hub.wait{ seconds = 0 } end
        return hub.reject{ status = 418, message = tostring(req.vars.asked) }
      end }"#;
    let hub = Hub::start_with(&one_at_a_time(""), &[("circle.lua", policy)]);
    hub.wait_for_state("alpha", "running", "unloaded");
    let answer = ask(&hub);
    assert_eq!(answer.status, 418, "{}", answer.text());
    let message = answer.json()["error"]["message"].clone();
    let asked: u32 = message.as_str().unwrap().parse().unwrap();
    assert!((2..=12).contains(&asked), "{asked} times in a second");
}

#[test]
fn a_request_that_has_waited_long_enough_may_go_elsewhere() {
    let policy = r#"return { on_request = function(req, hub)
        if req.model ~= "alpha" or hub.models.alpha.active == 0 then return end
        if req.waited_seconds < 0.3 then return hub.wait{ seconds = 0.3 } end
        return hub.route{ model = "beta" }
      end }"#;
    let beta = "- {name: beta, model_path: org/beta, jit_enabled: true, default: true}\n";
    let yaml = format!("{}{beta}", one_at_a_time(""));
    let hub = Hub::start_with(&yaml, &[("elsewhere.lua", policy)]);
    let _stream = begin_stream(&hub);
    assert_eq!(ask(&hub).status, 200);
    assert_eq!(hub.record.requests(CHAT)[1]["model"], "beta");
}

#[test]
fn a_name_that_is_no_model_has_no_queue() {
    let policy = "return { on_request = function() return hub.wait{ seconds = 60 } end }";
    let hub = Hub::start_with(&one_at_a_time(""), &[("wait.lua", policy)]);
    let answer = hub.http.chat("nosuch", "hello");
    assert_error(
        &answer,
        404,
        "invalid_request_error",
        "model_not_found",
        &["`nosuch`"],
    );
}

/// The members of a full group stay as long as somebody wants them, but no longer than `policy.turn`
/// seconds while another one is wanted.
const TURNS: &str = r#"return {
  on_load = function(load, hub)
    local group = load.group
    if not group or group.free > 0 then return end
    for _, name in ipairs(group.loaded) do
      local member = hub.models[name]
      local is_wanted = member.active + member.waiting + member.parked > 0
      if is_wanted and load.waited_seconds < hub.settings.turn then
        return hub.wait{ seconds = hub.settings.turn - load.waited_seconds }
      end
    end
    return hub.evict(group.loaded)
  end,
}"#;

/// Two models that take turns in a group that holds one.
fn turns(seconds: u64) -> Hub {
    let yaml = format!(
        "worker_command: {}\n\
         policy: {{turn: {seconds}}}\n\
         groups:\n- {{name: small, max_loaded: 1}}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, group: small, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, group: small, jit_enabled: true, default: true}}\n",
        stub(&ENDLESS),
    );
    Hub::start_with(&yaml, &[("turns.lua", TURNS)])
}

#[test]
fn a_swap_comes_as_soon_as_the_loaded_model_is_idle() {
    // Nobody waits for that long here.
    let hub = turns(600);
    let stream = begin_stream(&hub);
    std::thread::scope(|scope| {
        let beta = scope.spawn(|| hub.http.post(CHAT, &short("beta", "hello")).status);
        wait_until("the load of beta to wait", SOON, || {
            hub.model("beta")["waiting_requests"] == 1
        });
        assert_eq!(hub.model("beta")["memory_state"], "unloaded");
        drop(stream);
        hub.wait_for_state("beta", "running", "loaded");
        assert_eq!(beta.join().unwrap(), 200);
    });
}

#[test]
fn a_swap_under_constant_load_comes_within_the_rules_limit_and_nobody_waits_for_ever() {
    let turn = Duration::from_secs(2);
    let hub = turns(turn.as_secs());
    let stream = begin_stream(&hub);
    let chat_alpha = || hub.http.post(CHAT, &short("alpha", "hello")).status;
    std::thread::scope(|scope| {
        let asked = Instant::now();
        let beta = scope.spawn(|| hub.http.post(CHAT, &short("beta", "hello")).status);
        wait_until("the load of beta to wait", SOON, || {
            hub.model("beta")["waiting_requests"] == 1
        });
        // Meanwhile requests for the loaded model pass.
        let before = wait_for("the swap to begin", SOON, || {
            assert_eq!(hub.model("alpha")["process_state"], "running");
            if hub.model("alpha")["memory_state"] == "unloading" {
                return Some(asked.elapsed());
            }
            None
        });
        assert!(before >= turn, "{before:?}");
        assert!(before < turn + SOON / 4, "{before:?}");
        // Those in flight end, and new ones wait for the next swap.
        let late = scope.spawn(chat_alpha);
        wait_until("one to wait for alpha", SOON, || {
            hub.model("alpha")["waiting_requests"] == 1
        });
        assert!(!beta.is_finished());
        drop(stream);
        assert_eq!(beta.join().unwrap(), 200);
        assert_eq!(late.join().unwrap(), 200);
    });
    // Both models wanted all the time: each gets its turns.
    std::thread::scope(|scope| {
        let clients: Vec<_> = ["alpha", "beta", "alpha", "beta"]
            .into_iter()
            .map(|model| {
                let hub = &hub;
                scope.spawn(move || {
                    let body = short(model, "hello");
                    (0..10).all(|_| hub.http.post(CHAT, &body).status == 200)
                })
            })
            .collect();
        for client in clients {
            assert!(client.join().unwrap());
        }
    });
    assert!(hub.record.count("start", "beta") >= 1);
    wait_for_event(&hub, "loaded", 3);
}
