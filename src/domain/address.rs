//! SSRF protection: which addresses Sendoff connects to. Customers choose the URLs, so only public addresses are
//! allowed. Otherwise a webhook could reach machines behind our own firewall.
//!
//! * A **special** address is in the IANA registries of special-purpose addresses
//!   (<https://www.iana.org/assignments/iana-ipv4-special-registry>, `iana-ipv6-special-registry`) or is not global
//!   unicast. [`public`] refuses it with a reason.
//! * An IPv6 address that **embeds** an IPv4 address, and may be routed there, is checked as the IPv4 address.
//! * [`AddressPolicy`] adds the operator's settings (`SENDOFF_EGRESS_ALLOW`, `SENDOFF_HTTPS_ONLY`) and checks whole
//!   URLs. Host names pass here: `egress` checks every address they resolve to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use super::Invalid;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len)
}

/// Takes the first three groups; no range below needs more.
const fn v6(a: u16, b: u16, c: u16, prefix_len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix_len)
}

/// Special IPv4 ranges. The first match gives the reason, so narrow ranges come first.
const SPECIAL_V4: [(Ipv4Net, &str); 18] = [
    (v4(0, 0, 0, 0, 32), "unspecified"),
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared (carrier-grade NAT)"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    // A public address that Azure routes to the virtual machine's host: metadata and configuration.
    (v4(168, 63, 129, 16, 32), "Azure's platform service (cloud metadata)"),
    (v4(169, 254, 0, 0, 16), "link-local (cloud metadata)"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "reserved for protocol assignments"),
    (v4(192, 0, 2, 0, 24), "for documentation"),
    (v4(192, 88, 99, 0, 24), "a 6to4 relay (deprecated)"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "for benchmarking"),
    (v4(198, 51, 100, 0, 24), "for documentation"),
    (v4(203, 0, 113, 0, 24), "for documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// IPv6 ranges outside global unicast. All such addresses are refused; the table only gives the reason.
const OUTSIDE_V6: [(Ipv6Net, &str); 10] = [
    (v6(0x0064, 0xff9b, 1, 48), "local NAT64, which leads to IPv4 addresses of this network"),
    (v6(0x0100, 0, 0, 64), "discard-only"),
    (v6(0x5f00, 0, 0, 16), "for segment routing"),
    (v6(0xfc00, 0, 0, 7), "private (unique local)"),
    (v6(0xfe80, 0, 0, 10), "link-local"),
    (v6(0xfec0, 0, 0, 10), "private (site-local, deprecated)"),
    (v6(0xff00, 0, 0, 8), "multicast"),
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "unspecified"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96), "IPv4-compatible (deprecated)"),
];

/// The global unicast range (RFC 4291, section 2.4). Everything outside is reserved.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// Special ranges inside global unicast.
const SPECIAL_V6: [(Ipv6Net, &str); 6] = [
    (v6(0x2001, 0, 0, 32), "Teredo, which can lead to any IPv4 address"),
    (v6(0x2001, 2, 0, 48), "for benchmarking"),
    (v6(0x2001, 0, 0, 23), "reserved for protocol assignments"),
    (v6(0x2001, 0x0db8, 0, 32), "for documentation"),
    (v6(0x2002, 0, 0, 16), "6to4, which can lead to any IPv4 address"),
    (v6(0x3fff, 0, 0, 20), "for documentation"),
];

/// The well-known NAT64 prefix (RFC 6052). On networks without IPv4, public receivers have these addresses.
const NAT64: Ipv6Net = v6(0x0064, 0xff9b, 0, 96);

/// The embedded IPv4 address (the last 32 bits) and the name of the embedding.
fn embedded(ip: Ipv6Addr) -> Option<(Ipv4Addr, &'static str)> {
    let [.., a, b, c, d] = ip.octets();
    let v4 = Ipv4Addr::new(a, b, c, d);
    let groups = ip.segments();
    match groups {
        _ if NAT64.contains(&ip) => Some((v4, "NAT64")),
        // RFC 5214: interface id 00-00-5E-FE, or 02-00-5E-FE for a globally unique IPv4 address.
        [_, _, _, _, 0x0000 | 0x0200, 0x5efe, _, _] => Some((v4, "ISATAP")),
        _ => None,
    }
}

/// An address Sendoff does not connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ip} is {why}")]
pub struct BlockedAddress {
    pub ip: IpAddr,
    /// The kind of address, e.g. `loopback`, `link-local (cloud metadata)`.
    pub why: String,
}

