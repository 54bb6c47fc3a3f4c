//! Answers on their way back: streamed, broken, early, and from a worker that is not there.

use tokio::join;

use super::*;

#[tokio::test]
async fn each_event_passes_before_the_next_is_there() {
    let (_worker, hub, mut client, mut wire) = asked(&post(ALPHA)).await;
    wire.write(EVENTS).await;
    client.read_to("\r\n\r\n").await;
    for event in ["one", "two", "six"] {
        wire.write(&format!("3\r\n{event}\r\n")).await;
        client.read_to(event).await;
    }
    wire.write("0\r\n\r\n").await;
    client.read_to("0\r\n\r\n").await;
    hub.all_is_free().await;

    // The same client, and the same connection to the worker.
    client.write(&post(ALPHA)).await;
    wire.read_to("}").await;
}

#[tokio::test]
async fn an_event_stream_that_breaks_ends_with_an_error_event_and_no_clean_end() {
    let (_worker, hub, mut client, mut wire) = asked(&post(ALPHA)).await;
    wire.write(EVENTS).await;
    wire.write("7\r\ndata: {\r\n").await;
    client.read_to("data: {").await;
    drop(wire);
    let rest = client.read_to_close().await;
    let (_, event) = rest.split_once("\n\ndata: ").expect(&rest);
    let event = event.trim_end_matches(['\r', '\n']);
    let event: serde_json::Value = serde_json::from_str(event).expect(&rest);
    assert_eq!(event["error"]["type"], "service_unavailable");
    assert!(
        event["error"]["message"]
            .as_str()
            .unwrap()
            .contains("`alpha`")
    );
    assert!(!rest.contains("\r\n0\r\n"), "{rest}");
    hub.all_is_free().await;
}

#[tokio::test]
async fn any_other_answer_that_breaks_breaks_for_the_client_too() {
    let (_worker, hub, mut client, mut wire) = asked(&post(ALPHA)).await;
    wire.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        .await;
    client.read_to("half").await;
    drop(wire);
    assert_eq!(client.read_to_close().await, "");
    hub.all_is_free().await;
}

#[tokio::test]
async fn an_answer_that_breaks_in_one_piece_with_its_head_is_no_empty_reply() {
    let answer = "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n";
    let (_worker, hub, mut client, mut wire) = asked(&post(ALPHA)).await;
    wire.write(answer).await;
    let told = client.read_to_close().await;
    assert!(told.starts_with("HTTP/1.1 201 Created\r\n"), "{told:?}");
    assert!(!told.contains("\r\n0\r\n"), "cut, not ended: {told}");
    assert!(told.contains("ok"), "{told}");
    hub.all_is_free().await;
}

#[tokio::test]
async fn an_answer_that_is_wrong_from_its_first_byte_on_is_a_502() {
    for kind in ["application/json", "text/event-stream"] {
        let (_worker, hub, mut client, mut wire) = asked(&post(ALPHA)).await;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n";
        wire.write(&format!("{head}content-type: {kind}\r\n\r\nzz\r\n"))
            .await;
        let told = client.read_to("}}").await;
        assert!(told.starts_with("HTTP/1.1 502 "), "{told}");
        assert!(told.contains("model `alpha`"), "{told}");
        wire.read_to_close().await;
        hub.all_is_free().await;
    }
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_a_502_that_names_the_model() {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let hub = Hub::in_front_of(upstream).await;
    let mut client = hub.connect().await;
    client.write(&post(ALPHA)).await;
    drop(worker.accept().await);
    drop(worker);
    let answer = client.read_to("}}").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("model `alpha`"), "{answer}");
    assert!(
        answer.contains(r#""type":"service_unavailable""#),
        "{answer}"
    );
    hub.all_is_free().await;
}

#[tokio::test]
async fn a_worker_that_answers_before_the_upload_ends_does_not_block_the_next_request() {
    let head = post(ALPHA).replace("content-length: 17", "content-length: 999");
    let (worker, hub, mut client, mut wire) = asked(&head).await;
    wire.write(OK).await;
    client.read_to("\r\n\r\nok").await;
    wire.read_to_close().await;
    hub.all_is_free().await;

    let mut client = hub.connect().await;
    client.write(&post(ALPHA)).await;
    let mut wire = worker.accept().await;
    wire.read_to("}").await;
    wire.write(OK).await;
    client.read_to("\r\n\r\nok").await;
}

#[tokio::test]
async fn head_and_the_workers_own_errors_pass_through() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    client
        .write("HEAD /v1/queue/stats?model=alpha HTTP/1.1\r\nhost: hub\r\n\r\n")
        .await;
    let mut wire = worker.accept().await;
    wire.read_to("\r\n\r\n").await;
    wire.write("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n")
        .await;
    assert!(
        client
            .read_to("\r\n\r\n")
            .await
            .contains("content-length: 12")
    );

    client.write(&post(ALPHA)).await;
    wire.read_to("}").await;
    let error = r#"{"detail":["no"]}"#;
    wire.write(&format!(
        "HTTP/1.1 422 Unprocessable Entity\r\nconnection: keep-alive\r\ncontent-length: {}\r\n\r\n{error}",
        error.len()
    ))
    .await;
    let answer = client.read_to(error).await;
    assert!(answer.starts_with("HTTP/1.1 422 "), "{answer}");
    assert!(!answer.contains("connection:"), "{answer}");
}

#[tokio::test]
async fn concurrent_requests_each_have_a_connection() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let (mut one, mut two) = join!(hub.connect(), hub.connect());
    one.write(&post(ALPHA)).await;
    two.write(&post(ALPHA)).await;
    let (mut first, mut second) = (worker.accept().await, worker.accept().await);
    first.read_to("}").await;
    second.read_to("}").await;
    assert_eq!(hub.gate.active(), 2);
    first.write(OK).await;
    second.write(OK).await;
    one.read_to("ok").await;
    two.read_to("ok").await;
    hub.all_is_free().await;
}
