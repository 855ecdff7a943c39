//! A connection that keeps a pace: a peer that is slow to say what it wants, or to take what it asked for, is cut off.
//!
//! * **Receiving** begins with the first byte of a request and ends with the first byte of an answer: it bounds heads and bodies alike,
//!   also of requests that no handler reads. It includes the time that the handler takes.
//! * **Sending** begins when the system takes no more bytes of an answer, and ends when it has taken all.
//!
//! Between requests neither runs: that is what the keep-alive timeout is for. What comes before its time waits in the [`Intake`], and
//! nothing is read of a peer that does not take its answers.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::intake::{AHEAD, Flow, Intake};
use super::places::Place;
use crate::traffic::hangup::Hangup;

/// How long something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// However few bytes it has.
    pub grace: Duration,
    /// Each of so many bytes gives another second.
    pub bytes_per_second: u32,
}

/// For requests: longer than any handler takes.
pub(super) const RECEIVING: Pace = Pace { grace: Duration::from_secs(60), bytes_per_second: 8 * 1024 };
/// For answers.
pub(super) const SENDING: Pace = Pace { grace: Duration::from_secs(30), bytes_per_second: 8 * 1024 };

/// Something that must not take too long.
struct Watch {
    pace: Pace,
    /// Since when it goes on, and how many bytes it has moved.
    going: Option<(Instant, u64)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    fn new(pace: Pace) -> Watch {
        Watch { pace, going: None, timer: None }
    }

    /// Begins it, unless it goes on, and counts bytes.
    fn moved(&mut self, bytes: usize) {
        let (_, moved) = self.going.get_or_insert_with(|| (Instant::now(), 0));
        *moved += bytes as u64;
    }

    fn end(&mut self) {
        self.going = None;
    }

    /// Whether it has taken too long. If not, the task is woken when it has.
    fn late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((since, bytes)) = self.going else { return false };
        let earned = Duration::from_millis(bytes.saturating_mul(1_000) / u64::from(self.pace.bytes_per_second));
        let deadline = since + self.pace.grace + earned;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

/// A connection that is watched, and its place among those that may be open.
pub(super) struct Watched<S> {
    io: S,
    receiving: Watch,
    sending: Watch,
    intake: Intake,
    flow: Flow,
    hangup: Hangup,
    /// The peer does not take what is written.
    blocked: bool,
    /// The waker of the task that wanted to read meanwhile.
    reader: Option<Waker>,
    /// The peer has closed its side.
    ended: bool,
    _place: Place,
}

impl<S> Watched<S> {
    pub fn new(io: S, place: Place, receiving: Pace, sending: Pace) -> Watched<S> {
        let (receiving, sending) = (Watch::new(receiving), Watch::new(sending));
        let (intake, flow, hangup) = (Intake::default(), Flow::default(), Hangup::default());
        Watched {
            io,
            receiving,
            sending,
            intake,
            flow,
            hangup,
            blocked: false,
            reader: None,
            ended: false,
            _place: place,
        }
    }

