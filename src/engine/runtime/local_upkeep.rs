//! Upkeep of this process alone: SQLite's checkpoints, a look at the clock. One process of a fleet looks after the store as a whole
//! ([`maintenance`](super::maintenance)).

use std::time::Duration;

use tokio::sync::watch;

use crate::domain::time::Clock;
use crate::store::Store;
use crate::supervisor::Supervised;

/// How often it runs.
const ROUND: Duration = Duration::from_secs(1);
/// How often the clock is looked at, in rounds.
const CLOCK_ROUNDS: u64 = 30;
/// How many seconds the wall clock may be off before that is said.
const CLOCK_GAP: f64 = 10.0;

/// Runs until `stop` turns true.
pub async fn run(store: Store, clock: Clock, mut stop: watch::Receiver<bool>) {
    let mut round = 0u64;
    let mut failing = false;
    while !*stop.borrow() {
        Supervised::LocalUpkeep.panic_point();
        let done = store.tidy().await;
        if let (Err(error), false) = (&done, failing) {
            tracing::warn!(%error, "checkpoints wait for the store");
        }
        failing = done.is_err();
        if round.is_multiple_of(CLOCK_ROUNDS) {
            look_at_the_clock(clock);
        }
        round += 1;
        tokio::select! {
            _ = tokio::time::sleep(ROUND) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Says when the wall clock was set: times are off by as much until it is made good.
fn look_at_the_clock(clock: Clock) {
    let gap = clock.gap();
    metrics::gauge!("sendoff_clock_gap_seconds").set(gap);
    if gap.abs() > CLOCK_GAP {
        tracing::warn!(
            "the machine's clock is {gap:.0} s ahead of ours: it was set while we ran. Ours goes on as before and follows by a tenth of \
             what passes; after a restart it is the machine's"
        );
    }
}
