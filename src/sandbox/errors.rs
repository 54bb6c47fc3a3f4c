//! The text of a Lua error: one line that begins with `file:line:`.

use mlua::Lua;

/// The sandbox's own chunk name in tracebacks: no file's, so that it differs from every policy's.
pub(crate) const SANDBOX: &str = "[sandbox]";

/// One line about a Lua error. If Lua gave no position, it is the innermost line of a policy in the
/// traceback, or else `fallback` (`file:line`, or empty for none).
pub(crate) fn describe(error: &mlua::Error, fallback: &str) -> String {
    let (place, text) = located(error);
    joined(place.as_deref().unwrap_or(fallback), &text)
}

/// `text` with the position of the error, as [`describe`] finds it.
pub(crate) fn at_place(error: &mlua::Error, fallback: &str, text: &str) -> String {
    joined(located(error).0.as_deref().unwrap_or(fallback), text)
}

fn joined(place: &str, text: &str) -> String {
    match place {
        "" => text.to_owned(),
        place => format!("{place}: {text}"),
    }
}

/// The position and the message of an error.
fn located(error: &mlua::Error) -> (Option<String>, String) {
    let (error, outer_traceback) = root(error);
    let text = match error {
        mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => {
            message.clone()
        }
        mlua::Error::MemoryError(_) => format!(
            "not enough memory: all policies together may use {} MiB",
            super::limits::MEMORY >> 20
        ),
        other => other.to_string(),
    };
    let (text, traceback) = match text.split_once("\nstack traceback:") {
        Some((text, traceback)) => (text, traceback),
        None => (&*text, outer_traceback.unwrap_or_default()),
    };
    let text = without_sandbox(text.trim_end()).replace('\n', " ");
    if let Some(place) = place(&text) {
        let said = text[place.len()..].trim_start_matches(':').trim_start();
        return (Some(place.to_owned()), said.to_owned());
    }
    let place = traceback.lines().find_map(|line| place(line.trim_start()));
    (place.map(str::to_owned), text)
}

/// The innermost line of a policy that runs now, as `file:line`.
pub(crate) fn running_line(lua: &Lua) -> Option<String> {
    (0..)
        .map_while(|level| {
            lua.inspect_stack(level, |frame| {
                let source = frame.source();
                let file = source.short_src.as_deref().unwrap_or_default();
                let line = frame.current_line().filter(|_| file.ends_with(".lua"))?;
                Some(format!("{file}:{line}"))
            })
        })
        .find_map(|line| line)
}

/// A position in the sandbox itself means nothing to the author of a policy.
pub(crate) fn without_sandbox(text: &str) -> &str {
    let inside = text
        .strip_prefix(SANDBOX)
        .and_then(|rest| rest.strip_prefix(':'));
    match inside.and_then(|rest| rest.split_once(": ")) {
        Some((_, text)) => text,
        None => text,
    }
}

/// The error below the layers that mlua puts around it, and the innermost traceback.
fn root(mut error: &mlua::Error) -> (&mlua::Error, Option<&str>) {
    let mut innermost = None;
    while let mlua::Error::CallbackError { traceback, cause } = error {
        innermost = Some(traceback.as_str());
        error = cause;
    }
    (error, innermost)
}

/// The `file.lua:12` that `line` begins with.
pub(crate) fn place(line: &str) -> Option<&str> {
    let file = line.find(".lua:")? + ".lua:".len();
    let digits = line[file..].bytes().take_while(u8::is_ascii_digit).count();
    let end = file + digits;
    let is_place = digits > 0 && line[end..].starts_with(':') && !line[..file].contains(": ");
    is_place.then(|| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_lua_file_and_a_line_at_the_beginning() {
        assert_eq!(place("a.lua:12: in function"), Some("a.lua:12"));
        assert_eq!(place("lib/my names.lua:1: no"), Some("lib/my names.lua:1"));
        assert_eq!(place("[C]: in function 'error' of a.lua:3:"), None);
        assert_eq!(place("a.lua: no line"), None);
    }
}
