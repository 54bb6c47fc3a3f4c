//! The word that a mistyped one was meant to be.

/// The candidate that `word` was probably meant to be.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    /// Two words less alike than this have little in common; found by trying (`prt`/`port` is 0.93).
    const ALIKE: f64 = 0.8;
    /// Bounds for names from a hostile file; no key is that long.
    const MAX_WORD_BYTES: usize = 64;
    const MAX_CANDIDATES: usize = 200;
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len() <= MAX_WORD_BYTES)
        .map(|candidate| {
            let alike = strsim::jaro_winkler(&word, &candidate.to_lowercase());
            (alike, candidate)
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
