//! What is done now and then, a turn at a time, for as long as the process runs.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use super::fleet::Seen;
use crate::store::StoreError;

/// How often, and as part of which fleet.
pub struct Pace {
    /// How often all processes together look whether there is something to do.
    pub poll: Duration,
    /// How often this process looks at least, however many there are; also the longest wait while the store is away.
    pub longest: Duration,
    pub fleet: Seen,
}

/// Takes `turn` after `turn` until `stop` turns true: at once while there is something to do, and at the pace when there was nothing. That
/// the store is away is said once, as `waits`.
pub async fn run<T>(pace: Pace, waits: &'static str, mut stop: watch::Receiver<bool>, mut turn: impl FnMut() -> T)
where
    T: Future<Output = Result<bool, StoreError>>,
{
    let mut away = None::<Duration>;
    while !*stop.borrow() {
        match turn().await {
            Ok(true) => {
                away = None;
                continue;
            }
            Ok(false) => away = None,
            Err(error) => {
                if away.is_none() {
                    tracing::warn!(%error, "{waits}");
                }
                away = Some((away.unwrap_or(pace.poll) * 2).min(pace.longest));
            }
        }
        let idle = pace.fleet.borrow().interval(pace.poll, pace.longest);
        tokio::select! {
            _ = tokio::time::sleep(away.unwrap_or(idle)) => {}
            _ = stop.changed() => {}
        }
    }
}
