//! The route to a receiver: a direct connection, or a tunnel through the operator's proxy, which gives requests fixed
//! addresses.
//!
//! * [`EgressProxy`] is the setting: an `http`, `https` or `socks5` URL, and the hosts that are reached without it.
//! * [`Route`] opens connections. Even with a proxy it resolves names and checks addresses itself, and asks the proxy
//!   for a tunnel (CONNECT, SOCKS5) to an *address*. The proxy never resolves a name, so DNS rebinding cannot affect
//!   it.
//!
//! TLS to the receiver runs inside the tunnel and verifies the receiver's name as without a proxy.
//!
//! The guard does not apply to the proxy itself. A failure of the proxy counts as this machine's; a receiver that the
//! proxy cannot reach counts as the receiver's.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_socks::tcp::Socks5Stream;
use tower_service::Service;
use url::Url;

use super::connect_service::{BoxError, Connect, ConnectService};
use super::dial::{Dialer, set_options};
use super::dns::resolver::Resolver;
use super::local::exhausted;
use crate::domain::deliveries::attempt::LocalFailure;

/// Timeout for connecting to the proxy: well below the default timeout of an endpoint.
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum addresses of a receiver that are tried, one after the other.
const MAX_TUNNELS: usize = 4;
/// Bytes of a user name or password in SOCKS5 (RFC 1929).
const MAX_SOCKS_CREDENTIAL: usize = 255;

/// A connection to a receiver, or a tunnel to it (over TLS, if the proxy's URL is `https`).
pub type RouteStream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The operator's proxy for requests to receivers, and the hosts that are reached without it. Cheap to clone.
#[derive(Clone)]
pub struct EgressProxy {
    matcher: Arc<Matcher>,
    bypass: Arc<[IpNet]>,
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EgressProxy(redacted)")
    }
}

impl EgressProxy {
    /// `url` is `http://`, `https://` or `socks5://`, with an optional user and password (percent-encoded), host and
    /// port. `bypass` lists hosts to reach directly, separated by commas: names (which include their subdomains),
    /// addresses and networks.
    ///
    /// # Errors
    /// The rest of the sentence "the setting …". It never quotes the URL, which may contain a password.
    pub fn new(url: &str, bypass: &str) -> Result<EgressProxy, String> {
        let parsed = Url::parse(url).map_err(|_| "is not a URL".to_owned())?;
        if !matches!(parsed.scheme(), "http" | "https" | "socks5") || parsed.host_str().is_none_or(str::is_empty) {
            return Err("is not an http, https or socks5 URL".to_owned());
        }
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err("contains more than a scheme, a user, a password, a host and a port".to_owned());
        }
        let matcher = Matcher::builder().all(url).no(bypass).build();
        let proxy = EgressProxy { matcher: Arc::new(matcher), bypass: networks(bypass).collect() };
        // No host is called `.`, so no entry of `bypass` can match it.
        let Some(intercept) = proxy.matcher.intercept(&Uri::from_static("http://./")) else {
            return Err("is not the URL of a proxy".to_owned());
        };
        match intercept.raw_auth() {
            Some((user, password)) if user.is_empty() || password.is_empty() => {
                Err("needs a user name and a password, or neither".to_owned())
            }
            Some((user, password)) if user.len().max(password.len()) > MAX_SOCKS_CREDENTIAL => {
                Err(format!("has a user name or password over {MAX_SOCKS_CREDENTIAL} bytes"))
            }
            _ => Ok(proxy),
        }
    }

    /// The proxy for `uri`, unless its host is in the bypass list.
    fn for_uri(&self, uri: &Uri) -> Option<Intercept> {
        self.matcher.intercept(uri)
    }

    /// Whether the bypass list has a network with this address.
    fn bypasses(&self, ip: IpAddr) -> bool {
        self.bypass.iter().any(|network| network.contains(&ip.to_canonical()))
    }
}

/// The addresses and networks of a bypass list.
fn networks(bypass: &str) -> impl Iterator<Item = IpNet> {
    let items = bypass.split(',').map(str::trim);
    items.filter_map(|item| item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)).ok())
}

/// No tunnel was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The proxy cannot be used, or this machine cannot connect to it.
    #[error("{}", .0.sentence())]
    Ours(LocalFailure),
    /// The proxy did not open a tunnel to the receiver's address.
    #[error("the proxy could not connect to the host")]
    NoTunnel,
}

impl ProxyError {
    /// The proxy did not accept a connection.
    fn unusable(error: &(dyn Error + 'static)) -> ProxyError {
        let mut link = Some(error);
        while let Some(this) = link {
            if let Some(why) = this.downcast_ref::<io::Error>().and_then(exhausted) {
                return ProxyError::Ours(why);
            }
            link = this.source();
        }
        ProxyError::Ours(LocalFailure::Proxy)
    }
}

/// Opens connections to receivers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Route {
    direct: Dialer,
    resolver: Resolver,
    proxied: Option<Proxied>,
}

#[derive(Clone, Debug)]
struct Proxied {
    proxy: EgressProxy,
    connector: ConnectService<ProxyConnector>,
}

