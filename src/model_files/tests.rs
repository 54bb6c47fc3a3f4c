//! Folders as the Hugging Face libraries, LM Studio and users write them.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::*;

/// A safetensors file with a tensor of each name, type and size in bytes.
fn safetensors(tensors: &[(&str, &str, u64)], metadata: Value) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    if !metadata.is_null() {
        header.insert("__metadata__".to_owned(), metadata);
    }
    let mut end = 0;
    for (name, dtype, bytes) in tensors {
        let start = end;
        end += bytes;
        let tensor = json!({"dtype": dtype, "shape": [bytes], "data_offsets": [start, end]});
        header.insert((*name).to_owned(), tensor);
    }
    let text = serde_json::to_vec(&header).unwrap();
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text);
    file.resize(file.len() + usize::try_from(end).unwrap(), 0);
    file
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_download_is_as_far_as_the_cache_has_grown() {
    let cache = tempfile::tempdir().unwrap();
    let repository = Repository::new(cache.path(), "org/far").unwrap();
    let at = |path: &str| repository.folder.join(path);
    assert_eq!((repository.bytes(), repository.incomplete()), (0, None));
    write(&at("blobs/a.incomplete"), [0; 10]);
    assert_eq!(repository.incomplete(), Some((10, None)));
    // Another revision has nothing to do with it.
    write(&at("blobs/old"), [0; 1000]);
    write(&at("blobs/b"), [0; 50]);
    write(&at("refs/main"), "abc");
    std::fs::create_dir_all(at("snapshots/abc")).unwrap();
    symlink("../../blobs/b", at("snapshots/abc/one.safetensors")).unwrap();
    assert_eq!(repository.incomplete(), Some((60, None)));
    let index = r#"{"metadata": {"total_size": 200}, "weight_map": {}}"#;
    write(&at("snapshots/abc/model.safetensors.index.json"), index);
    let bytes = 60 + index.len() as u64;
    assert_eq!(repository.incomplete(), Some((bytes, Some(200))));
    write(&at("blobs/a.incomplete"), [0; 190]);
    let bytes = bytes + 180;
    assert_eq!(repository.incomplete(), Some((bytes, Some(bytes))));
    std::fs::remove_file(at("blobs/a.incomplete")).unwrap();
    assert_eq!(repository.incomplete(), None);
    assert_eq!(repository.bytes(), 1050);
}

/// A model with that `config.json` and those tensors.
fn model(folder: &Path, config: &Value, tensors: &[(&str, &str, u64)]) {
    write(&folder.join("config.json"), config.to_string());
    write(
        &folder.join("model.safetensors"),
        safetensors(tensors, Value::Null),
    );
}

const TEXT: &[(&str, &str, u64)] = &[
    ("model.layers.0.q_proj.weight", "U32", 800),
    ("model.layers.0.q_proj.scales", "BF16", 100),
];

fn read(folder: &Path, name: &str) -> Option<Facts> {
    ModelFiles::read(folder, name.to_owned(), Origin::Folder).map(|model| model.facts)
}

/// Type, quantisation and context length, in a line.
fn told(config: &Value, tensors: &[(&str, &str, u64)], name: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), config, tensors);
    let facts = read(folder.path(), name).unwrap();
    line(&facts)
}

fn line(facts: &Facts) -> String {
    format!(
        "{} {} {}",
        facts.model_type.as_str(),
        facts.quantisation.as_deref().unwrap_or("-"),
        facts
            .context_length
            .map_or("-".to_owned(), |tokens| tokens.to_string()),
    )
}

