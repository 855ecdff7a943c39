//! A connection that cuts off slow peers.
//!
//! * The **request** timer runs from the first byte of a request to the first byte of its response, including the
//!   handler's time. It bounds heads and bodies, even of requests that no handler reads.
//! * The **response** timer runs while the kernel accepts no more bytes, until it has accepted all of them.
//!
//! Between requests neither runs; the keep-alive timeout does. Early bytes wait in the [`RequestBuffer`], and nothing
//! is read from a peer that does not read its responses.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection_limit::ConnectionPermit;
use super::pipelining::{READ_AHEAD, RequestBuffer, RequestFlow};
use crate::traffic::hangup::Hangup;

/// The minimum throughput of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ThroughputLimit {
    /// Time for a transfer of any size.
    pub grace: Duration,
    /// One more second per this many bytes.
    pub bytes_per_second: u32,
}

/// Longer than any handler takes.
pub(super) const REQUEST_LIMIT: ThroughputLimit =
    ThroughputLimit { grace: Duration::from_secs(60), bytes_per_second: 8 * 1024 };
pub(super) const RESPONSE_LIMIT: ThroughputLimit =
    ThroughputLimit { grace: Duration::from_secs(30), bytes_per_second: 8 * 1024 };

/// Measures a transfer against its limit.
struct ThroughputTimer {
    limit: ThroughputLimit,
    /// Start of the transfer and bytes moved since.
    started: Option<(Instant, u64)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl ThroughputTimer {
    fn new(limit: ThroughputLimit) -> ThroughputTimer {
        ThroughputTimer { limit, started: None, timer: None }
    }

    /// Starts the transfer if necessary and counts bytes.
    fn record(&mut self, bytes: usize) {
        let (_, moved) = self.started.get_or_insert_with(|| (Instant::now(), 0));
        *moved += bytes as u64;
    }

    fn end(&mut self) {
        self.started = None;
    }

    /// Whether the transfer is too slow. If not, wakes the task at its deadline.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((since, bytes)) = self.started else { return false };
        let earned = Duration::from_millis(bytes.saturating_mul(1_000) / u64::from(self.limit.bytes_per_second));
        let deadline = since + self.limit.grace + earned;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

pub(super) struct TimedConnection<S> {
    io: S,
    receiving: ThroughputTimer,
    sending: ThroughputTimer,
    buffer: RequestBuffer,
    flow: RequestFlow,
    hangup: Hangup,
    /// The peer does not read.
    blocked: bool,
    /// Waker of the task that wanted to read while `blocked`.
    reader: Option<Waker>,
    /// The peer has closed its side.
    ended: bool,
    _permit: ConnectionPermit,
}

impl<S> TimedConnection<S> {
    pub fn new(
        io: S,
        permit: ConnectionPermit,
        receiving: ThroughputLimit,
        sending: ThroughputLimit,
    ) -> TimedConnection<S> {
        let (receiving, sending) = (ThroughputTimer::new(receiving), ThroughputTimer::new(sending));
        let (buffer, flow, hangup) = (RequestBuffer::default(), RequestFlow::default(), Hangup::default());
        TimedConnection {
            io,
            receiving,
            sending,
            buffer,
            flow,
            hangup,
            blocked: false,
            reader: None,
            ended: false,
            _permit: permit,
        }
    }

    /// The state of its requests.
    pub fn flow(&self) -> &RequestFlow {
        &self.flow
    }

    /// Signals that the peer has closed its side.
    pub fn hangup(&self) -> &Hangup {
        &self.hangup
    }
}

fn timed_out(reason: &'static str) -> io::Error {
    counter!("sendoff_http_connections_cut_total", "reason" => reason).increment(1);
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

impl<S: AsyncRead + Unpin> TimedConnection<S> {
    /// Reads into the buffer. `Ready`: there are new bytes, or there will be none.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut block = [MaybeUninit::uninit(); READ_AHEAD];
        let room = self.buffer.room();
        if room == 0 || self.ended {
            return if self.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let mut read = ReadBuf::uninit(&mut block[..room]);
        match Pin::new(&mut self.io).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) => {
                self.buffer.push(read.filled());
                self.ended = read.filled().is_empty();
            }
            Poll::Ready(Err(error)) => {
                self.hangup.close();
                return Poll::Ready(Err(error));
            }
            Poll::Pending => return Poll::Pending,
        }
        if self.ended {
            self.hangup.close();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedConnection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A peer that does not read gets no further responses. The server polls again once it has written.
        if this.blocked {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let pause = this.buffer.take_pause();
        loop {
            if !pause && !this.buffer.is_empty() {
                let taken = this.buffer.take(&this.flow, buffer.remaining());
                if !taken.is_empty() {
                    buffer.put_slice(&taken);
                    this.receiving.record(taken.len());
                    return Poll::Ready(Ok(()));
                }
                this.flow.wait(cx);
            }
            match this.fill(cx)? {
                // Buffered bytes come before the end.
                Poll::Ready(()) if this.ended && this.buffer.is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(()) if this.ended || pause => break,
                Poll::Ready(()) => {}
                Poll::Pending => break,
            }
        }
        if pause && !this.buffer.is_empty() {
            cx.waker().wake_by_ref();
        }
        if this.receiving.is_late(cx) { Poll::Ready(Err(timed_out("slow_request"))) } else { Poll::Pending }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedConnection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => {
                this.blocked = false;
                // The server wanted to read before it wrote, and no byte from the peer would wake it.
                if let Some(reader) = this.reader.take() {
                    reader.wake();
                }
                this.receiving.end();
                if this.sending.started.is_some() {
                    this.sending.record(written);
                }
                Poll::Ready(Ok(written))
            }
            Poll::Pending => {
                this.blocked = true;
                this.sending.record(0);
                if this.sending.is_late(cx) { Poll::Ready(Err(timed_out("slow_reader"))) } else { Poll::Pending }
            }
            other => other,
        }
    }

    /// The server flushes once the connection has accepted the whole response.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.sending.end();
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::connection_limit::ConnectionLimiter;
    use super::*;

    const SOON: ThroughputLimit = ThroughputLimit { grace: Duration::from_millis(100), bytes_per_second: 1_024 };
    const NEVER: ThroughputLimit = ThroughputLimit { grace: Duration::from_secs(3_600), bytes_per_second: 1 };

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
        (TimedConnection::new(ours, permit, receiving, sending), theirs)
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
        let write =
            |ours: &mut TimedConnection<DuplexStream>, cx: &mut Context<'_>| Pin::new(ours).poll_write(cx, &[0; 8]);
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
        let (mut ours, mut theirs) = pair(1_024, SOON, NEVER);
        theirs.write_all(b"POST").await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 4);
        timed_out(ours.read(&mut buffer).await);
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
}
