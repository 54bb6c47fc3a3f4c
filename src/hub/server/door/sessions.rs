//! The sessions of the status page: whoever shows a key once gets a cookie that stands for it.
//!
//! A session ends with its key, when it is logged out, after 30 days, and with the hub, unless another one takes over:
//! they are in memory only, and by their hashes. Wrong keys are counted by address, so that nobody can try many.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use http::HeaderMap;
use http::header::COOKIE;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::refusals;
use crate::api::ApiError;
use crate::config::{Config, KeyDigest};

/// The life of a session.
const LASTS: Duration = Duration::from_secs(30 * 24 * 3600);

/// Sessions at once; the one that ends first makes room.
const MOST: usize = 1000;

/// Wrong keys of an address within [`WINDOW`]; then it has to wait until that is over.
const TRIES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses whose wrong keys are counted.
const MOST_ADDRESSES: usize = 10_000;

/// A key that was shown, by its hash.
#[derive(Debug)]
struct Session {
    key: KeyDigest,
    ends: Instant,
}

#[derive(Debug)]
struct Tries {
    wrong: u32,
    since: Instant,
}

/// The sessions of a hub for the one that takes over. Neither cookies nor keys can be made of them.
#[derive(Default, Serialize, Deserialize)]
pub struct HandedSessions(Vec<HandedSession>);

/// Hashes in hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct HandedSession {
    cookie: String,
    key: String,
    ends_in: Duration,
}

impl fmt::Debug for HandedSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandedSessions({})", self.0.len())
    }
}

/// All sessions of a hub.
#[derive(Debug, Default)]
pub struct Sessions {
    /// By the hashes of their cookies.
    open: Mutex<HashMap<String, Session>>,
    tries: Mutex<HashMap<IpAddr, Tries>>,
}

impl Sessions {
    /// Opens a session for a key that may control the hub; returns its `Set-Cookie`.
    ///
    /// # Errors
    /// 401 for a key that is none of the hub's or has expired, 403 for one that may not control it, 429 after too
    /// many of them from one address.
    pub(in crate::hub::server) fn log_in(
        &self,
        sent: &str,
        client: IpAddr,
        config: &Config,
    ) -> Result<String, ApiError> {
        let (now, client) = (Instant::now(), network(client));
        self.may_try(client, now)?;
        let digest = KeyDigest::of(sent.trim().as_bytes());
        let found = config.api_key(&digest);
        let refused = match found {
            None => Some(refusals::wrong_key()),
            Some(key) if key.is_expired() => Some(refusals::expired_key(&key.name)),
            Some(key) if !key.may_control => Some(refusals::may_not_control(&key.name)),
            Some(_) => None,
        };
        if let Some(refused) = refused {
            self.note_wrong(client, now);
            return Err(refused);
        }
        let mut id = [0; 32];
        getrandom::fill(&mut id).map_err(|error| refusals::no_random_numbers(&error))?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        self.tries.lock().remove(&client);
        self.open(KeyDigest::of(id.as_bytes()), digest, now);
        Ok(cookie(config.port, &id, LASTS))
    }

    /// Ends the session of a request; returns the `Set-Cookie` that removes its cookie.
    pub(in crate::hub::server) fn log_out(&self, headers: &HeaderMap, port: u16) -> String {
        for id in ids(headers, port) {
            self.open.lock().remove(&hashed(id));
        }
        cookie(port, "", Duration::ZERO)
    }

    /// The hash of the key that a request's cookie stands for.
    pub(super) fn key_of(&self, headers: &HeaderMap, port: u16) -> Option<KeyDigest> {
        let open = self.open.lock();
        let now = Instant::now();
        let mut sessions = ids(headers, port).filter_map(|id| open.get(&hashed(id)));
        let session = sessions.find(|session| session.ends > now)?;
        Some(session.key)
    }

    /// Those that are open, for the hub that takes over.
    pub fn handed_on(&self) -> HandedSessions {
        let now = Instant::now();
        let open = self.open.lock();
        let open = open.iter().filter(|(_, session)| session.ends > now);
        let handed = open.map(|(cookie, session)| HandedSession {
            cookie: cookie.clone(),
            key: session.key.to_hex(),
            ends_in: session.ends.duration_since(now),
        });
        HandedSessions(handed.collect())
    }

