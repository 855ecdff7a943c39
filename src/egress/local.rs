//! This machine: system errors that say nothing about a receiver, and the machine's own addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;

use crate::domain::deliveries::attempt::LocalFailure;

/// The destination is reachable, but no local port is free.
#[derive(Debug, thiserror::Error)]
#[error("no local port is left")]
pub struct NoPort;

/// The exhausted resource, if `error` names one.
pub fn exhausted(error: &io::Error) -> Option<LocalFailure> {
    let code = error.raw_os_error()?;
    let is = |errno: Errno| errno.raw_os_error() == code;
    if is(Errno::MFILE) || is(Errno::NFILE) {
        Some(LocalFailure::Descriptors)
    } else if is(Errno::NOMEM) || is(Errno::NOBUFS) {
        Some(LocalFailure::Memory)
    } else {
        None
    }
}

/// Whether connecting failed because no local address or port was available.
pub fn lacks_port(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Whether this machine has a source address for `address`. Without one (an IPv6 destination without IPv6) the system
/// reports the same error as when all ports are taken. Sends nothing.
pub fn can_reach(address: SocketAddr) -> bool {
    let unspecified = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // Connecting to port 0 fails.
    let to = SocketAddr::new(address.ip(), address.port().max(1));
    UdpSocket::bind(unspecified).and_then(|socket| socket.connect(to)).is_ok()
}

/// Whether `ip` belongs to this machine: its route starts there, or a socket can bind to it. Sends nothing.
pub fn is_own(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let (unspecified, foreign): (IpAddr, IpAddr) = match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let bound = |ip: IpAddr| UdpSocket::bind((ip, 0));
    let from = bound(unspecified).and_then(|socket| {
        // The port is arbitrary: the system only looks up the route.
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    // With `ip_nonlocal_bind`, sockets bind to any address, so binding proves nothing.
    from.is_ok_and(|from| from.ip() == ip) || (bound(ip).is_ok() && bound(foreign).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_recognized() {
        let own = |ip: &str| is_own(ip.parse().unwrap());
        // 127.0.0.2 is reached from 127.0.0.1 and still belongs to this machine.
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
    fn exhausted_resources_are_recognized_by_errno() {
        let table = [
            (Errno::MFILE, Some(LocalFailure::Descriptors)),
            (Errno::NFILE, Some(LocalFailure::Descriptors)),
            (Errno::NOMEM, Some(LocalFailure::Memory)),
            (Errno::NOBUFS, Some(LocalFailure::Memory)),
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
    fn a_missing_port_differs_from_a_missing_address() {
        let bare = io::Error::from(Errno::ADDRNOTAVAIL);
        assert!(lacks_port(&bare) && !lacks_port(&io::Error::from(Errno::CONNREFUSED)));
        assert!(can_reach(SocketAddr::from(([127, 0, 0, 1], 0))) && can_reach(SocketAddr::from(([127, 0, 0, 1], 443))));
        // Broadcast is off, so there is no route to 255.255.255.255.
        assert!(!can_reach(SocketAddr::from(([255, 255, 255, 255], 443))));
    }
}
