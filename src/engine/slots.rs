//! Keeps this process's leases: one heartbeat every few seconds renews them, takes what is free, and hands over what is more than a
//! fair share.
//!
//! Slots that are **leaving** are still ours in the store, and renewed like the others, while what they have in flight ends and is
//! recorded; each is handed back as soon as nothing of it is on its way. So an endpoint that hangs holds up its own slot and no other.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Event;
use crate::domain::time::Clock;
use crate::store::slots::{LEASE, Leases, Process};
use crate::store::{Store, StoreError};

/// How often a heartbeat goes out; three may be lost before a lease runs out.
const BEAT: Duration = Duration::from_secs(3);
/// While it fails, more often: back within a second of the store.
const BEAT_FAILING: Duration = Duration::from_millis(250);
/// How long before its end a lease is no longer relied on: the store's clock and ours may run apart.
const MARGIN: Duration = Duration::from_secs(2);
/// Whoever has not reached the store for so long has been stopped, or the store was away: for others as well, perhaps.
const AWAY: Duration = Duration::from_secs(6);

/// Beats until `stop` turns true.
pub async fn run(
    store: Store,
    process: Process,
    clock: Clock,
    events: mpsc::UnboundedSender<Event>,
    mut stop: watch::Receiver<bool>,
) {
    let (released, mut quiet) = mpsc::unbounded_channel();
    let mut beats = Beats {
        store,
        process,
        clock,
        leaving: BTreeSet::new(),
        unreturned: Vec::new(),
        last: None,
        sparing_until: None,
    };
    let mut failing = false;
    while !*stop.borrow() {
        let began = Instant::now();
        match beats.beat(began).await {
            Ok((leases, surplus)) => {
                failing = false;
                let told = events.send(Event::Leases(leases, began + LEASE - MARGIN));
                if told.is_err() || events.send(Event::Release(surplus, released.clone())).is_err() {
                    return;
                }
            }
            Err(error) => {
                beats.sparing_until = Some(began + LEASE);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the heartbeat does not reach the store; sending stops when the leases run out");
                }
            }
        }
        let next = Instant::now() + if failing { BEAT_FAILING } else { BEAT };
        loop {
            tokio::select! {
                _ = tokio::time::sleep_until(next) => break,
                _ = stop.changed() => break,
                Some(slots) = quiet.recv() => beats.hand_back(slots).await,
                _ = tokio::time::sleep(BEAT_FAILING), if !beats.unreturned.is_empty() => {
                    let slots = std::mem::take(&mut beats.unreturned);
                    beats.hand_back(slots).await;
                }
            }
        }
    }
}

struct Beats {
    store: Store,
    process: Process,
    clock: Clock,
    leaving: BTreeSet<u8>,
    /// Those of them that the store did not take back.
    unreturned: Vec<u8>,
    /// When the last heartbeat that reached the store went out.
    last: Option<Instant>,
    /// Until then others are given the time to come back to what is theirs.
    sparing_until: Option<Instant>,
}

impl Beats {
    /// One heartbeat; gives back what is ours and stays so, and what has to leave from now on.
    async fn beat(&mut self, began: Instant) -> Result<(Leases, Vec<u8>), StoreError> {
        if self.last.is_some_and(|last| began - last > AWAY) {
            self.sparing_until = Some(began + LEASE);
        }
        let sparing = self.sparing_until.is_some_and(|until| began < until);
        let now = self.clock.now();
        let mut leases = match sparing {
            true => self.store.sparing_heartbeat(&self.process, now).await?,
            false => self.store.heartbeat(&self.process, now).await?,
        };
        self.last = Some(began);
        self.leaving.retain(|slot| leases.contains_key(slot));
        let mut surplus = Vec::new();
        if self.store.shared() {
            let share = self.store.fair_share(now).await?;
            surplus = leases.keys().skip(share).filter(|slot| !self.leaving.contains(slot)).copied().collect();
            // Those that leave already may lie below the share: no more leave than have to.
            surplus.truncate(leases.len().saturating_sub(share + self.leaving.len()));
        }
        self.leaving.extend(&surplus);
        leases.retain(|slot, _| !self.leaving.contains(slot));
        Ok((leases, surplus))
    }

    /// Nothing of these is on its way any more: others may have them.
    async fn hand_back(&mut self, slots: Vec<u8>) {
        let ours: Vec<u8> = slots.into_iter().filter(|slot| self.leaving.contains(slot)).collect();
        match self.store.hand_back(self.process.id, &ours).await {
            Ok(()) => self.leaving.retain(|slot| !ours.contains(slot)),
            Err(error) => {
                tracing::debug!(%error, "slots are not handed back yet");
                self.unreturned.extend(ours);
            }
        }
    }
}
