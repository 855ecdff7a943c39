//! Background work goes on here, a turn at a time. Each step is one transaction of the store's; this is only the loop around it.

use std::time::Duration;

use tokio::sync::watch;

use super::steady::SteadyClock;
use crate::store::turns::Stepped;
use crate::store::{Store, StoreError};

/// How often an idle loop looks for work.
const POLL: Duration = Duration::from_millis(250);
/// How many steps a turn has: then others' work has its turn.
const STEPS: usize = 25;
/// The store is left to others between two steps.
const BREATH: Duration = Duration::from_millis(5);
/// The longest wait after the store was away.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Works until `stop` turns true.
pub async fn run(store: Store, clock: SteadyClock, mut stop: watch::Receiver<bool>) {
    let mut wait = POLL;
    while !*stop.borrow() {
        match turn(&store, clock, &stop).await {
            Ok(true) => {
                wait = POLL;
                continue;
            }
            Ok(false) => wait = POLL,
            // The turn runs out by itself: work that cannot be gone on with is tried again later, and holds up no other.
            Err(error) => {
                if wait == POLL {
                    tracing::warn!(%error, "background work waits");
                }
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
        tokio::select! {
            _ = tokio::time::sleep(wait) => {}
            _ = stop.changed() => {}
        }
    }
}

/// One turn; `false`: there was nothing to do.
async fn turn(store: &Store, clock: SteadyClock, stop: &watch::Receiver<bool>) -> Result<bool, StoreError> {
    let Some(mut turn) = store.take_turn(clock.moment().wall).await? else { return Ok(false) };
    for _ in 0..STEPS {
        match store.step_background(turn, clock.moment().wall).await? {
            Stepped::More(next) => turn = next,
            Stepped::Ended(stage) => {
                tracing::info!(id = %turn.id, "background work {} has ended: {}", turn.id, stage.word());
                return Ok(true);
            }
            Stepped::Lost => return Ok(true),
        }
        if *stop.borrow() {
            break;
        }
        tokio::time::sleep(BREATH).await;
    }
    store.end_turn(turn, clock.moment().wall).await?;
    Ok(true)
}
