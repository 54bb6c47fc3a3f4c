//! The names that clients ask for, as `init` suggests them: a block of hub.yaml in comments, for the policy `alias`.

use crate::config::edit::EntryValue;

const NAMES: &str =
    "# Names for models, whole ones or with `*`, and a model for requests that name none.";

/// The block for these models, which answer chats, the largest first; nothing for none. With `has_policies` the
/// line `policies` stands above it.
pub(super) fn block(models: &[&str], has_policies: bool) -> String {
    let (Some(large), Some(small)) = (models.first(), models.last()) else {
        return String::new();
    };
    let [large, small] =
        [large, small].map(|name| EntryValue::Text((*name).to_owned()).to_string());
    let best = match large == small {
        true => large.clone(),
        false => format!("[{large}, {small}]"),
    };
    let head = match has_policies {
        true => format!(
            "{NAMES} With `alias` among the\n\
             # policies above and this block, Claude Code needs nothing but the hub's URL.\n"
        ),
        false => format!(
            "{NAMES} With these lines,\n\
             # Claude Code needs nothing but the hub's URL.\n\
             # policies: [alias]\n"
        ),
    };
    format!(
        "\n{head}\
         # policy:\n\
         #   alias:\n\
         #     names:\n\
         #       best: {best}\n\
         #       \"claude-*haiku*\": {small}\n\
         #       \"claude-*\": {large}\n\
         #       \"gpt-*\": {large}\n\
         #     default: {small}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_has_the_block() {
        let example = include_str!("../../examples/hub.yaml");
        let block = block(&["qwen3-coder-30b", "qwen3-4b"], true);
        assert!(example.contains(&block), "{block}");
    }

    #[test]
    fn names_are_written_as_yaml() {
        let block = block(&["7"], false);
        assert!(
            block.contains("best: \"7\"\n") && block.ends_with("default: \"7\"\n"),
            "{block}"
        );
        assert_eq!(super::block(&[], true), "");
    }
}