    /// Goes on with those of the hub before.
    pub fn inherit(&self, handed: HandedSessions) {
        let now = Instant::now();
        let mut open = self.open.lock();
        for HandedSession {
            cookie,
            key,
            ends_in,
        } in handed.0.into_iter().take(MOST)
        {
            if let Some(key) = KeyDigest::from_hex(&key) {
                let ends = now + ends_in.min(LASTS);
                open.insert(cookie, Session { key, ends });
            }
        }
    }

    fn open(&self, id: KeyDigest, key: KeyDigest, now: Instant) {
        let mut open = self.open.lock();
        open.retain(|_, session| session.ends > now);
        if open.len() >= MOST {
            let first = open.iter().min_by_key(|(_, session)| session.ends);
            if let Some(first) = first.map(|(id, _)| id.clone()) {
                open.remove(&first);
            }
        }
        let ends = now + LASTS;
        open.insert(id.to_hex(), Session { key, ends });
    }

    fn may_try(&self, client: IpAddr, now: Instant) -> Result<(), ApiError> {
        let tries = self.tries.lock();
        let Some(tried) = tries.get(&client) else {
            return Ok(());
        };
        let left = WINDOW.saturating_sub(now.duration_since(tried.since));
        match tried.wrong >= TRIES && !left.is_zero() {
            true => Err(refusals::too_many_tries(left)),
            false => Ok(()),
        }
    }

    fn note_wrong(&self, client: IpAddr, now: Instant) {
        let mut tries = self.tries.lock();
        if tries.len() >= MOST_ADDRESSES {
            tries.retain(|_, tried| now.duration_since(tried.since) < WINDOW);
        }
        // Whoever has so many addresses is let wait with all of them.
        if tries.len() >= MOST_ADDRESSES
            && let Some(first) = tries.iter().min_by_key(|(_, tried)| tried.since)
        {
            let first = *first.0;
            tries.remove(&first);
        }
        let tried = tries.entry(client).or_insert(Tries {
            wrong: 0,
            since: now,
        });
        if now.duration_since(tried.since) >= WINDOW {
            *tried = Tries {
                wrong: 0,
                since: now,
            };
        }
        tried.wrong += 1;
    }
}

/// The part of an address that one household has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// The name of the cookie: browsers keep the cookies of all ports of a host together.
fn name(port: u16) -> String {
    format!("mlx_hub_session_{port}")
}

/// The `Set-Cookie`: for no script, and for no request that another site has made.
fn cookie(port: u16, id: &str, lasts: Duration) -> String {
    let (name, seconds) = (name(port), lasts.as_secs());
    format!("{name}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict")
}

/// The sessions that a request names.
fn ids(headers: &HeaderMap, port: u16) -> impl Iterator<Item = &str> {
    let name = name(port);
    let texts = headers.get_all(COOKIE).into_iter();
    let cookies = texts.filter_map(|value| value.to_str().ok());
    let cookies = cookies.flat_map(|value| value.split(';'));
    cookies.filter_map(move |cookie| {
        let (own, id) = cookie.trim().split_once('=')?;
        (own == name && !id.is_empty()).then_some(id)
    })
}

