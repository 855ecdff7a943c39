//! Deadlines of slow peers, on a pipe in memory.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::app::http::connection_limit::ConnectionLimiter;
use crate::app::http::pipelining::BodyLength;

const SOON: ThroughputLimit = ThroughputLimit { grace: Duration::from_millis(100), bytes_per_second: 1_024 };
const NEVER: ThroughputLimit = ThroughputLimit { grace: Duration::from_secs(3_600), bytes_per_second: 1 };

impl CutOff for DuplexStream {
    fn cut_off(&self) {}
}

/// The server's end, with a buffer of `room` bytes, and the peer's.
fn pair(
    room: usize,
    receiving: ThroughputLimit,
    sending: ThroughputLimit,
) -> (TimedConnection<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(room);
    let permit = ConnectionLimiter::new(1, crate::traffic::proxies::TrustedProxies::default())
        .acquire(Ipv4Addr::LOCALHOST.into())
        .unwrap();
    let (keep_alive, drain) = (NEVER.grace, SOON.grace);
    let deadlines = ClientDeadlines { head: NEVER.grace, request: receiving, response: sending, keep_alive, drain };
    (TimedConnection::new(ours, permit, deadlines), theirs)
}

/// A connection whose peer has sent the first bytes of a request.
async fn begun_request() -> (TimedConnection<DuplexStream>, DuplexStream) {
    let (mut ours, mut theirs) = pair(1_024, SOON, NEVER);
    theirs.write_all(b"POST").await.unwrap();
    assert_eq!(ours.read(&mut [0; 64]).await.unwrap(), 4);
    (ours, theirs)
}

fn timed_out<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// Counts wake-ups.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_blocked_reader_is_woken_when_the_peer_reads() {
    let (mut ours, mut theirs) = pair(8, NEVER, NEVER);
    let (woken, mut nobody) = (Arc::new(Woken::default()), Context::from_waker(Waker::noop()));
    let waker = Waker::from(woken.clone());
    let times = || woken.0.load(Ordering::Relaxed);
    let write = |ours: &mut TimedConnection<DuplexStream>, cx: &mut Context<'_>| Pin::new(ours).poll_write(cx, &[0; 8]);
    assert!(write(&mut ours, &mut nobody).is_ready() && write(&mut ours, &mut nobody).is_pending());
    let mut bytes = [0; 8];
    let mut buffer = ReadBuf::new(&mut bytes);
    assert!(Pin::new(&mut ours).poll_read(&mut Context::from_waker(&waker), &mut buffer).is_pending());
    theirs.read_exact(&mut [0; 8]).await.unwrap();
    assert_eq!(times(), 0);
    assert!(write(&mut ours, &mut nobody).is_ready());
    assert_eq!(times(), 1);
    // The next read sees new bytes.
    assert!(Pin::new(&mut ours).poll_read(&mut Context::from_waker(&waker), &mut buffer).is_pending());
    theirs.write_all(b"GET").await.unwrap();
    assert_eq!(times(), 2);
}

#[tokio::test]
async fn an_endless_request_is_cut_off() {
    let (mut ours, _theirs) = begun_request().await;
    timed_out(ours.read(&mut [0; 64]).await);
}

#[tokio::test]
async fn asking_for_a_body_does_not_end_its_request() {
    let (mut ours, _theirs) = begun_request().await;
    ours.write_all(CONTINUE).await.unwrap();
    timed_out(ours.read(&mut [0; 64]).await);
}

#[tokio::test]
async fn the_rest_of_an_answered_request_is_not_read_for_ever() {
    let (mut ours, mut theirs) = pair(64 * 1_024, NEVER, NEVER);
    let peer = tokio::spawn(async move {
        theirs.write_all(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        while theirs.write_all(b"4\r\nbody\r\n").await.is_ok() {}
    });
    let mut buffer = [0; 1_024];
    assert!(ours.read(&mut buffer).await.unwrap() > 0);
    drop(ours.flow().begin(BodyLength::Chunked));
    ours.write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\n").await.unwrap();
    let error = loop {
        match ours.read(&mut buffer).await {
            Ok(read) => assert!(read > 0),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(ours);
    peer.await.unwrap();
}

#[tokio::test]
async fn a_trickle_of_bytes_does_not_extend_the_deadline() {
    let (mut ours, mut theirs) = pair(1_024, SOON, NEVER);
    let peer = tokio::spawn(async move {
        // Written as fast as they are read, so only the byte count limits the time.
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while theirs.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    });
    let mut buffer = [0; 64];
    let mut read = 0;
    let error = loop {
        match ours.read(&mut buffer).await {
            Ok(bytes) => read += bytes,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(read < 500, "{read} bytes");
    drop(ours);
    peer.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_left_to_the_keep_alive_timeout() {
    let (mut ours, mut theirs) = pair(1_024, SOON, SOON);
    let mut buffer = [0; 64];
    theirs.write_all(b"GET").await.unwrap();
    assert_eq!(ours.read(&mut buffer).await.unwrap(), 3);
    ours.write_all(b"200").await.unwrap();
    ours.flush().await.unwrap();
    let idle = tokio::time::timeout(3 * SOON.grace, ours.read(&mut buffer)).await;
    assert!(idle.is_err(), "answered: nothing runs out");
}

#[tokio::test]
async fn an_unread_response_is_cut_off() {
    let (mut ours, _theirs) = pair(16, NEVER, SOON);
    timed_out(ours.write_all(&[0; 64]).await);
}

#[tokio::test]
async fn a_response_that_is_read_is_sent() {
    let (mut ours, mut theirs) = pair(16, NEVER, SOON);
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.map(|_| all.len())
    });
    ours.write_all(&[7; 64 * 1_024]).await.unwrap();
    ours.shutdown().await.unwrap();
    drop(ours);
    assert_eq!(reader.await.unwrap().unwrap(), 64 * 1_024);
}

#[tokio::test]
async fn framing_without_end_closes_the_connection() {
    let (mut ours, mut theirs) = pair(64 * 1_024, NEVER, NEVER);
    theirs.write_all(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let mut buffer = [0; 16 * 1_024];
    assert!(ours.read(&mut buffer).await.unwrap() > 0);
    let _busy = ours.flow().begin(BodyLength::Chunked);
    theirs.write_all(format!("0\r\n{}", "a: b\r\n".repeat(1_000)).as_bytes()).await.unwrap();
    assert_eq!(ours.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}
