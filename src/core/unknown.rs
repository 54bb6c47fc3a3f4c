//! The refusal of an unknown model's name: it gives the nearest name, and the existing ones.
//!
//! Names are case-sensitive and nothing is cut off them. What other programs make of a name, a tag at
//! its end as Ollama's clients write it or a provider before it, is understood well enough to say which
//! model was meant, and no more.

use http::StatusCode;

use crate::api::{ApiError, nearest, shown};

/// Number of names in a refusal.
const TOLD: usize = 10;

/// A model as requests may name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) name: &'a str,
    /// Empty where only names count.
    pub(crate) path: &'a str,
}

/// 404: none of the `known` models is called that. The client may have meant one of them, or a name that policies
/// `declared`; `hint` says where the names are.
pub(crate) fn unknown_model(
    written: &str,
    known: &[Known<'_>],
    declared: &[String],
    hint: &str,
) -> ApiError {
    let names: Vec<&str> = known.iter().map(|model| model.name).collect();
    let (written_shown, has) = (shown(written), listed(&names));
    let declared = declared.iter().map(|name| Known { name, path: "" });
    let candidates: Vec<Known<'_>> = known.iter().copied().chain(declared).collect();
    let meant = meant(written, &candidates)
        .map(|name| format!("Did you mean `{name}`? "))
        .unwrap_or_default();
    let message = format!(
        "The model `{written_shown}` does not exist in this hub, which has {has}. {meant}{hint}"
    );
    ApiError::new(StatusCode::NOT_FOUND, message)
        .with_code("model_not_found")
        .with_param("model")
}

/// The model that was probably meant.
fn meant<'a>(written: &str, known: &[Known<'a>]) -> Option<&'a str> {
    let written = written.trim();
    let whole = [written, without_tag(written)];
    let (mut parts, mut rest) = (Vec::from(whole), written);
    while let Some((_, behind)) = rest.split_once('/') {
        parts.extend([behind, without_tag(behind)]);
        rest = behind;
    }
    let is = |part: &str| {
        let is_it = |key: &str| key.eq_ignore_ascii_case(part);
        known
            .iter()
            .find(|model| is_it(model.name) || is_it(model.path))
    };
    if let Some(model) = parts.iter().find_map(|part| is(part)) {
        return Some(model.name);
    }
    let names = known.iter().map(|model| model.name);
    nearest(without_tag(rest), names)
}

/// `name:tag` without its tag.
fn without_tag(written: &str) -> &str {
    let name = written.rsplit('/').next().unwrap_or(written);
    name.find(':')
        .map_or(written, |at| &written[..written.len() - name.len() + at])
}

/// `` `a`, `b` and `c` ``.
fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(TOLD);
    let mut told: Vec<String> = names
        .iter()
        .take(TOLD)
        .map(|name| format!("`{name}`"))
        .collect();
    if more > 0 {
        told.push(format!("{more} more"));
    }
    match told.pop() {
        None => "no models".to_owned(),
        Some(last) if told.is_empty() => last,
        Some(last) => format!("{} and {last}", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known<'a>(models: &[(&'a str, &'a str)]) -> Vec<Known<'a>> {
        let known = models.iter().map(|&(name, path)| Known { name, path });
        known.collect()
    }

    #[test]
    fn the_model_that_was_meant_is_told_apart_from_others() {
        let models = known(&[
            ("qwen3-coder-30b", "mlx-community/Qwen3-Coder-30B-4bit"),
            ("gemma3-27b", "/models/gemma"),
            ("gemma3-4b", "org/gemma:small"),
        ]);
        for (written, name) in [
            ("Qwen3-Coder-30B", Some("qwen3-coder-30b")),
            (" qwen3-coder-30b ", Some("qwen3-coder-30b")),
            ("qwen3-coder-30b:latest", Some("qwen3-coder-30b")),
            ("Gemma3-4B:q4_K_M", Some("gemma3-4b")),
            ("openai/qwen3-coder-30b", Some("qwen3-coder-30b")),
            ("litellm/openai/gemma3-27b:latest", Some("gemma3-27b")),
            (
                "openai/mlx-community/qwen3-coder-30b-4bit",
                Some("qwen3-coder-30b"),
            ),
            ("Org/Gemma:small", Some("gemma3-4b")),
            ("qwen3-coder", Some("qwen3-coder-30b")),
            ("openai/gema3-27b", Some("gemma3-27b")),
            ("gpt-4o", None),
            ("/", None),
            (":", None),
            ("", None),
        ] {
            assert_eq!(meant(written, &models), name, "{written}");
        }
    }

    #[test]
    fn a_name_that_policies_answer_for_may_be_meant_too() {
        let models = known(&[("alpha", "org/alpha")]);
        let declared = ["coder".to_owned()];
        let told = |written| unknown_model(written, &models, &declared, "").message;
        insta::assert_snapshot!(told("codr"), @"The model `codr` does not exist in this hub, which has `alpha`. Did you mean `coder`? ");
        insta::assert_snapshot!(told("Coder:latest"), @"The model `Coder:latest` does not exist in this hub, which has `alpha`. Did you mean `coder`? ");
    }

    #[test]
    fn ten_names_are_told_at_most() {
        let names: Vec<String> = (1..=12).map(|number| format!("m{number}")).collect();
        let of = |count: usize| {
            let names: Vec<&str> = names[..count].iter().map(String::as_str).collect();
            listed(&names)
        };
        let texts = [0, 1, 2, 10, 12].map(of);
        insta::assert_snapshot!(texts.join("\n"), @"
        no models
        `m1`
        `m1` and `m2`
        `m1`, `m2`, `m3`, `m4`, `m5`, `m6`, `m7`, `m8`, `m9` and `m10`
        `m1`, `m2`, `m3`, `m4`, `m5`, `m6`, `m7`, `m8`, `m9`, `m10` and 2 more
        ");
    }

    #[test]
    fn what_was_written_is_told_with_what_was_meant() {
        let models = known(&[("alpha", "org/alpha"), ("beta", "org/beta")]);
        let texts = ["Alpha", "gpt-4o", "a\u{1b}[31m\n"]
            .map(|written| unknown_model(written, &models, &[], "Call /v1/models.").message);
        insta::assert_snapshot!(texts.join("\n"), @r"
        The model `Alpha` does not exist in this hub, which has `alpha` and `beta`. Did you mean `alpha`? Call /v1/models.
        The model `gpt-4o` does not exist in this hub, which has `alpha` and `beta`. Call /v1/models.
        The model `a\u{1b}[31m\n` does not exist in this hub, which has `alpha` and `beta`. Call /v1/models.
        ");
        let long = unknown_model(&"x".repeat(1 << 20), &models, &[], "");
        assert!(long.message.len() < 400, "{long}");
    }
}
