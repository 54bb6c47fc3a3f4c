//! How much of an upload the system takes from a client before the hub reads it.

use std::io;
use std::os::fd::AsFd;

use socket2::{Domain, SockRef, Socket, Type};

/// With so much a client is done with a large body early, instead of being woken for every piece of it
/// and taking the processor from the hub and the worker each time: 8 uploads of 5 MB at once take a
/// tenth less, one takes a fifth less. It is also all that one client can have the system hold for it.
const WANTED: usize = 2 * 1024 * 1024;

/// Has the connections of `listener` take that much, where the system allows it.
pub(super) fn widen(listener: &impl AsFd) -> io::Result<()> {
    widen_to(listener, WANTED)
}

fn widen_to(listener: &impl AsFd, wanted: usize) -> io::Result<()> {
    // A size that is set once is never adapted again, and Linux sets the largest it allows without saying
    // so. That may be less than it would come to by itself, so a socket that is not used is asked first.
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
        // A little more: no system that the hub runs on allows less than that.
        let wanted = of_a_connection(&listener) + 64 * 1024;
        widen_to(&listener, wanted).unwrap();
        assert!(of_a_connection(&listener) >= wanted);
    }

    #[test]
    fn more_than_that_leaves_them_as_they_were() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = of_a_connection(&listener);
        // Linux allows less and says nothing, macOS refuses.
        let _ = widen_to(&listener, 1 << 30);
        assert_eq!(of_a_connection(&listener), before);
    }
}
