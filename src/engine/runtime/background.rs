//! Background work goes on here, a turn at a time. Each step is one transaction of the store's; this is only the loop around it.

use std::time::Duration;

use tokio::sync::watch;

use super::fleet::Seen;
use super::periodic::{self, Pace};
use crate::domain::time::Clock;
use crate::store::jobs::job_lease::Stepped;
use crate::store::{Store, StoreError};
use crate::supervisor::Supervised;

/// How often the idle processes of a fleet look for work, together.
const POLL: Duration = Duration::from_millis(250);
/// How many steps a turn has: then others' work has its turn.
const STEPS: usize = 25;
/// The store is left to others between two steps.
const BREATH: Duration = Duration::from_millis(5);
/// The longest that one of them waits, also after the store was away.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Works until `stop` turns true. A turn that fails runs out by itself: work that cannot be gone on with is tried again later, and holds up
/// no other.
pub async fn run(store: Store, clock: Clock, fleet: Seen, stop: watch::Receiver<bool>) {
    let pace = Pace { poll: POLL, longest: LONGEST_WAIT, fleet };
    periodic::run(pace, "background work waits", stop.clone(), || turn(&store, clock, &stop)).await;
}

/// One turn; `false`: there was nothing to do.
async fn turn(store: &Store, clock: Clock, stop: &watch::Receiver<bool>) -> Result<bool, StoreError> {
    let Some(mut turn) = store.take_turn(clock.now()).await? else { return Ok(false) };
    Supervised::Background.panic_point();
    for _ in 0..STEPS {
        match store.step_background(turn, clock.now()).await? {
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
    store.end_turn(turn, clock.now()).await?;
    Ok(true)
}
