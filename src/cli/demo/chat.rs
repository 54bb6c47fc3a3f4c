//! One streamed chat completion, requested as by any client of the OpenAI API.

use std::net::Ipv4Addr;
use std::pin::pin;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// An answer in progress.
pub(super) struct Chat {
    body: Incoming,
    /// The received events; the last one may be incomplete.
    received: Vec<u8>,
    connection: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
}

impl Chat {
    /// Sends `prompt`; returns when the answer begins, which is after the model's load.
    pub(super) async fn ask(port: u16, model: &str, prompt: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let body = json!({
            "model": model,
            "stream": true,
            "messages": [{"role": "user", "content": prompt}],
        });
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/chat/completions")
            .header(header::HOST, format!("127.0.0.1:{port}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))?;
        let (mut sender, mut connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut answer = pin!(sender.send_request(request));
        let response = tokio::select! {
            response = &mut answer => response,
            // It may have ended with the answer.
            _ = &mut connection => answer.await,
        };
        let response = response.context("the hub gave no answer")?;
        let status = response.status();
        let mut chat = Self {
            body: response.into_body(),
            received: Vec::new(),
            connection,
        };
        if !status.is_success() {
            while chat.receive().await? {}
            bail!("{status}: {}", String::from_utf8_lossy(&chat.received));
        }
        Ok(chat)
    }

    /// The next piece of text; `None` at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            while let Some(event) = self.next_event() {
                if let Ok(chunk) = serde_json::from_str::<Value>(&event)
                    && let Some(text) = chunk["choices"][0]["delta"]["content"].as_str()
                {
                    return Ok(Some(text.to_owned()));
                }
            }
            if !self.receive().await? {
                return Ok(None);
            }
        }
    }

    /// The data of the next whole event received.
    fn next_event(&mut self) -> Option<String> {
        let end = memchr::memmem::find(&self.received, b"\n\n")?;
        let event: Vec<u8> = self.received.drain(..end + 2).collect();
        let event = String::from_utf8_lossy(&event);
        Some(event.trim().trim_start_matches("data: ").to_owned())
    }

    /// Receives the next bytes; false at the end of the body.
    async fn receive(&mut self) -> anyhow::Result<bool> {
        let mut connection_ended = false;
        let frame = loop {
            tokio::select! {
                biased;
                frame = self.body.frame() => break frame,
                // The bytes received before its end are still unread.
                _ = &mut self.connection, if !connection_ended => connection_ended = true,
            }
        };
        let Some(frame) = frame else {
            return Ok(false);
        };
        let frame = frame.context("the stream was cut short")?;
        if let Some(data) = frame.data_ref() {
            self.received.extend_from_slice(data);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// The reason why the chat is incomplete.
    async fn failure(answer: &str) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let chat = async {
            let mut chat = Chat::ask(port, "parrot", "hello").await?;
            while chat.next().await?.is_some() {}
            anyhow::Ok(())
        };
        let hub = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (told, ()) = tokio::join!(chat, hub);
        format!("{:#}", told.unwrap_err())
    }

    #[tokio::test]
    async fn a_chat_that_fails_says_why() {
        let told = [
            failure("").await,
            failure("no HTTP\r\n\r\n").await,
            failure("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nfull").await,
            failure("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf").await,
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        the hub gave no answer: connection closed before message completed
        the hub gave no answer: invalid HTTP version parsed
        429 Too Many Requests: full
        the stream was cut short: error reading a body from connection: end of file before message length reached
        ");
    }
}
