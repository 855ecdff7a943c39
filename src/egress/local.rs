//! Failures of this machine: errors of the system that say nothing about the receiver.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::io::Errno;

use crate::domain::attempt::OwnFailure;

/// No local port is left for a connection: the address can be reached from here, and yet there is none to connect from.
#[derive(Debug, thiserror::Error)]
#[error("no local port is left")]
pub struct NoPort;

/// What of ours is exhausted, if the error says so.
pub fn exhausted(error: &io::Error) -> Option<OwnFailure> {
    let code = error.raw_os_error()?;
    let is = |errno: Errno| errno.raw_os_error() == code;
    if is(Errno::MFILE) || is(Errno::NFILE) {
        Some(OwnFailure::Descriptors)
    } else if is(Errno::NOMEM) || is(Errno::NOBUFS) {
        Some(OwnFailure::Memory)
    } else {
        None
    }
}

/// Whether an error of connecting says that there is no address or port to connect from.
pub fn lacks_port(error: &(dyn Error + 'static)) -> bool {
    let mut link = Some(error);
    while let Some(this) = link {
        if this.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable) {
            return true;
        }
        link = this.source();
    }
    false
}

/// Whether this machine has an address from which it could reach each of these. Without one (an IPv6 address, where there is no
/// IPv6) the system reports what it reports when all ports are taken. Nothing is sent.
pub fn can_reach(addresses: impl IntoIterator<Item = SocketAddr>) -> bool {
    let mut addresses = addresses.into_iter().peekable();
    let known = addresses.peek().is_some();
    known
        && addresses.all(|address| {
            let unspecified = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            // Port 0 can't be connected to.
            let to = SocketAddr::new(address.ip(), address.port().max(1));
            UdpSocket::bind(unspecified).and_then(|socket| socket.connect(to)).is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_ours_by_their_number() {
        let table = [
            (Errno::MFILE, Some(OwnFailure::Descriptors)),
            (Errno::NFILE, Some(OwnFailure::Descriptors)),
            (Errno::NOMEM, Some(OwnFailure::Memory)),
            (Errno::NOBUFS, Some(OwnFailure::Memory)),
            (Errno::CONNREFUSED, None),
            (Errno::NETUNREACH, None),
            (Errno::ADDRNOTAVAIL, None),
        ];
        for (errno, wanted) in table {
            assert_eq!(exhausted(&io::Error::from(errno)), wanted, "{errno}");
        }
        assert_eq!(exhausted(&io::Error::from(io::ErrorKind::OutOfMemory)), None, "only what the system says");
    }

    #[test]
    fn a_missing_port_is_told_from_a_missing_address() {
        let bare = io::Error::from(Errno::ADDRNOTAVAIL);
        assert!(lacks_port(&bare) && !lacks_port(&io::Error::from(Errno::CONNREFUSED)));
        assert!(can_reach([SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([127, 0, 0, 1], 443))]));
        assert!(!can_reach([]), "nothing is known of where it went");
        // Nobody has a route to the network "this host is on" by UDP with broadcast off.
        assert!(!can_reach([SocketAddr::from(([127, 0, 0, 1], 443)), SocketAddr::from(([255, 255, 255, 255], 443))]));
    }
}
