//! What a page refers to is there: pages and their headings, files, commands.

use std::collections::BTreeSet;

use super::tables::commands;
use super::{Page, pages, root};

/// The folders whose files are mentioned by their path from the root.
const FOLDERS: [&str; 9] = [
    "src",
    "tests",
    "docs",
    "scripts",
    "examples",
    "templates",
    "benches",
    "packaging",
    "fuzz",
];

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .replace(' ', "-")
        .chars()
        .filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter))
        .collect()
}

/// The words in backticks of a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in pages() {
        for (number, line) in page.prose() {
            let targets = line.split("](").skip(1);
            for target in targets.filter_map(|rest| rest.split(')').next()) {
                if target.starts_with("https://") {
                    continue;
                }
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let path = match file {
                    "" => root().join(&page.path),
                    file => page.folder().join(file),
                };
                let leads = path.exists()
                    && (heading.is_empty()
                        || Page::read(path.to_str().unwrap())
                            .headings()
                            .any(|other| anchor(other) == heading));
                if !leads {
                    wrong.push(format!("{}:{number}: {target}", page.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Why a path from the root, `src/cli/mod.rs` or `src/lib.rs::NAME`, is wrong. What follows a word in capitals,
/// as in `src/cli/VERB.rs`, stands for any name.
fn fault(mention: &str) -> Option<String> {
    let mut parts = mention.split("::");
    let path: Vec<&str> = parts
        .next()?
        .split('/')
        .take_while(|part| !part.starts_with(|letter: char| letter.is_uppercase() || letter == '*'))
        .collect();
    let path = root().join(path.join("/"));
    if !path.exists() {
        return Some(format!("no `{mention}`"));
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let absent = parts.find(|name| !text.contains(name.trim_end_matches("()")))?;
    Some(format!("no `{absent}` in `{}`", path.display()))
}

fn is_in_a_folder_of_ours(word: &str) -> bool {
    let Some((folder, rest)) = word.split_once('/') else {
        return false;
    };
    FOLDERS.contains(&folder) && !rest.contains([' ', '{', '…', '<', '('])
}

#[test]
fn every_path_of_the_repository_exists() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let prose = page.prose().map(|(_, line)| line.to_owned());
        let mut words: Vec<String> = prose
            .flat_map(|line| quoted(&line).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        // A drawing of the tree has a path at the beginning of a line.
        let drawings = page.blocks();
        let drawings = drawings.iter().filter(|block| block.language == "text");
        let lines = drawings.flat_map(|block| block.text.lines());
        words.extend(lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)));
        for word in words.iter().filter(|word| is_in_a_folder_of_ours(word)) {
            count += 1;
            wrong.extend(fault(word).map(|fault| format!("{}: {fault}", page.path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 20, "only {count} paths are mentioned");
}

/// The folders of a folder, from the root.
fn folders(of: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(of)).unwrap();
    let entries = entries.map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let names = folders.map(|folder| folder.file_name().into_string().unwrap());
    names.map(|name| format!("{of}/{name}/")).collect()
}

#[test]
fn the_drawing_of_the_tree_has_every_folder_of_the_source() {
    let page = Page::read("docs/contributing.md");
    let drawing = page.section("Where things are");
    let mut folders = folders("src");
    folders.retain(|folder| folder != "src/hub/");
    folders.extend(self::folders("src/hub"));
    for folder in folders {
        let is_drawn = drawing.lines().any(|line| line.starts_with(&folder));
        assert!(is_drawn, "{} does not show `{folder}`", page.path);
    }
}

#[test]
fn every_command_that_is_mentioned_is_one_of_the_programs() {
    let commands = commands();
    let mut unknown = BTreeSet::new();
    for page in pages() {
        for mention in page.text.split("mlx-openai-server-hub ").skip(1) {
            let is_word = |letter: char| letter.is_ascii_lowercase() || letter == '-';
            let word: String = mention
                .chars()
                .take_while(|letter| is_word(*letter))
                .collect();
            // `--config`, a name in capitals, or the end of the code.
            if !word.is_empty() && !word.starts_with('-') && !commands.contains(&word) {
                unknown.insert(format!("{}: {word}", page.path));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn a_mention_of_a_file_or_a_name_that_is_not_there_is_found() {
    assert_eq!(fault("src/lib.rs"), None);
    assert_eq!(fault("src/lib.rs::policy"), None);
    assert_eq!(fault("src/cli/VERB.rs"), None);
    assert!(fault("src/lib.rs::nothing_of_the_kind").is_some());
    assert!(fault("src/nothing.rs").is_some());
    assert!(fault("src/nothing/VERB.rs").is_some());
    assert_eq!(anchor("Lua 5.4 or Luau"), "lua-54-or-luau");
}
