//! Writes the heads of requests to a worker and reads those of its answers (RFC 9112).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, request, response};
use httparse::ParserConfig;
use memchr::memchr_iter;

use super::fault::Fault;
use super::framing::{Chunks, Remaining};

/// Longest head of an answer, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The first bytes of every answer.
const START: &[u8] = b"HTTP/1.";

/// Interim answers to one request; nothing else would end an endless series of them.
const MAX_INTERIM: u32 = 32;

/// Headers of one answer.
const MAX_HEADERS: usize = 100;

/// The framing of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length in bytes.
    Length(u64),
    Chunked,
}

/// The head of a request to `host` with a body of `length` bytes, if that is known, and the body's framing.
pub(super) fn encode(
    parts: &request::Parts,
    host: &HeaderValue,
    length: Option<u64>,
) -> (Bytes, Framing) {
    let mut head = Vec::with_capacity(512);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    for text in [parts.method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(text.as_bytes());
    }
    push(&mut head, HOST.as_str(), host.as_bytes());
    for (name, value) in &parts.headers {
        if *name != HOST && *name != TRANSFER_ENCODING {
            push(&mut head, name.as_str(), value.as_bytes());
        }
    }
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(number);
    let framing = match announced.or(length) {
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    match framing {
        Framing::Length(length) if announced.is_none() && length > 0 => {
            let length = length.to_string();
            push(&mut head, CONTENT_LENGTH.as_str(), length.as_bytes());
        }
        Framing::Length(_) => {}
        Framing::Chunked => push(&mut head, TRANSFER_ENCODING.as_str(), b"chunked"),
    }
    head.extend_from_slice(b"\r\n");
    (head.into(), framing)
}

fn push(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for bytes in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(bytes);
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: response::Parts,
    pub(super) remaining: Remaining,
    /// True if the connection takes another request when the body is over.
    pub(super) keeps_alive: bool,
}

/// Takes the head of an answer off `unread` once all of it has arrived; interim answers (1xx) before it
/// are skipped, and counted in `interim`. `for_head`: the request was `HEAD`. The answer reuses
/// the memory of `headers`.
pub(super) fn take(
    unread: &mut BytesMut,
    for_head: bool,
    headers: &mut HeaderMap,
    interim: &mut u32,
) -> Result<Option<Head>, Fault> {
    let read = loop {
        let Some(length) = length(unread)? else {
            return Ok(None);
        };
        headers.clear();
        let read = parse(&unread.split_to(length).freeze(), headers)?;
        if read.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fault::Switched);
        }
        if !read.status.is_informational() {
            break read;
        }
        *interim += 1;
        if *interim > MAX_INTERIM {
            return Err(Fault::Interim);
        }
    };
    let status = read.status;
    let has_body =
        !for_head && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED;
    let remaining = if has_body {
        remaining(headers, read.has_coding)?
    } else {
        Remaining::Length(0)
    };
    let closes = read.has_connection && lists(headers, &CONNECTION, "close");
    let keeps_alive =
        read.version == Version::HTTP_11 && remaining != Remaining::UntilClose && !closes;
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.headers = std::mem::take(headers);
    Ok(Some(Head {
        parts,
        remaining,
        keeps_alive,
    }))
}

/// The length of the head that `unread` begins with, if all of it has arrived.
fn length(unread: &[u8]) -> Result<Option<usize>, Fault> {
    let known = unread.len().min(START.len());
    if unread[..known] != START[..known] {
        // No further byte makes it an answer.
        return Err(httparse::Error::Version.into());
    }
    let end = memchr_iter(b'\n', unread).find_map(|at| match &unread[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    });
    if end.unwrap_or(unread.len()) > MAX_HEAD_BYTES {
        return Err(Fault::LongHead);
    }
    Ok(end)
}

