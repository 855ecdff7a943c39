//! A closed loop: each connection posts its next message when the previous one is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::client::{Client, Destination};
use super::open_loop::LoadResult;

/// How often a blocked connection checks the gate.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Posts over `connections` connections, to the applications in turn, while `running` is true.
pub async fn run(
    destination: &Arc<Destination>,
    connections: usize,
    payload: usize,
    began: Instant,
    running: &Arc<AtomicBool>,
) -> LoadResult {
    run_gated(destination, connections, payload, began, running, Arc::new(|_| true)).await
}

/// Whether to post more, given the number of accepted messages.
pub type Gate = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// Like [`run`], but posts only while the gate is open, for loads that are accepted much faster than delivered.
pub async fn run_gated(
    destination: &Arc<Destination>,
    connections: usize,
    payload: usize,
    began: Instant,
    running: &Arc<AtomicBool>,
    gate: Gate,
) -> LoadResult {
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for number in 0..connections {
        let (destination, running) = (Arc::clone(destination), Arc::clone(running));
        let (accepted, refused, gate) = (Arc::clone(&accepted), Arc::clone(&refused), Arc::clone(&gate));
        clients.push(tokio::spawn(async move {
            let application = &destination.applications[number % destination.applications.len()];
            let mut client = Client::connect(&destination, application, payload).await.expect("a connection");
            let mut longest = Duration::ZERO;
            while running.load(Ordering::Relaxed) {
                if !gate(accepted.load(Ordering::Relaxed)) {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    continue;
                }
                let at = Instant::now();
                let answer = client.post_now(began).await;
                let counter = if matches!(answer, Ok(true)) { &accepted } else { &refused };
                counter.fetch_add(1, Ordering::Relaxed);
                longest = longest.max(at.elapsed());
                if answer.is_err() {
                    client = Client::connect(&destination, application, payload).await.expect("a connection");
                }
            }
            longest
        }));
    }
    let mut posted = LoadResult::default();
    for client in clients {
        posted.longest = posted.longest.max(client.await.expect("a client ends"));
    }
    LoadResult { accepted: accepted.load(Ordering::Relaxed), failed: refused.load(Ordering::Relaxed), ..posted }
}

/// Like [`run`], for a fixed time.
pub async fn run_for(
    destination: &Arc<Destination>,
    connections: usize,
    payload: usize,
    began: Instant,
    span: Duration,
) -> LoadResult {
    let running = Arc::new(AtomicBool::new(true));
    let clock = async {
        tokio::time::sleep(span).await;
        running.store(false, Ordering::Relaxed);
    };
    tokio::join!(run(destination, connections, payload, began, &running), clock).0
}