#[test]
fn config_json_tells_type_quantisation_and_context_length() {
    let four = json!({"group_size": 64, "bits": 4});
    let seeing: &[(&str, &str, u64)] = &[("vision_tower.patch_embed.weight", "BF16", 10)];
    for (name, config, tensors, expected) in [
        (
            "org/Qwen3-4B-4bit",
            json!({"model_type": "qwen3", "max_position_embeddings": 262_144, "quantization": four,
                   "quantization_config": four}),
            TEXT,
            "lm 4bit 262144",
        ),
        (
            "org/mixed",
            json!({"model_type": "qwen3", "quantization": {"group_size": 64, "bits": 4,
                   "model.embed_tokens": {"bits": 6}, "lm_head": false}}),
            TEXT,
            "lm 4-6bit -",
        ),
        (
            "openai/gpt-oss-20b",
            json!({"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}),
            TEXT,
            "lm mxfp4 -",
        ),
        (
            "org/mlx-mxfp4",
            json!({"model_type": "llama", "quantization": {"mode": "mxfp4", "bits": 4}}),
            TEXT,
            "lm mxfp4 -",
        ),
        (
            "org/full",
            json!({"model_type": "llama", "max_position_embeddings": 0, "n_ctx": 8192}),
            &[
                ("model.norm.weight", "F32", 1),
                ("model.q.weight", "BF16", 9),
            ],
            "lm bf16 8192",
        ),
        (
            "org/gemma-3-27b",
            json!({"model_type": "gemma3", "vision_config": {}, "quantization": four,
                   "text_config": {"max_position_embeddings": 131_072}}),
            seeing,
            "multimodal 4bit 131072",
        ),
        // Converted for text alone: the settings are there and the tensors are not.
        (
            "org/mistral-text",
            json!({"model_type": "mistral3", "vision_config": {}, "text_config": {}}),
            TEXT,
            "lm - -",
        ),
        (
            "org/bge",
            json!({"model_type": "xlm-roberta", "max_position_embeddings": 8194}),
            &[("embeddings.weight", "F16", 9)],
            "embeddings f16 8194",
        ),
        (
            "org/Qwen3-Embedding-0.6B",
            json!({"model_type": "qwen3"}),
            TEXT,
            "embeddings - -",
        ),
        (
            "org/whisper",
            json!({"n_mels": 128, "n_audio_ctx": 1500, "n_ctx": 448}),
            &[("decoder.weight", "F16", 9)],
            "whisper f16 -",
        ),
        // An npz file tells no types.
        (
            "org/named",
            json!({"torch_dtype": "bfloat16"}),
            TEXT,
            "lm bf16 -",
        ),
        ("org/fp8", json!({}), &[("w", "F8_E4M3", 9)], "lm fp8 -"),
    ] {
        assert_eq!(told(&config, tensors, name), expected, "{name}");
    }
}

#[test]
fn a_model_of_sentence_transformers_makes_vectors() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path(), &json!({"model_type": "qwen2"}), TEXT);
    assert_eq!(line(&read(folder.path(), "org/gte").unwrap()), "lm - -");
    write(&folder.path().join("modules.json"), "[]");
    let facts = read(folder.path(), "org/gte").unwrap();
    assert_eq!(line(&facts), "embeddings - -");
}

#[test]
fn a_model_that_draws_is_told_by_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bits = json!({"quantization_level": "8"});
    write(
        &at("transformer/0.safetensors"),
        safetensors(&[("w", "U32", 8)], bits),
    );
    assert_eq!(read(folder.path(), "org/flux"), None);
    write(
        &at("vae/0.safetensors"),
        safetensors(&[("w", "F32", 8)], Value::Null),
    );
    let told = |name| line(&read(folder.path(), name).unwrap());
    assert_eq!(told("org/flux-schnell"), "image-generation 8bit -");
    assert_eq!(told("org/FLUX.1-Kontext-dev"), "image-edit 8bit -");
    write(
        &at("model_index.json"),
        r#"{"_class_name": "QwenImageEditPipeline"}"#,
    );
    assert_eq!(told("org/qwen-image"), "image-edit 8bit -");
}

#[test]
fn a_model_counts_when_all_its_weights_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("config.json"), r#"{"model_type": "llama"}"#);
    assert_eq!(read(folder.path(), "org/a"), None, "no weights");
    let index = json!({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}});
    write(&at("model.safetensors.index.json"), index.to_string());
    write(&at("one.safetensors"), safetensors(TEXT, Value::Null));
    assert_eq!(read(folder.path(), "org/a"), None, "one of two files");
    // As in a cache whose blob has been deleted.
    symlink(at("gone"), at("two.safetensors")).unwrap();
    assert_eq!(read(folder.path(), "org/a"), None, "a dead link");
    write(&at("gone"), safetensors(TEXT, Value::Null));
    let found = ModelFiles::read(folder.path(), "org/a".into(), Origin::Folder).unwrap();
    let sizes = [at("one.safetensors"), at("gone")].map(|path| path.metadata().unwrap().len());
    assert_eq!(found.weights, sizes[0] + sizes[1]);
    assert!(found.bytes > found.weights);
}

