//! The door: who may come in, asked about every request before anything else sees it.
//!
//! A browser can be made to carry out two attacks on a server of its own machine. A strange page sends
//! requests to it: its `Origin`, or `Sec-Fetch-Site` where a browser sends none, gives it away. And a
//! strange name resolves to its address (DNS rebinding), so that the page counts as the hub's own: then
//! `Host` does. The door stops both, and says which pages a browser may let read an answer (CORS). It
//! knows rooms, and nothing of routes or models.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Version};

use super::room::Room;
use crate::api::ApiError;
use crate::config::Config;
use crate::config::web::{self, Host};

mod cors;
mod refusals;
#[cfg(test)]
mod tests;
mod visitor;

pub(super) use cors::{allow_origin, preflight};
use visitor::{Site, Visitor};

/// Schemes of applications: no web site can have a page of one.
const APPLICATIONS: [&str; 4] = ["app", "tauri", "vscode-webview", "vscode-file"];

/// How this machine calls itself, whatever name others have for it.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Looks at the head of a request to `room`. `Ok` lets it in, with the origin that its answer is to allow if
/// it comes from a page of another origin that may read it. The configuration in force is asked for only
/// where it counts: most requests tell of no browser, and are let in at once.
///
/// # Errors
/// What to answer instead: 400 for two `Host` headers, 421 for a `Host` that the hub does not answer to, 403
/// for a page that may not do this.
pub(super) fn check(
    parts: &Parts,
    room: Room,
    config: impl FnOnce() -> Arc<Config>,
) -> Result<Option<HeaderValue>, ApiError> {
    let visitor = Visitor::of(&parts.headers);
    if visitor.has_two_hosts {
        return Err(refusals::two_hosts());
    }
    if !visitor.may_be_browser && room != Room::Hub {
        return Ok(None);
    }
    let config = config();
    let reached = reached_at(parts, &visitor);
    if !answers_to(reached, parts, &config) {
        return Err(refusals::strange_host(reached));
    }
    let page = Page {
        parts,
        room,
        visitor,
        config: &config,
        own: reached.and_then(|host| web::origin(&format!("http://{host}"))),
    };
    match room {
        Room::Hall => Ok(None),
        Room::Hub => page.may_control(),
        Room::Workers => page.may_use(),
    }
}

/// `host[:port]` as the client wrote it. A target in absolute form outranks the header (RFC 9112, 3.2.2).
fn reached_at<'a>(parts: &'a Parts, visitor: &Visitor<'a>) -> Option<&'a str> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => visitor.host.map(|host| host.to_str().unwrap_or_default()),
    }
}

/// Whether that is a name of the hub's, and not one that somebody let point to its address.
fn answers_to(reached: Option<&str>, parts: &Parts, config: &Config) -> bool {
    let Some(reached) = reached else {
        // Before HTTP/1.1 there was no `Host`; no browser speaks that any more.
        return parts.version < Version::HTTP_11;
    };
    let Some(host) = Host::of(reached) else {
        return false;
    };
    host.is_address
        || host.name.eq_ignore_ascii_case("localhost")
        || ["localhost", "local", "internal"]
            .iter()
            .any(|domain| is_below(host.name, domain))
        || config
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host.name))
        || is_this_machine(host.name)
}

fn is_below(name: &str, domain: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(name, last)| !name.is_empty() && last.eq_ignore_ascii_case(domain))
}

/// The machine's own name, with and without its domain. It is asked for each time: a Mac's changes with the
/// network that it is in.
fn is_this_machine(name: &str) -> bool {
    let machine = gethostname::gethostname();
    let machine = machine.to_str().unwrap_or_default();
    let short = machine.split('.').next().unwrap_or_default();
    [machine, short]
        .iter()
        .any(|own| !own.is_empty() && own.eq_ignore_ascii_case(name))
}

