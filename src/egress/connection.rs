//! The connections under the client, and what a receiver may not do with them.
//!
//! * The [`Connector`] makes them: TCP by the [`Dialer`], then TLS; in [`CONNECT`] at the longest.
//! * A connection is used for [about a minute](MAX_AGE), then a new one is made: names move, and the guard looks again.
//! * A [`Connection`] hears at most [`HEARD_LIMIT`] bytes between two writes, and does not wait for its goodbye to be heard: whoever
//!   floods it, or stops reading it, ends it and keeps nothing of ours.
//! * The [`Grip`] is what an attempt has of its connection: what is [`Unwritten`] of its request can be waited for, or cut off.

use std::future::{Future, poll_fn};
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
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::dial::Dialer;
use super::resolver::Resolver;

/// A connection that is still being made when its request went over another one is finished for the pool, without any
/// request's deadline. This one, the longest timeout that an endpoint can have, keeps it from staying forever.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a connection is used: a receiver that has moved gets the rest of its traffic where it is now. Up to a quarter more or less, by
/// chance, so that not all connections to a receiver are made anew at the same time.
pub const MAX_AGE: Duration = Duration::from_secs(60);
/// How much is read of a connection before something is written to it again, in bytes: the head, what is kept of the body in the
/// smallest of chunks, and what is read ahead. It is there for what has no bound of its own: 1xx answers without end are never
/// passed on, and reading them as fast as they come holds a thread for seconds on end, with everybody else's requests on it.
const HEARD_LIMIT: usize = 256 * 1024;
/// How much is read at a time, in bytes.
const BLOCK: usize = 8 * 1024;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// More was heard than any answer takes.
#[derive(Debug, thiserror::Error)]
#[error("more than {HEARD_LIMIT} bytes came in answer to a request")]
pub struct Flood;

/// Makes connections. Cheap to clone: the client clones it for every request, and connects with few of the clones.
#[derive(Clone, Debug)]
pub struct Connector {
    https: Arc<HttpsConnector<Dialer>>,
    max_age: Duration,
}

