//! The policies that come with the program: the files of `scripts/`, built in.
//!
//! Nothing in Rust depends on any of them. Without `scripts/create_hub.lua` the program builds and
//! runs, and has no default policy.

/// Name and source of one bundled policy.
pub(super) type Script = (&'static str, &'static str);

/// All of them, by name.
pub(super) const SCRIPTS: &[Script] = include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// Prefix of the names of bundled policies, to tell them from the user's files.
pub(super) const FOLDER: &str = "bundled/";

/// The policy that is always on, after all others.
pub(super) const DEFAULT: &str = "create_hub";

/// The source of a bundled policy.
pub(super) fn source(name: &str) -> Option<&'static str> {
    let found = SCRIPTS.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// The policies to load, in their order: those in `wanted`, then the default. The second list has a sentence
/// for each unknown name.
pub(super) fn choose(scripts: &[Script], wanted: &[String]) -> (Vec<Script>, Vec<String>) {
    let mut chosen = Vec::new();
    let mut unknown = Vec::new();
    let names = wanted.iter().map(String::as_str);
    for name in names.filter(|name| *name != DEFAULT) {
        match scripts.iter().find(|(known, _)| *known == name) {
            Some(script) if chosen.contains(script) => {}
            Some(script) => chosen.push(*script),
            None => unknown.push(unknown_name(scripts, name)),
        }
    }
    chosen.extend(scripts.iter().find(|(known, _)| *known == DEFAULT));
    (chosen, unknown)
}

fn unknown_name(scripts: &[Script], name: &str) -> String {
    let known = scripts
        .iter()
        .map(|(name, _)| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known
    };
    format!(
        "`policies` in hub.yaml names `{name}`, which no bundled policy is called; there are: {known}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_comes_last_and_nothing_stands_in_for_it() {
        let (other, default) = (("other", ""), (DEFAULT, ""));
        let wanted = ["other".to_owned()];
        assert_eq!(choose(&[default, other], &wanted).0, [other, default]);
        assert_eq!(choose(&[default], &[]).0, [default]);
        assert_eq!(choose(&[other], &wanted).0, [other]);
        assert_eq!(choose(&[], &[]).0, []);
    }
}
