//! Where people and programs come in, who of them counts for what, and what is unwise about it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use url::{Host, Url};

use super::values::{self, count_within};
use super::{Fault, Settings};
use crate::traffic::Traffic;
use crate::traffic::proxies::Proxies;
use crate::traffic::rate_limits::{RateLimits, Rates};

/// Where people and programs come in.
#[derive(Debug)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// Where the probes are, and then no longer there. `None`: beside everything else.
    pub admin_listen: Option<SocketAddr>,
    /// Where the portal is, and then no longer there. `None`: beside everything else.
    pub portal_listen: Option<SocketAddr>,
    /// `None`: made from the address that is listened on. Only with `portal_listen`.
    pub portal_url: Option<Url>,
    /// `None`: made from the address that is listened on.
    pub public_url: Option<Url>,
    /// Sites that may put the portal into a page of theirs: `https://app.example.com`.
    pub frame_origins: Vec<String>,
    /// Origins whose programs in browsers may call the API; `None`: any.
    pub cors_origins: Option<Vec<String>>,
    /// How often callers may call.
    pub rates: Rates,
    /// Whose word about a caller's address counts.
    pub proxies: Proxies,
}

impl HttpConfig {
    pub(super) fn new(settings: &Settings) -> Result<HttpConfig, Fault> {
        let portal_listen = settings.read_given("portal_listen", values::listen)?;
        let portal_url = settings.read_given("portal_url", values::public_url)?;
        if portal_url.is_some() && portal_listen.is_none() {
            return Err(settings
                .fault("portal_url", "needs SENDOFF_PORTAL_LISTEN: otherwise the portal is at SENDOFF_PUBLIC_URL"));
        }
        Ok(HttpConfig {
            portal_listen,
            portal_url,
            listen: settings.read("listen", values::listen)?,
            admin_listen: settings.read_given("admin_listen", values::listen)?,
            public_url: settings.read_given("public_url", values::public_url)?,
            frame_origins: settings.read("frame_origins", values::frame_origins)?,
            cors_origins: settings.read("cors_origins", values::cors_origins)?,
            rates: rates(settings)?,
            proxies: settings.read("trusted_proxies", values::networks).map(Proxies::new)?,
        })
    }

    /// The limits of this process.
    pub fn traffic(&self) -> Traffic {
        Traffic { limits: RateLimits::new(self.rates), proxies: self.proxies.clone() }
    }

    /// Warnings about the addresses of dashboard and portal.
    pub(super) fn exposed(&self) -> Vec<String> {
        let dashboard = exposed("SENDOFF_LISTEN", self.listen, "SENDOFF_PUBLIC_URL", self.public_url.as_ref());
        let portal = self.portal_listen.and_then(|listen| {
            exposed("SENDOFF_PORTAL_LISTEN", listen, "SENDOFF_PORTAL_URL", self.portal_url.as_ref())
        });
        dashboard.into_iter().chain(portal).collect()
    }

    /// The base URL of links into the portal, if the settings give one.
    pub fn portal_link(&self) -> Option<&Url> {
        if self.portal_listen.is_some() { self.portal_url.as_ref() } else { self.public_url.as_ref() }
    }

    /// What people type to get here, now that `bound` is listened on. Who listens everywhere is found on loopback.
    ///
    /// # Errors
    /// None in practice: an address always makes a URL.
    pub fn public_url(&self, bound: SocketAddr) -> Result<Url, url::ParseError> {
        self.public_url.clone().map_or_else(|| url_of(bound), Ok)
    }

    /// The same for customers, if the portal is listened for at `bound`.
    ///
    /// # Errors
    /// None in practice: an address always makes a URL.
    pub fn portal_url(&self, bound: SocketAddr) -> Result<Url, url::ParseError> {
        self.portal_url.clone().map_or_else(|| url_of(bound), Ok)
    }
}

/// The URL of an address that is listened on.
fn url_of(bound: SocketAddr) -> Result<Url, url::ParseError> {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Url::parse(&format!("http://{}/", SocketAddr::new(ip, bound.port())))
}

/// What is unwise about listening at `listen`, by the setting `how`, with `url` for people, by the setting `name`.
fn exposed(how: &str, listen: SocketAddr, name: &str, url: Option<&Url>) -> Option<String> {
    match url {
        Some(url) if url.scheme() == "http" && !near(url) => Some(format!(
            "{name} ({url}) is plain http: passwords, session cookies and API keys can be read on the way. Put TLS in front and name the \
             https address"
        )),
        None if listen.ip().is_unspecified() => Some(format!(
            "{how} is {listen} and {name} is not set: pages are answered as localhost and 127.0.0.1 alone. Set {name} to the address that \
             people use, https by choice"
        )),
        None if !listen.ip().is_loopback() => Some(format!(
            "{how} is {listen}, over plain http: passwords, session cookies and API keys can be read on the way. Put TLS in front and set \
             {name} to its address"
        )),
        _ => None,
    }
}

/// Requests a second; 0 is no limit.
fn rates(settings: &Settings) -> Result<Rates, Fault> {
    let rate = |name| {
        let rate = settings.read(name, count_within(0, 1_000_000))?;
        Ok(NonZeroU32::new(u32::try_from(rate).unwrap_or(u32::MAX)))
    };
    Ok(Rates {
        key: rate("rate_limit_key")?,
        application: rate("rate_limit_application")?,
        session: rate("rate_limit_session")?,
        address: rate("rate_limit_address")?,
    })
}

/// Whether a URL leads to this machine.
pub(super) fn near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        // Of schemes that are not the web's, a URL keeps an address as text.
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_the_defaults_of_the_table() {
        let settings = Settings::gather(|_| None, |_| None).unwrap();
        assert_eq!(rates(&settings), Ok(Rates::default()));
    }

    #[test]
    fn whoever_lets_passwords_go_in_the_clear_hears_of_it() {
        for (listen, public, said) in [
            ("127.0.0.1:8071", None, None),
            ("[::1]:8071", None, None),
            ("0.0.0.0:8071", None, Some("SENDOFF_PUBLIC_URL is not set")),
            ("[::]:8071", None, Some("SENDOFF_PUBLIC_URL is not set")),
            ("10.0.0.7:8071", None, Some("over plain http")),
            ("0.0.0.0:8071", Some("http://hooks.example.com"), Some("is plain http")),
            ("127.0.0.1:8071", Some("http://hooks.example.com"), Some("is plain http")),
            ("0.0.0.0:8071", Some("http://localhost:8071"), None),
            ("0.0.0.0:8071", Some("https://hooks.example.com"), None),
        ] {
            let public_url = public.map(|url| url.parse().unwrap());
            let warning = HttpConfig {
                listen: listen.parse().unwrap(),
                admin_listen: None,
                portal_listen: None,
                portal_url: None,
                public_url,
                frame_origins: Vec::new(),
                cors_origins: None,
                rates: Rates::default(),
                proxies: Proxies::default(),
            }
            .exposed();
            let as_wanted = match (said, &warning[..]) {
                (Some(said), [warning]) => warning.contains(said),
                (said, warnings) => said.is_none() && warnings.is_empty(),
            };
            assert!(as_wanted, "{listen} {public:?}: {warning:?}");
        }
    }
}
