//! What the hub refuses by itself, in OpenAI's envelope, and what every answer carries.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::support::http::{Answer, Reply, chat};
use crate::support::{Hub, SOON, stub};
use crate::{CHAT, ENDLESS, alpha, alpha_in, assert_error, begin_stream, wait_for_active};

const BAD: &str = "invalid_request_error";

fn send(hub: &Hub, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let reply = hub.http.send(method, path, headers, body.as_bytes());
    reply.and_then(Reply::whole).unwrap()
}

#[test]
fn a_request_must_name_a_model() {
    let hub = Hub::start(&alpha(&[]));
    for body in [
        r#"{"messages":[]}"#,
        r#"{"model":null,"messages":[]}"#,
        r#"{"model":"","messages":[]}"#,
        r#"{"model":" \t ","messages":[]}"#,
        r#"{"model":7,"messages":[]}"#,
        r#"{"model":["alpha"],"messages":[]}"#,
        r#"{"model":{"name":"alpha"}}"#,
        "{}",
        "",
    ] {
        let answer = send(&hub, "POST", CHAT, &[], body);
        assert_error(&answer, 400, BAD, "400", &["'model'", "/v1/models"]);
        assert_eq!(answer.json()["error"]["param"], "model", "{body}");
    }
    let form = "--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--B--\r\n";
    let kind = [("content-type", "multipart/form-data; boundary=B")];
    let answer = send(&hub, "POST", "/v1/audio/transcriptions", &kind, form);
    assert_error(&answer, 400, BAD, "400", &["'model'", "/v1/models"]);
    let answer = hub.http.get("/v1/queue/stats");
    assert_error(&answer, 400, BAD, "400", &["'model'", "/v1/models"]);
    assert!(hub.record.requests(CHAT).is_empty());
}

#[test]
fn a_model_that_is_none_is_a_404_and_its_case_counts() {
    let hub = Hub::start(&alpha(&[]));
    for (model, hint) in [
        ("nosuch", ""),
        ("Alpha", "Did you mean `alpha`?"),
        ("org/Alpha", "Did you mean `alpha`?"),
        ("alpha ", "Did you mean `alpha`?"),
        ("../alpha", "Did you mean `alpha`?"),
        ("alpha:latest", "Did you mean `alpha`?"),
        ("openai/alpha", "Did you mean `alpha`?"),
    ] {
        let answer = hub.http.chat(model, "hello");
        let words = [model, "which has `alpha`", hint, "/v1/models"];
        assert_error(&answer, 404, BAD, "model_not_found", &words);
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    let answer = hub.http.chat(&"x".repeat(3 << 20), "hello");
    assert_error(
        &answer,
        404,
        BAD,
        "model_not_found",
        &["xxx…` does not exist"],
    );
    let answer = hub.http.get("/v1/queue/stats?model=nosuch");
    assert_error(&answer, 404, BAD, "model_not_found", &["nosuch"]);
    let answer = hub.http.get("/v1/nosuch");
    assert_error(&answer, 404, BAD, "404", &["GET /v1/nosuch"]);
}

#[test]
fn a_model_that_is_not_started_is_a_400_that_says_how_to_start_it() {
    let hub = Hub::start(&format!(
        "worker_command: {}\nmodels:\n- {{name: alpha, model_path: org/alpha}}\n",
        stub(&[])
    ));
    for model in ["alpha", "org/alpha"] {
        let answer = hub.http.chat(model, "hello");
        assert_error(
            &answer,
            400,
            BAD,
            "400",
            &["`alpha` is not started", "start-model alpha"],
        );
    }
    assert_eq!(hub.act("alpha", "start").status, 200);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(hub.act("alpha", "stop").status, 200);
    let answer = hub.http.chat("alpha", "hello");
    assert_error(&answer, 400, BAD, "400", &["`alpha` is not started"]);
    assert_eq!(hub.record.count("start", "alpha"), 1);
}

#[test]
fn a_model_that_is_being_stopped_is_a_503() {
    let hub = Hub::start(&alpha(&ENDLESS));
    let events = begin_stream(&hub);
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| hub.act("alpha", "stop").status);
        hub.wait_for_state("alpha", "stopping", "unloading");
        let answer = hub.http.chat("alpha", "hello");
        assert_error(
            &answer,
            503,
            "service_unavailable",
            "503",
            &["`alpha` is being stopped"],
        );
        drop(events);
        assert_eq!(stop.join().unwrap(), 200);
    });
}

