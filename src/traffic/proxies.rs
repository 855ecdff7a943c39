//! The address of a caller behind proxies (`SENDOFF_TRUSTED_PROXIES`).
//!
//! Anyone can send `X-Forwarded-For`. Each proxy appends the address of its peer. The header is therefore read from the
//! right, and an entry counts only if the proxy that wrote it is trusted. Without trusted proxies the header is
//! ignored.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

/// Maximum entries to read. Longer proxy chains do not occur.
const HOPS: usize = 16;

/// The networks whose proxies are trusted. None by default. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts proxies in these networks.
    pub fn new(networks: Vec<IpNet>) -> TrustedProxies {
        TrustedProxies(networks.into())
    }

    /// Whether an address is a trusted proxy's.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&ip.to_canonical()))
    }

    /// The caller's address: `peer`, or the one reported by trusted proxies in the values of `X-Forwarded-For` (in
    /// header order). An invalid entry ends the search; the caller is then the last trusted proxy.
    pub fn caller<'h>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'h [u8]>) -> IpAddr {
        let mut caller = peer.to_canonical();
        if self.0.is_empty() {
            return caller;
        }
        let entries = forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
        for entry in entries.take(HOPS) {
            let Some(address) = self.trusts(caller).then(|| address(entry)).flatten() else { break };
            caller = address;
        }
        caller
    }
}

/// Parses an entry: an address, optionally with a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let parsed = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    parsed.ok().map(|ip| ip.to_canonical())
}

/// The address that limits count by. IPv6 addresses count by their /64 network, which belongs to one subscriber.
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(trusted: &str, peer: &str, forwarded: &[&str]) -> String {
        let networks = trusted.split_whitespace().map(|net| net.parse().unwrap()).collect();
        let values = forwarded.iter().map(|value| value.as_bytes());
        TrustedProxies::new(networks).caller(peer.parse().unwrap(), values).to_string()
    }

    #[test]
    fn only_entries_written_by_trusted_proxies_count() {
        let near = "10.0.0.0/8 ::1/128";
        for (trusted, peer, forwarded, wanted) in [
            // No proxy is trusted by default.
            ("", "10.0.0.1", &["192.0.2.1"][..], "10.0.0.1"),
            (near, "192.0.2.9", &["198.51.100.1"], "192.0.2.9"),
            (near, "10.0.0.1", &[], "10.0.0.1"),
            (near, "10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            // The caller wrote the first entry, and the proxy the second.
            (near, "10.0.0.1", &["198.51.100.1, 192.0.2.1"], "192.0.2.1"),
            (near, "10.0.0.1", &["198.51.100.1", "192.0.2.1"], "192.0.2.1"),
            // Two proxies in a row.
            (near, "10.0.0.1", &["198.51.100.1, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            (near, "10.0.0.1", &["192.0.2.1,10.0.0.2", "10.0.0.3"], "192.0.2.1"),
            // All of them are trusted: the farthest counts.
            (near, "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (near, "10.0.0.1", &["192.0.2.1, nonsense"], "10.0.0.1"),
            (near, "10.0.0.1", &["nonsense, 10.0.0.2"], "10.0.0.2"),
            (near, "10.0.0.1", &["192.0.2.1, "], "10.0.0.1"),
            (near, "::1", &["[2001:db8::7]:443"], "2001:db8::7"),
            (near, "::ffff:10.0.0.1", &["192.0.2.1:5000"], "192.0.2.1"),
            (near, "10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1"),
        ] {
            assert_eq!(caller(trusted, peer, forwarded), wanted, "{peer} {forwarded:?}");
        }
        let long = vec!["10.0.0.2"; 10_000].join(",");
        assert_eq!(
            caller(near, "10.0.0.1", &["192.0.2.1", &long]),
            "10.0.0.2",
            "only a bounded number of entries is read"
        );
    }
}
