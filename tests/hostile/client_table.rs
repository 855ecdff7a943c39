//! The table of hostile clients: slow, malformed, oversized and ambiguous requests, and connections that are held for nothing. One
//! process serves all of them at once. Each is cut off in bounded time with the right answer, and deliveries go on.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use crate::receiver::{Door, Receiver, Step};
use crate::support::eventually;
use crate::world::World;

/// The server's deadlines for clients are divided by this.
const HURRY: u32 = 5;
/// All connections are closed by then: the longest deadline is 15 s. Only a failing run waits it out.
const CUT: Duration = Duration::from_secs(30);
/// Between two pieces of a client that is slow.
const DRIP: Duration = Duration::from_millis(200);
/// How long a client reads byte by byte: longer than the deadline for reading an answer.
const SIPPING: Duration = Duration::from_secs(10);
/// By so much memory may have grown, in KiB, when all are gone.
const GROWTH: usize = 64 * 1024;
/// How many messages are sent meanwhile.
const MESSAGES: usize = 20;

/// What a client does after its first bytes.
enum Then {
    /// Reads until it is disconnected.
    Waits,
    /// Says this, a piece at a time, and reads.
    Drips(&'static str),
    /// Says this as fast as it is taken, without end, and reads.
    Floods(&'static str),
    /// Closes its side, and reads.
    HalfCloses,
    /// Reads a byte at a time.
    Sips,
    /// Never reads.
    Deaf,
    /// Is gone at once.
    Leaves,
    /// Is gone at once, with a reset.
    Resets,
}

/// A row of the table.
struct Client {
    name: &'static str,
    says: Vec<u8>,
    then: Then,
    /// The statuses of all answers. A client that still writes may lose them to a reset.
    wanted: &'static [u16],
    /// How many of them there are at once.
    count: usize,
}

fn client(name: &'static str, says: impl Into<Vec<u8>>, then: Then, wanted: &'static [u16]) -> Client {
    Client { name, says: says.into(), then, wanted, count: 1 }
}

/// The statuses of the answers, and whether the connection ended with a reset. `None`: it did not end.
type Outcome = Option<(Vec<u16>, bool)>;

impl Client {
    /// What was wrong.
    fn fault(&self, outcome: &Outcome) -> Option<String> {
        let Some((statuses, reset)) = outcome else {
            return Some(format!("{}: still connected after {CUT:?}", self.name));
        };
        let lost = *reset && self.wanted.starts_with(statuses);
        let how = if *reset { ", and a reset" } else { "" };
        let wrong = statuses != self.wanted && !lost;
        wrong.then(|| format!("{}: {statuses:?}, not {:?}{how}", self.name, self.wanted))
    }

    fn times(self, count: usize) -> Client {
        Client { count, ..self }
    }

    /// Runs to its end. Gives the connection of a client that never reads.
    async fn run(&self, address: &str) -> (Outcome, Option<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        if matches!(self.then, Then::Sips | Then::Deaf) {
            socket.set_recv_buffer_size(4_096).expect("a small buffer");
        }
        let mut stream = socket.connect(address.parse().expect("an address")).await.expect("a connection");
        // What is refused early is not taken to its end.
        let _ = timeout(CUT, stream.write_all(&self.says)).await;
        match self.then {
            Then::Leaves => return (Some((Vec::new(), false)), None),
            Then::Resets => {
                let _ = stream.set_zero_linger();
                return (Some((Vec::new(), false)), None);
            }
            Then::Deaf => return (Some((Vec::new(), false)), Some(stream)),
            Then::Sips => {
                // Its own system has more for it to read than it does, also when the server has let go.
                let began = Instant::now();
                while began.elapsed() < SIPPING && stream.read(&mut [0]).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(DRIP).await;
                }
                return (Some((Vec::new(), false)), Some(stream));
            }
            Then::HalfCloses => {
                let _ = stream.shutdown().await;
            }
            _ => {}
        }
        (timeout(CUT, self.to_the_end(stream)).await.ok(), None)
    }

    async fn to_the_end(&self, stream: TcpStream) -> (Vec<u16>, bool) {
        let (mut read, mut write) = stream.into_split();
        let writing = async {
            let (piece, mut tick) = match self.then {
                Then::Drips(piece) => (piece.to_owned(), Some(interval(DRIP))),
                Then::Floods(piece) => (piece.repeat(1 + 16_384 / piece.len()), None),
                _ => return std::future::pending().await,
            };
            loop {
                if let Some(tick) = &mut tick {
                    tick.tick().await;
                }
                if write.write_all(piece.as_bytes()).await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        let reading = async {
            let (mut all, mut block) = (Vec::new(), vec![0; 64 * 1024]);
            loop {
                match read.read(&mut block).await {
                    Ok(0) => return (all, false),
                    Err(_) => return (all, true),
                    Ok(bytes) => all.extend_from_slice(&block[..bytes]),
                }
            }
        };
        let (text, reset): (Vec<u8>, bool) = tokio::select! {
            done = reading => done,
            never = writing => never,
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let statuses = text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok());
        (statuses.collect(), reset)
    }
}

/// All rows. `address` is the server's, `token` one of an application.
fn table(address: &str, token: &str) -> Vec<Client> {
    use Then::{Deaf, Drips, Floods, HalfCloses, Leaves, Resets, Sips, Waits};
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{more}\r\n");
    let form =
        format!("POST /login HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
    let post = |more: &str| format!("{form}{more}\r\n");
    let api = |more: &str| format!("POST /api/v1/app HTTP/1.1\r\nhost: a\r\n{more}\r\n");
    let authorized = |path: &str| {
        format!("GET /api/v1/app/hostile{path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n")
    };
    let smuggled = get("/healthz", "");
    vec![
        // Slow.
        client("says nothing", "", Waits, &[408]).times(100),
        client("sends line breaks for ever", "", Drips("\r\n"), &[408]),
        client("is slow with its request line", "G", Drips("E"), &[408]),
        client("is slow with a header", "GET / HTTP/1.1\r\n", Drips("x"), &[408]),
        client("is slow with its headers", "GET / HTTP/1.1\r\nhost: a\r\n", Drips("a: b\r\n"), &[408]),
        client("is slow with its second request", get("/healthz", ""), Drips("G"), &[200]),
        client("is slow with its body", post("content-length: 10000\r\n"), Drips("x"), &[]),
        client("announces a body and sends none", post("content-length: 10000\r\n"), Waits, &[]),
        client("is slow with its chunks", post("transfer-encoding: chunked\r\n"), Drips("1\r\nx\r\n"), &[]),
        client("expects to go on, and does not", post("expect: 100-continue\r\ncontent-length: 9\r\n"), Waits, &[100]),
        client("sends a body nobody asked for", get("/docs", "content-length: 10000\r\n"), Drips("x"), &[200]),
        client(
            "sends chunks nobody asked for",
            get("/metrics", "transfer-encoding: chunked\r\n"),
            Drips("1;a\r\nx\r\n"),
            &[200],
        ),
        client(
            "is slow with a body for nobody",
            post("content-length: 10000\r\n").replace("/login", "/nothing"),
            Drips("x"),
            &[404],
        ),
        client(
            "is slow with chunks for nobody",
            "PUT /healthz HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
            Drips("1\r\nx\r\n"),
            &[405],
        ),
        client("is slow with a refused body", api("content-length: 10000\r\n"), Drips("x"), &[401]),
        client("keeps its connection", get("/healthz", ""), Waits, &[200]).times(50),
        // Not HTTP/1.1.
        client("speaks TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\0\0\0\0\0\0\0\0".to_vec(), Waits, &[400]),
        client("speaks HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Waits, &[400]),
        client("speaks HTTP/0.9", "GET /\r\n\r\n", Waits, &[400]),
        client("speaks HTTP/1.9", "GET / HTTP/1.9\r\nhost: a\r\n\r\n", Waits, &[400]),
        client("speaks SSH", "SSH-2.0-OpenSSH_9.6\r\n", Waits, &[400]),
        // Heads that two servers may read differently.
        client("ends lines with LF", format!("GET /healthz HTTP/1.1\nhost: {address}\n\n"), Waits, &[400]),
        client(
            "ends one line with LF",
            format!("GET /healthz HTTP/1.1\r\nhost: {address}\nx: y\r\n\r\n"),
            Waits,
            &[400],
        ),
        client("has a bare CR in a header", get("/healthz", "x: a\rb: c\r\n"), Waits, &[400]),
        client("folds a header", get("/healthz", "x: a\r\n b\r\n"), Waits, &[400]),
        client("has a space before a colon", get("/healthz", "x : a\r\n"), Waits, &[400]),
        client("has a NUL in a header", get("/healthz", "x: a\0b\r\n"), Waits, &[400]),
        client("has a header without a name", get("/healthz", ": a\r\n"), Waits, &[400]),
        client(
            "has a length and chunks",
            format!("{}0\r\n\r\n{smuggled}", post("content-length: 5\r\ntransfer-encoding: chunked\r\n")),
            Waits,
            &[400],
        ),
        client("has two lengths", post("content-length: 5\r\ncontent-length: 6\r\n"), Waits, &[400]),
        client("has the same length twice", post("content-length: 5, 5\r\n"), Waits, &[400]),
        client("has a signed length", post("content-length: +5\r\n"), Waits, &[400]),
        client("has a negative length", post("content-length: -5\r\n"), Waits, &[400]),
        client("has a hexadecimal length", post("content-length: 0x5\r\n"), Waits, &[400]),
        client("has chunks under another name", post("transfer-encoding: xchunked\r\n"), Waits, &[400]),
        client("has chunks within chunks", post("transfer-encoding: chunked, chunked\r\n"), Waits, &[400]),
        client("has chunks and no more", post("transfer-encoding: chunked, identity\r\n"), Waits, &[400]),
        client(
            "has chunks in HTTP/1.0",
            post("transfer-encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            Waits,
            &[400],
        ),
        client(
            "hides a request in a body",
            format!("{}{smuggled}", post(&format!("connection: close\r\ncontent-length: {}\r\n", smuggled.len()))),
            Waits,
            &[400],
        ),
        // Chunks.
        client(
            "has a chunk beyond all sizes",
            format!("{}fffffffffffffffff\r\n", post("transfer-encoding: chunked\r\n")),
            Waits,
            &[400],
        ),
        client(
            "has a chunk of a negative size",
            format!("{}-1\r\n", post("transfer-encoding: chunked\r\n")),
            Waits,
            &[400],
        ),
        client(
            "ends a chunk's size with LF",
            format!("{}1\nx\r\n0\r\n\r\n", post("transfer-encoding: chunked\r\n")),
            Waits,
            &[400],
        ),
        client(
            "has a longer chunk than it says",
            format!("{}1\r\nxx\r\n0\r\n\r\n", post("transfer-encoding: chunked\r\n")),
            Waits,
            &[400],
        ),
        client(
            "has trailers without end",
            format!("{}0\r\n", post("transfer-encoding: chunked\r\n")),
            Floods("a: b\r\n"),
            &[],
        ),
        client(
            "has an extension without end",
            format!("{}1", post("transfer-encoding: chunked\r\n")),
            Floods(";a=b"),
            &[],
        ),
        // Too much.
        client("has a request line without end", "GET /", Floods("a"), &[431]),
        client("has a header without end", "GET / HTTP/1.1\r\nx: ", Floods("a"), &[431]),
        client("has headers without end", "GET / HTTP/1.1\r\n", Floods("a: b\r\n"), &[431]),
        client("has a thousand headers", get("/healthz", &"a: b\r\n".repeat(1_000)), Waits, &[431]),
        client("has a long path", get(&format!("/{}", "a".repeat(60_000)), ""), Waits, &[404]),
        client(
            "has a long cookie",
            get("/", &format!("cookie: sendoff_session={}\r\n", "a".repeat(60_000))),
            Waits,
            &[303],
        ),
        client("has a body without end", post("transfer-encoding: chunked\r\n"), Floods("a\r\n0123456789\r\n"), &[400]),
        client("announces a huge body", post("content-length: 9223372036854775807\r\n"), Floods("a"), &[400]),
        client("announces more than a number", post("content-length: 99999999999999999999999\r\n"), Waits, &[400]),
        client("announces a huge body to the API", api("content-length: 1073741824\r\n"), Floods("a"), &[401]),
        // Asks for odd things.
        client(
            "asks for very many ranges",
            get("/docs", &format!("connection: close\r\nrange: bytes={}0-\r\n", "0-0,".repeat(1_000))),
            Waits,
            &[200],
        ),
        client("expects the unexpected", post("expect: 200-maybe\r\ncontent-length: 0\r\n"), Waits, &[400]),
        client(
            "upgrades to WebSocket",
            get(
                "/tail/events",
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
            Waits,
            &[303],
        ),
        client(
            "upgrades to HTTP/2",
            get(
                "/healthz",
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
            ),
            Waits,
            &[200],
        ),
        client(
            "wants a tunnel",
            format!("CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: {address}\r\n\r\n"),
            Drips("x"),
            &[404],
        ),
        client(
            "takes it for a proxy",
            "GET http://169.254.169.254/ HTTP/1.1\r\nhost: 169.254.169.254\r\n\r\n",
            Waits,
            &[421],
        ),
        client("wants its request back", "TRACE / HTTP/1.1\r\nhost: a\r\ncookie: secret\r\n\r\n", Waits, &[421]),
        client("asks about the server", format!("OPTIONS * HTTP/1.1\r\nhost: {address}\r\n\r\n"), Waits, &[404]),
        client("names no host", "GET / HTTP/1.1\r\n\r\n", Waits, &[400]),
        client("names two hosts", get("/", "host: evil.example\r\n"), Waits, &[400]),
        client(
            "compresses its body",
            format!("{}\x1f", api("content-encoding: gzip\r\ncontent-length: 1\r\n")),
            Waits,
            &[401],
        ),
        // Does not read.
        client("reads byte by byte", get("/docs", "").repeat(100), Sips, &[]),
        client("reads nothing", get("/docs", "").repeat(200), Deaf, &[]).times(30),
        client("reads nothing of the document", get("/api/v1/openapi.json", "").repeat(200), Deaf, &[]).times(10),
        // Goes away.
        client("closes its side within a request", "GET / HTTP/1.1\r\nhost: a", HalfCloses, &[]),
        client("closes its side within a body", format!("{}abc", post("content-length: 10\r\n")), HalfCloses, &[400]),
        client("closes its side after a request", get("/healthz", ""), HalfCloses, &[200]),
        client("connects and leaves", "", Leaves, &[]).times(100),
        client("asks and leaves", get("/docs", ""), Leaves, &[]).times(50),
        client("asks and resets", get("/docs", ""), Resets, &[]).times(50),
        client("leaves a long poll", authorized("/poller/pull/consumer/c?wait=4"), Leaves, &[]).times(50),
        client("resets a long poll", authorized("/poller/pull/consumer/c?wait=4"), Resets, &[]).times(50),
        client("leaves a stream", authorized("/poller/pull/stream"), Leaves, &[]).times(20),
        client("closes its side of a stream", authorized("/poller/pull/stream"), HalfCloses, &[200]),
    ]
}

/// The open connections, as the server counts them.
fn connections(world: &World) -> f64 {
    world.gauge("sendoff_http_connections").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_client_is_cut_off_with_the_right_answer() {
    let mut world = World::start(&[("SENDOFF_TEST_CLIENT_HURRY", &HURRY.to_string())]).await;
    let fine = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let receiver = Receiver::start(Door::Plain, vec![Step::Read, Step::Say(fine)]);
    world.endpoint("fine", &receiver.url("/"), false, &[]).await;
    world.call(Method::POST, "/app/hostile/destination", json!({"type": "pollingEndpoint", "uid": "pull"})).await;
    let (address, token) = (world.address(), world.customer_token().await);
    // What is made once, at the first request, is no client's.
    for path in ["/docs", "/api/v1/openapi.json"] {
        reqwest::get(format!("http://{address}{path}")).await.and_then(|answer| answer.error_for_status()).expect(path);
    }
    let (before, began) = (world.belongings(), Instant::now());

    let table = table(&address, &token);
    let names: std::collections::BTreeSet<&str> = table.iter().map(|row| row.name).collect();
    assert!(table.len() >= 30 && names.len() == table.len(), "{} rows", table.len());
    let all = table.iter().flat_map(|row| (0..row.count).map(move |_| row));
    let running = join_all(all.clone().map(|row| row.run(&address)));
    let sending = async {
        let mut sent = Vec::new();
        for _ in 0..MESSAGES {
            sent.push(world.send(false).await);
        }
        for message in &sent {
            eventually("deliveries go on", CUT, async || {
                world.deliveries(message).await.iter().any(|(_, stands)| stands == "success").then_some(())
            })
            .await;
        }
        began.elapsed()
    };
    let (outcomes, delivered) = tokio::join!(running, sending);
    let took = began.elapsed();

    let mut wrong = Vec::new();
    for (row, (outcome, _)) in all.zip(&outcomes) {
        // On a busy machine a quick client may seem slow: alone it must not.
        if row.fault(outcome).is_some() && !wrong.iter().any(|(name, _)| *name == row.name) {
            wrong.extend(row.fault(&row.run(&address).await.0).map(|fault| (row.name, fault)));
        }
    }
    let wrong: Vec<String> = wrong.into_iter().map(|(_, fault)| fault).collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), table.len(), wrong.join("\n"));
    // Those that never read are still there: it is the server that has let go of them. One connection asks.
    eventually("all connections are closed", CUT, async || (connections(&world) <= 2.0).then_some(())).await;
    world.comes_to_rest(before).await;
    let grown = world.belongings().memory.saturating_sub(before.memory);
    assert!(grown < GROWTH, "memory has grown by {} MiB", grown / 1024);
    println!(
        "{} clients in {} rows, cut off within {took:?}; {MESSAGES} messages delivered within {delivered:?}; memory grew by {} MiB",
        outcomes.len(),
        table.len(),
        grown / 1024
    );
}
