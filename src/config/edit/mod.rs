//! Adds an entry to `models` or `api_keys` of a hub.yaml, or removes one, and leaves every other byte as it is.
//!
//! The text is cut open at one place and nowhere else: [`Edit`] says where. Each edit is read again before
//! anybody sees it, and must mean the old file with that entry more or less; else it is refused, and the
//! user writes it by hand. So a file in a form that is not known here cannot be damaged. It writes no file.

use std::fmt;
use std::ops::Range;

use saphyr_parser::{Event, Parser, Span};

use super::yaml::{self, Map, Node};

mod api_keys;

pub use api_keys::{add_keys, remove_key};

/// The list of the models.
const MODELS: &str = "models";

/// A change of one place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The bytes that go; empty for an insertion.
    pub range: Range<usize>,
    /// The text that comes in their place; empty for a removal.
    pub text: String,
}

impl Edit {
    /// The text after the change.
    pub fn apply(&self, text: &str) -> String {
        let (before, after) = (&text[..self.range.start], &text[self.range.end..]);
        format!("{before}{}{after}", self.text)
    }
}

/// The reason why a file is not edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is not YAML, or its root is no mapping.
    #[error("it is not valid; see `check`")]
    Invalid,
    /// Its form is not known, or the entry is used elsewhere in it.
    #[error("`models` is written in a form that cannot be edited safely: {0}")]
    Unsafe(&'static str),
    /// There is no entry of that name.
    #[error("it has no model `{0}`")]
    Unknown(String),
}

/// A value of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryValue {
    /// A text without line breaks.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A switch.
    Flag(bool),
    /// YAML as it is, within one line.
    Literal(String),
}

/// An entry of `models` to be written, its keys in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewEntry(pub Vec<(&'static str, EntryValue)>);

impl fmt::Display for EntryValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Literal(literal) => f.write_str(literal),
            Self::Text(text) if is_plain(text) => f.write_str(text),
            // A JSON string is a YAML one.
            Self::Text(text) => write!(f, "{}", serde_json::Value::from(text.as_str())),
        }
    }
}

/// True for a text that means itself without quotes, also within brackets.
fn is_plain(text: &str) -> bool {
    let begins = |letter: char| letter.is_ascii_alphanumeric() || letter == '/';
    let goes_on = |letter: char| letter.is_ascii_alphanumeric() || "/-_.+@ ".contains(letter);
    let below_home = text.strip_prefix("~/");
    let rest = below_home.unwrap_or(text);
    let is_begun = below_home.is_some() || rest.starts_with(begins);
    let is_word = is_begun && rest.chars().all(goes_on) && !text.ends_with(' ');
    // Numbers, booleans and nulls are no texts without quotes.
    let reads_as = || yaml::parse(&format!("a: {text}\n")).ok();
    is_word
        && reads_as().is_some_and(|node| match node {
            Node::Map(map) => map.entries.get("a") == Some(&Node::Text(text.to_owned())),
            _ => false,
        })
}

impl NewEntry {
    /// The entry as lines of a list whose dashes stand in `column`, without the last line's end.
    pub fn block(&self, column: usize, line_end: &str) -> String {
        let lines = self.0.iter().enumerate().map(|(at, (key, value))| {
            let mark = if at == 0 { "- " } else { "  " };
            format!("{:column$}{mark}{key}: {value}", "")
        });
        lines.collect::<Vec<_>>().join(line_end)
    }

    /// The entry within brackets.
    fn flow(&self) -> String {
        let pairs = self.0.iter().map(|(key, value)| format!("{key}: {value}"));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
    }
}

