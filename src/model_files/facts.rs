//! The facts that a model's own files tell: its type, quantisation and context length.

use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::weights::{Header, Weights};
use crate::config::ModelType;
use crate::files;

/// The facts about a model that its files tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Its type, in the worker's words.
    #[serde(serialize_with = "word")]
    pub model_type: ModelType,
    /// `model_type` of its `config.json`: `qwen3_moe`; `None` for an image model.
    pub architecture: Option<String>,
    /// `4bit`, `4-6bit`, `mxfp4`, `bf16`, …; `None` if nothing tells.
    pub quantisation: Option<String>,
    /// The context length in tokens that it was made for; `None` for types that have none, or if nothing
    /// tells.
    pub context_length: Option<u64>,
}

/// Keys of `config.json` whose value is the settings of the part that reads text.
const TEXT_PARTS: [&str; 4] = [
    "text_config",
    "llm_config",
    "language_config",
    "thinker_config",
];
/// Keys of `config.json` for the context length, the usual one first.
const CONTEXT_KEYS: [&str; 6] = [
    "max_position_embeddings",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
    "n_positions",
    "n_ctx",
];
/// Architectures that turn texts into vectors and do nothing else.
const ENCODERS: [&str; 9] = [
    "bert",
    "xlm-roberta",
    "roberta",
    "modernbert",
    "mpnet",
    "nomic_bert",
    "distilbert",
    "new",
    "gemma3_text_embedding",
];
/// Parts of tensors' names in models that see or hear.
const SENSES: [&str; 5] = ["vision", "visual", "audio", "image_", "patch_embed"];
/// Files that sentence-transformers writes beside a model.
const OF_SENTENCE_TRANSFORMERS: [&str; 2] = ["modules.json", "config_sentence_transformers.json"];

impl Facts {
    /// Reads them; `None` for a folder that is no model of a type that a worker serves.
    pub(super) fn read(folder: &Path, model_path: &str, weights: &Weights) -> Option<Self> {
        let Some(config) = json(&folder.join("config.json")) else {
            return Self::of_images(folder, model_path, weights);
        };
        let headers: Vec<Header> = weights.headers().collect();
        let model_type = model_type(folder, model_path, &config, &headers);
        let has_context = !matches!(model_type, ModelType::Whisper);
        Some(Self {
            model_type,
            architecture: text(&config, "model_type"),
            quantisation: quantisation(&config)
                .or_else(|| stored_as(&headers))
                .or_else(|| dtype(&config)),
            context_length: context_length(&config).filter(|_| has_context),
        })
    }

    /// Those of a model that draws, which has a folder per part.
    fn of_images(folder: &Path, model_path: &str, weights: &Weights) -> Option<Self> {
        let has = |part: &str| folder.join(part).is_dir();
        if !(has("transformer") && has("vae")) {
            return None;
        }
        let index = json(&folder.join("model_index.json")).unwrap_or_default();
        let class = text(&index, "_class_name").unwrap_or_default();
        let edits = [class.as_str(), model_path].iter().any(|name| {
            let name = name.to_lowercase();
            name.contains("kontext") || name.contains("edit")
        });
        let headers: Vec<Header> = weights.headers().collect();
        // mflux notes the bits in the header.
        let level = headers.iter().find_map(|header| {
            let level = header.metadata.get("quantization_level")?;
            level.parse::<u8>().ok().map(|bits| format!("{bits}bit"))
        });
        Some(Self {
            model_type: match edits {
                true => ModelType::ImageEdit,
                false => ModelType::ImageGeneration,
            },
            architecture: None,
            quantisation: level.or_else(|| stored_as(&headers)),
            context_length: None,
        })
    }
}

