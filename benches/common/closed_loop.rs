//! A closed loop: connections that each post one message after the other, as fast as they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::client::{Client, Door};
use super::open_loop::Posted;

/// How often a connection that must wait looks again.
const LOOK: Duration = Duration::from_millis(5);

/// Posts over so many connections, to the applications in turn, for as long as `going` is true.
pub async fn run(
    door: &Arc<Door>,
    connections: usize,
    payload: usize,
    began: Instant,
    going: &Arc<AtomicBool>,
) -> Posted {
    run_gated(door, connections, payload, began, going, Arc::new(|_| true)).await
}

/// Whether to post more, by how many messages were accepted so far.
pub type Gate = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// The same, but nothing is posted while the gate is closed: where messages are accepted much faster than they are delivered.
pub async fn run_gated(
    door: &Arc<Door>,
    connections: usize,
    payload: usize,
    began: Instant,
    going: &Arc<AtomicBool>,
    gate: Gate,
) -> Posted {
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for number in 0..connections {
        let (door, going) = (Arc::clone(door), Arc::clone(going));
        let (accepted, refused, gate) = (Arc::clone(&accepted), Arc::clone(&refused), Arc::clone(&gate));
        clients.push(tokio::spawn(async move {
            let application = &door.applications[number % door.applications.len()];
            let mut client = Client::connect(&door, application, payload).await.expect("a connection");
            let mut longest = Duration::ZERO;
            while going.load(Ordering::Relaxed) {
                if !gate(accepted.load(Ordering::Relaxed)) {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                let at = Instant::now();
                let answer = client.post_now(began).await;
                let counter = if matches!(answer, Ok(true)) { &accepted } else { &refused };
                counter.fetch_add(1, Ordering::Relaxed);
                longest = longest.max(at.elapsed());
                if answer.is_err() {
                    client = Client::connect(&door, application, payload).await.expect("a connection");
                }
            }
            longest
        }));
    }
    let mut posted = Posted::default();
    for client in clients {
        posted.longest = posted.longest.max(client.await.expect("a client ends"));
    }
    Posted { accepted: accepted.load(Ordering::Relaxed), failed: refused.load(Ordering::Relaxed), ..posted }
}

/// The same for a time.
pub async fn run_for(door: &Arc<Door>, connections: usize, payload: usize, began: Instant, span: Duration) -> Posted {
    let going = Arc::new(AtomicBool::new(true));
    let clock = async {
        tokio::time::sleep(span).await;
        going.store(false, Ordering::Relaxed);
    };
    tokio::join!(run(door, connections, payload, began, &going), clock).0
}
