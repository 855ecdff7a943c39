//! A minimal receiver: answers 200, and records end-to-end times and arrivals.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::head;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// Start of a payload with its time of posting: microseconds since `began`, twelve digits.
pub const STAMP: &[u8] = b"{\"at\":\"";
/// Start of a payload with its message number, from 0. The endpoint's number ends the path.
pub const NUMBER: &[u8] = b"{\"n\":";
/// A request head must fit; of a body, only the start is kept.
const BUFFER: usize = 64 * 1_024;

pub struct Receiver {
    pub port: u16,
    inner: Arc<Inner>,
}

struct Inner {
    began: Instant,
    count: AtomicU64,
    /// End-to-end times in microseconds, from the time in the payload.
    times: Mutex<Vec<u32>>,
    arrivals: Mutex<Arrivals>,
}

/// The messages that arrived at each endpoint: one bit per pair.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    endpoints: usize,
    bits: Vec<u64>,
    /// Pairs that arrived.
    pub distinct: u64,
    /// Arrivals beyond the first of a pair.
    pub repeats: u64,
    /// Times of the first and last arrival.
    pub first: Option<Instant>,
    pub last: Option<Instant>,
}

impl Arrivals {
    fn record(&mut self, message: usize, endpoint: usize) {
        let at = message * self.endpoints + endpoint;
        let Some(word) = self.bits.get_mut(at / 64).filter(|_| endpoint < self.endpoints) else { return };
        let bit = 1 << (at % 64);
        if *word & bit == 0 {
            *word |= bit;
            self.distinct += 1;
        } else {
            self.repeats += 1;
        }
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Receiver {
    pub async fn start(began: Instant) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let inner =
            Arc::new(Inner { began, count: AtomicU64::new(0), times: Mutex::default(), arrivals: Mutex::default() });
        let theirs = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&theirs)));
            }
        });
        Receiver { port, inner }
    }

    /// The URL of endpoint number `endpoint`.
    pub fn url(&self, endpoint: usize) -> String {
        format!("http://127.0.0.1:{}/{endpoint}", self.port)
    }

    /// The origin of the times in payloads.
    pub fn began(&self) -> Instant {
        self.inner.began
    }

    pub fn count(&self) -> u64 {
        self.inner.count.load(Ordering::Relaxed)
    }

    /// Expects `messages` numbered messages at each of `endpoints` endpoints from now on.
    pub fn expect(&self, messages: usize, endpoints: usize) {
        let bits = vec![0; (messages * endpoints).div_ceil(64)];
        *locked(&self.inner.arrivals) = Arrivals { endpoints, bits, ..Arrivals::default() };
    }

    /// The arrivals so far, without the bits.
    pub fn arrivals(&self) -> Arrivals {
        let arrivals = locked(&self.inner.arrivals);
        Arrivals { bits: Vec::new(), ..*arrivals }
    }

    /// Waits until `expected` requests have arrived, or none does for 10 s.
    pub async fn wait_for(&self, expected: u64) -> Instant {
        let (mut seen, mut last) = (self.count(), Instant::now());
        while seen < expected && last.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let now = self.count();
            if now > seen {
                (seen, last) = (now, Instant::now());
            }
        }
        last
    }

    /// The sorted times since the last call, in microseconds.
    pub fn take_times(&self) -> Vec<u32> {
        let mut times = std::mem::take(&mut *locked(&self.inner.times));
        times.sort_unstable();
        times
    }
}

async fn answer(mut stream: TcpStream, inner: Arc<Inner>) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut filled) = (vec![0u8; BUFFER], 0);
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        while let Some((head, length)) = head(&buffer[..filled]) {
            let end = head + length;
            if filled < end && end <= BUFFER {
                break;
            }
            let kept = end.min(filled);
            record(&buffer[..head], &buffer[head..kept], &inner);
            buffer.copy_within(kept..filled, 0);
            filled -= kept;
            if skip(&mut stream, end - kept).await.is_none() || stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// Reads and discards bytes.
async fn skip(stream: &mut TcpStream, mut bytes: usize) -> Option<()> {
    let mut away = if bytes == 0 { Vec::new() } else { vec![0; BUFFER] };
    while bytes > 0 {
        let most = bytes.min(BUFFER);
        match stream.read(&mut away[..most]).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes -= read,
        }
    }
    Some(())
}

fn record(head: &[u8], body: &[u8], inner: &Inner) {
    if let Some(at) = stamp(body) {
        let took = (inner.began.elapsed().as_micros() as u64).saturating_sub(at);
        locked(&inner.times).push(u32::try_from(took).unwrap_or(u32::MAX));
    } else if let Some((message, endpoint)) = number(head, body) {
        locked(&inner.arrivals).record(message, endpoint);
    }
    inner.count.fetch_add(1, Ordering::Relaxed);
}

fn stamp(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(STAMP)?;
    std::str::from_utf8(rest.get(..12)?).ok()?.trim().parse().ok()
}

fn number(head: &[u8], body: &[u8]) -> Option<(usize, usize)> {
    let digits = body.strip_prefix(NUMBER)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let message = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let endpoint = line.split(' ').nth(1)?.rsplit('/').next()?.parse().ok()?;
    Some((message, endpoint))
}
