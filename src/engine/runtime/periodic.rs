//! A polling loop with backoff.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::fleet::FleetWatch;
use crate::domain::retry_backoff::RetryBackoff;
use crate::store::StoreError;

/// The poll interval of a process in its fleet.
pub struct PollSettings {
    /// The poll interval of the fleet as a whole.
    pub poll: Duration,
    /// The longest poll interval of one process, and the longest wait while the store is unavailable.
    pub longest: Duration,
    pub fleet: FleetWatch,
}

/// Runs turns until `stop` is cancelled: without a pause while there is work, otherwise at the poll interval. Logs the
/// first of several errors in a row, with the message `waits`.
pub async fn run<T>(settings: PollSettings, waits: &'static str, stop: CancellationToken, mut turn: impl FnMut() -> T)
where
    T: Future<Output = Result<bool, StoreError>>,
{
    let mut backoff = RetryBackoff::new(settings.poll * 2, settings.longest);
    while !stop.is_cancelled() {
        match turn().await {
            Ok(true) => {
                backoff.succeeded();
                continue;
            }
            Ok(false) => backoff.succeeded(),
            Err(error) => {
                if backoff.wait().is_none() {
                    tracing::warn!(%error, "{waits}");
                }
                backoff.failed();
            }
        }
        let idle = settings.fleet.borrow().interval(settings.poll, settings.longest);
        tokio::select! {
            _ = tokio::time::sleep(backoff.wait().unwrap_or(idle)) => {}
            () = stop.cancelled() => {}
        }
    }
}
