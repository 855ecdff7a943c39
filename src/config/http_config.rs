//! HTTP settings: listen addresses, public URLs, origins, rate limits, and warnings about plain HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use url::{Host, Url};

use super::parsers::{self, count_within};
use super::{ConfigError, Settings};
use crate::traffic::Traffic;
use crate::traffic::proxies::TrustedProxies;
use crate::traffic::rate_limits::{RateLimits, Rates};

#[derive(Debug)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// A separate address for the probes. `None`: the main address serves them.
    pub admin_listen: Option<SocketAddr>,
    /// A separate address for the dashboard. `None`: the main address serves it.
    pub dashboard_listen: Option<SocketAddr>,
    /// A separate address for the portal. `None`: the main address serves it.
    pub portal_listen: Option<SocketAddr>,
    /// `None`: derived from the listen address. Needs `dashboard_listen`.
    pub dashboard_url: Option<Url>,
    /// `None`: derived from the listen address. Needs `portal_listen`.
    pub portal_url: Option<Url>,
    /// `None`: derived from the listen address.
    pub public_url: Option<Url>,
    /// Origins that may embed the portal, such as `https://app.example.com`.
    pub frame_origins: Vec<String>,
    /// Browser origins that may call the API; `None`: any.
    pub cors_origins: Option<Vec<String>>,
    pub rates: Rates,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub proxies: TrustedProxies,
}

impl HttpConfig {
    pub(super) fn new(settings: &Settings) -> Result<HttpConfig, ConfigError> {
        let dashboard_listen = settings.parse_optional("dashboard_listen", parsers::listen)?;
        let dashboard_url = settings.parse_optional("dashboard_url", parsers::public_url)?;
        if dashboard_url.is_some() && dashboard_listen.is_none() {
            let why = "needs SENDOFF_DASHBOARD_LISTEN; without it the dashboard is at SENDOFF_PUBLIC_URL";
            return Err(settings.error("dashboard_url", why));
        }
        let portal_listen = settings.parse_optional("portal_listen", parsers::listen)?;
        let portal_url = settings.parse_optional("portal_url", parsers::public_url)?;
        if portal_url.is_some() && portal_listen.is_none() {
            return Err(settings
                .error("portal_url", "needs SENDOFF_PORTAL_LISTEN; without it the portal is at SENDOFF_PUBLIC_URL"));
        }
        Ok(HttpConfig {
            dashboard_listen,
            dashboard_url,
            portal_listen,
            portal_url,
            listen: settings.parse("listen", parsers::listen)?,
            admin_listen: settings.parse_optional("admin_listen", parsers::listen)?,
            public_url: settings.parse_optional("public_url", parsers::public_url)?,
            frame_origins: settings.parse("frame_origins", parsers::frame_origins)?,
            cors_origins: settings.parse("cors_origins", parsers::cors_origins)?,
            rates: rates(settings)?,
            proxies: settings.parse("trusted_proxies", parsers::networks).map(TrustedProxies::new)?,
        })
    }

    /// The rate limits of this process.
    pub fn traffic(&self) -> Traffic {
        Traffic { limits: RateLimits::new(self.rates), proxies: self.proxies.clone(), ..Traffic::default() }
    }

    /// Checks that no two settings name the same address, which the kernel would call in use by another process.
    ///
    /// # Errors
    /// Names both settings.
    pub fn check_listeners(&self) -> Result<(), ConfigError> {
        let all = [
            ("SENDOFF_LISTEN", Some(self.listen)),
            ("SENDOFF_ADMIN_LISTEN", self.admin_listen),
            ("SENDOFF_DASHBOARD_LISTEN", self.dashboard_listen),
            ("SENDOFF_PORTAL_LISTEN", self.portal_listen),
        ];
        let given: Vec<_> = all.into_iter().filter_map(|(name, address)| Some((name, address?))).collect();
        for (n, (name, address)) in given.iter().enumerate() {
            if let Some((other, its)) = given[..n].iter().find(|(_, its)| overlap(*its, *address)) {
                return Err(ConfigError(format!(
                    "{name} ({address}) and {other} ({its}) are the same port: set {name} to another one"
                )));
            }
        }
        Ok(())
    }

    /// Warnings about plain HTTP on the main port, the dashboard and the portal.
    pub(super) fn exposure_warnings(&self) -> Vec<String> {
        let main = exposure_warning("SENDOFF_LISTEN", self.listen, "SENDOFF_PUBLIC_URL", self.public_url.as_ref());
        let api_only = self.dashboard_listen.is_some() && self.portal_listen.is_some();
        let main = match &self.public_url {
            None if api_only && self.listen.ip().is_unspecified() => Some(format!(
                "SENDOFF_LISTEN is {} and SENDOFF_PUBLIC_URL is not set: polling tokens and examples name localhost. Set \
                 SENDOFF_PUBLIC_URL to the API's URL, preferably https",
                self.listen
            )),
            _ => main,
        };
        let dashboard = self.dashboard_listen.and_then(|listen| {
            exposure_warning("SENDOFF_DASHBOARD_LISTEN", listen, "SENDOFF_DASHBOARD_URL", self.dashboard_url.as_ref())
        });
        let portal = self.portal_listen.and_then(|listen| {
            exposure_warning("SENDOFF_PORTAL_LISTEN", listen, "SENDOFF_PORTAL_URL", self.portal_url.as_ref())
        });
        main.into_iter().chain(dashboard).chain(portal).collect()
    }

