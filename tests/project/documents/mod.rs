//! README.md and the pages under `docs/`: what they say of the program is compared with it.

mod clients;
mod console;
mod examples;
mod links;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// README.md, or a page under `docs/`.
struct Page {
    /// From the root of the repository.
    path: String,
    text: String,
}

/// A part of a page between two fences.
struct Block<'a> {
    /// What stands behind the opening fence.
    language: &'a str,
    text: String,
}

impl Page {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path));
        Self {
            path: path.to_owned(),
            text: text.unwrap_or_else(|error| panic!("{path}: {error}")),
        }
    }

    /// The folder that its links start in.
    fn folder(&self) -> PathBuf {
        root().join(&self.path).parent().unwrap().to_owned()
    }

    /// Its lines outside of code, each with its number.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_code = false;
        self.text.lines().enumerate().filter_map(move |(i, line)| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            (!is_code && !is_fence).then_some((i + 1, line))
        })
    }

    fn headings(&self) -> impl Iterator<Item = &str> {
        self.prose().filter_map(|(_, line)| {
            let heading = line.trim_start_matches('#');
            (heading.len() < line.len()).then(|| heading.strip_prefix(' '))?
        })
    }

    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut open: Option<Block<'_>> = None;
        for line in self.text.lines() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(language)) => {
                    let text = String::new();
                    open = Some(Block { language, text });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fence stays open", self.path);
        blocks
    }

    /// What stands between a heading and the next one of any level.
    fn section(&self, heading: &str) -> String {
        let mut lines = self.text.lines();
        let found = lines.any(|line| line.starts_with('#') && line.ends_with(heading));
        assert!(found, "{}: no heading {heading}", self.path);
        let section = lines.take_while(|line| !line.starts_with('#'));
        section.map(|line| format!("{line}\n")).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> Page {
    Page::read("README.md")
}

/// The pages in the order in which `docs/SUMMARY.md` has them.
fn docs() -> Vec<Page> {
    let summary = Page::read("docs/SUMMARY.md");
    let links = summary.text.split("](").skip(1);
    let names = links.map(|rest| rest.split(')').next().unwrap());
    names
        .map(|name| Page::read(&format!("docs/{name}")))
        .collect()
}

/// README.md and then the others.
fn pages() -> Vec<Page> {
    let mut pages = vec![readme()];
    pages.extend(docs());
    pages
}

/// The code in that language on all pages.
fn code(language: &str) -> Vec<String> {
    let pages = pages();
    let blocks = pages.iter().flat_map(Page::blocks);
    blocks
        .filter(|block| block.language == language)
        .map(|block| block.text)
        .collect()
}

/// The words in backticks in the first cell of every row of the tables of a text.
fn first_cells(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split(" |").next().unwrap());
    cells
        .flat_map(|cell| cell.split('`').step_by(2))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_page_is_in_the_summary_and_in_the_table_of_the_readme() {
    let files = std::fs::read_dir(root().join("docs")).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: BTreeSet<String> = files.filter(|name| name.ends_with(".md")).collect();
    assert!(files.remove("SUMMARY.md"));
    let listed: BTreeSet<String> = docs()
        .iter()
        .map(|page| page.path.replace("docs/", ""))
        .collect();
    assert_eq!(listed, files);

    let table = readme().section("Documentation");
    let links = table.split("](docs/").skip(1);
    let linked: BTreeSet<String> = links
        .map(|rest| rest.split([')', '#']).next().unwrap().to_owned())
        .collect();
    assert_eq!(linked, files);
}
