//! The hint for a model's name that the hub does not know.

use super::render::Out;
use crate::api::Status;
use crate::api::nearest;

/// Names in a hint.
pub(super) const MAX_NAMES: usize = 10;

/// Warns of each of these names that the hub does not know.
pub(super) fn warn_of_unknown(status: &Status, names: &[String], out: &mut Out) {
    for name in names.iter().map(|name| name.trim()) {
        if let Some(hint) = unknown(status, name) {
            out.warn(format_args!(
                "{name}: the hub has no such model\nhint: {hint}"
            ));
        }
    }
}

/// A hint for a name that is not among the hub's: the nearest one or all, and whether hub.yaml has been
/// edited since. `None` for a known name.
pub(super) fn unknown(status: &Status, name: &str) -> Option<String> {
    let names: Vec<&str> = status
        .models
        .iter()
        .map(|model| model.id.as_str())
        .collect();
    if names.contains(&name) {
        return None;
    }
    let edited = status.edited();
    let hint = match nearest(name, names.iter().copied()) {
        _ if edited.is_some_and(|edited| edited.contains(name)) => String::new(),
        Some(near) => format!("did you mean `{near}`?"),
        None if names.len() > MAX_NAMES => format!(
            "there are: {} and {} more",
            names[..MAX_NAMES].join(", "),
            names.len() - MAX_NAMES
        ),
        None => format!("there are: {}", names.join(", ")),
    };
    let parts = [
        Some(hint).filter(|hint| !hint.is_empty()),
        edited.map(str::to_owned),
    ];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
}
