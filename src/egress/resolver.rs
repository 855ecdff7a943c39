//! From a host name to the addresses that we may connect to.
//!
//! * The [`Resolver`] asks DNS (hickory, by the system's configuration, `/etc/hosts` included) and keeps the answers
//!   for as long as they are good. The HTTP client connects to what it returns and to nothing else, so the address that
//!   was judged is the address that is connected to, however often a name changes what it points to (DNS rebinding).
//! * A [`ResolveError`] is why a name gives no address: refused by the policy, not found, or (if no name does) our own failure.
//!
//! `/etc/resolv.conf` and `/etc/hosts` are read once, at start.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use http::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use super::local::exhausted;
use super::nameservers::NameServers;
use crate::domain::address::{AddressPolicy, Refused};
use crate::domain::attempt::OwnFailure;

/// How many answers are kept. Bounded, because names come from customers.
const CACHE_SIZE: u64 = 8_192;
/// The longest that an answer is kept, whatever its TTL says.
const POSITIVE_TTL: Duration = Duration::from_secs(300);
/// The longest that "no such name" is kept: a customer who just fixed the record should not wait.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);

/// Why a name gives no address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name has addresses, and the policy refuses every one; this is the first.
    #[error("the name resolves to {0}, which Sendoff does not connect to")]
    Blocked(Refused),
    /// DNS gave no address. A sentence that says what happened.
    #[error("{0}")]
    NotFound(String),
    /// DNS could not be asked, for a reason of ours.
    #[error("{}", .0.sentence())]
    Ours(OwnFailure),
}

/// Resolves names and drops the addresses that the policy refuses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    dns: TokioResolver,
    nameservers: NameServers,
    policy: Arc<AddressPolicy>,
}

impl Resolver {
    /// Reads the system's configuration. Without one (a bare container) it asks the machine itself, as libc does.
    ///
    /// # Errors
    /// What hickory makes of a configuration that it can't use.
    pub fn new(policy: Arc<AddressPolicy>) -> Result<Resolver, NetError> {
        let builder = || {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(%error, "/etc/resolv.conf can't be used, asking for names at 127.0.0.1");
                local_nameserver()
            })
        };
        Resolver::built(builder, policy)
    }

    pub(super) fn built(
        builder: impl Fn() -> ResolverBuilder<TokioRuntimeProvider>,
        policy: Arc<AddressPolicy>,
    ) -> Result<Resolver, NetError> {
        let (mut names, mut probes) = (builder(), builder());
        bound(names.options_mut());
        bound(probes.options_mut());
        let nameservers = NameServers::new(probes)?;
        Ok(Resolver { dns: names.build()?, nameservers, policy })
    }

    /// Every address of `name`, unjudged.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`], or [`ResolveError::Ours`] if the name has no part in it.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let not_found = |error: &NetError| ResolveError::NotFound(sentence(error));
        // `from_ascii` and not the usual parser, which refuses names with an underscore; the URL made it ASCII already.
        let name = rr::Name::from_ascii(name).map_err(|error| not_found(&error.into()))?;
        let _asked = self.nameservers.asked(&name);
        match self.dns.lookup_ip(name.clone()).await {
            Ok(answer) => {
                self.nameservers.answered(&name);
                Ok(answer.iter().collect())
            }
            Err(error) if is_answer(&error) => Err(not_found(&error)),
            Err(error) => match exhausted_in(&error) {
                Some(why) => Err(ResolveError::Ours(why)),
                // A name whose own servers are broken gets the same answer as every name where ours are.
                None if self.nameservers.serve(Some(&name)).await => Err(not_found(&error)),
                None => Err(ResolveError::Ours(OwnFailure::Resolver)),
            },
        }
    }

    /// Whether `name` is being looked up right now.
    pub fn looks_up(&self, name: &str) -> bool {
        rr::Name::from_ascii(name).is_ok_and(|name| self.nameservers.is_asked(&name))
    }

    /// Whether the name servers answer at all.
    pub async fn serves(&self, name: &str) -> bool {
        self.nameservers.serve(rr::Name::from_ascii(name).ok().as_ref()).await
    }

    /// The addresses to which a request for `uri` is connected, as far as they are known.
    pub async fn of(&self, uri: &Uri) -> Vec<SocketAddr> {
        let host = uri.host().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let addresses = match literal {
            Ok(ip) => vec![ip],
            Err(_) => self.allowed(host).await.unwrap_or_default(),
        };
        addresses.into_iter().map(|ip| SocketAddr::new(ip, uri.port_u16().unwrap_or_default())).collect()
    }

    /// The addresses of `name` that we may connect to; never empty.
    async fn allowed(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let mut refused = None;
        let mut allowed = self.addresses(name).await?;
        allowed.retain(|&ip| match self.policy.check(ip) {
            Ok(()) => true,
            Err(why) => {
                refused.get_or_insert(why);
                false
            }
        });
        match refused {
            Some(why) if allowed.is_empty() => Err(ResolveError::Blocked(why)),
            None if allowed.is_empty() => Err(ResolveError::NotFound("the name has no addresses".to_owned())),
            _ => Ok(allowed),
        }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let allowed = resolver.allowed(name.as_str()).await?;
            // Port 0 stands for the URL's own.
            let addresses: Vec<SocketAddr> = allowed.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}

fn local_nameserver() -> ResolverBuilder<TokioRuntimeProvider> {
    let server = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

fn bound(options: &mut ResolverOpts) {
    options.cache_size = CACHE_SIZE;
    options.positive_max_ttl = Some(POSITIVE_TTL);
    options.negative_max_ttl = Some(NEGATIVE_TTL);
    options.use_hosts_file = ResolveHosts::Always;
    // IPv4 first: where IPv6 is half set up, connecting over it hangs. The client turns to IPv6 after 300 ms.
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Customers' names are whole names. Kubernetes' `ndots:5` would ask for each in every search domain first.
    options.ndots = 1;
    // The limit per name server connection: the default of 32 fails lookups when many endpoints wake up at once.
    options.max_active_requests = 1_024;
}

/// Whether a name server has said that there is nothing.
pub(super) fn is_answer(error: &NetError) -> bool {
    error.is_nx_domain() || error.is_no_records_found()
}

/// What of ours was exhausted when the question was to be sent.
fn exhausted_in(error: &NetError) -> Option<OwnFailure> {
    match error {
        NetError::Io(error) => exhausted(error),
        _ => None,
    }
}

fn sentence(error: &NetError) -> String {
    match error {
        error if error.is_nx_domain() => "the name does not exist in DNS".to_owned(),
        error if error.is_no_records_found() => "the name has no addresses in DNS".to_owned(),
        NetError::Timeout => "the name servers did not answer in time".to_owned(),
        NetError::NoConnections | NetError::Io(_) => "no name server can be reached".to_owned(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name server answered: {code}"),
        error => format!("the name could not be resolved: {error}"),
    }
}
