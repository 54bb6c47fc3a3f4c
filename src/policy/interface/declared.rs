//! The names that a policy answers for: `models` of the table that it returns.

use mlua::{Table, Value};

use crate::api::{ANY, looks_like};
use crate::sandbox::wording::{did_you_mean, kind};

/// Longest name, in bytes.
const MAX_NAME: usize = 200;

/// A name that clients may ask for, and that a policy sends to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredModel {
    /// As clients write it; one with `*` stands for all names that look so.
    pub name: String,
    /// A sentence for people.
    pub description: Option<String>,
    /// The model of hub.yaml that usually answers: its state and context length are those of the name.
    pub model: Option<String>,
}

impl DeclaredModel {
    /// The fields of an entry that is a table.
    pub(crate) const FIELDS: [&str; 2] = ["description", "model"];

    /// Reads `models`: a list of names, or a mapping from names to descriptions or to tables of
    /// [`Self::FIELDS`]. The order is that of the list; what is mapped follows by name.
    ///
    /// # Errors
    /// The place, and what would be right.
    pub(crate) fn read_all(value: &Value) -> mlua::Result<Vec<Self>> {
        let Value::Table(table) = value else {
            return Err(wrong(
                "models",
                "a list of names, or a mapping from names to descriptions",
                value,
            ));
        };
        let (mut listed, mut mapped) = (Vec::new(), Vec::new());
        for pair in table.pairs::<Value, Value>() {
            match pair? {
                (Value::Integer(number), value) => {
                    let place = format!("models[{number}]");
                    let Value::String(name) = &value else {
                        return Err(wrong(&place, "a name", &value));
                    };
                    listed.push((number, Self::named(&place, name.to_string_lossy())?));
                }
                (Value::String(name), value) => {
                    let name = name.to_string_lossy();
                    let place = format!("models.{name}");
                    mapped.push(Self::named(&place, name)?.described(&place, &value)?);
                }
                (key, _) => return Err(wrong("models", "keyed by names", &key)),
            }
        }
        listed.sort_by_key(|(number, _)| *number);
        mapped.sort_by(|one: &Self, other| one.name.cmp(&other.name));
        let listed = listed.into_iter().map(|(_, declared)| declared);
        let mut declared: Vec<Self> = listed.collect();
        for one in mapped {
            if !declared.iter().any(|other| other.name == one.name) {
                declared.push(one);
            }
        }
        Ok(declared)
    }

    /// True for a name that stands for more than itself.
    pub(crate) fn is_pattern(&self) -> bool {
        self.name.contains(ANY)
    }

    /// The one of `declared` that answers for `name`: it itself, or else the pattern with the most other characters.
    pub(crate) fn for_name<'a>(
        declared: impl Iterator<Item = &'a Self> + Clone,
        name: &str,
    ) -> Option<&'a Self> {
        if let Some(whole) = declared.clone().find(|one| one.name == name) {
            return Some(whole);
        }
        let mut best: Option<(usize, &Self)> = None;
        for one in declared.filter(|one| one.is_pattern() && looks_like(name, &one.name)) {
            let length = one.name.chars().filter(|letter| *letter != ANY).count();
            if best.is_none_or(|(most, _)| length > most) {
                best = Some((length, one));
            }
        }
        best.map(|(_, one)| one)
    }

    fn named(place: &str, name: String) -> mlua::Result<Self> {
        let problem = if name.trim().is_empty() {
            "is no name: it is empty"
        } else if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            "is no name: it has control characters, or more than 200 bytes"
        } else {
            return Ok(Self {
                name,
                description: None,
                model: None,
            });
        };
        Err(mlua::Error::runtime(format!("`{place}` {problem}")))
    }

    /// With what the table of the policy has under its name.
    fn described(mut self, place: &str, value: &Value) -> mlua::Result<Self> {
        let expected = "a description, or a table with `description` and `model`";
        match value {
            Value::String(description) => self.description = Some(description.to_string_lossy()),
            Value::Table(fields) => {
                check_fields(place, fields)?;
                self.description = text(place, fields, "description")?;
                self.model = text(place, fields, "model")?;
            }
            other => return Err(wrong(place, expected, other)),
        }
        Ok(self)
    }
}

