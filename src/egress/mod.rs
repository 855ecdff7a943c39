//! Outbound traffic: webhook requests to receivers, and mail. Come here to change how a request is sent, which
//! addresses are blocked, how DNS is resolved, or how a failed connection is explained.
//!
//! * [`Egress`] is the HTTP client. A [`Post`] is one request, its [`Outcome`] the recorded result, and [`NotSent`] a
//!   failure of this machine.
//! * `dns` looks names up, and `guard` blocks addresses (SSRF protection).
//! * `dial` opens TCP connections, `proxy` tunnels through the operator's proxy, `connection` adds TLS and limits, and
//!   `header_case` sets the case of header names. `connect_service` makes them the services of hyper.
//! * `response` limits the recorded part of a response; `classify` turns errors into a [`Failure`] and a sentence.
//! * [`smtp`] hands mail to the operator's mail server. [`provider_client`] asks the operator's identity provider.
//!
//! # Invariants
//!
//! * No connection and no tunnel goes to an address that [`AddressPolicy`] or the guard refuses, whether a URL names it
//!   or DNS returns it. The operator's mail server, proxy and identity provider are exempt.
//! * No error about a refused address reveals the address of a name, the reason for the refusal, or a service that
//!   listens there.
//! * A request reaches the network at most once. The client retries only when an idle connection closed before it took
//!   the first byte (hyper-util, "retry canceled requests").
//! * The client has no redirects, cookies, decompression or HTTP/2, and ignores the system's proxy variables.
//! * Responses are bounded: 100 headers and 64 KiB of head, 256 KiB with all 1xx responses, 16 KiB of body. A longer
//!   head fails the attempt as `protocol`. The endpoint's timeout covers everything, including writing the request.
//! * A failure of this machine (DNS, ports, descriptors, memory) never counts against a receiver.
//! * Nothing here uses the store, the engine or the HTTP server.

mod classify;
mod connect_service;
mod connection;
mod dial;
mod dns;
mod guard;
mod header_case;
mod local;
pub mod provider_client;
mod proxy;
mod response;
pub mod smtp;
#[cfg(test)]
mod test_receiver;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};

use crate::domain::address::{AddressPolicy, UrlError};
use crate::domain::deliveries::attempt::{Failure, LocalFailure, Outcome};
use crate::domain::{Invalid, Time};
use connect_service::ConnectService;
use connection::{ConnectionHandle, Connector, MAX_AGE};
use dns::resolver::{self, Resolver};
use guard::Guard;
use header_case::HeaderCase;
pub use proxy::EgressProxy;

/// Product name in the `user-agent` of every request, before the version. Custom headers cannot override it.
pub const AGENT_NAME: &str = "Sendoff/";
const USER_AGENT_VALUE: &str = concat!("Sendoff/", env!("CARGO_PKG_VERSION"));
/// Idle connections close after this. Common servers close theirs after 5 s (Node.js, Apache); closing first avoids
/// sending a request into a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Idle connections per host: the default of `SENDOFF_MAX_IN_FLIGHT`, because all endpoints may share one host. With
/// fewer, the rest of a burst dials again.
const MAX_IDLE_PER_HOST: usize = 1_024;
/// Bytes of a response head.
const HEAD_LIMIT: usize = 64 * 1024;
/// Saving an endpoint accepts its host name when DNS takes longer than this.
const VET_TIMEOUT: Duration = Duration::from_secs(5);

/// One webhook request.
#[derive(Clone, Debug)]
pub struct Post<'a> {
    pub url: &'a Url,
    /// All headers except `host` and `content-length`. `user-agent` and `accept` get defaults.
    pub headers: HeaderMap,
    /// Header names to send in exactly this case; see `header_case` for all others.
    pub exact_case: &'a [&'a str],
    /// The signed payload.
    pub body: Bytes,
    /// Covers the whole attempt, from the DNS lookup to the last byte.
    pub timeout: Duration,
    /// Wall-clock time at the start; a date in `Retry-After` is relative to it.
    pub now: Time,
}

