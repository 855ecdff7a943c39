//! Host names to the addresses that Sendoff may connect to.
//!
//! * [`Resolver`] asks DNS through hickory with the system's configuration, including `/etc/hosts`, and caches answers.
//!   The HTTP client connects only to the returned addresses, so DNS rebinding cannot bypass the guard.
//! * It looks up IPv4 and IPv6 at once. [`ResolvedAddresses`] holds the family that answers first, plus the other one
//!   if it arrives within 50 ms. A later answer joins while connecting, so a family without an answer causes no delay.
//! * A [`ResolveError`] is a refused address, a name without addresses, or a failure of this machine.
//!
//! Changes of `/etc/resolv.conf` and `/etc/hosts` take effect within a second ([`DnsConfig`]).

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::{Instant, timeout};

use super::dns_config::{DnsClients, DnsConfig};
use super::dns_health::DnsHealth;
use super::guard::Guard;
use super::local::exhausted;
use crate::domain::address::BlockedAddress;
use crate::domain::deliveries::attempt::LocalFailure;

/// Files that are watched for changes.
const CONFIG_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// Cached answers. Bounded, because customers choose the names.
const CACHE_SIZE: u64 = 8_192;
/// Minimum and maximum time to cache an answer, regardless of its TTL.
const POSITIVE_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// The same for "no such name", shorter so that a corrected record takes effect soon.
const NEGATIVE_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Timeout of a lookup, well below an endpoint's default timeout of 15 s.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum and minimum time a name server has to answer before the query is retried.
const SERVER_TIMEOUT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(500));
/// The time that the first family waits for the other ("Resolution Delay" in RFC 8305).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// A name has no address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Every address of the name is refused; this is the first.
    #[error("the name resolves to a blocked address: {0}")]
    Blocked(BlockedAddress),
    /// The host is an address, and it is refused.
    #[error("the address is blocked: {0}")]
    BlockedAddress(BlockedAddress),
    /// DNS returned no address; a sentence says why.
    #[error("{0}")]
    NotFound(String),
    /// DNS could not be asked because of a failure of this machine.
    #[error("{}", .0.sentence())]
    Ours(LocalFailure),
}

/// Addresses that passed the guard.
pub struct ResolvedAddresses {
    /// Never empty.
    pub addresses: Vec<IpAddr>,
    /// The other family's addresses, if it has not answered yet; they pass the guard too.
    pub late: Option<BoxFuture<'static, Vec<IpAddr>>>,
}

/// A lookup of one address family.
type FamilyLookup = BoxFuture<'static, Result<Vec<IpAddr>, NetError>>;

/// Resolves names and drops refused addresses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    dns: DnsConfig,
    guard: Guard,
}

impl Resolver {
    /// Reads the system's configuration. Without one (a bare container) it asks 127.0.0.1, as libc does.
    ///
    /// # Errors
    /// hickory rejects the configuration.
    pub fn new(guard: Guard) -> Result<Resolver, NetError> {
        let builder = || {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(%error, "/etc/resolv.conf is unusable; using the name server at 127.0.0.1");
                local_nameserver()
            })
        };
        Resolver::with_builder(CONFIG_FILES.map(PathBuf::from).to_vec(), builder, guard)
    }

    pub(super) fn with_builder(
        files: Vec<PathBuf>,
        builder: impl Fn() -> ResolverBuilder<TokioRuntimeProvider> + Send + Sync + 'static,
        guard: Guard,
    ) -> Result<Resolver, NetError> {
        let bounded = move || {
            let mut builder = builder();
            apply_limits(builder.options_mut());
            builder
        };
        Ok(Resolver { dns: DnsConfig::new(files, Box::new(bounded))?, guard })
    }

    /// The guard that checks addresses.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Resolves `name` without the guard. May return a single family if the other one is slow.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`], or [`ResolveError::Ours`] if the name is not at fault.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        Ok(self.look_up(name).await?.0)
    }

    /// Returns the family that answers first, and a lookup of the other one if it is slower.
    async fn look_up(&self, name: &str) -> Result<(Vec<IpAddr>, Option<FamilyLookup>), ResolveError> {
        let not_found = |error: &NetError| ResolveError::NotFound(describe(error));
        let name = name_of(name).map_err(|error| not_found(&error))?;
        let DnsClients { dns, health } = self.dns.current(Instant::now());
        let _lookup = health.begin_lookup(&name);
        match race(&dns, &name).await {
            Ok(found) => {
                health.record_answer(&name);
                Ok(found)
            }
            Err(error) if is_answer(&error) => Err(not_found(&error)),
            Err(error) => match local_failure(&error) {
                Some(why) => Err(ResolveError::Ours(why)),
                // The error is the same whether this name's servers or ours are broken; the probe distinguishes them.
                None if health.is_healthy(Some(&name)).await => Err(not_found(&error)),
                None => Err(ResolveError::Ours(LocalFailure::Resolver)),
            },
        }
    }

    /// Whether a lookup of `name` is in flight.
    pub fn is_looking_up(&self, name: &str) -> bool {
        Name::from_ascii(name).is_ok_and(|name| self.dns_health().is_looking_up(&name))
    }

    fn dns_health(&self) -> DnsHealth {
        self.dns.current(Instant::now()).health
    }

    /// Whether the name servers answer; `name` has just failed.
    pub async fn dns_works(&self, name: &str) -> bool {
        self.dns_health().is_healthy(Name::from_ascii(name).ok().as_ref()).await
    }

    /// Resolves `host`, a name or a literal address, to the addresses that pass the guard.
    ///
    /// # Errors
    /// No address passes.
    pub async fn resolve_allowed(&self, host: &str) -> Result<ResolvedAddresses, ResolveError> {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let (found, late) = match &literal {
            Ok(ip) => (vec![*ip], None),
            Err(_) => self.look_up(host).await?,
        };
        let guard = self.guard.clone();
        let late = late.map(|late| late.map(move |more| split_allowed(&guard, more.unwrap_or_default())));
        match (split_allowed(&self.guard, found), late) {
            ((addresses, _), late) if !addresses.is_empty() => {
                let late = late.map(|late| late.map(|(addresses, _)| addresses).boxed());
                Ok(ResolvedAddresses { addresses, late })
            }
            ((_, refused), late) => {
                let (addresses, refused_too) = match late {
                    Some(late) => late.await,
                    None => (Vec::new(), None),
                };
                match refused.or(refused_too) {
                    _ if !addresses.is_empty() => Ok(ResolvedAddresses { addresses, late: None }),
                    Some(why) if literal.is_ok() => Err(ResolveError::BlockedAddress(why)),
                    Some(why) => Err(ResolveError::Blocked(why)),
                    None => Err(ResolveError::NotFound("the name has no addresses".to_owned())),
                }
            }
        }
    }
}

