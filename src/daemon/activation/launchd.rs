//! The listeners that launchd holds: those below `Sockets` in the property list, by name.

#![expect(
    unsafe_code,
    reason = "launchd hands them over through a C function alone, and as bare descriptors"
)]

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// The key below `Sockets`.
const NAME: &CStr = c"Listeners";

// Part of the system's library.
unsafe extern "C" {
    fn launch_activate_socket(
        name: *const c_char,
        fds: *mut *mut c_int,
        count: *mut libc::size_t,
    ) -> c_int;
}

/// Takes them; nothing where launchd has not started this process, or holds none for it. What this process
/// starts does not inherit them.
pub(super) fn listeners() -> io::Result<Option<Vec<TcpListener>>> {
    let sockets = sockets();
    for socket in &sockets {
        fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    }
    let listeners: Vec<_> = sockets.into_iter().map(TcpListener::from).collect();
    Ok((!listeners.is_empty()).then_some(listeners))
}

fn sockets() -> Vec<OwnedFd> {
    let mut fds = std::ptr::null_mut();
    let mut count = 0;
    // SAFETY: the name ends with a NUL, and both pointers are good for the call, which succeeds with an
    // array of `count` open descriptors. They and the array belong to the caller, and are taken once.
    unsafe {
        if launch_activate_socket(NAME.as_ptr(), &raw mut fds, &raw mut count) != 0 || fds.is_null()
        {
            return Vec::new();
        }
        let sockets = std::slice::from_raw_parts(fds, count)
            .iter()
            .map(|fd| OwnedFd::from_raw_fd(*fd))
            .collect();
        libc::free(fds.cast());
        sockets
    }
}
