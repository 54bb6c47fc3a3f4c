//! The bodies of the last requests and of their answers, where hub.yaml has `capture: true`.
//!
//! The gateway begins a [`Capture`] per request and tells it what passes; the control API reads them. They are kept
//! in memory alone, for so long and within so many bytes as hub.yaml says. Of heads only the content type is kept:
//! no key is in one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::{CapturedBody, CapturedRequest, unix_now};
use crate::config::CaptureLimits;

mod kept;

use kept::KeptBody;

/// Number of requests that are kept: as many as are listed.
const MOST: usize = 500;

/// The bodies of one request and its answer.
#[derive(Debug)]
pub struct Capture {
    id: Box<str>,
    time: f64,
    began: Instant,
    request: Mutex<KeptBody>,
    request_type: Option<Box<str>>,
    answer: Mutex<KeptBody>,
    head: OnceLock<(StatusCode, Option<Box<str>>)>,
    /// True once it is no longer kept: it takes nothing any more.
    is_forgotten: AtomicBool,
    /// The bytes of all that are kept, and the most that they may be.
    all: Arc<AtomicUsize>,
    most: usize,
}

impl Capture {
    /// Notes a piece of the request's body.
    pub fn of_request(&self, data: &[u8]) {
        self.note(&self.request, data);
    }

    /// Notes the head of the answer.
    pub fn answered(&self, status: StatusCode, headers: &HeaderMap) {
        let _ = self.head.set((status, content_type(headers)));
    }

    /// Notes a piece of the answer's body.
    pub fn of_answer(&self, data: &[u8]) {
        self.note(&self.answer, data);
    }

    fn note(&self, kept: &Mutex<KeptBody>, data: &[u8]) {
        let mut kept = kept.lock();
        if self.is_forgotten.load(Ordering::Relaxed) {
            return;
        }
        let before = kept.size();
        let room = self.most.saturating_sub(self.all.load(Ordering::Relaxed));
        kept.push(data, room);
        self.count(before, kept.size());
    }

    fn count(&self, before: usize, now: usize) {
        if now >= before {
            self.all.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.all.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Frees its bodies, also if the request goes on.
    fn forget(&self) {
        for kept in [&self.request, &self.answer] {
            let mut kept = kept.lock();
            self.is_forgotten.store(true, Ordering::Relaxed);
            self.count(kept.size(), 0);
            *kept = KeptBody::default();
        }
    }

    fn shown(&self) -> CapturedRequest {
        let head = self.head.get();
        let body = |kept: &Mutex<KeptBody>, content_type: Option<&str>| {
            let kept = kept.lock();
            let (text, cut) = kept.shown();
            CapturedBody {
                content_type: content_type.map(str::to_owned),
                bytes: kept.length(),
                text,
                cut,
            }
        };
        CapturedRequest {
            id: self.id.to_string(),
            time: self.time,
            request: body(&self.request, self.request_type.as_deref()),
            status: head.map(|(status, _)| status.as_u16()),
            answer: body(&self.answer, head.and_then(|(_, kind)| kind.as_deref())),
        }
    }
}

fn content_type(headers: &HeaderMap) -> Option<Box<str>> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.into())
}

/// Those that are kept, the oldest first.
#[derive(Debug, Default)]
pub(in crate::hub) struct Captures {
    list: Mutex<VecDeque<Arc<Capture>>>,
    all: Arc<AtomicUsize>,
}

impl Captures {
    /// Begins to keep a request of that id with these headers. `began` is its arrival.
    pub(in crate::hub) fn begin(
        &self,
        limits: CaptureLimits,
        id: &str,
        headers: &HeaderMap,
        began: Instant,
    ) -> Arc<Capture> {
        let capture = Arc::new(Capture {
            id: id.into(),
            time: unix_now() - began.elapsed().as_secs_f64(),
            began,
            request: Mutex::default(),
            request_type: content_type(headers),
            answer: Mutex::default(),
            head: OnceLock::new(),
            is_forgotten: AtomicBool::new(false),
            all: Arc::clone(&self.all),
            most: limits.bytes,
        });
        let mut list = self.list.lock();
        list.push_back(Arc::clone(&capture));
        // Room for both of its bodies.
        trim(&mut list, &self.all, limits, 2 * kept::MOST);
        capture
    }

