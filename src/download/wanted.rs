//! Chooses the files of a repository that a worker reads: weights, configurations, tokenizers and templates.

/// Endings of files with weights.
const WEIGHTS: [&str; 2] = [".safetensors", ".npz"];
/// Endings of the others. Code in Python comes with some architectures.
const OTHERS: [&str; 9] = [
    ".json",
    ".jsonl",
    ".jinja",
    ".txt",
    ".py",
    ".model",
    ".tiktoken",
    ".bpe",
    ".vocab",
];

pub(super) fn is_weights(path: &str) -> bool {
    WEIGHTS.iter().any(|ending| path.ends_with(ending))
}

pub(super) fn is_wanted(path: &str) -> bool {
    is_weights(path) || OTHERS.iter().any(|ending| path.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_reads_is_wanted_and_nothing_else() {
        for path in [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.model",
            "chat_template.jinja",
            "merges.txt",
            "weights.npz",
            "transformer/0.safetensors",
            "modeling_custom.py",
        ] {
            assert!(is_wanted(path), "{path}");
        }
        for path in [
            "README.md",
            ".gitattributes",
            "model.gguf",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "picture.png",
        ] {
            assert!(!is_wanted(path), "{path}");
        }
    }
}
