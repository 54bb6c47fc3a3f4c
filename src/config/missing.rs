//! Files and folders that hub.yaml names and that are not there.
//!
//! Such a hub.yaml is legal: a disk may not be mounted yet, a download not finished. `check` and the status
//! look each time, since files come and go without a reload.

use std::path::Path;

use super::{Config, ModelConfig};
use crate::engine::KeyType;

impl Config {
    /// One sentence for each missing path.
    pub fn missing_paths(&self) -> Vec<String> {
        self.models.iter().flat_map(of_model).collect()
    }
}

fn of_model(model: &ModelConfig) -> Vec<String> {
    let options = model.engine.keys.iter().flat_map(|key| {
        let option = model.options.iter().find(|option| option.key == key.name);
        let value = option.and_then(|option| option.value.as_deref());
        let values: Vec<&str> = match key.kind {
            KeyType::Paths => value.into_iter().flat_map(|all| all.split(',')).collect(),
            KeyType::Path | KeyType::PathOrId => value.into_iter().collect(),
            _ => Vec::new(),
        };
        values.into_iter().map(|value| (key.name.as_str(), value))
    });
    std::iter::once(("model_path", model.resolved_path.as_str()))
        .chain(options)
        .filter(|(_, value)| value.starts_with('/') && !Path::new(value).exists())
        .map(|(key, value)| {
            let name = &model.name;
            format!("model `{name}`: `{key}` is `{value}`, and nothing is there")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_missed_while_nothing_is_there_and_repositories_never_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.yaml");
        let text = "models:\n\
             - {name: a, model_path: ./late, draft_model_path: ./draft, lora_paths: [./one, org/two]}\n\
             - {name: b, model_path: org/b, chat_template_file: 'a,b.jinja'}\n";
        let config = Config::parse(&path, text).unwrap();
        let missing = || {
            let text = config.missing_paths().join("\n");
            text.replace(&folder.path().display().to_string(), "FOLDER")
        };
        insta::assert_snapshot!(missing(), @"
        model `a`: `model_path` is `FOLDER/late`, and nothing is there
        model `a`: `lora_paths` is `FOLDER/one`, and nothing is there
        model `a`: `draft_model_path` is `FOLDER/draft`, and nothing is there
        model `b`: `chat_template_file` is `FOLDER/a,b.jinja`, and nothing is there
        ");
        for name in ["late", "draft", "one", "a,b.jinja"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(missing(), "");
    }
}