/// The status line, and the presence of headers that most answers lack.
struct StatusLine {
    status: StatusCode,
    version: Version,
    /// `Transfer-Encoding`.
    has_coding: bool,
    /// `Connection`.
    has_connection: bool,
}

/// Parses a complete head; the values of its headers are slices of it.
fn parse(head: &Bytes, headers: &mut HeaderMap) -> Result<StatusLine, Fault> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(
        &mut answer,
        head,
        &mut fields,
    )?;
    if parsed.is_partial() {
        return Err(httparse::Error::NewLine.into());
    }
    let (mut has_coding, mut has_connection) = (false, false);
    for field in &*answer.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| httparse::Error::HeaderName)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| httparse::Error::HeaderValue)?;
        has_coding |= name == TRANSFER_ENCODING;
        has_connection |= name == CONNECTION;
        headers.append(name, value);
    }
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    Ok(StatusLine {
        status: status.ok_or(httparse::Error::Status)?,
        version: match answer.version {
            Some(1) => Version::HTTP_11,
            _ => Version::HTTP_10,
        },
        has_coding,
        has_connection,
    })
}

/// The framing of the body after these headers (RFC 9112, section 6.3). Removes any length that does not
/// apply, so that the client does not see it.
fn remaining(headers: &mut HeaderMap, has_coding: bool) -> Result<Remaining, Fault> {
    if has_coding && let Some(codings) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        let last = codings.as_bytes().rsplit(|byte| *byte == b',').next();
        let is_chunked =
            last.is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        headers.remove(CONTENT_LENGTH);
        return Ok(if is_chunked {
            Remaining::Chunks(Chunks::Size)
        } else {
            Remaining::UntilClose
        });
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(Remaining::UntilClose);
    };
    if lengths.next().is_some() {
        return Err(Fault::Length);
    }
    number(first).map(Remaining::Length).ok_or(Fault::Length)
}

/// A header's value as a whole number. No sign is allowed.
fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| value.to_str().ok()?.parse().ok())?
}

