//! The programs, and the settings that lead each of them to the hub.

use super::{Client, KEY_VARIABLE, Kind, Target, needs_key};

/// A program, and its settings.
#[derive(Debug)]
pub struct Program {
    /// The command.
    pub command: &'static str,
    /// The command that installs it.
    pub install: &'static str,
    /// Its settings.
    pub(super) settings: Settings,
    /// Arguments that always come first.
    pub(super) first: &'static [&'static str],
    /// Arguments if the user gives none.
    pub(super) alone: &'static [&'static str],
    /// Variables that would lead it elsewhere, or that it takes for contradictions.
    pub misleading: &'static [&'static str],
}

/// The settings of a program, with placeholders.
#[derive(Debug)]
pub(super) struct Settings {
    /// Variables.
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// A file, for a program that does not take all of them from variables.
    pub(super) file: Option<SettingsFile>,
}

/// A file of settings.
#[derive(Debug)]
pub(super) struct SettingsFile {
    /// Its usual path in the home of a user.
    pub(super) path: &'static str,
    /// Its language, as fences in Markdown name it.
    pub(super) language: &'static str,
    /// Its text.
    pub(super) text: &'static str,
    /// The way in which the program gets its text without that file.
    pub(super) given: Given,
}

/// The way in which a program gets the text of a file that is not there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given {
    /// In this variable.
    Variable(&'static str),
    /// A line of TOML at a time, each behind this argument.
    Overrides(&'static str),
    /// As a temporary file, whose path stands behind this argument.
    Argument(&'static str),
    /// As a temporary file of that name, whose folder this variable has.
    Folder {
        /// The variable.
        variable: &'static str,
        /// The file's name.
        file: &'static str,
    },
}

/// A temporary file that a program needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Temporary {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: String,
    /// The variable that has its folder, or the argument before its path.
    pub place: Place,
}

/// The way in which a program finds a temporary file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This variable has its folder.
    Folder(&'static str),
    /// This argument comes before its path.
    Argument(&'static str),
}

/// The command that runs a program.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// Variables.
    pub environment: Vec<(&'static str, String)>,
    /// Arguments before those of the user.
    pub first: Vec<String>,
    /// Arguments if the user gives none.
    pub alone: Vec<String>,
    /// A file that has to be there.
    pub temporary: Option<Temporary>,
}

impl Program {
    /// The command that runs it so that it uses `target`.
    pub fn run(&self, target: &Target<'_>) -> Run {
        let mut environment = self.environment(target);
        let mut first = self.first(target);
        let mut temporary = None;
        if let Some(file) = &self.settings.file {
            let text = target.fill(file.text);
            let place = match file.given {
                Given::Variable(variable) => {
                    environment.push((variable, text));
                    None
                }
                Given::Overrides(argument) => {
                    let words = overrides(&text).into_iter();
                    first.extend(words.flat_map(|word| [argument.to_owned(), word]));
                    None
                }
                Given::Argument(argument) => {
                    let name = file.path.rsplit('/').next().unwrap_or(file.path);
                    Some((text, name, Place::Argument(argument)))
                }
                Given::Folder { variable, file } => Some((text, file, Place::Folder(variable))),
            };
            temporary = place.map(|(text, name, place)| Temporary { name, text, place });
        }
        Run {
            environment,
            first,
            alone: filled(self.alone, target),
            temporary,
        }
    }

    pub(super) fn environment(&self, target: &Target<'_>) -> Vec<(&'static str, String)> {
        let known = |(_, value): &&(&str, &str)| {
            (target.context.is_some() || *value != "{context}")
                && (target.key.is_some() || !needs_key(value))
        };
        let variables = self.settings.environment.iter().filter(known);
        variables
            .map(|(name, value)| (*name, target.fill(value)))
            .collect()
    }

    pub(super) fn first(&self, target: &Target<'_>) -> Vec<String> {
        filled(self.first, target)
    }
}

fn filled(words: &[&str], target: &Target<'_>) -> Vec<String> {
    words.iter().map(|word| target.fill(word)).collect()
}

/// `key=value` for each line of simple TOML, where the key has its table before it.
fn overrides(toml: &str) -> Vec<String> {
    let mut table = "";
    let mut words = Vec::new();
    for line in toml.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']');
        } else if let Some((key, value)) = line.split_once(" = ") {
            let dot = if table.is_empty() { "" } else { "." };
            words.push(format!("{table}{dot}{key}={value}"));
        }
    }
    words
}

/// A program that needs no file.
const fn by_environment(environment: &'static [(&'static str, &'static str)]) -> Settings {
    Settings {
        environment,
        file: None,
    }
}