fn check_fields(place: &str, fields: &Table) -> mlua::Result<()> {
    for pair in fields.pairs::<Value, Value>() {
        let key = pair?.0.to_string()?;
        if !DeclaredModel::FIELDS.contains(&key.as_str()) {
            let hint = did_you_mean(&key, DeclaredModel::FIELDS);
            return Err(mlua::Error::runtime(format!(
                "`{place}`: unknown field `{key}`{hint}"
            )));
        }
    }
    Ok(())
}

fn text(place: &str, fields: &Table, name: &str) -> mlua::Result<Option<String>> {
    match fields.raw_get::<Value>(name)? {
        Value::Nil => Ok(None),
        Value::String(text) => Ok(Some(text.to_string_lossy())),
        other => Err(wrong(&format!("{place}.{name}"), "a text", &other)),
    }
}

fn wrong(place: &str, expected: &str, value: &Value) -> mlua::Error {
    let is = kind(value);
    mlua::Error::runtime(format!("`{place}` must be {expected}; it is {is}"))
}

#[cfg(test)]
mod tests {
    use mlua::Lua;

    use super::*;
    use crate::sandbox::errors::describe;

    fn read(text: &str) -> mlua::Result<Vec<DeclaredModel>> {
        DeclaredModel::read_all(&Lua::new().load(text).eval::<Value>().unwrap())
    }

    #[test]
    fn lists_and_mappings_are_read_in_an_order_that_does_not_change() {
        let shown = |text: &str| {
            let declared = read(text).unwrap().into_iter().map(|declared| {
                let DeclaredModel {
                    name,
                    description,
                    model,
                } = declared;
                format!(
                    "{name}({},{})",
                    description.unwrap_or_default(),
                    model.unwrap_or_default()
                )
            });
            declared.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("{}"), "");
        assert_eq!(shown("{ 'z', 'a' }"), "z(,) a(,)");
        let mapping =
            "{ z = 'the last', b = { model = 'x' }, a = { description = 'one', model = 'y' } }";
        assert_eq!(shown(mapping), "a(one,y) b(,x) z(the last,)");
        assert_eq!(shown("{ 'z', a = 'one', z = 'again' }"), "z(,) a(one,)");
    }

    #[test]
    fn a_name_is_answered_for_by_itself_or_by_the_pattern_that_says_most_of_it() {
        let declared = read("{ '*', 'claude-*', 'claude-*haiku*', 'a*b*b', 'claude-x' }").unwrap();
        for (name, by) in [
            ("claude-x", "claude-x"),
            ("claude-opus-4-8", "claude-*"),
            ("claude-", "claude-*"),
            ("claude-3-5-haiku-latest", "claude-*haiku*"),
            ("claude-*", "claude-*"),
            ("abb", "a*b*b"),
            ("ab", "*"),
            ("aebcb", "a*b*b"),
            ("Claude-x", "*"),
            ("", "*"),
        ] {
            let found = DeclaredModel::for_name(declared.iter(), name).unwrap();
            assert_eq!(found.name, by, "{name}");
        }
        assert!(DeclaredModel::for_name(declared[1..].iter(), "gpt-4").is_none());
    }

    #[test]
    fn a_faulty_entry_says_where_and_what_would_be_right() {
        let told = [
            "'auto'",
            "{ 1 }",
            "{ auto = true }",
            "{ auto = { modle = 'a' } }",
            "{ auto = { model = {} } }",
            "{ [''] = 'empty' }",
            "{ ['a\\n'] = 'a' }",
            "{ [true] = 'a' }",
        ]
        .map(|text| format!("{text}: {}", describe(&read(text).unwrap_err(), "")));
        insta::assert_snapshot!(told.join("\n"), @r"
        'auto': `models` must be a list of names, or a mapping from names to descriptions; it is a string
        { 1 }: `models[1]` must be a name; it is a number
        { auto = true }: `models.auto` must be a description, or a table with `description` and `model`; it is a boolean
        { auto = { modle = 'a' } }: `models.auto`: unknown field `modle`, did you mean `model`?
        { auto = { model = {} } }: `models.auto.model` must be a text; it is a table
        { [''] = 'empty' }: `models.` is no name: it is empty
        { ['a\n'] = 'a' }: `models.a ` is no name: it has control characters, or more than 200 bytes
        { [true] = 'a' }: `models` must be keyed by names; it is a boolean
        ");
    }
}
