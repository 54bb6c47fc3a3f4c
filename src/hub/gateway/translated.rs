//! A request that comes in another protocol's form: read to its end, made a chat completion, and put back where
//! its worker needs no translation.

use std::future::pending;
use std::panic::resume_unwind;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use tokio::task::spawn_blocking;

use super::protocol::openai::response_owners::ResponseOwners;
use super::protocol::responses::Kept;
use super::protocol::{AsChat, Door, Translating};
use super::refusals;
use super::request::intake::Intake;
use super::request::rewrite::ModelSite;
use crate::api::ApiError;
use crate::hub::lifecycle::{Grant, Lifecycle, Model};
use crate::policy::RequestView;

/// Bodies up to this length, in bytes, are worked on at once: for about a millisecond.
const AT_ONCE: usize = 128 * 1024;

/// A request that is translated, unless its worker has the client's route.
pub(super) struct Translated {
    pub(super) by: Box<Translating>,
    pub(super) door: Door,
    pub(super) lifecycle: Lifecycle,
    pub(super) owners: ResponseOwners,
}

impl Translated {
    /// True if the worker of `model` has the client's route itself. Of responses some have, so that a worker
    /// of which nothing is known yet is asked.
    pub(super) async fn is_needless(&self, model: &Model, grant: &Grant) -> bool {
        let path = self.by.path();
        match self.door {
            Door::Responses => {
                let upstream = &grant.upstream;
                self.lifecycle.serves_now(model, upstream, path).await
            }
            _ => self.lifecycle.serves(model, path),
        }
    }
}

/// A request that is translated: the model that it names, if it names one, and where it does after that.
pub(super) async fn translated(
    door: Door,
    kept: Kept,
    view: &mut RequestView,
    intake: &mut Intake,
) -> Result<(Option<String>, ModelSite, Option<Box<Translating>>), ApiError> {
    let body = whole_body(&mut view.parts, intake).await?;
    let as_chat = compute(body.len(), move || AsChat::of(door, body, &kept)).await?;
    let keep_alive = as_chat.keep_alive();
    let (translating, model, site) = Translating::of(as_chat, &mut view.parts, intake);
    view.keep_alive = keep_alive;
    Ok((model, site, Some(Box::new(translating))))
}

/// The result of work on so many bytes. Work on many is done on a thread of its own, since it would hold up the
/// other connections of this one.
pub(super) async fn compute<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if bytes <= AT_ONCE {
        return work();
    }
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime is ending, and this future with it.
        Err(_) => pending().await,
    }
}

/// All of a body, without its content codings.
pub(super) async fn whole_body(parts: &mut Parts, intake: &mut Intake) -> Result<Bytes, ApiError> {
    check_length(intake)?;
    if parts.headers.contains_key(CONTENT_ENCODING) {
        intake.decode(&mut parts.headers)?;
    }
    intake.collect().await
}

/// Refuses a body that says itself that it is too long.
pub(super) fn check_length(intake: &Intake) -> Result<(), ApiError> {
    match intake.is_too_long() {
        true => Err(refusals::too_large(intake.limits().body)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_on_many_bytes_lets_other_connections_of_the_thread_go_on() {
        let (go, wait) = mpsc::channel();
        // Only the other one ends it, which has no other thread than this.
        let work = compute(AT_ONCE + 1, move || {
            wait.recv_timeout(Duration::from_secs(20))
        });
        let other = async move { go.send("its turn").unwrap() };
        let (done, ()) = tokio::join!(work, other);
        assert_eq!(done, Ok("its turn"));
        assert_eq!(
            compute(AT_ONCE, || thread::current().id()).await,
            thread::current().id()
        );
    }

    #[tokio::test]
    #[should_panic(expected = "a fault")]
    async fn a_panic_of_such_work_is_the_requests_own() {
        compute(AT_ONCE + 1, || panic!("a fault")).await
    }
}
