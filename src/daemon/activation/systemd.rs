//! The listeners that come as open files, as systemd hands them over: LISTEN_FDS of them, for the process
//! LISTEN_PID.
//!
//! Other managers do the same, on macOS too.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// Takes them, if they are for this process; what it starts inherits neither them nor the variables.
pub(super) fn listeners() -> io::Result<Option<Vec<TcpListener>>> {
    let whose = std::env::var("LISTEN_PID").ok();
    let is_ours = whose.and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    // Removes the variables, whosever they are.
    let mut given = ListenFd::from_env();
    if !is_ours || given.len() == 0 {
        return Ok(None);
    }
    let listeners = (0..given.len()).filter_map(|n| given.take_tcp_listener(n).transpose());
    listeners.collect::<io::Result<_>>().map(Some)
}
