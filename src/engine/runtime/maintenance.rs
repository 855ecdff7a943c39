//! Maintenance of the store, in small steps: retention, rollups, failing endpoints, cleanup. One process of the fleet
//! runs it: the owner of the slot [`MAINTENANCE`](crate::store::queue::slots::MAINTENANCE), under the same leases as
//! all slots.
//!
//! * [`MaintenanceKind`] lists the tasks. Each has its own interval and backoff, so a failing task delays no other.
//! * A **turn** runs steps of one task until nothing is left to do, or for a second.
//!
//! Invariant: every step is idempotent and safe to run in two processes at once. This happens when a process is paused
//! for longer than its lease. The lease saves work; correctness does not depend on it.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fleet::FleetWatch;
use super::maintenance_schedule::MaintenanceSchedule;
use crate::domain::Time;
use crate::domain::time::Clock;
use crate::store::partitions::{self, PartitionRange};
use crate::store::{Store, StoreError};
use crate::supervisor::Component;

/// The longest turn of one task before the next task runs.
const TURN: Duration = Duration::from_secs(1);
/// The pause between two steps, so other transactions get through.
const STEP_PAUSE: Duration = Duration::from_millis(20);
/// The longest interval between checks of the lease.
const LEASE_CHECK: Duration = Duration::from_secs(1);
/// The longest interval between checks of failing endpoints, which is a tenth of the time until they are disabled.
const FAILING_CHECK: Duration = Duration::from_secs(30);
/// Maximum deliveries of deleted endpoints canceled in one transaction.
const CANCEL_BATCH: i64 = 500;
/// Maximum rows of other tables deleted in one transaction.
const DELETE_BATCH: i64 = 1_000;
/// The pending-deliveries gauge counts up to this.
const PENDING_COUNT_LIMIT: i64 = 1_000_000;
/// The retention of mails that were sent or given up.
const MAIL_RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// The retention of finished background tasks and invalid API keys.
const HISTORY_RETENTION: Duration = Duration::from_secs(90 * 86_400);
/// The retention of the audit log: 13 months, for yearly reviews. It exceeds that of messages, because the log contains
/// no payloads and is consulted long after they are deleted.
const AUDIT_RETENTION: Duration = Duration::from_secs(400 * 86_400);
/// The time that dead processes stay listed.
const DEAD_PROCESS_RETENTION: Duration = Duration::from_secs(3_600);

/// The maintenance settings.
#[derive(Clone, Copy, Debug)]
pub struct Maintenance {
    /// The retention of messages, deliveries and attempts.
    pub retention: Duration,
    /// The retention of the rows of deleted endpoints and applications.
    pub deleted_retention: Duration,
    /// Endpoints that only fail for this long are disabled.
    pub disable_after: Duration,
    /// Consumers that have not polled for this long are reported.
    pub consumer_silent_after: Duration,
}

/// The maintenance tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaintenanceKind {
    /// Creates partitions ahead of time and drops expired ones.
    Partitions,
    /// Updates the gauges of pending deliveries and outbox rows.
    Backlog,
    /// Updates the gauge of recently dead deliveries.
    Dead,
    /// Cancels pending deliveries of deleted endpoints.
    EndDeleted,
    /// Deletes messages beyond the retention.
    Retention,
    /// Deletes payloads whose own retention has ended.
    Contents,
    /// Compacts old rollups.
    Rollups,
    /// Warns about failing endpoints and finally disables them.
    Failing,
    /// Reports consumers of polling endpoints that have stopped polling.
    SilentConsumers,
    /// Deletes development endpoints whose listener is gone.
    Listeners,
    /// Deletes the rows of deleted endpoints and applications.
    PurgeDeleted,
    /// Deletes secrets that no longer sign.
    Secrets,
    SignIns,
    Idempotency,
    Audit,
    Mails,
    Background,
    ApiKeys,
    Processes,
}

impl MaintenanceKind {
    /// In the order in which they run if all are due.
    pub const ALL: [MaintenanceKind; 19] = [
        MaintenanceKind::Partitions,
        MaintenanceKind::Backlog,
        MaintenanceKind::Dead,
        MaintenanceKind::EndDeleted,
        MaintenanceKind::Retention,
        MaintenanceKind::Contents,
        MaintenanceKind::Rollups,
        MaintenanceKind::Failing,
        MaintenanceKind::SilentConsumers,
        MaintenanceKind::Listeners,
        MaintenanceKind::PurgeDeleted,
        MaintenanceKind::Secrets,
        MaintenanceKind::SignIns,
        MaintenanceKind::Idempotency,
        MaintenanceKind::Audit,
        MaintenanceKind::Mails,
        MaintenanceKind::Background,
        MaintenanceKind::ApiKeys,
        MaintenanceKind::Processes,
    ];

