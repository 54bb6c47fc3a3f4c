//! Typed reading of one mapping of hub.yaml.
//!
//! A [`Table`] belongs to the hub, a model or a group. Every getter reads a key as its type the way
//! PyYAML and Create-hub did (`name: 12`, `port: "8000"`, `default: yes`), gives `None` for an unset
//! or null key, and notes what is wrong instead of stopping, so that one run reports everything. A key
//! that no getter asked for is unknown.

use std::ops::RangeInclusive;

use super::Settings;
use super::problem::{Findings, KeyPath, Mark, did_you_mean};
use super::scalar::{as_bool, as_int, as_json, as_number, node_as_json};
use super::schema::{Shape, Shapes};
use super::yaml::{Map, Node, Typed};

/// One mapping of hub.yaml, with its owner.
pub(super) struct Table<'a, 'f> {
    map: &'a Map,
    key_path: KeyPath,
    /// The prefix of every message: ``model `a`: ``, or empty for the hub itself.
    subject: String,
    asked: Shapes,
    findings: &'f mut Findings,
}

impl<'a, 'f> Table<'a, 'f> {
    pub(super) fn new(map: &'a Map, key_path: KeyPath, findings: &'f mut Findings) -> Self {
        Self {
            map,
            key_path,
            subject: String::new(),
            asked: Shapes::new(),
            findings,
        }
    }

    /// The keys that `read` asks for, set or not, and what they may be.
    pub(super) fn shapes(read: impl FnOnce(&mut Table<'_, '_>)) -> Shapes {
        let (map, mut findings) = (Map::default(), Findings::default());
        let mut table = Table::new(&map, KeyPath::default(), &mut findings);
        read(&mut table);
        table.asked
    }

    /// Sets the owner of these keys: ``model `a` `` or `model entry #2`.
    pub(super) fn set_subject(&mut self, subject: &str) {
        self.subject = format!("{subject}: ");
    }

    /// Refuses the value of `key`; `message` follows the subject.
    pub(super) fn refuse(&mut self, key: &str, message: &str, hint: Option<String>) {
        let message = format!("{}{message}", self.subject);
        self.findings.value(self.key_path.key(key), message, hint);
    }

    /// Refuses the mapping as a whole; `message` follows the subject.
    pub(super) fn refuse_whole(&mut self, message: &str, hint: &str) {
        let message = format!("{}{message}", self.subject);
        let hint = Some(hint.to_owned());
        self.findings.value(self.key_path.clone(), message, hint);
    }

    /// Refuses an item of the list at `key`.
    pub(super) fn refuse_item(&mut self, key: &str, index: usize, message: &str, hint: String) {
        let message = format!("{}{message}", self.subject);
        let key_path = self.key_path.key(key).item(index);
        self.findings.value(key_path, message, Some(hint));
    }

    /// Refuses a key of the mapping at `key`.
    pub(super) fn refuse_key_within(&mut self, key: &str, within: &str, message: &str) {
        let message = format!("{}{message}", self.subject);
        let key_path = self.key_path.key(key).key(within);
        self.findings.key(key_path, message, None);
    }

    /// Refuses a value of the mapping at `key`.
    pub(super) fn refuse_within(&mut self, key: &str, within: &str, message: &str) {
        let message = format!("{}{message}", self.subject);
        let key_path = self.key_path.key(key).key(within);
        self.findings.value(key_path, message, None);
    }

    /// Warns about the mapping as a whole.
    pub(super) fn warn(&mut self, message: &str) {
        let message = format!("{}{message}", self.subject);
        self.findings
            .warn(self.key_path.clone(), Mark::Value, message);
    }

    /// Warns about a key that is there.
    pub(super) fn warn_of(&mut self, key: &str, message: &str) {
        let message = format!("{}{message}", self.subject);
        self.findings
            .warn(self.key_path.key(key), Mark::Key, message);
    }

    /// Notes what a key may be. What was noted before, except for [`Shape::Any`], stays.
    pub(super) fn expect(&mut self, key: &str, shape: Shape) {
        match self.asked.get_mut(key) {
            Some(noted) if *noted == Shape::Any => *noted = shape,
            Some(_) => {}
            None => {
                self.asked.insert(key.to_owned(), shape);
            }
        }
    }

