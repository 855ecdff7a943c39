//! Maintenance of the whole store: what one process of a fleet does now and then, in small steps. It is the one that owns the slot
//! [`MAINTENANCE`](crate::store::queue::slots::MAINTENANCE), under the lease, the clock and the epochs of all slots.
//!
//! * [`Upkeep`] is the closed list of tasks. Each has its own interval and its own backoff: one that fails holds up no other.
//! * A **turn** is what a task does at a time: steps until there is no more to do, or for a second.
//!
//! Every step may run in two processes at once and is repeated without harm, as it is when a process stops in the middle of one for longer than
//! its lease. The lease saves work; correctness does not depend on it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::agenda::Agenda;
use super::fleet::Seen;
use crate::domain::Time;
use crate::domain::time::Clock;
use crate::store::partitions::{self, Reach};
use crate::store::{Store, StoreError};
use crate::supervisor::Supervised;

/// How long a task may go on before the next one has its turn.
const TURN: Duration = Duration::from_secs(1);
/// The store is left to others between two steps.
const BREATH: Duration = Duration::from_millis(20);
/// How often a process without the lease looks whether it has it now, beside being told.
const LOOK: Duration = Duration::from_secs(1);
/// How often endpoints that only fail are judged: as often as this, or ten times in the span after which they are disabled.
const JUDGED: Duration = Duration::from_secs(30);
/// How many deliveries of a deleted endpoint end in one transaction.
const CANCELED: i64 = 500;
/// How many rows of other tables are removed in one transaction.
const ROWS: i64 = 1_000;
/// Up to how many pending deliveries are counted for the gauge.
const COUNTED: i64 = 1_000_000;
/// How long mails are kept that were sent or given up.
const MAILED: Duration = Duration::from_secs(30 * 86_400);
/// How long background work that has ended, and API keys that are no longer good, can be looked at.
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);
/// How long the audit log is kept: a year and a month, so that a yearly look finds all of it. Apart from the messages' retention: who did
/// what is asked long after the payloads have gone, and none of them is in it.
const AUDITED: Duration = Duration::from_secs(400 * 86_400);
/// How long a process that died is listed.
const DIED: Duration = Duration::from_secs(3_600);

/// What the maintenance goes by.
#[derive(Clone, Copy, Debug)]
pub struct Maintenance {
    /// How long messages, deliveries and attempts are kept.
    pub retention: Duration,
    /// How long the rows of deleted endpoints and applications are kept whole.
    pub deleted_retention: Duration,
    /// Endpoints that only fail for this long are disabled.
    pub disable_after: Duration,
}

/// The tasks, by what each looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Makes partitions ahead of time, and drops those that are past.
    Partitions,
    /// Counts what waits, for the gauges.
    Backlog,
    /// Counts what died within a day, for its gauge.
    Dead,
    /// Ends pending deliveries of deleted endpoints.
    EndDeleted,
    /// Deletes messages past the retention.
    Retention,
    /// Deletes contents that were to be kept no longer.
    Contents,
    /// Moves old counts to where they take less room.
    Rollups,
    /// Warns of endpoints that only fail, and disables them in the end.
    Failing,
    /// Removes deleted endpoints and applications for good.
    PurgeDeleted,
    /// Removes secrets that no longer sign.
    Secrets,
    SignIns,
    Idempotency,
    Audit,
    Mails,
    Background,
    ApiKeys,
    Processes,
}

impl Upkeep {
    /// In the order in which they run when all are due.
    pub const ALL: [Upkeep; 17] = [
        Upkeep::Partitions,
        Upkeep::Backlog,
        Upkeep::Dead,
        Upkeep::EndDeleted,
        Upkeep::Retention,
        Upkeep::Contents,
        Upkeep::Rollups,
        Upkeep::Failing,
        Upkeep::PurgeDeleted,
        Upkeep::Secrets,
        Upkeep::SignIns,
        Upkeep::Idempotency,
        Upkeep::Audit,
        Upkeep::Mails,
        Upkeep::Background,
        Upkeep::ApiKeys,
        Upkeep::Processes,
    ];

