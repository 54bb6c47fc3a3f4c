//! The lists of models, in the form of the API that the client speaks.

use http::Response;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::answer::body::Body;
use super::catalogue::CatalogueEntry;
use super::protocol::openai::models;
use super::protocol::{Protocol, anthropic, lm_studio, openai};
use super::{Gateway, refusals};
use crate::api::ApiError;
use crate::policy::RequestView;

impl Gateway {
    /// `GET /v1/models`.
    ///
    /// # Errors
    /// 400 for a page that there is not.
    pub(super) async fn models(
        &self,
        protocol: &Protocol,
        view: &RequestView,
    ) -> Result<Response<Body>, ApiError> {
        let mut entries = self.catalogue.all(view.key()).await;
        if protocol.is_anthropic() {
            let query = view.parts.uri.query();
            return anthropic::models::page(&entries, query).map(|page| openai::json(&page));
        }
        self.catalogue.look_at_status(&mut entries).await;
        Ok(openai::json(&models::list(&entries)))
    }

    /// `GET /v1/models/{id}`, by the percent-encoded name or path.
    ///
    /// # Errors
    /// 404 for a model that there is not, or that takes no requests; 403 for one that is not for the client's key.
    pub(super) async fn model(
        &self,
        protocol: &Protocol,
        id: &str,
        view: &RequestView,
    ) -> Result<Response<Body>, ApiError> {
        let mut entry = self.entry(id, view).await?;
        if !entry.takes_requests() {
            return Err(refusals::not_listed(&entry.id));
        }
        if protocol.is_anthropic() {
            return Ok(openai::json(&anthropic::models::one(&entry)));
        }
        let entries = std::slice::from_mut(&mut entry);
        self.catalogue.look_at_status(entries).await;
        let shown: Value = models::one(&entry);
        Ok(openai::json(&shown))
    }

    /// LM Studio's list, or a model of it, whether it is started or not.
    ///
    /// # Errors
    /// 404 for a model that there is not, 403 for one that is not for the client's key.
    pub(super) async fn lm_studio(
        &self,
        route: lm_studio::Route<'_>,
        view: &RequestView,
    ) -> Result<Response<Body>, ApiError> {
        let shown = match route {
            lm_studio::Route::Model(id) => lm_studio::one(&self.entry(id, view).await?),
            _ => lm_studio::list(&self.catalogue.all(view.key()).await),
        };
        Ok(openai::json(&shown))
    }

    /// The entry of a percent-encoded name or path.
    ///
    /// # Errors
    /// 404 when there is none, 403 when it is not for the client's key.
    async fn entry(&self, id: &str, view: &RequestView) -> Result<CatalogueEntry, ApiError> {
        let id = percent_decode_str(id).decode_utf8_lossy();
        self.catalogue.one(&id, view.key()).await
    }
}
