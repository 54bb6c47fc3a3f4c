//! WebSocket's handshake and what follows it, byte by byte.

use super::*;

const HANDSHAKE: &str = "GET /v1/realtime?model=alpha HTTP/1.1\r\nhost: hub\r\n\
    connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Both ends of a WebSocket on which nothing has been said.
async fn opened() -> (Scripted, Hub, Wire, Wire) {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    client.write(HANDSHAKE).await;
    let mut wire = worker.accept().await;
    let head = wire.read_to("\r\n\r\n").await.to_lowercase();
    for line in [
        "get /v1/realtime?model=alpha http/1.1\r\n",
        "\r\nconnection: upgrade\r\n",
        "\r\nupgrade: websocket\r\n",
        "\r\nsec-websocket-version: 13\r\n",
        "\r\nsec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n",
    ] {
        assert!(head.contains(line), "no {line:?} in {head}");
    }
    wire.write(AGREED).await;
    let head = client.read_to("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(
        head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
        "{head}"
    );
    (worker, hub, client, wire)
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_lease_is_held() {
    let (_worker, hub, mut client, mut wire) = opened().await;
    for round in ["one", "two", "three"] {
        client.write(&format!("to the worker: {round}.")).await;
        wire.read_to(&format!("{round}.")).await;
        wire.write(&format!("to the client: {round}.")).await;
        client.read_to(&format!("{round}.")).await;
    }
    assert_eq!(hub.gate.active(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_worker_along() {
    let (_worker, hub, client, mut wire) = opened().await;
    drop(client);
    assert_eq!(wire.read_to_close().await, "");
    drop(wire);
    hub.all_is_free().await;
}

#[tokio::test]
async fn a_worker_that_closes_says_its_last_word_first() {
    let (_worker, hub, mut client, mut wire) = opened().await;
    wire.write("goodbye").await;
    drop(wire);
    assert_eq!(client.read_to_close().await, "goodbye");
    drop(client);
    hub.all_is_free().await;
}

#[tokio::test]
async fn a_refusal_is_passed_on() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    client.write(HANDSHAKE).await;
    let mut wire = worker.accept().await;
    wire.read_to("\r\n\r\n").await;
    wire.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
        .await;
    let answer = client.read_to("\r\n\r\nno").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    hub.all_is_free().await;
}

#[tokio::test]
async fn another_protocol_is_not_offered_to_the_worker() {
    let (_worker, _hub, mut client, mut wire) = {
        let worker = Scripted::start().await;
        let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
        let mut client = hub.connect().await;
        client
            .write(&post(ALPHA).replace(
                "host: hub",
                "host: hub\r\nconnection: upgrade\r\nupgrade: h2c",
            ))
            .await;
        let wire = worker.accept().await;
        (worker, hub, client, wire)
    };
    let head = wire.read_to("\r\n\r\n").await;
    assert!(!head.contains("upgrade"), "{head}");
    wire.read_to("}").await;
    wire.write(OK).await;
    client.read_to("\r\n\r\nok").await;
}

#[tokio::test]
async fn a_connection_of_http_1_0_cannot_become_one() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    client
        .write(&HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0"))
        .await;
    let answer = client.read_to("}}").await;
    let (head, error) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 400 "), "{head}");
    insta::assert_snapshot!(error, @r#"{"error":{"message":"A WebSocket needs a request of HTTP/1.1, and this is one of HTTP/1.0.","type":"invalid_request_error","param":null,"code":"400"}}"#);
}
