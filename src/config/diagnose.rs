//! Turns problems into the text that users see: `PATH:LINE:COL: …`, an excerpt, a hint.
//!
//! Only `Config::load` calls this, and only when there is something to report: finding the line of
//! `models[1].port` takes a second scan of the text, with a parser that tells where each value
//! stands. That parser does not accept all that the first one does; what it cannot find is reported
//! at the nearest enclosing value, or without a line.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::str::Utf8Error;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use saphyr_parser::{Event, Parser, Span};

use super::lookalikes::{self, Lookalike};
use super::problem::{KeyPath, Mark, Problem, Segment};
use super::yaml::SyntaxError;
use super::{ConfigError, keys};
use crate::api::ConfigFinding;

/// The error for a text that is not YAML.
pub(super) fn syntax_error(path: &Path, text: &str, error: &SyntaxError) -> ConfigError {
    let lookalike = error
        .offset
        .and_then(|offset| lookalikes::before_error(text, offset));
    if let Some(lookalike) = lookalike {
        return self::lookalike(path, text, &lookalike);
    }
    let message = format!("Failed to parse hub config: {}", error.message);
    let range = error.offset.map(|offset| offset..offset + 1);
    report(path, text, &message, range, error.hint, Show::Line).into_error()
}

/// The error for a character that was meant to be another.
pub(super) fn lookalike(path: &Path, text: &str, lookalike: &Lookalike) -> ConfigError {
    let message = format!("Failed to parse hub config: {}", lookalike.message);
    let (range, hint) = (Some(lookalike.range.clone()), Some(lookalike.hint));
    report(path, text, &message, range, hint, Show::Line).into_error()
}

/// The error for bytes that are not UTF-8.
pub(super) fn not_utf8(path: &Path, bytes: &[u8], error: &Utf8Error) -> ConfigError {
    let text = String::from_utf8_lossy(bytes);
    let offset = error.valid_up_to();
    let byte = bytes.get(offset).copied().unwrap_or_default();
    let message = format!("Failed to parse hub config: byte 0x{byte:02X} is not UTF-8");
    let (range, hint) = (Some(offset..offset + 1), Some("save the file as UTF-8"));
    report(path, &text, &message, range, hint, Show::Line).into_error()
}

/// The error for a text that is YAML and breaks rules, in the order of the file; `unnamed` problems more
/// were found.
pub(super) fn problems(
    path: &Path,
    text: &str,
    problems: &[Problem],
    unnamed: usize,
) -> ConfigError {
    let located = located(text, problems);
    let mut reports: Vec<_> = located
        .into_iter()
        .map(|(range, problem)| {
            // A key may have been written where its hash belongs, and errors go into logs.
            let may_be_secret =
                problem.key_path.0.first() == Some(&Segment::Key(keys::KEY.to_owned()));
            let show = if may_be_secret {
                Show::Nothing
            } else {
                Show::Line
            };
            let hint = problem.hint.as_deref();
            report(path, text, &problem.message, range, hint, show)
        })
        .collect();
    if unnamed > 0 {
        reports.push(ProblemReport::unnamed(path, unnamed));
    }
    let texts: Vec<_> = reports.iter().map(|report| &*report.text).collect();
    ConfigError {
        text: texts.join("\n\n"),
        findings: reports.into_iter().map(|report| report.finding).collect(),
    }
}

/// The places of warnings, in the order of the file.
pub(super) fn placed(text: &str, warnings: &[Problem]) -> Vec<ConfigFinding> {
    let place = |(range, warning): (Option<Range<usize>>, &Problem)| {
        let range = range.map(|range| within_line(text, &range));
        finding(text, &warning.message, range, warning.hint.as_deref())
    };
    located(text, warnings).into_iter().map(place).collect()
}

/// The problems with their ranges, in the order of the file.
fn located<'p>(text: &str, problems: &'p [Problem]) -> Vec<(Option<Range<usize>>, &'p Problem)> {
    if problems.is_empty() {
        return Vec::new();
    }
    let tree = Tree::scan(text);
    let mut located: Vec<_> = problems
        .iter()
        .map(|problem| (tree.find(&problem.key_path, problem.mark), problem))
        .collect();
    located.sort_by_key(|(range, _)| range.as_ref().map_or(0, |range| range.start));
    located
}

