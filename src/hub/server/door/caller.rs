//! The facts about a request's origin, from its head.

use http::header::{ACCEPT_LANGUAGE, HOST, ORIGIN, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderValue};

/// The value of `Sec-Fetch-Site`, the least trusted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Site {
    /// No header: a program, or an old browser.
    #[default]
    Unsaid,
    /// `same-origin`, or `none`: the user.
    Own,
    /// `same-site`: another port of this host, or another host of its domain.
    Same,
    /// `cross-site`.
    Cross,
}

/// The facts about the sender of a request.
#[derive(Debug, Default)]
pub(super) struct Caller<'h> {
    pub(super) host: Option<&'h HeaderValue>,
    pub(super) origin: Option<&'h HeaderValue>,
    pub(super) referer: Option<&'h HeaderValue>,
    pub(super) site: Site,
    pub(super) has_two_hosts: bool,
    pub(super) has_two_origins: bool,
    /// True if it may be a browser: every one sends one of these, few programs do.
    pub(super) may_be_browser: bool,
    /// True if it says that it is one: `User-Agent` begins with `Mozilla/`, which a page cannot change.
    pub(super) is_browser: bool,
}

impl<'h> Caller<'h> {
    /// Reads a head, once.
    pub(super) fn of(headers: &'h HeaderMap) -> Self {
        let mut caller = Self::default();
        for (name, value) in headers {
            // Comparing standard names compares numbers.
            if *name == HOST {
                caller.has_two_hosts |= caller.host.replace(value).is_some();
            } else if *name == USER_AGENT {
                caller.is_browser |= value.as_bytes().starts_with(b"Mozilla/");
            } else if *name == ORIGIN {
                caller.has_two_origins |= caller.origin.replace(value).is_some();
                caller.may_be_browser = true;
            } else if *name == REFERER {
                caller.referer = Some(value);
                caller.may_be_browser = true;
            } else if *name == ACCEPT_LANGUAGE {
                caller.may_be_browser = true;
            } else if let Some(about) = name.as_str().strip_prefix("sec-fetch-") {
                caller.may_be_browser = true;
                if about == "site" {
                    caller.site = caller.site.max(Site::of(value));
                }
            }
        }
        caller.may_be_browser |= caller.is_browser;
        caller
    }
}

impl Site {
    fn of(value: &HeaderValue) -> Self {
        match value.as_bytes() {
            b"same-origin" | b"none" => Self::Own,
            b"same-site" => Self::Same,
            // An unknown word is not trusted.
            _ => Self::Cross,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn every_sign_of_a_browser_is_one() {
        for sign in [
            ("origin", "null"),
            ("referer", "http://a.example/"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
            ("sec-fetch-user", "?1"),
            ("accept-language", "*"),
            ("user-agent", "Mozilla/5.0 (Macintosh)"),
        ] {
            assert!(Caller::of(&headers(&[sign])).may_be_browser, "{sign:?}");
        }
        let program = headers(&[
            ("host", "box:8000"),
            ("user-agent", "OpenAI/Python 2.54.0"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
            ("content-type", "application/json"),
            ("sec-websocket-key", "x"),
            ("authorization", "Bearer Mozilla/"),
        ]);
        assert!(!Caller::of(&program).may_be_browser);
    }

    #[test]
    fn what_stands_twice_is_noticed() {
        let one = headers(&[("host", "a"), ("origin", "http://a")]);
        let caller = Caller::of(&one);
        assert!(!caller.has_two_hosts && !caller.has_two_origins);
        let two = headers(&[
            ("host", "a"),
            ("origin", "b"),
            ("host", "a"),
            ("origin", "b"),
        ]);
        let caller = Caller::of(&two);
        assert!(caller.has_two_hosts && caller.has_two_origins);
    }

    #[test]
    fn the_worst_that_is_said_of_a_site_counts() {
        for (values, site) in [
            (&[][..], Site::Unsaid),
            (&["none"], Site::Own),
            (&["same-origin"], Site::Own),
            (&["same-site"], Site::Same),
            (&["cross-site"], Site::Cross),
            (&["something-new"], Site::Cross),
            (&["cross-site", "same-origin"], Site::Cross),
        ] {
            let lines: Vec<_> = values
                .iter()
                .map(|value| ("sec-fetch-site", *value))
                .collect();
            assert_eq!(Caller::of(&headers(&lines)).site, site, "{values:?}");
        }
    }
}