impl Connector {
    /// Connects to what `resolver` allows, and trusts the system's CA certificates. Connections are used for about `max_age`.
    ///
    /// # Errors
    /// There are none, or they can't be read.
    pub fn new(resolver: Resolver, max_age: Duration) -> Result<Connector, rustls::Error> {
        let mut tls = ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Connector { https: Arc::new(HttpsConnector::from((Dialer::new(resolver), tls))), max_age })
    }
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, BoxError>> + Send>>;

    /// At once, as the [`Dialer`].
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (mut https, max_age) = (HttpsConnector::clone(&self.https), self.max_age);
        Box::pin(async move {
            let connecting = https.call(uri);
            match timeout(CONNECT, connecting).await {
                Ok(Ok(stream)) => {
                    let retires = Instant::now() + max_age.mul_f64(rand::random_range(0.75..1.25));
                    Ok(Connection { stream, heard: 0, wire: Wire::new(retires) })
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}

/// How far a connection is with its writing, for both sides of the client.
#[derive(Clone, Debug)]
struct Wire(Arc<Writing>);

#[derive(Debug)]
struct Writing {
    /// From then on no other request is sent over it.
    retires: Instant,
    /// Odd while a request is being written, even when all of it is: the n-th request of a connection makes it 2n - 1 and 2n.
    step: AtomicUsize,
    /// The step that is to be broken off.
    cut: AtomicUsize,
    connection: AtomicWaker,
    attempt: AtomicWaker,
}

impl Wire {
    fn new(retires: Instant) -> Wire {
        let (step, cut) = Default::default();
        Wire(Arc::new(Writing { retires, step, cut, connection: AtomicWaker::new(), attempt: AtomicWaker::new() }))
    }

    /// Something is about to be written; refused if this request was cut.
    fn begin(&self, cx: &Context<'_>) -> io::Result<()> {
        self.0.connection.register(cx.waker());
        let step = self.0.step.fetch_or(1, Ordering::SeqCst) | 1;
        if self.0.cut.load(Ordering::SeqCst) == step { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// All is written, or never will be.
    fn end(&self) {
        let step = self.0.step.load(Ordering::SeqCst);
        self.0.step.store(step.next_multiple_of(2), Ordering::SeqCst);
        self.0.attempt.wake();
    }
}

/// An attempt's hand on the connection that its request is going to have.
#[derive(Debug)]
pub struct Grip(CaptureConnection);

/// What is not written yet of a request.
///
/// hyper writes a request to its end before it lets go of a connection, and has no deadline for that: neither when the answer is there
/// already, nor when nobody waits for it any more. A receiver that reads no more would have the connection, and the payload, for
/// as long as it likes, and as many of them as there are messages.
#[derive(Debug)]
pub struct Unwritten {
    wire: Wire,
    step: usize,
}

impl Grip {
    /// The one of `request`.
    pub fn of<B>(request: &mut Request<B>) -> Grip {
        Grip(capture_connection(request))
    }

    /// Keeps the connection from being used again at `now` or later, if it is too old.
    pub fn retire(&self, now: Instant) {
        let mut extras = Extensions::new();
        let connected = self.0.connection_metadata();
        let Some(connected) = connected.as_ref() else { return };
        connected.get_extras(&mut extras);
        if extras.remove().is_some_and(|wire: Wire| now >= wire.0.retires) {
            connected.poison();
        }
    }

    /// What is not written yet; to be asked as soon as there is an answer, before another request has the connection.
    pub fn unwritten(&self) -> Option<Unwritten> {
        let mut extras = Extensions::new();
        self.0.connection_metadata().as_ref()?.get_extras(&mut extras);
        let wire: Wire = extras.remove()?;
        let step = wire.0.step.load(Ordering::SeqCst);
        (step % 2 == 1).then_some(Unwritten { wire, step })
    }
}

impl Unwritten {
    /// Waits until it is written, or the connection is gone.
    pub async fn written(&self) {
        let writing = &self.wire.0;
        poll_fn(|cx| {
            writing.attempt.register(cx.waker());
            if writing.step.load(Ordering::SeqCst) == self.step { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Ends the connection, unless it has been written meanwhile.
    pub fn cut(&self) {
        self.wire.0.cut.store(self.step, Ordering::SeqCst);
        self.wire.0.connection.wake();
    }
}

/// A connection to a receiver, with TLS or without.
#[derive(Debug)]
pub struct Connection {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Bytes read since the last write.
    heard: usize,
    wire: Wire,
}

impl connect::Connection for Connection {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.wire.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.wire.end();
    }
}

impl Read for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.heard > HEARD_LIMIT {
            return Poll::Ready(Err(io::Error::other(Flood)));
        }
        let mut block = [0; BLOCK];
        let room = cursor.remaining().min(BLOCK);
        let mut read = ReadBuf::new(&mut block[..room]);
        match Pin::new(&mut this.stream).poll_read(cx, read.unfilled()) {
            Poll::Ready(Ok(())) => {
                cursor.put_slice(read.filled());
                this.heard += read.filled().len();
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl Connection {
    /// What is read from now on answers what was written.
    fn written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = written {
            self.heard = 0;
        }
        written
    }
}

impl Write for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wire.begin(cx)?;
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wire.begin(cx)?;
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for when nothing is left to be written.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        match &flushed {
            Poll::Ready(_) => this.wire.end(),
            // With TLS there may be something left below.
            Poll::Pending => this.wire.begin(cx)?,
        }
        flushed
    }

    /// Says goodbye, and does not wait until it is heard: TLS wants to write all that it still holds before its own goodbye, and a
    /// receiver that reads no more would keep the connection, with the payload in it, for as long as it likes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.get_mut().stream).poll_shutdown(cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            ready => ready,
        }
    }
}
