//! The kept responses of a hub for the one that takes over: the newest, as many as do not hold up the change.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::kept::{Kept, KeptResponse, Turn};
use crate::config::KeyDigest;

/// Bytes of the turns that go along.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The kept responses, with the turns that they share.
#[derive(Default, Serialize, Deserialize)]
pub(in crate::hub::gateway) struct HandedKept {
    /// A turn stands behind the one before it.
    turns: Vec<HandedTurn>,
    /// The oldest first.
    responses: Vec<HandedResponse>,
}

#[derive(Serialize, Deserialize)]
struct HandedTurn {
    before: Option<usize>,
    input: String,
    response: String,
}

#[derive(Serialize, Deserialize)]
struct HandedResponse {
    id: String,
    turn: usize,
    age: Duration,
    /// In hexadecimal digits.
    key: Option<String>,
}

impl Kept {
    /// The newest responses, for the hub that takes over.
    pub(in crate::hub::gateway) fn handed_on(&self) -> HandedKept {
        self.newest(MAX_BYTES)
    }

    fn newest(&self, most: usize) -> HandedKept {
        let responses = self.all.lock();
        let mut handed = HandedKept::default();
        let (mut places, mut bytes) = (HashMap::new(), 0);
        for (id, response) in responses.all.iter().rev() {
            let mut turns = Vec::new();
            let mut next = Some(&response.turn);
            while let Some(turn) = next.filter(|turn| !places.contains_key(&Arc::as_ptr(turn))) {
                bytes += turn.size();
                turns.push(turn);
                next = turn.before.as_ref();
            }
            if bytes > most {
                break;
            }
            for turn in turns.into_iter().rev() {
                let place = |turn| places.get(&Arc::as_ptr(turn)).copied();
                handed.turns.push(HandedTurn {
                    before: turn.before.as_ref().and_then(place),
                    input: String::from_utf8_lossy(&turn.input).into_owned(),
                    response: String::from_utf8_lossy(&turn.response).into_owned(),
                });
                places.insert(Arc::as_ptr(turn), handed.turns.len() - 1);
            }
            handed.responses.push(HandedResponse {
                id: id.to_string(),
                turn: places[&Arc::as_ptr(&response.turn)],
                age: response.since.elapsed(),
                key: response.key.map(KeyDigest::to_hex),
            });
        }
        handed.responses.reverse();
        handed
    }

    /// Goes on with those of the hub before.
    pub(in crate::hub::gateway) fn inherit(&self, handed: HandedKept) {
        let now = Instant::now();
        let mut responses = self.all.lock();
        let mut turns: Vec<Arc<Turn>> = Vec::with_capacity(handed.turns.len());
        for turn in handed.turns {
            let turn = Turn {
                before: turn.before.and_then(|before| turns.get(before).cloned()),
                input: turn.input.into_bytes().into(),
                response: turn.response.into_bytes().into(),
                bytes: Arc::clone(&responses.bytes),
            };
            responses.bytes.fetch_add(turn.size(), Ordering::Relaxed);
            turns.push(Arc::new(turn));
        }
        for response in handed.responses {
            let key = response.key.as_deref().map(KeyDigest::from_hex);
            // A key that cannot be read is nobody's.
            let (Some(turn), None | Some(Some(_))) = (turns.get(response.turn), &key) else {
                continue;
            };
            let kept = KeptResponse {
                turn: Arc::clone(turn),
                since: now.checked_sub(response.age).unwrap_or(now),
                key: key.flatten(),
            };
            responses.all.insert(response.id.into(), kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::kept::Conversation;
    use super::*;

    fn say(kept: &Kept, previous: Option<&str>, id: &str, text: &str) {
        let request = json!({"previous_response_id": previous, "input": text});
        let conversation = Conversation::of(&request, kept).unwrap();
        let response = json!({"id": id, "output": [{"type": "message", "content": text}]});
        conversation.into_keeping().unwrap().keep(id, &response);
    }

    fn bytes(kept: &Kept) -> usize {
        kept.all.lock().bytes.load(Ordering::Relaxed)
    }

    /// As it arrives at the other hub.
    fn arrived(handed: &HandedKept) -> Kept {
        let text = serde_json::to_string(handed).unwrap();
        let kept = Kept::default();
        kept.inherit(serde_json::from_str(&text).unwrap());
        kept
    }

    fn said(kept: &Kept, id: &str) -> Option<Vec<Value>> {
        Some(kept.find(id)?.items())
    }

    #[test]
    fn a_conversation_goes_along_and_shares_its_turns() {
        let kept = Kept::default();
        say(&kept, None, "one", "a");
        say(&kept, Some("one"), "two", "b");
        say(&kept, Some("one"), "three", "c");
        // A turn that only later ones still hold.
        assert!(kept.forget("one"));
        let next = arrived(&kept.handed_on());
        assert_eq!(bytes(&next), bytes(&kept));
        assert_eq!(said(&next, "one"), None);
        for id in ["two", "three"] {
            assert_eq!(said(&next, id), said(&kept, id), "{id}");
        }
        assert!(next.forget("two") && next.forget("three"));
        assert_eq!(bytes(&next), 0);
    }

    #[test]
    fn the_newest_go_along_as_far_as_there_is_room() {
        let kept = Kept::default();
        say(&kept, None, "old", &"a".repeat(4000));
        say(&kept, None, "new", "b");
        let next = arrived(&kept.newest(4000));
        assert_eq!(said(&next, "old"), None);
        assert_eq!(said(&next, "new"), said(&kept, "new"));
    }

    #[tokio::test(start_paused = true)]
    async fn their_age_and_their_keys_go_along() {
        let kept = Kept::default();
        let mine = Kept {
            key: Some(KeyDigest::of(b"mine")),
            ..kept.clone()
        };
        say(&mine, None, "one", "a");
        tokio::time::advance(super::super::kept::KEPT_FOR / 2).await;
        let handed = kept.handed_on();
        let next = arrived(&handed);
        assert_eq!(said(&next, "one"), None, "another key's");
        let mine = Kept {
            key: mine.key,
            ..next
        };
        assert!(said(&mine, "one").is_some());
        tokio::time::advance(super::super::kept::KEPT_FOR / 2).await;
        assert_eq!(said(&mine, "one"), None);
    }
}
