//! `string.find`, `match`, `gmatch` and `gsub`, in place of Lua's own.
//!
//! Lua's run in C, out of reach of the time limit, and a pattern can take them years. These have the same
//! results and check the clock as they go; the sandbox puts them into `string`. A plain search is linear.

use std::sync::Arc;

use memchr::memmem;
use mlua::{Function, Lua, LuaString, MultiValue, Table, Value};

pub(super) use self::matcher::{Budget, MatchError};
use self::matcher::{Captured, Matcher};
use super::limits::{MEMORY, SandboxLimits};

mod matcher;
#[cfg(test)]
mod tests;

/// The four functions, by name.
pub(crate) fn functions(lua: &Lua, limits: &Arc<SandboxLimits>) -> mlua::Result<Table> {
    type Bound = fn(&Lua, &Arc<SandboxLimits>, MultiValue) -> mlua::Result<MultiValue>;
    let bound = |function: Bound| {
        let limits = Arc::clone(limits);
        lua.create_function(move |lua, arguments| function(lua, &limits, arguments))
    };
    let gsub: Function = lua
        .load(include_str!("gsub.lua"))
        .set_name(format!("={}", super::errors::SANDBOX))
        .call((bound(cursor)?, bound(replace)?))?;
    let functions = lua.create_table()?;
    functions.set("find", bound(find)?)?;
    functions.set("match", bound(match_)?)?;
    functions.set("gmatch", bound(gmatch)?)?;
    functions.set("gsub", gsub)?;
    Ok(functions)
}

fn find(lua: &Lua, limits: &Arc<SandboxLimits>, arguments: MultiValue) -> mlua::Result<MultiValue> {
    let arguments = Arguments::new("find", &arguments, lua);
    let (text, pattern) = (arguments.text(0)?, arguments.text(1)?);
    let (subject, sought) = (text.as_bytes(), pattern.as_bytes());
    let Some(start) = start_in(&subject, arguments.integer(2)?.unwrap_or(1)) else {
        return Ok(nothing());
    };
    if arguments.is_true(3) || !sought.iter().any(|byte| SPECIAL.contains(byte)) {
        let mut budget = limits.steps();
        pay(lua, limits, budget.spend((subject.len() - start) / 64))?;
        return Ok(match memmem::find(&subject[start..], &sought) {
            Some(at) => {
                let first = start + at;
                places(first, first + sought.len()).into_iter().collect()
            }
            None => nothing(),
        });
    }
    first_match(lua, limits, &subject, &sought, start, places)
}

fn match_(
    lua: &Lua,
    limits: &Arc<SandboxLimits>,
    arguments: MultiValue,
) -> mlua::Result<MultiValue> {
    let arguments = Arguments::new("match", &arguments, lua);
    let (text, pattern) = (arguments.text(0)?, arguments.text(1)?);
    let (subject, pattern) = (text.as_bytes(), pattern.as_bytes());
    let Some(start) = start_in(&subject, arguments.integer(2)?.unwrap_or(1)) else {
        return Ok(nothing());
    };
    first_match(lua, limits, &subject, &pattern, start, |_, _| [])
}

fn gmatch(
    lua: &Lua,
    limits: &Arc<SandboxLimits>,
    arguments: MultiValue,
) -> mlua::Result<MultiValue> {
    let arguments = Arguments::new("gmatch", &arguments, lua);
    let (text, pattern) = (arguments.text(0)?, arguments.text(1)?);
    let start = arguments.integer(2)?.unwrap_or(1);
    let mut matches = Matches::new(i64::MAX, false);
    match start_in(&text.as_bytes(), start) {
        Some(start) => matches.next = start,
        None => matches.left = 0,
    }
    let limits = Arc::clone(limits);
    let step = lua.create_function_mut(move |lua, _: MultiValue| {
        let (subject, pattern) = (text.as_bytes(), pattern.as_bytes());
        let mut budget = limits.steps();
        // An anchor means nothing to `gmatch`.
        let mut matcher = Matcher::new(&subject, &pattern, &mut budget);
        let Some((start, end)) = pay(lua, &limits, matches.advance(&mut matcher, subject.len()))?
        else {
            return Ok(nothing());
        };
        captures(
            lua,
            &limits,
            &subject,
            &matcher,
            (start, end),
            [],
            Wanted::All,
        )
    })?;
    Ok(MultiValue::from_iter([Value::Function(step)]))
}

