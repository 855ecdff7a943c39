//! The way out: one signed POST, and what came of it.
//!
//! * [`Egress`] is the HTTP client with everything turned off that would surprise: redirects, proxies from the
//!   environment, cookies, decompression, HTTP/2, and every kind of sending twice.
//! * A [`Post`] is one request; its [`Outcome`] is data, whatever the receiver does. [`NotMade`] is no outcome: the reason is ours.
//! * The `Resolver` stands between the client and the network: no connection is made to an address
//!   that [`AddressPolicy`] refuses, neither by name nor as a literal.
//! * [`smtp`] is the other way out: mail, to the server that the operator has set.
//! * `header_case` knows how header names are written.
//! * `guard` refuses what the policy refuses, and this machine's own addresses.
//! * `dial` tries a host's addresses until one answers.
//! * `connection` makes connections of them and bounds what a receiver can do with one; `classify` turns errors into words; `answer` bounds
//!   what is kept.
//!
//! **Sent at most once.** The client resends a request only if it took an idle connection that closed before the first
//! byte was handed to it (hyper-util, "retry canceled requests"); what may have reached the network is never sent
//! again.
//!
//! **Bounds of an answer.** The head: 100 headers and 64 KiB, and 256 KiB with all 1xx answers before it; beyond them the
//! attempt fails as `protocol`. The body: the first 16 KiB are read. All of it, with the writing of the request: the endpoint's timeout.

mod answer;
mod classify;
mod configuration;
mod connection;
mod dial;
mod guard;
mod header_case;
mod local;
mod nameservers;
mod resolver;
pub mod smtp;
#[cfg(test)]
mod test_name_server;

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

use crate::domain::address::{AddressPolicy, UrlFault};
use crate::domain::attempt::{Failure, Outcome, OwnFailure};
use crate::domain::{Invalid, Time};
use connection::{Connector, Grip, MAX_AGE};
use guard::Guard;
use header_case::HeaderCase;
use resolver::Resolver;

/// The product in the `user-agent` of every request, before the version. An endpoint's own headers cannot change it.
pub const AGENT_NAME: &str = "Sendoff/";
const AGENT: &str = concat!("Sendoff/", env!("CARGO_PKG_VERSION"));
/// How long an idle connection is kept. Common servers close theirs after 5 s (Node.js, Apache): we let go a little
/// earlier, so that a request does not run into a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(4);
/// How many idle connections are kept per host: as many as are in flight at once by default, because all endpoints may share a host. With
/// fewer, requests of a burst that are beyond dial anew each time.
const IDLE_PER_HOST: usize = 1_024;
/// How long an answer's head may be, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;
/// How long saving an endpoint waits for DNS before it believes the name.
const VET: Duration = Duration::from_secs(5);

/// One request to make.
#[derive(Clone, Debug)]
pub struct Post<'a> {
    pub url: &'a Url,
    /// All headers but `host`, `content-length`, `user-agent` and `accept`, which are added.
    pub headers: HeaderMap,
    /// Names among them that are written like this; all others are in title case, and those of Standard Webhooks in lower case.
    pub typed: &'a [&'a str],
    /// The payload, as it was signed.
    pub body: Bytes,
    /// For everything together, from DNS to the last byte that is read.
    pub timeout: Duration,
    /// The wall clock at the start: a date in `Retry-After` is told from it.
    pub now: Time,
}

/// The HTTP client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Egress {
    client: Client<Connector, Full<Bytes>>,
    header_case: HeaderCase,
    resolver: Resolver,
    guard: Guard,
}