/// True if a header's list contains the word.
fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let mut listed = headers.get_all(name).iter();
    listed.any(|value| {
        let mut words = value.as_bytes().split(|byte| *byte == b',');
        words.any(|one| one.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const HOST: HeaderValue = HeaderValue::from_static("worker:1");

    fn encoded(request: http::request::Builder, length: Option<u64>) -> (String, Framing) {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let (head, framing) = encode(&parts, &HOST, length);
        (String::from_utf8(head.to_vec()).unwrap(), framing)
    }

    #[test]
    fn a_request_is_written_for_the_worker_as_its_host() {
        let request = Request::post("/v1/x?y=1")
            .header("host", "hub")
            .header("x-a", "1")
            .header("x-a", "2")
            .header("content-length", "5");
        let (head, framing) = encoded(request, Some(5));
        insta::assert_snapshot!(head.replace('\r', ""), @"
        POST /v1/x?y=1 HTTP/1.1
        host: worker:1
        x-a: 1
        x-a: 2
        content-length: 5
        ");
        assert_eq!(framing, Framing::Length(5));
    }

    #[test]
    fn a_body_without_an_announced_length_is_framed_by_what_is_known_of_it() {
        for (length, header, framing) in [
            (Some(0), "", Framing::Length(0)),
            (Some(7), "content-length: 7\r\n", Framing::Length(7)),
            (None, "transfer-encoding: chunked\r\n", Framing::Chunked),
        ] {
            let expected = format!("POST / HTTP/1.1\r\nhost: worker:1\r\n{header}\r\n");
            assert_eq!(encoded(Request::post("/"), length), (expected, framing));
        }
    }

    fn take_one(text: &str) -> Result<Option<Head>, Fault> {
        let headers = &mut HeaderMap::new();
        take(&mut BytesMut::from(text), false, headers, &mut 0)
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-a: 1\r\nX-A: 2\r\n\r\n";
        for end in 0..text.len() {
            assert!(take_one(&text[..end]).unwrap().is_none(), "{end}");
        }
        let mut unread = BytesMut::from(text);
        unread.extend_from_slice(b"ok");
        // The map's earlier headers are gone.
        let mut headers = HeaderMap::new();
        headers.insert("x-old", HeaderValue::from_static("1"));
        let head = take(&mut unread, false, &mut headers, &mut 0);
        let head = head.unwrap().unwrap();
        assert_eq!((&unread[..], head.parts.status.as_u16()), (&b"ok"[..], 200));
        assert_eq!(head.parts.headers.len(), 3);
        assert!(head.parts.headers.get_all("x-a").iter().eq(["1", "2"]));
        assert_eq!(head.remaining, Remaining::Length(2));
        assert!(head.keeps_alive);
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx-a: 1\r\n\r\n";
        assert!(take_one(text).unwrap().is_none());
        let text = format!("{text}HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n");
        let head = take_one(&text).unwrap().unwrap();
        assert_eq!(head.parts.status.as_u16(), 201);
        assert_eq!(head.parts.headers.len(), 1);
    }

    #[test]
    fn a_flood_of_interim_answers_is_no_answer_however_it_arrives() {
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n";
        let most = hints.repeat(MAX_INTERIM as usize);
        assert!(take_one(&most).unwrap().is_none());
        assert!(matches!(
            take_one(&format!("{most}{hints}")),
            Err(Fault::Interim)
        ));
        let (mut interim, mut taken) = (0, 0);
        while take(
            &mut hints.into(),
            false,
            &mut HeaderMap::new(),
            &mut interim,
        )
        .is_ok()
        {
            taken += 1;
        }
        assert_eq!(taken, MAX_INTERIM);
    }

    #[test]
    fn the_end_of_the_body_and_of_the_connection_are_read_off_the_head() {
        const CHUNKED: Remaining = Remaining::Chunks(Chunks::Size);
        for (head, remaining, keeps_alive) in [
            ("1.1 200\r\ncontent-length: 3", Remaining::Length(3), true),
            (
                "1.1 200\r\ncontent-length: 3\r\nconnection: a, Close",
                Remaining::Length(3),
                false,
            ),
            ("1.0 200\r\ncontent-length: 3", Remaining::Length(3), false),
            ("1.1 200\r\nx: y", Remaining::UntilClose, false),
            ("1.1 204\r\nx: y", Remaining::Length(0), true),
            ("1.1 304\r\ncontent-length: 3", Remaining::Length(0), true),
            ("1.1 200\r\ntransfer-encoding: Chunked", CHUNKED, true),
            ("1.1 200\r\ntransfer-encoding: gzip, chunked", CHUNKED, true),
            (
                "1.1 200\r\ntransfer-encoding: gzip",
                Remaining::UntilClose,
                false,
            ),
            (
                "1.1 200\r\ntransfer-encoding: chunked\r\ncontent-length: 3",
                CHUNKED,
                true,
            ),
        ] {
            let read = take_one(&format!("HTTP/{head}\r\n\r\n")).unwrap().unwrap();
            assert_eq!(
                (read.remaining, read.keeps_alive),
                (remaining, keeps_alive),
                "{head}"
            );
            let both = read.parts.headers.len() == 2 && head.contains("chunked\r\ncontent");
            assert!(!both, "a length that is not to be believed");
        }
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n";
        let (mut unread, mut headers) = (BytesMut::from(&head[..]), HeaderMap::new());
        let head = take(&mut unread, true, &mut headers, &mut 0);
        assert_eq!(head.unwrap().unwrap().remaining, Remaining::Length(0));
    }

    #[test]
    fn what_is_no_answer_is_refused_as_soon_as_that_is_clear() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MAX_HEAD_BYTES));
        for text in [
            "SSH-2.0-OpenSSH\r\n",
            "HTTX",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
            &long,
        ] {
            assert!(take_one(text).is_err(), "{text:.40}");
        }
    }
}
