//! TCP connections to whatever a host's addresses are: staggered tries, after RFC 8305 ("happy eyeballs").
//!
//! * The [`Dialer`] has the host resolved and every address judged, tries them one after another without waiting for the one before
//!   to fail, and takes the first connection that stands.
//! * [`Answered`] remembers which address stood in for one that did not answer: it goes first for a while.
//!
//! All tries end with the attempt that they are made for.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use super::connection::BoxError;
use super::guard::Guard;
use super::local::{NoPort, can_reach, exhausted, lacks_port};
use super::resolver::{Found, ResolveError, Resolver};

/// How long the next address waits for the one before ("Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);
/// How many tries one connection makes at a time: each is a descriptor. The oldest is given up for the next address.
const ABREAST: usize = 4;
/// How many addresses of a name are tried. Names come from customers, and one request must not become thousands of connections.
const MOST: usize = 32;
/// How often a connection that says nothing is asked whether it still stands, and how often in vain.
const KEEP_ALIVE: (Duration, u32) = (Duration::from_secs(15), 3);
/// How long an address goes before others because it answered, and how many are remembered.
const FIRST_FOR: Duration = Duration::from_secs(600);
const REMEMBERED: usize = 4_096;

/// Makes TCP connections. Cheap to clone; clones remember the same.
#[derive(Clone, Debug)]
pub struct Dialer {
    resolver: Resolver,
    answered: Answered,
}

impl Dialer {
    /// Connects to what `resolver` allows.
    pub fn new(resolver: Resolver) -> Dialer {
        Dialer { resolver, answered: Answered::default() }
    }

