//! Lua's pattern matching with a budget: one pattern at one position of one subject.
//!
//! Rules, limits and error texts are those of `lstrlib.c` of Lua 5.4; the recursion is that of its `match`, so
//! that it tries alternatives in the same order. Every step costs, because the time of a match can grow
//! exponentially with the pattern. It knows nothing of Lua states.

/// Captures of one pattern, as in Lua.
const MAX_CAPTURES: usize = 32;
/// Nested calls of [`Matcher::run`], as in Lua (`MAXCCALLS`).
const MAX_DEPTH: u32 = 200;
const ESCAPE: u8 = b'%';

/// The reason why a match was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MatchError {
    /// The pattern is invalid.
    Malformed(String),
    /// The budget is used up.
    Overrun,
}

impl From<&str> for MatchError {
    fn from(text: &str) -> Self {
        Self::Malformed(text.to_owned())
    }
}

/// The work that a match may do.
pub(crate) trait Budget {
    /// Spends `steps`. An error ends the match.
    fn spend(&mut self, steps: usize) -> Result<(), MatchError>;
}

/// The content of a capture, as a range of the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Captured {
    /// The bytes from the first position up to the second.
    Range(usize, usize),
    /// The position itself, `()`.
    Position(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Unfinished,
    Position,
    Bytes(usize),
}

#[derive(Debug, Clone, Copy)]
struct Capture {
    start: usize,
    length: Length,
}

/// A pattern, without its anchor, on a subject.
pub(super) struct Matcher<'a, B> {
    subject: &'a [u8],
    pattern: &'a [u8],
    captures: [Capture; MAX_CAPTURES],
    level: usize,
    deep: u32,
    budget: &'a mut B,
}

impl<'a, B: Budget> Matcher<'a, B> {
    pub(super) fn new(subject: &'a [u8], pattern: &'a [u8], budget: &'a mut B) -> Self {
        let capture = Capture {
            start: 0,
            length: Length::Unfinished,
        };
        Self {
            subject,
            pattern,
            captures: [capture; MAX_CAPTURES],
            level: 0,
            deep: 0,
            budget,
        }
    }

    /// The end of the match that begins at `start`, if there is one.
    pub(super) fn at(&mut self, start: usize) -> Result<Option<usize>, MatchError> {
        self.level = 0;
        self.deep = 0;
        self.run(start, 0)
    }

    /// Number of captures of the last match.
    pub(super) fn captures(&self) -> usize {
        self.level
    }

    /// A capture of the last match, which went from `start` to `end`; without any, capture 0 is the
    /// whole match.
    pub(super) fn capture(
        &self,
        index: usize,
        start: usize,
        end: usize,
    ) -> Result<Captured, MatchError> {
        if index >= self.level {
            return match index {
                0 => Ok(Captured::Range(start, end)),
                _ => Err(invalid_index(index)),
            };
        }
        let Capture { start, length } = self.captures[index];
        match length {
            Length::Bytes(length) => Ok(Captured::Range(start, start + length)),
            Length::Position => Ok(Captured::Position(start)),
            Length::Unfinished => Err("unfinished capture".into()),
        }
    }

    fn run(&mut self, s: usize, p: usize) -> Result<Option<usize>, MatchError> {
        if self.deep == MAX_DEPTH {
            return Err("pattern too complex".into());
        }
        self.deep += 1;
        let end = self.step(s, p);
        self.deep -= 1;
        end
    }