/// The JSON object in a file.
pub(super) fn json(path: &Path) -> Option<Value> {
    let value: Value = serde_json::from_slice(&files::read(path).ok()?).ok()?;
    value.is_object().then_some(value)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn word<S: Serializer>(model_type: &ModelType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(model_type.as_str())
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn model_type(folder: &Path, model_path: &str, config: &Value, headers: &[Header]) -> ModelType {
    let architecture = text(config, "model_type").unwrap_or_default();
    // Whisper models for MLX keep OpenAI's own names, and no architecture.
    let is_whispers = config.get("n_mels").is_some() && config.get("n_audio_ctx").is_some();
    if architecture == "whisper" || is_whispers {
        return ModelType::Whisper;
    }
    let has = |name: &str| folder.join(name).is_file();
    let name = model_path.trim_end_matches('/').rsplit('/').next();
    if ENCODERS.contains(&architecture.as_str())
        || OF_SENTENCE_TRANSFORMERS.iter().any(|name| has(name))
        || name.is_some_and(|name| name.to_lowercase().contains("embed"))
    {
        return ModelType::Embeddings;
    }
    // A model that was converted for text alone keeps the settings of its other parts, without their tensors.
    let is_set_up = [
        "vision_config",
        "audio_config",
        "vision_tower",
        "mm_vision_tower",
    ]
    .iter()
    .any(|key| config.get(key).is_some_and(|value| !value.is_null()));
    let mut tensors = headers.iter().flat_map(|header| &header.tensors);
    let senses = |name: &String| SENSES.iter().any(|part| name.contains(part));
    match is_set_up && (headers.is_empty() || tensors.any(senses)) {
        true => ModelType::Multimodal,
        false => ModelType::Lm,
    }
}

pub(super) fn context_length(config: &Value) -> Option<u64> {
    let parts = TEXT_PARTS.iter().filter_map(|part| config.get(part));
    let parts: Vec<&Value> = std::iter::once(config).chain(parts).collect();
    let lengths = CONTEXT_KEYS.iter().flat_map(|key| {
        let values = parts.iter().filter_map(move |part| part.get(key)?.as_u64());
        values.filter(|tokens| *tokens > 0)
    });
    lengths.into_iter().next()
}

/// As `config.json` tells it: MLX writes `quantization`, others `quantization_config`.
fn quantisation(config: &Value) -> Option<String> {
    let parts = TEXT_PARTS.iter().filter_map(|part| config.get(part));
    let mut parts = std::iter::once(config).chain(parts);
    parts.find_map(|part| {
        let settings = part.get("quantization");
        let settings = settings.or_else(|| part.get("quantization_config"))?;
        if let Some(mode) = text(settings, "mode").filter(|mode| mode != "affine") {
            return Some(mode);
        }
        let bits = |value: &Value| value.get("bits")?.as_u64();
        let Some(usual) = bits(settings) else {
            return text(settings, "quant_method");
        };
        // Settings of single layers are nested.
        let layers = settings.as_object()?.values().filter_map(bits);
        let (low, high) = layers.fold((usual, usual), |(low, high), bits| {
            (low.min(bits), high.max(bits))
        });
        Some(match low == high {
            true => format!("{usual}bit"),
            false => format!("{low}-{high}bit"),
        })
    })
}

/// The type that `config.json` gives, for weights without a readable header.
fn dtype(config: &Value) -> Option<String> {
    let dtype = text(config, "dtype").or_else(|| text(config, "torch_dtype"))?;
    let short = match dtype.as_str() {
        "bfloat16" => "bf16",
        "float16" => "f16",
        "float32" => "f32",
        _ => return None,
    };
    Some(short.to_owned())
}

/// The type in which most of the weights are stored.
fn stored_as(headers: &[Header]) -> Option<String> {
    let dtype = headers.iter().find_map(|header| header.dtype.as_deref())?;
    Some(match dtype {
        "F8_E4M3" | "F8_E5M2" => "fp8".to_owned(),
        "BF16" | "F16" | "F32" => dtype.to_lowercase(),
        // Packed bits, of which `config.json` tells nothing.
        _ => return None,
    })
}
