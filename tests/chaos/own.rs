//! Failures of our own: while the process has no file descriptor left, no attempt can be made. None is recorded, and all is delivered
//! with the first one afterwards.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{SOON, eventually};
use crate::world::{Kind, REST, World};

/// How many events wait for a descriptor.
const EVENTS: usize = 20;

/// Sets the soft limit of open files of another process; gives back what it was.
fn limit_files(pid: u32, soft: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(pid as i32);
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: soft, maximum: hard(pid) });
    before.expect("the limit of a child of ours").current
}

/// The hard limit, which stays: the kernel gives both only with a new one, so it is read where it is shown.
fn hard(pid: Option<Pid>) -> Option<u64> {
    let pid = pid.map_or(0, |pid| pid.as_raw_nonzero().get());
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the limits of a child of ours");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit of open files");
    line.split_whitespace().nth(4).and_then(|hard| hard.parse().ok())
}

/// One open connection. A client with a pool may open a second one while the first is on its way back into the pool, and the server
/// has no descriptor left to accept it with.
struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    async fn open(url: &str) -> Connection {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).await.expect("the server accepts");
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await.expect("an HTTP connection");
        tokio::spawn(connection);
        Connection(requests)
    }

    /// The status and the body of the answer.
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> (u16, String) {
        self.0.ready().await.expect("the connection is still open");
        let answer = timeout(SOON, self.0.send_request(request)).await.expect("an answer in time").expect("an answer");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn metrics(&mut self) -> String {
        let request = Request::get("/metrics").header("host", "chaos").body(Full::default()).expect("a request");
        self.ask(request).await.1
    }
}

async fn without_descriptors(kind: Kind) {
    let mut world = World::on(kind);
    let process = world.start("all");
    world.furnish().await;
    let (pid, url) = (world.server(process).pid(), world.server(process).url());
    let mut connection = Connection::open(&url).await;
    connection.metrics().await;
    let before = limit_files(pid, Some(1));
    for number in 0..EVENTS {
        let key = format!("k{number}");
        let event = json!({"eventType": "t", "eventId": key, "payload": {"key": key}}).to_string();
        let request =
            Request::post("/api/v1/app/chaos/msg/").header("host", "chaos").header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {}", world.sender.token));
        let (status, answer) = connection.ask(request.body(event.into()).expect("a request")).await;
        assert_eq!(status, 202, "{answer}");
        world.ledger.acknowledge(&key, "t");
    }
    let not_made = "sendoff_attempts_not_made_total{reason=\"descriptors\"}";
    eventually("attempts are not made", REST, async || connection.metrics().await.contains(not_made).then_some(()))
        .await;
    assert_eq!(world.books.numbers("SELECT CAST(count(*) AS bigint) FROM attempt").await, [0], "nothing is recorded");
    assert_eq!(world.ledger.arrived(), 0);
    limit_files(pid, before);

    let toll = world.rest().await;
    toll.enter("no file descriptor left (EMFILE)", kind.name(), 1);
    assert_eq!((toll.delivered, toll.duplicates), (2 * EVENTS, 0));
    let attempts = "SELECT CAST(count(*) AS bigint) FROM attempt";
    assert_eq!(world.books.numbers(attempts).await, [2 * EVENTS as i64]);
    assert_eq!(world.books.numbers(&format!("{attempts} WHERE number <> 1 OR failure IS NOT NULL")).await, [0]);
    let failing = "SELECT CAST(count(*) AS bigint) FROM endpoint WHERE failing_since IS NOT NULL";
    assert_eq!(world.books.numbers(failing).await, [0], "no receiver has failed");
    let output = world.server(process).output();
    let said = output.lines().filter(|line| line.contains("attempts cannot be made")).count();
    assert_eq!(said, 1, "once per episode: {output}");
    world.terminate(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_descriptors_no_attempt_is_spent_on_sqlite() {
    without_descriptors(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_descriptors_no_attempt_is_spent_on_postgres() {
    without_descriptors(Kind::Postgres).await;
}
