//! The content codings of request bodies that the hub decodes, since its workers do not: gzip, deflate
//! and zstd, also one in the other (RFC 9110, section 8.4).
//!
//! A body is decoded as it arrives and in small pieces; the decoded body, and that between two codings, has the
//! limit of a plain body. The readers of a body call it, and know no coding.

use std::io::{self, Write as _};

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::api::ApiError;
use crate::hub::gateway::refusals;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod zstd;

use zstd::Zstd;

/// Bytes decoded at once.
const PIECE: usize = 64 * 1024;

/// Number of codings of one body.
const MAX_CODINGS: usize = 3;

/// Undoes the codings of one body.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The decoders in the order of use.
    stages: Vec<DecodeStage>,
}

#[derive(Debug)]
struct DecodeStage {
    coding: Coding,
    name: &'static str,
    /// The undecoded bytes.
    input: BytesMut,
    /// Number of decoded bytes that may still follow.
    left: usize,
    limit: usize,
    is_over: bool,
}

enum Coding {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Deflate(Deflate),
    Zstd(Box<Zstd>),
}

/// In zlib's format, or raw as many clients send it.
#[derive(Debug)]
enum Deflate {
    Unknown,
    Known(Decompress),
    Over,
}

impl Decoder {
    /// The decoder for the codings that `headers` name, if any, with a limit on the decoded body.
    ///
    /// # Errors
    /// 415 for an unknown coding.
    pub(crate) fn of(headers: &HeaderMap, limit: usize) -> Result<Option<Self>, ApiError> {
        let mut stages = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            let codings = String::from_utf8_lossy(value.as_bytes());
            for name in codings.split(',') {
                match name.trim().to_ascii_lowercase().as_str() {
                    "" | "identity" => {}
                    known => match DecodeStage::of(known, limit) {
                        Some(_) if stages.len() == MAX_CODINGS => {
                            return Err(refusals::unknown_coding(&codings));
                        }
                        Some(stage) => stages.push(stage),
                        None => return Err(refusals::unknown_coding(name.trim())),
                    },
                }
            }
        }
        // The coding applied last is undone first.
        stages.reverse();
        Ok((!stages.is_empty()).then_some(Self { stages }))
    }

    /// Takes more of the body.
    pub(crate) fn push(&mut self, data: &[u8]) {
        if let Some(first) = self.stages.first_mut() {
            first.input.extend_from_slice(data);
        }
    }

    /// The next decoded piece; `None` when that needs more of the body, or, if the body `has_ended`,
    /// when there is none.
    ///
    /// # Errors
    /// 400 when the body is not in its coding, 413 when the decoded body is too large.
    pub(crate) fn next(&mut self, has_ended: bool) -> Result<Option<Bytes>, ApiError> {
        next_of(&mut self.stages, has_ended)
    }
}

fn next_of(stages: &mut [DecodeStage], has_ended: bool) -> Result<Option<Bytes>, ApiError> {
    let Some((last, before)) = stages.split_last_mut() else {
        return Ok(None);
    };
    while !last.is_over {
        if let Some(piece) = last.next()? {
            return Ok(Some(piece));
        }
        match next_of(before, has_ended)? {
            Some(data) => last.input.extend_from_slice(&data),
            None if has_ended => return last.end(),
            None => break,
        }
    }
    Ok(None)
}

impl DecodeStage {
    fn of(name: &str, limit: usize) -> Option<Self> {
        let (coding, name) = match name {
            "gzip" | "x-gzip" => {
                let decoder = MultiGzDecoder::new(Vec::new());
                (Coding::Gzip(Box::new(decoder)), "gzip")
            }
            "deflate" => (Coding::Deflate(Deflate::Unknown), "deflate"),
            "zstd" => (Coding::Zstd(Box::new(Zstd::new(limit))), "zstd"),
            _ => return None,
        };
        Some(Self {
            coding,
            name,
            input: BytesMut::new(),
            left: limit,
            limit,
            is_over: false,
        })
    }

    /// The next piece, if the input suffices for one.
    fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let before = self.input.len();
            let piece = self.coding.decode(&mut self.input);
            let piece = piece.map_err(|cause| refusals::not_decoded(self.name, &cause))?;
            if !piece.is_empty() {
                return self.count(piece).map(Some);
            }
            if self.input.len() == before {
                return Ok(None);
            }
        }
    }

    /// The last piece, if there is one.
    fn end(&mut self) -> Result<Option<Bytes>, ApiError> {
        self.is_over = true;
        let piece = self.coding.end(&self.input);
        let piece = piece.map_err(|cause| refusals::not_decoded(self.name, &cause))?;
        if piece.is_empty() {
            return Ok(None);
        }
        self.count(piece).map(Some)
    }

    fn count(&mut self, piece: Vec<u8>) -> Result<Bytes, ApiError> {
        let left = self.left.checked_sub(piece.len());
        self.left = left.ok_or_else(|| refusals::too_large(self.limit))?;
        Ok(piece.into())
    }
}

impl Coding {
    /// Decodes from `input`; takes and returns nothing when it needs more.
    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                // One call decodes at most the decoder's own small buffer.
                let count = decoder.write(input)?;
                input.advance(count);
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(deflate) => deflate.decode(input),
            Self::Zstd(zstd) => zstd.decode(input),
        }
    }

    /// The last decoded bytes. Only `left` remains of the input.
    fn end(&mut self, left: &[u8]) -> io::Result<Vec<u8>> {
        let is_whole = match self {
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                return Ok(std::mem::take(decoder.get_mut()));
            }
            Self::Deflate(deflate) => matches!(deflate, Deflate::Over),
            Self::Zstd(zstd) => zstd.is_at_end(),
        };
        if is_whole && left.is_empty() {
            Ok(Vec::new())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl Deflate {
    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Vec<u8>> {
        let decoder = match self {
            Self::Known(decoder) => decoder,
            Self::Over if input.is_empty() => return Ok(Vec::new()),
            Self::Over => return Err(io::Error::other("something follows its end")),
            Self::Unknown => {
                let [first, second, ..] = input[..] else {
                    return Ok(Vec::new());
                };
                let begins = u16::from_be_bytes([first, second]);
                let has_zlib = first & 0x0f == 8 && begins.is_multiple_of(31);
                *self = Self::Known(Decompress::new(has_zlib));
                return self.decode(input);
            }
        };
        let mut piece = Vec::with_capacity(PIECE);
        let before = decoder.total_in();
        let status = decoder.decompress_vec(input, &mut piece, FlushDecompress::None)?;
        input.advance((decoder.total_in() - before) as usize);
        if status == Status::StreamEnd {
            *self = Self::Over;
        }
        Ok(piece)
    }
}

impl std::fmt::Debug for Coding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Deflate(_) => "Deflate",
            Self::Zstd(_) => "Zstd",
        })
    }
}

#[cfg(test)]
mod tests;
