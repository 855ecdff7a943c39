//! Host names to the addresses that Sendoff may connect to.
//!
//! * [`Resolver`] asks DNS through hickory with the system's name servers, and caches answers. The HTTP client connects
//!   only to the returned addresses, so DNS rebinding cannot bypass the guard.
//! * Names are absolute. The hosts file and the search domains belong to the operator's network, and customers choose
//!   the names: both count only for addresses that the operator allowed (`SENDOFF_EGRESS_ALLOW`). All other names look
//!   like names that do not exist.
//! * It looks up IPv4 and IPv6 at once. [`ResolvedAddresses`] holds the family that answers first, plus the other one
//!   if it arrives within 50 ms. A later answer joins while connecting, so a family without an answer causes no delay.
//! * A [`ResolveError`] is a refused address, a name without addresses, or a failure of this machine. It reaches
//!   customers, so it contains no address; the log has it at level `debug`.
//!
//! Changes of `/etc/resolv.conf` and `/etc/hosts` take effect within a second ([`DnsConfig`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
use super::hosts_file;
use crate::domain::address::BlockedAddress;
use crate::domain::deliveries::attempt::LocalFailure;
use crate::egress::guard::Guard;
use crate::egress::local::exhausted;

/// Watched for changes, with the hosts file.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
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
    /// Every address of the name is refused.
    #[error("the name resolves to a blocked address")]
    Blocked,
    /// The host is an address, and it is refused.
    #[error("the address is blocked")]
    BlockedAddress,
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
/// The addresses of the family that answered first, and a lookup of the other one if it is slower.
type FoundAddresses = (Vec<IpAddr>, Option<FamilyLookup>);

/// Resolves names and drops refused addresses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    dns: DnsConfig,
    guard: Guard,
}

impl Resolver {
    /// Asks `servers`. Without any, it reads the system's configuration, and without one (a bare container) it asks
    /// 127.0.0.1, as libc does.
    ///
    /// # Errors
    /// hickory rejects the configuration.
    pub fn new(guard: Guard, servers: &[SocketAddr]) -> Result<Resolver, NetError> {
        let servers = servers.to_vec();
        let files = if servers.is_empty() { vec![RESOLV_CONF.into()] } else { Vec::new() };
        let builder = move || match &servers[..] {
            [] => TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(%error, "/etc/resolv.conf is unusable; using the name server at 127.0.0.1");
                asking(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 53))])
            }),
            servers => asking(servers),
        };
        Resolver::with_builder(files, Some(HOSTS.into()), builder, guard)
    }

    /// Watches `files` and the hosts file `hosts` for changes.
    pub(super) fn with_builder(
        files: Vec<PathBuf>,
        hosts: Option<PathBuf>,
        builder: impl Fn() -> ResolverBuilder<TokioRuntimeProvider> + Send + Sync + 'static,
        guard: Guard,
    ) -> Result<Resolver, NetError> {
        let bounded = move || {
            let mut builder = builder();
            apply_limits(builder.options_mut());
            builder
        };
        let hosts = hosts.filter(|_| guard.policy().allows_any());
        Ok(Resolver { dns: DnsConfig::new(files, hosts, Box::new(bounded))?, guard })
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

    async fn look_up(&self, name: &str) -> Result<FoundAddresses, ResolveError> {
        let not_found = |error: &NetError| ResolveError::NotFound(describe(error));
        let relative = name_of(name).map_err(|error| not_found(&error))?;
        let name = absolute(&relative);
        let DnsClients { dns, hosts, health } = self.dns.current(Instant::now());
        let addresses = self.only_allowed(hosts_file::addresses(&hosts, &name));
        if !addresses.is_empty() {
            return Ok((addresses, None));
        }
        let _lookup = health.begin_lookup(&name);
        let error = match race(&dns, &name).await {
            Ok(found) => {
                health.record_answer(&name);
                return Ok(found);
            }
            Err(error) => error,
        };
        // Some local resolvers answer a name of one label with an error instead of "no such name".
        if (is_answer(&error) || name.num_labels() == 1)
            && let Some(found) = self.search(&dns, &relative).await
        {
            return Ok(found);
        }
        if is_answer(&error) {
            return Err(not_found(&error));
        }
        match local_failure(&error) {
            Some(why) => Err(ResolveError::Ours(why)),
            // The error is the same whether this name's servers or ours are broken; the probe distinguishes them.
            None if health.is_healthy(Some(&name)).await => Err(not_found(&error)),
            None => Err(ResolveError::Ours(LocalFailure::Resolver)),
        }
    }

    /// Looks a name up in the search domains; only allowed addresses count.
    async fn search(&self, dns: &TokioResolver, name: &Name) -> Option<FoundAddresses> {
        if name.is_fqdn() || !self.guard.policy().allows_any() {
            return None;
        }
        let (addresses, late) = race(dns, name).await.ok()?;
        let resolver = self.clone();
        let late = late.map(|late| late.map(move |more| more.map(|more| resolver.only_allowed(more))).boxed());
        match (self.only_allowed(addresses), late) {
            (addresses, late) if !addresses.is_empty() => Some((addresses, late)),
            (_, Some(late)) => late.await.ok().filter(|more| !more.is_empty()).map(|more| (more, None)),
            (_, None) => None,
        }
    }

    fn only_allowed(&self, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        addresses.retain(|ip| self.guard.policy().is_allowed(*ip));
        addresses
    }

    /// Whether a lookup of `name` is in flight.
    pub fn is_looking_up(&self, name: &str) -> bool {
        name_of(name).is_ok_and(|name| self.dns_health().is_looking_up(&absolute(&name)))
    }

    fn dns_health(&self) -> DnsHealth {
        self.dns.current(Instant::now()).health
    }

    /// Whether the name servers answer; `name` has just failed.
    pub async fn dns_works(&self, name: &str) -> bool {
        self.dns_health().is_healthy(name_of(name).ok().map(|name| absolute(&name)).as_ref()).await
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
                    Some(why) => {
                        tracing::debug!(host, address = %why, "blocked an address");
                        Err(if literal.is_ok() { ResolveError::BlockedAddress } else { ResolveError::Blocked })
                    }
                    None => Err(ResolveError::NotFound("the name has no addresses".to_owned())),
                }
            }
        }
    }
}

async fn race(dns: &TokioResolver, name: &Name) -> Result<FoundAddresses, NetError> {
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

/// The name without search domains.
fn absolute(name: &Name) -> Name {
    let mut name = name.clone();
    name.set_fqdn(true);
    name
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

/// Asks these name servers, without search domains.
fn asking(servers: &[SocketAddr]) -> ResolverBuilder<TokioRuntimeProvider> {
    let server = |address: &SocketAddr| {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        for connection in &mut server.connections {
            connection.port = address.port();
        }
        server
    };
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

fn apply_limits(options: &mut ResolverOpts) {
    options.cache_size = CACHE_SIZE;
    (options.positive_min_ttl, options.positive_max_ttl) = (Some(POSITIVE_TTL.0), Some(POSITIVE_TTL.1));
    (options.negative_min_ttl, options.negative_max_ttl) = (Some(NEGATIVE_TTL.0), Some(NEGATIVE_TTL.1));
    // The system's value within bounds: `timeout:0` would end every lookup at once.
    options.timeout = options.timeout.clamp(SERVER_TIMEOUT.1, SERVER_TIMEOUT.0);
    options.attempts = options.attempts.max(1);
    // Read by `DnsConfig`.
    options.use_hosts_file = ResolveHosts::Never;
    // `look_up` has already asked for a name with a dot as it is; only its search domains are left.
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

#[cfg(test)]
mod tests;
