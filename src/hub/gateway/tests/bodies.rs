//! The part of a request's body that reaches the worker, and the refusal of a request without a model.

use super::*;

#[tokio::test]
async fn a_body_goes_through_byte_for_byte() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(only_alpha())).await;
    let body = r#"{ "x" : 1.50, "model":"alpha" , "y":"\u00e9" }"#;
    let mut client = hub.connect().await;
    client.write(&post(body)).await;
    let mut wire = worker.accept().await;
    let head = wire.read_to("\r\n\r\n").await;
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    assert!(head.contains("x-request-id: r1\r\n"), "{head}");
    wire.read_to(body).await;
    wire.write(OK).await;
    assert!(
        client
            .read_to("\r\n\r\nok")
            .await
            .starts_with("HTTP/1.1 200")
    );
    hub.all_is_free().await;
}

#[tokio::test]
async fn only_the_models_value_is_replaced_in_json() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(only_alpha())).await;
    let mut client = hub.connect().await;
    client
        .write(&post(r#"{ "n":1.0, "model" : "org\/alpha", "m":"é" }"#))
        .await;
    let mut wire = worker.accept().await;
    let expected = r#"{ "n":1.0, "model" : "alpha", "m":"é" }"#;
    let head = wire.read_to("\r\n\r\n").await;
    assert!(head.contains(&format!("content-length: {}\r\n", expected.len())));
    wire.read_to(expected).await;
}

#[tokio::test]
async fn the_models_value_is_replaced_in_a_form_cut_into_chunks() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(only_alpha())).await;
    let mut client = hub.connect().await;
    client
        .write(
            "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: hub\r\ntransfer-encoding: chunked\r\n\
             content-type: multipart/form-data; boundary=B\r\n\r\n",
        )
        .await;
    let form = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nRIFF\r\n\
                --B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\norg/alpha\r\n--B--\r\n";
    for piece in form.as_bytes().chunks(7) {
        let piece = std::str::from_utf8(piece).unwrap();
        let size = piece.len();
        client.write(&format!("{size:x}\r\n{piece}\r\n")).await;
    }
    client.write("0\r\n\r\n").await;
    let mut wire = worker.accept().await;
    wire.read_to("\r\n\r\n").await;
    let sent = dechunked(&wire.read_to("0\r\n\r\n").await);
    assert_eq!(sent, form.replace("org/alpha", "alpha"));
}

fn dechunked(mut chunked: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = chunked.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect(chunked);
        text.push_str(&rest[..size]);
        chunked = &rest[size + 2..];
    }
    text
}

#[tokio::test]
async fn the_model_in_a_query_is_replaced_too() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(only_alpha())).await;
    let mut client = hub.connect().await;
    client
        .write("GET /v1/queue/stats?a=1&model=org%2Falpha HTTP/1.1\r\nhost: hub\r\n\r\n")
        .await;
    let head = worker.accept().await.read_to("\r\n\r\n").await;
    assert!(head.starts_with("GET /v1/queue/stats?a=1&model=alpha HTTP/1.1\r\n"));
}

#[tokio::test]
async fn an_upload_goes_on_as_soon_as_its_model_is_known() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    let request = post(r#"{"model":"alpha","x":"first-second"}"#);
    let (beginning, rest) = request.split_once("-second").unwrap();
    client.write(beginning).await;
    let mut wire = worker.accept().await;
    wire.read_to("first").await;
    client.write("-second").await;
    client.write(rest).await;
    wire.read_to("-second\"}").await;
    wire.write(OK).await;
    client.read_to("\r\n\r\nok").await;
}

