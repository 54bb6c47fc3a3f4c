//! The inputs that the fuzzers keep in `fuzz/corpus`, for the tests beside the code that replay them.

use std::path::Path;

/// Gives every input of `target` to `promise`, which panics when it is broken.
pub(crate) fn replay(target: &str, promise: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let inputs = std::fs::read_dir(&folder).unwrap();
    let inputs: Vec<_> = inputs.map(|input| input.unwrap().path()).collect();
    assert!(!inputs.is_empty(), "no inputs in {}", folder.display());
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        let kept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| promise(&bytes)));
        assert!(kept.is_ok(), "broken by {}", input.display());
    }
}
