//! Finds the end of a worker's response body: by its length, by its last chunk, or by the end of the
//! connection (RFC 9112, section 6). It copies and allocates nothing.

use bytes::{Buf as _, Bytes, BytesMut};
use httparse::Status;
use memchr::memchr;

use super::fault::Fault;

/// Longest line between chunks, in bytes; a longer one is a fault.
const MAX_LINE_BYTES: usize = 4096;

/// The remainder of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    /// A number of bytes; zero at the end.
    Length(u64),
    Chunks(Chunks),
    /// Everything until the worker closes the connection.
    UntilClose,
}

/// The part of a chunked body that the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// The line with the size of a chunk.
    Size,
    /// The data of a chunk, with the number of bytes left.
    Data(u64),
    /// The end of line after a chunk.
    DataEnd,
    /// The lines after the last chunk.
    Trailers,
    /// None: the body has ended.
    Over,
}

impl Remaining {
    /// True at the end of the body.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunks::Over))
    }

    /// The length of the remainder, if known.
    pub(super) fn length(self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(left),
            Self::Chunks(Chunks::Over) => Some(0),
            Self::Chunks(_) | Self::UntilClose => None,
        }
    }

    /// Takes the body's data off `unread`, up to the end of a chunk; `None` if it holds none. Notices the end
    /// together with the last data, if it has arrived too.
    pub(super) fn take(&mut self, unread: &mut BytesMut) -> Result<Option<Bytes>, Fault> {
        let (left, in_chunk) = match self {
            Self::Length(left) => (*left, false),
            Self::UntilClose => (u64::MAX, false),
            Self::Chunks(chunks) => {
                chunks.skip_lines(unread)?;
                match chunks {
                    Chunks::Data(left) => (*left, true),
                    _ => return Ok(None),
                }
            }
        };
        let here = usize::try_from(left).map_or(unread.len(), |left| left.min(unread.len()));
        if here == 0 {
            return Ok(None);
        }
        let data = unread.split_to(here).freeze();
        let left = left - here as u64;
        match self {
            Self::Length(of_length) => *of_length = left,
            Self::Chunks(chunks) if in_chunk => {
                *chunks = if left == 0 {
                    Chunks::DataEnd
                } else {
                    Chunks::Data(left)
                };
                // A fault there is reported at the next call, after this data.
                let _ = chunks.skip_lines(unread);
            }
            _ => {}
        }
        Ok(Some(data))
    }

    /// Checks the bytes that came with the head, so that a body with a fault in its first line fails before
    /// the client gets a head.
    ///
    /// # Errors
    /// When they cannot begin such a body.
    pub(super) fn begin(&mut self, unread: &mut BytesMut) -> Result<(), Fault> {
        match self {
            Self::Chunks(chunks) => chunks.skip_lines(unread),
            Self::Length(_) | Self::UntilClose => Ok(()),
        }
    }

    /// Notes that the worker has closed the connection.
    ///
    /// # Errors
    /// When more was to come.
    pub(super) fn close(&mut self) -> Result<(), Fault> {
        if matches!(self, Self::UntilClose) {
            *self = Self::Length(0);
        }
        if self.is_over() {
            Ok(())
        } else {
            Err(Fault::Closed)
        }
    }
}