async fn race(dns: &TokioResolver, name: &Name) -> Result<(Vec<IpAddr>, Option<FamilyLookup>), NetError> {
    let (first, mut other) =
        match select(look_up_family(dns, name, RecordType::A), look_up_family(dns, name, RecordType::AAAA)).await {
            Either::Left(ended) | Either::Right(ended) => ended,
        };
    match first {
        Ok(mut addresses) if !addresses.is_empty() => match timeout(RESOLUTION_DELAY, &mut other).await {
            Ok(more) => {
                addresses.extend(more.unwrap_or_default());
                // IPv4 first: a half-configured IPv6 makes connections hang.
                addresses.sort_by_key(IpAddr::is_ipv6);
                Ok((addresses, None))
            }
            Err(_) => Ok((addresses, Some(other))),
        },
        first => match (first, other.await) {
            (_, Ok(addresses)) if !addresses.is_empty() => Ok((addresses, None)),
            // "No addresses" is an answer; the other family's error says more.
            (Err(error), Err(answer)) if is_answer(&answer) => Err(error),
            (_, Err(error)) | (Err(error), _) => Err(error),
            (Ok(_), Ok(_)) => Ok((Vec::new(), None)),
        },
    }
}

fn look_up_family(dns: &TokioResolver, name: &Name, kind: RecordType) -> FamilyLookup {
    let (dns, name) = (dns.clone(), name.clone());
    let asked = async move {
        let answer = timeout(LOOKUP_TIMEOUT, dns.lookup(name, kind)).await.unwrap_or(Err(NetError::Timeout))?;
        Ok(answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
    };
    asked.boxed()
}

/// Parses a host name: labels of at most 63 bytes, 253 in total.
///
/// # Errors
/// DNS cannot express the name.
pub fn name_of(host: &str) -> Result<Name, NetError> {
    // The default parser rejects underscores. The URL parser has already made the name ASCII.
    Ok(Name::from_ascii(host)?)
}

/// Returns the addresses that pass the guard, and the first refusal.
fn split_allowed(guard: &Guard, mut addresses: Vec<IpAddr>) -> (Vec<IpAddr>, Option<BlockedAddress>) {
    let mut refused = None;
    addresses.retain(|&ip| match guard.check(ip) {
        Ok(()) => true,
        Err(why) => {
            refused.get_or_insert(why);
            false
        }
    });
    (addresses, refused)
}

fn local_nameserver() -> ResolverBuilder<TokioRuntimeProvider> {
    let server = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

fn apply_limits(options: &mut ResolverOpts) {
    options.cache_size = CACHE_SIZE;
    (options.positive_min_ttl, options.positive_max_ttl) = (Some(POSITIVE_TTL.0), Some(POSITIVE_TTL.1));
    (options.negative_min_ttl, options.negative_max_ttl) = (Some(NEGATIVE_TTL.0), Some(NEGATIVE_TTL.1));
    // The system's value within bounds: `timeout:0` would end every lookup at once.
    options.timeout = options.timeout.clamp(SERVER_TIMEOUT.1, SERVER_TIMEOUT.0);
    options.attempts = options.attempts.max(1);
    options.use_hosts_file = ResolveHosts::Always;
    // Customers' names are absolute. Kubernetes' `ndots:5` would try every search domain first.
    options.ndots = 1;
    // Per name server connection. The default of 32 fails lookups when many endpoints wake up at once.
    options.max_active_requests = 1_024;
}

/// Whether a name server answered that there is no such name or record.
pub(super) fn is_answer(error: &NetError) -> bool {
    error.is_nx_domain() || error.is_no_records_found()
}

/// The exhausted resource that kept a query from being sent.
fn local_failure(error: &NetError) -> Option<LocalFailure> {
    match error {
        NetError::Io(error) => exhausted(error),
        _ => None,
    }
}

fn describe(error: &NetError) -> String {
    match error {
        error if error.is_nx_domain() => "the name does not exist in DNS".to_owned(),
        error if error.is_no_records_found() => "the name has no addresses in DNS".to_owned(),
        NetError::Timeout => "the name servers did not answer in time".to_owned(),
        NetError::NoConnections | NetError::Io(_) => "no name server is reachable".to_owned(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name server answered: {code}"),
        error => format!("the name could not be resolved: {error}"),
    }
}
