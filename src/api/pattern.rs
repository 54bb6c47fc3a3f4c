//! Names with `*`, of which policies and keys of API keys have some.

/// Stands for any characters of a name, or for none.
pub(crate) const ANY: char = '*';

/// True if `name` is what is left of `pattern` when something, or nothing, stands for each `*`.
pub(crate) fn looks_like(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split(ANY);
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    // The first place leaves the most for those that follow.
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
