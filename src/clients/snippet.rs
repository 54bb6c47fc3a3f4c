//! Settings and code to copy.

use super::{Client, Kind, Program, Target, all, shell_words};

/// A text to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// Its language, as fences in Markdown name it.
    pub language: &'static str,
    /// The file that it belongs into; `None` for what is typed into a shell or written into a program.
    pub file: Option<&'static str>,
    /// The text; it ends with a line break.
    pub text: String,
}

impl Client {
    /// The texts that point it at `target`: a file or variables and the command, or code.
    pub fn snippets(&self, target: &Target<'_>) -> Vec<Snippet> {
        match &self.kind {
            Kind::Program(program) => of_program(program, target),
            Kind::Library { language, code } => vec![Snippet {
                language,
                file: None,
                text: target.fill(code),
            }],
        }
    }
}

fn of_program(program: &Program, target: &Target<'_>) -> Vec<Snippet> {
    let mut snippets = Vec::new();
    if let Some(file) = &program.settings.file {
        snippets.push(Snippet {
            language: file.language,
            file: Some(file.path),
            text: target.fill(file.text),
        });
    }
    let environment = program.environment(target);
    if environment.is_empty() && !snippets.is_empty() {
        return snippets;
    }
    let exports = environment
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", shell_words(&[value])));
    let mut words = vec![program.command.to_owned()];
    words.extend(program.first(target));
    words.extend(program.alone.iter().map(|word| target.fill(word)));
    snippets.push(Snippet {
        language: "sh",
        file: None,
        text: exports.collect::<String>() + &shell_words(&words) + "\n",
    });
    snippets
}

/// All clients with their snippets, in Markdown: the section *Clients* of README.md and of docs/clients.md.
pub fn markdown(target: &Target<'_>) -> String {
    let mut text = String::new();
    for client in all() {
        text += &format!("**{}**", client.title);
        for snippet in client.snippets(target) {
            match snippet.file {
                Some(path) if path.contains(' ') => text += &format!(", in {path}"),
                Some(path) => text += &format!(", in `{path}`"),
                None => {}
            }
            text += &format!("\n\n```{}\n{}```\n", snippet.language, snippet.text);
        }
        text.push('\n');
    }
    text
}