/// For `gsub`: a function that returns position and captures of one match after the other, or the first
/// capture alone; and the subject.
fn cursor(
    lua: &Lua,
    limits: &Arc<SandboxLimits>,
    arguments: MultiValue,
) -> mlua::Result<MultiValue> {
    let arguments = Arguments::new("gsub", &arguments, lua);
    let (text, pattern) = (arguments.text(0)?, arguments.text(1)?);
    let most = arguments.integer_called(2, 4)?.unwrap_or(i64::MAX);
    let wanted = match arguments.is_true(3) {
        true => Wanted::First,
        false => Wanted::All,
    };
    let (is_anchored, limits) = (unanchored(&pattern.as_bytes()).1, Arc::clone(limits));
    let mut matches = Matches::new(most, is_anchored);
    let subject = text.clone();
    let step = lua.create_function_mut(move |lua, ()| {
        let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
        let mut budget = limits.steps();
        let mut matcher = Matcher::new(&subject, unanchored(&pattern).0, &mut budget);
        let Some((start, end)) = pay(lua, &limits, matches.advance(&mut matcher, subject.len()))?
        else {
            return Ok(nothing());
        };
        let place = places(start, end);
        captures(
            lua,
            &limits,
            &subject,
            &matcher,
            (start, end),
            place,
            wanted,
        )
    })?;
    Ok(MultiValue::from_iter([
        Value::Function(step),
        Value::String(text),
    ]))
}

/// `gsub` with a text in place of each match.
fn replace(
    lua: &Lua,
    limits: &Arc<SandboxLimits>,
    arguments: MultiValue,
) -> mlua::Result<MultiValue> {
    let arguments = Arguments::new("gsub", &arguments, lua);
    let (text, pattern) = (arguments.text(0)?, arguments.text(1)?);
    let most = arguments.integer(3)?.unwrap_or(i64::MAX);
    let replacement = match arguments.value(2) {
        Some(Value::String(_) | Value::Integer(_) | Value::Number(_)) => arguments.text(2)?,
        other => return Err(arguments.expected(2, "string/function/table", other)),
    };
    let (subject, pattern, replacement) =
        (text.as_bytes(), pattern.as_bytes(), replacement.as_bytes());
    let (pattern, is_anchored) = unanchored(&pattern);
    let mut budget = limits.steps();
    let mut matcher = Matcher::new(&subject, pattern, &mut budget);
    let mut matches = Matches::new(most, is_anchored);
    let (mut replaced, mut position, mut count) = (Vec::new(), 0, 0);
    while let Some((start, end)) = pay(lua, limits, matches.advance(&mut matcher, subject.len()))? {
        count += 1;
        replaced.extend_from_slice(&subject[position..start]);
        let put = put(
            &mut replaced,
            &replacement,
            &subject,
            &matcher,
            (start, end),
        );
        pay(lua, limits, put)?;
        position = end;
        // This buffer is not Lua's, and not under its limit.
        if replaced.len() > MEMORY {
            return Err(mlua::Error::MemoryError("not enough memory".to_owned()));
        }
    }
    let text = if count == 0 {
        text.clone()
    } else {
        replaced.extend_from_slice(&subject[position..]);
        lua.create_string(replaced)?
    };
    Ok(MultiValue::from_iter([
        Value::String(text),
        Value::Integer(count),
    ]))
}

