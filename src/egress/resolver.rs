//! From a host name to the addresses that we may connect to.
//!
//! * The [`Resolver`] asks DNS (hickory, by the system's configuration, `/etc/hosts` included) and keeps the answers
//!   for as long as they are good. The HTTP client connects to what it returns and to nothing else, so the address that
//!   was judged is the address that is connected to, however often a name changes what it points to (DNS rebinding).
//! * Both families are asked for at once. What answers first is [`Found`], and the other within 50 ms or later, beside the
//!   connecting: a name server that never answers for one of them holds up nothing.
//! * A [`ResolveError`] is why a name gives no address: refused by the policy, not found, or (if no name does) our own failure.
//!
//! `/etc/resolv.conf` and `/etc/hosts` are read again within a second of a change ([`Configuration`]).

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

use super::configuration::{Configuration, Read};
use super::guard::Guard;
use super::local::exhausted;
use super::nameservers::NameServers;
use crate::domain::address::Refused;
use crate::domain::attempt::OwnFailure;

/// What the system's configuration is in.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// How many answers are kept. Bounded, because names come from customers.
const CACHE_SIZE: u64 = 8_192;
/// The shortest and the longest that an answer is kept, whatever its TTL says.
const POSITIVE_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// The same for "no such name": a customer who just fixed the record should not wait.
const NEGATIVE_TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How long a lookup may take: well below the 15 s that an endpoint usually has for all of it.
const LOOKUP: Duration = Duration::from_secs(5);
/// How long a name server may take at most, and is given at least, before it is asked again or another is.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(500));
/// How long the family that answered first waits for the other ("Resolution Delay" of RFC 8305).
const OTHER_FAMILY: Duration = Duration::from_millis(50);

/// Why a name gives no address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name has addresses, and the policy refuses every one; this is the first.
    #[error("the name resolves to {0}, which Sendoff does not connect to")]
    Blocked(Refused),
    /// The host is an address, and the policy refuses it.
    #[error("{0}, which Sendoff does not connect to")]
    BlockedAddress(Refused),
    /// DNS gave no address. A sentence that says what happened.
    #[error("{0}")]
    NotFound(String),
    /// DNS could not be asked, for a reason of ours.
    #[error("{}", .0.sentence())]
    Ours(OwnFailure),
}

/// What may be connected to.
pub struct Found {
    /// Never empty.
    pub addresses: Vec<IpAddr>,
    /// Those of the other family, where it has not answered yet; judged as well.
    pub late: Option<BoxFuture<'static, Vec<IpAddr>>>,
}

/// The addresses of one family.
type Family = BoxFuture<'static, Result<Vec<IpAddr>, NetError>>;

/// Resolves names and drops the addresses that the policy refuses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    configuration: Configuration,
    guard: Guard,
}

impl Resolver {
    /// Reads the system's configuration. Without one (a bare container) it asks the machine itself, as libc does.
    ///
    /// # Errors
    /// What hickory makes of a configuration that it can't use.
    pub fn new(guard: Guard) -> Result<Resolver, NetError> {
        let builder = || {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(%error, "/etc/resolv.conf can't be used, asking for names at 127.0.0.1");
                local_nameserver()
            })
        };
        Resolver::built(FILES.map(PathBuf::from).to_vec(), builder, guard)
    }

    pub(super) fn built(
        files: Vec<PathBuf>,
        builder: impl Fn() -> ResolverBuilder<TokioRuntimeProvider> + Send + Sync + 'static,
        guard: Guard,
    ) -> Result<Resolver, NetError> {
        let bounded = move || {
            let mut builder = builder();
            bound(builder.options_mut());
            builder
        };
        Ok(Resolver { configuration: Configuration::of(files, Box::new(bounded))?, guard })
    }

    /// Judges the addresses.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The addresses of `name`, unjudged; of one family, where the other does not answer in time.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`], or [`ResolveError::Ours`] if the name has no part in it.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        Ok(self.look_up(name).await?.0)
    }

    /// The addresses of the family that answers first, and the other family, if it has not answered soon after.
    async fn look_up(&self, name: &str) -> Result<(Vec<IpAddr>, Option<Family>), ResolveError> {
        let not_found = |error: &NetError| ResolveError::NotFound(sentence(error));
        let name = name_of(name).map_err(|error| not_found(&error))?;
        let Read { dns, nameservers } = self.configuration.current(Instant::now());
        let _asked = nameservers.asked(&name);
        match race(&dns, &name).await {
            Ok(found) => {
                nameservers.answered(&name);
                Ok(found)
            }
            Err(error) if is_answer(&error) => Err(not_found(&error)),
            Err(error) => match exhausted_in(&error) {
                Some(why) => Err(ResolveError::Ours(why)),
                // A name whose own servers are broken gets the same answer as every name where ours are.
                None if nameservers.serve(Some(&name)).await => Err(not_found(&error)),
                None => Err(ResolveError::Ours(OwnFailure::Resolver)),
            },
        }
    }

    /// Whether `name` is being looked up right now.
    pub fn looks_up(&self, name: &str) -> bool {
        Name::from_ascii(name).is_ok_and(|name| self.nameservers().is_asked(&name))
    }

    fn nameservers(&self) -> NameServers {
        self.configuration.current(Instant::now()).nameservers
    }

    /// Whether the name servers answer at all.
    pub async fn serves(&self, name: &str) -> bool {
        self.nameservers().serve(Name::from_ascii(name).ok().as_ref()).await
    }

    /// The addresses of `host`, a name or a literal, that we may connect to.
    ///
    /// # Errors
    /// [`ResolveError`]: there are none.
    pub async fn allowed(&self, host: &str) -> Result<Found, ResolveError> {
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let (found, late) = match &literal {
            Ok(ip) => (vec![*ip], None),
            Err(_) => self.look_up(host).await?,
        };
        let guard = self.guard.clone();
        let late = late.map(|late| late.map(move |more| judged(&guard, more.unwrap_or_default())));
        match (judged(&self.guard, found), late) {
            ((addresses, _), late) if !addresses.is_empty() => {
                let late = late.map(|late| late.map(|(addresses, _)| addresses).boxed());
                Ok(Found { addresses, late })
            }
            ((_, refused), late) => {
                let (addresses, refused_too) = match late {
                    Some(late) => late.await,
                    None => (Vec::new(), None),
                };
                match refused.or(refused_too) {
                    _ if !addresses.is_empty() => Ok(Found { addresses, late: None }),
                    Some(why) if literal.is_ok() => Err(ResolveError::BlockedAddress(why)),
                    Some(why) => Err(ResolveError::Blocked(why)),
                    None => Err(ResolveError::NotFound("the name has no addresses".to_owned())),
                }
            }
        }
    }
}