/// True for YAML without models: the key has no value, no entry, or is not there.
pub fn lacks_models(text: &str) -> bool {
    let Ok(Node::Map(map)) = root(text) else {
        return false;
    };
    match map.entries.get(MODELS) {
        None | Some(Node::Null) => true,
        Some(Node::List(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// Adds an entry at the end of `models`. A text without `models` gets it.
///
/// # Errors
/// When the file is not valid YAML or cannot be edited safely.
pub fn add(text: &str, entry: &NewEntry) -> Result<Edit, EditError> {
    add_to(text, MODELS, entry)
}

fn add_to(text: &str, list: &str, entry: &NewEntry) -> Result<Edit, EditError> {
    let before = root(text)?;
    let edit = adding(text, list, entry)?;
    let added = match root(&entry.block(0, "\n"))? {
        Node::List(mut items) => items.pop(),
        _ => None,
    };
    let mut meant = before;
    let entries = entries_of(&mut meant, list).ok_or(EditError::Unsafe("it is no list"))?;
    entries.extend(added);
    checked(text, edit, &meant)
}

/// Removes the entry of that name.
///
/// # Errors
/// As [`add`]; when there is no such entry.
pub fn remove(text: &str, name: &str) -> Result<Edit, EditError> {
    let mut meant = root(text)?;
    let unknown = || EditError::Unknown(name.to_owned());
    let models = entries_of(&mut meant, MODELS).ok_or_else(unknown)?;
    let index = position(models, name).ok_or_else(unknown)?;
    models.remove(index);
    let is_empty = models.is_empty();
    let edit = removing(text, MODELS, index)?;
    if is_empty {
        // `models:` without a value, or not there at all, means the same here.
        let after = edit.apply(text);
        if let (Ok(Node::Map(mut map)), Node::Map(meant)) = (root(&after), &mut meant) {
            let left = map.entries.shift_remove("models");
            let was = meant.entries.shift_remove("models");
            let is_nothing = matches!(&left, None | Some(Node::Null)) || left == was;
            return match is_nothing && map == *meant {
                true => Ok(edit),
                false => Err(EditError::Unsafe(
                    "the edited file would mean something else",
                )),
            };
        }
    }
    removed(text, edit, &meant)
}

/// As [`checked`]. Above the last entry of a text without a line end may be a block of lines, which needs its own.
fn removed(text: &str, edit: Edit, meant: &Node) -> Result<Edit, EditError> {
    let Range { start, end } = edit.range.clone();
    let line_end = line_end(text);
    let is_last = end == text.len() && text[start..].starts_with(line_end);
    checked(text, edit, meant).or_else(|error| match is_last {
        true => checked(text, removal(start + line_end.len()..end), meant),
        false => Err(error),
    })
}

fn removal(range: Range<usize>) -> Edit {
    let text = String::new();
    Edit { range, text }
}

/// The place of the entry of that name.
fn position(entries: &[Node], name: &str) -> Option<usize> {
    entries.iter().position(|node| match node {
        Node::Map(map) => map.entries.get("name").and_then(Node::scalar).as_deref() == Some(name),
        _ => false,
    })
}

/// The tree of a text.
fn root(text: &str) -> Result<Node, EditError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    yaml::parse(text).map_err(|_| EditError::Invalid)
}

/// The entries of a list, which is added if there is none.
fn entries_of<'n>(root: &'n mut Node, list: &str) -> Option<&'n mut Vec<Node>> {
    let Node::Map(Map { entries, .. }) = root else {
        return None;
    };
    let entries = entries.entry(list.to_owned()).or_insert(Node::Null);
    if *entries == Node::Null {
        *entries = Node::List(Vec::new());
    }
    match entries {
        Node::List(items) => Some(items),
        _ => None,
    }
}

/// The edit, if the text after it means `meant`.
fn checked(text: &str, edit: Edit, meant: &Node) -> Result<Edit, EditError> {
    match root(&edit.apply(text)) {
        Ok(after) if after == *meant => Ok(edit),
        _ => Err(EditError::Unsafe(
            "the edited file would mean something else",
        )),
    }
}

/// The place of a list in a text.
struct Place {
    /// The key.
    key: Range<usize>,
    value: Value,
}

enum Value {
    /// Nothing, or what YAML takes for nothing.
    Null(Range<usize>),
    /// Lines with dashes, at these places.
    Block(Vec<Range<usize>>),
    /// Brackets; `open` is the place after the first one.
    Flow {
        open: usize,
        items: Vec<Range<usize>>,
    },
    /// An alias, or no list.
    Other,
}

fn adding(text: &str, list: &str, entry: &NewEntry) -> Result<Edit, EditError> {
    let line_end = line_end(text);
    let insertion = |at: usize, text: String| Edit {
        range: at..at,
        text,
    };
    let Some(place) = find(text, list) else {
        let (end, between) = end_of_document(text, line_end);
        // By its dashes `remove` knows that the key came with the entry.
        let column = if list == MODELS { 0 } else { 2 };
        let block = entry.block(column, line_end);
        // A last line without an end stays one.
        let last = if between.is_empty() { line_end } else { "" };
        let lines = format!("{between}{list}:{line_end}{block}{last}");
        return Ok(insertion(end, lines));
    };
    match place.value {
        Value::Null(value) if value.is_empty() => {
            const COLUMN: usize = 2;
            // Deeper comments below it would be those of the entry.
            let end = past_comments(text, end_of_line(text, place.key.end), COLUMN);
            Ok(insertion(
                end,
                format!("{line_end}{}", entry.block(COLUMN, line_end)),
            ))
        }
        Value::Null(_) | Value::Other => {
            Err(EditError::Unsafe("its value is an alias, or no list"))
        }
        Value::Flow { open, items } => Ok(match items.last() {
            Some(last) => insertion(last.end, format!(", {}", entry.flow())),
            None => insertion(open, entry.flow()),
        }),
        Value::Block(items) => {
            let last = items.len() - 1;
            let dash = dash(text, &items, last).ok_or(EditError::Unsafe("its dashes"))?;
            let column = dash - start_of_line(text, dash);
            let end = end_of_item(text, &items[last], column);
            let block = entry.block(column, line_end);
            // Entries with a blank line between them get one more.
            let gap = match last > 0 && blank_before(text, start_of_line(text, dash)).is_some() {
                true => line_end,
                false => "",
            };
            Ok(insertion(end, format!("{line_end}{gap}{block}")))
        }
    }
}

fn removing(text: &str, list: &str, index: usize) -> Result<Edit, EditError> {
    let Some(place) = find(text, list) else {
        return Err(EditError::Unsafe("it is merged from elsewhere"));
    };
    match place.value {
        Value::Flow { items, .. } if index < items.len() => {
            let item = items[index].clone();
            Ok(removal(
                match (index.checked_sub(1), items.get(index + 1)) {
                    (Some(before), _) => items[before].end..item.end,
                    (None, Some(next)) => item.start..next.start,
                    // A comma alone is no list.
                    (None, None) => {
                        let rest = &text[item.end..];
                        let blanks = rest.len() - rest.trim_start().len();
                        let comma = rest[blanks..].starts_with(',').then_some(blanks + 1);
                        item.start..item.end + comma.unwrap_or_default()
                    }
                },
            ))
        }
        Value::Block(items) if index < items.len() => {
            let dash = dash(text, &items, index).ok_or(EditError::Unsafe("its dashes"))?;
            let line = start_of_line(text, dash);
            let end = end_of_item(text, &items[index], dash - line);
            if items.len() == 1
                && let Some(range) = with_its_key(text, list, &place.key, dash..end)
            {
                return Ok(removal(range));
            }
            // The line's own end goes with it: the one before it, which the first line of a text lacks.
            let begin = blank_before(text, line).unwrap_or(line);
            let begin = without_line_end(text, begin);
            Ok(removal(begin..end))
        }
        _ => Err(EditError::Unsafe("its value is an alias, or no list")),
    }
}

/// The lines of an only entry and of its list's key, if [`add`] has written both: at the end of the text, with
/// dashes below the key's first letter.
fn with_its_key(
    text: &str,
    list: &str,
    key: &Range<usize>,
    entry: Range<usize>,
) -> Option<Range<usize>> {
    let line_end = line_end(text);
    let before = &text[..key.start];
    let begins_a_line = matches!(before, "" | "\u{feff}") || before.ends_with('\n');
    let is_ours = begins_a_line && text[key.start..entry.start] == format!("{list}:{line_end}");
    let (end, between) = end_of_document(text, line_end);
    if !is_ours {
        return None;
    }
    match text[entry.end..].strip_prefix(line_end) {
        Some(_) if entry.end + line_end.len() == end => Some(key.start..end),
        None if entry.end == end && !between.is_empty() => {
            Some(without_line_end(text, key.start)..end)
        }
        _ => None,
    }
}

/// The end of the lines of a text.
fn line_end(text: &str) -> &'static str {
    match text.find('\n') {
        Some(end) if text[..end].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

fn start_of_line(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// The end of the line that `at` is in, before its line end.
fn end_of_line(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    match text[at..end].ends_with('\r') {
        true => end - 1,
        false => end,
    }
}

/// `at`, the start of a line, before the end of the line above.
fn without_line_end(text: &str, at: usize) -> usize {
    let above = &text[..at];
    let above = above
        .strip_suffix('\n')
        .map_or(above, |above| above.strip_suffix('\r').unwrap_or(above));
    above.len()
}

/// The start of the blank line above the line that begins at `at`, if there is one below another entry.
fn blank_before(text: &str, at: usize) -> Option<usize> {
    let above = start_of_line(text, without_line_end(text, at));
    (above < at && text[above..at].trim().is_empty()).then_some(above)
}

/// The end of a document without the list, and the line end that it lacks.
fn end_of_document<'l>(text: &str, line_end: &'l str) -> (usize, &'l str) {
    let mut at = 0;
    let mut end = text.len();
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "..." {
            end = at;
        }
        at += line.len();
    }
    let is_open = end > 0 && !text[..end].ends_with('\n') && text[..end] != *"\u{feff}";
    (end, if is_open { line_end } else { "" })
}

/// The place of an item's dash.
fn dash(text: &str, items: &[Range<usize>], index: usize) -> Option<usize> {
    let from = index.checked_sub(1).map_or(0, |before| items[before].end);
    let mut line = start_of_line(text, items[index].start);
    loop {
        let begin = line.max(from);
        let written = text.get(begin..items[index].start.max(begin))?;
        let indent = written.len() - written.trim_start_matches(' ').len();
        if written[indent..].starts_with('-') && begin == line {
            return Some(line + indent);
        }
        // Between the dash and its value only comments may stand.
        line = start_of_line(text, line.checked_sub(1)?);
        if line < from && start_of_line(text, from) != line {
            return None;
        }
    }
}

/// The end of the last line of an item, with the comments below it that are indented like its keys.
fn end_of_item(text: &str, item: &Range<usize>, column: usize) -> usize {
    let content = text[item.start..item.end].trim_end();
    past_comments(text, end_of_line(text, item.start + content.len()), column)
}

/// `end`, of a line, or that of the last of the comments below it that are indented deeper than `column`.
fn past_comments(text: &str, mut end: usize, column: usize) -> usize {
    loop {
        let Some(rest) = text[end..].find('\n').map(|next| end + next + 1) else {
            return end;
        };
        let last = end_of_line(text, rest);
        let line = &text[rest..last];
        let indent = line.len() - line.trim_start().len();
        if !line.trim_start().starts_with('#') || indent <= column {
            return end;
        }
        end = last;
    }
}

/// Finds a list at the top level; `None` if it is not there, or only merged into it.
fn find(text: &str, list: &str) -> Option<Place> {
    // The parser refuses tabs between a key and its value, which are legal. A space is as long.
    let spaced = text.replace('\t', " ");
    let offsets: Vec<usize> = spaced.char_indices().map(|(offset, _)| offset).collect();
    let bytes = |span: Span| {
        let at = |index: usize| offsets.get(index).copied().unwrap_or(spaced.len());
        at(span.start.index())..at(span.end.index())
    };
    let mut events = Parser::new_from_str(&spaced)
        .map_while(Result::ok)
        .map(|(event, span)| (event, bytes(span)));
    let mut depth = 0;
    // The key of the root whose value comes next.
    let mut key: Option<(bool, Range<usize>)> = None;
    let (key, value) = loop {
        let (event, range) = events.next()?;
        match event {
            Event::Scalar(..) | Event::Alias(..) if depth != 1 => {}
            Event::MappingEnd | Event::SequenceEnd => depth -= 1,
            Event::MappingStart(..) | Event::SequenceStart(..) if depth != 1 => depth += 1,
            Event::Scalar(..)
            | Event::Alias(..)
            | Event::MappingStart(..)
            | Event::SequenceStart(..) => {
                let is_nested = matches!(event, Event::MappingStart(..) | Event::SequenceStart(..));
                depth += usize::from(is_nested);
                match key.take() {
                    None => {
                        let is_its = matches!(&event, Event::Scalar(name, ..) if name == list);
                        key = Some((is_its, range));
                    }
                    Some((true, key)) => break (key, (event, range)),
                    Some((false, _)) => {}
                }
            }
            _ => {}
        }
    };
    let (event, range) = value;
    let value = match event {
        Event::Scalar(..) => Value::Null(range),
        Event::SequenceStart(..) => {
            let items = items(&mut events, &spaced);
            // An anchor or a tag may stand before the bracket.
            match spaced[range.clone()].ends_with('[') || spaced[range.start..].starts_with('[') {
                true => Value::Flow {
                    open: range.start + spaced[range.start..].find('[')? + 1,
                    items,
                },
                false => Value::Block(items),
            }
        }
        _ => Value::Other,
    };
    Some(Place { key, value })
}

/// The places of the items of a list that has just begun, up to its end.
fn items<'e>(
    events: &mut impl Iterator<Item = (Event<'e>, Range<usize>)>,
    text: &str,
) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    let mut depth = 0;
    for (event, range) in events {
        match event {
            Event::MappingEnd | Event::SequenceEnd if depth == 0 => break,
            Event::MappingEnd | Event::SequenceEnd => {
                depth -= 1;
                // Brackets end at their own place, what has none with the last scalar in it. Blanks may follow.
                let is_bracket = text[range.clone()].starts_with([']', '}']);
                if let Some(item) = items.last_mut().filter(|_| is_bracket) {
                    item.end = item.end.max(range.start + 1);
                }
                continue;
            }
            Event::Scalar(..) | Event::Alias(..) => {}
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                if depth == 0 {
                    items.push(range);
                }
                depth += 1;
                continue;
            }
            _ => continue,
        }
        // A block of lines ends where the next token begins.
        let written = text[range.clone()].trim_end();
        let range = range.start..range.start + written.len();
        match items.last_mut().filter(|_| depth > 0) {
            Some(item) => item.end = item.end.max(range.end),
            None => items.push(range),
        }
    }
    items
}

#[cfg(test)]
mod tests;