/// Appends `replacement` to `replaced`, with the captures that it names.
fn put<B: Budget>(
    replaced: &mut Vec<u8>,
    replacement: &[u8],
    subject: &[u8],
    matcher: &Matcher<'_, B>,
    (start, end): (usize, usize),
) -> Result<(), MatchError> {
    let mut rest = replacement;
    while let Some(at) = memchr::memchr(b'%', rest) {
        replaced.extend_from_slice(&rest[..at]);
        match rest.get(at + 1) {
            Some(b'%') => replaced.push(b'%'),
            Some(b'0') => replaced.extend_from_slice(&subject[start..end]),
            Some(digit @ b'1'..=b'9') => {
                match matcher.capture(usize::from(digit - b'1'), start, end)? {
                    Captured::Range(start, end) => {
                        replaced.extend_from_slice(&subject[start..end]);
                    }
                    Captured::Position(at) => {
                        replaced.extend_from_slice((at + 1).to_string().as_bytes());
                    }
                }
            }
            _ => return Err("invalid use of '%' in replacement string".into()),
        }
        rest = &rest[at + 2..];
    }
    replaced.extend_from_slice(rest);
    Ok(())
}

/// The iterator over matches behind `gmatch` and `gsub`.
struct Matches {
    next: usize,
    /// The end of the last match: an empty one there would be the same again.
    last: Option<usize>,
    left: i64,
    /// True if only a match at the very first position counts.
    is_anchored: bool,
}

impl Matches {
    fn new(most: i64, is_anchored: bool) -> Self {
        Self {
            is_anchored,
            next: 0,
            last: None,
            left: most,
        }
    }

    /// The next match.
    fn advance<B: Budget>(
        &mut self,
        matcher: &mut Matcher<'_, B>,
        length: usize,
    ) -> Result<Option<(usize, usize)>, MatchError> {
        while self.left > 0 && self.next <= length {
            let start = self.next;
            let found = matcher.at(start)?;
            if self.is_anchored {
                self.left = 0;
            }
            match found {
                Some(end) if self.last != Some(end) => {
                    self.left = (self.left - 1).max(0);
                    (self.next, self.last) = (end, Some(end));
                    return Ok(Some((start, end)));
                }
                _ => self.next += 1,
            }
        }
        Ok(None)
    }
}

/// The results of `find` and `match`: `front` of the position, then the captures.
fn first_match<const N: usize>(
    lua: &Lua,
    limits: &Arc<SandboxLimits>,
    subject: &[u8],
    pattern: &[u8],
    start: usize,
    front: fn(usize, usize) -> [Value; N],
) -> mlua::Result<MultiValue> {
    let (pattern, is_anchored) = unanchored(pattern);
    let mut budget = limits.steps();
    let mut matcher = Matcher::new(subject, pattern, &mut budget);
    for start in start..=subject.len() {
        if let Some(end) = pay(lua, limits, matcher.at(start))? {
            let wanted = match N {
                0 => Wanted::All,
                _ => Wanted::Marked,
            };
            let place = front(start, end);
            return captures(lua, limits, subject, &matcher, (start, end), place, wanted);
        }
        if is_anchored {
            break;
        }
    }
    Ok(nothing())
}

/// The captures that a function returns.
#[derive(Clone, Copy)]
enum Wanted {
    /// All that the pattern marks.
    Marked,
    /// All that it marks, or the whole match if it marks none.
    All,
    /// The first of [`Self::All`].
    First,
}

/// `front`, then the captures.
fn captures<B: Budget, const N: usize>(
    lua: &Lua,
    limits: &Arc<SandboxLimits>,
    subject: &[u8],
    matcher: &Matcher<'_, B>,
    (start, end): (usize, usize),
    front: [Value; N],
    wanted: Wanted,
) -> mlua::Result<MultiValue> {
    let count = match wanted {
        Wanted::Marked => matcher.captures(),
        Wanted::All => matcher.captures().max(1),
        Wanted::First => 1,
    };
    let mut values = MultiValue::with_capacity(N + count);
    values.extend(front);
    for index in 0..count {
        let captured = pay(lua, limits, matcher.capture(index, start, end))?;
        values.push_back(match captured {
            Captured::Range(start, end) => Value::String(lua.create_string(&subject[start..end])?),
            Captured::Position(at) => integer(at + 1),
        });
    }
    Ok(values)
}

