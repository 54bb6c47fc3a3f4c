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

/// The module that a source is, from the root: `hub::gateway::forward`.
fn module(path: &Path) -> String {
    let below = path
        .strip_prefix(root().join("src"))
        .expect("a file in src")
        .with_extension("");
    let names = below.iter().map(|name| name.to_string_lossy());
    let names: Vec<_> = names.filter(|name| name != "mod").collect();
    names.join("::")
}

/// The parts that a cell of the table names, between backticks.
fn quoted(cell: &str) -> Vec<String> {
    let names = cell.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
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
            if imports.contains("anyone may use it") {
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

    /// The row that a path belongs to: the longest one that it begins with.
    fn part(&self, path: &str) -> Option<&str> {
        let within = |row: &&String| {
            path.strip_prefix(row.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let rows = self.rows.keys().filter(within);
        rows.max_by_key(|row| row.len()).map(String::as_str)
    }

    fn allows(&self, part: &str, import: &str) -> bool {
        part == import
            || self.common.contains(import)
            || (self.rows[part].as_ref()).is_none_or(|allowed| allowed.contains(import))
    }
}

/// The paths that a source names after `crate::`, alone or in braces; comments do not count.
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
        paths("", &code[place + "crate::".len()..], &mut found);
    }
    found
}

/// Adds what `text` begins with, a path or a braced list of them, each after `before`; returns the rest.
fn paths<'t>(before: &str, text: &'t str, found: &mut BTreeSet<String>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut list) = text.strip_prefix('{') {
        loop {
            list = paths(before, list, found).trim_start();
            match list.strip_prefix(',') {
                Some(more) => list = more,
                None => return list.strip_prefix('}').unwrap_or(list),
            }
        }
    }
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    if word.is_empty() {
        return rest;
    }
    let path = match before {
        "" => word.to_owned(),
        before => format!("{before}::{word}"),
    };
    match rest.strip_prefix("::") {
        Some(rest) => paths(&path, rest, found),
        None => {
            found.insert(path);
            let renamed = rest.strip_prefix(" as ");
            renamed.map_or(rest, |rest| paths("", rest, &mut BTreeSet::new()))
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::config::Config;\nuse crate::{\n    api::{Status, error::{self, ApiError as Error}},\n    worker,\n};\n\
                // crate::policy is only mentioned\nfn f() { crate::hub::server::go(); $crate::telemetry::x!() }";
    let expected = [
        "config::Config",
        "api::Status",
        "api::error::self",
        "api::error::ApiError",
        "worker",
        "hub::server::go",
    ];
    assert_eq!(imports(text), expected.map(str::to_owned).into());
}

#[test]
fn the_parts_import_what_the_table_allows_and_no_row_allows_more() {
    let table = Table::read();
    assert!(table.rows.len() > 8, "no table in src/lib.rs: {table:?}");
    let mut wrong = BTreeSet::new();
    let mut used = BTreeSet::new();
    for path in sources() {
        let module = module(&path);
        if module == "lib" || module == "main" || module == "hub" {
            continue;
        }
        let Some(part) = table.part(&module) else {
            wrong.insert(format!("`{module}` is not in the table of src/lib.rs"));
            continue;
        };
        // A name that is no part is a macro or a re-export at the root.
        for import in imports(&read(&path))
            .iter()
            .filter_map(|path| table.part(path))
        {
            used.insert((part, import));
            if !table.allows(part, import) {
                let file = path.strip_prefix(root()).expect("a file of ours");
                wrong.insert(format!("{} imports `{import}`", file.display()));
            }
        }
    }
    for (part, allowed) in &table.rows {
        for import in allowed.iter().flatten() {
            if !table.rows.contains_key(import) {
                wrong.insert(format!("`{part}` may import `{import}`, which is no part"));
            } else if !used.contains(&(part.as_str(), import.as_str())) {
                wrong.insert(format!("`{part}` may import `{import}`, and does not"));
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
        "docs",
    ] {
        for path in files(&root().join(folder)) {
            let text = std::fs::read(&path).expect("a readable file");
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(&retired), "{}", path.display());
        }
    }
}
