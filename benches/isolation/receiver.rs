//! Customers' receivers, all at one port: the path says whose it is, and some can be told to hang. What arrives at those that are watched is
//! timed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where a payload says when it was posted: microseconds since the receiver's start, twelve digits.
pub const STAMP: &[u8] = b"{\"at\":\"";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Those that answer always, and are watched.
pub const WATCHED: &str = "/watched";
/// Those that hang when they are told to.
pub const OTHERS: &str = "/others";

pub struct Receiver {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    takes: Duration,
    hangs: AtomicBool,
    others: AtomicU64,
    /// From before the POST of the message to its arrival, in microseconds.
    times: Mutex<Vec<u64>>,
}

impl Receiver {
    /// Everybody at it takes so long to answer.
    pub async fn start(takes: Duration) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            began: Instant::now(),
            takes,
            hangs: AtomicBool::new(false),
            others: AtomicU64::new(0),
            times: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&theirs)));
            }
        });
        Receiver { port, shared }
    }

    /// Whether the others hang from now on.
    pub fn hang(&self, hang: bool) {
        self.shared.hangs.store(hang, Ordering::Relaxed);
    }

    /// A payload that was posted now.
    pub fn stamped(&self) -> String {
        format!("{{\"at\":\"{:012}\"}}", self.shared.began.elapsed().as_micros())
    }

    /// How many requests the others got.
    pub fn others(&self) -> u64 {
        self.shared.others.load(Ordering::Relaxed)
    }

    /// The times since the last call, the shortest first.
    pub fn times(&self) -> Vec<u64> {
        let mut times = self.shared.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut taken = std::mem::take(&mut *times);
        taken.sort_unstable();
        taken
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
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
            let now = shared.began.elapsed().as_micros() as u64;
            if let Some(at) = stamp(body) {
                shared.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(now.saturating_sub(at));
            }
        } else {
            shared.others.fetch_add(1, Ordering::Relaxed);
            if path.starts_with(OTHERS) && shared.hangs.load(Ordering::Relaxed) {
                // Until the sender has had enough.
                let _ = stream.read(&mut [0]).await;
                return;
            }
        }
        buffer.copy_within(head + length..filled, 0);
        filled -= head + length;
        tokio::time::sleep(shared.takes).await;
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

/// A request's path, where its body begins, and how long it is.
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