    /// Its name in metrics and log lines.
    pub fn name(self) -> &'static str {
        match self {
            Upkeep::Partitions => "partitions",
            Upkeep::Backlog => "backlog",
            Upkeep::Dead => "dead",
            Upkeep::EndDeleted => "end_deleted",
            Upkeep::Retention => "retention",
            Upkeep::Contents => "contents",
            Upkeep::Rollups => "rollups",
            Upkeep::Failing => "failing",
            Upkeep::PurgeDeleted => "purge_deleted",
            Upkeep::Secrets => "secrets",
            Upkeep::SignIns => "sign_ins",
            Upkeep::Idempotency => "idempotency",
            Upkeep::Audit => "audit",
            Upkeep::Mails => "mails",
            Upkeep::Background => "background",
            Upkeep::ApiKeys => "api_keys",
            Upkeep::Processes => "processes",
        }
    }

    /// How often it has a turn when there is nothing more to do.
    pub fn interval(self, maintenance: &Maintenance) -> Duration {
        match self {
            Upkeep::Partitions => {
                (partitions::width(maintenance.retention) / 8).clamp(Duration::from_secs(5), Duration::from_secs(60))
            }
            Upkeep::EndDeleted => Duration::from_secs(1),
            Upkeep::Backlog | Upkeep::Retention | Upkeep::Contents | Upkeep::Rollups => Duration::from_secs(5),
            Upkeep::Failing => (maintenance.disable_after / 10).clamp(Duration::from_secs(1), JUDGED),
            Upkeep::Dead => Duration::from_secs(30),
            Upkeep::PurgeDeleted => (maintenance.deleted_retention / 10)
                .min(maintenance.retention / 10)
                .clamp(Duration::from_secs(1), Duration::from_secs(60)),
            Upkeep::Secrets
            | Upkeep::SignIns
            | Upkeep::Idempotency
            | Upkeep::Audit
            | Upkeep::Mails
            | Upkeep::Background
            | Upkeep::ApiKeys
            | Upkeep::Processes => Duration::from_secs(60),
        }
    }
}

impl Maintenance {
    /// Does what is due, whenever this process has the lease, until `stop` turns true.
    pub async fn run(self, store: Store, clock: Clock, fleet: Seen, mut stop: watch::Receiver<bool>) {
        store.keep_for(self.retention);
        let mut agenda = Agenda::new(Instant::now());
        let (mut told, mut held) = (fleet.clone(), false);
        Upkeep::ALL.iter().for_each(|task| succeeded(*task, 0.0));
        while !*stop.borrow() {
            Supervised::Maintenance.panic_point();
            let maintains = fleet.borrow().maintains();
            if held && !maintains {
                another_counts();
            }
            held = maintains;
            if let Some(task) = agenda.next(Instant::now()).filter(|_| maintains) {
                let done = self.turn(task, &store, clock, (&fleet, &stop)).await;
                self.settle(&mut agenda, task, done, clock);
                continue;
            }
            let nap = if maintains { agenda.idle(Instant::now()).min(LOOK) } else { LOOK };
            tokio::select! {
                _ = tokio::time::sleep(nap) => {}
                changed = told.changed(), if !maintains => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = stop.changed() => {}
            }
        }
    }

    /// One turn; `true`: there is more to do.
    async fn turn(
        &self,
        task: Upkeep,
        store: &Store,
        clock: Clock,
        (fleet, stop): (&Seen, &watch::Receiver<bool>),
    ) -> Result<bool, StoreError> {
        let until = Instant::now() + TURN;
        while self.step(task, store, clock.now()).await? {
            if Instant::now() >= until || *stop.borrow() || !fleet.borrow().maintains() {
                return Ok(true);
            }
            tokio::time::sleep(BREATH).await;
        }
        Ok(false)
    }