/// A problem for an editor; `range` is within one line.
fn finding(
    text: &str,
    message: &str,
    range: Option<Range<usize>>,
    hint: Option<&str>,
) -> ConfigFinding {
    let start = range.as_ref().map_or(0, |range| range.start);
    let (line, column) = line_and_column(text, start);
    let marked = range.and_then(|range| text.get(range));
    ConfigFinding {
        line: Some(line),
        column: Some(column),
        length: marked.map_or(0, |marked| marked.chars().count()),
        message: for_a_terminal(message),
        hint: hint.map(for_a_terminal),
    }
}

/// A problem, as a terminal and as an editor shows it.
struct ProblemReport {
    text: String,
    finding: ConfigFinding,
}

impl ProblemReport {
    fn into_error(self) -> ConfigError {
        ConfigError {
            text: self.text,
            findings: vec![self.finding],
        }
    }

    /// So many more problems.
    fn unnamed(path: &Path, count: usize) -> Self {
        let message = format!("{count} more problems");
        Self {
            text: format!("{}: {message}", path.display()),
            finding: ConfigFinding {
                message,
                ..ConfigFinding::default()
            },
        }
    }
}

/// Without a range the message is about the file as a whole: line 1, no excerpt.
fn report(
    path: &Path,
    text: &str,
    message: &str,
    range: Option<Range<usize>>,
    hint: Option<&str>,
    show: Show,
) -> ProblemReport {
    let range = range.map(|range| within_line(text, &range));
    let start = range.as_ref().map_or(0, |range| range.start);
    let (line, column) = line_and_column(text, start);
    let finding = finding(text, message, range.clone(), hint);
    let mut report = format!("{}:{line}:{column}: {message}", path.display());
    if let (Some(range), Show::Line) = (range, show) {
        report.push('\n');
        report.push_str(&excerpt(text, range));
    }
    if let Some(hint) = hint {
        report.push_str("\nhint: ");
        report.push_str(hint);
    }
    ProblemReport {
        text: for_a_terminal(&report),
        finding,
    }
}

/// The part of the file that a report shows.
#[derive(Clone, Copy)]
enum Show {
    /// The line, marked at the place.
    Line,
    /// Nothing: it may be a secret.
    Nothing,
}

/// Keys stand in messages as they are, and the excerpt keeps eight-bit control characters: U+009B begins
/// a sequence as ESC [ does.
fn for_a_terminal(text: &str) -> String {
    let forbidden = |c: char| c.is_control() && c != '\n';
    text.replace(forbidden, "\u{FFFD}")
}

fn excerpt(text: &str, range: Range<usize>) -> String {
    let snippet = Snippet::source(text)
        .fold(true)
        .annotation(AnnotationKind::Primary.span(range));
    let group = Group::with_level(Level::ERROR).element(snippet);
    Renderer::plain().render(&[group])
}

