//! Unload, stop and shutdown: drain first, then signals.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{both, pid, states};
use crate::Home;
use crate::home::JIT;
use crate::support::processes;

const TALKATIVE: &str = "env: {STUB_TOKENS: '100000', STUB_TOKEN_MS: '20'}";

#[test]
fn unload_waits_for_a_request_in_flight_and_new_ones_load_again() {
    let home = Home::started(&both("env: {STUB_TOKENS: '40', STUB_TOKEN_MS: '25'}"));
    for name in ["classic", "jit"] {
        home.done(name, "start");
        let first = pid(&home, name);
        let mut stream = home.http.stream(name, "hello").events();
        stream.next().unwrap().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| home.done(name, "unload"));
            home.wait_for_state(name, "running", "unloading");
            let waiting = scope.spawn(|| home.http.chat(name, "and me?").status);
            let rest: Result<Vec<_>, _> = stream.collect();
            assert_eq!(rest.unwrap().last().unwrap(), "[DONE]", "not cut short");
            assert_eq!(waiting.join().unwrap(), 200);
        });
        assert_eq!(home.states(name), states("running", "loaded"));
        assert_ne!(pid(&home, name), first, "the memory was freed in between");
    }
}

#[test]
fn during_a_stop_new_requests_get_503_and_those_in_flight_end() {
    let home = Home::started(
        "models: [{name: a, model_path: org/a, env: {STUB_TOKENS: '40', STUB_TOKEN_MS: '25'}}]\n",
    );
    home.done("a", "start");
    let mut stream = home.http.stream("a", "hello").events();
    stream.next().unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| home.done("a", "stop"));
        home.wait_for_state("a", "stopping", "unloading");
        let refused = home.http.chat("a", "me too");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.json()["error"]["type"], "service_unavailable");
        let rest: Result<Vec<_>, _> = stream.collect();
        assert_eq!(rest.unwrap().last().unwrap(), "[DONE]");
    });
    assert_eq!(home.states("a"), states("stopped", "unloaded"));
    home.assert_no_workers();
}

#[test]
fn after_drain_timeout_requests_in_flight_are_cut() {
    let home = Home::started(&format!(
        "drain_timeout: 1\nmodels: [{{name: a, model_path: org/a, {TALKATIVE}}}]\n"
    ));
    for verb in ["unload", "stop"] {
        home.done("a", "start");
        home.done("a", "load");
        let mut stream = home.http.stream("a", "hello").events();
        stream.next().unwrap().unwrap();
        let begun = tokio::time::Instant::now();
        home.done("a", verb);
        let took = begun.elapsed();
        assert!(
            (1.0..15.0).contains(&took.as_secs_f64()),
            "{verb}: {took:?}"
        );
        let ended = stream.last().unwrap();
        assert!(
            ended.is_err() || ended.unwrap() != "[DONE]",
            "{verb}: it was cut"
        );
    }
}

#[test]
fn a_stop_goes_from_sigterm_over_sigint_to_sigkill() {
    let home = Home::started(&format!(
        "stop_timeout: 2\ndrain_timeout: 0\n\
         models:\n\
         - {{name: busy, model_path: org/busy, worker_command: {JIT}, \
            env: {{STUB_IGNORE_SIGTERM: 'true'}}}}\n\
         - {{name: deaf, model_path: org/deaf, worker_command: {JIT}, \
            env: {{STUB_IGNORE_SIGTERM: 'true', STUB_IGNORE_SIGINT: 'true', \
            STUB_GRANDCHILD: stubborn}}}}\n"
    ));
    std::thread::scope(|scope| {
        for (name, at_least) in [("busy", 1.0), ("deaf", 2.0)] {
            let home = &home;
            scope.spawn(move || {
                home.done(name, "start");
                let begun = tokio::time::Instant::now();
                home.done(name, "stop");
                let took = begun.elapsed().as_secs_f64();
                assert!((at_least..10.0).contains(&took), "{name}: {took}");
                let heard = |signal| home.record.count(signal, &format!("org/{name}"));
                assert_eq!((heard("sigterm"), heard("sigint")), (1, 1), "{name}");
                assert_eq!(home.states(name), states("stopped", "unloaded"));
                assert_eq!(home.model(name)["exit_code"], Value::Null);
            });
        }
    });
    home.assert_no_workers();
}

#[test]
fn shutdown_drains_and_a_second_signal_skips_that() {
    let talk =
        "models: [{name: a, model_path: org/a, env: {STUB_TOKENS: '40', STUB_TOKEN_MS: '25'}}]\n";
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::with_stub(talk);
        let mut daemon = home.serve();
        home.done("a", "start");
        let mut stream = home.http.stream("a", "hello").events();
        stream.next().unwrap().unwrap();
        processes::send(home.pid(), signal);
        home.wait_for_state("a", "stopping", "unloading");
        let refused = home.http.chat("a", "me too");
        assert_eq!(refused.status, 503, "nobody is let in any more");
        let rest: Result<Vec<_>, _> = stream.collect();
        assert_eq!(rest.unwrap().last().unwrap(), "[DONE]", "{signal}");
        assert!(daemon.wait().unwrap().success());
    }
    let home = Home::with_stub(&format!(
        "models: [{{name: a, model_path: org/a, {TALKATIVE}}}]\n"
    ));
    let mut daemon = home.serve();
    home.done("a", "start");
    let mut stream = home.http.stream("a", "hello").events();
    stream.next().unwrap().unwrap();
    processes::send(home.pid(), Signal::SIGTERM);
    home.wait_for_state("a", "stopping", "unloading");
    processes::send(home.pid(), Signal::SIGTERM);
    assert!(daemon.wait().unwrap().success());
    home.assert_no_workers();
}

#[test]
fn a_stop_ends_a_load_that_is_under_way() {
    let home = Home::started(&both("env: {STUB_LOAD_SECONDS: '60'}"));
    for name in ["classic", "jit"] {
        std::thread::scope(|scope| {
            let start = scope.spawn(|| home.act(name, "start").status);
            home.wait_for_state(name, "starting", "loading");
            home.done(name, "stop");
            assert_eq!(start.join().unwrap(), 503);
        });
        assert_eq!(home.states(name), states("stopped", "unloaded"));
    }
    home.assert_no_workers();
}