fn hashed(id: &str) -> String {
    KeyDigest::of(id.as_bytes()).to_hex()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const KEY: &str = "a-key-of-the-owner-of-the-hub";

    fn config() -> Config {
        let hash = |key: &str| KeyDigest::of(key.as_bytes()).to_hex();
        crate::config::from_yaml(&format!(
            "port: 8000\nmodels: [{{name: a, model_path: org/a}}]\napi_keys:\n\
             - {{name: owner, sha256: {}, may: [use, control]}}\n\
             - {{name: user, sha256: {}}}\n",
            hash(KEY),
            hash("user")
        ))
    }

    fn sends(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let sent = cookie.split(';').next().unwrap();
        let sent = HeaderValue::from_str(&format!("other=1; {sent}; more=2")).unwrap();
        headers.insert(COOKIE, sent);
        headers
    }

    #[tokio::test(start_paused = true)]
    async fn a_cookie_stands_for_its_key_until_it_is_logged_out_or_old() {
        let (sessions, config) = (Sessions::default(), config());
        let client = IpAddr::from([10, 0, 0, 1]);
        let cookie = sessions
            .log_in(&format!(" {KEY}\n"), client, &config)
            .unwrap();
        assert!(cookie.starts_with("mlx_hub_session_8000="), "{cookie}");
        assert!(
            cookie.ends_with("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict"),
            "{cookie}"
        );
        let headers = sends(&cookie);
        let owner = Some(KeyDigest::of(KEY.as_bytes()));
        assert_eq!(sessions.key_of(&headers, 8000), owner);
        assert_eq!(sessions.key_of(&headers, 8001), None);
        assert_eq!(
            sessions.key_of(&sends("mlx_hub_session_8000=guess"), 8000),
            None
        );
        assert_eq!(sessions.key_of(&HeaderMap::new(), 8000), None);
        let other = sends(&sessions.log_in(KEY, client, &config).unwrap());
        let gone = sessions.log_out(&headers, 8000);
        assert!(
            gone.starts_with("mlx_hub_session_8000=; Path=/; Max-Age=0;"),
            "{gone}"
        );
        assert_eq!(sessions.key_of(&headers, 8000), None);
        assert_eq!(sessions.key_of(&other, 8000), owner);
        tokio::time::advance(LASTS).await;
        assert_eq!(sessions.key_of(&other, 8000), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_takes_over_ends_a_session_when_the_one_before_would_have() {
        let (sessions, config) = (Sessions::default(), config());
        let client = IpAddr::from([10, 0, 0, 1]);
        let old = sends(&sessions.log_in(KEY, client, &config).unwrap());
        tokio::time::advance(Duration::from_secs(60)).await;
        let cookie = sessions.log_in(KEY, client, &config).unwrap();
        let new = sends(&cookie);
        tokio::time::advance(LASTS - Duration::from_secs(61)).await;

        let handed = serde_json::to_string(&sessions.handed_on()).unwrap();
        let id = cookie.split(['=', ';']).nth(1).unwrap();
        assert!(!handed.contains(id) && !handed.contains(KEY), "{handed}");
        let heir = Sessions::default();
        heir.inherit(serde_json::from_str(&handed).unwrap());
        let owner = Some(KeyDigest::of(KEY.as_bytes()));
        assert_eq!(heir.key_of(&old, 8000), owner);
        assert_eq!(heir.key_of(&new, 8000), owner);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(heir.key_of(&old, 8000), None);
        assert_eq!(heir.key_of(&new, 8000), owner);
        let later = Sessions::default();
        later.inherit(heir.handed_on());
        assert_eq!(later.open.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_keys_are_counted_by_address_and_forgotten_after_a_minute() {
        let (sessions, config) = (Sessions::default(), config());
        let at = |address: &str, key: &str| {
            let refused = sessions
                .log_in(key, address.parse().unwrap(), &config)
                .err();
            refused.map(|error| (error.status, error.retry_after))
        };
        for _ in 0..TRIES - 1 {
            assert_eq!(at("10.0.0.1", "wrong"), Some((401, None)));
        }
        assert_eq!(at("10.0.0.1", "user"), Some((403, None)));
        assert_eq!(at("10.0.0.1", KEY), Some((429, Some(60))));
        assert_eq!(at("::ffff:10.0.0.1", KEY), Some((429, Some(60))));
        assert_eq!(at("10.0.0.2", KEY), None);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(at("10.0.0.1", KEY), Some((429, Some(1))));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(at("10.0.0.1", KEY), None);
        for last in 0..TRIES {
            assert_eq!(at(&format!("2001:db8::{last}"), "wrong"), Some((401, None)));
        }
        assert_eq!(at("2001:db8::ffff", KEY), Some((429, Some(60))));
        assert_eq!(at("2001:db8:0:1::1", KEY), None);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_sessions_or_addresses_than_may_be() {
        let sessions = Sessions::default();
        for number in 0..MOST + 5 {
            let now = Instant::now();
            sessions.open(
                KeyDigest::of(&number.to_ne_bytes()),
                KeyDigest::of(b""),
                now,
            );
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(sessions.open.lock().len(), MOST);
        let oldest = KeyDigest::of(&0_usize.to_ne_bytes()).to_hex();
        assert!(!sessions.open.lock().contains_key(&oldest));
        for number in 0..MOST_ADDRESSES as u32 + 5 {
            sessions.note_wrong(IpAddr::from(number.to_be_bytes()), Instant::now());
        }
        assert_eq!(sessions.tries.lock().len(), MOST_ADDRESSES);
    }
}
