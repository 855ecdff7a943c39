//! Single hostile clients, in detail: live tails that nobody reads, answers that are not read, requests that come all at once.
//! (`client_table` has the others.)

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::eventually;
use crate::world::World;

/// A customer's cookie for the portal of the application `hostile`.
async fn customer(world: &World) -> String {
    let access = world.call(reqwest::Method::POST, "/auth/app-portal-access/hostile", serde_json::json!({})).await;
    let link = access["url"].as_str().expect("a link");
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let page = client.get(link).send().await.expect("an answer").text().await.expect("a page");
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form");
    let post =
        client.post(link).header("content-type", "application/x-www-form-urlencoded").body(format!("csrf={csrf}"));
    let entered = post.send().await.expect("an answer");
    let cookie = entered.headers()["set-cookie"].to_str().expect("a cookie");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

/// Opens a live tail; gives the connection and the status.
async fn tail(address: &str, cookie: &str) -> (TcpStream, u16) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET /portal/tail/events HTTP/1.1\r\nhost: {address}\r\ncookie: {cookie}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.expect("an answer");
    let status = String::from_utf8_lossy(&head[9..]).parse().expect("a status");
    (stream, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_tail_whose_reader_has_gone_gives_its_place_back_at_once() {
    let world = World::start(&[]).await;
    let (address, cookie) = (world.address(), customer(&world).await);
    let mut open = Vec::new();
    for _ in 0..4 {
        let (stream, status) = tail(&address, &cookie).await;
        assert_eq!(status, 200);
        open.push(stream);
    }
    assert_eq!(tail(&address, &cookie).await.1, 429, "a visit has four");
    let other = customer(&world).await;
    assert_eq!(tail(&address, &other).await.1, 200, "another visit has its own");

    // One closes its side and goes on reading, the other is gone.
    let mut half = open.remove(0);
    half.shutdown().await.expect("its side is closed");
    let place = async || {
        let (stream, status) = tail(&address, &cookie).await;
        (status == 200).then_some(stream)
    };
    let third = eventually("the place of the half-closed one", Duration::from_secs(5), place).await;
    drop(open.remove(0));
    let fourth = eventually("the place of the closed one", Duration::from_secs(5), place).await;
    drop((half, third, fourth));
}

/// How many connections pipeline, how much each sends at most, and what one may cost in memory: two pieces of an answer, what waits to be taken in, and
/// what a connection costs anyway.
const PIPELINES: (usize, usize, usize) = (200, 256 * 1024, 192);

/// Maximum KiB of responses in the kernel per connection, on the server's side.
const IN_KERNEL: usize = 128;

/// Bytes that the server has written and the peers have not acknowledged, over all of the server's connections.
fn unacknowledged(address: &str) -> usize {
    let port = address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's connections");
    // sl, local address, remote address, state, tx_queue:rx_queue; all in hexadecimal.
    let queues = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let own = columns.next()?.ends_with(&format!(":{port:04X}"));
        let sending = columns.nth(2)?.split(':').next()?;
        own.then(|| usize::from_str_radix(sending, 16).expect("a number"))
    });
    queues.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_responses_cost_a_bounded_number_of_bytes() {
    let world = World::start(&[]).await;
    let address = world.address();
    let page = reqwest::get(format!("http://{address}/docs"))
        .await
        .and_then(|answer| answer.error_for_status())
        .expect("docs");
    let long = page.bytes().await.expect("a page").len();
    assert!(long > 64 * 1024, "its answer does not fit the write buffer: {long}");
    let before = world.belongings().memory;
    let chunked = "POST /login HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let (mut open, mut most) = (Vec::new(), 0);
    for n in 0..PIPELINES.0 {
        let first = if n % 2 == 0 { "GET /docs HTTP/1.1\r\nhost: a\r\n\r\n".to_owned() } else { chunked.repeat(3) };
        let flood = format!("{first}{}", "GET /docs HTTP/1.1\r\nhost: a\r\n\r\n".repeat(PIPELINES.1 / 31));
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        // What the server does not take stays where it is.
        let _ = tokio::time::timeout(Duration::from_millis(20), stream.write_all(flood.as_bytes())).await;
        open.push(stream);
        most = most.max(world.belongings().memory);
    }
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(world.belongings().memory);
    }
    let each = most.saturating_sub(before) / PIPELINES.0;
    let in_kernel = unacknowledged(&address) / 1024 / PIPELINES.0;
    println!("{each} KiB for each of {} connections, {in_kernel} KiB in the kernel", PIPELINES.0);
    assert!((1..=IN_KERNEL).contains(&in_kernel), "{in_kernel} KiB in the kernel for each connection");
    assert!(each <= PIPELINES.2, "{each} KiB for each connection");
    // Others are served meanwhile.
    reqwest::get(format!("http://{address}/healthz"))
        .await
        .and_then(|answer| answer.error_for_status())
        .expect("healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_all_answered_in_their_order() {
    let world = World::start(&[]).await;
    let address = world.address();
    // Each of its own kind, told apart by its status: without a body, with one that has empty lines in it, chunked.
    let form = format!("host: {address}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
    let kinds = [
        ("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 200),
        ("GET /nothing/at/all HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 421),
        (format!("POST /login HTTP/1.1\r\n{form}content-length: 14\r\n\r\ncsrf=x&\n\n=1\n\n"), 403),
        ("PUT /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".to_owned(), 405),
        ("HEAD /docs HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 200),
        (
            format!(
                "POST /login HTTP/1.1\r\n{form}transfer-encoding: chunked\r\n\r\n8\r\ncsrf=x\n\n\r\n3\r\n&a=\r\n0\r\n\r\n"
            ),
            403,
        ),
        ("GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n\r\n\r\n".to_owned(), 200),
        ("GET /api/v1/app HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), 401),
    ];
    let rounds = 40;
    let all: String = (0..rounds).flat_map(|_| kinds.iter().map(|(text, _)| text.as_str())).collect();
    // At once, and byte by byte as far as the system lets them be apart.
    for piece in [all.len(), 7] {
        let stream = TcpStream::connect(&address).await.expect("a connection");
        let (mut read, mut write) = stream.into_split();
        let text = format!("{all}GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let writing = tokio::spawn(async move {
            for some in text.as_bytes().chunks(piece) {
                write.write_all(some).await.expect("it is taken");
            }
            write
        });
        let mut answers = String::new();
        tokio::time::timeout(Duration::from_secs(60), read.read_to_string(&mut answers))
            .await
            .expect("in time")
            .expect("text");
        drop(writing.await.expect("written"));
        let statuses: Vec<u16> =
            answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect();
        let wanted: Vec<u16> = (0..rounds).flat_map(|_| kinds.iter().map(|(_, status)| *status)).chain([200]).collect();
        assert_eq!(statuses, wanted);
    }
}

/// A reader that waits for the next message and goes away is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_long_poll_ends_with_its_connection() {
    const READERS: usize = 60;
    let world = World::start(&[]).await;
    world
        .call(
            reqwest::Method::POST,
            "/app/hostile/destination",
            serde_json::json!({"type": "pollingEndpoint", "uid": "pull"}),
        )
        .await;
    let before = world.belongings().descriptors;
    let (address, token) = (world.address(), world.token());
    let mut readers = Vec::new();
    for path in ["?wait=30", "/consumer/c?wait=30", "/stream"].iter().cycle().take(READERS) {
        let request = format!(
            "GET /api/v1/app/hostile/poller/pull{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("it is taken");
        readers.push(stream);
    }
    // The last one is being answered or waits: so do those before it.
    eventually("all are there", Duration::from_secs(10), async || {
        (world.belongings().descriptors >= before + READERS).then_some(())
    })
    .await;
    let began = Instant::now();
    drop(readers);
    eventually("all are gone", Duration::from_secs(12), async || {
        (world.belongings().descriptors <= before + READERS / 10).then_some(())
    })
    .await;
    println!("{READERS} abandoned readers were let go after {:?}", began.elapsed());
}
