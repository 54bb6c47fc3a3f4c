//! Just enough of `multipart/form-data` to tell the parts of a body that a hub has passed on.

use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use memchr::memmem;

/// One part.
pub(super) struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub content: Vec<u8>,
}

/// The boundary when the body is a form.
pub(super) fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (_, boundary) = kind
        .strip_prefix("multipart/form-data")?
        .split_once("boundary=")?;
    let boundary = boundary.split(';').next()?.trim();
    Some(boundary.trim_matches('"').to_owned())
}

/// The parts of a body; what is no part is left out.
pub(super) fn parts(body: &[u8], boundary: &str) -> Vec<Part> {
    let mark = format!("--{boundary}");
    let starts: Vec<usize> = memmem::find_iter(body, &mark).collect();
    starts
        .windows(2)
        .filter_map(|pair| part(&body[pair[0] + mark.len()..pair[1]]))
        .collect()
}

fn part(raw: &[u8]) -> Option<Part> {
    let raw = raw.strip_prefix(b"\r\n")?;
    let raw = raw.strip_suffix(b"\r\n").unwrap_or(raw);
    let split = memmem::find(raw, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&raw[..split]).ok()?;
    Some(Part {
        name: parameter(head, "name")?,
        filename: parameter(head, "filename"),
        content: raw[split + 4..].to_vec(),
    })
}

fn parameter(head: &str, name: &str) -> Option<String> {
    let (_, value) = head.split_once(&format!("; {name}=\""))?;
    Some(value.split('"').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n\
            --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
            Content-Type: audio/wav\r\n\r\n\x00\x01\r\n\r\n\x02\r\n--b--\r\n";
        let parts = parts(body, "b");
        assert_eq!(parts.len(), 2);
        assert_eq!(
            (parts[0].name.as_str(), parts[0].content.as_slice()),
            ("model", &b"m"[..])
        );
        assert_eq!(parts[1].filename.as_deref(), Some("a.wav"));
        assert_eq!(parts[1].content, b"\x00\x01\r\n\r\n\x02");
    }
}