/// A request that may be that of a web page.
struct Page<'a> {
    parts: &'a Parts,
    room: Room,
    visitor: Visitor<'a>,
    config: &'a Config,
    /// The origin of the hub's own pages, as this client reaches them. The hub speaks plain HTTP; the origin
    /// of a proxy that adds TLS has to be listed.
    own: Option<String>,
}

impl Page<'_> {
    /// Who may change what the hub does: its own pages, and listed ones. Reading changes nothing, and without
    /// CORS a page cannot read.
    fn may_control(self) -> Result<Option<HeaderValue>, ApiError> {
        let changes = !self.parts.method.is_safe();
        let Some(value) = self.visitor.origin else {
            if changes && self.visitor.site >= Site::Same {
                return Err(refusals::another_site(self.room));
            }
            if changes && self.visitor.site == Site::Unsaid {
                self.check_referer()?;
            }
            return Ok(None);
        };
        let origin = self.origin(value);
        let is_listed = origin.as_deref().is_some_and(|origin| self.lists(origin));
        if changes && !is_listed && !self.is_own(origin.as_deref()) {
            return Err(self.foreign(value));
        }
        Ok(is_listed.then(|| value.clone()))
    }

    /// Who may use the models, with any method: no page needs to be asked for a plain POST or GET, and either
    /// may load a model. Besides the hub's own pages and listed ones, this machine's, and applications.
    fn may_use(self) -> Result<Option<HeaderValue>, ApiError> {
        let Some(value) = self.visitor.origin else {
            return match self.visitor.site {
                Site::Unsaid | Site::Own => Ok(None),
                // Only loopback is of one site with loopback.
                Site::Same if self.own.as_deref().is_some_and(is_loopback) => Ok(None),
                Site::Same | Site::Cross => Err(refusals::another_site(self.room)),
            };
        };
        let origin = self.origin(value);
        if self.is_own(origin.as_deref()) {
            return Ok(None);
        }
        let may = origin.is_some_and(|origin| {
            self.lists(&origin) || is_loopback(&origin) || is_application(&origin)
        });
        if may {
            return Ok(Some(value.clone()));
        }
        Err(self.foreign(value))
    }

    /// A browser that sends neither `Origin` nor `Sec-Fetch-Site` may still say where it comes from.
    fn check_referer(&self) -> Result<(), ApiError> {
        let Some(value) = self.visitor.referer else {
            return Ok(());
        };
        let origin = value.to_str().ok().and_then(web::origin_of_url);
        let may = self.is_own(origin.as_deref())
            || origin.as_deref().is_some_and(|origin| self.lists(origin));
        if may {
            return Ok(());
        }
        Err(refusals::foreign_origin(self.room, origin.as_deref()))
    }

    /// Of two origins none counts: programs disagree on which of them holds.
    fn origin(&self, value: &HeaderValue) -> Option<String> {
        if self.visitor.has_two_origins {
            return None;
        }
        web::origin(value.to_str().ok()?)
    }

    fn is_own(&self, origin: Option<&str>) -> bool {
        origin.is_some() && origin == self.own.as_deref()
    }

    fn lists(&self, origin: &str) -> bool {
        let mut listed = self.config.allowed_origins.iter();
        listed.any(|listed| listed == origin)
    }

    fn foreign(&self, value: &HeaderValue) -> ApiError {
        if self.visitor.has_two_origins {
            return refusals::two_origins();
        }
        let origin = String::from_utf8_lossy(value.as_bytes());
        refusals::foreign_origin(self.room, Some(&origin))
    }
}

/// Whether pages of that origin come from this machine itself.
fn is_loopback(origin: &str) -> bool {
    let Some(("http" | "https", address)) = origin.split_once("://") else {
        return false;
    };
    LOOPBACK.iter().any(|host| {
        let port = address.strip_prefix(host);
        port.is_some_and(|port| port.is_empty() || port.starts_with(':'))
    })
}

fn is_application(origin: &str) -> bool {
    let scheme = origin.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| APPLICATIONS.contains(&scheme))
}
