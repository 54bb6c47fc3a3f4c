//! Chooses the model that a client gets.

use crate::api::Status;
use crate::cli::client::Client;
use crate::cli::unknown::{MAX_NAMES, unknown};

/// The model that `wanted` names, or the one to take if it names none.
///
/// # Errors
/// When neither the hub has it nor a policy answers for it; when none is to be taken.
pub(super) async fn model(
    status: &Status,
    wanted: Option<&str>,
    hub: &Client,
) -> anyhow::Result<String> {
    let of_models = of_models(status, wanted);
    match wanted {
        Some(wanted) if of_models.is_err() && hub.answers_for(wanted).await => {
            Ok(wanted.to_owned())
        }
        _ => of_models,
    }
}

/// The same of the models of hub.yaml alone.
pub(super) fn of_models(status: &Status, wanted: Option<&str>) -> anyhow::Result<String> {
    if let Some(wanted) = wanted {
        return match unknown(status, wanted) {
            None => Ok(wanted.to_owned()),
            Some(hint) => anyhow::bail!("the hub has no model `{wanted}`\nhint: {hint}"),
        };
    }
    if let Some(model) = status.chat_model() {
        return Ok(model.id.clone());
    }
    let models = status.models.iter().filter(|model| model.chats());
    let names: Vec<&str> = models.map(|model| model.id.as_str()).collect();
    if names.is_empty() {
        anyhow::bail!("hub.yaml has no model for chats");
    }
    let more = match names.len().saturating_sub(MAX_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names = names[..names.len().min(MAX_NAMES)].join(", ");
    anyhow::bail!(
        "no model is in memory, and none starts with the hub\n\
         hint: name one with `--model`: {names}{more}"
    )
}

/// # Errors
/// When it is a model of the hub that takes no requests.
pub(super) fn takes_requests(status: &Status, name: &str) -> anyhow::Result<()> {
    let Some(model) = status.models.iter().find(|model| model.id == name) else {
        return Ok(());
    };
    let facts = &model.metadata.facts;
    if facts.is_started() {
        return Ok(());
    }
    let state = facts.process_state.as_str();
    let reason = match &facts.memory_last_error {
        Some(reason) => format!(": {reason}"),
        None => String::new(),
    };
    anyhow::bail!(
        "model `{name}` is not started ({state}){reason}\n\
         hint: `mlx-openai-server-hub start-model {name}`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::inactive;
    use crate::config::from_yaml;

    #[test]
    fn without_one_to_take_the_names_are_told() {
        let told = |models| {
            let status = inactive(&from_yaml(models));
            of_models(&status, None).unwrap_err().to_string()
        };
        insta::assert_snapshot!(told("models:
- {name: a, model_path: org/a}
- {name: b, model_path: org/b, model_type: embeddings, default: true}
- {name: c, model_path: org/c, model_type: multimodal}
"), @r"
        no model is in memory, and none starts with the hub
        hint: name one with `--model`: a, c
        ");
        let only = "models: [{name: b, model_path: org/b, model_type: whisper, default: true}]\n";
        assert_eq!(told(only), "hub.yaml has no model for chats");
    }
}
