//! Converts the configuration of another program into a hub.yaml, and names what has no equal here.
//!
//! Read are the `--config` YAML of mlx-openai-server, a configuration of llama-swap, and Ollama's models: the
//! output of `ollama list`, or its folder of manifests.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::Context as _;
use serde_yaml::{Mapping, Value};

use super::aliases;
use crate::config::edit::{EntryValue, NewEntry};
use crate::config::{ModelType, known_keys, slug_of};
use crate::model_files::{ModelFiles, Places, found};

mod command_line;
mod llama_swap;

/// A hub.yaml, and what could not be converted.
#[derive(Debug, Default)]
pub(super) struct Converted {
    /// Keys of the hub with their values.
    hub: Vec<(&'static str, EntryValue)>,
    groups: Vec<NewEntry>,
    models: Vec<NewEntry>,
    /// A sentence for each thing without an equal.
    pub(super) notes: Vec<String>,
}

/// Keys of the worker's entries that have another name here.
const RENAMED: [(&str, &str); 16] = [
    ("on_demand", "jit_enabled"),
    ("default_max_tokens", "max_tokens"),
    ("default_temperature", "temperature"),
    ("default_top_p", "top_p"),
    ("default_top_k", "top_k"),
    ("default_min_p", "min_p"),
    ("default_repetition_penalty", "repetition_penalty"),
    ("default_presence_penalty", "presence_penalty"),
    ("default_xtc_probability", "xtc_probability"),
    ("default_xtc_threshold", "xtc_threshold"),
    ("default_seed", "seed"),
    ("default_repetition_context_size", "repetition_context_size"),
    ("prompt_cache_max_bytes", "max_bytes"),
    ("batch_completion_size", "decode_concurrency"),
    ("batch_prefill_size", "prompt_concurrency"),
    ("batch_prefill_step_size", "prefill_step_size"),
];
/// The keys that an entry may have here.
static KEYS: LazyLock<BTreeSet<String>> = LazyLock::new(|| known_keys().model);

/// Seconds, where the worker's entry sets none.
const WORKERS_IDLE_TIMEOUT: u64 = 60;

/// Converts a file, or a folder of manifests.
///
/// # Errors
/// When it cannot be read, is none of these, or has nothing that can be served here.
pub(super) fn convert(path: &Path) -> anyhow::Result<Converted> {
    let shown = path.display();
    let unread = || format!("cannot read `{shown}`");
    let converted = if path.is_dir() {
        let names = manifests(path);
        anyhow::ensure!(
            !names.is_empty(),
            "`{shown}` has no manifests of Ollama's\nhint: give ~/.ollama/models/manifests, or a file"
        );
        of_ollama(&names, &found(&Places::of(None)))
    } else {
        let text = std::fs::read_to_string(path).with_context(unread)?;
        of_text(&text).with_context(unread)?
    };
    anyhow::ensure!(
        !converted.models.is_empty(),
        "nothing in `{shown}` can be served here\n{}",
        converted.notes.join("\n")
    );
    Ok(converted)
}

fn of_text(text: &str) -> anyhow::Result<Converted> {
    if let Some(names) = listed_by_ollama(text) {
        return Ok(of_ollama(&names, &found(&Places::of(None))));
    }
    let yaml: Value = serde_yaml::from_str(text)?;
    match yaml.get("models") {
        Some(Value::Sequence(models)) => Ok(of_worker(&yaml, models)),
        Some(Value::Mapping(models)) => Ok(llama_swap::read(&yaml, models)),
        _ => anyhow::bail!(
            "it is no configuration of mlx-openai-server or llama-swap, and no output of `ollama list`"
        ),
    }
}

impl Converted {
    /// The text of hub.yaml.
    pub(super) fn text(&self, source: &Path) -> String {
        let mut text = format!(
            "# yaml-language-server: $schema=hub.schema.json\n# Converted from {} by `mlx-openai-server-hub init`. `check` tells what it means.\n",
            source.file_name().unwrap_or_default().to_string_lossy()
        );
        if !self.hub.is_empty() {
            text.push('\n');
        }
        for (key, value) in &self.hub {
            text += &format!("{key}: {value}\n");
        }
        let has_policies = self.hub.iter().any(|(key, _)| *key == "policies");
        text += &aliases::block(self.first_chat().as_slice(), has_policies);
        for (key, entries) in [("groups", &self.groups), ("models", &self.models)] {
            if !entries.is_empty() {
                let blocks: Vec<_> = entries.iter().map(|entry| entry.block(2, "\n")).collect();
                text += &format!("\n{key}:\n{}\n", blocks.join("\n\n"));
            }
        }
        text
    }

