//! Parses YAML text into a [`Node`], within bounds.
//!
//! `Config::load` calls [`parse`] once. It owns everything that is YAML and not hub.yaml: anchors,
//! merge keys (`<<`), repeated keys, and the limits that keep a hostile file from taking the machine's
//! time or memory. It knows no key and no type; [`super::raw`] reads those out of the tree.

use std::cell::{Cell, RefCell};
use std::fmt;

use indexmap::IndexMap;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};

mod types;

pub(super) use types::Typed;
use types::Types;

/// Largest tree in bytes, its aliases expanded; a hub.yaml of a thousand models stays far below it.
const BUDGET: usize = 8 << 20;
const TOO_MUCH: &str = "too large: more than 8 MiB with its aliases expanded";
/// The cost of a node besides its text, about its size in memory.
const NODE_COST: usize = 64;
/// The parser takes quadratic time for open brackets; it refuses more than 128 levels, but only
/// after it has scanned them all.
const MAX_OPEN_BRACKETS: usize = 1000;

/// A YAML value, with YAML 1.2's idea of plain scalars; the readers know what a key wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    /// A boolean or number, and how it is written.
    Typed(Typed, String),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// A mapping in file order, merge keys resolved: its own keys win over merged ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Map {
    pub(super) entries: IndexMap<String, Node>,
    /// Keys that were written more than once; `entries` has the last value.
    pub(super) repeated: Vec<String>,
}

/// The reason why a text is not YAML, with the byte offset if known.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) offset: Option<usize>,
    pub(super) hint: Option<&'static str>,
}

/// Parses one YAML document; an empty text is an empty mapping.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    if let Some(offset) = too_many_open_brackets(text) {
        return Err(SyntaxError {
            message: format!("more than {MAX_OPEN_BRACKETS} brackets are open at once"),
            offset: Some(offset),
            hint: None,
        });
    }
    let budget = Budget::whole();
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Ok(Node::Map(Map::default()));
    };
    let types = Types::of(first, &budget).map_err(|error| in_words(&error, text))?;
    if let Some(second) = documents.next() {
        // An error in the second document makes a better message.
        Types::of(second, &budget).map_err(|error| in_words(&error, text))?;
        return Err(SyntaxError {
            message: "expected a single document, but `---` starts another one".to_owned(),
            offset: second_document(text),
            hint: None,
        });
    }
    let seed = NodeSeed {
        budget: &Budget::whole(),
        types: &RefCell::new(types.into_iter()),
    };
    let node = seed
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| in_words(&error, text))?;
    Ok(match node {
        Node::Null => Node::Map(Map::default()),
        node => node,
    })
}

/// The offset at which [`MAX_OPEN_BRACKETS`] is exceeded. Brackets in strings and comments count too: no
/// hub.yaml has that many, balanced or not.
fn too_many_open_brackets(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_OPEN_BRACKETS {
            return Some(offset);
        }
    }
    None
}

/// The parser's message in place of its jargon, without the position that the excerpt shows.
fn in_words(error: &serde_yaml::Error, text: &str) -> SyntaxError {
    let message = error.to_string();
    let mut offset = error.location().map(|location| location.index());
    let message = if message.starts_with("recursion limit") {
        "nested too deeply, or an anchor contains itself".to_owned()
    } else if message.starts_with("repetition limit") || message.contains(TOO_MUCH) {
        TOO_MUCH.to_owned()
    } else if message.starts_with("control characters") {
        // The parser counts these in another unit than the rest.
        offset = text.find(is_forbidden);
        "control characters are not allowed".to_owned()
    } else {
        without_position(&message)
    };
    let found = offset.and_then(|offset| text.get(offset..)?.chars().next());
    SyntaxError {
        hint: hint(&message, found),
        message,
        offset,
    }
}

/// Characters that YAML forbids, even in quotes.
fn is_forbidden(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}')
}

/// Cuts the first ` at line 4 column 1`; a second one names the start of the enclosing value.
fn without_position(message: &str) -> String {
    let Some((before, rest)) = message.split_once(" at line ") else {
        return message.to_owned();
    };
    let after = rest.find(", ").map_or("", |comma| &rest[comma..]);
    format!("{before}{after}")
}

