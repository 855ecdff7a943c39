//! Connections to receivers, and the limits that keep a hostile receiver from holding them.
//!
//! * [`Connector`] opens a connection along its [`Route`], then TLS, within [`CONNECT_TIMEOUT`].
//! * A connection is reused for [about a minute](MAX_AGE). After that a new one follows DNS changes and passes the
//!   guard again.
//! * [`ReceiverConnection`] reads at most [`READ_LIMIT`] bytes between two writes and never waits for a peer to take
//!   its shutdown, so a receiver can neither flood nor stall it.
//! * [`ConnectionHandle`] gives an attempt access to its connection; [`PendingWrite`] waits for the rest of a request,
//!   or aborts it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{Extensions, Request, Uri};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{self, CaptureConnection, Connected, capture_connection};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::connect_service::{BoxError, Connect, ConnectService};
use super::dns::resolver::Resolver;
use super::proxy::{EgressProxy, Route, RouteStream};

/// Limit for opening a connection: the longest timeout of an endpoint. The pool finishes a connection even if its
/// request already used another one, and does so without the request's deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that a connection is reused, ±25 % at random, so connections to one receiver are not all replaced at once.
pub const MAX_AGE: Duration = Duration::from_secs(60);
/// Bytes read after a write before the connection fails: the head, the recorded body in the smallest chunks, and
/// read-ahead. It stops endless 1xx responses, which hyper never returns and which would occupy a thread for seconds.
const READ_LIMIT: usize = 256 * 1024;
/// Bytes per read.
const READ_BLOCK: usize = 8 * 1024;

/// The receiver sent more than any valid response needs.
#[derive(Debug, thiserror::Error)]
#[error("the receiver sent more than {READ_LIMIT} bytes in response to one request")]
pub struct ReadLimitExceeded;

/// Opens connections. Cheap to clone: the client clones it per request and rarely connects.
#[derive(Clone, Debug)]
pub struct Connector {
    https: Arc<HttpsConnector<ConnectService<Route>>>,
    max_age: Duration,
}

impl Connector {
    /// Connects to addresses that `resolver` allows, through `proxy` if there is one, trusts the system's CA
    /// certificates, and reuses connections for about `max_age`.
    ///
    /// # Errors
    /// The system has no readable CA certificates.
    pub fn new(resolver: Resolver, proxy: Option<EgressProxy>, max_age: Duration) -> Result<Connector, rustls::Error> {
        let mut tls = ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let route = ConnectService(Route::new(resolver, proxy, tls.clone()));
        Ok(Connector { https: Arc::new(HttpsConnector::from((route, tls))), max_age })
    }
}

impl Connect for Connector {
    type Connection = ReceiverConnection;
    type Error = BoxError;

