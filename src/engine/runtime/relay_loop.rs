//! The relay: accepts outbox rows, and fans out messages for very many endpoints. Each step is one transaction in the
//! store. The two alternate, so no more is relayed than can be fanned out.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fleet::{FleetWatch, until_turn};
use crate::domain::retry_backoff::RetryBackoff;
use crate::domain::time::Clock;
use crate::store::Store;
use crate::store::ingest::fan_out_scheduler::FanOutScheduler;
use crate::store::ingest::outbox::relay_batch_size::{RelayBatchSize, RelayStep};
use crate::store::queue::slots::Rank;
use crate::supervisor::Component;

/// The poll interval of the fleet, whose processes poll in turns: an outbox row is noticed within this time.
const POLL: Duration = Duration::from_millis(25);
/// The shortest poll interval of one process after the outbox has been empty for [`QUIET`]. At 40 polls a second,
/// polling would dominate the CPU use of an idle process. In a fleet of four or more, no process polls more often
/// anyway.
const IDLE_POLL: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_secs(10);
/// The interval at which the fleet looks for wide messages of processes that ended, and the longest interval of a
/// single process. Each process knows its own wide messages.
const FAN_OUT_POLL: Duration = Duration::from_secs(1);
const LONGEST_FAN_OUT_POLL: Duration = Duration::from_secs(10);
/// The outbox is polled after this much fan-out instead of after each step, so small steps do not wait for a poll.
const FAN_OUT_TURN: Duration = Duration::from_millis(20);
/// The waits while the store is unavailable.
const BACKOFF: RetryBackoff = RetryBackoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Runs until `stop` is cancelled.
pub async fn run(store: Store, clock: Clock, fleet: FleetWatch, stop: CancellationToken) {
    // A changed setting may have fixed the cause, so stuck rows are retried at startup.
    if let Err(error) = store.outbox_retry_all().await {
        tracing::warn!(%error, "retrying stuck outbox rows failed");
    }
    let (mut pace, mut backoff) = (RelayBatchSize::default(), BACKOFF);
    let (mut turns, mut failing, mut fan_out_at) = (FanOutScheduler::default(), false, Instant::now());
    let mut last_row = Instant::now();
    while !stop.is_cancelled() {
        Component::Relay.panic_point();
        let wide = store.take_packed_flag() || Instant::now() >= fan_out_at;
        let turn_ends = Instant::now() + FAN_OUT_TURN;
        let mut more = wide && fan_out(&store, clock, &mut turns, &mut failing).await;
        while more && Instant::now() < turn_ends {
            more = fan_out(&store, clock, &mut turns, &mut failing).await;
        }
        if wide {
            let idle = fleet.borrow().interval(FAN_OUT_POLL, LONGEST_FAN_OUT_POLL);
            fan_out_at = Instant::now() + if more { Duration::ZERO } else { idle };
        }
        match store.relay_next(&mut pace, clock.now()).await {
            Ok(RelayStep::Nothing) => {
                backoff.succeeded();
                if more {
                    continue;
                }
            }
            Ok(step) => {
                report(&step);
                backoff.succeeded();
                // The step may have accepted a wide message.
                fan_out_at = Instant::now();
                last_row = Instant::now();
                continue;
            }
            Err(error) => {
                if backoff.wait().is_none() {
                    tracing::warn!(%error, "the relay cannot reach the store and will retry");
                }
                backoff.failed();
            }
        }
        let rank = fleet.borrow().rank;
        let poll = if last_row.elapsed() < QUIET { POLL } else { idle_poll(rank) };
        tokio::select! {
            _ = tokio::time::sleep(backoff.wait().unwrap_or_else(|| until_turn(rank, poll, clock.now()))) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// The fleet's poll interval while idle: each process polls every [`IDLE_POLL`], or in larger fleets every [`POLL`]
/// times the number of processes.
fn idle_poll(rank: Rank) -> Duration {
    (IDLE_POLL / u32::try_from(rank.of).unwrap_or(u32::MAX).max(1)).max(POLL)
}

/// Runs one step of the fan-out. Returns whether there may be more to do. Logs the first of several errors.
async fn fan_out(store: &Store, clock: Clock, turns: &mut FanOutScheduler, failing: &mut bool) -> bool {
    let step = store.fan_out(turns, clock.now()).await;
    let failed_before = std::mem::replace(failing, step.is_err());
    match step {
        Ok(Some(step)) => {
            metrics::counter!("sendoff_fanned_out_total").increment(step.due as u64);
            true
        }
        Ok(None) => false,
        Err(error) => {
            if !failed_before {
                let application = turns.last().map(|app| app.to_string()).unwrap_or_default();
                tracing::warn!(%error, %application, "fanning out a message failed and will be retried");
            }
            false
        }
    }
}

fn report(step: &RelayStep) {
    match step {
        RelayStep::Relayed(relayed) => {
            metrics::histogram!("sendoff_batch_size", "kind" => "relay").record(relayed.rows() as f64);
            metrics::counter!("sendoff_outbox_relayed_total").increment(relayed.accepted as u64);
            metrics::counter!("sendoff_outbox_duplicates_total").increment(relayed.duplicates as u64);
            if let Some((application, reason)) = relayed.stuck.first() {
                let rows = relayed.stuck.len();
                tracing::warn!(rows, %application, %reason, "{rows} outbox rows could not be routed; see the first reason");
            }
        }
        RelayStep::Marked(reason) => {
            tracing::warn!(%reason, "an outbox row could not be stored and was marked as stuck");
        }
        RelayStep::Nothing | RelayStep::Fewer => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_process_polls_ten_times_a_second() {
        let poll = |of| idle_poll(Rank { index: 0, of }).as_millis();
        assert_eq!([1, 2, 4, 50].map(poll), [100, 50, 25, 25]);
        assert_eq!(Rank::ALONE.of, 1);
    }
}
