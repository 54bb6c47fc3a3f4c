//! The door: admits or refuses every request before anything else sees it.
//!
//! A browser can be made to carry out two attacks on a server of its own machine. A foreign page sends
//! requests to it: its `Origin`, or `Sec-Fetch-Site` if there is none, gives it away. Or a foreign name resolves
//! to its address (DNS rebinding), so that the page counts as the hub's own: then `Host` gives it away. The door
//! stops both, and tells browsers which pages may read an answer (CORS). It knows areas, and nothing of routes
//! or models.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Version};

use super::area::{Area, is_list};
use crate::api::ApiError;
use crate::config::Config;
use crate::config::web::{self, Host};

mod caller;
mod cors;
mod keys;
mod refusals;
mod sessions;
#[cfg(test)]
mod tests;

use caller::{Caller, Site};
pub(super) use cors::{allow_origin, preflight};
pub(super) use keys::{Pass, key_of_login, pass, wants_login_page};
pub use sessions::{HandedSessions, Sessions};

/// Schemes of applications, which no web site's page can have.
const APPLICATIONS: [&str; 4] = ["app", "tauri", "vscode-webview", "vscode-file"];

/// This machine's own names for itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Checks the head of a request to `area`. `Ok` admits it, with the origin that its answer has to allow if it
/// comes from a page of another origin that may read it. The current configuration is read only if it matters:
/// most requests come from no browser, and are admitted at once.
///
/// # Errors
/// The answer to send instead: 400 for two `Host` headers, 421 for a `Host` that the hub does not answer to, 403
/// for a page that may not do this.
pub(super) fn check(
    parts: &Parts,
    area: Area,
    config: impl FnOnce() -> Arc<Config>,
) -> Result<Option<HeaderValue>, ApiError> {
    let caller = Caller::of(&parts.headers);
    if caller.has_two_hosts {
        return Err(refusals::two_hosts());
    }
    if !caller.may_be_browser && area != Area::Hub {
        return Ok(None);
    }
    let config = config();
    let reached = reached_at(parts, &caller);
    if !answers_to(reached, parts, &config) {
        return Err(refusals::strange_host(reached));
    }
    let page = Page {
        parts,
        area,
        own: own_origin(parts, &caller),
        caller,
        config: &config,
    };
    match area {
        Area::Public => Ok(None),
        Area::Hub => page.may_control(),
        Area::Workers => page.may_use(),
    }
}

/// `host[:port]` as the client wrote it. A target in absolute form outranks the header (RFC 9112, 3.2.2).
fn reached_at<'a>(parts: &'a Parts, caller: &Caller<'a>) -> Option<&'a str> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => caller.host.map(|host| host.to_str().unwrap_or_default()),
    }
}

/// The origin of the hub's own pages, as this client reaches them.
fn own_origin(parts: &Parts, caller: &Caller<'_>) -> Option<String> {
    let host = reached_at(parts, caller)?;
    web::origin(&format!("http://{host}"))
}

/// True if that is a name of the hub's, and not one that a stranger let point to its address.
fn answers_to(reached: Option<&str>, parts: &Parts, config: &Config) -> bool {
    let Some(reached) = reached else {
        // HTTP/1.0 has no `Host`, and no browser speaks it.
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

/// The machine's own name, with and without its domain. It is read each time: a Mac's changes with its
/// network.
fn is_this_machine(name: &str) -> bool {
    let machine = gethostname::gethostname();
    let machine = machine.to_str().unwrap_or_default();
    let short = machine.split('.').next().unwrap_or_default();
    [machine, short]
        .iter()
        .any(|own| !own.is_empty() && own.eq_ignore_ascii_case(name))
}

/// A request that may come from a web page.
struct Page<'a> {
    parts: &'a Parts,
    area: Area,
    caller: Caller<'a>,
    config: &'a Config,
    /// The origin of the hub's own pages, as this client reaches them. The hub speaks plain HTTP; the origin
    /// of a proxy that adds TLS has to be listed.
    own: Option<String>,
}

impl Page<'_> {
    /// Pages that may control the hub: its own, and listed ones. Reading changes nothing, and without CORS a page
    /// cannot read.
    fn may_control(self) -> Result<Option<HeaderValue>, ApiError> {
        let changes = !self.parts.method.is_safe();
        let Some(value) = self.caller.origin else {
            if changes && self.caller.site >= Site::Same {
                return Err(refusals::another_site(self.area));
            }
            if changes && self.caller.site == Site::Unsaid {
                self.check_referer(|origin| self.lists(origin))?;
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

    /// Pages that may use the models, with any method: a plain POST or GET needs no preflight, and either may load
    /// a model. Besides the hub's own pages and listed ones, those of this machine, and applications.
    fn may_use(self) -> Result<Option<HeaderValue>, ApiError> {
        let Some(value) = self.caller.origin else {
            return match self.caller.site {
                Site::Unsaid => self.check_silent_browser(),
                Site::Own => Ok(None),
                // Only loopback is same-site with loopback.
                Site::Same if self.own.as_deref().is_some_and(is_loopback) => Ok(None),
                Site::Same | Site::Cross => Err(refusals::another_site(self.area)),
            };
        };
        let origin = self.origin(value);
        if self.is_own(origin.as_deref()) {
            return Ok(None);
        }
        if origin.is_some_and(|origin| self.is_let_use(&origin)) {
            return Ok(Some(value.clone()));
        }
        Err(self.foreign(value))
    }

    /// Other pages than the hub's own that may use the models.
    fn is_let_use(&self, origin: &str) -> bool {
        self.lists(origin) || is_loopback(origin) || is_application(origin)
    }

    /// Over plain HTTP browsers send no `Sec-Fetch-Site` but to this machine itself, and no `Origin` with a GET: an
    /// image in any page looks like that. Its `Referer` tells, unless the page holds it back, and then nothing
    /// tells it from an address that the user typed. So a GET that says nothing gets only lists, which load
    /// nothing. With a POST every browser sends `Origin`.
    fn check_silent_browser(&self) -> Result<Option<HeaderValue>, ApiError> {
        if !self.caller.is_browser {
            return Ok(None);
        }
        self.check_referer(|origin| self.is_let_use(origin))?;
        let is_told = self.caller.referer.is_some() || !self.parts.method.is_safe();
        let is_near = self.own.as_deref().is_some_and(is_loopback);
        if is_told || is_near || is_list(self.parts.uri.path()) {
            return Ok(None);
        }
        Err(refusals::silent_browser())
    }

    /// A browser that sends neither `Origin` nor `Sec-Fetch-Site` may still send a `Referer`: the hub's own page, or
    /// one that `may`.
    fn check_referer(&self, may: impl Fn(&str) -> bool) -> Result<(), ApiError> {
        let Some(value) = self.caller.referer else {
            return Ok(());
        };
        let origin = value.to_str().ok().and_then(web::origin_of_url);
        if self.is_own(origin.as_deref()) || origin.as_deref().is_some_and(may) {
            return Ok(());
        }
        Err(refusals::foreign_origin(self.area, origin.as_deref()))
    }

    /// The one `Origin`; of two neither counts, as programs disagree on which is valid.
    fn origin(&self, value: &HeaderValue) -> Option<String> {
        if self.caller.has_two_origins {
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
        if self.caller.has_two_origins {
            return refusals::two_origins();
        }
        let origin = String::from_utf8_lossy(value.as_bytes());
        refusals::foreign_origin(self.area, Some(&origin))
    }
}

/// True if pages of that origin come from this machine itself.
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
