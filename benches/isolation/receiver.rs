//! The receivers of all endpoints, on one port: the path selects one, and some can be made to hang. Watched ones record
//! end-to-end times.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Start of a payload with its time of posting: microseconds since the receiver's start, twelve digits.
pub const STAMP: &[u8] = b"{\"at\":\"";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Path of receivers that always answer and record times.
pub const WATCHED: &str = "/watched";
/// Path of receivers that can hang.
pub const OTHERS: &str = "/others";

pub struct Receiver {
    pub port: u16,
    inner: Arc<Inner>,
}

struct Inner {
    began: Instant,
    delay: Duration,
    hanging: AtomicBool,
    others: AtomicU64,
    /// From before the POST of a message to its arrival, in microseconds.
    times: Mutex<Vec<u64>>,
}

impl Receiver {
    /// Starts receivers that take `takes` to answer.
    pub async fn start(delay: Duration) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let inner = Arc::new(Inner {
            began: Instant::now(),
            delay,
            hanging: AtomicBool::new(false),
            others: AtomicU64::new(0),
            times: Mutex::default(),
        });
        let theirs = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&theirs)));
            }
        });
        Receiver { port, inner }
    }

    /// Makes the other receivers hang, or stop hanging.
    pub fn hang(&self, hang: bool) {
        self.inner.hanging.store(hang, Ordering::Relaxed);
    }

    /// A payload posted now.
    pub fn stamped(&self) -> String {
        format!("{{\"at\":\"{:012}\"}}", self.inner.began.elapsed().as_micros())
    }

    /// Requests to the other receivers.
    pub fn others(&self) -> u64 {
        self.inner.others.load(Ordering::Relaxed)
    }

    /// The sorted times since the last call.
    pub fn times(&self) -> Vec<u64> {
        let mut times = self.inner.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut taken = std::mem::take(&mut *times);
        taken.sort_unstable();
        taken
    }
}

async fn serve(mut stream: TcpStream, inner: Arc<Inner>) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut filled) = (vec![0u8; 8 * 1024], 0);
    loop {
        let Some((path, head, length)) = head(&buffer[..filled]).filter(|(_, head, length)| filled >= head + length)
        else {
            match stream.read(&mut buffer[filled..]).await {
                Ok(0) | Err(_) => return,
                Ok(read) => filled += read,
            }
            continue;
        };
        let body = &buffer[head..head + length];
        if path.starts_with(WATCHED) {
            let now = inner.began.elapsed().as_micros() as u64;
            if let Some(at) = stamp(body) {
                inner.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(now.saturating_sub(at));
            }
        } else {
            inner.others.fetch_add(1, Ordering::Relaxed);
            if path.starts_with(OTHERS) && inner.hanging.load(Ordering::Relaxed) {
                // Until the sender gives up.
                let _ = stream.read(&mut [0]).await;
                return;
            }
        }
        buffer.copy_within(head + length..filled, 0);
        filled -= head + length;
        tokio::time::sleep(inner.delay).await;
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

/// A request's path, and the start and length of its body.
fn head(bytes: &[u8]) -> Option<(String, usize, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let path = text.split(' ').nth(1)?.to_owned();
    let length =
        text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    Some((path, end, length.unwrap_or(0)))
}

fn stamp(body: &[u8]) -> Option<u64> {
    std::str::from_utf8(body.strip_prefix(STAMP)?.get(..12)?).ok()?.parse().ok()
}
