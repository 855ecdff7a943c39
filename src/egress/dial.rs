//! TCP connections to a host's addresses: staggered attempts as in RFC 8305 ("Happy Eyeballs").
//!
//! * [`Dialer`] resolves the host, drops refused addresses and starts staggered attempts, each without waiting for the
//!   previous one to fail. The first that connects is used.
//! * [`AddressPreference`] remembers an address that connected where an earlier one did not, and tries it first.
//!
//! Dropping the future cancels all attempts.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::connect_service::{BoxError, Connect};
use super::dns::resolver::{ResolveError, ResolvedAddresses, Resolver};
use super::guard::Guard;
use super::local::{NoPort, can_reach, exhausted, lacks_port};

/// Delay before the next address is tried ("Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Concurrent TCP attempts per connection, one descriptor each. A further attempt replaces the oldest.
const MAX_CONCURRENT: usize = 4;
/// Addresses tried per name. Customers choose the names, and one request must not open thousands of connections.
const MAX_ADDRESSES: usize = 32;
/// TCP keep-alive: the interval, and the number of unanswered probes that end a connection.
const KEEP_ALIVE: (Duration, u32) = (Duration::from_secs(15), 3);
/// The time that a working address is preferred.
const PREFERENCE_TTL: Duration = Duration::from_secs(600);
/// Remembered addresses.
const MAX_PREFERENCES: usize = 4_096;

/// Opens TCP connections. Clones are cheap and share address preferences.
#[derive(Clone, Debug)]
pub struct Dialer {
    resolver: Resolver,
    preference: AddressPreference,
}

impl Dialer {
    /// Connects only to addresses that `resolver` allows.
    pub fn new(resolver: Resolver) -> Dialer {
        Dialer { resolver, preference: AddressPreference::default() }
    }
}

impl Connect for Dialer {
    type Connection = TokioIo<TcpStream>;
    type Error = BoxError;

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let ResolvedAddresses { addresses, late } = self.resolver.resolve_allowed(host).await?;
        let with_port = move |addresses: Vec<_>| addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let mut addresses = interleave_families(with_port(addresses));
        self.preference.prefer(&mut addresses, Instant::now());
        let first = addresses.first().copied();
        let late = async move {
            match late {
                Some(late) => with_port(late.await),
                None => Vec::new(),
            }
        };
        let guard = self.resolver.guard();
        match connect_staggered(addresses, late, ATTEMPT_DELAY, |address| connect(guard, address)).await {
            Ok((address, stream)) => {
                self.preference.record(first, address, Instant::now());
                // A connection without these options works as well.
                let _ = set_options(&stream);
                Ok(TokioIo::new(stream))
            }
            // EADDRNOTAVAIL also means that the machine has no source address for this destination.
            Err(DialError(Some((_, address, error)))) if lacks_port(&error) && can_reach(address) => Err(NoPort.into()),
            Err(DialError(Some((_, _, error)))) => Err(error.into()),
            Err(DialError(None)) => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        }
    }
}

/// Connects to `address` unless the connection leads back to this machine.
async fn connect(guard: &Guard, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    let local = stream.local_addr()?;
    match guard.check_connected(local.ip(), address.ip()) {
        Ok(()) => Ok(stream),
        Err(refused) => {
            tracing::debug!(address = %refused, "blocked an address after connecting");
            Err(io::Error::other(ResolveError::BlockedAddress))
        }
    }
}

/// Sends small packets at once, and notices peers that vanished.
pub(super) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, KEEP_ALIVE.0)?;
    set_tcp_keepintvl(stream, KEEP_ALIVE.0)?;
    Ok(set_tcp_keepcnt(stream, KEEP_ALIVE.1)?)
}

/// Alternates address families, starting with the first address's, and keeps [`MAX_ADDRESSES`].
fn interleave_families(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let leads = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (leading, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv4() == leads);
    let (mut leading, mut other) = (leading.into_iter(), other.into_iter());
    let mut interleaved = Vec::new();
    while interleaved.len() < MAX_ADDRESSES {
        let pair: Vec<SocketAddr> = leading.next().into_iter().chain(other.next()).collect();
        if pair.is_empty() {
            break;
        }
        interleaved.extend(pair);
    }
    interleaved.truncate(MAX_ADDRESSES);
    interleaved
}

