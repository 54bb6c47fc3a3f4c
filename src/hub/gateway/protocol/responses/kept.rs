//! The responses that the hub keeps, and the conversations that they continue.
//!
//! A worker of chat completions remembers nothing, so the hub keeps what `previous_response_id` and
//! `/v1/responses/{id}` ask for: in memory, for [`KEPT_FOR`], and no more than [`MAX_RESPONSES`] and [`MAX_BYTES`]
//! of all clients together. The oldest are forgotten first. A conversation is a list of turns that share the turns
//! before them, so that each text is held once. Where the hub has keys, a response is there for the key alone that
//! made it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use indexmap::IndexMap;
use memchr::memmem;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::fields::Field;
use super::answer::item_id;
use crate::api::{ApiError, shown};
use crate::config::{ApiKey, KeyDigest};

/// Time after which a response is forgotten.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Number of responses that are kept.
const MAX_RESPONSES: usize = 4096;

/// Their size and that of their conversations, in bytes of JSON.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that a turn takes besides its texts, roughly.
const PER_TURN: usize = 512;

/// The kept responses of one hub, as one of its keys sees them. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::hub::gateway) struct Kept {
    pub(super) all: Arc<Mutex<Responses>>,
    /// The key of whoever asks; `None` where no key is needed.
    pub(super) key: Option<KeyDigest>,
}

#[derive(Debug)]
pub(super) struct Responses {
    limits: KeptLimits,
    /// By their ids, the oldest first.
    pub(super) all: IndexMap<Box<str>, KeptResponse>,
    /// Bytes of all turns, also of those that only later turns still hold.
    pub(super) bytes: Arc<AtomicUsize>,
}

/// The bounds of what is kept.
#[derive(Debug)]
struct KeptLimits {
    responses: usize,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct KeptResponse {
    pub(super) turn: Arc<Turn>,
    pub(super) since: Instant,
    /// The key that made it.
    pub(super) key: Option<KeyDigest>,
}

/// One request and its response.
#[derive(Debug)]
pub(in crate::hub::gateway) struct Turn {
    pub(super) before: Option<Arc<Self>>,
    /// The items that the client sent: a list in JSON.
    pub(super) input: Box<[u8]>,
    /// The whole response in JSON.
    pub(super) response: Box<[u8]>,
    pub(super) bytes: Arc<AtomicUsize>,
}

impl Turn {
    pub(super) fn size(&self) -> usize {
        self.input.len() + self.response.len() + PER_TURN
    }

    /// The response, as its client got it.
    pub(super) fn response(&self) -> &[u8] {
        &self.response
    }

    /// The items that the response was made of: the turns before it, and its own input.
    pub(super) fn input_items(&self) -> Vec<Value> {
        let mut items = self.before.as_deref().map_or_else(Vec::new, Self::items);
        items.extend(list(&self.input));
        items
    }

    /// The item of that id, of this turn alone.
    fn own_item(&self, id: &str) -> Option<Value> {
        let has = |json: &[u8]| memmem::find(json, id.as_bytes()).is_some();
        let input = has(&self.input).then(|| list(&self.input));
        let output = has(&self.response).then(|| output(&self.response));
        let mut items = input.into_iter().chain(output).flatten();
        items.find(|item| item["id"] == id)
    }

    /// The items of the conversation, this response's among them.
    pub(super) fn items(&self) -> Vec<Value> {
        let (mut turns, mut next) = (Vec::new(), Some(self));
        while let Some(turn) = next {
            turns.push(turn);
            next = turn.before.as_deref();
        }
        let mut items = Vec::new();
        for turn in turns.into_iter().rev() {
            items.extend(list(&turn.input));
            items.extend(output(&turn.response));
        }
        items
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.size(), Ordering::Relaxed);
        // Not by recursion: a conversation may have thousands of turns.
        let mut before = self.before.take();
        while let Some(mut turn) = before.and_then(Arc::into_inner) {
            before = turn.before.take();
        }
    }
}

fn list(json: &[u8]) -> Vec<Value> {
    serde_json::from_slice(json).unwrap_or_default()
}

