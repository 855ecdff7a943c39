//! This machine: errors of the system that say nothing about the receiver, and which addresses are its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

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
pub fn lacks_port(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Whether this machine has an address from which it could reach `address`. Without one (an IPv6 address, where there is no IPv6)
/// the system reports what it reports when all ports are taken. Nothing is sent.
pub fn can_reach(address: SocketAddr) -> bool {
    let unspecified = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // Port 0 can't be connected to.
    let to = SocketAddr::new(address.ip(), address.port().max(1));
    UdpSocket::bind(unspecified).and_then(|socket| socket.connect(to)).is_ok()
}

/// Whether `ip` is an address of this machine: it would be reached from itself, or a socket can be bound to it. Nothing is sent.
pub fn is_own(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let (unspecified, nobodys): (IpAddr, IpAddr) = match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let bound = |ip: IpAddr| UdpSocket::bind((ip, 0));
    let from = bound(unspecified).and_then(|socket| {
        // Any port: the system only looks up the route.
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    // Where sockets may be bound to any address (`ip_nonlocal_bind`), that they can be says nothing.
    from.is_ok_and(|from| from.ip() == ip) || (bound(ip).is_ok() && bound(nobodys).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_addresses_are_known() {
        let own = |ip: &str| is_own(ip.parse().unwrap());
        // 127.0.0.2 is reached from 127.0.0.1, and is as much this machine.
        assert!(own("127.0.0.1") && own("127.0.0.2") && own("::ffff:127.0.0.1"));
        let routed = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("192.0.2.1:9")?;
            socket.local_addr()
        });
        if let Ok(address) = routed {
            assert!(is_own(address.ip()), "{address}");
        }
        for ip in ["192.0.2.1", "8.8.8.8", "1.1.1.1", "2001:db8::1", "2606:4700::1111"] {
            assert!(!own(ip), "{ip}");
        }
    }

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
        assert!(can_reach(SocketAddr::from(([127, 0, 0, 1], 0))) && can_reach(SocketAddr::from(([127, 0, 0, 1], 443))));
        // Nobody has a route to the network "this host is on" by UDP with broadcast off.
        assert!(!can_reach(SocketAddr::from(([255, 255, 255, 255], 443))));
    }
}
