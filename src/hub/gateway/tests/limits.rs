//! Requests that are too large, too many, or too slow, and their refusals.

use std::time::Duration;

use super::*;

const SHORT: Duration = Duration::from_millis(60);

async fn limited(limits: Limits) -> (Scripted, Hub) {
    let worker = Scripted::start().await;
    let hub = Hub::with_limits(worker.upstream(Accepts::Any), limits).await;
    (worker, hub)
}

/// Status line and error of an answer.
async fn refusal(client: &mut Wire) -> String {
    let answer = client.read_to("}}").await;
    let (head, error) = answer.split_once("\r\n\r\n").unwrap();
    format!("{}\n{error}", head.lines().next().unwrap())
}

#[tokio::test]
async fn every_limit_has_its_text() {
    let mut texts = String::new();

    let (_worker, hub) = limited(Limits {
        body: 1 << 20,
        ..Limits::default()
    })
    .await;
    let mut client = hub.connect().await;
    client
        .write("POST /v1/x HTTP/1.1\r\nhost: hub\r\nexpect: 100-continue\r\ncontent-length: 1048577\r\n\r\n")
        .await;
    texts += &format!(
        "a body that says it is too large\n{}\n\n",
        refusal(&mut client).await
    );

    let mut client = hub.connect().await;
    client
        .write("POST /v1/x HTTP/1.1\r\nhost: hub\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client
        .write(&format!("100001\r\n{}\r\n0\r\n\r\n", " ".repeat(0x10_0001)))
        .await;
    texts += &format!(
        "a body that turns out too large\n{}\n\n",
        refusal(&mut client).await
    );

    let (_worker, hub) = limited(Limits {
        held: 8,
        ..Limits::default()
    })
    .await;
    let mut client = hub.connect().await;
    let long = format!("{{\"messages\": \"{}\"", "x".repeat(20_000));
    client.write(&post(&long)).await;
    texts += &format!("more than may be held\n{}\n\n", refusal(&mut client).await);

    let (worker, hub) = limited(Limits {
        first_byte: SHORT,
        ..Limits::default()
    })
    .await;
    let mut client = hub.connect().await;
    client.write(&post(ALPHA)).await;
    let mut wire = worker.accept().await;
    wire.read_to("}").await;
    texts += &format!(
        "a worker that does not begin\n{}\n\n",
        refusal(&mut client).await
    );
    wire.read_to_close().await;
    hub.all_is_free().await;

    // A limit in whole seconds is shown as one.
    insta::assert_snapshot!(texts);
}

#[tokio::test]
async fn what_is_held_is_free_again_when_its_target_is_known() {
    let (worker, hub) = limited(Limits {
        held: 40,
        ..Limits::default()
    })
    .await;
    for _ in 0..5 {
        let mut client = hub.connect().await;
        client.write(&post(ALPHA)).await;
        let mut wire = worker.accept().await;
        wire.read_to("}").await;
        wire.write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
            .await;
        client.read_to("\r\n\r\nok").await;
    }
    // What flows on after the model is not held.
    let mut client = hub.connect().await;
    let text = "x".repeat(1 << 20);
    let request = post(&format!(r#"{{"model":"alpha","x":"{text}"}}"#));
    let (head, rest) = request.split_once("xxx").unwrap();
    client.write(head).await;
    let mut wire = worker.accept().await;
    wire.read_to("alpha").await;
    client.write(&format!("xxx{rest}")).await;
    wire.read_to("\"}").await;
    wire.write(OK).await;
    client.read_to("\r\n\r\nok").await;
}

#[tokio::test]
async fn an_event_stream_that_pauses_for_too_long_is_cut_and_told_why() {
    let (worker, hub) = limited(Limits {
        idle_stream: SHORT,
        ..Limits::default()
    })
    .await;
    let mut client = hub.connect().await;
    client.write(&post(ALPHA)).await;
    let mut wire = worker.accept().await;
    wire.read_to("}").await;
    wire.write(EVENTS).await;
    wire.write("3\r\none\r\n").await;
    let rest = client.read_to_close().await;
    // Without the chunk that would say that it is whole.
    let (_, told) = rest.split_once("one\r\n").unwrap();
    insta::assert_snapshot!(told.replace('\r', ""), @r#"
    EF


    data: {"error":{"message":"The worker of model `alpha` failed to go on with its answer in time (`idle_stream_timeout`). Try again; if it keeps failing, the model's log says why.","type":"service_unavailable","param":null,"code":"502"}}
    "#);
    wire.read_to_close().await;
    hub.all_is_free().await;
}

#[tokio::test]
async fn any_other_answer_that_pauses_for_too_long_is_cut() {
    let (worker, hub) = limited(Limits {
        idle_stream: SHORT,
        ..Limits::default()
    })
    .await;
    let mut client = hub.connect().await;
    client.write(&post(ALPHA)).await;
    let mut wire = worker.accept().await;
    wire.read_to("}").await;
    wire.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        .await;
    client.read_to("half").await;
    assert_eq!(client.read_to_close().await, "");
    hub.all_is_free().await;
}