async fn race(dns: &TokioResolver, name: &Name) -> Result<(Vec<IpAddr>, Option<Family>), NetError> {
    let (first, mut other) = match select(family(dns, name, RecordType::A), family(dns, name, RecordType::AAAA)).await {
        Either::Left(ended) | Either::Right(ended) => ended,
    };
    match first {
        Ok(mut addresses) if !addresses.is_empty() => match timeout(OTHER_FAMILY, &mut other).await {
            Ok(more) => {
                addresses.extend(more.unwrap_or_default());
                // IPv4 first: where IPv6 is half set up, connecting over it hangs.
                addresses.sort_by_key(IpAddr::is_ipv6);
                Ok((addresses, None))
            }
            Err(_) => Ok((addresses, Some(other))),
        },
        first => match (first, other.await) {
            (_, Ok(addresses)) if !addresses.is_empty() => Ok((addresses, None)),
            // A family that has no addresses is an answer; what the other failed of says more.
            (Err(error), Err(answer)) if is_answer(&answer) => Err(error),
            (_, Err(error)) | (Err(error), _) => Err(error),
            (Ok(_), Ok(_)) => Ok((Vec::new(), None)),
        },
    }
}

fn family(dns: &TokioResolver, name: &Name, kind: RecordType) -> Family {
    let (dns, name) = (dns.clone(), name.clone());
    let asked = async move {
        let answer = timeout(LOOKUP, dns.lookup(name, kind)).await.unwrap_or(Err(NetError::Timeout))?;
        Ok(answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
    };
    asked.boxed()
}

/// A host as DNS has it: labels of up to 63 bytes, 253 in all.
///
/// # Errors
/// It can't be asked for.
pub fn name_of(host: &str) -> Result<Name, NetError> {
    // `from_ascii` and not the usual parser, which refuses names with an underscore; the URL made it ASCII already.
    Ok(Name::from_ascii(host)?)
}

/// Those that the guard allows, and why the first of the others is refused.
fn judged(guard: &Guard, mut addresses: Vec<IpAddr>) -> (Vec<IpAddr>, Option<Refused>) {
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

fn bound(options: &mut ResolverOpts) {
    options.cache_size = CACHE_SIZE;
    (options.positive_min_ttl, options.positive_max_ttl) = (Some(POSITIVE_TTL.0), Some(POSITIVE_TTL.1));
    (options.negative_min_ttl, options.negative_max_ttl) = (Some(NEGATIVE_TTL.0), Some(NEGATIVE_TTL.1));
    // The system's, within bounds: `timeout:0` would end every lookup at once.
    options.timeout = options.timeout.clamp(PATIENCE.1, PATIENCE.0);
    options.attempts = options.attempts.max(1);
    options.use_hosts_file = ResolveHosts::Always;
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