/// Checks that `ip` is a public address.
///
/// # Errors
/// The kind of special address. An IPv4-mapped address is checked as its IPv4 address, because that is where the system
/// connects.
pub fn public(ip: IpAddr) -> Result<(), BlockedAddress> {
    match why_special(ip.to_canonical()) {
        None => Ok(()),
        Some(why) if ip.to_canonical() == ip => Err(BlockedAddress { ip, why }),
        Some(why) => Err(BlockedAddress { ip, why: format!("IPv4-mapped, stands for {}, {why}", ip.to_canonical()) }),
    }
}

fn why_special(ip: IpAddr) -> Option<String> {
    let ip = match ip {
        IpAddr::V4(ip) => return why_special_v4(ip).map(str::to_owned),
        IpAddr::V6(ip) => ip,
    };
    if let Some((inner, form)) = embedded(ip)
        && let Some(why) = why_special_v4(inner)
    {
        return Some(format!("{form} for {inner}, {why}"));
    }
    if NAT64.contains(&ip) {
        return None;
    }
    let inside = GLOBAL_V6.contains(&ip);
    let table: &[_] = if inside { &SPECIAL_V6 } else { &OUTSIDE_V6 };
    let known = table.iter().find(|(net, _)| net.contains(&ip)).map(|&(_, why)| why);
    known.or((!inside).then_some("reserved")).map(str::to_owned)
}

fn why_special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    SPECIAL_V4.iter().find(|(net, _)| net.contains(&ip)).map(|&(_, why)| why)
}

/// The reason a URL is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The host is an address that Sendoff does not connect to. Customers see this reason: it contains nothing beyond
    /// the URL.
    #[error("points to a blocked address: {0}. Use a public address")]
    Address(#[from] BlockedAddress),
    /// Unsupported scheme, port, credentials or host.
    #[error("{0}")]
    Invalid(&'static str),
}

/// The addresses and URLs this installation may send to.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    /// Special ranges the operator allows (`SENDOFF_EGRESS_ALLOW`).
    pub allow: Vec<IpNet>,
    /// Refuse `http://` (`SENDOFF_HTTPS_ONLY`).
    pub https_only: bool,
}

impl AddressPolicy {
    /// Whether the operator allowed any address.
    pub fn allows_any(&self) -> bool {
        !self.allow.is_empty()
    }

    /// Whether the operator allowed `ip` explicitly. An IPv4 range also allows the IPv4-mapped forms of its addresses,
    /// but no other embedding.
    pub fn is_allowed(&self, ip: IpAddr) -> bool {
        self.allow.iter().any(|net| net.contains(&ip.to_canonical()))
    }

    /// Checks that `ip` is public or allowed.
    ///
    /// # Errors
    /// The address and the reason.
    pub fn check(&self, ip: IpAddr) -> Result<(), BlockedAddress> {
        if self.is_allowed(ip) { Ok(()) } else { public(ip) }
    }

    /// Checks scheme, credentials, port, host, and the address if the host is one. The `url` crate has already parsed
    /// decimal, octal and hexadecimal spellings of addresses.
    ///
    /// # Errors
    /// The reason, for the caller. It never quotes the URL, which may contain a password.
    pub fn check_syntax(&self, url: &Url) -> Result<(), UrlError> {
        match url.scheme() {
            "https" => {}
            "http" if !self.https_only => {}
            "http" => {
                return Err(UrlError::Invalid("must begin with https://: http:// is disabled"));
            }
            _ => return Err(UrlError::Invalid("must begin with https:// or http://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Invalid(
                "must not contain a user name or password: use the header Authorization instead",
            ));
        }
        if url.port() == Some(0) {
            return Err(UrlError::Invalid("must not use port 0"));
        }
        match url.host() {
            Some(Host::Ipv4(ip)) => Ok(self.check(ip.into())?),
            Some(Host::Ipv6(ip)) => Ok(self.check(ip.into())?),
            Some(Host::Domain(name)) if !name.trim_end_matches('.').is_empty() => Ok(()),
            _ => Err(UrlError::Invalid("must name a host, such as https://example.com/webhooks")),
        }
    }

    /// [`AddressPolicy::check_syntax`] for an endpoint's `url` field.
    ///
    /// # Errors
    /// The same reason, with the field's name.
    pub fn check_url(&self, url: &Url) -> Result<(), Invalid> {
        self.check_syntax(url).map_err(|fault| Invalid::new("url", fault.to_string()))
    }
}

#[cfg(test)]
mod tests;
