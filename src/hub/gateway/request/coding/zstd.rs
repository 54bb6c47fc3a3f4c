//! zstd (RFC 8878), block by block: the decoder needs a whole header or a whole block at once, and chunks end
//! anywhere.

use std::io::{self, Read as _};

use bytes::{Buf as _, BytesMut};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::PIECE;

const MAGIC: u32 = 0xFD2F_B528;

/// Frames that hold no data begin with one of these.
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

/// Largest window that a decoder of HTTP must support (RFC 9659).
const LARGEST_WINDOW: usize = 8 * 1024 * 1024;

/// Largest size of a decoded block.
const LARGEST_BLOCK: usize = 128 * 1024;

/// The decoder of one body.
pub(super) struct Zstd {
    decoder: FrameDecoder,
    state: FrameState,
    has_begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameState {
    /// Before a frame.
    Between,
    /// In a frame without data, with the number of bytes left.
    Skipping(usize),
    /// Before a block.
    Block { has_checksum: bool },
    /// The last block of a frame has been decoded, and not all of it read.
    Draining,
}

impl Zstd {
    /// A decoder of a body of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        let mut decoder = FrameDecoder::new();
        // A single-segment frame has a window of its own size.
        decoder.set_max_window_size(LARGEST_WINDOW.min(limit.max(LARGEST_BLOCK)) as u64);
        Self {
            decoder,
            state: FrameState::Between,
            has_begun: false,
        }
    }

    /// Decodes from `input`; takes and returns nothing when it needs more.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> io::Result<Vec<u8>> {
        match self.state {
            FrameState::Between => self.begin(input)?,
            FrameState::Skipping(left) => {
                let here = left.min(input.len());
                input.advance(here);
                self.state = match left - here {
                    0 => FrameState::Between,
                    left => FrameState::Skipping(left),
                };
            }
            FrameState::Block { has_checksum } => self.block(input, has_checksum)?,
            FrameState::Draining => {}
        }
        let mut piece = vec![0; PIECE.min(self.decoder.can_collect())];
        let count = self.decoder.read(&mut piece)?;
        piece.truncate(count);
        if self.state == FrameState::Draining && self.decoder.can_collect() == 0 {
            self.state = FrameState::Between;
            let written = self.decoder.get_checksum_from_data();
            if written.is_some() && written != self.decoder.get_calculated_checksum() {
                return Err(io::Error::other("its checksum is another"));
            }
        }
        Ok(piece)
    }

    /// True if the body may end here.
    pub(super) fn is_at_end(&self) -> bool {
        self.has_begun && self.state == FrameState::Between
    }

    fn begin(&mut self, input: &mut BytesMut) -> io::Result<()> {
        let Some(magic) = number(input) else {
            return Ok(());
        };
        if SKIPPABLE.contains(&magic) {
            if let Some(length) = input.get(4..).and_then(number) {
                input.advance(8);
                self.has_begun = true;
                if length > 0 {
                    self.state = FrameState::Skipping(length as usize);
                }
            }
            return Ok(());
        }
        if magic != MAGIC {
            return Err(io::Error::other("it does not begin as zstd does"));
        }
        let Some(descriptor) = input.get(4) else {
            return Ok(());
        };
        let has_checksum = descriptor & 0b100 != 0;
        let length = header_length(*descriptor);
        if input.len() >= length {
            self.decoder
                .reset(&input[..length])
                .map_err(io::Error::other)?;
            input.advance(length);
            self.has_begun = true;
            self.state = FrameState::Block { has_checksum };
        }
        Ok(())
    }

    fn block(&mut self, input: &mut BytesMut, has_checksum: bool) -> io::Result<()> {
        let [one, two, three, ..] = input[..] else {
            return Ok(());
        };
        let header = u32::from_le_bytes([one, two, three, 0]);
        let (is_last, kind, size) = (header & 1 == 1, header >> 1 & 3, (header >> 3) as usize);
        // A run-length block is one byte, repeated by its size.
        let content = if kind == 1 { 1 } else { size };
        if content > LARGEST_BLOCK {
            return Err(io::Error::other("one of its blocks is too large"));
        }
        let length = 3 + content + if is_last && has_checksum { 4 } else { 0 };
        if input.len() < length {
            return Ok(());
        }
        let one = BlockDecodingStrategy::UptoBlocks(1);
        self.decoder
            .decode_blocks(&input[..length], one)
            .map_err(io::Error::other)?;
        input.advance(length);
        if is_last {
            self.state = FrameState::Draining;
        }
        Ok(())
    }
}

/// The length of a frame's header, by the descriptor in it.
fn header_length(descriptor: u8) -> usize {
    let is_single = descriptor & 0b10_0000 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 0b11)];
    let content_size = match descriptor >> 6 {
        0 => usize::from(is_single),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    5 + usize::from(!is_single) + dictionary + content_size
}

fn number(input: &[u8]) -> Option<u32> {
    let bytes = input.get(..4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}
