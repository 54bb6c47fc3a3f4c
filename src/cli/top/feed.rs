//! Feeds `top` with a hub's events, or its status again and again where it has none. It goes on looking for a hub
//! that is gone.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{sleep, timeout};

use crate::api::{EndedRequest, Status};
use crate::cli::NOT_RUNNING;
use crate::cli::client::{Client, ClientError};
use crate::cli::find::HubAddress;

/// Pause before the next look for a hub.
const AGAIN: Duration = Duration::from_secs(1);
/// Interval of the looks at an older hub, which sends no events.
const POLL: Duration = Duration::from_secs(2);
/// Longest silence of a hub that is well: it sends a comment every 15 seconds.
const SILENCE: Duration = Duration::from_secs(40);

/// News.
#[derive(Debug)]
pub(super) enum Fed {
    /// It answers.
    Hub(Client),
    Status(Box<Status>),
    Change(Box<Change>),
    /// Requests that have ended, the oldest first.
    Requests(Vec<EndedRequest>),
    /// There is no hub, and why.
    Lost(String),
}

/// A snapshot without the models that are as they were.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    #[serde(flatten)]
    pub(super) status: Status,
    /// The names of all models in their order, if that is another one now.
    pub(super) order: Option<Vec<String>>,
}

impl Change {
    /// Brings a status up to date.
    pub(super) fn apply(self, status: &mut Status) {
        let before = std::mem::replace(status, self.status).models;
        let names = self
            .order
            .unwrap_or_else(|| before.iter().map(|model| model.id.clone()).collect());
        let changed = std::mem::take(&mut status.models);
        let find = |name: &String| {
            let mut models = changed.iter().chain(&before);
            models.find(|model| model.id == *name).cloned()
        };
        status.models = names.iter().filter_map(find).collect();
    }

    pub(super) fn into_status(self) -> Status {
        self.status
    }
}

/// Sends news for as long as somebody listens.
pub(super) async fn feed(address: &HubAddress, send: UnboundedSender<Fed>) {
    while !send.is_closed() {
        let lost = match address.hub().await {
            Ok(Some(hub)) => {
                let _ = send.send(Fed::Hub(hub.client.clone()));
                match listen(&hub.client, &send).await {
                    Ok(()) => "The hub has ended".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
            Ok(None) => NOT_RUNNING.to_owned(),
            Err(error) => format!("{error:#}"),
        };
        let _ = send.send(Fed::Lost(lost));
        sleep(AGAIN).await;
    }
}

/// Listens until the hub ends its events.
async fn listen(client: &Client, send: &UnboundedSender<Fed>) -> Result<(), ClientError> {
    let mut pieces = match client.events().await {
        Err(ClientError::Refused { .. }) => return poll(client, send).await,
        pieces => pieces?,
    };
    let mut events = Events::default();
    while let Ok(Ok(Some(piece))) = timeout(SILENCE, pieces.next()).await {
        for news in events.take(&piece) {
            let _ = send.send(news);
        }
    }
    Ok(())
}

/// Asks again and again, until the hub does not answer.
async fn poll(client: &Client, send: &UnboundedSender<Fed>) -> Result<(), ClientError> {
    while !send.is_closed() {
        let _ = send.send(Fed::Status(Box::new(client.status().await?)));
        if let Ok(requests) = client.requests().await {
            let _ = send.send(Fed::Requests(requests));
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// Server-sent events, as far as they have come.
#[derive(Debug, Default)]
struct Events {
    rest: Vec<u8>,
}

impl Events {
    /// The news of all events that are complete with this piece. What is not understood is left out.
    fn take(&mut self, piece: &[u8]) -> Vec<Fed> {
        self.rest.extend_from_slice(piece);
        let mut news = Vec::new();
        while let Some(end) = memchr::memmem::find(&self.rest, b"\n\n") {
            let event: Vec<u8> = self.rest.drain(..end + 2).collect();
            news.extend(understood(&String::from_utf8_lossy(&event)));
        }
        news
    }
}

fn understood(event: &str) -> Option<Fed> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
    let data = field("data: ")?;
    match field("event: ")? {
        "status" => Some(Fed::Status(serde_json::from_str(data).ok()?)),
        "change" => Some(Fed::Change(serde_json::from_str(data).ok()?)),
        "requests" => Some(Fed::Requests(serde_json::from_str(data).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::view::tests::status;
    use super::*;

    #[test]
    fn events_are_understood_in_whatever_pieces_they_come() {
        let status = serde_json::to_value(status(&[("a", json!({}))])).unwrap();
        let mut change = status.clone();
        change["order"] = json!(["b", "a"]);
        let request = EndedRequest {
            number: 7,
            ..EndedRequest::default()
        };
        let requests = serde_json::to_string(&[request]).unwrap();
        let text = format!(
            "event: status\ndata: {status}\n\n:\n\nevent: change\ndata: {change}\n\n\
             event: later\ndata: 1\n\nevent: requests\ndata: {requests}\n\nevent: status\ndata: no\n\n"
        );
        for size in [1, 7, text.len()] {
            let mut events = Events::default();
            let pieces = text.as_bytes().chunks(size);
            let news: Vec<Fed> = pieces.flat_map(|piece| events.take(piece)).collect();
            let [Fed::Status(first), Fed::Change(then), Fed::Requests(ended)] = &news[..] else {
                panic!("{size}: {news:?}");
            };
            assert_eq!(first.models[0].id, "a");
            assert_eq!(then.order.as_ref().unwrap(), &["b", "a"]);
            assert_eq!(ended[0].number, 7);
        }
    }
}