    /// The state of its requests.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Says when the peer has closed its side.
    pub fn hangup(&self) -> &Hangup {
        &self.hangup
    }
}

fn late(reason: &'static str) -> io::Error {
    counter!("sendoff_http_connections_cut_total", "reason" => reason).increment(1);
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads what there is room for. `Ready`: there are more bytes than before, or will never be.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut block = [MaybeUninit::uninit(); AHEAD];
        let room = self.intake.room();
        if room == 0 || self.ended {
            return if self.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let mut read = ReadBuf::uninit(&mut block[..room]);
        match Pin::new(&mut self.io).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) => {
                self.intake.push(read.filled());
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

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A peer that does not take its answers gets no further ones. The server comes back here once it has written.
        if this.blocked {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let pauses = this.intake.pauses();
        loop {
            if !pauses && !this.intake.is_empty() {
                let taken = this.intake.take(&this.flow, buffer.remaining());
                if !taken.is_empty() {
                    buffer.put_slice(&taken);
                    this.receiving.moved(taken.len());
                    return Poll::Ready(Ok(()));
                }
                this.flow.wait(cx);
            }
            match this.fill(cx)? {
                // The end comes behind everything else.
                Poll::Ready(()) if this.ended && this.intake.is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(()) if this.ended || pauses => break,
                Poll::Ready(()) => {}
                Poll::Pending => break,
            }
        }
        if pauses && !this.intake.is_empty() {
            cx.waker().wake_by_ref();
        }
        if this.receiving.late(cx) { Poll::Ready(Err(late("slow_request"))) } else { Poll::Pending }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => {
                this.blocked = false;
                // The server looked for a request before it wrote, and nothing of the peer's would wake it.
                if let Some(reader) = this.reader.take() {
                    reader.wake();
                }
                this.receiving.end();
                if this.sending.going.is_some() {
                    this.sending.moved(written);
                }
                Poll::Ready(Ok(written))
            }
            Poll::Pending => {
                this.blocked = true;
                this.sending.moved(0);
                if this.sending.late(cx) { Poll::Ready(Err(late("slow_reader"))) } else { Poll::Pending }
            }
            other => other,
        }
    }

    /// The server flushes when the connection has taken all that there is to send.
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

    use super::super::places::Places;
    use super::*;

    const SOON: Pace = Pace { grace: Duration::from_millis(100), bytes_per_second: 1_024 };
    const NEVER: Pace = Pace { grace: Duration::from_secs(3_600), bytes_per_second: 1 };

    /// The server's end, with room for `room` bytes in flight, and the peer's.
    fn pair(room: usize, receiving: Pace, sending: Pace) -> (Watched<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(room);
        let place =
            Places::new(1, crate::traffic::proxies::TrustedProxies::default()).take(Ipv4Addr::LOCALHOST.into()).unwrap();
        (Watched::new(ours, place, receiving, sending), theirs)
    }

    fn timed_out<T: std::fmt::Debug>(result: io::Result<T>) {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn who_wanted_to_read_while_the_peer_took_nothing_is_woken_when_it_does() {
        let (mut ours, mut theirs) = pair(8, NEVER, NEVER);
        let (woken, mut nobody) = (Arc::new(Woken::default()), Context::from_waker(Waker::noop()));
        let waker = Waker::from(woken.clone());
        let times = || woken.0.load(Ordering::Relaxed);
        let write = |ours: &mut Watched<DuplexStream>, cx: &mut Context<'_>| Pin::new(ours).poll_write(cx, &[0; 8]);
        assert!(write(&mut ours, &mut nobody).is_ready() && write(&mut ours, &mut nobody).is_pending());
        let mut bytes = [0; 8];
        let mut buffer = ReadBuf::new(&mut bytes);
        assert!(Pin::new(&mut ours).poll_read(&mut Context::from_waker(&waker), &mut buffer).is_pending());
        theirs.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(times(), 0);
        assert!(write(&mut ours, &mut nobody).is_ready());
        assert_eq!(times(), 1);
        // It reads what comes then.
        assert!(Pin::new(&mut ours).poll_read(&mut Context::from_waker(&waker), &mut buffer).is_pending());
        theirs.write_all(b"GET").await.unwrap();
        assert_eq!(times(), 2);
    }

    #[tokio::test]
    async fn a_request_that_never_ends_is_cut_off() {
        let (mut ours, mut theirs) = pair(1_024, SOON, NEVER);
        theirs.write_all(b"POST").await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 4);
        timed_out(ours.read(&mut buffer).await);
    }

    #[tokio::test]
    async fn bytes_at_a_trickle_do_not_prolong_it() {
        let (mut ours, mut theirs) = pair(1_024, SOON, NEVER);
        let peer = tokio::spawn(async move {
            // As fast as they are taken, so that only the count of bytes can be what is short.
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
    async fn an_answer_that_nobody_reads_is_cut_off() {
        let (mut ours, _theirs) = pair(16, NEVER, SOON);
        timed_out(ours.write_all(&[0; 64]).await);
    }

    #[tokio::test]
    async fn an_answer_that_is_read_is_sent() {
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
