//! Requests whose length can be read in two ways: refused, or read as hyper reads them, and never in
//! such a way that the end of one arrives at a worker as the beginning of another.

use super::*;

/// The chat request that a smuggler hides.
const HIDDEN: &str =
    "POST /v1/hidden HTTP/1.1\r\nhost: hub\r\ncontent-length: 17\r\n\r\n{\"model\":\"alpha\"}";

/// The answer to bytes that a client sends at once, up to the end of the connection.
async fn answer_to(hub: &Hub, sent: &str) -> String {
    let mut client = hub.connect().await;
    client.write(sent).await;
    client.half_close().await;
    client.read_to_close().await
}

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_refused_and_closes_the_connection() {
    for head in [
        "content-length: 17\r\ncontent-length: 5",
        "content-length: 17, 5",
        "content-length: +17",
        "content-length: 0x11",
        "content-length: -1",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "x-folded: a\r\n b",
        "content-length : 17",
        " content-length: 17",
        "x-null: a\0b",
        "x\x01: y",
    ] {
        let worker = Scripted::start().await;
        let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
        let request = format!("POST /v1/x HTTP/1.1\r\nhost: hub\r\n{head}\r\n\r\n{ALPHA}{HIDDEN}");
        let answer = answer_to(&hub, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
        assert!(!worker.has_been_called().await, "{head:?}");
    }
}

/// RFC 9112, 6.3: the encoding outranks the length, and hyper takes that away.
#[tokio::test]
async fn of_length_and_encoding_the_worker_gets_the_encoding() {
    for head in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
    ] {
        let worker = Scripted::start().await;
        let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
        let mut client = hub.connect().await;
        let chunked = format!("11\r\n{ALPHA}\r\n0\r\n\r\n");
        client
            .write(&format!(
                "POST /v1/x HTTP/1.1\r\nhost: hub\r\n{head}\r\n\r\n{chunked}"
            ))
            .await;
        let answered = tokio::select! {
            mut wire = worker.accept() => {
                let head = wire.read_to("\r\n\r\n").await.to_lowercase();
                assert!(head.contains("transfer-encoding: chunked"), "{head}");
                assert!(!head.contains("content-length"), "{head}");
                wire.read_to("0\r\n\r\n").await;
                wire.write(OK).await;
                client.read_to("ok").await
            }
            refused = client.read_to("\r\n\r\n") => refused,
        };
        let status = answered.split(' ').nth(1).unwrap_or_default();
        assert!(["200", "400"].contains(&status), "{answered}");
    }
}

#[tokio::test]
async fn a_broken_chunk_ends_the_upload_and_nothing_of_it_becomes_a_request() {
    for body in [
        format!("11\r\n{ALPHA}\r\nzz\r\n{HIDDEN}"),
        format!("11;\r\n{ALPHA}{HIDDEN}"),
        format!("fffffffffffffffff\r\n{ALPHA}{HIDDEN}"),
        format!("-11\r\n{ALPHA}\r\n0\r\n\r\n{HIDDEN}"),
        format!("0x11\r\n{ALPHA}\r\n0\r\n\r\n{HIDDEN}"),
    ] {
        let worker = Scripted::start().await;
        let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
        let request =
            format!("POST /v1/x HTTP/1.1\r\nhost: hub\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let answer = answer_to(&hub, &request).await;
        let arrived = worker.everything().await;
        assert!(!answer.contains("HTTP/1.1 200"), "{body:?}: {answer}");
        assert!(!arrived.contains("/v1/hidden"), "{body:?}: {arrived}");
        hub.all_is_free().await;
    }
}

#[tokio::test]
async fn lines_that_end_with_a_bare_line_feed_are_read_as_lines_and_written_as_they_should_be() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    client.write(&post(ALPHA).replace("\r\n", "\n")).await;
    let mut wire = worker.accept().await;
    let head = wire.read_to("\r\n\r\n").await;
    assert_eq!(
        head.matches('\n').count(),
        head.matches("\r\n").count(),
        "{head:?}"
    );
    wire.read_to("}").await;
    wire.write(OK).await;
    client.read_to("ok").await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_after_the_other() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    let chunked = format!(
        "POST /v1/chunked HTTP/1.1\r\nhost: hub\r\ntransfer-encoding: chunked\r\n\r\n11\r\n{ALPHA}\r\n0\r\n\r\n"
    );
    client
        .write(&format!("{}{chunked}{HIDDEN}", post(ALPHA)))
        .await;
    let mut wire = worker.accept().await;
    for (path, end) in [
        ("/v1/chat/completions", ALPHA),
        ("/v1/chunked", "0\r\n\r\n"),
        ("/v1/hidden", ALPHA),
    ] {
        let head = wire.read_to("\r\n\r\n").await;
        assert!(head.starts_with(&format!("POST {path} ")), "{head}");
        wire.read_to(end).await;
        let answer = path.len();
        wire.write(&format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {answer}\r\n\r\n{path}"
        ))
        .await;
        client.read_to(path).await;
    }
    hub.all_is_free().await;
}

