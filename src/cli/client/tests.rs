//! Addresses, and programs that are no hub.

use super::*;

const NOWHERE: &str = "/nowhere/hub.yaml";

#[test]
fn a_hub_on_all_addresses_is_asked_over_loopback() {
    for (host, address) in [
        ("0.0.0.0", "127.0.0.1:80"),
        ("::", "[::1]:80"),
        ("[::1]", "[::1]:80"),
        ("10.0.0.7", "10.0.0.7:80"),
    ] {
        assert_eq!(Client::new(host, 80, NOWHERE.as_ref()).address(), address);
    }
}

#[tokio::test]
async fn a_hub_that_is_being_killed_is_not_taken_for_another_program() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(
        "127.0.0.1",
        listener.local_addr().unwrap().port(),
        NOWHERE.as_ref(),
    );
    // It accepts one more connection and closes it; then its port is free.
    let (probe, ()) = tokio::join!(client.probe(), async move {
        drop(listener.accept().await.unwrap());
    });
    assert_eq!(probe, Probe::Nothing);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(
        "127.0.0.1",
        listener.local_addr().unwrap().port(),
        NOWHERE.as_ref(),
    );
    let probe = tokio::select! {
        probe = client.probe() => probe,
        () = async { loop { drop(listener.accept().await.unwrap()) } } => unreachable!(),
    };
    assert_eq!(probe, Probe::Other("it does not speak HTTP".to_owned()));
}

#[tokio::test]
async fn a_hub_that_cannot_be_asked_is_told_with_its_address() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Client::new("127.0.0.1", port, NOWHERE.as_ref());
    let mut told = String::new();
    for answer in [
        "",
        "no HTTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let hub = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (error, ()) = tokio::join!(client.status(), hub);
        told += &format!("{}\n", error.unwrap_err());
    }
    // Bound, and nobody listens: no other test can take the port.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let unused = closed.local_addr().unwrap().port();
    let nobody = Client::new("127.0.0.1", unused, NOWHERE.as_ref());
    told += &format!("{}\n", nobody.status().await.unwrap_err());
    let address = client.address();
    told += &format!("{}\n", ClientError::Silent { address });
    // The system's number differs between Linux and macOS.
    let told = told
        .replace(&port.to_string(), "PORT")
        .replace(&unused.to_string(), "PORT")
        .replace(" (os error 111)", "")
        .replace(" (os error 61)", "");
    insta::assert_snapshot!(told, @r"
    the hub at 127.0.0.1:PORT closed the connection: connection closed before message completed
    the hub at 127.0.0.1:PORT closed the connection: invalid HTTP version parsed
    the hub at 127.0.0.1:PORT sent an answer that is not understood: missing field `status` at line 1 column 2
    cannot reach the hub at 127.0.0.1:PORT: Connection refused
    the hub at 127.0.0.1:PORT does not answer
    ");
}

#[test]
fn an_answer_without_the_envelope_is_shown_as_it_is() {
    let answer = ReadAnswer {
        status: StatusCode::BAD_GATEWAY,
        body: Bytes::from_static(b"proxy says no"),
    };
    assert_eq!(refusal(&answer), "502 Bad Gateway: proxy says no");
}

#[test]
fn a_command_shows_no_route() {
    let told = crate::api::ApiError::not_started("a").to_string();
    let shown = without_route(&told);
    assert!(told.contains("/hub/"), "{told}");
    assert_eq!(
        shown,
        "Model `a` is not started. Start it with `mlx-openai-server-hub start-model a`."
    );
    assert_eq!(without_route("no route"), "no route");
}