    async fn dial(self, uri: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let Found { addresses, late } = self.resolver.allowed(host).await?;
        let with_port = move |addresses: Vec<_>| addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let mut addresses = in_turns(with_port(addresses));
        self.answered.put_first(&mut addresses, Instant::now());
        let first = addresses.first().copied();
        let late = async move {
            match late {
                Some(late) => with_port(late.await),
                None => Vec::new(),
            }
        };
        let guard = self.resolver.guard();
        match staggered(addresses, late, STAGGER, |address| connect(guard, address)).await {
            Ok((address, stream)) => {
                self.answered.note(first, address, Instant::now());
                // A connection without them is as good, as long as it stands.
                let _ = set_options(&stream);
                Ok(TokioIo::new(stream))
            }
            // The system says the same where it has no address to connect from.
            Err(Why(Some((_, address, error)))) if lacks_port(&error) && can_reach(address) => Err(NoPort.into()),
            Err(Why(Some((_, _, error)))) => Err(error.into()),
            Err(Why(None)) => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        }
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

/// A connection to `address`, unless it leads to this machine itself.
async fn connect(guard: &Guard, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    let local = stream.local_addr()?;
    guard
        .check_connected(local.ip(), address.ip())
        .map_err(|refused| io::Error::other(ResolveError::BlockedAddress(refused)))?;
    Ok(stream)
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, KEEP_ALIVE.0)?;
    set_tcp_keepintvl(stream, KEEP_ALIVE.0)?;
    Ok(set_tcp_keepcnt(stream, KEEP_ALIVE.1)?)
}

/// The families in turns, beginning with that of the first address, and no more than [`MOST`].
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let leads = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (leading, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv4() == leads);
    let (mut leading, mut other) = (leading.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    while turns.len() < MOST {
        let pair: Vec<SocketAddr> = leading.next().into_iter().chain(other.next()).collect();
        if pair.is_empty() {
            break;
        }
        turns.extend(pair);
    }
    turns.truncate(MOST);
    turns
}

/// One connection that is being made to one of a host's addresses.
struct Try<F> {
    number: usize,
    address: SocketAddr,
    connecting: Pin<Box<F>>,
}

/// Why no address has answered so far: the error of the first of them, or one that is this machine's fault.
#[derive(Default)]
struct Why(Option<(usize, SocketAddr, io::Error)>);

impl Why {
    fn failed<F>(&mut self, failed: &Try<F>, error: io::Error) {
        let tells_more = self.0.as_ref().is_none_or(|(first, _, known)| {
            exhausted(known).is_none() && (exhausted(&error).is_some() || failed.number < *first)
        });
        if tells_more {
            self.0 = Some((failed.number, failed.address, error));
        }
    }
}

/// Connects to the first of `addresses` that answers. The next one is tried when the one before has failed, or `stagger` later. What
/// `late` brings is tried as well, behind the others.
///
/// # Errors
/// [`Why`] none answered. Without an error, there was no address.
async fn staggered<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    late: impl Future<Output = Vec<SocketAddr>>,
    stagger: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(SocketAddr, T), Why> {
    let mut waiting = VecDeque::from(addresses);
    let (mut late, mut is_late) = (pin!(late), true);
    let mut tries: VecDeque<Try<F>> = VecDeque::with_capacity(ABREAST);
    let (mut why, mut begun, mut next_at) = (Why::default(), 0, Instant::now());
    loop {
        tokio::select! {
            (ended, result) = first_to_end(&mut tries), if !tries.is_empty() => match result {
                Ok(connection) => return Ok((ended.address, connection)),
                Err(error) => {
                    why.failed(&ended, error);
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if !waiting.is_empty() => {
                if tries.len() == ABREAST && let Some(oldest) = tries.pop_front() {
                    why.failed(&oldest, io::ErrorKind::TimedOut.into());
                }
                if let Some(address) = waiting.pop_front() {
                    tries.push_back(Try { number: begun, address, connecting: Box::pin(connect(address)) });
                    begun += 1;
                }
                next_at = Instant::now() + stagger;
            }
            more = &mut late, if is_late => {
                is_late = false;
                let room = MOST.saturating_sub(begun + waiting.len());
                waiting.extend(more.into_iter().take(room));
            }
            else => return Err(why),
        }
    }
}

/// Waits for the first that ends, and takes it out.
async fn first_to_end<T, F: Future<Output = io::Result<T>>>(tries: &mut VecDeque<Try<F>>) -> (Try<F>, io::Result<T>) {
    poll_fn(|cx| {
        let mut polled = tries.iter_mut().map(|one| one.connecting.as_mut().poll(cx)).enumerate();
        let Some((place, Poll::Ready(result))) = polled.find(|(_, poll)| poll.is_ready()) else { return Poll::Pending };
        drop(polled);
        tries.remove(place).map_or(Poll::Pending, |ended| Poll::Ready((ended, result)))
    })
    .await
}

/// Which address answered where another did not. Cheap to clone; clones share what they know.
#[derive(Clone, Debug, Default)]
struct Answered(Arc<Mutex<HashMap<SocketAddr, Instant>>>);

impl Answered {
    /// Moves an address that answered lately to the front.
    fn put_first(&self, addresses: &mut [SocketAddr], now: Instant) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |address| known.get(address).is_some_and(|at| now.saturating_duration_since(*at) < FIRST_FOR);
        if let Some(place) = addresses.iter().position(fresh) {
            addresses[..=place].rotate_right(1);
        }
    }

    /// `address` answered, and `first` was tried before it. Where the first answers, the order stays what DNS makes it: names
    /// with several addresses share their load by it.
    fn note(&self, first: Option<SocketAddr>, address: SocketAddr, now: Instant) {
        if first == Some(address) {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = first {
            known.remove(&first);
        }
        if known.len() >= REMEMBERED && !known.contains_key(&address) {
            known.retain(|_, at| now.saturating_duration_since(*at) < FIRST_FOR);
            let oldest = known.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| known.len() >= REMEMBERED) {
                known.remove(&oldest);
            }
        }
        known.insert(address, now);
    }
}

#[cfg(test)]
mod tests;
