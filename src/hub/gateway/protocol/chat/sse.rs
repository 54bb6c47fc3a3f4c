//! The data of server-sent events, out of bytes that come cut anywhere.
//!
//! Of a worker's events only `data` matters. What has not come whole is kept until it has, up to
//! [`MAX_EVENT`].

use memchr::{memchr, memchr2};

/// The longest event that a worker may send.
const MAX_EVENT: usize = 16 * 1024 * 1024;

/// An event that is too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// The received part of an event.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// A line that has not ended.
    line: Vec<u8>,
    /// The data of an event that has not ended.
    data: Vec<u8>,
    has_data: bool,
    /// A line has ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl Events {
    /// Takes what has come and hands over the data of each event that it ends.
    pub(super) fn feed<E: From<TooLong>>(
        &mut self,
        mut bytes: &[u8],
        mut event: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                self.line.extend_from_slice(bytes);
                self.measure()?;
                return Ok(());
            };
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            self.after_return = bytes[end] == b'\r';
            // The usual event is one line of data and an empty one, in the same piece: it is not copied.
            if self.line.is_empty()
                && !self.has_data
                && let Some(data) = data_of(line)
                && let Some(after) = empty_line(bytes[end], rest)
            {
                event(data)?;
                bytes = after;
                self.after_return = false;
                continue;
            }
            bytes = rest;
            if self.line.is_empty() {
                self.take_line(line, &mut event)?;
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.take_line(&whole, &mut event)?;
                whole.clear();
                self.line = whole;
            }
        }
        Ok(())
    }

    fn take_line<E: From<TooLong>>(
        &mut self,
        line: &[u8],
        event: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(data) = data_of(line) {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data);
            self.measure()?;
        } else if line.is_empty() && std::mem::take(&mut self.has_data) {
            let mut data = std::mem::take(&mut self.data);
            let result = event(&data);
            data.clear();
            self.data = data;
            return result;
        }
        Ok(())
    }

    fn measure(&self) -> Result<(), TooLong> {
        match self.line.len() + self.data.len() {
            0..=MAX_EVENT => Ok(()),
            _ => Err(TooLong),
        }
    }
}

/// The data of a line, if it has any.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr(b':', line).unwrap_or(line.len());
    if &line[..colon] != b"data" {
        return None;
    }
    let value = line.get(colon + 1..).unwrap_or_default();
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// The text behind the empty line that `rest` begins with, after a line that ended with `end`.
fn empty_line(end: u8, rest: &[u8]) -> Option<&[u8]> {
    match (end, rest) {
        (b'\n', [b'\n', after @ ..]) => Some(after),
        (b'\r', [b'\n', b'\r', b'\n', after @ ..]) => Some(after),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let (mut events, mut found) = (Events::default(), Vec::new());
        for piece in pieces {
            let take = |data: &[u8]| {
                found.push(String::from_utf8_lossy(data).into_owned());
                Ok::<_, TooLong>(())
            };
            events.feed(piece, take).unwrap();
        }
        found
    }

    const STREAM: &str = ": comment\n\ndata: one\n\ndata:two\r\n\r\nevent: x\ndata:  three\ndata\ndata: 4\n\n\
                          id: 7\n\ndata: [DONE]\r\rdata: cut";

    #[test]
    fn every_form_of_line_is_read() {
        let expected = ["one", "two", " three\n\n4", "[DONE]"];
        assert_eq!(events(&[STREAM.as_bytes()]), expected);
    }

    #[test]
    fn an_event_without_an_end_is_not_kept_for_ever() {
        let mut events = Events::default();
        let mebibyte = vec![b'x'; 1 << 20];
        let fed = (0..=16).map(|_| events.feed(&mebibyte, |_| Ok::<_, TooLong>(())));
        assert_eq!(fed.last(), Some(Err(TooLong)));
    }

    proptest! {
        #[test]
        fn events_are_the_same_wherever_they_are_cut(
            cuts in prop::collection::vec(0..STREAM.len(), 0..8),
            repeated in 1_usize..4,
        ) {
            let stream = STREAM.replace("cut", "cut\n\n").repeat(repeated).into_bytes();
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts {
                pieces.push(&stream[from..cut]);
                from = cut;
            }
            pieces.push(&stream[from..]);
            prop_assert_eq!(events(&pieces), events(&[&stream]));
        }
    }
}
