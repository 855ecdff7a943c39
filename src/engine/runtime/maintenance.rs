//! Sweep: what has to be done now and then, in small steps. Retention, deliveries of deleted endpoints, endpoints that do nothing but
//! fail, old counts, SQLite's checkpoints, gauges.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::time::Clock;
use crate::store::{Store, StoreError};
use crate::supervisor::Supervised;

/// How often the sweep comes by.
const ROUND: Duration = Duration::from_secs(1);
/// How many deliveries of a deleted endpoint end in one transaction.
const BURY: i64 = 500;
/// How many idempotency keys are forgotten in one transaction.
const FORGET: i64 = 1_000;
/// Up to how many pending deliveries are counted for the gauge.
const COUNTED: i64 = 1_000_000;

/// How many seconds the wall clock may be off before that is said.
const CLOCK_GAP: f64 = 10.0;

/// How often failing endpoints are judged, in rounds: as often as this, or ten times in the span after which they are disabled.
const JUDGED: u64 = 30;

/// How long mails are kept that were sent or given up.
const MAILED: Duration = Duration::from_secs(30 * 86_400);

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
    pub async fn run(self, store: Store, clock: Clock, mut stop: watch::Receiver<bool>) {
        let mut round = 0u64;
        let mut failing = false;
        while !*stop.borrow() {
            Supervised::Maintenance.panic_point();
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

    async fn round(self, store: &Store, clock: Clock, round: u64) -> Result<(), StoreError> {
        store.tidy().await?;
        self.bury(store, clock).await?;
        if round.is_multiple_of(5) {
            gauges(store).await?;
            self.expire(store, clock).await?;
            self.expire_contents(store, clock).await?;
            self.widen(store, clock).await?;
        }
        if round.is_multiple_of((self.disable_after.as_secs() / 10).clamp(1, JUDGED)) {
            self.judge(store, clock).await?;
        }
        if round.is_multiple_of(30) {
            look_at_the_clock(clock);
            metrics::gauge!("sendoff_dead_deliveries").set(store.dead_within_a_day(clock.now()).await? as f64);
        }
        if round.is_multiple_of(60) {
            store.forget_logins(clock.now()).await?;
            while store.forget_once(clock.now(), FORGET).await? == FORGET as u64 {
                tokio::task::yield_now().await;
            }
            while store.forget_audit(clock.now().minus(AUDITED), FORGET).await? == FORGET as u64 {
                tokio::task::yield_now().await;
            }
            while store.forget_mails(clock.now().minus(MAILED), FORGET).await? == FORGET as u64 {
                tokio::task::yield_now().await;
            }
            store.forget_background(clock.now().minus(REMEMBERED)).await?;
            store.forget_processes(clock.now().minus(Duration::from_secs(3600))).await?;
        }
        Ok(())
    }

    /// Ends what waits for deleted endpoints; leaves the writer to others between the steps.
    async fn bury(self, store: &Store, clock: Clock) -> Result<(), StoreError> {
        let until = Instant::now() + ROUND;
        while Instant::now() < until && store.cancel_pending_of_deleted(BURY, clock.now()).await? > 0 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn expire(self, store: &Store, clock: Clock) -> Result<(), StoreError> {
        let cutoff = clock.now().minus(self.retention);
        let until = Instant::now() + ROUND;
        let mut gone = 0;
        loop {
            let step = store.expire(cutoff, clock.now()).await?;
            gone += step.messages;
            if !step.more || Instant::now() >= until {
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
    async fn expire_contents(self, store: &Store, clock: Clock) -> Result<(), StoreError> {
        let until = Instant::now() + ROUND;
        while store.expire_contents(clock.now()).await? >= Store::CONTENTS_STEP && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Moves old counts to where they take less room.
    async fn widen(self, store: &Store, clock: Clock) -> Result<(), StoreError> {
        let until = Instant::now() + ROUND;
        while store.widen_counts(clock.now()).await? >= Store::WIDEN_STEP && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Warns of endpoints that do nothing but fail, and disables them in the end.
    async fn judge(self, store: &Store, clock: Clock) -> Result<(), StoreError> {
        loop {
            let judged = store.judge_failing(self.disable_after, clock.now()).await?;
            for (endpoint, warning) in judged.warned {
                tracing::warn!(%endpoint, warning, "endpoint {endpoint} does nothing but fail");
            }
            for endpoint in judged.disabled {
                tracing::warn!(%endpoint, "endpoint {endpoint} is disabled: it did nothing but fail for too long");
            }
            if !judged.more {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Says when the wall clock was set: times are off by as much until it is made good.
fn look_at_the_clock(clock: Clock) {
    let gap = clock.gap();
    metrics::gauge!("sendoff_clock_gap_seconds").set(gap);
    if gap.abs() > CLOCK_GAP {
        tracing::warn!(
            "the machine's clock is {gap:.0} s ahead of ours: it was set while we ran. Ours goes on as before and follows by a tenth of \
             what passes; after a restart it is the machine's"
        );
    }
}

async fn gauges(store: &Store) -> Result<(), StoreError> {
    let depth = store.outbox_depth().await?;
    metrics::gauge!("sendoff_outbox_waiting").set(depth.waiting as f64);
    metrics::gauge!("sendoff_outbox_stuck").set(depth.stuck as f64);
    metrics::gauge!("sendoff_pending").set(store.pending_count(COUNTED).await? as f64);
    Ok(())
}
