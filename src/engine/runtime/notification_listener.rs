//! Listens for notifications from other processes, so that what they accepted does not wait for the next scan, nor a slot that they handed
//! back for the next heartbeat. While nothing can be heard, these find it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

use crate::engine::LoopInput;
use crate::engine::core::event::Event;
use crate::store::queue::notify::{Heard, Listener};
use crate::store::{Store, StoreError};
use crate::supervisor::Supervised;

/// How long to wait before listening anew, after the connection was lost.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// Listens until `stop` turns true, for the engine that owns slots as `process`. `freed` is notified when there may be slots to take.
pub async fn run(
    store: Store,
    process: Uuid,
    events: mpsc::UnboundedSender<LoopInput>,
    freed: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) {
    let mut wait = AGAIN.0;
    while !*stop.borrow() {
        match store.listen(process).await {
            // Nobody else is there to hear: nothing is to be done until the end.
            Ok(None) => {
                let _ = stop.wait_for(|stop| *stop).await;
                return;
            }
            Ok(Some(listener)) => {
                wait = AGAIN.0;
                if let Err(error) = hear(listener, &events, &freed, &mut stop).await {
                    tracing::debug!(%error, "nothing is heard from other processes");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "nothing can be heard from other processes");
                wait = (wait * 2).min(AGAIN.1);
            }
        }
        tokio::select! {
            _ = tokio::time::sleep(wait) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Passes on what is heard, until the connection is lost or `stop` changes.
async fn hear(
    mut listener: Listener,
    events: &mpsc::UnboundedSender<LoopInput>,
    freed: &Notify,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), StoreError> {
    // What was announced before we could hear.
    let mut heard = Heard::Anything;
    loop {
        Supervised::Listener.panic_point();
        if matches!(heard, Heard::Freed | Heard::Anything) {
            freed.notify_one();
        }
        if events.send(LoopInput::Event(Event::Announced(heard))).is_err() {
            return Ok(());
        }
        heard = tokio::select! {
            heard = listener.next() => heard?,
            _ = stop.changed() => return Ok(()),
        };
    }
}
