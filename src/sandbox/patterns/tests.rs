//! Compares these functions with Lua's own on the same arguments.

use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, Lua, MultiValue, Value};
use proptest::prelude::*;

use super::super::errors::describe;
use super::super::limits::SandboxLimits;
use super::functions;

/// A Lua state with Lua's own `string`, and with ours beside it.
struct Both {
    lua: Lua,
    /// Calls a function of `string`; returns all its results, or the error.
    call: Function,
    ours: mlua::Table,
}

impl Both {
    fn new() -> Self {
        let lua = Lua::new();
        let limits = SandboxLimits::install(&lua).unwrap();
        limits.begin(Duration::from_secs(600));
        let ours = functions(&lua, &Arc::clone(&limits)).unwrap();
        let call = lua
            .load(
                "local functions, name, collect, arguments = ...
                 if collect then
                   local all = {}
                   for one, two, three in functions[name](table.unpack(arguments, 1, 3)) do
                     table.insert(all, tostring(one) .. '|' .. tostring(two) .. '|' .. tostring(three))
                     if #all > 60 then break end
                   end
                   return table.concat(all, ' ')
                 end
                 return functions[name](table.unpack(arguments, 1, 4))",
            )
            .set_name("=call")
            .into_function()
            .unwrap();
        Self { lua, call, ours }
    }

    fn run(&self, functions: &mlua::Table, name: &str, arguments: &[Value]) -> String {
        let arguments = self
            .lua
            .create_table_from(arguments.iter().cloned().zip(1..).map(|(v, i)| (i, v)))
            .unwrap();
        let collect = name == "gmatch";
        match self
            .call
            .call::<MultiValue>((functions, name, collect, arguments))
        {
            Ok(values) => values
                .iter()
                .map(|value| format!("{} {value:?}", value.type_name()))
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => {
                // Lua does not know the name of a function that is called by a computed key.
                let text = describe(&error, "").replace(&format!("to '{name}'"), "to '?'");
                let place = text
                    .strip_prefix("call:")
                    .and_then(|rest| rest.split_once(": "));
                format!("error: {}", place.map_or(&*text, |(_, text)| text))
            }
        }
    }

    /// Panics when the two results differ.
    fn compare(&self, name: &str, arguments: &[Value]) {
        let theirs: mlua::Table = self.lua.globals().get("string").unwrap();
        let expected = self.run(&theirs, name, arguments);
        let said = self.run(&self.ours, name, arguments);
        assert_eq!(said, expected, "{name} {arguments:?}");
    }

    fn text(&self, text: impl AsRef<[u8]>) -> Value {
        Value::String(self.lua.create_string(text).unwrap())
    }

    /// `text` and `pattern` in every function, with the replacements of `gsub`.
    fn compare_all(&self, text: &[u8], pattern: &[u8], start: i64, replacement: &[u8]) {
        let (text, pattern) = (self.text(text), self.text(pattern));
        let start = Value::Integer(start);
        let both = [text.clone(), pattern.clone()];
        let with = |more: &[Value]| [&both[..], more].concat();
        for name in ["find", "match", "gmatch"] {
            self.compare(name, &with(&[]));
            self.compare(name, &with(std::slice::from_ref(&start)));
        }
        self.compare("find", &with(&[start.clone(), Value::Boolean(true)]));
        self.compare("gsub", &with(&[self.text(replacement)]));
        self.compare("gsub", &with(&[self.text(replacement), start.clone()]));
        for replacement in [
            "function(a, b) if a ~= 'a' then return (b or a) .. '.' end end",
            "function(a) return a == '' and 7 end",
            "{ a = 'A', [1] = 1.5, b = false }",
            "setmetatable({}, { __index = function(_, key) return #tostring(key) end })",
            "function() return {} end",
        ] {
            let replacement = self
                .lua
                .load(format!("return {replacement}"))
                .eval()
                .unwrap();
            self.compare("gsub", &with(&[replacement]));
        }
    }
}

/// Short subjects of few letters, so that patterns match often.
fn subject() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        prop_oneof![
            6 => prop::sample::select(b"ab".to_vec()),
            2 => prop::sample::select(b"()1 %.-]_A".to_vec()),
            1 => prop::sample::select(vec![0, 11, 127, 128, 255]),
        ],
        0..14,
    )
}

