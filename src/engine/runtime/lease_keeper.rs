//! Keeps this process's leases. A heartbeat every few seconds renews them, takes free slots, and gives up those
//! beyond a fair share. The decisions are in [`lease_policy`](crate::engine::core::lease_policy).

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::clocks::Clocks;
use super::fleet::Fleet;
use crate::engine::LoopInput;
use crate::engine::core::lease_policy::{HEARTBEAT_SOON, HeartbeatMode, HeartbeatOutcome, LeasePolicy};
use crate::store::queue::slots::{EngineProcess, MAINTENANCE, Rank};
use crate::store::{Store, StoreError};
use crate::supervisor::{Component, Pulse};

/// The phase of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Running,
    /// Keeps slots with attempts in flight, returns the others, takes none.
    Draining,
    Stopped,
}

/// Sends heartbeats until `phase` is `Stopped`, and an early one when slots were `freed`. Reports leases to the core
/// through `events` and the fleet's size through `fleet`. Every heartbeat that reaches the store is reported to
/// `pulse`.
pub async fn run(
    mut keeper: LeaseKeeper,
    events: mpsc::UnboundedSender<LoopInput>,
    fleet: watch::Sender<Fleet>,
    freed: Arc<Notify>,
    mut phase: watch::Receiver<Phase>,
    pulse: Pulse,
) {
    let (released, mut quiet) = mpsc::unbounded_channel();
    while *phase.borrow_and_update() != Phase::Stopped {
        if *phase.borrow() == Phase::Draining {
            keeper.policy.depart();
        }
        let began = Instant::now();
        Component::LeaseKeeper.panic_point();
        match keeper.heartbeat(began).await {
            Ok((outcome, rank)) => {
                pulse.beat(began.into_std());
                let until = began + outcome.until.saturating_sub(keeper.clocks.mono(began));
                let maintains_until = outcome.leases.contains_key(&MAINTENANCE).then_some(until);
                fleet.send_replace(Fleet { rank, maintains_until });
                let sent = events.send(LoopInput::Leases(outcome.leases, until));
                if sent.is_err() || events.send(LoopInput::Release(outcome.surplus, released.clone())).is_err() {
                    return;
                }
            }
            Err(error) => {
                if keeper.policy.failed(keeper.clocks.mono(began)) {
                    tracing::warn!(%error, "heartbeats do not reach the store; sending stops when the leases expire");
                }
            }
        }
        let mut next = Instant::now() + keeper.policy.pause(began.elapsed());
        loop {
            let again = keeper.policy.return_retry();
            tokio::select! {
                _ = tokio::time::sleep_until(next) => break,
                _ = phase.changed() => break,
                // Slots are returned one by one. Waiting briefly takes several at once.
                _ = freed.notified() => next = next.min((began + HEARTBEAT_SOON).max(Instant::now())),
                Some(slots) = quiet.recv() => keeper.release_slots(slots).await,
                _ = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => {
                    let slots = keeper.policy.take_unreturned();
                    keeper.release_slots(slots).await;
                }
            }
        }
    }
}

/// The state of the heartbeats.
pub struct LeaseKeeper {
    store: Store,
    process: EngineProcess,
    clocks: Clocks,
    policy: LeasePolicy,
}

impl LeaseKeeper {
    pub fn new(store: Store, process: EngineProcess, clocks: Clocks) -> LeaseKeeper {
        LeaseKeeper { store, process, clocks, policy: LeasePolicy::default() }
    }

    async fn heartbeat(&mut self, began: Instant) -> Result<(HeartbeatOutcome, Rank), StoreError> {
        let began = self.clocks.mono(began);
        let now = self.clocks.read().time;
        let heartbeat = match self.policy.mode(began) {
            HeartbeatMode::Taking => self.store.heartbeat(&self.process, now).await?,
            HeartbeatMode::Sparing => self.store.heartbeat_after_outage(&self.process, now).await?,
            HeartbeatMode::Leaving => self.store.final_heartbeat(&self.process, now).await?,
        };
        let share = self.store.shared().then(|| heartbeat.rank.share());
        Ok((self.policy.succeeded(began, heartbeat.leases, share), heartbeat.rank))
    }

    /// Returns quiet slots to the store.
    async fn release_slots(&mut self, slots: Vec<u8>) {
        let ours = self.policy.returnable(slots);
        let done = self.store.release_slots(self.process.id, &ours).await;
        if let Err(error) = &done {
            tracing::debug!(%error, "returning slots failed and will be retried");
        }
        self.policy.returned(ours, done.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::domain::Time;
    use crate::domain::time::Clock;
    use crate::store::StoreOptions;
    use crate::store::queue::slots::LEASE;
    use crate::supervisor::Supervisor;

    /// The time until which the leases of the next heartbeat may be relied on.
    async fn until(heard: &mut mpsc::UnboundedReceiver<LoopInput>) -> Instant {
        loop {
            match tokio::time::timeout(Duration::from_secs(20), heard.recv()).await.expect("a heartbeat").expect("one")
            {
                LoopInput::Leases(_, until) => return until,
                _ => continue,
            }
        }
    }

    #[tokio::test]
    async fn freed_slots_do_not_wait_for_the_next_heartbeat() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::in_folder(&folder)).await.unwrap();
        store.migrate().await.unwrap();
        let process = EngineProcess { id: Uuid::from_u128(1), name: "here".into(), started_at: Time::ZERO };
        let (events, mut heard) = mpsc::unbounded_channel();
        let (phase, phases) = watch::channel(Phase::Running);
        let freed = Arc::new(Notify::new());
        let pulse = Supervisor::default().pulse(Component::LeaseKeeper, LEASE, Instant::now().into_std());
        let keeper = LeaseKeeper::new(store, process, Clocks::start(Clock));
        let (fleet, seen) = watch::channel(Fleet::default());
        let beating = tokio::spawn(run(keeper, events, fleet, Arc::clone(&freed), phases, pulse));

        let first = until(&mut heard).await;
        assert_eq!(*seen.borrow(), Fleet { rank: Rank::ALONE, maintains_until: Some(first) });
        freed.notify_one();
        let second = until(&mut heard).await;
        let apart = second - first;
        assert!(apart >= HEARTBEAT_SOON && apart < Duration::from_secs(2), "{apart:?} apart");
        phase.send_replace(Phase::Stopped);
        beating.await.unwrap();
    }
}
