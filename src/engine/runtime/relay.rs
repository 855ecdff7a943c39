//! The relay: accepts outbox rows, and fans out what was accepted for very many endpoints. Each step is a transaction of the store's; this is
//! only the loop around them. The two take turns, so that no more is relayed than can be fanned out.

use std::time::Duration;

use tokio::sync::watch;

use super::fleet::{Seen, until_turn};
use crate::domain::AppId;
use crate::domain::time::Clock;
use crate::store::ingest::outbox::{RelayRequest, Relayed};
use crate::store::{Store, StoreError};
use crate::supervisor::Supervised;

/// How often the idle relays of all processes together look for rows, in turns: a commit is noticed within this.
const POLL: Duration = Duration::from_millis(25);
/// How many rows one step takes at most.
const STEP: i64 = 256;
/// The longest wait after the store was away.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Relays until `stop` turns true.
pub async fn run(store: Store, clock: Clock, fleet: Seen, mut stop: watch::Receiver<bool>) {
    // A setting may have changed since the stuck rows were looked at last.
    if let Err(error) = store.outbox_retry_all().await {
        tracing::warn!(%error, "stuck outbox rows are not looked at again yet");
    }
    let (mut limit, mut away) = (STEP, None::<Duration>);
    let (mut fanned_out, mut failing) = (None, false);
    while !*stop.borrow() {
        Supervised::Relay.panic_point();
        let more = fan_out(&store, clock, &mut fanned_out, &mut failing).await;
        match step(&store, clock, limit).await {
            Ok(relayed) if relayed.rows() == 0 => {
                (limit, away) = (STEP, None);
                if more {
                    continue;
                }
            }
            Ok(relayed) => {
                // Rows that find no room are not to be read again and again.
                limit = if relayed.left > 0 { relayed.rows() as i64 + 1 } else { (limit * 2).min(STEP) };
                away = None;
                continue;
            }
            // One row of the batch upsets the store: fewer at a time, until it is alone.
            Err(StoreError::Refused(_)) if limit > 1 => {
                limit /= 2;
                continue;
            }
            Err(StoreError::Refused(reason)) => {
                if let Err(error) = store.relay_give_up(clock.now(), &reason).await {
                    tracing::warn!(%error, "an outbox row that the store refuses could not be marked");
                }
            }
            Err(error) => {
                // It may have been too much for one transaction.
                limit = (limit / 2).max(1);
                if away.is_none() {
                    tracing::warn!(%error, "the relay waits for the store");
                }
                away = Some(away.map_or(POLL * 2, |wait| wait * 2).min(LONGEST_WAIT));
            }
        }
        let rank = fleet.borrow().rank;
        tokio::select! {
            _ = tokio::time::sleep(away.unwrap_or_else(|| until_turn(rank, POLL, clock.now()))) => {}
            _ = stop.changed() => {}
        }
    }
}

/// One step of the fan-out, for the application behind `last`. Returns whether there may be more to do. Of errors in a
/// row, the first is logged.
async fn fan_out(store: &Store, clock: Clock, last: &mut Option<AppId>, failing: &mut bool) -> bool {
    let step = store.fan_out(*last, clock.now()).await;
    let failed_before = std::mem::replace(failing, step.is_err());
    match step {
        Ok(Some(step)) => {
            metrics::counter!("sendoff_fanned_out_total").increment(step.due as u64);
            *last = Some(step.app);
            true
        }
        Ok(None) => false,
        Err(error) => {
            if !failed_before {
                tracing::warn!(%error, "wide messages wait to be fanned out");
            }
            false
        }
    }
}

/// One step of the relay.
async fn step(store: &Store, clock: Clock, limit: i64) -> Result<Relayed, StoreError> {
    if !store.outbox_has_work(clock.now()).await? {
        return Ok(Relayed::default());
    }
    let relayed = store.relay(RelayRequest { limit, now: clock.now() }).await?;
    report(&relayed);
    Ok(relayed)
}

fn report(relayed: &Relayed) {
    metrics::histogram!("sendoff_batch_size", "kind" => "relay").record(relayed.rows() as f64);
    metrics::counter!("sendoff_outbox_relayed_total").increment(relayed.accepted as u64);
    metrics::counter!("sendoff_outbox_duplicates_total").increment(relayed.duplicates as u64);
    if let Some((application, reason)) = relayed.stuck.first() {
        let rows = relayed.stuck.len();
        tracing::warn!(rows, %application, %reason, "{rows} outbox rows could not be routed; the first says why");
    }
}
