//! What is done now and then, a turn at a time, for as long as the process runs.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use crate::store::StoreError;

/// Takes `turn` after `turn` until `stop` turns true: at once while there is something to do, after `poll` when there was nothing, and after
/// up to `longest` while the store is away, which is said once, as `waits`.
pub async fn run<T>(
    (poll, longest): (Duration, Duration),
    waits: &'static str,
    mut stop: watch::Receiver<bool>,
    mut turn: impl FnMut() -> T,
) where
    T: Future<Output = Result<bool, StoreError>>,
{
    let mut wait = poll;
    while !*stop.borrow() {
        match turn().await {
            Ok(true) => {
                wait = poll;
                continue;
            }
            Ok(false) => wait = poll,
            Err(error) => {
                if wait == poll {
                    tracing::warn!(%error, "{waits}");
                }
                wait = (wait * 2).min(longest);
            }
        }
        tokio::select! {
            _ = tokio::time::sleep(wait) => {}
            _ = stop.changed() => {}
        }
    }
}
