//! Runs background work: replays, recoveries and the like. Each step is one transaction in the store.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::fleet::FleetWatch;
use super::periodic::{self, PollSettings};
use crate::domain::time::Clock;
use crate::store::jobs::job_lease::StepResult;
use crate::store::{Store, StoreError};
use crate::supervisor::Component;

/// The poll interval of an idle fleet.
const POLL: Duration = Duration::from_millis(250);
/// Maximum steps per turn, before other work gets one.
const STEPS: usize = 25;
/// The pause between two steps, so other transactions get through.
const STEP_PAUSE: Duration = Duration::from_millis(5);
/// The longest poll interval of one process, and the longest wait while the store is unavailable.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Runs until `stop` is cancelled. After an error, the lease of the work expires and the work is retried; other work
/// continues meanwhile.
pub async fn run(store: Store, clock: Clock, fleet: FleetWatch, stop: CancellationToken) {
    let settings = PollSettings { poll: POLL, longest: LONGEST_WAIT, fleet };
    periodic::run(settings, "background work waits", stop.clone(), || turn(&store, clock, &stop)).await;
}

/// Runs one turn. Returns `false` if there was no work.
async fn turn(store: &Store, clock: Clock, stop: &CancellationToken) -> Result<bool, StoreError> {
    let Some(mut turn) = store.lease_background(clock.now()).await? else { return Ok(false) };
    Component::Background.panic_point();
    for _ in 0..STEPS {
        match store.step_background(turn, clock.now()).await? {
            StepResult::More(next) => turn = next,
            StepResult::Ended(stage) => {
                tracing::info!(id = %turn.id, "background work {} has ended: {}", turn.id, stage.word());
                return Ok(true);
            }
            StepResult::Lost => return Ok(true),
        }
        if stop.is_cancelled() {
            break;
        }
        tokio::time::sleep(STEP_PAUSE).await;
    }
    store.release_background(turn, clock.now()).await?;
    Ok(true)
}