    /// The name of the first model that answers chats: which is the largest is not known.
    fn first_chat(&self) -> Option<&str> {
        let mut chats = self.models.iter().filter(|entry| {
            let written = text_of(entry, "model_type");
            let is_its = |kind: &ModelType| written.is_none_or(|word| kind.as_str() == word);
            ModelType::ALL
                .iter()
                .any(|kind| kind.chats() && is_its(kind))
        });
        chats.find_map(|entry| text_of(entry, "name"))
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A name for hub.yaml; what clients called it is noted if that is another.
    fn name(&mut self, written: &str) -> String {
        let short = written.rsplit('/').next().unwrap_or(written);
        let plain = slug_of(written).filter(|slug| slug == written);
        let name = plain
            .or_else(|| slug_of(short))
            .unwrap_or_else(|| "model".to_owned());
        let taken = |name: &str| {
            let mut models = self.models.iter();
            models.any(|entry| text_of(entry, "name") == Some(name))
        };
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        let name = names.find(|name| !taken(name)).unwrap_or_default();
        if name != written {
            self.note(format!(
                "`{written}` is called `{name}`; the policy `alias` gives it further names"
            ));
        }
        name
    }
}

/// The text of a key of an entry, if that is one.
fn text_of<'e>(entry: &'e NewEntry, wanted: &str) -> Option<&'e str> {
    let mut pairs = entry.0.iter();
    match pairs.find(|(key, _)| *key == wanted)? {
        (_, EntryValue::Text(text)) => Some(text),
        _ => None,
    }
}

fn text(value: &str) -> EntryValue {
    EntryValue::Text(value.to_owned())
}

/// A value as it is; lists within brackets. `None` for what has parts of its own.
fn value(value: &Value) -> Option<EntryValue> {
    match value {
        Value::Bool(flag) => Some(EntryValue::Flag(*flag)),
        Value::Number(number) => Some(match number.as_i64() {
            Some(number) => EntryValue::Number(number),
            None => EntryValue::Literal(number.to_string()),
        }),
        Value::String(string) => Some(text(string)),
        Value::Sequence(items) => {
            let items: Option<Vec<String>> = items
                .iter()
                .map(|item| self::value(item).map(|item| item.to_string()))
                .collect();
            Some(EntryValue::Literal(format!("[{}]", items?.join(", "))))
        }
        _ => None,
    }
}

/// Minutes, rounded up, for an idle limit in seconds.
fn minutes(seconds: u64) -> EntryValue {
    EntryValue::Number(i64::try_from(seconds.div_ceil(60).max(1)).unwrap_or(i64::MAX))
}

fn of_worker(yaml: &Value, models: &[Value]) -> Converted {
    let mut converted = Converted::default();
    let empty = Mapping::new();
    let server = yaml
        .get("server")
        .and_then(Value::as_mapping)
        .unwrap_or(&empty);
    for (key, written) in server {
        let key = key.as_str().unwrap_or_default();
        let known = ["host", "port", "log_level"]
            .into_iter()
            .find(|known| *known == key);
        match (known, value(written)) {
            (Some(known), Some(value)) => converted.hub.push((known, value)),
            _ => converted.note(format!(
                "`server.{key}` has no equal: the hub keeps a log of its own and one per model in `log_path`"
            )),
        }
    }
    for entry in models.iter().filter_map(Value::as_mapping) {
        let get = |key: &str| entry.get(key);
        let Some(path) = get("model_path").and_then(Value::as_str) else {
            converted.note("an entry without `model_path` is left out");
            continue;
        };
        let served = get("served_model_name").and_then(Value::as_str);
        let name = converted.name(served.unwrap_or(path));
        if served.is_none() {
            // Requests may name the path here too.
            converted
                .notes
                .retain(|note| !note.starts_with(&format!("`{path}` is called")));
        }
        let is_on_demand = get("on_demand")
            .and_then(Value::as_bool)
            .unwrap_or_default();
        let mut pairs = vec![("name", text(&name)), ("model_path", text(path))];
        pairs.push(("default", EntryValue::Flag(true)));
        for (key, written) in entry {
            let key = key.as_str().unwrap_or_default();
            let renamed = RENAMED.iter().find(|(theirs, _)| *theirs == key);
            let ours = renamed.map_or(key, |(_, ours)| ours);
            match (key, KEYS.get(ours), value(written)) {
                ("model_path" | "served_model_name" | "on_demand_idle_timeout", ..) => {}
                _ if *written == Value::Null => {}
                (_, Some(ours), Some(value)) => pairs.push((ours, value)),
                _ => converted.note(format!("`{key}` of `{name}` has no equal")),
            }
        }
        if is_on_demand {
            let seconds = get("on_demand_idle_timeout").and_then(Value::as_u64);
            let limit = minutes(seconds.unwrap_or(WORKERS_IDLE_TIMEOUT));
            pairs.push(("auto_unload_minutes", limit));
        }
        converted.models.push(NewEntry(pairs));
    }
    converted
}

