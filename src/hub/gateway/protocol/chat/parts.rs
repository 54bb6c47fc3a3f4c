//! The parts of an answer, one after the other, out of deltas that may be interleaved.
//!
//! Other protocols open a part, send its pieces and close it before the next. A chat completion names
//! the call that each delta belongs to, so two may grow at once. Then the later one is held back until the
//! arguments of the open one are complete JSON, or the answer is over. As long as none is interleaved no
//! delta waits.

use std::collections::VecDeque;

/// The kind of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum PartKind<'a> {
    Text,
    Thinking,
    /// Text with which the model declines.
    Refusal,
    Tool {
        id: &'a str,
        name: &'a str,
    },
}

/// The steps of a part, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PartEvent<'a> {
    Open(PartKind<'a>),
    Piece(&'a str),
    Close,
}

/// The subject of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeltaKind<'a> {
    Text,
    Thinking,
    Refusal,
    /// The call of that number; its id and name are empty where the delta has none.
    Tool {
        index: u64,
        id: &'a str,
        name: &'a str,
    },
}

/// The parts of one answer.
#[derive(Debug, Default)]
pub(super) struct Parts {
    open: Option<Part>,
    held: VecDeque<(Part, String)>,
    /// Calls that are complete, by number and id.
    closed: Vec<(u64, String)>,
    calls: usize,
}

#[derive(Debug)]
enum Part {
    Text,
    Thinking,
    Refusal,
    Tool {
        index: u64,
        id: String,
        name: String,
        json: Balance,
    },
}

/// The id of a call that its worker has given none.
pub(super) fn unnamed(number: usize) -> String {
    format!("call_hub_{number}")
}

impl Part {
    fn kind(&self) -> PartKind<'_> {
        match self {
            Self::Text => PartKind::Text,
            Self::Thinking => PartKind::Thinking,
            Self::Refusal => PartKind::Refusal,
            Self::Tool { id, name, .. } => PartKind::Tool { id, name },
        }
    }

    fn is(&self, of: DeltaKind<'_>) -> bool {
        match (self, of) {
            (Self::Text, DeltaKind::Text)
            | (Self::Thinking, DeltaKind::Thinking)
            | (Self::Refusal, DeltaKind::Refusal) => true,
            (
                Self::Tool { index, id, .. },
                DeltaKind::Tool {
                    index: of,
                    id: of_id,
                    ..
                },
            ) => *index == of && (of_id.is_empty() || id == of_id),
            _ => false,
        }
    }

    /// Takes note of a piece that is sent.
    fn note(&mut self, text: &str) {
        if let Self::Tool { json, .. } = self {
            json.feed(text);
        }
    }

    /// True if another part may follow. A text can be gone on with in a later part, a call cannot.
    fn may_end(&self) -> bool {
        match self {
            Self::Text | Self::Thinking | Self::Refusal => true,
            Self::Tool { json, .. } => json.is_complete(),
        }
    }
}

impl Parts {
    /// True if the answer calls tools.
    pub(super) fn has_calls(&self) -> bool {
        self.calls > 0
    }

