//! A finding of `doctor`: how bad it is, what it is, and what to do.

use serde::Serialize;

use crate::cli::render::Out;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// All is well.
    Ok,
    /// Worth knowing, and no fault.
    Note,
    /// It works, and something does not work as it should, or will not.
    Warning,
    /// Something does not work.
    Broken,
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// A sentence without a full stop; further lines explain it.
    pub(super) what: String,
    /// The advice about it.
    pub(super) hint: Option<String>,
}

impl Finding {
    /// `said` may end with a line that begins with `hint: `, as errors do.
    pub(super) fn new(severity: Severity, said: impl ToString) -> Self {
        let said = said.to_string();
        let (what, hint) = match said.rsplit_once("\nhint: ") {
            Some((what, hint)) => (what.to_owned(), Some(hint.to_owned())),
            None => (said, None),
        };
        Self {
            severity,
            what,
            hint,
        }
    }

    pub(super) fn ok(what: impl ToString) -> Self {
        Self::new(Severity::Ok, what)
    }

    pub(super) fn note(what: impl ToString) -> Self {
        Self::new(Severity::Note, what)
    }

    pub(super) fn warning(what: impl ToString) -> Self {
        Self::new(Severity::Warning, what)
    }

    pub(super) fn broken(what: impl ToString) -> Self {
        Self::new(Severity::Broken, what)
    }

    pub(super) fn with_hint(mut self, hint: impl ToString) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The finding with its hint on a line of its own.
    pub(super) fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}\nhint: {hint}", self.what),
            None => self.what.clone(),
        }
    }

    pub(super) fn print(&self, out: &mut Out) {
        match self.severity {
            Severity::Ok => out.ok(self.text()),
            Severity::Note => out.info(self.text()),
            Severity::Warning => out.warn(self.text()),
            Severity::Broken => out.err(self.text()),
        }
    }
}

/// The last line of `doctor`: `1 thing is broken, and 2 warnings`.
pub(super) fn sum(findings: &[Finding]) -> String {
    let count = |severity| {
        let findings = findings.iter();
        findings.filter(|one| one.severity == severity).count()
    };
    let warnings = match count(Severity::Warning) {
        0 => None,
        1 => Some("1 warning".to_owned()),
        many => Some(format!("{many} warnings")),
    };
    let broken = match count(Severity::Broken) {
        0 => None,
        1 => Some("1 thing is broken".to_owned()),
        many => Some(format!("{many} things are broken")),
    };
    match (broken, warnings) {
        (None, None) => "Nothing is wrong".to_owned(),
        (Some(broken), None) => broken,
        (None, Some(warnings)) => format!("Nothing is broken; {warnings}"),
        (Some(broken), Some(warnings)) => format!("{broken}, and {warnings}"),
    }
}

/// The findings as a test compares them: mark, sentence, hint.
#[cfg(test)]
pub(super) fn told(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| {
        let severity = format!("{:?}", finding.severity).to_lowercase();
        format!("{severity}: {}", finding.text().replace('\n', "\n  "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_of_an_error_is_that_of_the_finding() {
        let finding = Finding::broken("no worker\nits folder is gone\nhint: install it");
        assert_eq!(finding.what, "no worker\nits folder is gone");
        assert_eq!(finding.hint.as_deref(), Some("install it"));
        assert_eq!(
            finding.text(),
            "no worker\nits folder is gone\nhint: install it"
        );
    }

    #[test]
    fn the_sum_counts_what_is_broken_and_what_is_a_warning() {
        let (ok, warning, broken) = (Finding::ok(""), Finding::warning(""), Finding::broken(""));
        let all = [
            vec![ok.clone(), Finding::note("")],
            vec![ok, warning.clone()],
            vec![broken.clone()],
            vec![warning.clone(), broken.clone(), warning, broken],
        ];
        let sums = all.map(|findings| sum(&findings));
        insta::assert_snapshot!(sums.join("\n"), @"
        Nothing is wrong
        Nothing is broken; 1 warning
        1 thing is broken
        2 things are broken, and 2 warnings
        ");
    }
}
