//! Points each client at the hub: the one table behind `launch`, the pages of the documentation and the
//! status page.
//!
//! A [`Client`] is a program that `launch` becomes, or a library with lines of code to copy. Texts of the table
//! have `{url}` for the hub's address, `{model}` for the model's name, `{context}` for its context length in
//! tokens, and `{key}` for a key of the hub or `none`. A line with `{context}` is left out where the length is
//! unknown, one with `{hub_key}` or `{key_variable}` where the hub has no keys. Nothing here reads or writes
//! anything.

mod libraries;
mod programs;
mod shell;
mod snippet;

pub use programs::{Place, Program, Run, Temporary};
pub(crate) use shell::shell_words;
pub use snippet::{Snippet, markdown};

/// The variable with the hub's key, for a program that takes none of its own.
const KEY_VARIABLE: &str = "MLX_HUB_KEY";

/// A client of the hub.
#[derive(Debug)]
pub struct Client {
    /// The word for `launch`, and how the client's makers write it in lower case.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// A program or a library.
    pub kind: Kind,
}

/// The kind of a client.
#[derive(Debug)]
pub enum Kind {
    /// A command that `launch` can become.
    Program(Program),
    /// A library: `code` in `language` (as fences in Markdown name it).
    Library {
        /// The language of the code.
        language: &'static str,
        /// The code, with placeholders.
        code: &'static str,
    },
}

/// The hub and the models that a client is pointed at.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The hub's address without a path, `http://localhost:8000`.
    pub url: &'a str,
    /// The model's name.
    pub model: &'a str,
    /// The model's context length in tokens, if it is known.
    pub context: Option<u32>,
    /// A key of the hub, if it has keys.
    pub key: Option<&'a str>,
}

/// All clients, programs first.
pub fn all() -> impl Iterator<Item = &'static Client> {
    programs::PROGRAMS.iter().chain(&libraries::LIBRARIES)
}

/// The programs.
pub fn programs() -> impl Iterator<Item = (&'static Client, &'static Program)> {
    all().filter_map(|client| match &client.kind {
        Kind::Program(program) => Some((client, program)),
        Kind::Library { .. } => None,
    })
}

impl Target<'_> {
    /// A text of the table with these values. They are escaped for a string in double quotes of JSON, TOML, YAML
    /// or Python.
    fn fill(&self, text: &str) -> String {
        let context = self.context.map(|tokens| tokens.to_string());
        // A third is a usual share for an answer.
        let output = self.context.map(|tokens| (tokens / 3).to_string());
        let lines = text
            .split_inclusive('\n')
            .filter(|line| context.is_some() || !line.contains("{context}"))
            .filter(|line| self.key.is_some() || !needs_key(line));
        let key = escaped(self.key.unwrap_or("none"));
        lines
            .collect::<String>()
            .replace("{context}", context.as_deref().unwrap_or_default())
            .replace("{output}", output.as_deref().unwrap_or_default())
            .replace("{key}", &key)
            .replace("{hub_key}", &key)
            .replace("{key_variable}", KEY_VARIABLE)
            .replace("{url}", &escaped(self.url))
            .replace("{model}", &escaped(self.model))
    }
}

/// True for a text that is for hubs with keys only.
fn needs_key(text: &str) -> bool {
    text.contains("{hub_key}") || text.contains("{key_variable}")
}

fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_stands_for_two_clients() {
        let names: Vec<&str> = all().map(|client| client.name).collect();
        let once: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(once.len(), names.len(), "{names:?}");
    }

    #[test]
    fn a_line_about_an_unknown_length_is_left_out() {
        let mut target = Target {
            url: "http://localhost:8000",
            model: "a\"b",
            context: None,
            key: None,
        };
        let text = "name = \"{model}\"\nlength = {context}\nurl = \"{url}/v1\"\n";
        let filled = "name = \"a\\\"b\"\nurl = \"http://localhost:8000/v1\"\n";
        assert_eq!(target.fill(text), filled);
        target.context = Some(9000);
        let filled = "name = \"a\\\"b\"\nlength = 9000\nurl = \"http://localhost:8000/v1\"\n";
        assert_eq!(target.fill(text), filled);
        assert_eq!(target.fill("{output}"), "3000");
        let text = "key = \"{key}\"\nheader = \"{hub_key}\"\nfrom = \"{key_variable}\"\n";
        assert_eq!(target.fill(text), "key = \"none\"\n");
        target.key = Some("k\"1");
        let filled = "key = \"k\\\"1\"\nheader = \"k\\\"1\"\nfrom = \"MLX_HUB_KEY\"\n";
        assert_eq!(target.fill(text), filled);
    }
}
