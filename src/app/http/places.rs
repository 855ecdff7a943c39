//! How many connections may be open: in all, and from one address. The rest of the descriptors is the engine's and the store's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{counter, gauge};

use crate::traffic::proxies::{TrustedProxies, network};

/// The places for connections, shared by all workers.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    proxies: TrustedProxies,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    network: IpAddr,
}

impl Places {
    /// `most` places. One address may have half of them, so that it cannot keep everybody else out; a trusted proxy, which is everybody,
    /// may have all.
    pub fn new(most: usize, proxies: TrustedProxies) -> Places {
        Places(Arc::new(Inner { most: most.max(1), proxies, taken: Mutex::default() }))
    }

    /// A place for a connection from `peer`; `None`: there is none, and the connection is to be closed.
    pub fn take(&self, peer: IpAddr) -> Option<Place> {
        let network = network(peer);
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.by.get(&network).copied().unwrap_or(0);
        let reason = match () {
            () if taken.all >= self.0.most => Some("full"),
            () if here >= self.0.most.div_ceil(2) && !self.0.proxies.trusts(peer) => Some("address"),
            () => None,
        };
        if let Some(reason) = reason {
            counter!("sendoff_http_connections_cut_total", "reason" => reason).increment(1);
            return None;
        }
        taken.all += 1;
        taken.by.insert(network, here + 1);
        gauge!("sendoff_http_connections").increment(1.0);
        Some(Place { places: self.clone(), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(here) = taken.by.get_mut(&self.network) {
            *here -= 1;
            if *here == 0 {
                taken.by.remove(&self.network);
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
    fn one_address_has_half_of_the_places() {
        let places = Places::new(4, TrustedProxies::default());
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut held: Vec<Place> = (0..2).map(|_| places.take(one).unwrap()).collect();
        assert!(places.take(one).is_none() && places.take(address("::ffff:192.0.2.1")).is_none());
        held.extend((0..2).map(|_| places.take(other).unwrap()));
        assert!(places.take(address("192.0.2.3")).is_none(), "all are taken");
        held.remove(0);
        assert!(places.take(one).is_some());
        drop(held);
        let taken = places.0.taken.lock().unwrap();
        assert!(taken.all == 0 && taken.by.is_empty());
    }

    #[test]
    fn a_trusted_proxy_may_have_all() {
        let places = Places::new(4, TrustedProxies::new(vec!["192.0.2.1/32".parse().unwrap()]));
        let held: Vec<Place> = (0..4).map(|_| places.take(address("192.0.2.1")).unwrap()).collect();
        assert!(places.take(address("192.0.2.1")).is_none());
        drop(held);
    }

    #[test]
    fn the_addresses_of_an_ipv6_network_are_one() {
        let places = Places::new(2, TrustedProxies::default());
        let _held = places.take(address("2001:db8::1")).unwrap();
        assert!(places.take(address("2001:db8::2:0:0:1")).is_none());
        assert!(places.take(address("2001:db8:0:1::1")).is_some());
    }
}