/// The range on character boundaries, non-empty where possible, and cut at the end of its first line.
fn within_line(text: &str, range: &Range<usize>) -> Range<usize> {
    let mut start = range.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let line_end = text[start..]
        .find(['\n', '\r'])
        .map_or(text.len(), |length| start + length);
    let mut end = range.end.clamp(start, line_end);
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// Both from 1; the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// The position of every value: nodes in file order, the root first.
#[derive(Default)]
struct Tree {
    nodes: Vec<Spot>,
}

struct Spot {
    range: Range<usize>,
    kind: SpotKind,
}

enum SpotKind {
    Scalar,
    List(Vec<usize>),
    /// Keys with their ranges and the nodes of their values, in file order.
    Map(Vec<(String, Range<usize>, usize)>),
}

/// A list or mapping that is still being read.
struct Open {
    node: usize,
    /// A mapping's key that waits for its value.
    key: Option<(String, Range<usize>)>,
}

impl Tree {
    /// Reads events until the end or the first error; what was read so far can be searched.
    fn scan(text: &str) -> Self {
        // The parser refuses tabs between a key and its value, which are legal. A space is as long.
        let text = text.replace('\t', " ");
        let offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).collect();
        let bytes = |span: Span| {
            let at = |index: usize| offsets.get(index).copied().unwrap_or(text.len());
            at(span.start.index())..at(span.end.index())
        };
        let mut tree = Self::default();
        let mut open: Vec<Open> = Vec::new();
        let mut anchors = HashMap::new();
        for (event, span) in Parser::new_from_str(&text).map_while(Result::ok) {
            let (kind, anchor, name) = match event {
                Event::Scalar(value, _, anchor, _) => {
                    (SpotKind::Scalar, anchor, value.into_owned())
                }
                Event::SequenceStart(anchor, _) => {
                    (SpotKind::List(Vec::new()), anchor, String::new())
                }
                Event::MappingStart(anchor, _) => {
                    (SpotKind::Map(Vec::new()), anchor, String::new())
                }
                Event::Alias(anchor) => {
                    // The places an alias names are those of its anchor.
                    let Some(&node) = anchors.get(&anchor) else {
                        continue;
                    };
                    tree.attach(&mut open, node, bytes(span), String::new());
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                    continue;
                }
                _ => continue,
            };
            let node = tree.nodes.len();
            let nested = !matches!(kind, SpotKind::Scalar);
            let range = bytes(span);
            tree.nodes.push(Spot {
                range: range.clone(),
                kind,
            });
            if anchor != 0 {
                anchors.insert(anchor, node);
            }
            tree.attach(&mut open, node, range, name);
            if nested {
                open.push(Open { node, key: None });
            }
        }
        tree
    }

    /// Makes `node` the next key, value or item of the innermost open list or mapping.
    fn attach(&mut self, open: &mut [Open], node: usize, range: Range<usize>, name: String) {
        let Some(parent) = open.last_mut() else {
            return;
        };
        match &mut self.nodes[parent.node].kind {
            SpotKind::Scalar => {}
            SpotKind::List(items) => items.push(node),
            SpotKind::Map(entries) => match parent.key.take() {
                Some((key, key_range)) => entries.push((key, key_range, node)),
                None => parent.key = Some((name, range)),
            },
        }
    }

    /// The range that `mark` means at `key_path`, or that of the nearest enclosing value found; `None` for the
    /// root.
    fn find(&self, key_path: &KeyPath, mark: Mark) -> Option<Range<usize>> {
        let mut node = 0;
        let mut range = None;
        for (depth, step) in key_path.0.iter().enumerate() {
            let last = depth + 1 == key_path.0.len();
            let found = match (step, &self.nodes.get(node)?.kind) {
                (Segment::Key(key), SpotKind::Map(_)) => {
                    self.entry(node, key, mark == Mark::LastKey)
                }
                (Segment::Item(index), SpotKind::List(items)) => items
                    .get(*index)
                    .map(|item| (self.nodes[*item].range.clone(), *item)),
                _ => None,
            };
            let Some((key, value)) = found else { break };
            node = value;
            range = Some(if last && mark != Mark::Value {
                key
            } else {
                self.value_range(value, key)
            });
        }
        range
    }

    /// A list or mapping is shown by where it begins, an empty value by its key.
    fn value_range(&self, value: usize, key: Range<usize>) -> Range<usize> {
        let spot = &self.nodes[value];
        match &spot.kind {
            SpotKind::Map(entries) => entries.first().map_or(key, |(_, range, _)| range.clone()),
            SpotKind::Scalar if !spot.range.is_empty() => spot.range.clone(),
            SpotKind::List(_) | SpotKind::Scalar => key,
        }
    }

    /// The key's range and value, in the mapping or in those merged into it.
    fn entry(&self, node: usize, key: &str, last: bool) -> Option<(Range<usize>, usize)> {
        self.entry_within(node, key, last, 8)
    }

    fn entry_within(
        &self,
        node: usize,
        key: &str,
        last: bool,
        merges: usize,
    ) -> Option<(Range<usize>, usize)> {
        let SpotKind::Map(entries) = &self.nodes[node].kind else {
            return None;
        };
        let mut own = entries.iter().filter(|(name, _, _)| name == key);
        let own = if last { own.next_back() } else { own.next() };
        if let Some((_, range, value)) = own {
            return Some((range.clone(), *value));
        }
        // An anchor may not contain itself, but the chain of merges is bounded all the same.
        let merges = merges.checked_sub(1)?;
        entries
            .iter()
            .filter(|(name, _, _)| name == "<<")
            .flat_map(|(_, _, source)| match &self.nodes[*source].kind {
                SpotKind::List(sources) => sources.clone(),
                _ => vec![*source],
            })
            .find_map(|source| self.entry_within(source, key, last, merges))
    }
}