#[test]
fn a_name_that_counts_files_means_all_of_them() {
    for (there, is_complete) in [
        (&["model-00001-of-00002.safetensors"][..], false),
        (&["model-00002-of-00002.safetensors"], false),
        (
            &[
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            ],
            true,
        ),
        (
            &["model-0-of-2.safetensors", "model-1-of-2.safetensors"],
            true,
        ),
        (&["model-00001-of-00001.safetensors"], true),
        (&["weights.00.safetensors"], true),
        (&["part-of-2.safetensors", "a-b-of-c.safetensors"], true),
        (&["model-1-of-4000000000.safetensors"], true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        model(folder.path(), &json!({"model_type": "llama"}), TEXT);
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        for name in there {
            write(&folder.path().join(name), safetensors(TEXT, json!({})));
        }
        assert_eq!(read(folder.path(), "a").is_some(), is_complete, "{there:?}");
    }
}

#[test]
fn foreign_files_are_read_without_trust() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (config, weights) in [
        ("[]", b"".to_vec()),
        ("{", b"\xff\xff\xff\xff\xff\xff\xff\xff{}".to_vec()),
        (
            r#"{"model_type": 3, "quantization": {"bits": "x"}}"#,
            b"\x02\0\0\0\0\0\0\0[]".to_vec(),
        ),
        (
            r#"{"model_type": "llama", "max_position_embeddings": -1}"#,
            b"\x7f\0\0\0\0\0\0\0{".to_vec(),
        ),
    ] {
        write(&at("config.json"), config);
        write(&at("model.safetensors"), weights);
        let facts = read(folder.path(), "org/odd");
        let quiet = facts
            .is_none_or(|facts| facts.quantisation.is_none() && facts.context_length.is_none());
        assert!(quiet, "{config}");
    }
}

