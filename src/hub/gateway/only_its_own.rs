//! Keeps a worker at the model that was loaded into it: some programs load whatever a request names.
//!
//! The engine of such a program says which fields of a body do that. A request with one of them is refused before
//! anything is loaded; so is one that cannot be read, since the program might read it. Requests for other engines are
//! not looked at.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use memchr::memmem;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::naming::fields_without_model;
use super::request::intake::{Intake, explain};
use super::request::rewrite::ModelSite;
use super::request::scan::json::MARK;
use super::request::scan::{Syntax, is_form, names_of_form};
use super::translated::compute;
use super::{content_type, refusals, upgrade};
use crate::api::ApiError;
use crate::hub::lifecycle::Refuses;

/// A request for a worker whose engine refuses some.
pub(super) struct Asked<'a> {
    pub(super) parts: &'a Parts,
    /// The place in which the client wrote the model.
    pub(super) site: &'a ModelSite,
    /// The body's fields, if it is sent as they say. Afterwards they are there for every JSON body whose model is
    /// written elsewhere.
    pub(super) fields: &'a mut Option<Box<Map<String, Value>>>,
    /// The client's body, if the request is translated.
    pub(super) sent: Option<Bytes>,
}

impl Asked<'_> {
    /// Looks at all of it.
    ///
    /// # Errors
    /// 400 for what the worker would load something for, and for what cannot be read; 415 for a coded body.
    pub(super) async fn check(
        self,
        refuses: &Refuses,
        model: &str,
        intake: &mut Intake,
    ) -> Result<(), ApiError> {
        let Refuses { engine, fields } = refuses;
        if upgrade::is_wanted(&self.parts.headers) {
            return Err(refusals::no_websocket_for_engine(model, engine));
        }
        if self.parts.headers.contains_key(CONTENT_ENCODING) {
            return Err(refusals::coded_for_engine(model, engine));
        }
        let kind = content_type(self.parts);
        let refused = |field: &str| refusals::refused_field(model, engine, field);
        let body = intake.collect().await?;
        let is_form = kind.is_some_and(is_form);
        let is_json = match self.site {
            ModelSite::Body(_, syntax) => *syntax == Syntax::Json,
            ModelSite::Path | ModelSite::Query | ModelSite::Nowhere => !is_form,
        };
        if body.is_empty() {
            return Ok(());
        }
        if !is_json {
            let names = kind.and_then(|kind| names_of_form(kind, &body));
            let names = names.ok_or_else(|| refusals::unreadable_for_engine(model, engine))?;
            let found = fields.iter().find(|field| names.contains(field));
            return found.map_or(Ok(()), |field| Err(refused(field)));
        }
        if self.fields.is_none() && !matches!(self.site, ModelSite::Body(..)) {
            *self.fields = fields_without_model(self.parts, intake).await?;
            if self.fields.is_none() {
                // A form without parts.
                return Err(refusals::unreadable_for_engine(model, engine));
            }
        }
        if let Some(set) = &*self.fields {
            let found = fields.iter().find(|field| set.contains_key(*field));
            return found.map_or(Ok(()), |field| Err(refused(field)));
        }
        for body in [Some(body), self.sent].into_iter().flatten() {
            let wanted = fields.clone();
            let found = compute(body.len(), move || field_of(&body, wanted)).await;
            if let Some(field) = found.map_err(|why| refusals::malformed(&why))? {
                return Err(refused(&field));
            }
        }
        Ok(())
    }
}

/// The first of these that a JSON object has.
///
/// # Errors
/// Why it is none, if it may have one of them.
fn field_of(body: &[u8], fields: Vec<String>) -> Result<Option<String>, String> {
    // A letter of a name is written as it is, or with four digits of which the first are zeros.
    let has = |text: &str| memmem::find(body, text.as_bytes()).is_some();
    if !has("\\u00") && !fields.iter().any(|field| has(field)) {
        return Ok(None);
    }
    let text = body.strip_prefix(MARK).unwrap_or(body);
    let keys: HashMap<String, IgnoredAny> =
        serde_json::from_slice(text).map_err(|_| explain(body))?;
    Ok(fields.into_iter().find(|field| keys.contains_key(field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_however_it_is_written_and_only_at_the_top() {
        let found = |body: &str| field_of(body.as_bytes(), vec!["adapters".to_owned()]);
        let adapters = Ok(Some("adapters".to_owned()));
        for body in [
            r#"{"model":"a","adapters":"x"}"#,
            r#"{"model":"a","adapters":null}"#,
            r#"{"\u0061dapters":"x"}"#,
            "\u{feff}{\"adapters\": 1}",
            r#"{"adapters":1,"adapters":2}"#,
        ] {
            assert_eq!(found(body), adapters, "{body}");
        }
        for body in [
            r#"{"model":"a"}"#,
            r#"{"messages":[{"adapters":"x"}],"a":"adapters","b":"\u00e4"}"#,
        ] {
            assert_eq!(found(body), Ok(None), "{body}");
        }
        assert!(found(r#"{"adapters":NaN}"#).is_err());
    }
}
