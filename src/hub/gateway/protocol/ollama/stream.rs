//! A stream as lines of JSON.

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
        Self {
            form,
            model,
            origin,
            first: None,
            open: OpenPart::Text,
        }
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
        let line = match &mut self.open {
            OpenPart::Text => self.form.said(&self.model, text, "", Vec::new()),
            OpenPart::Thinking => self.form.said(&self.model, "", text, Vec::new()),
            OpenPart::Call { arguments, .. } => {
                arguments.push_str(text);
                return;
            }
        };
        one_line::write(&line, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if let OpenPart::Call { name, arguments } =
            std::mem::replace(&mut self.open, OpenPart::Text)
        {
            let calls = vec![call(&name, &arguments)];
            one_line::write(&self.form.said(&self.model, "", "", calls), out);
        }
    }

    fn finish(&mut self, reason: Reason, usage: Usage, out: &mut Vec<u8>) {
        let spent = self.origin.spent();
        let mut last = self.form.said(&self.model, "", "", Vec::new());
        last.finish(reason, usage, spent, self.first.or(Some(spent)));
        one_line::write(&last, out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(&super::error_event(error));
    }
}
