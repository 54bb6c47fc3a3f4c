//! What of a request arrives at the worker: its body byte for byte, but for the model's name where
//! the worker insists on its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use crate::support::Hub;
use crate::support::http::{Answer, Reply};
use crate::support::record::hash;
use crate::{CHAT, DIALECTS, alpha, alpha_in};

fn post(hub: &Hub, path: &str, kind: &str, body: &[u8]) -> Answer {
    let headers = [
        ("content-type", kind),
        ("x-mine", "kept"),
        ("te", "trailers"),
    ];
    let reply = hub.http.send("POST", path, &headers, body);
    reply.and_then(Reply::whole).unwrap()
}

/// That the last request to `path` had this body.
#[track_caller]
fn assert_arrived(hub: &Hub, path: &str, body: &[u8]) {
    let requests = hub.record.requests(path);
    let last = requests.last().expect("a request");
    let shown = String::from_utf8_lossy(&body[..body.len().min(2000)]);
    assert_eq!(last["body_length"], body.len(), "{shown}\n{last}");
    assert_eq!(last["body_hash"], hash(body), "{shown}\n{last}");
}

/// A body that no JSON library writes, with `model` as written.
fn odd(model: &str) -> Vec<u8> {
    format!(
        "\n{{ \"z\" : 1.50e+0,\t\"messages\":[ {{\"role\":\"user\",\"content\":\"h\\u00e9 \\\"model\\\":\\\"x\\\" ☃\"}}],\r\n \
         \"nested\":{{\"model\":\"not me\"}} ,\"model\"  :  {model} , \"z\":2,\"stream\" :false}} \n"
    )
    .into_bytes()
}

#[test]
fn json_arrives_byte_for_byte_but_for_a_name_the_worker_would_refuse() {
    for (dialect, written, arrives) in [
        ("1.8.1", r#""alpha""#, r#""alpha""#),
        ("1.8.1", r#""org/alpha""#, r#""alpha""#),
        ("1.8.1", r#""org\/alph\u0061""#, r#""alpha""#),
        ("jit", r#""alpha""#, r#""alpha""#),
        ("jit", r#""org\/alph\u0061""#, r#""org\/alph\u0061""#),
    ] {
        let hub = Hub::start(&alpha_in(dialect, &[]));
        let answer = post(&hub, CHAT, "application/json", &odd(written));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_arrived(&hub, CHAT, &odd(arrives));
    }
}

#[test]
fn a_body_that_is_held_up_while_its_model_loads_arrives_whole() {
    let hub = Hub::start(&alpha(&["--load-seconds", "0.5"]));
    let text = "x".repeat(12 << 20);
    let body = format!(r#"{{"model":"alpha","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let answer = post(&hub, CHAT, "application/json", body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_arrived(&hub, CHAT, body.as_bytes());
    assert_eq!(hub.record.events("load").len(), 1);
}

#[test]
fn five_megabytes_with_the_model_last_arrive_whole() {
    let hub = Hub::start(&alpha(&[]));
    let image = "iVBOR\\/w0KG".repeat(500_000);
    let body = |model: &str| format!("{{\"messages\":[\"{image}\"],\"model\":\"{model}\"}}");
    let answer = post(&hub, CHAT, "application/json", body("org/alpha").as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_arrived(&hub, CHAT, body("alpha").as_bytes());
}

#[test]
fn a_chunked_body_arrives_whole() {
    let hub = Hub::start(&alpha(&[]));
    let mut connection = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let mut write = |text: &str| connection.write_all(text.as_bytes()).unwrap();
    write(&format!(
        "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    for piece in ["{\"mod", "el\": \"org/al", "pha\", \"messages", "\": []}"] {
        write(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    write("0\r\n\r\n");
    let mut status = String::new();
    BufReader::new(&connection).read_line(&mut status).unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK\r\n");
    assert_arrived(&hub, CHAT, br#"{"model": "alpha", "messages": []}"#);
}

/// A form with a file that looks like the end of a part, and the model after it.
fn form(model: &str) -> Vec<u8> {
    let mut form =
        b"--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
        Content-Type: audio/wav\r\n\r\nRIFF\x00\xff\r\n--Xy\r\n\r\nmodel\r\n"
            .to_vec();
    form.extend((0..200_000_u32).map(|byte| byte.to_le_bytes()[0]));
    form.extend_from_slice(
        format!("\r\n--XyZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n")
            .as_bytes(),
    );
    form.extend_from_slice(
        b"--XyZ\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nhello\r\n--XyZ--\r\n",
    );
    form
}

#[test]
fn forms_arrive_byte_for_byte_but_for_a_name_the_worker_would_refuse() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &[]));
        for path in ["/v1/audio/transcriptions", "/v1/images/edits"] {
            for model in ["alpha", "org/alpha"] {
                let kind = "multipart/form-data; boundary=\"XyZ\"";
                let answer = post(&hub, path, kind, &form(model));
                assert_eq!(answer.status, 200, "{}", answer.text());
                let parts = answer.json()["parts"].as_array().unwrap().len();
                assert_eq!(parts, 3, "{}", answer.text());
                let arrives = if dialect == "jit" { model } else { "alpha" };
                assert_arrived(&hub, path, &form(arrives));
            }
        }
    }
}

#[test]
fn headers_arrive_but_for_those_of_the_connection() {
    let hub = Hub::start(&alpha_in("jit", &[]));
    let headers = [
        ("authorization", "Bearer secret"),
        ("x-request-id", "mine-7"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("accept-encoding", "gzip"),
    ];
    let body = odd(r#""alpha""#);
    let reply = hub.http.send("POST", CHAT, &headers, &body).unwrap();
    assert_eq!(
        reply.whole().unwrap().header("x-request-id"),
        Some("mine-7")
    );
    let arrived = &hub.record.requests(CHAT)[0]["headers"];
    let port = hub.model("alpha")["port"].to_string();
    assert_eq!(arrived["host"], format!("127.0.0.1:{port}"));
    assert_eq!(arrived["authorization"], "Bearer secret");
    assert_eq!(arrived["x-request-id"], "mine-7");
    assert_eq!(arrived["accept-encoding"], "gzip");
    assert_eq!(arrived["content-length"], body.len().to_string());
    for name in ["connection", "x-hop", "te", "transfer-encoding"] {
        assert!(arrived.get(name).is_none(), "{arrived}");
    }
}