/// A position as Lua counts it, from 1.
fn places(start: usize, end: usize) -> [Value; 2] {
    [integer(start + 1), integer(end)]
}

fn integer(place: usize) -> Value {
    Value::Integer(i64::try_from(place).unwrap_or(i64::MAX))
}

fn nothing() -> MultiValue {
    MultiValue::from_iter([Value::Nil])
}

/// The special characters: a pattern without any is a plain text.
const SPECIAL: &[u8] = b"^$*+?.([%-";

fn unanchored(pattern: &[u8]) -> (&[u8], bool) {
    match pattern.strip_prefix(b"^") {
        Some(rest) => (rest, true),
        None => (pattern, false),
    }
}

/// The offset of a search that begins at `place`, counted from 1, or from the end if negative. `None` is
/// behind the end.
fn start_in(subject: &[u8], place: i64) -> Option<usize> {
    let length = i64::try_from(subject.len()).ok()?;
    let start = match place {
        1.. => place - 1,
        0 => 0,
        _ => (length + place.max(-length)).max(0),
    };
    usize::try_from(start).ok().filter(|_| start <= length)
}

fn pay<T>(lua: &Lua, limits: &SandboxLimits, done: Result<T, MatchError>) -> mlua::Result<T> {
    done.map_err(|trouble| match trouble {
        MatchError::Malformed(text) => mlua::Error::runtime(text),
        MatchError::Overrun => limits.overrun(lua),
    })
}

/// The arguments of a call, checked as Lua's library checks them.
struct Arguments<'a> {
    function: &'static str,
    values: &'a MultiValue,
    lua: &'a Lua,
}

impl<'a> Arguments<'a> {
    fn new(function: &'static str, values: &'a MultiValue, lua: &'a Lua) -> Self {
        Self {
            function,
            values,
            lua,
        }
    }

    fn value(&self, index: usize) -> Option<&'a Value> {
        self.values.get(index)
    }

    fn is_true(&self, index: usize) -> bool {
        !matches!(
            self.value(index),
            None | Some(Value::Nil | Value::Boolean(false))
        )
    }

    fn text(&self, index: usize) -> mlua::Result<LuaString> {
        match self.value(index) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Integer(_) | Value::Number(_))) => {
                let text = self.lua.coerce_string(value.clone())?;
                text.ok_or_else(|| self.expected(index, "string", Some(value)))
            }
            other => Err(self.expected(index, "string", other)),
        }
    }

    fn integer(&self, index: usize) -> mlua::Result<Option<i64>> {
        self.integer_called(index, index + 1)
    }

    /// An integer that the error calls argument number `number`.
    fn integer_called(&self, index: usize, number: usize) -> mlua::Result<Option<i64>> {
        let value = match self.value(index) {
            None | Some(Value::Nil) => return Ok(None),
            Some(Value::Integer(integer)) => return Ok(Some(*integer)),
            Some(value) => value,
        };
        if let Some(integer) = self.lua.coerce_integer(value.clone())? {
            return Ok(Some(integer));
        }
        Err(match self.lua.coerce_number(value.clone())? {
            Some(_) => self.bad(number, "number has no integer representation"),
            None => self.bad(
                number,
                &format!("number expected, got {}", value.type_name()),
            ),
        })
    }

    fn expected(&self, index: usize, what: &str, value: Option<&Value>) -> mlua::Error {
        let got = value.map_or("no value", Value::type_name);
        self.bad(index + 1, &format!("{what} expected, got {got}"))
    }

    fn bad(&self, number: usize, text: &str) -> mlua::Error {
        let function = self.function;
        mlua::Error::runtime(format!("bad argument #{number} to '{function}' ({text})"))
    }
}