    /// Takes a delta.
    pub(super) fn push(
        &mut self,
        of: DeltaKind<'_>,
        text: &str,
        mut step: impl FnMut(PartEvent<'_>),
    ) {
        let begins = matches!(of, DeltaKind::Tool { .. });
        if text.is_empty() && !begins {
            return;
        }
        if let Some(open) = &mut self.open
            && open.is(of)
        {
            if !text.is_empty() {
                open.note(text);
                step(PartEvent::Piece(text));
            }
            if !self.held.is_empty() {
                self.release(&mut step);
            }
            return;
        }
        let mut held = self.held.iter_mut().rev();
        let same = match of {
            // The text in between stays in between.
            DeltaKind::Text | DeltaKind::Thinking | DeltaKind::Refusal => {
                held.next().filter(|(part, _)| part.is(of))
            }
            DeltaKind::Tool { .. } => held.find(|(part, _)| part.is(of)),
        };
        if let Some((_, pieces)) = same {
            pieces.push_str(text);
            return;
        }
        if self.is_closed(of) {
            return;
        }
        let part = self.begin(of);
        self.held.push_back((part, text.to_owned()));
        self.release(&mut step);
    }

    /// The answer is over: what is open is closed, what is held comes out.
    pub(super) fn end(&mut self, mut step: impl FnMut(PartEvent<'_>)) {
        self.close(&mut step);
        while let Some((part, text)) = self.held.pop_front() {
            self.open(part, &text, &mut step);
            self.close(&mut step);
        }
    }

    /// True if a delta comes too late: its call was complete. Nothing but white space can follow that.
    fn is_closed(&self, of: DeltaKind<'_>) -> bool {
        let DeltaKind::Tool { index, id, .. } = of else {
            return false;
        };
        let mut closed = self.closed.iter();
        closed.any(|(at, closed)| *at == index && (id.is_empty() || closed == id))
    }

    fn begin(&mut self, of: DeltaKind<'_>) -> Part {
        match of {
            DeltaKind::Text => Part::Text,
            DeltaKind::Thinking => Part::Thinking,
            DeltaKind::Refusal => Part::Refusal,
            DeltaKind::Tool { index, id, name } => {
                let id = match id {
                    "" => unnamed(self.calls),
                    id => id.to_owned(),
                };
                self.calls += 1;
                Part::Tool {
                    index,
                    id,
                    name: name.to_owned(),
                    json: Balance::default(),
                }
            }
        }
    }

    /// Lets out what is held, as far as what is open may end.
    fn release(&mut self, step: &mut impl FnMut(PartEvent<'_>)) {
        while self.open.as_ref().is_none_or(Part::may_end) {
            let Some((part, text)) = self.held.pop_front() else {
                return;
            };
            self.close(step);
            self.open(part, &text, step);
        }
    }

    fn open(&mut self, mut part: Part, text: &str, step: &mut impl FnMut(PartEvent<'_>)) {
        step(PartEvent::Open(part.kind()));
        if !text.is_empty() {
            part.note(text);
            step(PartEvent::Piece(text));
        }
        self.open = Some(part);
    }

    fn close(&mut self, step: &mut impl FnMut(PartEvent<'_>)) {
        let Some(part) = self.open.take() else {
            return;
        };
        step(PartEvent::Close);
        if let Part::Tool { index, id, .. } = part {
            self.closed.push((index, id));
        }
    }
}

/// Finds the end of a JSON value that comes in pieces.
#[derive(Debug, Default)]
struct Balance {
    depth: usize,
    in_string: bool,
    escaped: bool,
    has_begun: bool,
}

impl Balance {
    fn feed(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.has_begun |= !byte.is_ascii_whitespace();
        }
    }

    fn is_complete(&self) -> bool {
        self.has_begun && self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(deltas: &[(DeltaKind<'_>, &str)]) -> Vec<String> {
        let (mut parts, mut said) = (Parts::default(), Vec::new());
        let mut note = |step: PartEvent<'_>| said.push(format!("{step:?}"));
        for (of, text) in deltas {
            parts.push(*of, text, &mut note);
        }
        note(PartEvent::Piece("--"));
        parts.end(note);
        said
    }

    fn tool<'a>(index: u64, id: &'a str, name: &'a str) -> DeltaKind<'a> {
        DeltaKind::Tool { index, id, name }
    }

    #[test]
    fn each_part_is_closed_when_the_next_begins() {
        let said = said(&[
            (DeltaKind::Thinking, "hm"),
            (DeltaKind::Text, ""),
            (DeltaKind::Text, "a"),
            (DeltaKind::Text, "b"),
            (tool(0, "x", "f"), ""),
            (tool(0, "", ""), "{}"),
            // Some workers give every call the same number.
            (tool(0, "y", "g"), "{}"),
            (DeltaKind::Text, "c"),
        ]);
        insta::assert_snapshot!(said.join("\n"), @r#"
        Open(Thinking)
        Piece("hm")
        Close
        Open(Text)
        Piece("a")
        Piece("b")
        Close
        Open(Tool { id: "x", name: "f" })
        Piece("{}")
        Close
        Open(Tool { id: "y", name: "g" })
        Piece("{}")
        Close
        Open(Text)
        Piece("c")
        Piece("--")
        Close
        "#);
    }

    #[test]
    fn interleaved_calls_come_one_after_the_other() {
        let said = said(&[
            (tool(0, "x", "f"), r#"{"a":"}"#),
            (tool(1, "y", "g"), "{"),
            (DeltaKind::Text, "t"),
            (tool(1, "", ""), "}"),
            (tool(0, "", ""), r#"\"","b":"#),
            (tool(0, "", ""), "{}}"),
            (tool(0, "", ""), " "),
        ]);
        insta::assert_snapshot!(said.join("\n"), @r#"
        Open(Tool { id: "x", name: "f" })
        Piece("{\"a\":\"}")
        Piece("\\\"\",\"b\":")
        Piece("{}}")
        Close
        Open(Tool { id: "y", name: "g" })
        Piece("{}")
        Close
        Open(Text)
        Piece("t")
        Piece("--")
        Close
        "#);
    }

    #[test]
    fn what_is_never_complete_comes_out_at_the_end() {
        let said = said(&[
            (tool(0, "", "f"), "{"),
            (DeltaKind::Text, "t"),
            (DeltaKind::Text, "u"),
        ]);
        insta::assert_snapshot!(said.join("\n"), @r#"
        Open(Tool { id: "call_hub_0", name: "f" })
        Piece("{")
        Piece("--")
        Close
        Open(Text)
        Piece("tu")
        Close
        "#);
    }
}
