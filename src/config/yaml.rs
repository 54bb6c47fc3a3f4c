//! YAML text to a [`Node`], within bounds.
//!
//! `Config::load` calls [`parse`] once. It owns everything that is YAML and not hub.yaml: anchors,
//! merge keys (`<<`), repeated keys, and the limits that keep a hostile file from taking the machine's
//! time or memory. It knows no key and no type; [`super::raw`] reads those out of the tree.

use std::cell::Cell;
use std::fmt;

use indexmap::IndexMap;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess,
    Visitor,
};

/// What a tree may take once its aliases are expanded, in bytes; a hub.yaml of a thousand models
/// stays far below it.
const BUDGET: usize = 16 << 20;
/// What a node costs besides its text: about what it takes in memory.
const NODE_COST: usize = 64;
/// The parser takes quadratic time for open brackets; it refuses more than 128 levels, but only
/// after it has scanned them all.
const MAX_OPEN_BRACKETS: usize = 1000;

/// A YAML value, with YAML 1.2's idea of plain scalars; the readers know what a key wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
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

/// Why a text is no YAML, and where if that is known (byte offset).
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) offset: Option<usize>,
}

/// Parses one YAML document; an empty text is an empty mapping.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    if let Some(offset) = too_many_open_brackets(text) {
        return Err(SyntaxError {
            message: format!("more than {MAX_OPEN_BRACKETS} brackets are open at once"),
            offset: Some(offset),
        });
    }
    let budget = Budget(Cell::new(BUDGET));
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Ok(Node::Map(Map::default()));
    };
    let node = NodeSeed(&budget)
        .deserialize(first)
        .map_err(|error| in_words(&error, text))?;
    if documents.next().is_some() {
        return Err(SyntaxError {
            message: "expected a single document, but `---` starts another one".to_owned(),
            offset: second_document(text),
        });
    }
    Ok(match node {
        Node::Null => Node::Map(Map::default()),
        node => node,
    })
}

/// Where the text goes beyond [`MAX_OPEN_BRACKETS`]. It counts brackets in strings and comments too:
/// no hub.yaml has that many, balanced or not.
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

/// The parser's message without its positions, which the excerpt shows, and its jargon.
fn in_words(error: &serde_yaml::Error, text: &str) -> SyntaxError {
    let located = error.to_string();
    let position = |message: &str| {
        let (before, rest) = message.split_once(" at line ")?;
        let after = rest.find(", ").map_or("", |at| &rest[at..]);
        Some(format!("{before}{after}"))
    };
    let mut message = located;
    while let Some(shorter) = position(&message) {
        message = shorter;
    }
    if message.starts_with("recursion limit") {
        "nested too deeply, or an anchor contains itself".clone_into(&mut message);
    } else if message.starts_with("repetition limit") {
        "its aliases expand without end".clone_into(&mut message);
    } else if let Some((_, sequence)) = message.split_once("control characters are not allowed") {
        let _ = sequence;
        "control characters are not allowed".clone_into(&mut message);
    }
    let control =
        text.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}'));
    let offset = match message.as_str() {
        "control characters are not allowed" => control,
        _ => error.location().map(|location| location.index()),
    };
    SyntaxError { message, offset }
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

/// What is left to spend on the tree; aliases copy what they name, so that the text's size says
/// nothing about the tree's.
struct Budget(Cell<usize>);

impl Budget {
    fn spend<E: serde::de::Error>(&self, text: usize) -> Result<(), E> {
        let Some(left) = self.0.get().checked_sub(NODE_COST + text) else {
            return Err(E::custom("its aliases expand to more than 16 MiB"));
        };
        self.0.set(left);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct NodeSeed<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.0.spend(0)?;
        deserializer.deserialize_any(self)
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

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Int(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node, E> {
        self.0.spend(value.len())?;
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

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
        let (tag, _) = access.variant_seed(Tag)?;
        Err(A::Error::custom(format_args!(
            "the tag `!{tag}` has no meaning in hub.yaml"
        )))
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

struct Tag;

impl<'de> DeserializeSeed<'de> for Tag {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

impl Node {
    /// The text of a scalar; `None` for lists and mappings.
    pub(super) fn scalar(&self) -> Option<String> {
        match self {
            Self::Null => Some("null".to_owned()),
            Self::Bool(value) => Some(value.to_string()),
            Self::Int(value) => Some(value.to_string()),
            Self::Float(value) => Some(value.to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The value as an error message shows it, shortened.
    pub(super) fn shown(&self) -> String {
        const LONGEST: usize = 60;
        match self {
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
            Self::Null => "nothing".to_owned(),
            scalar => {
                let text = scalar.scalar().unwrap_or_default();
                let mut shown: String = text.escape_debug().take(LONGEST).collect();
                if text.chars().count() > LONGEST {
                    shown.push('…');
                }
                format!("`{shown}`")
            }
        }
    }
}