    /// Forgets those that are too old or too many; all of them where none are kept any more.
    pub(in crate::hub) fn trim(&self, limits: Option<CaptureLimits>) {
        let mut list = self.list.lock();
        match limits {
            Some(limits) => trim(&mut list, &self.all, limits, 0),
            None => list.drain(..).for_each(|capture| capture.forget()),
        }
    }

    /// The newest request of that id, which a client may have given to several.
    pub(in crate::hub) fn find(&self, id: &str) -> Option<CapturedRequest> {
        let capture = {
            let list = self.list.lock();
            let mut newest_first = list.iter().rev();
            Arc::clone(newest_first.find(|capture| &*capture.id == id)?)
        };
        Some(capture.shown())
    }
}

/// Forgets the oldest, but for the newest, until there is `room`.
fn trim(list: &mut VecDeque<Arc<Capture>>, all: &AtomicUsize, limits: CaptureLimits, room: usize) {
    let bytes = limits.bytes.saturating_sub(room);
    while let Some(oldest) = list.front() {
        let is_old = oldest.began.elapsed() >= limits.time;
        let is_too_much = list.len() > 1 && all.load(Ordering::Relaxed) > bytes;
        if !is_old && !is_too_much && list.len() <= MOST {
            break;
        }
        oldest.forget();
        list.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use tokio::time::advance;

    use super::*;

    const LIMITS: CaptureLimits = CaptureLimits {
        time: Duration::from_secs(60),
        bytes: 1 << 20,
    };

    fn begin(captures: &Captures, id: &str) -> Arc<Capture> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::AUTHORIZATION,
            HeaderValue::from_static("Bearer secret"),
        );
        captures.begin(LIMITS, id, &headers, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_kept_as_they_pass_without_the_head() {
        let captures = Captures::default();
        let capture = begin(&captures, "one");
        capture.of_request(b"{\"model\":");
        capture.of_request(b"\"alpha\"}");
        let shown = captures.find("one").unwrap();
        assert_eq!(shown.request.text, r#"{"model":"alpha"}"#);
        assert_eq!(shown.request.bytes, 17);
        assert_eq!(
            shown.request.content_type.as_deref(),
            Some("application/json")
        );
        assert_eq!(
            (shown.status, shown.answer),
            (None, CapturedBody::default())
        );
        capture.answered(StatusCode::OK, &HeaderMap::new());
        capture.of_answer(b"{}");
        let shown = captures.find("one").unwrap();
        assert_eq!((shown.status, &*shown.answer.text), (Some(200), "{}"));
        let all = format!("{shown:?} {capture:?}");
        assert!(!all.contains("secret"), "{all}");
        assert_eq!(captures.find("two"), None);
        begin(&captures, "one").of_request(b"newer");
        assert_eq!(captures.find("one").unwrap().request.text, "newer");
    }

    #[tokio::test(start_paused = true)]
    async fn they_go_after_their_time_and_when_they_are_not_wanted_any_more() {
        let captures = Captures::default();
        let capture = begin(&captures, "one");
        capture.of_request(b"text");
        advance(LIMITS.time - Duration::from_secs(1)).await;
        captures.trim(Some(LIMITS));
        assert!(captures.find("one").is_some());
        advance(Duration::from_secs(1)).await;
        captures.trim(Some(LIMITS));
        assert!(captures.find("one").is_none());
        // The request goes on, and is kept no further.
        capture.of_answer(b"more");
        assert_eq!(captures.all.load(Ordering::Relaxed), 0);

        begin(&captures, "two").of_request(b"text");
        captures.trim(None);
        assert!(captures.find("two").is_none());
        assert_eq!(captures.all.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn all_of_them_together_stay_within_their_bytes() {
        let captures = Captures::default();
        // Words, as text has them: they are not cut.
        let body = "word ".repeat(20_000);
        let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        for id in &ids {
            let capture = begin(&captures, id);
            capture.of_request(body.as_bytes());
            capture.of_answer(body.as_bytes());
            assert!(captures.all.load(Ordering::Relaxed) <= LIMITS.bytes);
        }
        assert!(captures.find("0").is_none());
        let newest = captures.find("39").unwrap();
        assert_eq!(newest.request.text, body);
        assert_eq!(newest.answer.text, body);
        for _ in 0..2 * MOST {
            begin(&captures, "small");
        }
        assert!(captures.list.lock().len() <= MOST);
    }
}