    async fn connect(self, uri: Uri) -> Result<ReceiverConnection, BoxError> {
        let connecting = HttpsConnector::clone(&self.https).call(uri);
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => {
                let retires = Instant::now() + self.max_age.mul_f64(rand::random_range(0.75..1.25));
                Ok(ReceiverConnection { stream, read_since_write: 0, progress: WriteProgress::new(retires) })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

/// Write progress of a connection, shared between the connection and the attempt that uses it.
#[derive(Clone, Debug)]
struct WriteProgress(Arc<WriteState>);

#[derive(Debug)]
struct WriteState {
    /// No new request uses the connection from this time on.
    retires: Instant,
    /// Odd while a request is being written: request n has step 2n - 1 during the write and 2n after it.
    step: AtomicUsize,
    /// The step to abort.
    cut: AtomicUsize,
    connection: AtomicWaker,
    attempt: AtomicWaker,
}

impl WriteProgress {
    fn new(retires: Instant) -> WriteProgress {
        let (step, cut) = Default::default();
        WriteProgress(Arc::new(WriteState {
            retires,
            step,
            cut,
            connection: AtomicWaker::new(),
            attempt: AtomicWaker::new(),
        }))
    }

    /// Marks a write as started. Fails if this request was aborted.
    fn begin(&self, cx: &Context<'_>) -> io::Result<()> {
        self.0.connection.register(cx.waker());
        let step = self.0.step.fetch_or(1, Ordering::SeqCst) | 1;
        if self.0.cut.load(Ordering::SeqCst) == step { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Marks the write as finished or abandoned.
    fn end(&self) {
        let step = self.0.step.load(Ordering::SeqCst);
        self.0.step.store(step.next_multiple_of(2), Ordering::SeqCst);
        self.0.attempt.wake();
    }
}

/// An attempt's handle on the connection that its request will use.
#[derive(Debug)]
pub struct ConnectionHandle(CaptureConnection);

/// The part of a request that is not written yet.
///
/// hyper finishes writing a request before it releases a connection. It has no deadline for this, and continues after
/// the response has arrived or its caller is gone. A receiver that stops reading could otherwise hold any number of
/// connections and payloads.
#[derive(Debug)]
pub struct PendingWrite {
    progress: WriteProgress,
    step: usize,
}

impl ConnectionHandle {
    /// The handle for `request`.
    pub fn for_request<B>(request: &mut Request<B>) -> ConnectionHandle {
        ConnectionHandle(capture_connection(request))
    }

    /// Prevents further reuse of the connection if it is too old at `now`.
    pub fn retire(&self, now: Instant) {
        let mut extras = Extensions::new();
        let connected = self.0.connection_metadata();
        let Some(connected) = connected.as_ref() else { return };
        connected.get_extras(&mut extras);
        if extras.remove().is_some_and(|progress: WriteProgress| now >= progress.0.retires) {
            connected.poison();
        }
    }

    /// The unwritten rest of the request, if any. Call this as soon as the response arrives, before another request
    /// uses the connection.
    pub fn pending_write(&self) -> Option<PendingWrite> {
        let mut extras = Extensions::new();
        self.0.connection_metadata().as_ref()?.get_extras(&mut extras);
        let progress: WriteProgress = extras.remove()?;
        let step = progress.0.step.load(Ordering::SeqCst);
        (step % 2 == 1).then_some(PendingWrite { progress, step })
    }
}

impl PendingWrite {
    /// Waits until the request is written or the connection has ended.
    pub async fn written(&self) {
        let writing = &self.progress.0;
        poll_fn(|cx| {
            writing.attempt.register(cx.waker());
            if writing.step.load(Ordering::SeqCst) == self.step { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Ends the connection unless the request has been written by now.
    pub fn cut(&self) {
        self.progress.0.cut.store(self.step, Ordering::SeqCst);
        self.progress.0.connection.wake();
    }
}

/// A connection to a receiver, with or without TLS.
#[derive(Debug)]
pub struct ReceiverConnection {
    stream: MaybeHttpsStream<RouteStream>,
    /// Bytes read since the last write.
    read_since_write: usize,
    progress: WriteProgress,
}

impl connect::Connection for ReceiverConnection {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.progress.clone())
    }
}

impl Drop for ReceiverConnection {
    fn drop(&mut self) {
        self.progress.end();
    }
}

impl Read for ReceiverConnection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_since_write > READ_LIMIT {
            return Poll::Ready(Err(io::Error::other(ReadLimitExceeded)));
        }
        let mut block = [0; READ_BLOCK];
        let room = cursor.remaining().min(READ_BLOCK);
        let mut read = ReadBuf::new(&mut block[..room]);
        match Pin::new(&mut this.stream).poll_read(cx, read.unfilled()) {
            Poll::Ready(Ok(())) => {
                cursor.put_slice(read.filled());
                this.read_since_write += read.filled().len();
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl ReceiverConnection {
    /// Restarts the read limit, because later bytes answer this write.
    fn record_write(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = written {
            self.read_since_write = 0;
        }
        written
    }
}

impl Write for ReceiverConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.progress.begin(cx)?;
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.record_write(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.progress.begin(cx)?;
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.record_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes once it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        match &flushed {
            Poll::Ready(_) => this.progress.end(),
            // TLS may still hold buffered data.
            Poll::Pending => this.progress.begin(cx)?,
        }
        flushed
    }

    /// Shuts down without waiting for the peer. TLS would first write its buffered data, so a receiver that stopped
    /// reading could hold the connection and its payload.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.get_mut().stream).poll_shutdown(cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            ready => ready,
        }
    }
}
