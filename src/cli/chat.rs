//! One streamed chat completion, requested as by any client of the OpenAI API.

use std::collections::VecDeque;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::client::Client;
use super::pieces::Pieces;

/// The route of chat completions.
const PATH: &str = "/v1/chat/completions";

/// An answer in progress. Dropping it stops the answer.
pub(super) struct Chat {
    pieces: Pieces,
    /// The last line as far as it has come.
    line: Vec<u8>,
    said: VecDeque<AnswerPiece>,
}

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AnswerPiece {
    /// Some of its text.
    Text(String),
    /// Some of what the model thinks first, which is no part of the answer.
    Thought,
}

impl Chat {
    /// Sends `messages`; returns when the answer begins, which may be before the model's load ends.
    ///
    /// # Errors
    /// The hub's refusal.
    pub(super) async fn ask(
        client: &Client,
        model: &str,
        messages: &[Value],
    ) -> anyhow::Result<Self> {
        let body = json!({"model": model, "stream": true, "messages": messages});
        let pieces = client.post(PATH, body.to_string().into()).await?;
        Ok(Self {
            pieces,
            line: Vec::new(),
            said: VecDeque::new(),
        })
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// An error in the stream, in the hub's words; a stream that is cut short.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<AnswerPiece>> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Ok(Some(said));
            }
            let piece = self
                .pieces
                .next()
                .await
                .context("the answer was cut short")?;
            let Some(piece) = piece else { return Ok(None) };
            self.take(&piece)?;
        }
    }

    /// Takes the lines that have ended; each event is one, and so is a comment while the model loads.
    fn take(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            let Some(data) = line.strip_prefix(b"data:") else {
                continue;
            };
            // The last one is no JSON.
            let Ok(event) = serde_json::from_slice::<Value>(data) else {
                continue;
            };
            if let Some(message) = event["error"]["message"].as_str() {
                anyhow::bail!("{message}");
            }
            let delta = &event["choices"][0]["delta"];
            let text = |field: &str| delta[field].as_str().filter(|text| !text.is_empty());
            if text("reasoning_content").or(text("reasoning")).is_some() {
                self.said.push_back(AnswerPiece::Thought);
            }
            if let Some(text) = text("content") {
                self.said.push_back(AnswerPiece::Text(text.to_owned()));
            }
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const STREAM: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    /// The text of a hub's answer that is sent in these pieces, and the reason why it is incomplete.
    async fn heard(answer: &[&str]) -> (Vec<AnswerPiece>, Option<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(
            "127.0.0.1",
            listener.local_addr().unwrap().port(),
            "/nowhere/hub.yaml".as_ref(),
        );
        let mut heard = Vec::new();
        let chat = async {
            let mut chat = Chat::ask(&client, "parrot", &[]).await?;
            while let Some(said) = chat.next().await? {
                heard.push(said);
            }
            anyhow::Ok(())
        };
        let hub = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            for piece in answer {
                stream.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (told, ()) = tokio::join!(chat, hub);
        let reason = told.err().map(|error| format!("{error:#}"));
        let reason = reason.map(|reason| reason.replace(&client.address(), "HUB"));
        (heard, reason)
    }

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    fn event(delta: &Value) -> String {
        format!("data: {}\n\n", json!({"choices": [{"delta": delta}]}))
    }

    #[tokio::test]
    async fn a_chat_that_fails_says_why() {
        let refused = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nfull";
        let late = chunk(
            ": loading\n\ndata: {\"error\": {\"message\": \"Model `parrot` failed to load\"}}\n\n",
        );
        let mut told = Vec::new();
        for answer in [
            &[""][..],
            &["no HTTP\r\n\r\n"],
            &[refused],
            &[STREAM, "9\r\nhalf"],
            &[STREAM, &late],
        ] {
            told.extend(heard(answer).await.1);
        }
        insta::assert_snapshot!(told.join("\n"), @"
        the hub at HUB closed the connection: connection closed before message completed
        the hub at HUB closed the connection: invalid HTTP version parsed
        429 Too Many Requests: full
        the answer was cut short: error reading a body from connection: end of file before message length reached
        Model `parrot` failed to load
        ");
    }

    #[tokio::test]
    async fn an_answer_is_heard_however_its_events_are_cut() {
        let events = [
            ": loading parrot 3s\n\n",
            &event(&json!({"role": "assistant"})),
            &event(&json!({"reasoning_content": "hm"})),
            &event(&json!({"content": ""})),
            &event(&json!({"content": "grüß"})),
            &event(&json!({"content": " dich"})).replace('\n', "\r\n"),
            "data: [DONE]\n\n",
        ]
        .concat();
        let text = |text: &str| AnswerPiece::Text(text.to_owned());
        let said = [AnswerPiece::Thought, text("grüß"), text(" dich")];
        for cut in (0..events.len()).filter(|at| events.is_char_boundary(*at)) {
            let (one, two) = (chunk(&events[..cut]), chunk(&events[cut..]));
            let one = if cut == 0 { String::new() } else { one };
            let (heard, reason) = heard(&[STREAM, &one, &two, "0\r\n\r\n"]).await;
            assert_eq!((&heard[..], reason), (&said[..], None), "cut at {cut}");
        }
    }
}