impl Chunks {
    /// Takes the lines before the next data, or after the last, off `unread` as far as they have arrived.
    fn skip_lines(&mut self, unread: &mut BytesMut) -> Result<(), Fault> {
        loop {
            let (length, next) = match self {
                Self::Data(_) | Self::Over => return Ok(()),
                // The parser reads an empty line as a size of zero.
                Self::Size
                    if unread
                        .first()
                        .is_some_and(|first| !first.is_ascii_hexdigit()) =>
                {
                    return Err(Fault::Chunk);
                }
                Self::Size => match httparse::parse_chunk_size(unread) {
                    Ok(Status::Complete((length, 0))) => (length, Self::Trailers),
                    Ok(Status::Complete((length, size))) => (length, Self::Data(size)),
                    Ok(Status::Partial) if unread.len() <= MAX_LINE_BYTES => return Ok(()),
                    Ok(Status::Partial) | Err(_) => return Err(Fault::Chunk),
                },
                Self::DataEnd => match unread.get(..2) {
                    None => return Ok(()),
                    Some(b"\r\n") => (2, Self::Size),
                    Some(_) => return Err(Fault::Chunk),
                },
                Self::Trailers => match memchr(b'\n', unread) {
                    None if unread.len() <= MAX_LINE_BYTES => return Ok(()),
                    None => return Err(Fault::Chunk),
                    Some(at) if matches!(&unread[..at], b"" | b"\r") => (at + 1, Self::Over),
                    // No client of the hub reads trailers.
                    Some(at) => (at + 1, Self::Trailers),
                },
            };
            unread.advance(length);
            *self = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `body` in pieces of `size`; returns the data, and whether the body is complete.
    fn read(mut remaining: Remaining, body: &[u8], size: usize) -> Result<(Vec<u8>, bool), Fault> {
        let (mut unread, mut data) = (BytesMut::new(), Vec::new());
        for piece in body.chunks(size) {
            unread.extend_from_slice(piece);
            while let Some(part) = remaining.take(&mut unread)? {
                data.extend_from_slice(&part);
            }
        }
        Ok((data, remaining.is_over()))
    }

    #[test]
    fn a_chunked_body_is_read_whole_however_it_is_cut() {
        let body = b"2\r\nok\r\n0a;why=not\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n";
        for size in 1..=body.len() {
            let read = read(Remaining::Chunks(Chunks::Size), body, size).unwrap();
            assert_eq!(read, (b"ok0123456789".to_vec(), true), "{size}");
        }
    }

    #[test]
    fn the_end_is_noticed_together_with_the_last_data() {
        let mut unread = BytesMut::from(&b"2\r\nok\r\n0\r\n\r\nmore"[..]);
        let mut remaining = Remaining::Chunks(Chunks::Size);
        assert_eq!(remaining.take(&mut unread).unwrap().unwrap(), "ok");
        assert!(remaining.is_over());
        assert_eq!(unread, "more");
    }

    #[test]
    fn data_before_a_broken_chunk_is_not_lost() {
        let mut unread = BytesMut::from(&b"2\r\nokay\r\n"[..]);
        let mut remaining = Remaining::Chunks(Chunks::Size);
        assert_eq!(remaining.take(&mut unread).unwrap().unwrap(), "ok");
        assert!(remaining.take(&mut unread).is_err());
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let long = "a".repeat(MAX_LINE_BYTES + 1);
        for body in [
            "ok\r\n",
            "-1\r\n",
            "\r\n",
            "12345678901234567\r\n",
            "1 2\r\nx\r\n",
            "2\r\nokk\r\n",
            "2\r\nokno3\r\nabc\r\n0\r\n\r\n",
            &format!("1;{long}"),
            &format!("0\r\n{long}"),
        ] {
            let read = read(Remaining::Chunks(Chunks::Size), body.as_bytes(), 1);
            assert!(matches!(read, Err(Fault::Chunk)), "{body:.20}");
        }
    }

    #[test]
    fn a_length_is_kept_and_the_rest_left() {
        let mut unread = BytesMut::from(&b"okmore"[..]);
        let mut remaining = Remaining::Length(2);
        assert_eq!(remaining.take(&mut unread).unwrap().unwrap(), "ok");
        assert!(remaining.is_over());
        assert_eq!(remaining.take(&mut unread).unwrap(), None);
        assert_eq!(unread, "more");
    }

    #[test]
    fn a_closed_connection_ends_only_what_has_no_other_end() {
        assert!(Remaining::UntilClose.close().is_ok());
        assert!(Remaining::Length(0).close().is_ok());
        assert!(Remaining::Chunks(Chunks::Over).close().is_ok());
        for mut cut in [
            Remaining::Length(1),
            Remaining::Chunks(Chunks::Size),
            Remaining::Chunks(Chunks::Data(1)),
            Remaining::Chunks(Chunks::DataEnd),
            Remaining::Chunks(Chunks::Trailers),
        ] {
            assert!(matches!(cut.close(), Err(Fault::Closed)), "{cut:?}");
        }
    }
}
