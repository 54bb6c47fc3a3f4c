//! What a page of another origin can do in a real browser with the real worker: nothing. And what a page of this
//! machine can.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::browser::{Browser, Device, in_browser};
use crate::models::{LOAD, home_with_two, real_worker};
use crate::support::wait_until;

/// A server of empty pages; ends with the test's process.
fn pages() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = [0; 4096];
            let length = connection.read(&mut head).unwrap_or_default();
            let says_nothing = head[..length].starts_with(b"GET /?no-referrer");
            let policy = if says_nothing {
                "no-referrer"
            } else {
                "unsafe-url"
            };
            let page = format!(
                "<!doctype html><meta name=referrer content={policy}><title>a page</title>"
            );
            let length = page.len();
            // A browser that has changed its mind is no matter.
            let _ = write!(
                connection,
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\
                 content-length: {length}\r\n\r\n{page}"
            );
        }
    });
    port
}

const CHAT: &str =
    r#"JSON.stringify({model: "jit", max_tokens: 4, messages: [{role: "user", content: "hi"}]})"#;

/// What a page does to load a model, or to read: name and JavaScript. Each comes to a text: `blocked`, or what was
/// read.
fn attempts(hub: &str) -> Vec<(&'static str, String)> {
    let fetch = |path: &str, options: &str| {
        format!(
            "fetch('{hub}{path}', {options}).then(\
             async answer => answer.type + ' ' + answer.status + ' ' + await answer.text(), () => 'blocked')"
        )
    };
    let chat = "/v1/chat/completions";
    let load = |element: &str, attribute: &str, path: &str| {
        format!(
            "new Promise(done => {{ const made = document.createElement('{element}'); \
             made.onload = () => done('{element} loaded'); made.onerror = () => done('blocked'); \
             made.{attribute} = '{hub}{path}'; document.body.append(made); }})"
        )
    };
    let ws = hub.replace("http:", "ws:");
    vec![
        (
            "a Blob",
            fetch(
                chat,
                &format!("{{method: 'POST', body: new Blob([{CHAT}])}}"),
            ),
        ),
        (
            "text",
            fetch(chat, &format!("{{method: 'POST', body: {CHAT}}}")),
        ),
        (
            "JSON",
            fetch(
                chat,
                &format!(
                    "{{method: 'POST', headers: {{'content-type': 'application/json'}}, body: {CHAT}}}"
                ),
            ),
        ),
        (
            "a form",
            fetch(
                "/v1/audio/transcriptions",
                "{method: 'POST', body: (() => { const form = new FormData(); form.append('model', 'jit'); \
                 form.append('file', new Blob(['x']), 'x.wav'); return form; })()}",
            ),
        ),
        (
            "an encoded form",
            fetch(
                chat,
                "{method: 'POST', body: new URLSearchParams({model: 'jit', prompt: 'x'})}",
            ),
        ),
        (
            "no-cors",
            fetch(
                chat,
                &format!("{{method: 'POST', mode: 'no-cors', body: {CHAT}}}"),
            ),
        ),
        ("a list", fetch("/v1/models", "{}")),
        ("a worker's route", fetch("/upstream/jit/health", "{}")),
        ("a query", fetch("/v1/queue/stats?model=jit", "{}")),
        (
            "a worker's route without CORS",
            fetch("/upstream/jit/health", "{mode: 'no-cors'}"),
        ),
        ("a verb", fetch("/hub/models/jit/load", "{method: 'POST'}")),
        (
            "a verb without CORS",
            fetch("/hub/models/jit/load", "{method: 'POST', mode: 'no-cors'}"),
        ),
        ("the status", fetch("/hub/status", "{}")),
        ("an image", load("img", "src", "/upstream/jit/health")),
        (
            "an image with a query",
            load("img", "src", "/v1/queue/stats?model=jit"),
        ),
        ("a script", load("script", "src", "/upstream/jit/v1/models")),
        (
            "a WebSocket",
            format!(
                "new Promise(done => {{ const socket = new WebSocket('{ws}/v1/realtime?model=jit'); \
                 socket.onopen = () => done('open'); socket.onclose = () => done('blocked'); }})"
            ),
        ),
    ]
}

async fn outcome(browser: &Browser, script: &str) -> String {
    browser.evaluate(script).await.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_a_stranger_loads_a_model_or_reads_an_answer() {
    let Some(worker) = real_worker() else { return };
    in_browser(Device::Desktop, async |browser| {
        let home = home_with_two(worker);
        home.said(&["start"]);
        wait_until("plain to be loaded", LOAD, || {
            home.states("plain").1 == "loaded"
        });
        let hub = format!("http://127.0.0.1:{}", home.port);
        let pages = pages();

        browser.open(&format!("http://evil.example:{pages}/")).await;
        for (name, script) in attempts(&hub) {
            let outcome = outcome(&browser, &script).await;
            assert!(["blocked", "opaque 0 "].contains(&outcome.as_str()), "{name}: {outcome}");
        }
        home.assert_states("jit", "running", "unloaded");

        // By a name in the network browsers say less of who asks: an image comes without a word of its page's site.
        let near = format!("http://studio.local:{}", home.port);
        for page in ["", "?no-referrer"] {
            browser.open(&format!("http://evil.example:{pages}/{page}")).await;
            for (name, script) in attempts(&near) {
                let outcome = outcome(&browser, &script).await;
                assert!(["blocked", "opaque 0 "].contains(&outcome.as_str()), "{name}: {outcome}");
            }
            home.assert_states("jit", "running", "unloaded");
        }

        // The same name with another address: the page counts as the hub's own.
        let rebound = format!("http://evil.example:{}", home.port);
        browser.open(&format!("{rebound}/hub")).await;
        for (name, script) in attempts(&rebound) {
            let outcome = outcome(&browser, &script).await;
            let refused = outcome == "blocked" || outcome.starts_with("basic 421 ");
            assert!(refused, "{name}: {outcome}");
        }
        home.assert_states("jit", "running", "unloaded");

        browser.open(&format!("http://localhost:{pages}/")).await;
        let chat = CHAT.replace("jit", "plain");
        let ask = format!(
            "fetch('{hub}/v1/chat/completions', {{method: 'POST', headers: {{'content-type': 'application/json', \
             authorization: 'Bearer none'}}, body: {chat}}}).then(async answer => answer.status + ' ' + \
             answer.headers.has('x-request-id') + ' ' + await answer.text(), error => '' + error)"
        );
        let answer = outcome(&browser, &ask).await;
        assert!(answer.starts_with("200 true {"), "{answer}");
        assert!(answer.contains("choices"), "{answer}");
        let models = format!("fetch('{hub}/v1/models').then(answer => answer.text(), error => '' + error)");
        let models = outcome(&browser, &models).await;
        assert!(models.contains("\"plain\""), "{models}");
        let reload = format!("fetch('{hub}/hub/reload', {{method: 'POST'}}).then(() => 'read', () => 'blocked')");
        assert_eq!(outcome(&browser, &reload).await, "blocked");

        home.said(&["stop"]);
    })
    .await;
}