    /// The node of a key that is set; `key: null` is unset.
    pub(super) fn node(&mut self, key: &str) -> Option<&'a Node> {
        self.expect(key, Shape::Any);
        self.map
            .entries
            .get(key)
            .filter(|node| !matches!(node, Node::Null))
    }

    /// True if the key is there, set or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.map.entries.contains_key(key)
    }

    /// Any scalar, as text; blank is unset. Never contains NUL, which no path, argument or variable may.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.expect(key, Shape::Text);
        let node = self.node(key)?;
        self.scalar(key, node)
            .filter(|text| !text.trim().is_empty())
    }

    /// [`Table::text`] of a key that must be there; `whose` begins the message when it is not.
    pub(super) fn required(&mut self, key: &str, whose: &str) -> Option<String> {
        self.expect(key, Shape::Required);
        let Some(node) = self.node(key) else {
            let message = format!("{whose} is missing required `{key}`");
            self.findings.value(self.key_path.clone(), message, None);
            return None;
        };
        let text = self.scalar(key, node)?;
        if text.trim().is_empty() {
            let message = format!("{whose}: `{key}` cannot be empty");
            self.findings.value(self.key_path.key(key), message, None);
            return None;
        }
        Some(text)
    }

    fn scalar(&mut self, key: &str, node: &Node) -> Option<String> {
        let Some(text) = node.scalar() else {
            let message = format!("`{key}` must be a string, not {}", node.shown());
            self.refuse(key, &message, None);
            return None;
        };
        if text.contains('\0') {
            self.refuse(
                key,
                &format!("`{key}` must not contain a NUL character"),
                None,
            );
            return None;
        }
        Some(text)
    }

    /// A boolean in any of PyYAML's spellings, quoted or not.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.expect(key, Shape::Flag);
        let node = self.node(key)?;
        let value = match node {
            Node::Typed(Typed::Bool(value), _) => Some(*value),
            Node::Text(text) => as_bool(text),
            _ => None,
        };
        if value.is_none() {
            let message = format!("`{key}` must be true or false, not {}", node.shown());
            self.refuse(key, &message, None);
        }
        value
    }

    /// An integer within `range`.
    pub(super) fn int<T: TryFrom<i128> + Copy + Into<i128>>(
        &mut self,
        key: &str,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let (low, high) = ((*range.start()).into(), (*range.end()).into());
        self.expect(key, Shape::Int(low, high));
        let node = self.node(key)?;
        let Some(value) = as_int(node) else {
            let message = format!("`{key}` must be an integer, not {}", node.shown());
            self.refuse(key, &message, None);
            return None;
        };
        if (low..=high).contains(&value) {
            return T::try_from(value).ok();
        }
        let open = high > i128::from(u16::MAX);
        let rule = match low {
            1 if open && value < low => "a positive integer".to_owned(),
            _ if open && value < low => format!("{low} or more"),
            _ if open => format!("at most {high}"),
            _ => format!("between {low} and {high}"),
        };
        self.refuse(
            key,
            &format!("`{key}` must be {rule}, not {}", node.shown()),
            None,
        );
        None
    }

    /// A finite number, as the text the worker is given.
    pub(super) fn number(&mut self, key: &str) -> Option<String> {
        self.expect(key, Shape::Number);
        let node = self.node(key)?;
        let number = as_number(node);
        if number.is_none() {
            let message = format!("`{key}` must be a number, not {}", node.shown());
            self.refuse(key, &message, None);
        }
        number
    }

    /// One of a few words, in any case.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &str,
        all: &[T],
        as_str: fn(T) -> &'static str,
    ) -> Option<T> {
        let words = all.iter().map(|word| as_str(*word)).collect();
        self.expect(key, Shape::Word(words));
        let text = self.text(key)?;
        let found = all
            .iter()
            .find(|word| as_str(**word).eq_ignore_ascii_case(text.trim()));
        if found.is_none() {
            let words: Vec<_> = all.iter().map(|word| as_str(*word)).collect();
            let shown = Node::Text(text.clone()).shown();
            let message = format!("`{key}` must be one of {}, not {shown}", words.join(", "));
            self.refuse(key, &message, did_you_mean(&text, words));
        }
        found.copied()
    }

    /// A list of scalars, as text.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let items = self.list_items(key)?;
        Some(self.items(key, items))
    }

    /// The nodes of a list of scalars.
    fn list_items(&mut self, key: &str) -> Option<&'a [Node]> {
        self.expect(key, Shape::List);
        let node = self.node(key)?;
        let Node::List(items) = node else {
            let message = format!("`{key}` must be a list, not {}", node.shown());
            let hint = node.scalar().map(|text| {
                let words: Vec<_> = text.split_whitespace().collect();
                format!("write `{key}: [{}]`", words.join(", "))
            });
            self.refuse(key, &message, hint);
            return None;
        };
        Some(items)
    }

    /// The nodes of a list.
    pub(super) fn entries(&mut self, key: &str) -> Option<&'a [Node]> {
        self.expect(key, Shape::Entries);
        match self.node(key)? {
            Node::List(items) => Some(items),
            other => {
                let message = format!("`{key}` must be a list, not {}", other.shown());
                let hint = "begin each entry with `- name: …`".to_owned();
                self.refuse(key, &message, Some(hint));
                None
            }
        }
    }

    /// A list of scalars converted by `read`. An item that it rejects is reported at its own position, with
    /// the message and hint that `read` gives.
    pub(super) fn list_of<T>(
        &mut self,
        key: &str,
        read: impl Fn(&str) -> Result<T, (&'static str, String)>,
    ) -> Vec<T> {
        let mut list = Vec::new();
        let Some(items) = self.list_items(key) else {
            return list;
        };
        for (index, text) in self.numbered_items(key, items) {
            match read(&text) {
                Ok(item) => list.push(item),
                Err((why, hint)) => {
                    let (subject, shown) = (&self.subject, Node::Text(text).shown());
                    let message = format!("{subject}`{key}` item #{}, {shown}, {why}", index + 1);
                    let key_path = self.key_path.key(key).item(index);
                    self.findings.value(key_path, message, Some(hint));
                }
            }
        }
        list
    }

    /// The scalars of a list; any other item is refused at its position.
    pub(super) fn items(&mut self, key: &str, items: &[Node]) -> Vec<String> {
        let items = self.numbered_items(key, items).into_iter();
        items.map(|(_, text)| text).collect()
    }

    /// [`Table::items`] with their positions, from 0.
    fn numbered_items(&mut self, key: &str, items: &[Node]) -> Vec<(usize, String)> {
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let text = match item {
                Node::Null => None,
                item => item.scalar().filter(|text| !text.contains('\0')),
            };
            if let Some(text) = text {
                texts.push((index, text));
                continue;
            }
            let message = format!(
                "{}`{key}` item #{} must be a string, not {}",
                self.subject,
                index + 1,
                item.shown()
            );
            let key_path = self.key_path.key(key).item(index);
            self.findings.value(key_path, message, None);
        }
        texts
    }

    /// A nested mapping.
    pub(super) fn map(&mut self, key: &str) -> Option<&'a Map> {
        self.expect(key, Shape::Variables);
        let node = self.node(key)?;
        let Node::Map(map) = node else {
            let message = format!("`{key}` must be a mapping, not {}", node.shown());
            self.refuse(key, &message, None);
            return None;
        };
        self.report_repeated(self.key_path.key(key), map);
        Some(map)
    }

    /// The mapping that is an item of the list at `key`.
    pub(super) fn item<'m>(&mut self, key: &str, index: usize, map: &'m Map) -> Table<'m, '_> {
        let key_path = self.key_path.key(key).item(index);
        let mut table = Table::new(map, key_path, self.findings);
        table.subject = format!("{}`{key}` item #{}: ", self.subject, index + 1);
        table
    }

    /// Any value that JSON has, written as YAML, or a text that is a JSON object or list.
    pub(super) fn json(&mut self, key: &str) -> Option<serde_json::Value> {
        let node = self.node(key)?;
        if let Node::Map(map) = node {
            self.report_repeated(self.key_path.key(key), map);
        }
        let of_text = match node {
            Node::Text(text) => serde_json::from_str(text).ok(),
            _ => None,
        };
        let is_made = |value: &serde_json::Value| value.is_object() || value.is_array();
        Some(
            of_text
                .filter(is_made)
                .unwrap_or_else(|| node_as_json(node)),
        )
    }

    /// A nested mapping for Lua, of any values that both YAML 1.2 and JSON have.
    pub(super) fn settings(&mut self, key: &str) -> Settings {
        self.expect(key, Shape::Settings);
        let Some(map) = self.map(key) else {
            return Settings::new();
        };
        as_json(map)
    }

    fn report_repeated(&mut self, key_path: KeyPath, map: &Map) {
        for key in &map.repeated {
            let message = format!("{}duplicate key `{key}`", self.subject);
            self.findings.repeated(key_path.key(key), message);
        }
    }

    /// Reports repeated keys and returns the unknown ones, each with a hint.
    pub(super) fn finish(&mut self) -> Vec<(String, Option<String>)> {
        self.report_repeated(self.key_path.clone(), self.map);
        self.map
            .entries
            .keys()
            .filter(|key| !self.asked.contains_key(key.as_str()))
            .map(|key| {
                (
                    key.clone(),
                    did_you_mean(key, self.asked.keys().map(String::as_str)),
                )
            })
            .collect()
    }

    /// [`Table::finish`] where an unknown key is an error. `explain` may know more of one: what follows its name,
    /// and a hint.
    pub(super) fn finish_explained(mut self, explain: impl Fn(&str) -> Option<(String, String)>) {
        for (key, hint) in self.finish() {
            if let Some((more, hint)) = explain(&key) {
                let message = format!("{}`{key}` {more}", self.subject);
                self.findings
                    .key(self.key_path.key(&key), message, Some(hint));
                continue;
            }
            let shown = Node::Text(key.clone()).shown();
            let message = format!("{}unknown key {shown}", self.subject);
            self.findings.key(self.key_path.key(&key), message, hint);
        }
    }

    /// [`Table::finish`] where an unknown key is an error.
    pub(super) fn finish_strictly(self) {
        self.finish_explained(|_| None);
    }

    /// [`Table::finish`] where an unknown key is a warning.
    pub(super) fn finish_kindly(mut self) {
        for (key, hint) in self.finish() {
            let shown = Node::Text(key.clone()).shown();
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            let message = format!("unknown key {shown} in hub.yaml is ignored{hint}");
            self.warn_of(&key, &message);
        }
    }
}
