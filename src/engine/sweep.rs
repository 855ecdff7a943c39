//! Sweep: what has to be done now and then, in small steps. Retention, deliveries of deleted endpoints, endpoints that do nothing but
//! fail, old counts, SQLite's checkpoints, gauges.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::steady::SteadyClock;
use crate::store::{Store, StoreError};

/// How often the sweep comes by.
const ROUND: Duration = Duration::from_secs(1);
/// How many deliveries of a deleted endpoint end in one transaction.
const BURY: i64 = 500;
/// How many idempotency keys are forgotten in one transaction.
const FORGET: i64 = 1_000;
/// Up to how many pending deliveries are counted for the gauge.
const COUNTED: i64 = 1_000_000;

/// How long background work that has ended can be looked at.
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);

/// How long the audit log is kept: a year and a month, so that a yearly look finds all of it. Apart from the messages' retention: who did
/// what is asked long after the payloads have gone, and none of them is in it.
const AUDITED: Duration = Duration::from_secs(400 * 86_400);

/// What the sweep goes by.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    pub retention: Duration,
    pub disable_after: Duration,
}

impl Sweep {
    /// Sweeps until `stop` turns true.
    pub async fn run(self, store: Store, clock: SteadyClock, mut stop: watch::Receiver<bool>) {
        let mut round = 0u64;
        let mut failing = false;
        while !*stop.borrow() {
            let done = self.round(&store, clock, round).await;
            if let (Err(error), false) = (&done, failing) {
                tracing::warn!(%error, "the sweep waits for the store");
            }
            failing = done.is_err();
            round += 1;
            tokio::select! {
                _ = tokio::time::sleep(ROUND) => {}
                _ = stop.changed() => {}
            }
        }
    }

    async fn round(self, store: &Store, clock: SteadyClock, round: u64) -> Result<(), StoreError> {
        store.tidy().await?;
        self.bury(store, clock).await?;
        if round.is_multiple_of(5) {
            gauges(store).await?;
            self.expire(store, clock).await?;
            self.expire_contents(store, clock).await?;
            self.widen(store, clock).await?;
        }
        if round.is_multiple_of(30) {
            self.disable(store, clock).await?;
        }
        if round.is_multiple_of(60) {
            store.forget_logins(clock.for_age()).await?;
            while store.forget_once(clock.for_age(), FORGET).await? == FORGET as u64 {
                tokio::task::yield_now().await;
            }
            while store.forget_audit(clock.for_age().minus(AUDITED), FORGET).await? == FORGET as u64 {
                tokio::task::yield_now().await;
            }
            store.forget_background(clock.for_age().minus(REMEMBERED)).await?;
            store.forget_processes(clock.for_age().minus(Duration::from_secs(3600))).await?;
        }
        Ok(())
    }

    /// Ends what waits for deleted endpoints; leaves the writer to others between the steps.
    async fn bury(self, store: &Store, clock: SteadyClock) -> Result<(), StoreError> {
        let until = Instant::now() + ROUND;
        while Instant::now() < until && store.bury_deleted(BURY, clock.for_age()).await? > 0 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn expire(self, store: &Store, clock: SteadyClock) -> Result<(), StoreError> {
        let cutoff = clock.for_age().minus(self.retention);
        let until = Instant::now() + ROUND;
        let mut gone = 0;
        loop {
            let step = store.expire(cutoff).await?;
            gone += step;
            if step < Store::EXPIRE_STEP || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if gone > 0 {
            tracing::debug!(messages = gone, "past the retention");
        }
        Ok(())
    }

    /// Deletes contents that were to be kept no longer.
    async fn expire_contents(self, store: &Store, clock: SteadyClock) -> Result<(), StoreError> {
        let until = Instant::now() + ROUND;
        while store.expire_contents(clock.for_age()).await? >= Store::CONTENTS_STEP && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Moves old counts to where they take less room.
    async fn widen(self, store: &Store, clock: SteadyClock) -> Result<(), StoreError> {
        let until = Instant::now() + ROUND;
        while store.widen_counts(clock.for_age()).await? >= Store::WIDEN_STEP && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn disable(self, store: &Store, clock: SteadyClock) -> Result<(), StoreError> {
        let now = clock.for_age();
        for endpoint in store.disable_failing(now.minus(self.disable_after), now).await? {
            tracing::warn!(%endpoint, "endpoint {endpoint} is disabled: it did nothing but fail for too long");
        }
        Ok(())
    }
}

async fn gauges(store: &Store) -> Result<(), StoreError> {
    let depth = store.outbox_depth().await?;
    metrics::gauge!("sendoff_outbox_waiting").set(depth.waiting as f64);
    metrics::gauge!("sendoff_outbox_stuck").set(depth.stuck as f64);
    metrics::gauge!("sendoff_pending").set(store.pending_count(COUNTED).await? as f64);
    Ok(())
}