/// The items of a response.
fn output(json: &[u8]) -> Vec<Value> {
    let mut response: Value = serde_json::from_slice(json).unwrap_or_default();
    match response.get_mut("output").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self::within(KeptLimits {
            responses: MAX_RESPONSES,
            bytes: MAX_BYTES,
        })
    }
}

impl Kept {
    fn within(limits: KeptLimits) -> Self {
        let responses = Responses {
            limits,
            all: IndexMap::new(),
            bytes: Arc::default(),
        };
        Self {
            all: Arc::new(Mutex::new(responses)),
            key: None,
        }
    }

    /// The same for a client with that key.
    pub(in crate::hub::gateway) fn of(&self, key: Option<&ApiKey>) -> Self {
        Self {
            all: Arc::clone(&self.all),
            key: key.and_then(ApiKey::digest),
        }
    }

    /// The turn that made that response, if it is kept for this key.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Turn>> {
        let mut responses = self.all.lock();
        responses.forget_old();
        let entry = responses.all.get(id)?;
        (entry.key == self.key).then(|| Arc::clone(&entry.turn))
    }

    /// The item of that id, which a response that is kept for this key was made of or consists of.
    pub(super) fn item(&self, id: &str) -> Option<Value> {
        let turns: Vec<Arc<Turn>> = {
            let mut responses = self.all.lock();
            responses.forget_old();
            let own = responses.all.values().rev();
            let own = own.filter(|entry| entry.key == self.key);
            own.map(|entry| Arc::clone(&entry.turn)).collect()
        };
        turns.iter().find_map(|turn| turn.own_item(id))
    }

    /// Forgets that response; true if it was kept for this key. Responses that continue it keep its texts.
    pub(super) fn forget(&self, id: &str) -> bool {
        let mut responses = self.all.lock();
        let is_own = (responses.all.get(id)).is_some_and(|entry| entry.key == self.key);
        is_own && responses.all.shift_remove(id).is_some()
    }

    fn keep(&self, id: &str, before: Option<Arc<Turn>>, input: Vec<u8>, response: &Value) {
        let mut responses = self.all.lock();
        let turn = Turn {
            before,
            input: input.into(),
            response: response.to_string().into_bytes().into(),
            bytes: Arc::clone(&responses.bytes),
        };
        responses.bytes.fetch_add(turn.size(), Ordering::Relaxed);
        let entry = KeptResponse {
            turn: Arc::new(turn),
            since: Instant::now(),
            key: self.key,
        };
        responses.all.insert(id.into(), entry);
        responses.forget_old();
        responses.forget_surplus();
    }
}

impl Responses {
    fn forget_old(&mut self) {
        while let Some((_, oldest)) = self.all.first()
            && oldest.since.elapsed() >= KEPT_FOR
        {
            self.all.shift_remove_index(0);
        }
    }

    fn forget_surplus(&mut self) {
        let KeptLimits { responses, bytes } = self.limits;
        // Requests in flight hold their turns when nothing is kept any more.
        while self.all.len() > responses
            || !self.all.is_empty() && self.bytes.load(Ordering::Relaxed) > bytes
        {
            self.all.shift_remove_index(0);
        }
    }
}

/// The conversation that a request continues, and what is to be kept of it.
#[derive(Debug)]
pub(in super::super) struct Conversation {
    before: Option<Arc<Turn>>,
    keeping: Option<Keeping>,
}

/// A response in progress, to be kept once it is complete.
#[derive(Debug)]
pub(super) struct Keeping {
    kept: Kept,
    before: Option<Arc<Turn>>,
    input: Vec<u8>,
}

impl Conversation {
    /// The conversation of a request.
    ///
    /// # Errors
    /// 400 when the response that it continues is not kept here, or a field is not what it has to be.
    pub(in super::super) fn of(request: &Value, kept: &Kept) -> Result<Self, ApiError> {
        let body = Field::root(request);
        let before = match body.get("previous_response_id") {
            Some(id) => {
                let id = id.string()?;
                Some(kept.find(id).ok_or_else(|| no_previous(id))?)
            }
            None => None,
        };
        // OpenAI keeps what nobody asked it not to.
        let is_kept = body
            .get("store")
            .map_or(Ok(true), |store| store.boolean())?;
        let keeping = is_kept.then(|| Keeping {
            kept: kept.clone(),
            before: before.clone(),
            input: input(&request["input"]),
        });
        Ok(Self { before, keeping })
    }