#[test]
fn a_full_group_is_a_429_with_the_group_its_cap_and_who_holds_it() {
    let hub = Hub::start(&format!(
        "worker_command: {}\n\
         groups:\n- {{name: small, max_loaded: 1}}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, group: small, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, group: small, jit_enabled: true, default: true}}\n",
        stub(&[])
    ));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    for answer in [hub.http.chat("beta", "hello"), hub.act("beta", "load")] {
        let words = ["Group `small` holds at most 1 loaded model and already has `alpha`."];
        assert_error(&answer, 429, "rate_limit_error", "group_full", &words);
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(answer.header("retry-after"), None);
    }
    assert_eq!(hub.act("alpha", "unload").status, 200);
    assert_eq!(hub.http.chat("beta", "hello").status, 200);
    assert_eq!(hub.status()["groups"][0]["loaded"], json!(["beta"]));
}

#[test]
fn a_body_that_is_no_json_object_is_a_400_that_says_where() {
    let hub = Hub::start(&alpha(&[]));
    for (body, word) in [
        ("{\"messages\": [\n  {\"role\": }]", "line 2"),
        ("{\"messages\": [1, 2", "EOF"),
        ("model=alpha", "not valid JSON"),
        ("[\"alpha\"]", "not a JSON object"),
        ("\u{feff}x", "line 1"),
        (
            r#"{"model":"alpha","model":"alpha"}"#,
            "more than one `model`",
        ),
    ] {
        let answer = send(&hub, "POST", CHAT, &[], body);
        assert_error(&answer, 400, BAD, "400", &[word]);
    }
    for kind in ["multipart/form-data", "multipart/form-data; boundary=B"] {
        let headers = [("content-type", kind)];
        let answer = send(&hub, "POST", "/v1/images/edits", &headers, "no form");
        assert_error(&answer, 400, BAD, "400", &["multipart form"]);
    }
}

#[test]
fn a_body_over_the_limit_is_a_413_before_it_is_sent() {
    let hub = Hub::start(&alpha(&[]));
    let mut connection = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let length = 256 * 1024 * 1024 + 1;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: 100-continue\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.set_read_timeout(Some(SOON)).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("256 MiB"), "{answer}");
    assert!(answer.contains("x-request-id: "), "{answer}");
}

#[test]
fn a_wrong_method_is_a_405_with_the_right_ones() {
    let hub = Hub::start(&alpha(&[]));
    for (method, path, allowed) in [
        ("GET", CHAT, "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/alpha", "GET, HEAD"),
        ("POST", "/v1/queue/stats", "GET, HEAD"),
    ] {
        let answer = send(&hub, method, path, &[], "");
        assert_error(&answer, 405, BAD, "405", &[method, path, allowed]);
        assert_eq!(answer.header("allow"), Some(allowed));
    }
}

/// A client that sends its whole body before it reads would hear nothing of it.
#[test]
fn an_answer_that_needs_no_body_comes_though_a_large_one_is_sent() {
    let hub = Hub::start(&alpha(&[]));
    let body = vec![b'x'; 16 << 20];
    let evil = [("origin", "http://evil.example")];
    for (method, path, headers, status) in [
        ("POST", "/chat/completions", &[][..], 404),
        ("POST", "/hub/reload", &evil, 403),
        ("GET", CHAT, &[], 405),
        ("GET", "/v1/models", &[], 200),
    ] {
        let reply = hub.http.send(method, path, headers, &body);
        let answer = reply.and_then(Reply::whole);
        let status_of = answer.map(|answer| answer.status);
        assert_eq!(
            status_of.map_err(|error| error.to_string()),
            Ok(status),
            "{method} {path}"
        );
    }
}

#[test]
fn heads_over_the_limit_and_nonsense_are_refused_and_hurt_nobody_else() {
    let hub = Hub::start(&alpha(&ENDLESS));
    let mut stream = begin_stream(&hub);
    let long = "x".repeat(200_000);
    let many = "x-h: 1\r\n".repeat(500);
    for (request, status) in [
        (
            format!("GET /health HTTP/1.1\r\nhost: h\r\nx-long: {long}\r\n\r\n"),
            "431",
        ),
        (
            format!("GET /health HTTP/1.1\r\nhost: h\r\n{many}\r\n"),
            "431",
        ),
        (
            "GET /health HTTP/1.1\r\nno header\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "POST /v1/x HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_owned(),
            "400",
        ),
        ("\x16\x03\x01\x02hello\r\n\r\n".to_owned(), "400"),
    ] {
        let mut connection = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
        // A hub that has heard enough may close before all is sent.
        let _ = connection.write_all(request.as_bytes());
        let mut line = String::new();
        BufReader::new(&connection).read_line(&mut line).unwrap();
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line}");
    }
    stream.next().unwrap().unwrap();
    drop(stream);
    wait_for_active(&hub, "alpha", 0);
}

/// Method, path, headers, body; and the status of the answer.
type Exchange<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16);

