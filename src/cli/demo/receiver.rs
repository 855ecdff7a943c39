//! The customers' HTTP server, on a loopback port of this process.
//!
//! * A [`DemoRoute`] is one path, behind one endpoint: it verifies each signature, then acts out its [`Behaviour`].
//! * [`ReceiverCounters`] counts requests.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::domain::signing::signature::{SignatureHeaders, Verifier};
use crate::domain::time::Clock;

const TOLERANCE: Duration = Duration::from_secs(300);
/// Bounds of a request, since any local program can connect.
const HEAD_BYTES: u64 = 64 * 1024;
const BODY_BYTES: u64 = 17 * 1024 * 1024;

/// A receiver's response pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Healthy,
    /// Every third response is a 500.
    Flaky,
    /// Responds after one to two seconds.
    Slow,
    /// Responds with 410.
    Gone,
    /// Closes the connection without a response.
    HangsUp,
}

impl Behaviour {
    pub(super) fn description(self) -> &'static str {
        match self {
            Behaviour::Healthy => "healthy",
            Behaviour::Flaky => "flaky: every 3rd is a 500",
            Behaviour::Slow => "slow: 1–2 s",
            Behaviour::Gone => "410 Gone",
            Behaviour::HangsUp => "hangs up",
        }
    }
}

/// One path, behind one endpoint.
pub(super) struct DemoRoute {
    pub(super) behaviour: Behaviour,
    pub(super) verifier: Verifier,
    requests: AtomicU64,
}

impl DemoRoute {
    pub(super) fn new(behaviour: Behaviour, verifier: Verifier) -> DemoRoute {
        DemoRoute { behaviour, verifier, requests: AtomicU64::new(0) }
    }
}

#[derive(Default)]
pub(super) struct ReceiverCounters {
    pub(super) requests: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) bad_signatures: AtomicU64,
    pub(super) first: Notify,
}

#[derive(Clone)]
pub(super) struct DemoReceiver {
    pub(super) address: SocketAddr,
    pub(super) counters: Arc<ReceiverCounters>,
    routes: Arc<RwLock<HashMap<String, Arc<DemoRoute>>>>,
}

struct ReceivedRequest {
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

enum RouteResponse {
    HangUp,
    Status(u16, &'static str, Duration),
}

impl DemoReceiver {
    /// Listens on a free loopback port.
    pub(super) async fn start() -> io::Result<DemoReceiver> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let receiver =
            DemoReceiver { address: listener.local_addr()?, counters: Arc::default(), routes: Arc::default() };
        tokio::spawn(receiver.clone().accept_loop(listener));
        Ok(receiver)
    }

    pub(super) fn add_route(&self, path: &str, route: DemoRoute) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.insert(path.to_owned(), Arc::new(route));
    }

    async fn accept_loop(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let receiver = self.clone();
                    // An error means that the client hung up.
                    tokio::spawn(async move { receiver.handle_connection(stream).await });
                }
                // Probably out of descriptors: wait for some to close.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn handle_connection(self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream).await? {
            match self.respond(&request) {
                RouteResponse::HangUp => return Ok(()),
                RouteResponse::Status(code, text, delay) => {
                    tokio::time::sleep(delay).await;
                    let length = text.len();
                    let head = format!(
                        "HTTP/1.1 {code} -\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\r\n{text}"
                    );
                    stream.write_all(head.as_bytes()).await?;
                    if (200..300).contains(&code) && self.counters.delivered.fetch_add(1, Ordering::Relaxed) == 0 {
                        self.counters.first.notify_one();
                    }
                }
            }
        }
        Ok(())
    }

    fn respond(&self, request: &ReceivedRequest) -> RouteResponse {
        const AT_ONCE: Duration = Duration::ZERO;
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let route = {
            let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            routes.get(&request.path).cloned()
        };
        let Some(route) = route else { return RouteResponse::Status(404, "There is no such customer.\n", AT_ONCE) };
        let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
        let signed = SignatureHeaders {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        if route.verifier.verify(signed, &request.body, Clock.now(), TOLERANCE).is_err() {
            self.counters.bad_signatures.fetch_add(1, Ordering::Relaxed);
            return RouteResponse::Status(401, "The signature is wrong.\n", AT_ONCE);
        }
        let number = route.requests.fetch_add(1, Ordering::Relaxed);
        match route.behaviour {
            Behaviour::Healthy => RouteResponse::Status(200, "Thank you.\n", AT_ONCE),
            Behaviour::Flaky if number % 3 == 2 => {
                RouteResponse::Status(500, "Something went wrong on our side.\n", AT_ONCE)
            }
            Behaviour::Flaky => RouteResponse::Status(200, "Got it this time.\n", AT_ONCE),
            Behaviour::Slow => RouteResponse::Status(
                200,
                "It took a while.\n",
                Duration::from_millis(rand::random_range(1_000..2_000)),
            ),
            Behaviour::Gone => RouteResponse::Status(410, "We have moved on.\n", AT_ONCE),
            Behaviour::HangsUp => RouteResponse::HangUp,
        }
    }
}

/// Reads a request; `None` if the client closed the connection.
async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<ReceivedRequest>> {
    let mut head = stream.take(HEAD_BYTES);
    let mut line = String::new();
    if head.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        if head.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: u64 = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if length > BODY_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    Ok(Some(ReceivedRequest { path, headers, body }))
}