pub(super) static PROGRAMS: [Client; 9] = [
    Client {
        name: "claude",
        title: "Claude Code",
        kind: Kind::Program(Program {
            command: "claude",
            install: "npm install -g @anthropic-ai/claude-code",
            settings: by_environment(&[
                ("ANTHROPIC_BASE_URL", "{url}"),
                ("ANTHROPIC_AUTH_TOKEN", "{key}"),
                ("ANTHROPIC_MODEL", "{model}"),
                ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "{model}"),
                ("ANTHROPIC_DEFAULT_SONNET_MODEL", "{model}"),
                ("ANTHROPIC_DEFAULT_OPUS_MODEL", "{model}"),
                // It takes 100,000 for less.
                ("CLAUDE_CODE_AUTO_COMPACT_WINDOW", "{context}"),
            ]),
            first: &[],
            alone: &[],
            misleading: &[
                "ANTHROPIC_API_KEY",
                "ANTHROPIC_SMALL_FAST_MODEL",
                "CLAUDE_CODE_OAUTH_TOKEN",
                "CLAUDE_CODE_SUBAGENT_MODEL",
                "CLAUDE_CODE_USE_BEDROCK",
                "CLAUDE_CODE_USE_FOUNDRY",
                "CLAUDE_CODE_USE_VERTEX",
            ],
        }),
    },
    Client {
        name: "codex",
        title: "Codex",
        kind: Kind::Program(Program {
            command: "codex",
            install: "npm install -g @openai/codex",
            settings: Settings {
                environment: &[(KEY_VARIABLE, "{hub_key}")],
                file: Some(SettingsFile {
                    path: "~/.codex/config.toml",
                    language: "toml",
                    text: r#"model = "{model}"
model_provider = "hub"
model_context_window = {context}

[model_providers.hub]
name = "hub"
base_url = "{url}/v1"
env_key = "{key_variable}"
wire_api = "responses"
"#,
                    given: Given::Overrides("-c"),
                }),
            },
            first: &[],
            alone: &[],
            misleading: &[],
        }),
    },
    Client {
        name: "opencode",
        title: "opencode",
        kind: Kind::Program(Program {
            command: "opencode",
            install: "npm install -g opencode-ai",
            settings: Settings {
                environment: &[],
                file: Some(SettingsFile {
                    path: "~/.config/opencode/opencode.json",
                    language: "json",
                    text: r#"{
  "provider": {
    "hub": {
      "npm": "@ai-sdk/openai-compatible",
      "options": {"baseURL": "{url}/v1", "apiKey": "{key}"},
      "models": {
        "{model}": {
          "limit": {"context": {context}, "output": {output}},
          "name": "{model}"
        }
      }
    }
  },
  "model": "hub/{model}",
  "small_model": "hub/{model}"
}
"#,
                    given: Given::Variable("OPENCODE_CONFIG_CONTENT"),
                }),
            },
            first: &[],
            alone: &[],
            misleading: &[],
        }),
    },
    Client {
        name: "aider",
        title: "aider",
        kind: Kind::Program(Program {
            command: "aider",
            install: "uv tool install --python 3.12 aider-chat",
            // By its own names, which outrank its files of settings.
            settings: by_environment(&[
                ("AIDER_OPENAI_API_BASE", "{url}/v1"),
                ("AIDER_OPENAI_API_KEY", "{key}"),
                ("AIDER_MODEL", "openai/{model}"),
                ("AIDER_SHOW_MODEL_WARNINGS", "false"),
            ]),
            first: &[],
            alone: &[],
            misleading: &[],
        }),
    },
    Client {
        name: "llm",
        title: "llm",
        kind: Kind::Program(Program {
            command: "llm",
            install: "uv tool install llm",
            settings: Settings {
                environment: &[("LLM_MODEL", "{model}")],
                file: Some(SettingsFile {
                    path: "extra-openai-models.yaml beside the file that `llm logs path` names",
                    language: "yml",
                    text: r#"- model_id: "{model}"
  model_name: "{model}"
  api_base: "{url}/v1"
  headers: {"Authorization": "Bearer {hub_key}"}
"#,
                    given: Given::Folder {
                        variable: "LLM_USER_PATH",
                        file: "extra-openai-models.yaml",
                    },
                }),
            },
            first: &[],
            alone: &["chat"],
            misleading: &[],
        }),
    },
    Client {
        name: "cn",
        title: "Continue",
        kind: Kind::Program(Program {
            command: "cn",
            install: "npm install -g @continuedev/cli",
            settings: Settings {
                environment: &[],
                file: Some(SettingsFile {
                    path: "~/.continue/config.yaml",
                    language: "yml",
                    text: r#"name: hub
version: 0.0.1
schema: v1
models:
  - name: "{model}"
    provider: openai
    model: "{model}"
    apiBase: "{url}/v1"
    apiKey: "{key}"
    roles: [chat, edit, apply]
"#,
                    given: Given::Argument("--config"),
                }),
            },
            first: &[],
            alone: &[],
            misleading: &[],
        }),
    },
    Client {
        name: "open-webui",
        title: "Open WebUI",
        kind: Kind::Program(Program {
            command: "open-webui",
            install: "uv tool install --python 3.12 open-webui",
            settings: by_environment(&[
                ("OPENAI_API_BASE_URL", "{url}/v1"),
                ("OPENAI_API_KEY", "{key}"),
                ("DEFAULT_MODELS", "{model}"),
                // Otherwise what it has in its database outranks these variables.
                ("ENABLE_PERSISTENT_CONFIG", "false"),
            ]),
            first: &[],
            alone: &["serve"],
            misleading: &["OPENAI_API_BASE_URLS", "OPENAI_API_KEYS"],
        }),
    },
    Client {
        name: "goose",
        title: "goose",
        kind: Kind::Program(Program {
            command: "goose",
            install: "brew install block-goose-cli",
            settings: by_environment(&[
                ("GOOSE_PROVIDER", "openai"),
                ("GOOSE_MODEL", "{model}"),
                ("OPENAI_HOST", "{url}"),
                ("OPENAI_BASE_PATH", "v1/chat/completions"),
                ("OPENAI_API_KEY", "{key}"),
                ("GOOSE_CONTEXT_LIMIT", "{context}"),
            ]),
            first: &[],
            alone: &["session"],
            misleading: &["OPENAI_BASE_URL", "OPENAI_CUSTOM_HEADERS"],
        }),
    },
    Client {
        name: "qwen",
        title: "Qwen Code",
        kind: Kind::Program(Program {
            command: "qwen",
            install: "npm install -g @qwen-code/qwen-code",
            settings: by_environment(&[
                ("OPENAI_BASE_URL", "{url}/v1"),
                ("OPENAI_API_KEY", "{key}"),
                ("OPENAI_MODEL", "{model}"),
            ]),
            first: &["--auth-type", "openai", "--model", "{model}"],
            alone: &[],
            misleading: &[],
        }),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::programs;

    #[test]
    fn a_line_of_toml_is_an_argument_with_its_table() {
        let toml = "a = \"x\"\n\n[b.c]\nd = 1\n";
        assert_eq!(overrides(toml), ["a=\"x\"", "b.c.d=1"]);
    }

    fn target(context: Option<u32>) -> Target<'static> {
        Target {
            url: "http://localhost:8000",
            model: "qwen3-4b",
            context,
            key: None,
        }
    }

    #[test]
    fn every_text_of_a_file_is_of_its_language() {
        for (client, program) in programs() {
            let Some(file) = &program.settings.file else {
                continue;
            };
            for context in [None, Some(32_768)] {
                let text = target(context).fill(file.text);
                assert!(!text.contains("{model}") && !text.contains("{output}"));
                match file.language {
                    "json" => drop(serde_json::from_str::<serde_json::Value>(&text).unwrap()),
                    "yml" => drop(serde_yaml::from_str::<serde_yaml::Value>(&text).unwrap()),
                    "toml" => {
                        let lines = text.lines().filter(|line| line.contains(" = "));
                        assert_eq!(overrides(&text).len(), lines.count());
                    }
                    other => panic!("{}: {other}", client.name),
                }
            }
        }
    }

    #[test]
    fn every_program_is_told_the_key_of_a_hub_that_has_keys_and_not_in_its_arguments() {
        for (client, program) in programs() {
            let target = Target {
                key: Some("secret"),
                ..target(None)
            };
            let run = program.run(&target);
            let environment = format!("{:?} {:?}", run.environment, run.temporary);
            assert!(environment.contains("secret"), "{}", client.name);
            let arguments = format!("{:?} {:?}", run.first, run.alone);
            assert!(!arguments.contains("secret"), "{}", client.name);
        }
    }

    #[test]
    fn every_program_is_told_address_and_model() {
        for (client, program) in programs() {
            let run = program.run(&target(None));
            let told = format!("{run:?}");
            assert!(told.contains("http://localhost:8000"), "{}", client.name);
            assert!(told.contains("qwen3-4b"), "{}", client.name);
            assert!(
                !told.contains('{') || !told.contains("{url}"),
                "{}",
                client.name
            );
        }
    }
}