/// Pieces of valid and invalid patterns. Few enough repetitions that the original comes to an end.
fn pattern() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", ".", "%a", "%d", "%s", "%w", "%A", "%%", "%.", "1"]),
        4 => prop::sample::select(vec!["a*", "b-", ".-", ".*", "a+", "b?", "%w+", "%s*", "[ab]*", "[^a]-"]),
        3 => prop::sample::select(vec!["(", ")", "()", "(a)", "(.-)", "(b*)", "%1", "%2", "%0"]),
        3 => prop::sample::select(vec!["[ab]", "[^b]", "[a-b1]", "[%a_]", "[]]", "[^]]", "[a-]", "[%]]", "[-a]", "[a-%a]"]),
        2 => prop::sample::select(vec!["%b()", "%bab", "%f[%w]", "%f[^a]", "%f[%z]", "%z", "%p", "%c", "%g", "%x", "%u", "%l"]),
        1 => prop::sample::select(vec!["^", "$", "*", "-", "+", "?", "[", "]", "%", "%b", "%f", "[a", "[^", "[%", "\0", "%q"]),
    ];
    proptest::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat().into_bytes())
}

fn replacement() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec!["x", "%0", "%1", "%2", "%%", "%", "%a", "-", ""]);
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat().into_bytes())
}

#[test]
fn patterns_mean_what_they_mean_to_lua() {
    let both = Both::new();
    let cases = (subject(), pattern(), -16_i64..16, replacement());
    let config = ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((text, pattern, start, replacement) in cases)| {
        both.compare_all(&text, &pattern, start, &replacement);
    });
}

#[test]
fn the_corners_of_the_manual_are_the_same() {
    let both = Both::new();
    let long = "a".repeat(300);
    let many_captures = "()".repeat(33);
    for (text, pattern) in [
        ("", ""),
        ("", "^$"),
        ("abc", ""),
        ("abc", "^"),
        ("abc", "$"),
        ("a$b", "$b"),
        ("a$", "$$"),
        ("^a", "^^a"),
        ("a^", "a^"),
        ("THE (quick) fox", "%((%a+)%)"),
        ("THE (quick) fox", "%f[%a]%a+"),
        ("hello world", "(o)(%s)"),
        ("key = value", "^(%w+)%s*=%s*(%w+)$"),
        ("x(a(b)c)d)", "%b()"),
        ("\0\0a", "%z+"),
        ("a\0b", "[%z]"),
        ("aaa", "^a"),
        ("aaa", "a-$"),
        ("[]]", "[]]"),
        ("a-z", "[a-]"),
        ("ab", "(a)(b)%2%1"),
        ("abab", "(ab)%1"),
        ("aa", "()%1"),
        ("a", "(a"),
        ("a", "a)"),
        ("a", "(()"),
        ("a", "%1"),
        ("a", "%9"),
        ("a", "[a-%%]"),
        ("a", "[a"),
        ("a", "[]"),
        ("a", "[^]"),
        ("a", "%"),
        ("a", "a%"),
        ("a", "%b"),
        ("a", "%bx"),
        ("a", "%f"),
        ("a", "%fa"),
        (&long, &many_captures),
        (&long, &"a?".repeat(201)),
        (&long, &"(a)".repeat(32)),
        (&long, ".-b"),
        ("xyz", "[z-x]"),
        ("äöü", "[\u{80}-\u{ff}]+"),
    ] {
        for start in [1, 0, 2, -1, -100, 100, i64::MIN, i64::MAX] {
            both.compare_all(text.as_bytes(), pattern.as_bytes(), start, b"<%0>");
        }
    }
}

#[test]
fn wrong_arguments_get_the_same_errors() {
    let both = Both::new();
    let (nil, yes) = (Value::Nil, Value::Boolean(true));
    let (text, number) = (both.text("a1.5"), Value::Number(1.5));
    let table = Value::Table(both.lua.create_table().unwrap());
    for arguments in [
        vec![nil.clone(), text.clone()],
        vec![text.clone(), nil.clone()],
        vec![text.clone(), table.clone(), text.clone()],
        vec![yes.clone(), text.clone(), text.clone()],
        vec![number.clone(), number.clone(), text.clone()],
        vec![Value::Integer(121), Value::Integer(2), Value::Integer(3)],
        vec![text.clone(), text.clone(), number.clone()],
        vec![text.clone(), text.clone(), both.text("2")],
        vec![text.clone(), text.clone(), table.clone()],
        vec![text.clone(), text.clone(), yes.clone()],
        vec![text.clone(), text.clone(), text.clone(), number],
        vec![text.clone(), text.clone(), table, both.text("x")],
    ] {
        for name in ["find", "match", "gmatch", "gsub"] {
            both.compare(name, &arguments);
        }
    }
}
