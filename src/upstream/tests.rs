//! The pool against a worker whose every byte is scripted.

use http_body_util::BodyExt as _;
use tokio::join;
use tokio::net::{TcpListener, TcpStream};

use super::scripted::{Scripted, Wire, closed_port};
use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn request() -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::empty());
    *request.uri_mut() = Uri::from_static("/v1/x");
    request
}

#[tokio::test]
async fn get_returns_status_and_body_and_sets_host() {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let (answer, head) = join!(upstream.get("/health"), async {
        let mut wire = worker.accept().await;
        let head = wire.read_to("\r\n\r\n").await;
        wire.write("HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy")
            .await;
        head
    });
    let (status, body) = answer.unwrap();
    assert_eq!((status.as_u16(), &body[..]), (503, b"busy".as_slice()));
    assert!(head.starts_with("GET /health HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", upstream.authority)));
}

#[tokio::test]
async fn a_connection_is_used_again_after_every_kind_of_complete_response() {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let requests = async {
        for _ in 0..4 {
            upstream.get("/").await.unwrap();
        }
        // Never polled: a body of no length is at its end from the start.
        drop(upstream.send(request(), Duration::ZERO).await.unwrap());
        upstream.get("/").await.unwrap();
    };
    join!(requests, async {
        let mut wire = worker.accept().await;
        for answer in [
            OK,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            OK,
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            OK,
        ] {
            wire.read_to("\r\n\r\n").await;
            wire.write(answer).await;
        }
    });
}

#[tokio::test]
async fn a_body_of_known_length_that_was_read_but_not_polled_to_its_end_frees_the_connection() {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let requests = async {
        let mut response = upstream.send(request(), Duration::ZERO).await.unwrap();
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "ok");
        drop(response);
        upstream.get("/").await.unwrap();
    };
    join!(requests, async {
        let mut wire = worker.accept().await;
        for _ in 0..2 {
            wire.read_to("\r\n\r\n").await;
            wire.write(OK).await;
        }
    });
}

#[tokio::test]
async fn dropping_a_response_early_closes_the_connection_of_a_silent_worker() {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let (response, mut wire) = join!(upstream.send(request(), Duration::ZERO), async {
        let mut wire = worker.accept().await;
        wire.read_to("\r\n\r\n").await;
        wire.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")
            .await;
        wire
    });
    drop(response.unwrap());
    wire.read_to_close().await;
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let mut wire = tokio::select! {
        _ = upstream.send(request(), Duration::ZERO) => unreachable!("nobody answers"),
        wire = async {
            let mut wire = worker.accept().await;
            wire.read_to("\r\n\r\n").await;
            wire
        } => wire,
    };
    wire.read_to_close().await;
}

#[tokio::test]
async fn a_request_on_a_connection_that_was_closed_meanwhile_goes_out_on_a_new_one() {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let serve = async || {
        let mut wire = worker.accept().await;
        wire.read_to("\r\n\r\n").await;
        wire.write(OK).await;
        wire
    };
    let (first, wire) = join!(upstream.get("/"), serve());
    first.unwrap();
    // Both ends close in one turn of the reactor, and this task is polled before the driver: the pool
    // still believes in the connection when it hands it out.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (other, witness) = join!(listener.accept(), TcpStream::connect(address));
    drop((wire, other));
    Wire::new(witness.unwrap()).read_to_close().await;
    let (second, _wire) = join!(upstream.get("/"), serve());
    assert_eq!(second.unwrap().1, "ok");
}

/// A request with this body.
fn posted(body: &str) -> Request<RequestBody> {
    let chunks = [Bytes::copy_from_slice(body.as_bytes())].into();
    let mut request = Request::post("/v1/x").body(RequestBody::new(chunks, None));
    if let Ok(request) = &mut request {
        let length = HeaderValue::from(body.len());
        request.headers_mut().insert("content-length", length);
    }
    request.unwrap()
}

/// Has an exchange, and then asks with `body` on the same connection, on which the worker says `said` and
/// closes it; what came of that, and whether the worker was called again meanwhile. There it answers
/// `then`.
async fn asked_on_a_dying_connection(body: &str, said: &str, then: &str) -> (bool, String) {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let serve = async {
        let mut wire = worker.accept().await;
        wire.read_to("\r\n\r\n").await;
        wire.write(OK).await;
        let first = wire.read_to(body).await;
        wire.write(said).await;
        drop(wire);
        let mut wire = worker.accept().await;
        assert_eq!(wire.read_to(body).await, first, "it is the same request");
        wire.write(then).await;
        std::future::pending::<()>().await;
    };
    let requests = async {
        upstream.get("/").await.unwrap();
        let answer = upstream.send(posted(body), Duration::ZERO).await?;
        let body = answer.into_body().collect().await;
        Ok::<_, UpstreamError>(
            body.map_err(|fault| UpstreamError::Answer(fault.into()))?
                .to_bytes(),
        )
    };
    let answer = tokio::select! {
        answer = requests => answer,
        () = serve => unreachable!("it waits"),
    };
    let answer = match answer {
        Ok(body) => String::from_utf8(body.to_vec()).unwrap(),
        Err(error) => error.to_string(),
    };
    (worker.has_been_called().await, answer)
}

#[tokio::test]
async fn a_request_on_a_connection_that_closes_before_a_byte_of_its_answer_is_sent_again() {
    for body in ["{}", &"x".repeat(100_000)] {
        let (_, answer) = asked_on_a_dying_connection(body, "", OK).await;
        assert_eq!(answer, "ok");
    }
}

