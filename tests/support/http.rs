//! A plain, blocking HTTP/1.1 client: one connection per request, bodies whole or event by event.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// No answer of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests to one port of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// The port.
    pub port: u16,
}

/// An answer whose body has not been read.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    body: Body,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Http {
    /// Sends a request and returns when the head of the answer is there.
    pub fn send(
        self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Reply> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += &format!("host: 127.0.0.1:{}\r\n", self.port);
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        connection.write_all(format!("{head}\r\n").as_bytes())?;
        connection.write_all(body)?;
        Reply::read(BufReader::new(connection))
    }

    /// `GET`, whole. An error is a connection that failed.
    pub fn try_get(self, path: &str) -> std::io::Result<Answer> {
        self.send("GET", path, &[], b"")?.whole()
    }

    /// `GET`, whole.
    pub fn get(self, path: &str) -> Answer {
        self.try_get(path)
            .unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// `POST` of JSON, whole. An error is a connection that failed.
    pub fn try_post(self, path: &str, body: &Value) -> std::io::Result<Answer> {
        self.send("POST", path, JSON, body.to_string().as_bytes())?
            .whole()
    }

    /// `POST` of JSON, whole.
    pub fn post(self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body)
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// `POST` of JSON; the answer is read as it comes. Dropping the reply hangs up.
    pub fn open(self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, JSON, body.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// A chat completion that says `prompt`.
    pub fn chat(self, model: &str, prompt: &str) -> Answer {
        self.post("/v1/chat/completions", &chat(model, prompt, false))
    }

    /// The same as a stream.
    pub fn stream(self, model: &str, prompt: &str) -> Reply {
        self.open("/v1/chat/completions", &chat(model, prompt, true))
    }
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// The body of a chat completion.
pub fn chat(model: &str, prompt: &str, stream: bool) -> Value {
    serde_json::json!({
        "model": model,
        "stream": stream,
        "messages": [{"role": "user", "content": prompt}],
    })
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(header, _)| header == name)?;
    Some(value)
}

impl Reply {
    /// The next answer of a connection, once its head is there.
    pub fn read(mut connection: BufReader<TcpStream>) -> std::io::Result<Self> {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| std::io::Error::other(format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            connection.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let left = match find(&headers, "content-length") {
            Some(length) => Left::Bytes(length.parse().map_err(std::io::Error::other)?),
            None if find(&headers, "transfer-encoding").is_some() => Left::Chunks(0),
            None => Left::ToTheEnd,
        };
        let body = Body { connection, left };
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Reads the rest. An error is an answer that was cut short.
    pub fn whole(mut self) -> std::io::Result<Answer> {
        let mut body = Vec::new();
        self.body.read_to_end(&mut body)?;
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            body,
        })
    }

    /// Reads the rest, and leaves what there is of an answer that was cut short.
    pub fn read_to_end(mut self, text: &mut Vec<u8>) -> std::io::Result<usize> {
        self.body.read_to_end(text)
    }

    /// The `data:` of each server-sent event, `[DONE]` included. The iterator ends with the body,
    /// with an error when that was cut short.
    pub fn events(self) -> impl Iterator<Item = std::io::Result<String>> {
        let mut lines = BufReader::new(self.body).lines();
        let mut cut = false;
        std::iter::from_fn(move || {
            while !cut {
                match lines.next()? {
                    Ok(line) => {
                        if let Some(data) = line.strip_prefix("data: ") {
                            return Some(Ok(data.to_owned()));
                        }
                    }
                    // The lines would go on with the same error for ever.
                    Err(error) => {
                        cut = true;
                        return Some(Err(error));
                    }
                }
            }
            None
        })
    }

    /// The text of a streamed chat completion that must come whole.
    #[track_caller]
    pub fn said(self) -> String {
        let events: Vec<String> = self
            .events()
            .collect::<Result<_, _>>()
            .expect("a whole stream");
        assert_eq!(
            events.last().map(String::as_str),
            Some("[DONE]"),
            "{events:?}"
        );
        let chunks = events
            .iter()
            .filter_map(|event| serde_json::from_str(event).ok());
        chunks
            .filter_map(|chunk: Value| {
                let content = chunk["choices"][0]["delta"]["content"].as_str();
                content.map(str::to_owned)
            })
            .collect()
    }
}

/// What is still to come of a body.
enum Left {
    Bytes(usize),
    /// Bytes left of the current chunk.
    Chunks(usize),
    ToTheEnd,
    Nothing,
}

struct Body {
    connection: BufReader<TcpStream>,
    left: Left,
}

impl Body {
    /// The size of the next chunk; what stands before it is the end of the last.
    fn next_chunk(&mut self) -> std::io::Result<usize> {
        let mut line = String::new();
        while line.trim().is_empty() {
            if self.connection.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Left::Chunks(0) = self.left {
            self.left = match self.next_chunk()? {
                0 => Left::Nothing,
                size => Left::Chunks(size),
            };
        }
        let (Left::Bytes(most) | Left::Chunks(most)) = self.left else {
            return match self.left {
                Left::ToTheEnd => self.connection.read(buffer),
                _ => Ok(0),
            };
        };
        let most = most.min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.connection.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match &mut self.left {
            Left::Bytes(left) | Left::Chunks(left) => *left -= read,
            _ => {}
        }
        Ok(read)
    }
}