    /// The base URL of links to the portal, if configured.
    pub fn portal_link(&self) -> Option<&Url> {
        if self.portal_listen.is_some() { self.portal_url.as_ref() } else { self.public_url.as_ref() }
    }

    /// The API's URL, derived from the bound address unless configured. An unspecified address becomes loopback.
    ///
    /// # Errors
    /// None in practice: an address always makes a URL.
    pub fn public_url(&self, bound: SocketAddr) -> Result<Url, url::ParseError> {
        self.public_url.clone().map_or_else(|| local_url(bound), Ok)
    }

    /// The dashboard's URL, derived from the bound address unless configured: that of its own port, or the main one.
    ///
    /// # Errors
    /// None in practice: an address always makes a URL.
    pub fn dashboard_url(&self, main: SocketAddr, own: Option<SocketAddr>) -> Result<Url, url::ParseError> {
        match own {
            Some(bound) => self.dashboard_url.clone().map_or_else(|| local_url(bound), Ok),
            None => self.public_url(main),
        }
    }

    /// The portal's URL, derived from the bound address unless configured.
    ///
    /// # Errors
    /// None in practice: an address always makes a URL.
    pub fn portal_url(&self, bound: SocketAddr) -> Result<Url, url::ParseError> {
        self.portal_url.clone().map_or_else(|| local_url(bound), Ok)
    }
}

/// Whether two addresses are the same port of this machine. Port 0 is a free port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip()
        || (one.is_ipv4() == other.is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified()));
    one.port() == other.port() && one.port() != 0 && same_ip
}

/// The URL of a bound address.
fn local_url(bound: SocketAddr) -> Result<Url, url::ParseError> {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Url::parse(&format!("http://{}/", SocketAddr::new(ip, bound.port())))
}

/// The warning about serving pages at `listen`, reached by browsers at `url`; the other two name their settings.
fn exposure_warning(listen_setting: &str, listen: SocketAddr, url_setting: &str, url: Option<&Url>) -> Option<String> {
    match url {
        Some(url) if url.scheme() == "http" && !is_loopback(url) => Some(format!(
            "{url_setting} ({url}) is plain http, which exposes passwords, session cookies and API keys: terminate TLS in \
             front of Sendoff and set {url_setting} to the https URL"
        )),
        None if listen.ip().is_unspecified() => Some(format!(
            "{listen_setting} is {listen} and {url_setting} is not set: pages are served for localhost and 127.0.0.1 only. \
             Set {url_setting} to the URL that browsers use, preferably https"
        )),
        None if !listen.ip().is_loopback() => Some(format!(
            "{listen_setting} is {listen}, over plain http, which exposes passwords, session cookies and API keys: \
             terminate TLS in front of Sendoff and set {url_setting} to the https URL"
        )),
        _ => None,
    }
}

/// Requests per second; 0 turns a limit off.
fn rates(settings: &Settings) -> Result<Rates, ConfigError> {
    let rate = |name| {
        let rate = settings.parse(name, count_within(0, 1_000_000))?;
        Ok(NonZeroU32::new(u32::try_from(rate).unwrap_or(u32::MAX)))
    };
    Ok(Rates {
        key: rate("rate_limit_key")?,
        application: rate("rate_limit_application")?,
        session: rate("rate_limit_session")?,
        address: rate("rate_limit_address")?,
    })
}

/// Whether `url` leads to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        // For schemes outside the web, such as smtp, `url` keeps an IP address as a domain.
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
    fn default_rates_match_the_settings() {
        let settings = Settings::from_sources(|_| None, |_| None).unwrap();
        assert_eq!(rates(&settings), Ok(Rates::default()));
    }

    fn plain(listen: &str, public: Option<&str>) -> HttpConfig {
        HttpConfig {
            listen: listen.parse().unwrap(),
            admin_listen: None,
            dashboard_listen: None,
            dashboard_url: None,
            portal_listen: None,
            portal_url: None,
            public_url: public.map(|url| url.parse().unwrap()),
            frame_origins: Vec::new(),
            cors_origins: None,
            rates: Rates::default(),
            proxies: TrustedProxies::default(),
        }
    }

    #[test]
    fn only_a_port_that_serves_pages_warns_about_pages() {
        let (dashboard, portal) = ("127.0.0.1:8072".parse().ok(), "127.0.0.1:8073".parse().ok());
        for (dashboard_listen, portal_listen, said) in [
            (None, None, "pages are served"),
            (dashboard, None, "pages are served"),
            (None, portal, "pages are served"),
            (dashboard, portal, "polling tokens and examples name localhost"),
        ] {
            let config = HttpConfig { dashboard_listen, portal_listen, ..plain("0.0.0.0:8071", None) };
            let warnings = config.exposure_warnings();
            assert!(matches!(&warnings[..], [warning] if warning.contains(said)), "{warnings:?}");
        }
        let config = HttpConfig { dashboard_listen: dashboard, portal_listen: portal, ..plain("10.0.0.7:8071", None) };
        assert!(matches!(&config.exposure_warnings()[..], [warning] if warning.contains("over plain http")));
    }

    #[test]
    fn plain_http_beyond_loopback_is_a_warning() {
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
            let warning = plain(listen, public).exposure_warnings();
            let as_wanted = match (said, &warning[..]) {
                (Some(said), [warning]) => warning.contains(said),
                (said, warnings) => said.is_none() && warnings.is_empty(),
            };
            assert!(as_wanted, "{listen} {public:?}: {warning:?}");
        }
    }
}
