//! Requests whose head cannot be read: what a client is told, word for word, before the connection is
//! closed.

use std::fmt::Write as _;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::support::http::{Answer, Reply, chat};
use crate::support::{Hub, SOON};
use crate::{CHAT, alpha, error_of};

/// The beginning of what `curl https://…` sends.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello";

const HEADS: &[(&str, &[u8])] = &[
    ("no request line", b"hello\r\n\r\n"),
    ("a method that is none", b"G@T{} /health HTTP/1.1\r\n\r\n"),
    (
        "a URL with a space",
        b"GET /he alth HTTP/1.1\r\nhost: h\r\n\r\n",
    ),
    ("a URL that is none", b"GET http:///x HTTP/1.1\r\n\r\n"),
    ("another version", b"GET /health HTTP/3.0\r\n\r\n"),
    (
        "a line that is no header",
        b"GET / HTTP/1.1\r\nhost\r\n\r\n",
    ),
    (
        "a header with a space in its name",
        b"GET / HTTP/1.1\r\nmy host: h\r\n\r\n",
    ),
    (
        "a folded header",
        b"GET / HTTP/1.1\r\nx-long: a\r\n b\r\n\r\n",
    ),
    ("a null in a header", b"GET / HTTP/1.1\r\nx: a\0b\r\n\r\n"),
    (
        "a bare carriage return",
        b"GET / HTTP/1.1\r\nx: a\rcontent-length: 5\r\n\r\n",
    ),
    (
        "two lengths",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    ),
    (
        "a length that is none",
        b"POST / HTTP/1.1\r\ncontent-length: +5\r\n\r\nhello",
    ),
    (
        "another encoding",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "an encoding in HTTP/1.0",
        b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("TLS", TLS_HELLO),
    (
        "HTTP/2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ),
];

/// What the hub answers to these bytes. The connection must end cleanly after it.
fn ask(hub: &Hub, bytes: &[u8]) -> Answer {
    let mut connection = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    connection.write_all(bytes).unwrap();
    read_last(connection)
}

/// The last answer of a connection.
fn read_last(connection: TcpStream) -> Answer {
    connection.set_read_timeout(Some(SOON)).unwrap();
    let mut end = connection.try_clone().unwrap();
    let answer = Reply::read(BufReader::new(connection)).and_then(Reply::whole);
    assert_eq!(end.read(&mut [0]).unwrap(), 0);
    answer.unwrap()
}

/// What every refusal has, and its text.
fn text_of(answer: &Answer) -> String {
    let error = error_of(answer);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
    assert!(answer.header("x-process-time").is_some());
    assert!(answer.header("date").unwrap().ends_with(" GMT"));
    let word = |field: &str| error[field].as_str().unwrap().to_owned();
    let (kind, code) = (word("type"), word("code"));
    format!(
        "{} type={kind} code={code}\n{}\n",
        answer.status,
        word("message")
    )
}

#[test]
fn every_head_that_cannot_be_read_is_told_what_is_wrong() {
    let hub = Hub::start(&alpha(&[]));
    let mut book = String::new();
    for (case, head) in HEADS {
        writeln!(book, "# {case}\n{}", text_of(&ask(&hub, head))).unwrap();
    }
    let url = "x".repeat(70_000);
    // More than fits between client and hub: most of it is still to be sent when the hub has heard
    // enough, and a client that cannot send it does not read.
    let long = "x".repeat(16 << 20);
    let many = "x-h: 1\r\n".repeat(101);
    for (case, head) in [
        ("a long URL", format!("GET /{url} HTTP/1.1\r\n\r\n")),
        (
            "a long header",
            format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"),
        ),
        ("many headers", format!("GET / HTTP/1.1\r\n{many}\r\n")),
    ] {
        let answer = ask(&hub, head.as_bytes());
        writeln!(book, "# {case}\n{}", text_of(&answer)).unwrap();
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(book));
}

#[test]
fn a_hundred_headers_and_nearly_64_kib_are_read() {
    let hub = Hub::start(&alpha(&[]));
    let many = "x-h: 1\r\n".repeat(99);
    let long = "x".repeat(60_000);
    for headers in [many, format!("x: {long}\r\n")] {
        let request = format!("GET /health HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
        assert_eq!(ask(&hub, request.as_bytes()).status, 200);
    }
}

#[test]
fn what_is_unreadable_after_good_requests_is_told_after_their_answers() {
    let hub = Hub::start(&alpha(&[]));
    let mut connection = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    connection.set_read_timeout(Some(SOON)).unwrap();
    let body = chat("alpha", "hello", false).to_string();
    let length = body.len();
    let chat = format!("POST {CHAT} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}");
    let health = "GET /health HTTP/1.1\r\nhost: h\r\n\r\n";
    connection
        .write_all(format!("{chat}{health}GET / HTTP/1.1\r\nx : 1\r\n\r\n{chat}").as_bytes())
        .unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    connection.read_to_string(&mut answers).unwrap();
    let statuses: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["200", "200", "400"], "{answers}");
    assert!(answers.contains("one line `name: value`"), "{answers}");
    assert_eq!(hub.record.requests(CHAT).len(), 1);
}