/// How receivers are reached.
#[derive(Clone, Debug, Default)]
pub struct EgressOptions {
    pub policy: AddressPolicy,
    /// `None`: receivers are reached directly.
    pub proxy: Option<EgressProxy>,
    /// Empty: the system's.
    pub name_servers: Vec<SocketAddr>,
}

/// The HTTP client. Clones are cheap and share connections.
#[derive(Clone, Debug)]
pub struct Egress {
    client: Client<ConnectService<Connector>, Full<Bytes>>,
    header_case: HeaderCase,
    resolver: Resolver,
    guard: Guard,
}

/// The request was not sent because of a failure of this machine; nothing reached the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.sentence())]
pub struct NotSent(pub LocalFailure);

/// The HTTP client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("can't set up the HTTP client: {0}. It needs the system's CA certificates (or SSL_CERT_FILE)")]
    Tls(#[source] rustls::Error),
    #[error("can't set up name resolution: {0}")]
    Resolver(#[source] hickory_resolver::net::NetError),
    #[error("can't set up the HTTP client of the identity provider: {0}")]
    Provider(#[source] reqwest::Error),
}

impl Egress {
    /// Creates a client that connects only to addresses allowed by `policy`, without a proxy.
    ///
    /// # Errors
    /// The system has no CA certificates, or its DNS configuration is unusable.
    pub fn new(policy: AddressPolicy) -> Result<Egress, EgressError> {
        Egress::with(EgressOptions { policy, ..EgressOptions::default() })
    }

    /// Creates a client with these options.
    ///
    /// # Errors
    /// As for [`Egress::new`].
    pub fn with(options: EgressOptions) -> Result<Egress, EgressError> {
        // Fails if the process already has a default provider, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let guard = Guard::new(Arc::new(options.policy));
        let resolver = Resolver::new(guard, &options.name_servers).map_err(EgressError::Resolver)?;
        Egress::with_resolver(resolver, options.proxy, MAX_AGE)
    }

    fn with_resolver(resolver: Resolver, proxy: Option<EgressProxy>, max_age: Duration) -> Result<Egress, EgressError> {
        let guard = resolver.guard().clone();
        let connector = Connector::new(resolver.clone(), proxy, max_age).map_err(EgressError::Tls)?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .http1_max_buf_size(HEAD_LIMIT)
            .http1_title_case_headers(true)
            .build(ConnectService(connector));
        Ok(Egress { client, header_case: HeaderCase::default(), resolver, guard })
    }

    /// Sends `post` once and reads the response, within `post.timeout`.
    ///
    /// # Errors
    /// [`NotSent`] if this machine could not make the request.
    pub async fn post(&self, post: Post<'_>) -> Result<Outcome, NotSent> {
        let start = Instant::now();
        let deadline = start + post.timeout;
        // The client bypasses the resolver for literal addresses, and would turn a password in the URL into a header.
        if let Err(fault) = self.guard.policy().check_syntax(post.url) {
            return Ok(blocked(fault, start.elapsed()));
        }
        let Some(uri) = request_uri(post.url) else {
            return Ok(Outcome::failed(Failure::Request, "the URL can't be requested", start.elapsed()));
        };
        let mut request = Request::new(Full::new(post.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = post.headers;
        *request.extensions_mut() = self.header_case.extensions(post.exact_case).await;
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT_VALUE));
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let handle = ConnectionHandle::for_request(&mut request);
        let (sent, unresolved) = {
            let mut sending = pin!(self.client.request(request));
            let sent = timeout_at(deadline, sending.as_mut()).await;
            // Read this before the request is dropped, which cancels its lookup.
            (sent, post.url.host_str().filter(|host| self.resolver.is_looking_up(host)))
        };
        let pending_write = handle.pending_write();
        handle.retire(Instant::now());
        let mut outcome = match sent {
            Ok(Ok(response)) => read_outcome(response, start, deadline, post.now).await,
            Ok(Err(error)) => {
                let (failure, detail) = classify::classify(&error, post.url.scheme() == "https")?;
                Outcome::failed(failure, detail, start.elapsed())
            }
            Err(_) => {
                // A lookup was still running: the receiver's timeout, unless no name server works.
                if let Some(name) = unresolved
                    && !self.resolver.dns_works(name).await
                {
                    return Err(NotSent(LocalFailure::Resolver));
                }
                let detail = format!("no answer within {} s", post.timeout.as_secs_f64());
                Outcome::failed(Failure::Timeout, detail, start.elapsed())
            }
        };
        // A receiver may respond before it has read the request. The rest is written within the same deadline, and the
        // attempt stays in flight until then.
        if let Some(pending_write) = pending_write {
            let answered = outcome.status.is_some();
            if !answered || timeout_at(deadline, pending_write.written()).await.is_err() {
                pending_write.cut();
            }
        }
        outcome.duration = start.elapsed();
        Ok(outcome)
    }

    /// [Vets](Egress::vet) the text of an endpoint's URL.
    ///
    /// # Errors
    /// The text is not a URL or the URL is not allowed; reported on the field `url`.
    pub async fn vet_text(&self, url: &str) -> Result<(), Invalid> {
        match Url::parse(url) {
            Ok(url) => self.vet(&url).await,
            Err(error) => Err(Invalid::new("url", format!("is not an absolute URL: {error}"))),
        }
    }

    /// Checks an endpoint's URL and the addresses that its host resolves to now. One refused address refuses the URL,
    /// unless the operator allowed another address of the same host (`localhost` is 127.0.0.1 and ::1). A name that
    /// does not resolve within 5 s passes, because every attempt checks its address again.
    ///
    /// # Errors
    /// The reason, reported on the field `url`.
    pub async fn vet(&self, url: &Url) -> Result<(), Invalid> {
        self.guard.policy().check_url(url)?;
        if request_uri(url).is_none() {
            let reason = "must have a valid host name: letters, digits and hyphens, at most 63 characters per label and 253 in total";
            return Err(Invalid::new("url", reason));
        }
        let addresses = match url.host() {
            Some(Host::Ipv4(ip)) => vec![ip.into()],
            Some(Host::Ipv6(ip)) => vec![ip.into()],
            Some(Host::Domain(name)) => match timeout(VET_TIMEOUT, self.resolver.resolve(name)).await {
                Ok(Ok(addresses)) => addresses,
                _ => return Ok(()),
            },
            None => return Ok(()),
        };
        if addresses.iter().any(|&ip| self.guard.policy().is_allowed(ip)) {
            return Ok(());
        }
        match addresses.into_iter().find_map(|ip| self.guard.check(ip).err()) {
            None => Ok(()),
            Some(refused) => {
                tracing::debug!(host = url.host_str(), address = %refused, "refused the URL of an endpoint");
                Err(Invalid::new("url", "leads to a blocked address. Use a public address"))
            }
        }
    }
}

/// The URI to request, or `None` if HTTP or DNS cannot express the URL.
fn request_uri(url: &Url) -> Option<Uri> {
    if let Some(Host::Domain(name)) = url.host() {
        resolver::name_of(name).ok()?;
    }
    url.as_str().parse().ok()
}

fn blocked(fault: UrlError, duration: Duration) -> Outcome {
    match fault {
        UrlError::Address(why) => Outcome::failed(Failure::Blocked, format!("the address is blocked: {why}"), duration),
        UrlError::Invalid(why) => Outcome::failed(Failure::Request, format!("the URL {why}"), duration),
    }
}

/// Reads the response whose head has arrived and returns the outcome.
async fn read_outcome(response: Response<Incoming>, start: Instant, deadline: Instant, now: Time) -> Outcome {
    let status = response.status();
    let delivered = status.is_success();
    let response_headers = response::kept_headers(response.headers());
    let retry_after = response::retry_after(response.headers(), now.plus(start.elapsed()));
    let response_body = response::read_body(response.into_body(), deadline).await;
    Outcome {
        failure: (!delivered).then_some(Failure::Status),
        detail: if delivered { String::new() } else { response::status_sentence(status) },
        status: Some(status.as_u16()),
        duration: start.elapsed(),
        response_headers,
        response_body,
        retry_after,
    }
}