/// The usual cause of a message; `found` is the offending character.
fn hint(message: &str, found: Option<char>) -> Option<&'static str> {
    let says = |part| message.contains(part);
    match found {
        Some('\t') if says("cannot start any token") => Some("indent with spaces, not with tabs"),
        Some('\0') => Some("save the file as UTF-8"),
        _ if says("cannot start any token") => Some("put the value in quotes"),
        _ if says("mapping values are not allowed") => {
            Some("put a value that contains `: ` in quotes, and check the indentation")
        }
        _ if says("expected key") || says("expected '-' indicator") => {
            Some("keys of one entry begin in the same column, and so do the `-` of one list")
        }
        _ if says("unknown anchor") => Some("an alias like `*name` needs `&name` further up"),
        _ => None,
    }
}

/// The offset of the `---` line that ends the first document.
fn second_document(text: &str) -> Option<usize> {
    let mut offset = 0;
    let mut content = false;
    for line in text.split_inclusive('\n') {
        if line.starts_with("---") && content {
            return Some(offset);
        }
        let trimmed = line.trim();
        content |= !(trimmed.is_empty() || trimmed.starts_with(['#', '%']));
        offset += line.len();
    }
    None
}

/// The bytes left for the tree; aliases copy their anchors, so the size of the text does not bound that of
/// the tree.
struct Budget(Cell<usize>);

impl Budget {
    fn whole() -> Self {
        Self(Cell::new(BUDGET))
    }

    fn spend<E: serde::de::Error>(&self, text: usize) -> Result<(), E> {
        let Some(left) = self.0.get().checked_sub(NODE_COST + text) else {
            return Err(E::custom(TOO_MUCH));
        };
        self.0.set(left);
        Ok(())
    }
}

/// The second reading.
#[derive(Clone, Copy)]
struct NodeSeed<'b> {
    budget: &'b Budget,
    /// The types that the first reading found, from the next node on.
    types: &'b RefCell<<Types as IntoIterator>::IntoIter>,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.budget.spend(0)?;
        let Some(typed) = self.types.borrow_mut().next().flatten() else {
            return deserializer.deserialize_any(self);
        };
        let written = String::deserialize(deserializer)?;
        self.budget.spend(written.len())?;
        Ok(Node::Typed(typed, written))
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    /// An empty document.
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node, E> {
        self.budget.spend(value.len())?;
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut map = Map::default();
        let mut merged = Vec::new();
        while let Some(key) = access.next_key_seed(self)? {
            let Some(key) = key.scalar() else {
                return Err(A::Error::custom(
                    "a key must be a single word, not a list or mapping",
                ));
            };
            let value = access.next_value_seed(self)?;
            if key == "<<" {
                merged.extend(merge_sources(value).map_err(A::Error::custom)?);
            } else if map.entries.insert(key.clone(), value).is_some() {
                map.repeated.push(key);
            }
        }
        for (key, value) in merged.into_iter().flat_map(|source| source.entries) {
            map.entries.entry(key).or_insert(value);
        }
        Ok(Node::Map(map))
    }
}

/// The mappings behind `<<`, the strongest first.
fn merge_sources(value: Node) -> Result<Vec<Map>, &'static str> {
    let sources = match value {
        Node::List(list) => list,
        other => vec![other],
    };
    sources
        .into_iter()
        .map(|source| match source {
            Node::Map(map) => Ok(map),
            _ => Err("`<<` must name a mapping or a list of mappings"),
        })
        .collect()
}

impl Node {
    /// The text of a scalar, as it is written; `None` for lists and mappings.
    pub(super) fn scalar(&self) -> Option<String> {
        match self {
            Self::Null => Some("null".to_owned()),
            Self::Typed(_, text) | Self::Text(text) => Some(text.clone()),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The value as an error message shows it, shortened.
    pub(super) fn shown(&self) -> String {
        const MAX_CHARS: usize = 60;
        match self {
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
            Self::Null => "nothing".to_owned(),
            scalar => {
                let text = scalar.scalar().unwrap_or_default();
                let mut shown: String = text.escape_debug().take(MAX_CHARS).collect();
                if text.chars().count() > MAX_CHARS {
                    shown.push('…');
                }
                format!("`{shown}`")
            }
        }
    }
}