/// A program that reads the length would find another request behind it.
#[tokio::test]
async fn nothing_is_read_after_a_request_with_both_length_and_encoding() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    client
        .write(&format!(
            "POST /v1/x HTTP/1.1\r\nhost: hub\r\ncontent-length: 5\r\n\
             transfer-encoding: chunked\r\n\r\n11\r\n{ALPHA}\r\n0\r\n\r\n{HIDDEN}"
        ))
        .await;
    let mut wire = worker.accept().await;
    wire.read_to("0\r\n\r\n").await;
    wire.write(OK).await;
    let answer = client.read_to_close().await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(!worker.has_been_called().await);
    drop(hub);
    assert_eq!(wire.read_to_close().await, "");
}

#[tokio::test]
async fn trailers_end_with_their_request_and_frame_nothing() {
    for trailer in [
        "x-last: 1",
        "content-length: 99",
        "transfer-encoding: chunked",
    ] {
        let worker = Scripted::start().await;
        let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
        let mut client = hub.connect().await;
        client
            .write(&format!(
                "POST /v1/x HTTP/1.1\r\nhost: hub\r\ntrailer: x-last\r\n\
                 transfer-encoding: chunked\r\n\r\n11\r\n{ALPHA}\r\n0\r\n{trailer}\r\n\r\n{HIDDEN}"
            ))
            .await;
        let mut wire = worker.accept().await;
        let first = wire.read_to("0\r\n\r\n").await;
        let (head, body) = first.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("x-last"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        assert_eq!(body, format!("11\r\n{ALPHA}\r\n0\r\n\r\n"));
        wire.write(OK).await;
        client.read_to("ok").await;
        let second = wire.read_to("\r\n\r\n").await;
        assert!(
            second.starts_with("POST /v1/hidden "),
            "{trailer}: {second}"
        );
        wire.read_to(ALPHA).await;
        wire.write(OK).await;
        client.read_to("ok").await;
        hub.all_is_free().await;
    }
}

#[tokio::test]
async fn what_a_client_of_http_1_0_sends_and_gets_ends_where_it_says() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    let request = post(ALPHA)
        .replace("HTTP/1.1", "HTTP/1.0")
        .replace("host: hub", "connection: keep-alive");
    client.write(&request.repeat(2)).await;
    let mut wire = worker.accept().await;
    for answer in [OK, EVENTS] {
        let head = wire.read_to("\r\n\r\n").await;
        assert!(head.contains(" HTTP/1.1\r\n"), "{head}");
        assert!(!head.contains("keep-alive"), "{head}");
        wire.read_to(ALPHA).await;
        wire.write(answer).await;
    }
    wire.write("3\r\none\r\n0\r\n\r\n").await;
    client.read_to("ok").await;
    // It knows no chunks: the end of the connection is that of the stream.
    let rest = client.read_to_close().await;
    assert!(rest.starts_with("HTTP/1.0 200 "), "{rest}");
    assert!(!rest.contains("transfer-encoding"), "{rest}");
    assert!(rest.ends_with("\r\n\r\none"), "{rest}");
    hub.all_is_free().await;
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_whatever_its_length_says() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    client
        .write(&format!(
            "HEAD /v1/x?model=alpha HTTP/1.1\r\nhost: hub\r\n\r\n{}",
            post(ALPHA)
        ))
        .await;
    let mut wire = worker.accept().await;
    let head = wire.read_to("\r\n\r\n").await;
    assert!(head.starts_with("HEAD /v1/x?model=alpha "), "{head}");
    wire.write("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n")
        .await;
    let head = client.read_to("\r\n\r\n").await;
    assert!(head.contains("content-length: 99"), "{head}");
    // On the same connection to the worker: that one is at its end, too.
    wire.read_to(ALPHA).await;
    wire.write(OK).await;
    let next = client.read_to("ok").await;
    assert!(next.starts_with("HTTP/1.1 200 "), "{next}");
    hub.all_is_free().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_a_431() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    let long = "x".repeat(1 << 20);
    client
        .write_what_goes(&format!(
            "GET /v1/x HTTP/1.1\r\nhost: hub\r\nx-long: {long}\r\n\r\n"
        ))
        .await;
    let answer = client.read_to("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(!worker.has_been_called().await);
}