#[tokio::test]
async fn a_client_that_is_still_sending_hears_why_it_is_refused() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    let images = "i".repeat(8 << 20);
    client
        .write(&post(&format!(r#"{{"model":7,"images":"{images}"}}"#)))
        .await;
    client.read_to("Model selection is required").await;
}

#[tokio::test]
async fn a_client_that_asks_first_is_not_told_to_send_what_is_refused() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut client = hub.connect().await;
    client
        .write(
            "POST /v1/x HTTP/1.1\r\nhost: hub\r\nexpect: 100-continue\r\n\
             content-length: 268435457\r\n\r\n",
        )
        .await;
    let head = client.read_to("\r\n").await;
    assert_eq!(head, "HTTP/1.1 413 Payload Too Large\r\n");
}

#[tokio::test]
async fn every_way_not_to_name_a_model_has_its_text() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let mut texts = String::new();
    let form = "POST /v1/images/edits HTTP/1.1\r\nhost: hub\r\ncontent-length: 3\r\n\
                content-type: multipart/form-data; boundary=B\r\n\r\nabc";
    for request in [
        post(r#"{"messages":[]}"#),
        post(r#"{"model":null}"#),
        post(r#"{"model":"  "}"#),
        post(""),
        post("{\"messages\": [\n  {\"role\": }"),
        post("{\"messages\": [1, 2"),
        post("[]"),
        form.to_owned(),
        "GET /v1/queue/stats HTTP/1.1\r\nhost: hub\r\n\r\n".to_owned(),
        "GET /v1/nosuch HTTP/1.1\r\nhost: hub\r\n\r\n".to_owned(),
    ] {
        let mut client = hub.connect().await;
        client.write(&request).await;
        let answer = client.read_to("}}").await;
        let (head, error) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap();
        let asked = request.lines().next().unwrap();
        let body = request.split_once("\r\n\r\n").unwrap().1;
        texts.push_str(&format!("{asked}\n{body}\n→ {status}\n{error}\n\n"));
    }
    insta::assert_snapshot!(texts);
}

fn packed(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_packed_body_reaches_the_worker_as_what_it_is() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(only_alpha())).await;
    let text = r#"{"model":"org/alpha","messages":[]}"#;
    let body = packed(text);
    for path in ["/v1/chat/completions", "/v1/chat/completions?model=alpha"] {
        let mut client = hub.connect().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: hub\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        client.write_bytes(&[head.as_bytes(), &body].concat()).await;
        let mut wire = worker.accept().await;
        let head = wire.read_to("\r\n\r\n").await;
        let expected = text.replace("org/alpha", "alpha");
        assert!(
            head.contains(&format!("content-length: {}\r\n", expected.len())),
            "{head}"
        );
        assert!(!head.contains("content-encoding"), "{head}");
        wire.read_to(&expected).await;
        wire.write(OK).await;
        client.read_to("\r\n\r\nok").await;
    }
}

#[tokio::test]
async fn a_large_packed_body_is_decoded_as_it_passes() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let text = format!(
        r#"{{"model":"alpha","x":"{}"}}"#,
        "0123456789".repeat(100_000)
    );
    let body = packed(&text);
    let (one, two) = body.split_at(body.len() / 2);
    let mut client = hub.connect().await;
    let head = format!(
        "POST /v1/x HTTP/1.1\r\nhost: hub\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_bytes(&[head.as_bytes(), one].concat()).await;
    let mut wire = worker.accept().await;
    let head = wire.read_to("\r\n\r\n").await;
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    client.write_bytes(two).await;
    let sent = dechunked(&wire.read_to("\r\n0\r\n\r\n").await);
    assert!(sent == text, "{} of {}", sent.len(), text.len());
}

#[tokio::test]
async fn a_second_model_is_refused_also_where_the_first_has_gone_on_already() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let refused = "it has more than one `model`";
    let mut client = hub.connect().await;
    client
        .write(&post(
            r#"{"model":"alpha","x":{"model":"no"},"\u006dodel":"beta"}"#,
        ))
        .await;
    assert!(client.read_to("}}").await.contains(refused));
    assert!(!worker.has_been_called().await);

    // A query counts where the body names none.
    let mut client = hub.connect().await;
    client
        .write("GET /v1/queue/stats?model=alpha&model=beta HTTP/1.1\r\nhost: hub\r\n\r\n")
        .await;
    let answer = client.read_to("}}").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.contains("query has more than one `model`"),
        "{answer}"
    );
    assert!(!worker.has_been_called().await);

    // Its beginning is on its way when the end comes.
    let request = post(r#"{"model":"alpha","x":"first-second","model":"beta"}"#);
    let (beginning, rest) = request.split_once("-second").unwrap();
    let mut client = hub.connect().await;
    client.write(beginning).await;
    let mut wire = worker.accept().await;
    wire.read_to("first").await;
    client.write(&format!("-second{rest}")).await;
    let answer = client.read_to("}}").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains(refused), "{answer}");
    assert!(!wire.read_to_close().await.contains("beta"));
    hub.all_is_free().await;
}

#[tokio::test]
async fn a_urlencoded_form_names_its_model_and_keeps_all_else() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(only_alpha())).await;
    let as_form = |body: &str| {
        let post = post(body);
        let kind = "content-type: application/x-www-form-urlencoded\r\n";
        post.replacen("content-length", &format!("{kind}content-length"), 1)
    };
    for (body, expected) in [
        (
            "prompt=a+%26b&model=org%2Falpha",
            "prompt=a+%26b&model=alpha",
        ),
        ("model=alpha&n=1", "model=alpha&n=1"),
        // curl says so of everything that it is given with -d.
        (r#" {"model":"org/alpha"}"#, r#" {"model":"alpha"}"#),
    ] {
        let mut client = hub.connect().await;
        client.write(&as_form(body)).await;
        let mut wire = worker.accept().await;
        let head = wire.read_to("\r\n\r\n").await;
        let length = format!("content-length: {}\r\n", expected.len());
        assert!(head.contains(&length), "{head}");
        wire.read_to(expected).await;
        wire.write(OK).await;
        client.read_to("\r\n\r\nok").await;
    }
    for (body, told) in [
        ("model=alpha&model=beta", "it has more than one `model`"),
        ("prompt=x", "Model selection is required"),
    ] {
        let mut client = hub.connect().await;
        client.write(&as_form(body)).await;
        assert!(client.read_to("}}").await.contains(told), "{body}");
    }
}

#[tokio::test]
async fn the_mark_of_utf_8_goes_through_with_the_rest() {
    let worker = Scripted::start().await;
    let hub = Hub::in_front_of(worker.upstream(Accepts::Any)).await;
    let body = "\u{feff}{\"model\":\"alpha\"}";
    let mut client = hub.connect().await;
    client.write(&post(body)).await;
    let mut wire = worker.accept().await;
    wire.read_to("\r\n\r\n").await;
    wire.read_to(body).await;
}
