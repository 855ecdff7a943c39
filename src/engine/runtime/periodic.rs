//! A polling loop with backoff.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use super::fleet::FleetWatch;
use crate::store::StoreError;

/// The poll interval of a process in its fleet.
pub struct PollSettings {
    /// The poll interval of the fleet as a whole.
    pub poll: Duration,
    /// The longest poll interval of one process, and the longest wait while the store is unavailable.
    pub longest: Duration,
    pub fleet: FleetWatch,
}

/// Runs turns until `stop` turns true: at once while there is work, otherwise at the poll interval. The first of
/// several errors is logged as `waits`.
pub async fn run<T>(
    pace: PollSettings,
    waits: &'static str,
    mut stop: watch::Receiver<bool>,
    mut turn: impl FnMut() -> T,
) where
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
