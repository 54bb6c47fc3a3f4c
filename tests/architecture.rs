//! The shape of the tree: which part may use which, how long a file may be, and what must not come
//! back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Longer files are split.
const LONGEST_FILE: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `folder`, or `folder` itself when it is a file.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return folder
            .is_file()
            .then(|| folder.to_owned())
            .into_iter()
            .collect();
    };
    let entries = entries.map(|entry| entry.expect("a readable folder").path());
    entries.flat_map(|path| files(&path)).collect()
}

fn sources() -> Vec<PathBuf> {
    let mut sources = files(&root().join("src"));
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    sources
}

/// The first component below `src`: the part that a file belongs to.
fn part(path: &Path) -> String {
    let below = path
        .strip_prefix(root().join("src"))
        .expect("a file in src");
    let first = below.components().next().expect("a file name");
    let name = Path::new(first.as_os_str()).file_stem().expect("a name");
    name.to_string_lossy().into_owned()
}

/// The parts that a cell of the table names, between backticks: of `worker::command`, `worker`.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(word)
        .collect()
}

/// What stands in the documentation of src/lib.rs.
#[derive(Debug, Default)]
struct Table {
    /// Each part and what it may import; `None` is everything.
    rows: BTreeMap<String, Option<BTreeSet<String>>>,
    /// What anyone may import.
    common: BTreeSet<String>,
}

impl Table {
    fn read() -> Self {
        let text = read(&root().join("src/lib.rs"));
        let mut table = Self::default();
        for line in text.lines().filter_map(|line| line.strip_prefix("//! | ")) {
            let Some((parts, imports)) = line.split_once(" | ") else {
                continue;
            };
            let parts = quoted(parts);
            if imports.contains("anyone may use the last") {
                table.common.extend(parts.last().cloned());
            }
            let everything = imports.starts_with("everything");
            let allowed = (!everything).then(|| quoted(imports).into_iter().collect());
            table
                .rows
                .extend(parts.into_iter().map(|part| (part, allowed.clone())));
        }
        table
    }

    fn allows(&self, part: &str, import: &str) -> bool {
        // A name that is no part is a macro or a re-export at the root.
        if part == import || self.common.contains(import) || !self.rows.contains_key(import) {
            return true;
        }
        match &self.rows[part] {
            Some(allowed) => allowed.contains(import),
            None => true,
        }
    }
}

/// The parts that a source names after `crate::`, alone or in braces; comments do not count.
fn imports(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    for (place, _) in code.match_indices("crate::") {
        let before = code[..place].chars().next_back();
        if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == '$') {
            continue;
        }
        let after = &code[place + "crate::".len()..];
        match after.strip_prefix('{') {
            Some(list) => found.extend(first_words(list)),
            None => found.extend(word(after)),
        }
    }
    found
}

/// The word that a text begins with.
fn word(text: &str) -> Option<String> {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let word = &text[..end.unwrap_or(text.len())];
    (!word.is_empty()).then(|| word.to_owned())
}

/// The first word of each entry of a braced list whose opening brace has been read.
fn first_words(list: &str) -> BTreeSet<String> {
    let mut depth = 0;
    let mut entries = vec![String::new()];
    for letter in list.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => entries.push(String::new()),
            _ => {}
        }
        if let Some(entry) = entries.last_mut() {
            entry.push(letter);
        }
    }
    entries
        .iter()
        .filter_map(|entry| word(entry.trim_start_matches([',', ' ', '\n'])))
        .collect()
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::config::Config;\nuse crate::{\n    status::{Status, Counts},\n    worker,\n};\n\
                // crate::policy is only mentioned\nfn f() { crate::lifecycle::go(); $crate::telemetry::x!() }";
    let expected = ["config", "lifecycle", "status", "worker"];
    assert_eq!(imports(text), expected.map(str::to_owned).into());
}

#[test]
fn the_parts_import_what_the_table_allows() {
    let table = Table::read();
    assert!(table.rows.len() > 8, "no table in src/lib.rs: {table:?}");
    let mut wrong = BTreeSet::new();
    for path in sources() {
        let part = part(&path);
        if part == "lib" || part == "main" {
            continue;
        }
        if !table.rows.contains_key(&part) {
            wrong.insert(format!("`{part}` is not in the table of src/lib.rs"));
            continue;
        }
        for import in imports(&read(&path)) {
            if !table.allows(&part, &import) {
                let file = path.strip_prefix(root()).expect("a file of ours");
                wrong.insert(format!("{} imports `{import}`", file.display()));
            }
        }
    }
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let mut long = Vec::new();
    for path in sources() {
        let lines = read(&path).lines().count();
        if lines > LONGEST_FILE {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_retired_service_routes_are_not_mentioned() {
    let retired = ["/hub", "/service"].concat();
    for folder in [
        "src",
        "templates",
        "scripts",
        "examples",
        "tests",
        "README.md",
    ] {
        for path in files(&root().join(folder)) {
            let text = std::fs::read(&path).expect("a readable file");
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(&retired), "{}", path.display());
        }
    }
}
