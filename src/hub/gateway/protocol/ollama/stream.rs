//! A stream as lines of JSON.

use std::io::Write as _;

use jiff::Timestamp;

use super::super::chat::{Head, PartKind, Reason, Usage, Writer};
use super::answer::{Form, Origin, Spent, call};
use super::one_line;
use crate::api::ApiError;

/// Writes the lines of one answer.
#[derive(Debug)]
pub(in super::super) struct Lines {
    form: Form,
    model: String,
    origin: Origin,
    /// At the first piece.
    first: Option<Spent>,
    open: OpenPart,
    /// A line with a piece as far as all are the same: up to its time.
    head: Vec<u8>,
}

#[derive(Debug)]
enum OpenPart {
    Text,
    Thinking,
    /// A call is told when it is complete.
    Call {
        name: String,
        arguments: String,
    },
}

impl Lines {
    pub(in super::super) fn new(form: Form, model: String, origin: Origin) -> Self {
        let mut head = b"{\"model\":".to_vec();
        one_line::write(&model, &mut head);
        head.extend_from_slice(b",\"created_at\":\"");
        Self {
            form,
            model,
            origin,
            first: None,
            open: OpenPart::Text,
            head,
        }
    }
}

/// What stands before the text of a piece and behind it, as [`Form::said`] writes them.
fn around(form: Form, is_thinking: bool) -> (&'static [u8], &'static [u8]) {
    match (form, is_thinking) {
        (Form::Chat, false) => (
            br#"","message":{"role":"assistant","content":"#,
            br#"},"done":false}"#,
        ),
        (Form::Chat, true) => (
            br#"","message":{"role":"assistant","content":"","thinking":"#,
            br#"},"done":false}"#,
        ),
        (Form::Generate, false) => (br#"","response":"#, br#","done":false}"#),
        (Form::Generate, true) => (br#"","response":"","thinking":"#, br#","done":false}"#),
    }
}

impl Writer for Lines {
    fn begin(&mut self, _: Head<'_>, _: &mut Vec<u8>) {}

    fn open(&mut self, kind: PartKind<'_>, _: &mut Vec<u8>) {
        self.first.get_or_insert_with(|| self.origin.spent());
        self.open = match kind {
            PartKind::Text | PartKind::Refusal => OpenPart::Text,
            PartKind::Thinking => OpenPart::Thinking,
            PartKind::Tool { name, .. } => OpenPart::Call {
                name: name.to_owned(),
                arguments: String::new(),
            },
        };
    }

    fn piece(&mut self, text: &str, out: &mut Vec<u8>) {
        let is_thinking = match &mut self.open {
            OpenPart::Text => false,
            OpenPart::Thinking => true,
            OpenPart::Call { arguments, .. } => {
                arguments.push_str(text);
                return;
            }
        };
        let (before, behind) = around(self.form, is_thinking);
        out.extend_from_slice(&self.head);
        write!(out, "{}", Timestamp::now()).expect("it is written to memory");
        out.extend_from_slice(before);
        one_line::write(text, out);
        out.extend_from_slice(behind);
        out.push(b'\n');
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if let OpenPart::Call { name, arguments } =
            std::mem::replace(&mut self.open, OpenPart::Text)
        {
            let calls = vec![call(&name, &arguments)];
            one_line::write_line(&self.form.said(&self.model, "", "", calls), out);
        }
    }

    fn finish(&mut self, reason: Reason, usage: Usage, out: &mut Vec<u8>) {
        let spent = self.origin.spent();
        let mut last = self.form.said(&self.model, "", "", Vec::new());
        last.finish(reason, usage, spent, self.first.or(Some(spent)));
        one_line::write_line(&last, out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(&super::error_event(error));
    }
}
