//! An open loop: messages are posted at fixed times, whether or not earlier ones were answered.
//!
//! A message counts from its scheduled time, so that a server that stalls is charged for all that had to wait meanwhile (no coordinated omission).
//! The clock of the schedule is a thread of its own: a runtime's timers are a millisecond apart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Client, Door};

/// How many posts may be unanswered at a time; what is due beyond is counted as not posted.
const MOST_OPEN: usize = 4_096;

/// What became of the messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Posted {
    pub accepted: u64,
    /// Answered with something else, not answered within 35 s, or not even posted because too many were unanswered.
    pub failed: u64,
    /// The longest that an answer took, from the scheduled time.
    pub longest: Duration,
}

/// Posts `rate` messages a second for `span`, to the applications in turn.
pub async fn run(door: Arc<Door>, rate: f64, span: Duration, payload: usize, began: Instant) -> Posted {
    run_while(door, rate, span, payload, began, Arc::new(AtomicBool::new(true))).await
}

/// The same for `most` at the longest, and only while `going` is true.
pub async fn run_while(
    door: Arc<Door>,
    rate: f64,
    most: Duration,
    payload: usize,
    began: Instant,
    going: Arc<AtomicBool>,
) -> Posted {
    let (clock, mut due) = mpsc::unbounded_channel();
    let pacing = std::thread::spawn(move || pace(rate, most, &clock, &going));
    let idle: Arc<Vec<Mutex<Vec<Client>>>> = Arc::new(door.applications.iter().map(|_| Mutex::default()).collect());
    let (mut posted, mut open) = (Posted::default(), JoinSet::new());
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
        if open.len() >= MOST_OPEN {
            count(Some(Ok(None)));
            continue;
        }
        let (door, idle) = (Arc::clone(&door), Arc::clone(&idle));
        open.spawn(async move {
            let accepted = post(&door, &idle, n, at.duration_since(began), payload).await.unwrap_or(false);
            accepted.then(|| at.elapsed())
        });
    }
    while let Some(done) = open.join_next().await {
        count(Some(done));
    }
    pacing.join().expect("the clock of the schedule");
    posted
}

fn pace(rate: f64, most: Duration, clock: &mpsc::UnboundedSender<(usize, Instant)>, going: &AtomicBool) {
    let start = Instant::now();
    for n in 0..(rate * most.as_secs_f64()) as usize {
        let at = start + Duration::from_secs_f64(n as f64 / rate);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if !going.load(Ordering::Relaxed) || clock.send((n, at)).is_err() {
            return;
        }
    }
}

/// Posts over a connection that nobody uses, or a new one.
async fn post(
    door: &Door,
    idle: &[Mutex<Vec<Client>>],
    n: usize,
    at: Duration,
    payload: usize,
) -> std::io::Result<bool> {
    let which = n % door.applications.len();
    let locked = || idle[which].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let kept = locked().pop();
    let mut client = match kept {
        Some(client) => client,
        None => Client::connect(door, &door.applications[which], payload).await?,
    };
    let accepted = client.post(at).await?;
    locked().push(client);
    Ok(accepted)
}
