//! A connection that cuts off slow peers.
//!
//! * The **request** timer runs from the first byte of a request to the first byte of its response, including the
//!   handler's time. It bounds heads and bodies, even of requests that no handler reads.
//! * The **response** timer runs while the kernel accepts no more bytes, until it has accepted all of them.
//! * The **drain** timer runs while the rest of a body arrives after its request was answered, at any speed.
//!
//! Between requests only the keep-alive timeout runs. Early bytes wait in the [`RequestBuffer`], and nothing is read
//! from a peer that does not read its responses.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::client_deadlines::ClientDeadlines;
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

/// The interim response that asks for a body. It does not end a request.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

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
    /// Time to drain a body, and its timer.
    drain: (Duration, Option<Pin<Box<Sleep>>>),
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
    pub fn new(io: S, permit: ConnectionPermit, deadlines: ClientDeadlines) -> TimedConnection<S> {
        let receiving = ThroughputTimer::new(deadlines.request);
        let sending = ThroughputTimer::new(deadlines.response);
        let drain = (deadlines.drain, None);
        let (buffer, flow, hangup) = (RequestBuffer::default(), RequestFlow::default(), Hangup::default());
        TimedConnection {
            io,
            receiving,
            sending,
            drain,
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

impl<S> TimedConnection<S> {
    /// Whether the rest of an answered request has been arriving for too long. If not, wakes the task at its deadline.
    fn drains_too_long(&mut self, cx: &mut Context<'_>) -> bool {
        let (limit, timer) = &mut self.drain;
        if !self.flow.is_draining() {
            *timer = None;
            return false;
        }
        timer.get_or_insert_with(|| Box::pin(sleep(*limit))).as_mut().poll(cx).is_ready()
    }
}

/// A connection that can be ended at once.
pub(super) trait CutOff {
    /// Makes a close discard data that the peer has not accepted. Otherwise the kernel would keep it for minutes, in
    /// case the peer reads it.
    fn cut_off(&self);
}

impl CutOff for TcpStream {
    fn cut_off(&self) {
        let _ = self.set_zero_linger();
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
        if this.drains_too_long(cx) {
            return Poll::Ready(Err(timed_out("slow_request")));
        }
        let pause = this.buffer.take_pause();
        loop {
            if !pause && !this.buffer.is_empty() {
                let taken = this.buffer.take(&this.flow, buffer.remaining());
                if this.flow.is_excessive() {
                    counter!("sendoff_http_connections_cut_total", "reason" => "framing").increment(1);
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
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

impl<S: AsyncWrite + CutOff + Unpin> AsyncWrite for TimedConnection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => {
                this.blocked = false;
                // The server wanted to read before it wrote, and no byte from the peer would wake it.
                if let Some(reader) = this.reader.take() {
                    reader.wake();
                }
                if bytes != CONTINUE {
                    this.receiving.end();
                }
                if this.sending.started.is_some() {
                    this.sending.record(written);
                }
                Poll::Ready(Ok(written))
            }
            Poll::Pending => {
                this.blocked = true;
                this.sending.record(0);
                if !this.sending.is_late(cx) {
                    return Poll::Pending;
                }
                this.io.cut_off();
                Poll::Ready(Err(timed_out("slow_reader")))
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
mod tests;
