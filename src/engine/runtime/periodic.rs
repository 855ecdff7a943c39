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

/// Runs turns until `stop` is true: without a pause while there is work, otherwise at the poll interval. The first of
/// several errors is logged as `waits`.
pub async fn run<T>(
    settings: PollSettings,
    waits: &'static str,
    mut stop: watch::Receiver<bool>,
    mut turn: impl FnMut() -> T,
) where
    T: Future<Output = Result<bool, StoreError>>,
{
    let mut backoff = None::<Duration>;
    while !*stop.borrow() {
        match turn().await {
            Ok(true) => {
                backoff = None;
                continue;
            }
            Ok(false) => backoff = None,
            Err(error) => {
                if backoff.is_none() {
                    tracing::warn!(%error, "{waits}");
                }
                backoff = Some((backoff.unwrap_or(settings.poll) * 2).min(settings.longest));
            }
        }
        let idle = settings.fleet.borrow().interval(settings.poll, settings.longest);
        tokio::select! {
            _ = tokio::time::sleep(backoff.unwrap_or(idle)) => {}
            _ = stop.changed() => {}
        }
    }
}