    /// Matches the pattern from `p` at `s`. The loop stands for calls at the end of a branch.
    fn step(&mut self, mut s: usize, mut p: usize) -> Result<Option<usize>, MatchError> {
        loop {
            self.budget.spend(1)?;
            let Some(&first) = self.pattern.get(p) else {
                return Ok(Some(s));
            };
            match (first, self.pattern_byte(p + 1)) {
                (b'(', b')') => return self.open_capture(s, p + 2, Length::Position),
                (b'(', _) => return self.open_capture(s, p + 1, Length::Unfinished),
                (b')', _) => return self.close_capture(s, p + 1),
                (b'$', _) if p + 1 == self.pattern.len() => {
                    return Ok((s == self.subject.len()).then_some(s));
                }
                (ESCAPE, b'b') => match self.balance(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                (ESCAPE, b'f') => match self.frontier(s, p + 2)? {
                    Some(end) => p = end,
                    None => return Ok(None),
                },
                (ESCAPE, digit @ b'0'..=b'9') => match self.repeated(s, digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.class_end(p)?;
                    let suffix = self.pattern_byte(end);
                    let matches = self.single(s, p, end)?;
                    match suffix {
                        b'*' if matches => return self.most(s, 0, p, end),
                        b'+' if matches => return self.most(s, 1, p, end),
                        b'-' if matches => return self.fewest(s, p, end),
                        b'?' if matches => {
                            if let Some(end) = self.run(s + 1, end + 1)? {
                                return Ok(Some(end));
                            }
                            p = end + 1;
                        }
                        b'*' | b'?' | b'-' => p = end + 1,
                        _ if matches => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    /// Takes as many as there are from `s` on, at least `least`, then fewer.
    fn most(
        &mut self,
        s: usize,
        least: usize,
        p: usize,
        end: usize,
    ) -> Result<Option<usize>, MatchError> {
        let mut count = least;
        while self.single(s + count, p, end)? {
            count += 1;
        }
        loop {
            if let Some(found) = self.run(s + count, end + 1)? {
                return Ok(Some(found));
            }
            if count == least {
                return Ok(None);
            }
            count -= 1;
        }
    }

    /// Takes as few as will do.
    fn fewest(&mut self, mut s: usize, p: usize, end: usize) -> Result<Option<usize>, MatchError> {
        loop {
            if let Some(found) = self.run(s, end + 1)? {
                return Ok(Some(found));
            }
            if !self.single(s, p, end)? {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open_capture(
        &mut self,
        s: usize,
        p: usize,
        length: Length,
    ) -> Result<Option<usize>, MatchError> {
        let Some(capture) = self.captures.get_mut(self.level) else {
            return Err("too many captures".into());
        };
        *capture = Capture { start: s, length };
        self.level += 1;
        let end = self.run(s, p)?;
        if end.is_none() {
            self.level -= 1;
        }
        Ok(end)
    }

    fn close_capture(&mut self, s: usize, p: usize) -> Result<Option<usize>, MatchError> {
        let open = self.captures[..self.level]
            .iter()
            .rposition(|capture| capture.length == Length::Unfinished)
            .ok_or("invalid pattern capture")?;
        self.captures[open].length = Length::Bytes(s - self.captures[open].start);
        let end = self.run(s, p)?;
        if end.is_none() {
            self.captures[open].length = Length::Unfinished;
        }
        Ok(end)
    }

    /// `%bxy`.
    fn balance(&mut self, s: usize, p: usize) -> Result<Option<usize>, MatchError> {
        let (Some(&open), Some(&close)) = (self.pattern.get(p), self.pattern.get(p + 1)) else {
            return Err("malformed pattern (missing arguments to '%b')".into());
        };
        if self.subject_byte(s) != open {
            return Ok(None);
        }
        let mut depth = 1;
        for (i, &byte) in self.subject.iter().enumerate().skip(s + 1) {
            self.budget.spend(1)?;
            if byte == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(i + 1));
                }
            } else if byte == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: the position after it in the pattern, if there is a frontier at `s`.
    fn frontier(&mut self, s: usize, p: usize) -> Result<Option<usize>, MatchError> {
        if self.pattern_byte(p) != b'[' {
            return Err("missing '[' after '%f' in pattern".into());
        }
        let end = self.class_end(p)?;
        let before = match s {
            0 => 0,
            _ => self.subject_byte(s - 1),
        };
        let (before, here) = (
            self.in_set(before, p, end - 1)?,
            self.in_set(self.subject_byte(s), p, end - 1)?,
        );
        Ok((!before && here).then_some(end))
    }

    /// `%1`: the same as a capture.
    fn repeated(&mut self, s: usize, digit: u8) -> Result<Option<usize>, MatchError> {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let capture = self.captures[..self.level].get(index);
        let length = capture.map(|capture| (capture.start, capture.length));
        let (start, length) = match length {
            Some((start, Length::Bytes(length))) => (start, length),
            // To Lua a position is longer than any subject.
            Some((_, Length::Position)) => return Ok(None),
            _ => return Err(invalid_index(index)),
        };
        self.budget.spend(length / 16)?;
        let same = self.subject[s..].starts_with(&self.subject[start..start + length]);
        Ok(same.then_some(s + length))
    }

    /// The end of the single class that begins at `p`.
    fn class_end(&self, p: usize) -> Result<usize, MatchError> {
        let length = self.pattern.len();
        match self.pattern[p] {
            ESCAPE if p + 1 == length => Err("malformed pattern (ends with '%')".into()),
            ESCAPE => Ok(p + 2),
            b'[' => {
                let mut end = p + 1;
                if self.pattern_byte(end) == b'^' {
                    end += 1;
                }
                loop {
                    if end >= length {
                        return Err("malformed pattern (missing ']')".into());
                    }
                    let is_escape = self.pattern[end] == ESCAPE;
                    end += 1;
                    if is_escape && end < length {
                        end += 1;
                    }
                    if self.pattern_byte(end) == b']' {
                        return Ok(end + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    /// True if the byte at `s` is in the single class from `p` to `end`.
    fn single(&mut self, s: usize, p: usize, end: usize) -> Result<bool, MatchError> {
        self.budget.spend(1)?;
        let Some(&byte) = self.subject.get(s) else {
            return Ok(false);
        };
        match self.pattern[p] {
            b'.' => Ok(true),
            ESCAPE => Ok(is_in_class(byte, self.pattern[p + 1])),
            b'[' => self.in_set(byte, p, end - 1),
            literal => Ok(literal == byte),
        }
    }

    /// True if `byte` is in the set whose `[` is at `p` and whose `]` is at `end`.
    fn in_set(&mut self, byte: u8, mut p: usize, end: usize) -> Result<bool, MatchError> {
        self.budget.spend((end - p) / 8)?;
        let mut found = true;
        if self.pattern_byte(p + 1) == b'^' {
            found = false;
            p += 1;
        }
        p += 1;
        while p < end {
            let first = self.pattern[p];
            if first == ESCAPE {
                p += 1;
                if is_in_class(byte, self.pattern_byte(p)) {
                    return Ok(found);
                }
            } else if self.pattern_byte(p + 1) == b'-' && p + 2 < end {
                p += 2;
                if (first..=self.pattern[p]).contains(&byte) {
                    return Ok(found);
                }
            } else if first == byte {
                return Ok(found);
            }
            p += 1;
        }
        Ok(!found)
    }

    /// Lua's strings end with a zero that C code may read.
    fn pattern_byte(&self, p: usize) -> u8 {
        self.pattern.get(p).copied().unwrap_or(0)
    }

    fn subject_byte(&self, s: usize) -> u8 {
        self.subject.get(s).copied().unwrap_or(0)
    }
}

fn invalid_index(index: usize) -> MatchError {
    MatchError::Malformed(format!("invalid capture index %{}", index.wrapping_add(1)))
}

/// `%a` and the like, in the C locale; a letter that is no class stands for itself.
fn is_in_class(byte: u8, class: u8) -> bool {
    let is = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        // Rust's `is_ascii_whitespace` leaves out the vertical tab.
        b's' => matches!(byte, b' ' | b'\t'..=b'\r'),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is != class.is_ascii_uppercase()
}
