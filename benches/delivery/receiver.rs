//! A receiver that costs as little as one can: it reads requests, answers 200, and notes how long each message took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What arrived.
pub struct Receiver {
    pub port: u16,
    count: Arc<AtomicU64>,
    /// End-to-end times in microseconds: from before the POST of the message to its arrival.
    times: Arc<Mutex<Vec<u32>>>,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// Where a payload says when it was posted: microseconds since `began`, twelve digits.
pub const STAMP: &[u8] = b"{\"at\":\"";

impl Receiver {
    pub async fn start(began: Instant) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let receiver = Receiver { port, count: Arc::default(), times: Arc::default() };
        let (count, times) = (receiver.count.clone(), receiver.times.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, began, count.clone(), times.clone()));
            }
        });
        receiver
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until `expected` have arrived, for as long as some still do.
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

    /// The times at which the given shares of all messages had arrived, in milliseconds.
    pub fn percentiles(&self, shares: [f64; 2]) -> [f64; 2] {
        let mut times = self.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        times.sort_unstable();
        shares.map(|share| {
            let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times.get(at).map_or(0.0, |micros| f64::from(*micros) / 1_000.0)
        })
    }
}

async fn answer(mut stream: TcpStream, began: Instant, count: Arc<AtomicU64>, times: Arc<Mutex<Vec<u32>>>) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut filled) = (vec![0u8; 64 * 1024], 0);
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        while let Some((head, length)) = head(&buffer[..filled]) {
            let end = head + length;
            if filled < end {
                break;
            }
            if let Some(at) = stamp(&buffer[head..end]) {
                let took = (began.elapsed().as_micros() as u64).saturating_sub(at);
                times.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(took as u32);
            }
            count.fetch_add(1, Ordering::Relaxed);
            buffer.copy_within(end..filled, 0);
            filled -= end;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}

/// Where a request's (or response's) body begins, and how long it is.
pub fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let line = text.lines().find(|line| line.len() > 15 && line[..15].eq_ignore_ascii_case("content-length:"));
    let length = line.and_then(|line| line[15..].trim().parse().ok()).unwrap_or(0);
    Some((end, length))
}

fn stamp(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(STAMP)?;
    std::str::from_utf8(rest.get(..12)?).ok()?.trim().parse().ok()
}