#[test]
fn every_answer_carries_the_requests_id_and_the_time_it_took() {
    let hub = Hub::start(&alpha_in("jit", &[]));
    let good = chat("alpha", "hello", false).to_string();
    let stream = chat("alpha", "hello", true).to_string();
    let foreign = ("origin", "http://evil.example");
    let strange = ("host", "evil.example");
    let requests: &[Exchange] = &[
        ("GET", "/health", &[], "", 200),
        ("GET", "/hub", &[], "", 200),
        ("GET", "/hub/status", &[], "", 200),
        ("GET", "/v1/models", &[], "", 200),
        ("POST", CHAT, &[], &good, 200),
        ("POST", CHAT, &[], &stream, 200),
        ("POST", CHAT, &[], "{}", 400),
        ("POST", CHAT, &[], "nonsense", 400),
        ("POST", CHAT, &[], r#"{"model":"nosuch"}"#, 404),
        ("POST", CHAT, &[], r#"{"model":"alpha"}"#, 422),
        ("GET", CHAT, &[], "", 405),
        ("OPTIONS", CHAT, &[], "", 204),
        ("GET", "/nosuch", &[], "", 404),
        ("PUT", "/hub/status", &[], "", 405),
        ("POST", "/hub/models/nosuch/load", &[], "", 404),
        ("POST", "/hub/reload", &[foreign], "", 403),
        ("GET", "/hub/status", &[strange], "", 421),
    ];
    for (method, path, headers, body, status) in requests {
        for own in [None, Some("client-1")] {
            let mut headers = headers.to_vec();
            headers.extend(own.map(|id| ("x-request-id", id)));
            let answer = send(&hub, method, path, &headers, body);
            let what = format!("{method} {path} {body}: {}", answer.text());
            assert_eq!(answer.status, *status, "{what}");
            let id = answer.header("x-request-id").expect(&what);
            assert!(own.map_or(id.len() == 36, |own| own == id), "{what}: {id}");
            let ids = answer
                .headers
                .iter()
                .filter(|(name, _)| name == "x-request-id");
            assert_eq!(ids.count(), 1, "{what}");
            let seconds: f64 = answer
                .header("x-process-time")
                .expect(&what)
                .parse()
                .unwrap();
            assert!((0.0..60.0).contains(&seconds), "{what}: {seconds}");
            if *status >= 400 && *status != 422 {
                crate::error_of(&answer);
            }
        }
    }
}

/// One answer off a connection that may go on: its status, and whether the connection may.
fn read_answer(connection: &mut BufReader<&TcpStream>) -> std::io::Result<(u16, bool)> {
    let (mut status, mut length, mut goes_on) = (0, 0, true);
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        } else if line == "connection: close" {
            goes_on = false;
        } else if line.is_empty() {
            break;
        }
    }
    connection.read_exact(&mut vec![0; length])?;
    Ok((status, goes_on))
}

#[test]
fn an_early_answer_leaves_its_connection_usable_or_says_that_it_is_the_last() {
    let hub = Hub::start(&alpha(&[]));
    let foreign = "origin: http://evil.example\r\n";
    for (method, path, header, status) in [
        ("POST", "/nosuch", "", 404),
        ("POST", "/chat/completions", "", 404),
        ("PUT", "/hub/status", "", 405),
        ("PUT", "/hub/models/alpha/start", "", 405),
        ("TRACE", "/", "", 405),
        ("POST", "/hub/reload", foreign, 403),
        ("GET", "/health", "", 200),
        ("GET", CHAT, "", 405),
        ("GET", "/v1/models", "", 200),
    ] {
        for length in [10, 60_000, 4 << 20] {
            let connection = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
            let head = format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{header}content-length: {length}\r\n\r\n"
            );
            let sending = connection.try_clone().unwrap();
            let sender = std::thread::spawn(move || {
                (&sending).write_all(head.as_bytes())?;
                (&sending).write_all(&vec![b'x'; length])
            });
            let mut reader = BufReader::new(&connection);
            let (answered, goes_on) = read_answer(&mut reader).unwrap();
            assert_eq!(answered, status, "{method} {path} {length}");
            let sent = sender.join().unwrap();
            if !goes_on {
                continue;
            }
            sent.unwrap();
            let next = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
            (&connection).write_all(next.as_bytes()).unwrap();
            let next = read_answer(&mut reader).map(|(status, _)| status);
            let next = next.map_err(|error| error.to_string());
            assert_eq!(next, Ok(200), "{method} {path} {length}");
        }
    }
}

#[test]
fn a_body_that_a_client_holds_back_is_not_waited_for() {
    let hub = Hub::start(&alpha(&[]));
    for (method, path, status) in [("GET", CHAT, 405), ("GET", "/v1/models", 200)] {
        let connection = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
        );
        (&connection).write_all(head.as_bytes()).unwrap();
        let answer = read_answer(&mut BufReader::new(&connection)).unwrap();
        assert_eq!(answer, (status, false), "{method} {path}");
    }
}
