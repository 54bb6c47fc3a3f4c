//! Finds the Python interpreter of a worker program from the program's first lines.
//!
//! Installers write the interpreter's path into the first line. A path that is too long for it, or that has a
//! space, stands in the second line of a program that `/bin/sh` and Python both understand; pip and uv write it so.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::files;
use crate::worker::command;

/// Bytes that are read of a program: its first two lines, with the longest path there is.
const HEAD: u64 = 8 * 1024;
const SHELLS: [&str; 3] = ["sh", "bash", "dash"];

/// A Python interpreter with the options that a program gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interpreter {
    pub(super) path: PathBuf,
    pub(super) options: Vec<String>,
}

impl Interpreter {
    /// The one that runs `program` in an environment with the additional variables `env`.
    ///
    /// # Errors
    /// The reason why there is none: a sentence about the program without its name.
    pub(super) fn of(program: &Path, env: &BTreeMap<String, String>) -> Result<Self, String> {
        if is_python(program) {
            return Err(
                "it is Python itself: name the program's own script in its place".to_owned(),
            );
        }
        let mut head = Vec::new();
        let read =
            files::open(program).and_then(|file| file.take(HEAD).read_to_end(&mut head).map(drop));
        read.map_err(|error| format!("it cannot be read: {error}"))?;
        let Some(text) = head.strip_prefix(b"#!") else {
            return Err("it is no Python program: it has no `#!` line".to_owned());
        };
        let text = String::from_utf8_lossy(text);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default().trim();
        let found = match words_of_first_line(first, env)? {
            words if is_shell(&words) => lines.next().and_then(|line| in_shell(line, program)),
            words => Some(words),
        };
        let not_python = || format!("it is no Python program: it begins with `#!{first}`");
        let mut words = found.ok_or_else(not_python)?.into_iter();
        let path = PathBuf::from(words.next().unwrap_or_default());
        match is_python(&path) && path.is_absolute() {
            true => Ok(Self {
                path,
                options: words.collect(),
            }),
            false => Err(not_python()),
        }
    }
}

/// Interpreter and options; `env` in front of them is looked up.
fn words_of_first_line(line: &str, env: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let is_env = words
        .first()
        .is_some_and(|word| name_of(Path::new(word)) == "env");
    if is_env {
        let options = 1 + usize::from(words.get(1).is_some_and(|word| word == "-S"));
        words.drain(..options);
        let found = command::find(&words, env)
            .map_err(|_| format!("its interpreter is missing: it begins with `#!{line}`"))?;
        words[0] = found.display().to_string();
    }
    Ok(words)
}

fn is_shell(words: &[String]) -> bool {
    let name = words.first().map(|word| name_of(Path::new(word)));
    name.is_some_and(|name| SHELLS.contains(&name))
}

/// Interpreter and options in the line that a shell executes: `'''exec' PATH "$0" "$@"`, where PATH may be relative
/// to the program: `"$(dirname -- "$(realpath -- "$0")")"/'python'`.
fn in_shell(line: &str, program: &Path) -> Option<Vec<String>> {
    let rest = line.strip_prefix("'''exec'")?;
    let rest = rest.trim().strip_suffix(r#""$0" "$@""#)?.trim();
    let beside = rest.strip_prefix(r#""$(dirname -- "$(realpath -- "$0")")"/"#);
    let mut words = unquoted(beside.unwrap_or(rest))?;
    if beside.is_some() {
        let folder = program.canonicalize().ok()?.parent()?.to_owned();
        let first = words.first_mut()?;
        *first = folder.join(&*first).display().to_string();
    }
    Some(words)
}

/// The words of a shell's line without substitutions; `None` if it has some.
fn unquoted(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            ('$' | '`' | '\\', _) => return None,
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// True for `python`, `python3`, `python3.13t` and the like.
fn is_python(path: &Path) -> bool {
    let version = name_of(path).strip_prefix("python");
    version.is_some_and(|version| {
        let version = version.strip_suffix('t').unwrap_or(version);
        version.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn of(text: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let program = folder.join("worker");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&program, text).unwrap();
        for name in ["python3", "python3.13t"] {
            let python = folder.join(name);
            std::fs::write(&python, "").unwrap();
            std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let here = folder.display().to_string();
        let env = BTreeMap::from([("PATH".to_owned(), here.clone())]);
        let found = Interpreter::of(&program, &env)?;
        let shown = found.path.display().to_string().replace(&here, "HERE");
        Ok([shown].into_iter().chain(found.options).collect())
    }

    fn found(words: &[&str]) -> Result<Vec<String>, String> {
        Ok(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn the_first_line_names_the_interpreter_also_by_way_of_env() {
        let plain = "#!/venv/bin/python3.11 -s\nimport app\n";
        assert_eq!(of(plain), found(&["/venv/bin/python3.11", "-s"]));
        assert_eq!(of("#!/usr/bin/env python3\n"), found(&["HERE/python3"]));
        let split = "#!/usr/bin/env -S python3.13t -I\n";
        assert_eq!(of(split), found(&["HERE/python3.13t", "-I"]));
    }

    #[test]
    fn a_path_that_the_first_line_cannot_hold_stands_in_the_second() {
        let long = "#!/bin/sh\n'''exec' \"/a b/bin/python3\" \"$0\" \"$@\"\n' '''\nimport app\n";
        assert_eq!(of(long), found(&["/a b/bin/python3"]));
        let bare = "#!/bin/sh\n'''exec' /venv/bin/python -E \"$0\" \"$@\"\n' '''\n";
        assert_eq!(of(bare), found(&["/venv/bin/python", "-E"]));
        let movable = "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python3' \"$0\" \"$@\"\n' '''\n";
        assert_eq!(of(movable), found(&["HERE/python3"]));
    }

    #[test]
    fn what_is_no_python_program_is_told_by_its_first_line() {
        for text in [
            "#!/bin/sh\nexec python3 -m app \"$@\"\n",
            "#!/bin/sh\n'''exec' \"$HOME/python\" \"$0\" \"$@\"\n",
            "#!/bin/bash\n",
            "#!/usr/bin/ruby\n",
            "#!python3\n",
            "#!\n",
        ] {
            let error = of(text).unwrap_err();
            let first = text.lines().next().unwrap();
            assert_eq!(
                error,
                format!("it is no Python program: it begins with `{first}`")
            );
        }
        let binary = of("\u{7f}ELF").unwrap_err();
        assert_eq!(binary, "it is no Python program: it has no `#!` line");
        let python = Interpreter::of(Path::new("/venv/bin/python3.13"), &BTreeMap::new());
        let told = "it is Python itself: name the program's own script in its place";
        assert_eq!(python.unwrap_err(), told);
        let missing = of("#!/usr/bin/env python9\n").unwrap_err();
        assert_eq!(
            missing,
            "its interpreter is missing: it begins with `#!/usr/bin/env python9`"
        );
    }
}
