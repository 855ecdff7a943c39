//! An open loop: messages are posted on schedule, whether or not earlier ones are answered.
//!
//! A message counts from its scheduled time, so a server that stalls is charged for everything that waited (no
//! coordinated omission). The schedule has its own thread, because a runtime's timers have a resolution of 1 ms.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Client, Destination};

/// Maximum unanswered requests. Messages beyond it count as failed.
const MAX_OPEN: usize = 4_096;

#[derive(Clone, Copy, Debug, Default)]
pub struct LoadResult {
    pub accepted: u64,
    /// Rejected, not answered within 35 s, or not posted because of [`MAX_OPEN`].
    pub failed: u64,
    /// The longest response time, from the scheduled time.
    pub longest: Duration,
}

/// Posts `rate` messages per second for `span`, to the applications in turn.
pub async fn run(
    destination: Arc<Destination>,
    rate: f64,
    span: Duration,
    payload: usize,
    began: Instant,
) -> LoadResult {
    run_while(destination, rate, span, payload, began, Arc::new(AtomicBool::new(true))).await
}

/// Like [`run`], for at most `most` and only while `running` is true.
pub async fn run_while(
    destination: Arc<Destination>,
    rate: f64,
    most: Duration,
    payload: usize,
    began: Instant,
    running: Arc<AtomicBool>,
) -> LoadResult {
    let (clock, mut due) = mpsc::unbounded_channel();
    let pacing = std::thread::spawn(move || run_schedule(rate, most, &clock, &running));
    let idle: Arc<Vec<Mutex<Vec<Client>>>> =
        Arc::new(destination.applications.iter().map(|_| Mutex::default()).collect());
    let (mut posted, mut open) = (LoadResult::default(), JoinSet::new());
    let mut count = |done: Option<Result<Option<Duration>, tokio::task::JoinError>>| match done {
        Some(Ok(Some(took))) => {
            posted.accepted += 1;
            posted.longest = posted.longest.max(took);
        }
        Some(_) => posted.failed += 1,
        None => {}
    };
    while let Some((n, at)) = due.recv().await {
        while let Some(done) = open.try_join_next() {
            count(Some(done));
        }
        if open.len() >= MAX_OPEN {
            count(Some(Ok(None)));
            continue;
        }
        let (destination, idle) = (Arc::clone(&destination), Arc::clone(&idle));
        open.spawn(async move {
            let accepted = post(&destination, &idle, n, at.duration_since(began), payload).await.unwrap_or(false);
            accepted.then(|| at.elapsed())
        });
    }
    while let Some(done) = open.join_next().await {
        count(Some(done));
    }
    pacing.join().expect("the clock of the schedule");
    posted
}

fn run_schedule(rate: f64, most: Duration, clock: &mpsc::UnboundedSender<(usize, Instant)>, running: &AtomicBool) {
    let start = Instant::now();
    for n in 0..(rate * most.as_secs_f64()) as usize {
        let at = start + Duration::from_secs_f64(n as f64 / rate);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if !running.load(Ordering::Relaxed) || clock.send((n, at)).is_err() {
            return;
        }
    }
}

/// Posts over an idle connection, or a new one.
async fn post(
    destination: &Destination,
    idle: &[Mutex<Vec<Client>>],
    n: usize,
    at: Duration,
    payload: usize,
) -> std::io::Result<bool> {
    let which = n % destination.applications.len();
    let locked = || idle[which].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let kept = locked().pop();
    let mut client = match kept {
        Some(client) => client,
        None => Client::connect(destination, &destination.applications[which], payload).await?,
    };
    let accepted = client.post(at).await?;
    locked().push(client);
    Ok(accepted)
}