/// The names in the output of `ollama list`.
fn listed_by_ollama(text: &str) -> Option<Vec<String>> {
    let mut lines = text.lines();
    let head = lines.next()?;
    (head.starts_with("NAME") && head.contains("ID") && head.contains("SIZE")).then(|| {
        let names = lines.filter_map(|line| line.split_whitespace().next());
        names.map(str::to_owned).collect()
    })
}

/// The names in a folder of manifests: `HOST/NAMESPACE/MODEL/TAG`.
fn manifests(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
                    let model = folder.as_path();
                    names.extend(
                        name(model)
                            .zip(name(&path))
                            .map(|(model, tag)| format!("{model}:{tag}")),
                    );
                }
            }
        }
    }
    names.sort();
    names
}

/// Ollama's own files are GGUF: each name stands for a model on the disk that has all its words.
fn of_ollama(names: &[String], models: &[ModelFiles]) -> Converted {
    let mut converted = Converted::default();
    for written in names {
        let words = written
            .strip_suffix(":latest")
            .unwrap_or(written)
            .to_lowercase();
        let words: Vec<&str> = words
            .split([':', '-', '/'])
            .filter(|word| !word.is_empty())
            .collect();
        let has_all = |model: &&ModelFiles| {
            let name = model.short_name().to_lowercase();
            words.iter().all(|word| name.contains(word))
        };
        match models.iter().find(has_all) {
            Some(model) => {
                let name = converted.name(written);
                converted.models.push(NewEntry(vec![
                    ("name", text(&name)),
                    ("model_path", text(&model.model_path)),
                    ("default", EntryValue::Flag(true)),
                    ("jit_enabled", EntryValue::Flag(true)),
                ]));
            }
            None => converted.note(format!(
                "`{written}` is left out: Ollama's files are GGUF, and no MLX model of that name is on this disk; \
                 https://huggingface.co/mlx-community has most"
            )),
        }
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// hub.yaml, which must be valid, and the notes.
    fn told(converted: &Converted) -> String {
        let text = converted.text(Path::new("/x/theirs.yaml"));
        Config::parse(Path::new("/x/hub.yaml"), &text)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        format!("{text}---\n{}\n", converted.notes.join("\n"))
    }

    #[test]
    fn a_configuration_of_the_worker_keeps_what_it_says() {
        let converted = of_text(
            "server: {host: 127.0.0.1, port: 9000, log_level: DEBUG, log_file: x.log}\n\
             models:\n\
             - {model_path: mlx-community/GLM-4.7-8bit, model_type: lm, tool_call_parser: glm4_moe, debug: true}\n\
             - {model_path: org/b, served_model_name: my/b, on_demand: true, on_demand_idle_timeout: 90,\n\
             \x20  default_temperature: 0.7, default_max_tokens: 512, lora_paths: [x/y, z], kv_bits: null,\n\
             \x20  batch_completion_size: 8, unheard_of: 1}\n\
             - {model_path: other/b, on_demand: true}\n\
             - {model_type: lm}\n",
        );
        insta::assert_snapshot!(told(&converted.unwrap()));
    }

    #[test]
    fn a_configuration_of_llama_swap_keeps_its_models() {
        let converted = of_text(
            "healthCheckTimeout: 300\nstartPort: 10001\nlogLevel: info\n\
             models:\n\
             \x20 \"qwen 3\":\n\
             \x20   cmd: |\n      mlx_lm.server --model mlx-community/Qwen3-4B-4bit\n      --port ${PORT}\n\
             \x20   ttl: 300\n    aliases: [gpt-4o]\n    env: [\"A=b c\", \"C=1\"]\n    proxy: http://x\n\
             \x20 llama: {cmd: 'llama-server -m /models/x.gguf'}\n\
             \x20 vision: {cmd: 'mlx-openai-server launch --model-path=org/v', ttl: 0}\n\
             groups:\n\
             \x20 big: {swap: true, exclusive: false, members: [\"qwen 3\"]}\n\
             \x20 all: {swap: false, members: [vision]}\n",
        );
        insta::assert_snapshot!(told(&converted.unwrap()));
    }

    #[test]
    fn commands_of_llama_swap_become_engines_and_what_is_no_key_is_told() {
        let converted = of_text(
            "macros:\n\
             \x20 server: /opt/llama/llama-server --port ${PORT} ${common}\n\
             \x20 common: -ngl 99\n\
             models:\n\
             \x20 lm: {cmd: 'mlx_lm.server --model org/a --host 127.0.0.1 --port ${PORT} --max-tokens 512 \
             --chat-template-args ''{\"enable_thinking\": false}'' --temp=0.5 --kv-bits 4 --log-level INFO'}\n\
             \x20 module: {cmd: 'python3 -m mlx_lm server --model org/a --trust-remote-code --max-tokens many'}\n\
             \x20 vision: {cmd: 'uvx mlx_vlm.server --model org/v --port ${PORT} --kv-bits 3.5 --api-key x'}\n\
             \x20 batch: {cmd: 'vllm-mlx serve org/b --served-model-name b --continuous-batching --port ${PORT}'}\n\
             \x20 own: {cmd: 'mlx-openai-server launch --model-path org/o --model-type multimodal --jit \
             --default-temperature 0.7 --kv-bits 4 --auto-unload-minutes 5 --surprise 1'}\n\
             \x20 gguf: {cmd: '${server} -m /models/x.gguf -c 8192 -fa on --alias x -n -1 --mmproj /m/p.gguf --no-mmap'}\n\
             \x20 vectors: {cmd: '${server} -hf org/e-GGUF:Q8_0 --embedding --pooling cls', checkEndpoint: /health}\n\
             \x20 ranks: {cmd: '${server} -m /m/r.gguf --rerank --spec-draft-model /m/d.gguf --api-key x'}\n\
             \x20 other: {cmd: 'tabby serve --model \"a b\" --port ${PORT} --id ${MODEL_ID}', checkEndpoint: /v1/health,\n\
             \x20   useModelName: tabby, proxy: 'http://127.0.0.1:${PORT}'}\n\
             \x20 container: {cmd: 'docker run -p ${PORT}:8080 image llama-server -m /x.gguf'}\n\
             \x20 fixed: {cmd: 'other --port 9000'}\n\
             \x20 braces: {cmd: 'other --port ${PORT} {x}'}\n\
             \x20 unknown: {cmd: 'llama-server -m ${folder}/x.gguf --port ${PORT}'}\n\
             \x20 bare: {cmd: 'llama-server --port ${PORT}'}\n\
             \x20 quote: {cmd: \"mlx_lm.server 'x\"}\n",
        );
        insta::assert_snapshot!(told(&converted.unwrap()));
    }

    #[test]
    fn names_of_ollama_stand_for_models_on_the_disk() {
        let list = "NAME                ID      SIZE    MODIFIED\nqwen3:4b   abc  2 GB  1 day ago\n\
             llama3.2:latest  def  2 GB  2 days ago\n";
        let names = listed_by_ollama(list).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        std::fs::write(folder.path().join("w.safetensors"), "").unwrap();
        let origin = crate::model_files::Origin::HuggingFace;
        let model = ModelFiles::read(
            folder.path(),
            "mlx-community/Qwen3-4B-4bit".to_owned(),
            origin,
        );
        insta::assert_snapshot!(told(&of_ollama(&names, &[model.unwrap()])));

        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("registry.ollama.ai/library/qwen3");
        std::fs::create_dir_all(&library).unwrap();
        std::fs::write(library.join("4b"), "{}").unwrap();
        assert_eq!(manifests(folder.path()), ["qwen3:4b"]);
    }

    #[test]
    fn other_files_are_refused() {
        for text in ["", "a: 1", "models: text", "models: [\n", "NAME\n"] {
            assert!(of_text(text).is_err(), "{text}");
        }
    }
}