    /// The items of the turns before this one.
    pub(in super::super) fn items_before(&self) -> Vec<Value> {
        self.before.as_deref().map_or_else(Vec::new, Turn::items)
    }

    pub(super) fn into_keeping(self) -> Option<Keeping> {
        self.keeping
    }
}

impl Keeping {
    pub(super) fn keep(self, id: &str, response: &Value) {
        self.kept.keep(id, self.before, self.input, response);
    }
}

/// The input of a request as a list of items, each in its full form.
fn input(input: &Value) -> Vec<u8> {
    let items = match input {
        Value::Array(items) => items.iter().cloned().map(in_full).collect(),
        text => vec![in_full(json!({"role": "user", "content": text}))],
    };
    Value::Array(items).to_string().into_bytes()
}

/// An item with its id and its type, which clients may leave out. What is no item is refused when it is read.
fn in_full(mut item: Value) -> Value {
    if !item.is_object() {
        return item;
    }
    let kind = item["type"].as_str().unwrap_or("message").to_owned();
    if let Some(text) = item["content"].as_str() {
        let part = match item["role"].as_str() {
            Some("assistant") => json!({"type": "output_text", "text": text, "annotations": []}),
            _ => json!({"type": "input_text", "text": text}),
        };
        item["content"] = json!([part]);
    }
    if item["id"].is_null() {
        let prefix = match &*kind {
            "function_call" => "fc",
            "function_call_output" => "fco",
            "reasoning" => "rs",
            _ => "msg",
        };
        item["id"] = json!(format!("{prefix}_{}", item_id()));
    }
    item["type"] = json!(kind);
    item
}

/// 400: the response that a request continues is not kept. Status and code are OpenAI's.
fn no_previous(id: &str) -> ApiError {
    let id = shown(id);
    ApiError::new(
        StatusCode::BAD_REQUEST,
        format!(
            "Previous response with id '{id}' not found. {FORGOTTEN} Send the whole conversation as `input`."
        ),
    )
    .with_code("previous_response_not_found")
    .with_param("previous_response_id")
}

