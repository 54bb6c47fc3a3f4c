//! The kept part of one body: its beginning, without what nobody reads.
//!
//! Images and sounds stand in bodies as base64. A long run of it is replaced by its length, so that the text around
//! it is kept.

/// Longest text of one body, in bytes.
pub(super) const MOST: usize = 256 * 1024;

/// Base64 of more characters than this is cut: no word of a text is so long,
const LONGEST_RUN: usize = 512;
/// but for so many.
const BEGIN_OF_RUN: usize = 32;

/// A body so far.
#[derive(Debug, Default)]
pub(super) struct KeptBody {
    text: Vec<u8>,
    /// Length of the body.
    length: u64,
    /// Characters of base64 in a row at its end, and where in the text they begin.
    run: u64,
    run_at: usize,
    /// True if a part of it found no room.
    is_cut: bool,
}

impl KeptBody {
    /// Memory that it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        self.text.capacity()
    }

    /// Length of the whole body, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds the next piece, if it finds room: for so many bytes in the memory of all.
    pub(super) fn push(&mut self, data: &[u8], room: usize) {
        self.length += data.len() as u64;
        let most = MOST.min(self.text.capacity().saturating_add(room));
        for &byte in data {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_') {
                if self.run == 0 {
                    self.run_at = self.text.len();
                }
                self.run += 1;
                if self.run <= LONGEST_RUN as u64 {
                    self.add(&[byte], most);
                }
                continue;
            }
            self.end_run(most);
            self.add(&[byte], most);
        }
    }

    fn end_run(&mut self, most: usize) {
        if let Some(note) = self.note_of_run() {
            let end = (self.run_at + BEGIN_OF_RUN).min(self.text.len());
            self.text.truncate(end);
            self.add(note.as_bytes(), most);
        }
        self.run = 0;
    }

    fn note_of_run(&self) -> Option<String> {
        let rest = self.run.saturating_sub(BEGIN_OF_RUN as u64);
        (self.run > LONGEST_RUN as u64).then(|| format!("[… {rest} more characters]"))
    }

    fn add(&mut self, bytes: &[u8], most: usize) {
        if self.is_cut || self.text.len() + bytes.len() > most {
            self.is_cut = true;
            return;
        }
        if self.text.len() + bytes.len() > self.text.capacity() {
            // No more than there is room for, which doubling would take.
            let wanted = (2 * self.text.len()).clamp(1024, MOST).min(most);
            let more = wanted.max(self.text.len() + bytes.len()) - self.text.len();
            self.text.reserve_exact(more);
        }
        self.text.extend_from_slice(bytes);
    }

    /// The text, and one sentence about what is not in it.
    pub(super) fn shown(&self) -> (String, Option<String>) {
        let note = self.note_of_run();
        let kept = match &note {
            Some(_) => &self.text[..(self.run_at + BEGIN_OF_RUN).min(self.text.len())],
            None => &self.text[..],
        };
        let length = self.length;
        match std::str::from_utf8(kept) {
            Ok(text) => {
                let cut = self
                    .is_cut
                    .then(|| format!("Only the beginning of {length} bytes is kept."));
                (text.to_owned() + &note.unwrap_or_default(), cut)
            }
            Err(error) => {
                let text = String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned();
                let cut = match error.error_len() {
                    // It ends within a character.
                    None => format!("Only the beginning of {length} bytes is kept."),
                    Some(_) => format!("What follows of {length} bytes is no text."),
                };
                (text, Some(cut))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(pieces: &[&[u8]]) -> KeptBody {
        let mut kept = KeptBody::default();
        for piece in pieces {
            kept.push(piece, usize::MAX);
        }
        kept
    }

    #[test]
    fn an_image_is_replaced_by_its_length_and_the_text_around_it_stays() {
        let image = "iVBORw0KGgo/".repeat(100);
        let body = format!(r#"{{"url":"data:image/png;base64,{image}","text":"What is it?"}}"#);
        let expected = format!(
            r#"{{"url":"data:image/png;base64,{}[… 1168 more characters]","text":"What is it?"}}"#,
            &image[..BEGIN_OF_RUN]
        );
        let whole = kept(&[body.as_bytes()]);
        assert_eq!(whole.shown(), (expected, None));
        assert_eq!(whole.length(), body.len() as u64);
        // Within the image, which is all that has come so far.
        let begun = kept(&[&body.as_bytes()[..1000]]);
        let (text, cut) = begun.shown();
        assert!(text.ends_with("more characters]"), "{text}");
        assert_eq!(cut, None);
        let word = "a".repeat(LONGEST_RUN);
        assert_eq!(kept(&[word.as_bytes()]).shown(), (word, None));
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let body = "Wörter ".repeat(MOST / 4);
        let kept = kept(&[body.as_bytes()]);
        let (text, cut) = kept.shown();
        assert!(body.starts_with(&text) && text.len() > MOST - 4 && text.len() <= MOST);
        assert_eq!(
            cut.unwrap(),
            format!("Only the beginning of {} bytes is kept.", body.len())
        );
        assert!(kept.size() <= MOST);
    }

    #[test]
    fn what_is_no_text_is_not_shown() {
        let form = b"--B\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n\0\0".as_slice();
        let (text, cut) = kept(&[form]).shown();
        assert_eq!(text, "--B\r\nContent-Type: image/png\r\n\r\n");
        assert_eq!(
            cut.unwrap(),
            format!("What follows of {} bytes is no text.", form.len())
        );
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let mut full = KeptBody::default();
        full.push(b"text", 0);
        assert_eq!(full.size(), 0);
        let cut = "Only the beginning of 4 bytes is kept.".to_owned();
        assert_eq!(full.shown(), (String::new(), Some(cut)));
    }

    proptest! {
        #[test]
        fn wherever_a_body_is_cut_the_same_is_kept(
            body in "([a-z]{1,9} |[A-Za-z0-9+/]{400,900}\"|ö){0,12}",
            at in 0_usize..9000,
            room in 0_usize..4000,
        ) {
            let (one, other) = body.as_bytes().split_at(at.min(body.len()));
            prop_assert_eq!(kept(&[one, other]).shown(), kept(&[body.as_bytes()]).shown());
            let mut tight = KeptBody::default();
            for piece in [one, other] {
                tight.push(piece, room.saturating_sub(tight.size()));
                prop_assert!(tight.size() <= room, "{} of {}", tight.size(), room);
            }
        }
    }
}
