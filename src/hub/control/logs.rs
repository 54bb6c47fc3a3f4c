//! `GET /hub/logs` and `GET /hub/models/{name}/logs`: the end of a log, and what is added to it.

use std::path::PathBuf;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::StatusCode;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::error::bad_query;
use super::extract::ModelName;
use super::hub::Hub;
use crate::api::ApiError;
use crate::telemetry::{Followed, POLL_EVERY, app_log};

/// Lines to begin with, if the query does not say; and the most that it may say.
const LINES: usize = 200;
const MOST_LINES: usize = 10_000;

#[derive(Debug, Deserialize)]
pub(super) struct LogsQuery {
    /// Lines to begin with.
    lines: Option<usize>,
    /// `1` or `true`: the answer goes on with what is added, until the client leaves.
    #[serde(default)]
    follow: Option<Follow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Follow {
    #[serde(rename = "1", alias = "true")]
    Yes,
    #[serde(rename = "0", alias = "false")]
    No,
}

/// The answers; they end when `ending` is cancelled.
#[derive(Debug, Clone)]
pub(super) struct Logs {
    pub(super) ending: CancellationToken,
}

type QueryResult = Result<Query<LogsQuery>, QueryRejection>;

impl Logs {
    /// Of the hub itself.
    pub(super) async fn of_hub<H: Hub>(
        self,
        State(hub): State<H>,
        query: QueryResult,
    ) -> Result<Response, ApiError> {
        let folder = hub.status().log_path.unwrap_or_default();
        self.answer(app_log(folder.as_ref()), query).await
    }

    /// Of a model.
    pub(super) async fn of_model<H: Hub>(
        self,
        State(hub): State<H>,
        ModelName(name): ModelName,
        query: QueryResult,
    ) -> Result<Response, ApiError> {
        let mut models = hub.status().models.into_iter();
        let Some(model) = models.find(|model| model.id == name) else {
            let message = format!("The hub has no model called '{name}'");
            return Err(ApiError::new(StatusCode::NOT_FOUND, message));
        };
        let path = model.metadata.facts.log_path.ok_or_else(|| {
            let message = format!(
                "Model '{name}' has `no_log_file: true`; remove that from its entry, and start it again"
            );
            ApiError::new(StatusCode::NOT_FOUND, message)
        })?;
        self.answer(path.into(), query).await
    }

    async fn answer(self, path: PathBuf, query: QueryResult) -> Result<Response, ApiError> {
        let Query(query) = query.map_err(bad_query)?;
        let lines = query.lines.unwrap_or(LINES).min(MOST_LINES);
        let shown = path.display().to_string();
        let log = blocking(move || Followed::open(&path, lines)).await;
        let log = log.map_err(|error| {
            let message = format!("The log `{shown}` cannot be read: {error}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
        })?;
        let follows = query.follow == Some(Follow::Yes);
        let text = stream::unfold(Some(log), move |log| {
            next(log, follows, self.ending.clone())
        });
        let headers = [
            (CONTENT_TYPE, "text/plain; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
        ];
        Ok((headers, Body::from_stream(text)).into_response())
    }
}

type Piece = (std::io::Result<String>, Option<Followed>);

/// The next piece of a log's text.
async fn next(log: Option<Followed>, follows: bool, ending: CancellationToken) -> Option<Piece> {
    let mut log = log?;
    loop {
        let read = blocking(move || {
            let text = log.read()?;
            Ok((text, log))
        });
        let text;
        (text, log) = match read.await {
            Ok(read) => read,
            Err(error) => return Some((Err(error), None)),
        };
        match text {
            Some(text) => return Some((Ok(text), Some(log))),
            None if !follows => return None,
            None => tokio::select! {
                () = ending.cancelled() => return None,
                () = sleep(POLL_EVERY) => {}
            },
        }
    }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    spawn_blocking(read).await?
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TableHub, ask_of};
    use crate::api::{Activity, ModelFacts};

    fn hub(folder: &std::path::Path) -> TableHub {
        let hub = TableHub::default();
        folder
            .to_str()
            .unwrap()
            .clone_into(&mut hub.log_path.lock());
        for (name, log) in [("alpha", Some("alpha.log")), ("silent", None)] {
            let facts = ModelFacts {
                name: name.to_owned(),
                log_path: log.map(|log| folder.join(log).display().to_string()),
                ..ModelFacts::default()
            };
            hub.models.lock().push((facts, Activity::default()));
        }
        hub
    }

    #[tokio::test]
    async fn the_end_of_a_log_is_text() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("app.log"), "one\ntwo\n").unwrap();
        std::fs::write(folder.path().join("alpha.log"), "\u{1b}[31mré\u{1b}[0m\n").unwrap();
        let ask = async |path| ask_of(hub(folder.path()), "GET", path, "").await;
        assert_eq!(ask("/hub/logs").await.text, "one\ntwo\n");
        assert_eq!(ask("/hub/logs?lines=1&follow=0").await.text, "two\n");
        let answer = ask("/hub/models/alpha/logs").await;
        assert_eq!(answer.text, "\u{1b}[31mré\u{1b}[0m\n");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }

    #[tokio::test]
    async fn a_log_that_is_not_there_yet_is_empty_and_one_that_will_not_be_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let ask = async |path| ask_of(hub(folder.path()), "GET", path, "").await;
        assert_eq!(ask("/hub/models/alpha/logs").await.text, "");
        for (path, status, words) in [
            ("/hub/models/silent/logs", 404, "no_log_file"),
            ("/hub/models/nosuch/logs", 404, "nosuch"),
            ("/hub/logs?lines=few", 400, "lines"),
            ("/hub/logs?follow=perhaps", 400, "follow"),
        ] {
            let (found, message) = ask(path).await.error();
            assert_eq!(found, status, "{message}");
            assert!(message.contains(words), "{message}");
        }
    }
}
