//! `POST /v1/messages/count_tokens` of Anthropic's API and `/v1/responses/input_tokens` of OpenAI's: by the model's own
//! tokenizer if its file is on this disk, else an estimate. Of a name that a policy answers for, the model that it
//! declares counts. It loads no model and asks no policy.

use http::Response;
use tokio::task::spawn_blocking;

use super::Gateway;
use super::answer::body::Body;
use super::protocol::{Door, counted, to_count};
use super::request::intake::Intake;
use super::translated::{compute, whole_body};
use crate::api::ApiError;
use crate::core::refusals::not_for_key;
use crate::model_files;
use crate::policy::RequestView;

/// Bodies above this length, in bytes, are estimated: 100 kB take a tokenizer 30 to 170 ms.
const MOST: usize = 4 * 1024 * 1024;

impl Gateway {
    pub(super) async fn count_tokens(
        &self,
        door: Door,
        mut view: Box<RequestView>,
        intake: &mut Intake,
    ) -> Result<Response<Body>, ApiError> {
        let body = whole_body(&mut view.parts, intake).await?;
        let length = body.len();
        let kept = self.remembered.kept.of(view.key());
        let (model, tokens) = compute(length, move || to_count(door, &body, &kept)).await?;
        if let Some(key) = view.key()
            && let Some(found) = self.lifecycle.find(&model)
            && !key.lets_use(&found.name)
        {
            return Err(not_for_key(key, &found.name));
        }
        let exact = match length {
            ..=MOST => self.tokens_of(&model, &tokens.texts).await,
            _ => None,
        };
        let tokens = match exact {
            Some(texts) => tokens.with(texts),
            None => compute(length, move || tokens.estimate()).await,
        };
        Ok(counted(door, tokens))
    }

    /// The tokens of texts by that model's tokenizer, if it is there.
    async fn tokens_of(&self, model: &str, texts: &[String]) -> Option<usize> {
        let model = match self.lifecycle.find(model) {
            Some(model) => model,
            None => {
                let declared = self.policies.declared_for(model)?;
                self.lifecycle.find(declared.model.as_deref()?)?
            }
        };
        let config = self.lifecycle.config();
        let folder = spawn_blocking(move || model_files::folder_of(config.model(&model.name)?));
        let file = folder.await.ok()??.join("tokenizer.json");
        self.tokenizers.count(&file, texts).await
    }
}