impl Route {
    /// Connects to addresses that `resolver` allows, through `proxy` if there is one; `tls` verifies an `https` proxy.
    pub fn new(resolver: Resolver, proxy: Option<EgressProxy>, tls: ClientConfig) -> Route {
        let connector = |tls| ConnectService(ProxyConnector(HttpsConnector::from((ConnectService(ProxyDialer), tls))));
        let proxied = proxy.map(|proxy| Proxied { proxy, connector: connector(tls) });
        Route { direct: Dialer::new(resolver.clone()), resolver, proxied }
    }
}

impl Connect for Route {
    type Connection = RouteStream;
    type Error = BoxError;

    async fn connect(self, uri: Uri) -> Result<RouteStream, BoxError> {
        let Some((proxied, intercept)) =
            self.proxied.as_ref().and_then(|proxied| Some((proxied, proxied.proxy.for_uri(&uri)?)))
        else {
            return Ok(MaybeHttpsStream::Http(self.direct.connect(uri).await?));
        };
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addresses = self.resolver.resolve_allowed(uri.host().unwrap_or_default()).await?.addresses;
        if addresses.iter().any(|&ip| proxied.proxy.bypasses(ip)) {
            return Ok(MaybeHttpsStream::Http(self.direct.connect(uri).await?));
        }
        for ip in addresses.into_iter().take(MAX_TUNNELS) {
            match proxied.tunnel(&intercept, SocketAddr::new(ip, port)).await {
                Err(ProxyError::NoTunnel) => {}
                result => return Ok(result?),
            }
        }
        Err(ProxyError::NoTunnel.into())
    }
}

impl Proxied {
    async fn tunnel(&self, intercept: &Intercept, address: SocketAddr) -> Result<RouteStream, ProxyError> {
        match intercept.uri().scheme_str() {
            Some("socks5") => socks_tunnel(intercept, address).await,
            _ => self.http_tunnel(intercept, address).await,
        }
    }

    async fn http_tunnel(&self, intercept: &Intercept, address: SocketAddr) -> Result<RouteStream, ProxyError> {
        type TunnelError = <Tunnel<ConnectService<ProxyConnector>> as Service<Uri>>::Error;
        let target = format!("http://{address}/").parse().map_err(|_| ProxyError::NoTunnel)?;
        let mut tunnel = Tunnel::new(intercept.uri().clone(), self.connector.clone());
        if let Some(credentials) = intercept.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        tunnel.call(target).await.map_err(|error| match error {
            TunnelError::ConnectFailed(error) => ProxyError::unusable(error.as_ref()),
            TunnelError::ProxyAuthRequired => ProxyError::Ours(LocalFailure::Proxy),
            _ => ProxyError::NoTunnel,
        })
    }
}

async fn socks_tunnel(intercept: &Intercept, address: SocketAddr) -> Result<RouteStream, ProxyError> {
    use tokio_socks::Error as SocksError;
    let stream = match timeout(PROXY_TIMEOUT, dial_proxy(intercept.uri())).await {
        Ok(dialed) => dialed.map_err(|error| ProxyError::unusable(&error))?,
        Err(_) => return Err(ProxyError::Ours(LocalFailure::Proxy)),
    };
    let opened = match intercept.raw_auth() {
        Some((user, password)) => Socks5Stream::connect_with_password_and_socket(stream, address, user, password).await,
        None => Socks5Stream::connect_with_socket(stream, address).await,
    };
    match opened {
        Ok(tunnel) => Ok(MaybeHttpsStream::Http(TokioIo::new(tunnel.into_inner()))),
        Err(
            SocksError::PasswordAuthFailure(_)
            | SocksError::NoAcceptableAuthMethods
            | SocksError::AuthorizationRequired
            | SocksError::UnknownAuthMethod
            | SocksError::InvalidResponseVersion,
        ) => Err(ProxyError::Ours(LocalFailure::Proxy)),
        Err(_) => Err(ProxyError::NoTunnel),
    }
}

/// Connects to the proxy, with TLS if its URL is `https`, within [`PROXY_TIMEOUT`].
#[derive(Clone, Debug)]
struct ProxyConnector(HttpsConnector<ConnectService<ProxyDialer>>);

impl Connect for ProxyConnector {
    type Connection = RouteStream;
    type Error = BoxError;

    async fn connect(mut self, proxy: Uri) -> Result<RouteStream, BoxError> {
        timeout(PROXY_TIMEOUT, self.0.call(proxy))
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }
}

/// Opens the TCP connection to the proxy.
#[derive(Clone, Copy, Debug)]
struct ProxyDialer;

impl Connect for ProxyDialer {
    type Connection = TokioIo<TcpStream>;
    type Error = io::Error;

    async fn connect(self, proxy: Uri) -> io::Result<TokioIo<TcpStream>> {
        Ok(TokioIo::new(dial_proxy(&proxy).await?))
    }
}

async fn dial_proxy(proxy: &Uri) -> io::Result<TcpStream> {
    let port = proxy.port_u16().unwrap_or(match proxy.scheme_str() {
        Some("https") => 443,
        Some("socks5") => 1_080,
        _ => 80,
    });
    let host = proxy.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    // A connection without these options works as well.
    let _ = set_options(&stream);
    Ok(stream)
}

#[cfg(test)]
mod tests;
