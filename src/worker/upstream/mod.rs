//! HTTP to one worker: where it listens and a small pool of kept-alive connections.

use std::sync::Arc;

/// Which values of `model` a worker answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepts {
    /// It ignores `model`: what the client wrote may stay.
    Any,
    /// Only this one; the gateway replaces any other.
    Only(Arc<str>),
}

/// A running worker's address. One value per launch: connections die with it.
#[derive(Debug)]
pub struct Upstream {
    /// `host:port` for connecting and for the `Host` header; IPv6 in brackets.
    pub authority: Arc<str>,
    /// See [`Accepts`].
    pub accepts: Accepts,
}

impl Upstream {
    /// An upstream without connections yet.
    pub fn new(host: &str, port: u16, accepts: Accepts) -> Self {
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Self {
            authority: authority.into(),
            accepts,
        }
    }
}