    /// A bounded amount of work; `true`: there is more to do.
    async fn step(&self, task: Upkeep, store: &Store, now: Time) -> Result<bool, StoreError> {
        let all_rows = |gone: u64| gone >= ROWS.unsigned_abs();
        Ok(match task {
            Upkeep::Partitions => {
                if let Some(reach) = store.make_partitions(now).await? {
                    count_partitions(reach);
                }
                store.drop_partitions().await?;
                store.analyze_partitions().await?;
                false
            }
            Upkeep::Backlog => {
                count_backlog(store).await?;
                false
            }
            Upkeep::Dead => {
                metrics::gauge!("sendoff_dead_deliveries").set(store.dead_within_a_day(now).await? as f64);
                false
            }
            Upkeep::EndDeleted => store.cancel_pending_of_deleted(CANCELED, now).await? > 0,
            Upkeep::Retention => {
                let gone = store.retain(now.minus(self.retention), now).await?;
                if gone.rows > 0 {
                    tracing::debug!(messages = gone.messages, rows = gone.rows, "past the retention");
                }
                gone.more
            }
            Upkeep::Contents => store.expire_contents(now).await? >= Store::CONTENTS_STEP,
            Upkeep::Rollups => store.widen_counts(now).await? >= Store::WIDEN_STEP,
            Upkeep::Failing => self.judge(store, now).await?,
            Upkeep::PurgeDeleted => {
                store.purge_deleted(now.minus(self.deleted_retention), now.minus(self.retention), now).await?
            }
            Upkeep::Secrets => all_rows(store.forget_secrets(now, ROWS).await?),
            Upkeep::SignIns => {
                store.forget_logins(now).await?;
                false
            }
            Upkeep::Idempotency => all_rows(store.forget_once(now, ROWS).await?),
            Upkeep::Audit => all_rows(store.forget_audit(now.minus(AUDITED), ROWS).await?),
            Upkeep::Mails => all_rows(store.forget_mails(now.minus(MAILED), ROWS).await?),
            Upkeep::Background => {
                store.forget_background(now.minus(REMEMBERED)).await?;
                false
            }
            Upkeep::ApiKeys => all_rows(store.forget_api_keys(now.minus(REMEMBERED), ROWS).await?),
            Upkeep::Processes => {
                store.forget_processes(now.minus(DIED)).await?;
                false
            }
        })
    }

    async fn judge(&self, store: &Store, now: Time) -> Result<bool, StoreError> {
        let judged = store.judge_failing(self.disable_after, now).await?;
        for (endpoint, warning) in judged.warned {
            tracing::warn!(%endpoint, warning, "endpoint {endpoint} does nothing but fail");
        }
        for endpoint in judged.disabled {
            tracing::warn!(%endpoint, "endpoint {endpoint} is disabled: it did nothing but fail for too long");
        }
        Ok(judged.more)
    }

    /// Notes what a turn came to, in the agenda, the metrics and the log.
    fn settle(&self, agenda: &mut Agenda, task: Upkeep, done: Result<bool, StoreError>, clock: Clock) {
        let (now, interval, name) = (Instant::now(), task.interval(self), task.name());
        match done {
            Ok(more) => {
                if agenda.succeeded(task, now + if more { Duration::ZERO } else { interval }) {
                    tracing::info!(task = name, "the maintenance task {name} succeeds again");
                }
                succeeded(task, clock.wall().micros() as f64 / 1e6);
            }
            Err(error) => {
                metrics::counter!("sendoff_maintenance_failures_total", "task" => name).increment(1);
                if agenda.failed(task, interval, now) {
                    tracing::warn!(%error, task = name, "the maintenance task {name} failed, and is tried again until it succeeds");
                }
            }
        }
    }
}

fn succeeded(task: Upkeep, at: f64) {
    metrics::gauge!("sendoff_maintenance_last_success_timestamp_seconds", "task" => task.name()).set(at);
}

async fn count_backlog(store: &Store) -> Result<(), StoreError> {
    let depth = store.outbox_depth().await?;
    metrics::gauge!("sendoff_outbox_waiting").set(depth.waiting as f64);
    metrics::gauge!("sendoff_outbox_stuck").set(depth.stuck as f64);
    metrics::gauge!("sendoff_pending").set(store.pending_count(COUNTED).await? as f64);
    Ok(())
}

fn count_partitions(reach: Reach) {
    let seconds = |time: Time| time.micros() as f64 / 1e6;
    metrics::gauge!("sendoff_partitions_oldest_timestamp_seconds").set(seconds(reach.oldest));
    metrics::gauge!("sendoff_partitions_newest_timestamp_seconds").set(seconds(reach.newest));
    metrics::gauge!("sendoff_partitions").set(reach.count as f64);
}

/// Another process counts now: what this one counted last would look as if it were still so.
fn another_counts() {
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
