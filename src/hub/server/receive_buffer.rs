//! The receive buffer: the part of an upload that the system takes from a client before the hub reads it.

use std::io;
use std::os::fd::AsFd;

use socket2::{Domain, SockRef, Socket, Type};

/// With this size a client finishes a large body early, instead of being woken for every piece of it and
/// competing with the hub and the worker for the processor: 8 uploads of 5 MB at once take a tenth less time,
/// one takes a fifth less. It is also the most that the system holds for one client.
const WANTED: usize = 2 * 1024 * 1024;

/// Sets the size for the connections of `listener`, as far as the system allows.
pub(super) fn widen(listener: &impl AsFd) -> io::Result<()> {
    widen_to(listener, WANTED)
}

fn widen_to(listener: &impl AsFd, wanted: usize) -> io::Result<()> {
    // A size that was set is never adapted again, and Linux silently sets the largest it allows. That may be
    // less than its own choice, so an unused socket is tried first.
    let trial = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    trial.set_recv_buffer_size(wanted)?;
    if trial.recv_buffer_size()? >= wanted {
        SockRef::from(listener).set_recv_buffer_size(wanted)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn of_a_connection(listener: &TcpListener) -> usize {
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        SockRef::from(&accepted).recv_buffer_size().unwrap()
    }

    #[test]
    fn connections_get_what_the_system_allows() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A little more than the default: every supported system allows it.
        let wanted = of_a_connection(&listener) + 64 * 1024;
        widen_to(&listener, wanted).unwrap();
        assert!(of_a_connection(&listener) >= wanted);
    }

    #[test]
    fn more_than_that_leaves_them_as_they_were() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = of_a_connection(&listener);
        // Linux silently sets less, macOS refuses.
        let _ = widen_to(&listener, 1 << 30);
        assert_eq!(of_a_connection(&listener), before);
    }
}