    /// The name in metrics and log lines.
    pub fn name(self) -> &'static str {
        match self {
            MaintenanceKind::Partitions => "partitions",
            MaintenanceKind::Backlog => "backlog",
            MaintenanceKind::Dead => "dead",
            MaintenanceKind::EndDeleted => "end_deleted",
            MaintenanceKind::Retention => "retention",
            MaintenanceKind::Contents => "contents",
            MaintenanceKind::Rollups => "rollups",
            MaintenanceKind::Failing => "failing",
            MaintenanceKind::SilentConsumers => "silent_consumers",
            MaintenanceKind::Listeners => "listeners",
            MaintenanceKind::PurgeDeleted => "purge_deleted",
            MaintenanceKind::Secrets => "secrets",
            MaintenanceKind::SignIns => "sign_ins",
            MaintenanceKind::Idempotency => "idempotency",
            MaintenanceKind::Audit => "audit",
            MaintenanceKind::Mails => "mails",
            MaintenanceKind::Background => "background",
            MaintenanceKind::ApiKeys => "api_keys",
            MaintenanceKind::Processes => "processes",
        }
    }

    /// The interval between turns that leave nothing to do.
    pub fn interval(self, maintenance: &Maintenance) -> Duration {
        match self {
            MaintenanceKind::Partitions => {
                (partitions::width(maintenance.retention) / 8).clamp(Duration::from_secs(5), Duration::from_secs(60))
            }
            MaintenanceKind::EndDeleted => Duration::from_secs(1),
            MaintenanceKind::Backlog
            | MaintenanceKind::Retention
            | MaintenanceKind::Contents
            | MaintenanceKind::Rollups => Duration::from_secs(5),
            MaintenanceKind::Failing => (maintenance.disable_after / 10).clamp(Duration::from_secs(1), FAILING_CHECK),
            MaintenanceKind::Dead => Duration::from_secs(30),
            MaintenanceKind::PurgeDeleted => (maintenance.deleted_retention / 10)
                .min(maintenance.retention / 10)
                .clamp(Duration::from_secs(1), Duration::from_secs(60)),
            MaintenanceKind::SilentConsumers
            | MaintenanceKind::Listeners
            | MaintenanceKind::Secrets
            | MaintenanceKind::SignIns
            | MaintenanceKind::Idempotency
            | MaintenanceKind::Audit
            | MaintenanceKind::Mails
            | MaintenanceKind::Background
            | MaintenanceKind::ApiKeys
            | MaintenanceKind::Processes => Duration::from_secs(60),
        }
    }
}

impl Maintenance {
    /// Runs due tasks while this process has the lease, until `stop` is cancelled.
    pub async fn run(self, store: Store, clock: Clock, fleet: FleetWatch, stop: CancellationToken) {
        store.set_retention(self.retention);
        let mut schedule = MaintenanceSchedule::new(Instant::now());
        let (mut changes, mut held) = (fleet.clone(), false);
        MaintenanceKind::ALL.iter().for_each(|task| succeeded(*task, 0.0));
        while !stop.is_cancelled() {
            Component::Maintenance.panic_point();
            let maintains = fleet.borrow().maintains();
            if held && !maintains {
                reset_gauges();
            }
            held = maintains;
            if let Some(task) = schedule.next(Instant::now()).filter(|_| maintains) {
                let done = self.turn(task, &store, clock, (&fleet, &stop)).await;
                self.finish_turn(&mut schedule, task, done, clock);
                continue;
            }
            let sleep = if maintains { schedule.idle(Instant::now()).min(LEASE_CHECK) } else { LEASE_CHECK };
            tokio::select! {
                _ = tokio::time::sleep(sleep) => {}
                changed = changes.changed(), if !maintains => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = stop.cancelled() => {}
            }
        }
    }

    /// Runs one turn. Returns `true` if there is more to do.
    async fn turn(
        &self,
        task: MaintenanceKind,
        store: &Store,
        clock: Clock,
        (fleet, stop): (&FleetWatch, &CancellationToken),
    ) -> Result<bool, StoreError> {
        let until = Instant::now() + TURN;
        while self.step(task, store, clock.now()).await? {
            if Instant::now() >= until || stop.is_cancelled() || !fleet.borrow().maintains() {
                return Ok(true);
            }
            tokio::time::sleep(STEP_PAUSE).await;
        }
        Ok(false)
    }

