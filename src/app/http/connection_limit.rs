//! Limits open connections, in total and per address. The remaining descriptors belong to the engine and the store.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{counter, gauge};

use crate::traffic::proxies::{TrustedProxies, network};

/// Connection counts, shared by all workers.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    proxies: TrustedProxies,
    open: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    total: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// An open connection; dropping it frees its slot.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limiter: ConnectionLimiter,
    network: IpAddr,
}

impl ConnectionLimiter {
    /// Allows `max` connections. One address gets at most half, so it cannot lock others out. A trusted proxy carries
    /// many clients and may use all.
    pub fn new(max: usize, proxies: TrustedProxies) -> ConnectionLimiter {
        ConnectionLimiter(Arc::new(Inner { max: max.max(1), proxies, open: Mutex::default() }))
    }

    /// A permit for a connection from `peer`. `None`: the limit is reached, and the connection must be closed.
    pub fn acquire(&self, peer: IpAddr) -> Option<ConnectionPermit> {
        let network = network(peer);
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let from_network = open.by_network.get(&network).copied().unwrap_or(0);
        let reason = match () {
            () if open.total >= self.0.max => Some("full"),
            () if from_network >= self.0.max.div_ceil(2) && !self.0.proxies.trusts(peer) => Some("address"),
            () => None,
        };
        if let Some(reason) = reason {
            counter!("sendoff_http_connections_cut_total", "reason" => reason).increment(1);
            return None;
        }
        open.total += 1;
        open.by_network.insert(network, from_network + 1);
        gauge!("sendoff_http_connections").increment(1.0);
        Some(ConnectionPermit { limiter: self.clone(), network })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limiter.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(from_network) = open.by_network.get_mut(&self.network) {
            *from_network -= 1;
            if *from_network == 0 {
                open.by_network.remove(&self.network);
            }
        }
        gauge!("sendoff_http_connections").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_gets_half_of_the_connections() {
        let limiter = ConnectionLimiter::new(4, TrustedProxies::default());
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut held: Vec<ConnectionPermit> = (0..2).map(|_| limiter.acquire(one).unwrap()).collect();
        assert!(limiter.acquire(one).is_none() && limiter.acquire(address("::ffff:192.0.2.1")).is_none());
        held.extend((0..2).map(|_| limiter.acquire(other).unwrap()));
        assert!(limiter.acquire(address("192.0.2.3")).is_none(), "all are in use");
        held.remove(0);
        assert!(limiter.acquire(one).is_some());
        drop(held);
        let open = limiter.0.open.lock().unwrap();
        assert!(open.total == 0 && open.by_network.is_empty());
    }

    #[test]
    fn a_trusted_proxy_may_use_all() {
        let limiter = ConnectionLimiter::new(4, TrustedProxies::new(vec!["192.0.2.1/32".parse().unwrap()]));
        let held: Vec<ConnectionPermit> = (0..4).map(|_| limiter.acquire(address("192.0.2.1")).unwrap()).collect();
        assert!(limiter.acquire(address("192.0.2.1")).is_none());
        drop(held);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let limiter = ConnectionLimiter::new(2, TrustedProxies::default());
        let _held = limiter.acquire(address("2001:db8::1")).unwrap();
        assert!(limiter.acquire(address("2001:db8::2:0:0:1")).is_none());
        assert!(limiter.acquire(address("2001:db8:0:1::1")).is_some());
    }
}
