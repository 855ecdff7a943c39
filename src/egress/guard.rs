//! The SSRF guard: refuses addresses that the policy refuses, and this machine's own addresses.
//!
//! Without the second rule, a customer could reach services of this machine through its public address. The guard
//! checks before connecting, so an outcome never reveals whether a port is open. It checks again afterwards, because an
//! interface may have received the address in between.

use std::net::IpAddr;
use std::sync::Arc;

use super::local;
use crate::domain::address::{AddressPolicy, BlockedAddress};

const OWN_ADDRESS: &str = "an address of this machine";

/// Checks addresses. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    policy: Arc<AddressPolicy>,
    is_own: fn(IpAddr) -> bool,
}

impl Guard {
    /// The guard for this machine.
    pub fn new(policy: Arc<AddressPolicy>) -> Guard {
        Guard { policy, is_own: local::is_own }
    }

    /// A guard for a machine with other addresses.
    #[cfg(test)]
    pub fn with_own_addresses(policy: Arc<AddressPolicy>, is_own: fn(IpAddr) -> bool) -> Guard {
        Guard { policy, is_own }
    }

    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Checks an address before connecting.
    ///
    /// # Errors
    /// The address is refused.
    pub fn check(&self, ip: IpAddr) -> Result<(), BlockedAddress> {
        self.policy.check(ip)?;
        self.check_own(ip, self.is_own)
    }

    /// Checks an open connection: equal addresses at both ends mean that it leads to this machine.
    ///
    /// # Errors
    /// The peer's address is refused.
    pub fn check_connected(&self, local: IpAddr, peer: IpAddr) -> Result<(), BlockedAddress> {
        self.check_own(peer, |peer| peer.to_canonical() == local.to_canonical())
    }

    fn check_own(&self, ip: IpAddr, is_own: impl Fn(IpAddr) -> bool) -> Result<(), BlockedAddress> {
        match !self.policy.is_allowed(ip) && is_own(ip) {
            true => Err(BlockedAddress { ip, why: OWN_ADDRESS.to_owned() }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::domain::deliveries::attempt::Failure;
    use crate::egress::dns::test_name_server::{DnsReply, guarded, post, server};

    /// Loopback stands in for a public address, so the test can listen on it.
    #[tokio::test]
    async fn a_blocked_own_address_does_not_reveal_open_ports() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (port, _) = server(|_, _| DnsReply::Addresses(vec!["8.8.8.8".parse().unwrap()], 1));
        let guard = Guard::with_own_addresses(Arc::default(), |ip| ip.to_string() == "8.8.8.8");
        let egress = guarded(Vec::new(), move || Some((port, None)), guard);
        let listening = listener.local_addr().unwrap().port();
        for (host, detail) in
            [("8.8.8.8", "the address is blocked"), ("a.example", "the name resolves to a blocked address")]
        {
            // An open and a closed port.
            for port in [listening, 1] {
                let url = format!("http://{host}:{port}/");
                let outcome = post(&egress, &url, Duration::from_secs(5)).await.unwrap();
                assert_eq!((outcome.failure, outcome.detail.as_str()), (Some(Failure::Blocked), detail), "{url}");
                let refused = egress.vet_text(&url).await.unwrap_err().to_string();
                assert!(refused.contains("leads to a blocked address"), "{url}: {refused}");
                assert!(!refused.contains("8.8.8.8") && !refused.contains("machine"), "{url}: {refused}");
            }
        }
        assert!(listener.accept().is_err(), "nobody connected");
    }

    #[test]
    fn an_own_address_is_refused_unless_allowed() {
        let own: IpAddr = "8.8.8.8".parse().unwrap();
        let is_own = |ip: IpAddr| ip.to_string() == "8.8.8.8";
        let guard = |allow: &[&str]| {
            let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
            Guard::with_own_addresses(Arc::new(AddressPolicy { allow, https_only: false }), is_own)
        };
        let (closed, opened) = (guard(&[]), guard(&["8.8.8.8/32"]));
        let other: IpAddr = "8.8.4.4".parse().unwrap();
        assert_eq!(closed.check(own).unwrap_err().to_string(), "8.8.8.8 is an address of this machine");
        assert!(opened.check(own).is_ok() && closed.check(other).is_ok());
        assert!(
            closed.check("10.0.0.1".parse().unwrap()).unwrap_err().why.contains("private"),
            "the policy counts too"
        );
        assert!(closed.check_connected(other, other).is_err());
        assert!(closed.check_connected("::ffff:8.8.4.4".parse().unwrap(), other).is_err());
        assert!(closed.check_connected(own, other).is_ok() && opened.check_connected(own, own).is_ok());
    }
}