/// The reasons why a response is not kept.
pub(in crate::hub::gateway) const FORGOTTEN: &str = "This hub keeps responses in memory for 24 hours, no more than 4096 of them and 64 MiB, and none with \
     `store: false`; it forgets them when it ends.";

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(kept: &Kept, previous: Option<&str>, text: &str) -> Conversation {
        let request = json!({"previous_response_id": previous, "input": text});
        Conversation::of(&request, kept).unwrap()
    }

    fn say(kept: &Kept, previous: Option<&str>, id: &str, text: &str) {
        let response = json!({"id": id, "output": [{"type": "message", "content": text}]});
        let keeping = conversation(kept, previous, text).into_keeping();
        keeping.unwrap().keep(id, &response);
    }

    fn bytes(kept: &Kept) -> usize {
        kept.all.lock().bytes.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_is_all_that_was_said_before() {
        let kept = Kept::default();
        say(&kept, None, "one", "a");
        say(&kept, Some("one"), "two", "b");
        let items = conversation(&kept, Some("two"), "c").items_before();
        let said = |item: &Value| match item["content"].as_str() {
            Some(text) => format!("model: {text}"),
            None => format!("{}: {}", item["role"], item["content"][0]["text"]),
        };
        let said: Vec<String> = items.iter().map(said).collect();
        let user = |text: &str| format!("\"user\": \"{text}\"");
        assert_eq!(
            said,
            [user("a"), "model: a".into(), user("b"), "model: b".into()]
        );
        assert_eq!(kept.find("two").unwrap().input_items().len(), 3);
        // Forgotten by itself, and not in what continues it.
        assert!(kept.forget("one"));
        assert!(!kept.forget("one"));
        assert!(kept.find("one").is_none());
        assert_eq!(kept.find("two").unwrap().items().len(), 4);
        kept.forget("two");
        assert_eq!(bytes(&kept), 0);
    }

    #[test]
    fn a_response_is_there_for_the_key_alone_that_made_it() {
        let hash = |key: &str| KeyDigest::of(key.as_bytes()).to_hex();
        let config = crate::config::from_yaml(&format!(
            "models: [{{name: a, model_path: org/a}}]\napi_keys:\n- {{name: one, sha256: {}}}\n- {{name: two, sha256: {}}}\n",
            hash("one"),
            hash("two")
        ));
        let nobody = Kept::default();
        let [one, two] = [0, 1].map(|at| nobody.of(Some(&config.api_keys[at])));
        say(&one, None, "of one", "a");
        say(&nobody, None, "of nobody", "a");
        for (kept, id, is_there) in [
            (&one, "of one", true),
            (&two, "of one", false),
            (&nobody, "of one", false),
            (&one, "of nobody", false),
            (&nobody, "of nobody", true),
        ] {
            assert_eq!(kept.find(id).is_some(), is_there, "{id}");
            let request = json!({"previous_response_id": id, "input": "b"});
            assert_eq!(Conversation::of(&request, kept).is_ok(), is_there, "{id}");
        }
        let items = one.find("of one").expect("kept").items();
        let id = items[0]["id"].as_str().expect("an id");
        assert!(one.item(id).is_some());
        assert!(two.item(id).is_none() && nobody.item(id).is_none());
        assert!(!two.forget("of one"));
        assert!(one.forget("of one"));
        assert!(!one.forget("of one"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_is_kept_for_a_day() {
        let kept = Kept::default();
        say(&kept, None, "one", "a");
        tokio::time::advance(KEPT_FOR - Duration::from_secs(1)).await;
        say(&kept, Some("one"), "two", "b");
        assert!(kept.find("one").is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(kept.find("one").is_none());
        assert!(kept.find("two").is_some());
        let request = json!({"previous_response_id": "one", "input": "c"});
        let error = Conversation::of(&request, &kept).unwrap_err();
        assert_eq!(
            (error.status, &*error.code),
            (400, "previous_response_not_found")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_are_forgotten_when_there_are_too_many_or_too_much() {
        let kept = Kept::within(KeptLimits {
            responses: 10,
            bytes: 20_000,
        });
        for number in 0..=10 {
            say(&kept, None, &number.to_string(), "a");
        }
        assert!(kept.find("0").is_none());
        assert!(kept.find("1").is_some());

        let text = "x".repeat(2_000);
        for number in 0..5 {
            say(&kept, None, &format!("large {number}"), &text);
        }
        assert!(bytes(&kept) <= 20_000);
        assert!(kept.find("large 0").is_none());
        assert!(kept.find("large 3").is_some());
        assert!(kept.find("10").is_none());
        // A turn that is too large by itself is not kept, and nothing of it stays.
        say(&kept, None, "huge", &"x".repeat(20_000));
        assert!(kept.find("huge").is_none());
        assert_eq!(bytes(&kept), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_of_many_turns_is_freed_without_a_deep_stack() {
        let kept = Kept::default();
        say(&kept, None, "0", "a");
        for number in 1..=4000 {
            say(
                &kept,
                Some(&(number - 1).to_string()),
                &number.to_string(),
                "a",
            );
            kept.forget(&(number - 1).to_string());
        }
        let small = std::thread::Builder::new().stack_size(64 * 1024);
        let ended = small.spawn(move || {
            kept.forget("4000");
            bytes(&kept)
        });
        assert_eq!(ended.unwrap().join().unwrap(), 0);
    }

    #[test]
    fn what_is_not_to_be_kept_is_not() {
        let kept = Kept::default();
        let request = json!({"input": "a", "store": false});
        let conversation = Conversation::of(&request, &kept).unwrap();
        assert!(conversation.into_keeping().is_none());
        let request = json!({"input": "a", "store": "no"});
        let error = Conversation::of(&request, &kept).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("store"));
    }
}
