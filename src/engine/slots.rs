//! Keeps this process's leases: one heartbeat every few seconds renews them, takes what is free, and hands back what is more than a
//! fair share.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Event;
use crate::domain::time::Clock;
use crate::store::slots::{LEASE, Leases, Process};
use crate::store::{Store, StoreError};

/// How often a heartbeat goes out; three may be lost before a lease runs out.
const BEAT: Duration = Duration::from_secs(3);
/// How long before its end a lease is no longer relied on: the store's clock and ours may run apart.
const MARGIN: Duration = Duration::from_secs(2);

/// Beats until `stop` turns true.
pub async fn run(
    store: Store,
    process: Process,
    clock: Clock,
    events: mpsc::UnboundedSender<Event>,
    mut stop: watch::Receiver<bool>,
) {
    let mut failing = false;
    while !*stop.borrow() {
        let began = Instant::now();
        match beat(&store, &process, clock, &events).await {
            Ok(leases) => {
                failing = false;
                if events.send(Event::Leases(leases, began + LEASE - MARGIN)).is_err() {
                    return;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the heartbeat does not reach the store; sending stops when the leases run out");
                }
            }
        }
        // While it fails, more often: back within a second of the store.
        let wait = if failing { Duration::from_millis(500) } else { BEAT };
        tokio::select! {
            _ = tokio::time::sleep(wait) => {}
            _ = stop.changed() => {}
        }
    }
}

async fn beat(
    store: &Store,
    process: &Process,
    clock: Clock,
    events: &mpsc::UnboundedSender<Event>,
) -> Result<Leases, StoreError> {
    let mut leases = store.heartbeat(process, clock.now()).await?;
    if store.shared() {
        let share = store.fair_share(clock.now()).await?;
        let surplus: Vec<u8> = leases.keys().skip(share).copied().collect();
        if !surplus.is_empty() {
            give(store, process, &surplus, events).await?;
            leases.retain(|slot, _| !surplus.contains(slot));
        }
    }
    Ok(leases)
}

/// Hands slots over: the lanes stop, what is in flight is recorded, and only then another process may take them.
async fn give(
    store: &Store,
    process: &Process,
    slots: &[u8],
    events: &mpsc::UnboundedSender<Event>,
) -> Result<(), StoreError> {
    let (done, quiet) = oneshot::channel();
    if events.send(Event::Release(slots.to_vec(), done)).is_ok() {
        // What takes longer than a lease would be taken over anyway; the epoch fences it.
        let _ = tokio::time::timeout(LEASE, quiet).await;
    }
    store.hand_back(process.id, slots).await
}