    /// Runs one step of bounded size. Returns `true` if there is more to do.
    async fn step(&self, task: MaintenanceKind, store: &Store, now: Time) -> Result<bool, StoreError> {
        let all_rows = |gone: u64| gone >= DELETE_BATCH.unsigned_abs();
        Ok(match task {
            MaintenanceKind::Partitions => {
                if let Some(reach) = store.create_partitions(now).await? {
                    count_partitions(reach);
                }
                store.drop_partitions().await?;
                store.analyze_partitions().await?;
                false
            }
            MaintenanceKind::Backlog => {
                count_backlog(store).await?;
                false
            }
            MaintenanceKind::Dead => {
                metrics::gauge!("sendoff_dead_deliveries").set(store.dead_within_a_day(now).await? as f64);
                false
            }
            MaintenanceKind::EndDeleted => store.cancel_pending_of_deleted(CANCEL_BATCH, now).await? > 0,
            MaintenanceKind::Retention => {
                let gone = store.retain(now.minus(self.retention), now).await?;
                if gone.rows > 0 {
                    tracing::debug!(messages = gone.messages, rows = gone.rows, "expired messages deleted");
                }
                gone.more
            }
            MaintenanceKind::Contents => store.expire_contents(now).await? >= Store::CONTENTS_STEP,
            MaintenanceKind::Rollups => store.compact_rollups(now).await? >= Store::COMPACTION_STEP,
            MaintenanceKind::Failing => self.check_failing(store, now).await?,
            MaintenanceKind::SilentConsumers => {
                store.report_silent_consumers(self.consumer_silent_after, now).await?.more
            }
            MaintenanceKind::Listeners => store.delete_unseen_listeners(now).await?,
            MaintenanceKind::PurgeDeleted => {
                store.purge_deleted(now.minus(self.deleted_retention), now.minus(self.retention), now).await?
            }
            MaintenanceKind::Secrets => all_rows(store.delete_expired_secrets(now, DELETE_BATCH).await?),
            MaintenanceKind::SignIns => {
                store.delete_expired_logins(now).await?;
                false
            }
            MaintenanceKind::Idempotency => all_rows(store.delete_expired_idempotency_keys(now, DELETE_BATCH).await?),
            MaintenanceKind::Audit => {
                all_rows(store.delete_old_audit_entries(now.minus(AUDIT_RETENTION), DELETE_BATCH).await?)
            }
            MaintenanceKind::Mails => all_rows(store.delete_old_mails(now.minus(MAIL_RETENTION), DELETE_BATCH).await?),
            MaintenanceKind::Background => {
                store.delete_old_background(now.minus(HISTORY_RETENTION)).await?;
                false
            }
            MaintenanceKind::ApiKeys => {
                all_rows(store.delete_old_api_keys(now.minus(HISTORY_RETENTION), DELETE_BATCH).await?)
            }
            MaintenanceKind::Processes => {
                store.delete_dead_processes(now.minus(DEAD_PROCESS_RETENTION)).await?;
                false
            }
        })
    }

    async fn check_failing(&self, store: &Store, now: Time) -> Result<bool, StoreError> {
        let judged = store.check_failing_endpoints(self.disable_after, now).await?;
        for (endpoint, warning) in judged.warned {
            tracing::warn!(%endpoint, warning, "every attempt to endpoint {endpoint} fails");
        }
        for endpoint in judged.disabled {
            tracing::warn!(%endpoint, "endpoint {endpoint} was disabled: every attempt failed for too long");
        }
        Ok(judged.more)
    }

    /// Updates the schedule, the metrics and the log after a turn.
    fn finish_turn(
        &self,
        schedule: &mut MaintenanceSchedule,
        task: MaintenanceKind,
        done: Result<bool, StoreError>,
        clock: Clock,
    ) {
        let (now, interval, name) = (Instant::now(), task.interval(self), task.name());
        match done {
            Ok(more) => {
                if schedule.succeeded(task, now + if more { Duration::ZERO } else { interval }) {
                    tracing::info!(task = name, "the maintenance task {name} has recovered");
                }
                succeeded(task, clock.wall().micros() as f64 / 1e6);
            }
            Err(error) => {
                metrics::counter!("sendoff_maintenance_failures_total", "task" => name).increment(1);
                if schedule.failed(task, interval, now) {
                    tracing::warn!(%error, task = name, "the maintenance task {name} failed and will be retried");
                }
            }
        }
    }
}

fn succeeded(task: MaintenanceKind, at: f64) {
    metrics::gauge!("sendoff_maintenance_last_success_timestamp_seconds", "task" => task.name()).set(at);
}

async fn count_backlog(store: &Store) -> Result<(), StoreError> {
    let depth = store.outbox_depth().await?;
    metrics::gauge!("sendoff_outbox_waiting").set(depth.waiting as f64);
    metrics::gauge!("sendoff_outbox_stuck").set(depth.stuck as f64);
    metrics::gauge!("sendoff_pending").set(store.pending_count(PENDING_COUNT_LIMIT).await? as f64);
    Ok(())
}

fn count_partitions(reach: PartitionRange) {
    let seconds = |time: Time| time.micros() as f64 / 1e6;
    metrics::gauge!("sendoff_partitions_oldest_timestamp_seconds").set(seconds(reach.oldest));
    metrics::gauge!("sendoff_partitions_newest_timestamp_seconds").set(seconds(reach.newest));
    metrics::gauge!("sendoff_partitions").set(reach.count as f64);
}

/// Resets the gauges when another process takes over: stale values would look current.
fn reset_gauges() {
    for gauge in [
        "sendoff_outbox_waiting",
        "sendoff_outbox_stuck",
        "sendoff_pending",
        "sendoff_dead_deliveries",
        "sendoff_partitions_oldest_timestamp_seconds",
        "sendoff_partitions_newest_timestamp_seconds",
        "sendoff_partitions",
    ] {
        metrics::gauge!(gauge).set(0.0);
    }
}