/// A snapshot of a repository, with links to blobs as the libraries write them.
fn cached(cache: &Path, id: &str, revision: &str) -> PathBuf {
    let folder = cache.join(format!("models--{}", id.replace('/', "--")));
    let snapshot = folder.join("snapshots").join(revision);
    let blobs = folder.join("blobs");
    write(&blobs.join("c"), r#"{"model_type": "qwen3"}"#);
    write(&blobs.join("w"), safetensors(TEXT, Value::Null));
    std::fs::create_dir_all(&snapshot).unwrap();
    symlink("../../blobs/c", snapshot.join("config.json")).unwrap();
    symlink("../../blobs/w", snapshot.join("model.safetensors")).unwrap();
    write(&folder.join("refs/main"), revision);
    snapshot
}

#[test]
fn the_cache_lists_the_revision_of_main_of_complete_repositories() {
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join("hub");
    let whole = cached(&cache, "org/whole", "abc");
    // An old revision, of which all files are there, does not stand for a new one that is not.
    cached(&cache, "org/half", "old");
    let half = cache.join("models--org--half");
    write(&half.join("refs/main"), "new");
    write(&half.join("snapshots/new/config.json"), "{}");
    cached(&cache, "gpt2", "abc");
    write(&cache.join("datasets--org--text/refs/main"), "abc");
    write(&cache.join("models--org--empty/refs/main"), "abc");
    let places = Places {
        hugging_face: cache.clone(),
        lm_studio: None,
        folders: Vec::new(),
    };
    let found = found(&places);
    let ids: Vec<_> = found
        .iter()
        .map(|model| model.model_path.as_str())
        .collect();
    assert_eq!(ids, ["gpt2", "org/whole"]);
    assert_eq!(found[1].folder, whole);
    assert_eq!(found[1].origin, Origin::HuggingFace);
    assert_eq!(found[1].short_name(), "whole");
}

#[test]
fn the_cache_is_where_the_libraries_look() {
    let cache = |set: &[(&str, &str)]| {
        let environment = |name: &str| {
            let mut set = set.iter();
            set.find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        hugging_face::cache(&environment).display().to_string()
    };
    let home = ("HOME", "/home/a");
    assert_eq!(cache(&[home]), "/home/a/.cache/huggingface/hub");
    let xdg = ("XDG_CACHE_HOME", "/caches");
    assert_eq!(cache(&[home, xdg]), "/caches/huggingface/hub");
    let hf_home = ("HF_HOME", "~/hf");
    assert_eq!(cache(&[home, xdg, hf_home]), "/home/a/hf/hub");
    let hub = ("HF_HUB_CACHE", "/models");
    assert_eq!(cache(&[home, xdg, hf_home, hub]), "/models");
    assert_eq!(
        cache(&[
            home,
            ("HF_HUB_CACHE", ""),
            ("HUGGINGFACE_HUB_CACHE", "/old")
        ]),
        "/old"
    );
}

#[test]
fn the_files_of_an_entry_are_those_that_its_worker_uses() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let ours = cached(&at("ours"), "org/a", "abc");
    let its_own = cached(&at("its"), "org/a", "def");
    std::fs::create_dir_all(at("folder")).unwrap();
    let text = format!(
        "models:\n\
         - {{name: a, model_path: org/a}}\n\
         - {{name: own, model_path: org/a, env: {{HF_HUB_CACHE: {0}/its}}}}\n\
         - {{name: none, model_path: org/none}}\n\
         - {{name: folder, model_path: {0}/folder}}\n\
         - {{name: gone, model_path: {0}/gone}}\n\
         - {{name: odd, model_path: 'a/b/c'}}\n\
         - {{name: up, model_path: '-/..'}}\n",
        home.path().display()
    );
    let config = Config::parse(&at("hub.yaml"), &text).unwrap();
    let environment = |name: &str| (name == "HF_HUB_CACHE").then(|| OsString::from(at("ours")));
    let folder = |name: &str| folder_in(config.model(name).unwrap(), &environment);
    assert_eq!(folder("a"), Some(ours));
    assert_eq!(folder("own"), Some(its_own));
    assert_eq!(folder("folder"), Some(at("folder")));
    for name in ["none", "gone", "odd", "up"] {
        assert_eq!(folder(name), None, "{name}");
    }
}

#[test]
fn lm_studios_folder_is_the_one_of_its_settings() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let folder = || {
        let environment = |name: &str| (name == "HOME").then(|| home.path().as_os_str().to_owned());
        lm_studio::folder(&environment)
    };
    assert_eq!(folder(), None);
    std::fs::create_dir_all(at(".cache/lm-studio/models")).unwrap();
    assert_eq!(folder(), Some(at(".cache/lm-studio/models")));
    std::fs::create_dir_all(at(".lmstudio/models")).unwrap();
    assert_eq!(folder(), Some(at(".lmstudio/models")));
    std::fs::create_dir_all(at("elsewhere/models")).unwrap();
    write(
        &at(".lmstudio-home-pointer"),
        at("elsewhere").display().to_string(),
    );
    assert_eq!(folder(), Some(at("elsewhere/models")));
    std::fs::create_dir_all(at("big disk")).unwrap();
    write(
        &at("elsewhere/settings.json"),
        r#"{"downloadsFolder": "~/big disk"}"#,
    );
    assert_eq!(folder(), Some(at("big disk")));
    write(
        &at("elsewhere/settings.json"),
        r#"{"downloadsFolder": "/unmounted"}"#,
    );
    assert_eq!(folder(), Some(at("elsewhere/models")));
}

#[test]
fn folders_are_searched_below_and_a_model_is_listed_once() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    model(&at("lm/publisher/b"), &json!({"model_type": "llama"}), TEXT);
    write(&at("lm/publisher/gguf/model.gguf"), "GGUF");
    model(&at("own/a"), &json!({"model_type": "llama"}), TEXT);
    model(&at("own/a/nested"), &json!({"model_type": "llama"}), TEXT);
    model(&at("own/1/2/3/4"), &json!({"model_type": "llama"}), TEXT);
    symlink(at("lm/publisher/b"), at("own/link")).unwrap();
    let places = Places {
        hugging_face: at("none"),
        lm_studio: Some(at("lm")),
        folders: vec![at("own"), at("own/a"), at("gone")],
    };
    let found = found(&places);
    let paths = found.iter().map(|model| {
        let path = model.folder.strip_prefix(home.path()).unwrap();
        (path.to_str().unwrap(), model.origin)
    });
    let paths: Vec<_> = paths.collect();
    assert_eq!(
        paths,
        [
            ("lm/publisher/b", Origin::LmStudio),
            ("own/a", Origin::Folder)
        ]
    );
    assert_eq!(found[1].model_path, at("own/a").display().to_string());
}