/// Why a request was not made, for a reason of ours: the receiver has no part in it, and nothing reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.sentence())]
pub struct NotMade(pub OwnFailure);

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("can't set up the HTTP client: {0}. It needs the system's CA certificates (or SSL_CERT_FILE)")]
    Tls(#[source] rustls::Error),
    #[error("can't set up name resolution: {0}")]
    Resolver(#[source] hickory_resolver::net::NetError),
}

impl Egress {
    /// A client that connects only where `policy` lets it.
    ///
    /// # Errors
    /// [`EgressError`]: no CA certificates on this system, or a DNS configuration that can't be used.
    pub fn new(policy: AddressPolicy) -> Result<Egress, EgressError> {
        // Fails if there is a default already: then that is the one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let resolver = Resolver::new(Guard::new(Arc::new(policy))).map_err(EgressError::Resolver)?;
        Egress::resolving(resolver, MAX_AGE)
    }

    fn resolving(resolver: Resolver, max_age: Duration) -> Result<Egress, EgressError> {
        let guard = resolver.guard().clone();
        let connector = Connector::new(resolver.clone(), max_age).map_err(EgressError::Tls)?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_buf_size(HEAD_LIMIT)
            .http1_title_case_headers(true)
            .build(connector);
        Ok(Egress { client, header_case: HeaderCase::default(), resolver, guard })
    }

    /// Sends `post` once and waits for the answer, at most as long as its timeout.
    ///
    /// # Errors
    /// [`NotMade`].
    pub async fn post(&self, post: Post<'_>) -> Result<Outcome, NotMade> {
        let start = Instant::now();
        let deadline = start + post.timeout;
        // The client does not show literal addresses to the resolver, and would make a password in the URL a header.
        if let Err(fault) = self.guard.policy().judge(post.url) {
            return Ok(refused(fault, start.elapsed()));
        }
        let Some(uri) = target(post.url) else {
            return Ok(Outcome::failed(Failure::Request, "the URL can't be made into a request", start.elapsed()));
        };
        let mut request = Request::new(Full::new(post.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = post.headers;
        *request.extensions_mut() = self.header_case.extensions(post.typed).await;
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let grip = Grip::of(&mut request);
        let (sent, looks_up) = {
            let mut sending = pin!(self.client.request(request));
            let sent = timeout_at(deadline, sending.as_mut()).await;
            // To be asked before the request is called off, and its lookup with it.
            (sent, post.url.host_str().filter(|host| self.resolver.looks_up(host)))
        };
        let unwritten = grip.unwritten();
        grip.retire(Instant::now());
        let mut outcome = match sent {
            Ok(Ok(response)) => answered(response, start, deadline, post.now).await,
            Ok(Err(error)) => {
                let (failure, detail) = classify::classify(&error, post.url.scheme() == "https")?;
                Outcome::failed(failure, detail, start.elapsed())
            }
            Err(_) => {
                // Whose fault is it that the name is not known yet?
                if let Some(name) = looks_up
                    && !self.resolver.serves(name).await
                {
                    return Err(NotMade(OwnFailure::Resolver));
                }
                let detail = format!("no answer within {} s", post.timeout.as_secs_f64());
                Outcome::failed(Failure::Timeout, detail, start.elapsed())
            }
        };
        // Who answers before all is read gets the rest, within the same deadline: for as long it is in flight, and counts as such.
        if let Some(unwritten) = unwritten {
            let answered = outcome.status.is_some();
            if !answered || timeout_at(deadline, unwritten.written()).await.is_err() {
                unwritten.cut();
            }
        }
        outcome.duration = start.elapsed();
        Ok(outcome)
    }

    /// [Checks](Egress::vet) the URL of an endpoint that is being saved, as somebody wrote it.
    ///
    /// # Errors
    /// It is no URL, or one that may not be used; as the field `url`.
    pub async fn vet_text(&self, url: &str) -> Result<(), Invalid> {
        match Url::parse(url) {
            Ok(url) => self.vet(&url).await,
            Err(error) => Err(Invalid::new("url", format!("is not an absolute URL: {error}"))),
        }
    }

    /// Checks the URL of an endpoint that is being saved: its text, and the addresses that its host has right now. One
    /// that is refused refuses the URL, unless another of them was opened by the operator, who then knows the host
    /// (`localhost` is 127.0.0.1 and ::1). A name that does not resolve, or not within 5 s, passes: each attempt checks
    /// again what it connects to.
    ///
    /// # Errors
    /// What is wrong with the URL, as the field `url`.
    pub async fn vet(&self, url: &Url) -> Result<(), Invalid> {
        self.guard.policy().check_url(url)?;
        if target(url).is_none() {
            let reason = "must name a host that can be looked up: letters, digits and hyphens, up to 63 between two dots and 253 in all";
            return Err(Invalid::new("url", reason));
        }
        let addresses = match url.host() {
            Some(Host::Ipv4(ip)) => vec![ip.into()],
            Some(Host::Ipv6(ip)) => vec![ip.into()],
            Some(Host::Domain(name)) => match timeout(VET, self.resolver.addresses(name)).await {
                Ok(Ok(addresses)) => addresses,
                _ => return Ok(()),
            },
            None => return Ok(()),
        };
        if addresses.iter().any(|&ip| self.guard.policy().opened(ip)) {
            return Ok(());
        }
        let refused = addresses.into_iter().find_map(|ip| self.guard.check(ip).err());
        refused.map_or(Ok(()), |why| Err(Invalid::new("url", UrlFault::from(why).to_string())))
    }
}

/// What a request to `url` is made to, if it can be: what a URL may hold is more than what HTTP and DNS take.
fn target(url: &Url) -> Option<Uri> {
    if let Some(Host::Domain(name)) = url.host() {
        resolver::name_of(name).ok()?;
    }
    url.as_str().parse().ok()
}

fn refused(fault: UrlFault, duration: Duration) -> Outcome {
    match fault {
        UrlFault::Address(why) => {
            Outcome::failed(Failure::Blocked, format!("{why}, which Sendoff does not connect to"), duration)
        }
        UrlFault::Form(why) => Outcome::failed(Failure::Request, format!("the URL {why}"), duration),
    }
}

/// The outcome of an attempt whose answer's head is there.
async fn answered(response: Response<Incoming>, start: Instant, deadline: Instant, now: Time) -> Outcome {
    let status = response.status();
    let delivered = status.is_success();
    let response_headers = answer::kept_headers(response.headers());
    let retry_after = answer::retry_after(response.headers(), now.plus(start.elapsed()));
    let response_body = answer::read_body(response.into_body(), deadline).await;
    Outcome {
        failure: (!delivered).then_some(Failure::Status),
        detail: if delivered { String::new() } else { answer::status_sentence(status) },
        status: Some(status.as_u16()),
        duration: start.elapsed(),
        response_headers,
        response_body,
        retry_after,
    }
}
