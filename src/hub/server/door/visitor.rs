//! What the head of a request tells of who sends it.

use http::header::{ACCEPT_LANGUAGE, HOST, ORIGIN, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderValue};

/// What stands in `Sec-Fetch-Site`, the worse the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Site {
    /// Nothing: a program, or an old browser.
    #[default]
    Unsaid,
    /// `same-origin`, or `none`: the user.
    Own,
    /// `same-site`: another port of this host, or another host of its domain.
    Same,
    /// `cross-site`.
    Cross,
}

/// Who asks.
#[derive(Debug, Default)]
pub(super) struct Visitor<'h> {
    pub(super) host: Option<&'h HeaderValue>,
    pub(super) origin: Option<&'h HeaderValue>,
    pub(super) referer: Option<&'h HeaderValue>,
    pub(super) site: Site,
    pub(super) has_two_hosts: bool,
    pub(super) has_two_origins: bool,
    /// Whether it may be a browser: every one sends one of these, few programs do.
    pub(super) may_be_browser: bool,
}

impl<'h> Visitor<'h> {
    /// Reads a head, once.
    pub(super) fn of(headers: &'h HeaderMap) -> Self {
        let mut visitor = Self::default();
        for (name, value) in headers {
            // Comparing with the names that every library knows is comparing numbers.
            if *name == HOST {
                visitor.has_two_hosts |= visitor.host.replace(value).is_some();
            } else if *name == USER_AGENT {
                visitor.may_be_browser |= value.as_bytes().starts_with(b"Mozilla/");
            } else if *name == ORIGIN {
                visitor.has_two_origins |= visitor.origin.replace(value).is_some();
                visitor.may_be_browser = true;
            } else if *name == REFERER {
                visitor.referer = Some(value);
                visitor.may_be_browser = true;
            } else if *name == ACCEPT_LANGUAGE {
                visitor.may_be_browser = true;
            } else if let Some(about) = name.as_str().strip_prefix("sec-fetch-") {
                visitor.may_be_browser = true;
                if about == "site" {
                    visitor.site = visitor.site.max(Site::of(value));
                }
            }
        }
        visitor
    }
}

impl Site {
    fn of(value: &HeaderValue) -> Self {
        match value.as_bytes() {
            b"same-origin" | b"none" => Self::Own,
            b"same-site" => Self::Same,
            // A word that is still to be invented is no reason to trust.
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
            assert!(Visitor::of(&headers(&[sign])).may_be_browser, "{sign:?}");
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
        assert!(!Visitor::of(&program).may_be_browser);
    }

    #[test]
    fn what_stands_twice_is_noticed() {
        let one = headers(&[("host", "a"), ("origin", "http://a")]);
        let visitor = Visitor::of(&one);
        assert!(!visitor.has_two_hosts && !visitor.has_two_origins);
        let two = headers(&[
            ("host", "a"),
            ("origin", "b"),
            ("host", "a"),
            ("origin", "b"),
        ]);
        let visitor = Visitor::of(&two);
        assert!(visitor.has_two_hosts && visitor.has_two_origins);
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
            assert_eq!(Visitor::of(&headers(&lines)).site, site, "{values:?}");
        }
    }
}
