//! Listens for notifications from other processes, so their messages do not wait for the next scan, and freed slots do
//! not wait for the next heartbeat. Scans and heartbeats find everything missed while the connection is down.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

use crate::engine::LoopInput;
use crate::engine::core::event::CoreEvent;
use crate::store::queue::notify::{Notification, NotificationListener};
use crate::store::{Store, StoreError};
use crate::supervisor::Component;

/// The wait before listening again after the connection was lost.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// Listens until `stop` is true, on behalf of `process`. Notifies `freed` when there may be free slots.
pub async fn run(
    store: Store,
    process: Uuid,
    events: mpsc::UnboundedSender<LoopInput>,
    freed: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) {
    let mut wait = RETRY_BACKOFF.0;
    while !*stop.borrow() {
        match store.listen(process).await {
            // No other process uses the store: nothing to listen for.
            Ok(None) => {
                let _ = stop.wait_for(|stop| *stop).await;
                return;
            }
            Ok(Some(listener)) => {
                wait = RETRY_BACKOFF.0;
                if let Err(error) = forward(listener, &events, &freed, &mut stop).await {
                    tracing::debug!(%error, "the connection for notifications was lost");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "listening for notifications failed and will be retried");
                wait = (wait * 2).min(RETRY_BACKOFF.1);
            }
        }
        tokio::select! {
            _ = tokio::time::sleep(wait) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Forwards notifications until the connection is lost or `stop` changes.
async fn forward(
    mut listener: NotificationListener,
    events: &mpsc::UnboundedSender<LoopInput>,
    freed: &Notify,
    stop: &mut watch::Receiver<bool>,
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
            _ = stop.changed() => return Ok(()),
        };
    }
}