/// A connection attempt to one address.
struct TcpAttempt<F> {
    number: usize,
    address: SocketAddr,
    connecting: Pin<Box<F>>,
}

/// The most useful error so far: a failure of this machine, or else the error of the first address.
#[derive(Default)]
struct DialError(Option<(usize, SocketAddr, io::Error)>);

impl DialError {
    fn record<F>(&mut self, failed: &TcpAttempt<F>, error: io::Error) {
        let tells_more = self.0.as_ref().is_none_or(|(first, _, known)| {
            exhausted(known).is_none() && (exhausted(&error).is_some() || failed.number < *first)
        });
        if tells_more {
            self.0 = Some((failed.number, failed.address, error));
        }
    }
}

/// Connects to the first address that accepts. The next attempt starts when one fails or after `stagger`; addresses
/// from `late` join the end of the queue.
///
/// # Errors
/// All attempts failed. A [`DialError`] without an error means there was no address.
async fn connect_staggered<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    late: impl Future<Output = Vec<SocketAddr>>,
    stagger: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(SocketAddr, T), DialError> {
    let mut waiting = VecDeque::from(addresses);
    let (mut late, mut is_late) = (pin!(late), true);
    let mut attempts: VecDeque<TcpAttempt<F>> = VecDeque::with_capacity(MAX_CONCURRENT);
    let (mut dial_error, mut begun, mut next_at) = (DialError::default(), 0, Instant::now());
    loop {
        tokio::select! {
            (ended, result) = next_completed(&mut attempts), if !attempts.is_empty() => match result {
                Ok(connection) => return Ok((ended.address, connection)),
                Err(error) => {
                    dial_error.record(&ended, error);
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if !waiting.is_empty() => {
                if attempts.len() == MAX_CONCURRENT && let Some(oldest) = attempts.pop_front() {
                    dial_error.record(&oldest, io::ErrorKind::TimedOut.into());
                }
                if let Some(address) = waiting.pop_front() {
                    attempts.push_back(TcpAttempt { number: begun, address, connecting: Box::pin(connect(address)) });
                    begun += 1;
                }
                next_at = Instant::now() + stagger;
            }
            more = &mut late, if is_late => {
                is_late = false;
                let room = MAX_ADDRESSES.saturating_sub(begun + waiting.len());
                waiting.extend(more.into_iter().take(room));
            }
            else => return Err(dial_error),
        }
    }
}

/// Removes and returns the first attempt that completes.
async fn next_completed<T, F: Future<Output = io::Result<T>>>(
    attempts: &mut VecDeque<TcpAttempt<F>>,
) -> (TcpAttempt<F>, io::Result<T>) {
    poll_fn(|cx| {
        let mut polled = attempts.iter_mut().map(|one| one.connecting.as_mut().poll(cx)).enumerate();
        let Some((place, Poll::Ready(result))) = polled.find(|(_, poll)| poll.is_ready()) else { return Poll::Pending };
        drop(polled);
        attempts.remove(place).map_or(Poll::Pending, |ended| Poll::Ready((ended, result)))
    })
    .await
}

/// Addresses that connected where another did not. Clones share their entries.
#[derive(Clone, Debug, Default)]
struct AddressPreference(Arc<Mutex<HashMap<SocketAddr, Instant>>>);

impl AddressPreference {
    /// Moves a recently working address to the front.
    fn prefer(&self, addresses: &mut [SocketAddr], now: Instant) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |address| known.get(address).is_some_and(|at| now.saturating_duration_since(*at) < PREFERENCE_TTL);
        if let Some(place) = addresses.iter().position(fresh) {
            addresses[..=place].rotate_right(1);
        }
    }

    /// Records that `address` connected after `first` was tried. If `first` itself connected, DNS keeps its order,
    /// which spreads load over a name's addresses.
    fn record(&self, first: Option<SocketAddr>, address: SocketAddr, now: Instant) {
        if first == Some(address) {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = first {
            known.remove(&first);
        }
        if known.len() >= MAX_PREFERENCES && !known.contains_key(&address) {
            known.retain(|_, at| now.saturating_duration_since(*at) < PREFERENCE_TTL);
            let oldest = known.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| known.len() >= MAX_PREFERENCES) {
                known.remove(&oldest);
            }
        }
        known.insert(address, now);
    }
}

#[cfg(test)]
mod tests;
