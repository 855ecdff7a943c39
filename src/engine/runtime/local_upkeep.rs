//! Periodic work of every process: SQLite checkpoints, reading the organizations' settings, a clock check. The store as
//! a whole is maintained by one process of the fleet ([`maintenance`](super::maintenance)).

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::time::Clock;
use crate::store::Store;
use crate::supervisor::Component;

/// The interval of the upkeep.
const ROUND: Duration = Duration::from_secs(1);
/// The interval of clock checks, in rounds.
const CLOCK_ROUNDS: u64 = 30;
/// The clock difference in seconds that is logged.
const CLOCK_GAP: f64 = 10.0;

/// Runs until `stop` is cancelled.
pub async fn run(store: Store, clock: Clock, stop: CancellationToken) {
    let mut round = 0u64;
    let mut failing = false;
    while !stop.is_cancelled() {
        Component::LocalUpkeep.panic_point();
        store.refresh_organizations().await;
        let done = store.checkpoint().await;
        if let (Err(error), false) = (&done, failing) {
            tracing::warn!(%error, "SQLite checkpoints failed and will be retried");
        }
        failing = done.is_err();
        if round.is_multiple_of(CLOCK_ROUNDS) {
            check_clock(clock);
        }
        round += 1;
        tokio::select! {
            _ = tokio::time::sleep(ROUND) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Reports that the wall clock was set. Sendoff's time is slewed to it and differs until then.
fn check_clock(clock: Clock) {
    let gap = clock.wall_offset();
    metrics::gauge!("sendoff_clock_gap_seconds").set(gap);
    if gap.abs() > CLOCK_GAP {
        tracing::warn!(
            "the machine's clock is {gap:.0} s ahead of Sendoff's, because it was set while this process ran. Sendoff's \
             clock catches up at a tenth of the elapsed time; a restart uses the machine's clock at once"
        );
    }
}
