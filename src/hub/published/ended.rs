//! The requests that ended last. The gateway notes each in its thread's ring and without a lock; listing them gives them
//! numbers.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use http::Method;
use parking_lot::Mutex;

use super::per_thread::{PerThread, taken};
use crate::api::EndedRequest;

/// Number of requests that are kept.
const KEPT: usize = 500;

/// A request that has ended, as the gateway knows it.
#[derive(Debug)]
pub struct Ended {
    /// Its `X-Request-ID`; a copy, for a slice of the head would keep the whole buffer in memory.
    pub id: Box<str>,
    /// When it arrived, Unix seconds.
    pub time: f64,
    /// The client's address.
    pub client: IpAddr,
    /// The name of the API that the client speaks.
    pub protocol: &'static str,
    /// The method.
    pub method: Method,
    /// The path.
    pub path: Cow<'static, str>,
    /// The model that it went to; a copy too, for all threads read the model's own name.
    pub model: Option<Box<str>>,
    /// True if somebody cancelled it.
    pub cancelled: bool,
    /// The status of its answer.
    pub status: u16,
    /// True if the answer was a stream.
    pub stream: bool,
    /// From its arrival to the end of the answer.
    pub took: Duration,
    /// The part of it in a queue, and while the model was loaded.
    pub waited: Duration,
    /// Seconds to the first event of a stream.
    pub first_token_seconds: Option<f64>,
    /// Tokens of the request.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u64>,
    /// Tokens of a stream per second.
    pub tokens_per_second: Option<f64>,
}

impl Ended {
    /// Unix seconds.
    fn ended_at(&self) -> f64 {
        self.time + self.took.as_secs_f64()
    }
}

/// The last requests.
#[derive(Debug)]
pub(in crate::hub) struct EndedRequests {
    /// Those not listed yet; the newest of a thread push its oldest out.
    fresh: PerThread<ArrayQueue<Ended>>,
    listed: Mutex<Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    /// The number of the newest.
    newest: u64,
    requests: VecDeque<EndedRequest>,
}

impl Default for EndedRequests {
    fn default() -> Self {
        Self {
            fresh: PerThread::new(|| ArrayQueue::new(KEPT)),
            listed: Mutex::default(),
        }
    }
}

impl EndedRequests {
    /// Notes one. Takes no lock.
    pub(in crate::hub) fn note(&self, ended: Ended) {
        drop(self.fresh.own().force_push(ended));
    }

    /// Those with a higher number than `number`, the oldest first.
    pub(in crate::hub) fn after(&self, number: u64) -> Vec<EndedRequest> {
        let mut listed = self.listed.lock();
        let mut fresh: Vec<_> = self.fresh.all().flat_map(taken).collect();
        fresh.sort_by(|one, other| one.ended_at().total_cmp(&other.ended_at()));
        for ended in fresh {
            listed.add(ended);
        }
        let requests = listed.requests.iter();
        requests
            .filter(|request| request.number > number)
            .cloned()
            .collect()
    }
}

impl Listed {
    fn add(&mut self, ended: Ended) {
        self.newest += 1;
        if self.requests.len() == KEPT {
            self.requests.pop_front();
        }
        self.requests.push_back(EndedRequest {
            number: self.newest,
            id: ended.id.into(),
            time: ended.time,
            client: ended.client.to_string(),
            protocol: ended.protocol.to_owned(),
            method: ended.method.to_string(),
            path: ended.path.into_owned(),
            model: ended.model.map(String::from),
            cancelled: ended.cancelled,
            status: ended.status,
            stream: ended.stream,
            seconds: ended.took.as_secs_f64(),
            wait_seconds: ended.waited.as_secs_f64(),
            first_token_seconds: ended.first_token_seconds,
            prompt_tokens: ended.prompt_tokens,
            completion_tokens: ended.completion_tokens,
            tokens_per_second: ended.tokens_per_second,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: u16) -> Ended {
        Ended {
            id: "id".into(),
            time: 1.5,
            client: [127, 0, 0, 1].into(),
            protocol: "openai",
            method: Method::POST,
            path: "/v1/chat/completions".into(),
            model: Some("alpha".into()),
            cancelled: false,
            status,
            stream: true,
            took: Duration::from_secs(2),
            waited: Duration::from_secs(1),
            first_token_seconds: Some(1.2),
            prompt_tokens: Some(3),
            completion_tokens: None,
            tokens_per_second: None,
        }
    }

    #[test]
    fn the_newest_are_kept_and_listed_in_their_order() {
        let requests = EndedRequests::default();
        assert!(requests.after(0).is_empty());
        for status in 0..3 {
            requests.note(ended(status));
        }
        let statuses = |after| -> Vec<_> {
            let listed = requests.after(after).into_iter();
            listed
                .map(|request| (request.number, request.status))
                .collect()
        };
        assert_eq!(statuses(0), [(1, 0), (2, 1), (3, 2)]);
        assert_eq!(statuses(2), [(3, 2)]);
        assert!(statuses(3).is_empty());

        for _ in 0..4 {
            for status in 0..300 {
                requests.note(ended(status));
            }
            assert!(statuses(0).len() <= KEPT);
        }
        let listed = statuses(0);
        assert_eq!(listed.len(), KEPT);
        assert_eq!(listed.last(), Some(&(1203, 299)));
        assert!(listed.is_sorted());
    }
}
