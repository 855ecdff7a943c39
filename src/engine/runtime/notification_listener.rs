//! Listens for notifications from other processes, so their messages do not wait for the next scan, and freed slots do
//! not wait for the next heartbeat. Scans and heartbeats find everything missed while the connection is down.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::retry_backoff::RetryBackoff;
use crate::engine::LoopInput;
use crate::engine::core::event::CoreEvent;
use crate::store::queue::notify::{Notification, NotificationListener};
use crate::store::{Store, StoreError};
use crate::supervisor::Component;

/// The wait before listening again after the connection was lost.
const RECONNECT: Duration = Duration::from_millis(100);
/// The waits while the store is unavailable.
const BACKOFF: RetryBackoff = RetryBackoff::new(Duration::from_millis(200), Duration::from_millis(500));

/// Listens until `stop` is cancelled, on behalf of `process`. Notifies `freed` when there may be free slots.
pub async fn run(
    store: Store,
    process: Uuid,
    events: mpsc::UnboundedSender<LoopInput>,
    freed: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut backoff = BACKOFF;
    while !stop.is_cancelled() {
        match store.listen(process).await {
            // No other process uses the store: nothing to listen for.
            Ok(None) => {
                stop.cancelled().await;
                return;
            }
            Ok(Some(listener)) => {
                backoff.succeeded();
                if let Err(error) = forward(listener, &events, &freed, &stop).await {
                    tracing::debug!(%error, "the connection for notifications was lost");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "listening for notifications failed and will be retried");
                backoff.failed();
            }
        }
        tokio::select! {
            _ = tokio::time::sleep(backoff.wait().unwrap_or(RECONNECT)) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Forwards notifications until the connection is lost or `stop` is cancelled.
async fn forward(
    mut listener: NotificationListener,
    events: &mpsc::UnboundedSender<LoopInput>,
    freed: &Notify,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    // Notifications sent before we listened are lost: anything may have happened.
    let mut notification = Notification::AnyEndpoint;
    loop {
        Component::Listener.panic_point();
        if matches!(notification, Notification::SlotsReleased | Notification::AnyEndpoint) {
            freed.notify_one();
        }
        if events.send(LoopInput::Event(CoreEvent::Notified(notification))).is_err() {
            return Ok(());
        }
        notification = tokio::select! {
            notification = listener.next() => notification?,
            () = stop.cancelled() => return Ok(()),
        };
    }
}