#[tokio::test]
async fn a_request_is_not_sent_again_once_something_of_its_answer_has_come() {
    for said in [
        "H",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
    ] {
        let (was_called, answer) = asked_on_a_dying_connection("{}", said, OK).await;
        assert!(!was_called && answer.contains("closed"), "{said}: {answer}");
    }
}

#[tokio::test]
async fn a_request_too_long_to_be_kept_is_not_sent_again() {
    let (was_called, answer) = asked_on_a_dying_connection(&"x".repeat(300_000), "", OK).await;
    assert!(!was_called && answer.contains("closed"), "{answer}");
}

#[tokio::test]
async fn a_request_is_sent_again_once_and_never_from_a_new_connection() {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let closes = async || {
        let mut wire = worker.accept().await;
        wire.read_to("\r\n\r\n").await;
    };
    let (new, ()) = join!(upstream.get("/"), closes());
    assert!(matches!(new, Err(UpstreamError::Exchange { .. })));
    assert!(!worker.has_been_called().await);

    let serve = async {
        let mut wire = worker.accept().await;
        wire.read_to("\r\n\r\n").await;
        wire.write(OK).await;
        wire.read_to("\r\n\r\n").await;
        drop(wire);
        closes().await;
    };
    let requests = async {
        upstream.get("/").await.unwrap();
        upstream.get("/").await
    };
    let (second, ()) = join!(requests, serve);
    assert!(matches!(second, Err(UpstreamError::Exchange { .. })));
    assert!(!worker.has_been_called().await);
}

#[tokio::test]
async fn patience_ends_also_while_interim_answers_come() {
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let serve = async {
        let mut wire = worker.accept().await;
        wire.read_to("\r\n\r\n").await;
        wire.write(&"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20))
            .await;
        std::future::pending::<()>().await;
    };
    let sent = tokio::select! {
        sent = upstream.send(request(), Duration::from_millis(50)) => sent,
        () = serve => unreachable!("it waits"),
    };
    assert!(matches!(sent.map(drop), Err(UpstreamError::Silent { .. })));
}

#[tokio::test]
async fn nobody_listening_is_an_error_that_names_the_address() {
    let (_closed, port) = closed_port();
    let upstream = Upstream::new("127.0.0.1", port, Accepts::Any);
    let error = upstream.get("/").await.unwrap_err().to_string();
    let start = format!("cannot connect to {}: ", upstream.authority);
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn ipv6_is_written_in_brackets() {
    let upstream = Upstream::new("::1", 8000, Accepts::Any);
    assert_eq!(&*upstream.authority, "[::1]:8000");
}

#[tokio::test]
async fn every_failure_is_told_with_the_address_and_the_cause() {
    let mut told = Vec::new();
    let worker = Scripted::start().await;
    let upstream = worker.upstream(Accepts::Any);
    let long = "x".repeat(GET_LIMIT + 1);
    for answer in [
        "",
        "no HTTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        &format!("HTTP/1.1 200 OK\r\n\r\n{long}"),
        &format!("HTTP/1.1 200 OK\r\nx: {long}"),
        "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nok\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        &"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100),
    ] {
        let (got, ()) = join!(upstream.get("/health"), async {
            let mut wire = worker.accept().await;
            wire.read_to("\r\n\r\n").await;
            wire.write_what_goes(answer).await;
        });
        told.push(got.unwrap_err());
    }
    let (sent, _wire) = join!(
        upstream.send(request(), Duration::from_millis(50)),
        worker.accept()
    );
    told.push(sent.map(drop).unwrap_err());
    told.push(upstream.get("no path").await.unwrap_err());
    let (_closed, port) = closed_port();
    let nobody = Upstream::new("127.0.0.1", port, Accepts::Any);
    told.push(nobody.get("/health").await.unwrap_err());
    told.push(UpstreamError::Upload("it is too short".into()));
    let told: Vec<_> = told.iter().map(ToString::to_string).collect();
    insta::with_settings!({ filters => [(r":\d+", ":PORT"), (r" \(os error \d+\)", "")] }, {
        insta::assert_snapshot!(told.join("\n"), @"
        no answer from 127.0.0.1:PORT: the connection was closed before the answer was complete
        no answer from 127.0.0.1:PORT: this is no HTTP/1.1: invalid HTTP version
        the answer broke off: the connection was closed before the answer was complete
        the answer broke off: length limit exceeded
        no answer from 127.0.0.1:PORT: the head of the answer is longer than 64 KiB
        no answer from 127.0.0.1:PORT: the answer's Content-Length is not one number
        no answer from 127.0.0.1:PORT: a chunk of the answer is not framed as one
        no answer from 127.0.0.1:PORT: the worker switched to another protocol
        no answer from 127.0.0.1:PORT: the worker sends interim answers (1xx) and no other
        no answer from 127.0.0.1:PORT in time
        not a path: invalid uri character
        cannot connect to 127.0.0.1:PORT: Connection refused
        the request body broke off: it is too short
        ");
    });
}

#[test]
fn a_shortage_of_this_machine_is_not_the_workers_fault() {
    let refused = |errno: Errno| UpstreamError::Connect {
        authority: "127.0.0.1:1".into(),
        source: errno.into(),
    };
    assert!(refused(Errno::ECONNREFUSED).is_workers_fault());
    for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL] {
        assert!(!refused(errno).is_workers_fault(), "{errno}");
    }
}
