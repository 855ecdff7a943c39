//! Leases and steps of background tasks.
//!
//! * A [`TaskLease`] is a lease of a task. One process at a time advances the task, and releases it after a while so
//!   long tasks do not delay short ones. An unreleased lease expires.
//! * A **step** is one bounded transaction that does a little work and records its progress. A crash repeats nothing.

use std::time::Duration;

use crate::crash;
use crate::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use crate::domain::{AppId, BackgroundId, EndpointId, OrgId, Time};
use crate::store::db::{codec, skip_locked};
use crate::store::jobs::background::kind;
use crate::store::jobs::endpoint_cursor::{ScopedEndpoint, TaskPosition};
use crate::store::jobs::replay::{EndpointStep, ReplayBudget};
use crate::store::jobs::resent_deliveries;
use crate::store::jobs::task_data::TaskData;
use crate::store::queue::signals::Signal;
use crate::store::{Store, StoreError, Tx, on, read_vital};

/// The duration of a lease. Each step renews it.
const LEASE: Duration = Duration::from_secs(10);
/// Maximum endpoints per step. Most have nothing to resend.
const ENDPOINTS: usize = 50;

/// A lease of a background task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLease {
    pub id: BackgroundId,
    until: Time,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// There is more to do; the lease was renewed.
    More(TaskLease),
    /// The task has ended.
    Ended(TaskStage),
    /// The lease has expired or another process has it, or the task was deleted.
    Lost,
}

impl Store {
    /// Leases the task that has waited longest; `None`: there is none, or others have the leases.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn lease_background(&self, now: Time) -> Result<Option<TaskLease>, StoreError> {
        self.retry_conflicts(|| async {
            // Usually there is none; a read avoids blocking the writer.
            const ANY: &str = "SELECT 1 FROM background WHERE state = 'running' LIMIT 1";
            let any: Option<i32> = read_vital!(self, db => sqlx::query_scalar(ANY).fetch_optional(db).await)?;
            if any.is_none() {
                return Ok(None);
            }
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let (until, longest) = (clock.plus(LEASE), clock.plus(LEASE * 2));
            // A lease with an end beyond that of a new lease was granted before the clock was set back.
            const NEXT: &str =
                "SELECT id FROM background WHERE state = 'running' AND (leased_until <= $1 OR leased_until > $2)
             ORDER BY leased_until, id LIMIT 1";
            const TAKE: &str = "UPDATE background SET leased_until = $2 WHERE id = $1";
            let next = skip_locked::next_unlocked(&mut tx, NEXT, [clock, longest]).await?;
            let Some(id) = next.map(BackgroundId) else { return Ok(None) };
            on!(tx, db => sqlx::query(TAKE).bind(id).bind(until).execute(db).await.map(drop))?;
            tx.commit_of(&[crash::CrashPoint::Lease]).await?;
            Ok(Some(TaskLease { id, until }))
        })
        .await
    }

    /// Releases a lease; the task queues behind all others.
    ///
    /// # Errors
    /// The store is unavailable. The lease expires by itself.
    pub async fn release_background(&self, turn: TaskLease, now: Time) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str = "UPDATE background SET leased_until = $3 WHERE id = $1 AND leased_until = $2";
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            on!(tx, db => sqlx::query(SQL).bind(turn.id).bind(turn.until).bind(clock).execute(db).await.map(drop))?;
            tx.commit().await
        })
        .await
    }

    /// Runs one step of a leased task and renews the lease, in one transaction.
    ///
    /// # Errors
    /// The store is unavailable, or the stored task is damaged. Nothing was changed.
    pub async fn step_background(&self, turn: TaskLease, now: Time) -> Result<StepResult, StoreError> {
        if let Some(work) = self.list_resend_task(turn.id).await? {
            return self.step_list_resend(turn, &work, now).await;
        }
        if let Some(task) = self.reconcile_task(turn.id).await? {
            return self.step_reconcile(turn, &task, now).await;
        }
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let (next, row) = renew(&mut tx, turn, now).await?;
            let Some(RenewedTask { org, app, kind: word, mut data }) = row else {
                return ended(&mut tx, turn.id).await;
            };
            let work = StepTask { id: turn.id, org, kind: kind(&word)?, scope: data.scope(app)?, now };
            let (stage, woken) = self.step(&mut tx, &work, &mut data).await?;
            self.end_step(tx, next, (&data, stage), woken, now).await
        })
        .await
    }

    /// Records a step's progress, commits it, and wakes the endpoints with new deliveries.
    pub(super) async fn end_step(
        &self,
        mut tx: Tx,
        next: TaskLease,
        (data, stage): (&TaskData, TaskStage),
        woken: Vec<EndpointId>,
        now: Time,
    ) -> Result<StepResult, StoreError> {
        const NOTE: &str = "UPDATE background SET data = $2, state = $3, updated_at = $4 WHERE id = $1";
        let text = codec::json(data)?;
        on!(tx, db => {
            sqlx::query(NOTE).bind(next.id).bind(text).bind(stage.word()).bind(now).execute(db).await.map(drop)
        })?;
        tx.commit_of(&[crash::CrashPoint::Background]).await?;
        if !woken.is_empty() {
            self.inner.signals.send(Signal::Look(woken));
        }
        Ok(if stage == TaskStage::Running { StepResult::More(next) } else { StepResult::Ended(stage) })
    }

    /// Continues at the position in `data`, from endpoint to endpoint, until the step is full or the task is complete.
    /// Returns the stage and the endpoints with new deliveries.
    async fn step(
        &self,
        tx: &mut Tx,
        work: &StepTask,
        data: &mut TaskData,
    ) -> Result<(TaskStage, Vec<EndpointId>), StoreError> {
        let (filter, mut room, mut woken) = (data.filter(), ReplayBudget::STEP, Vec::new());
        let mut place = data.position(work.scope)?;
        for _ in 0..ENDPOINTS {
            let Some((reached, at)) = self.current_endpoint(tx, work, place).await? else {
                if let TaskScope::Endpoint(..) = work.scope {
                    data.reason = Some("the endpoint was deleted".to_owned());
                    return Ok((TaskStage::Failed, woken));
                }
                return Ok((TaskStage::Finished, woken));
            };
            let step = EndpointStep {
                org: &work.org,
                app: at.app,
                endpoint: &reached.endpoint,
                slot: reached.slot,
                filter: &filter,
                room,
                now: work.now,
            };
            let done = match work.kind {
                TaskKind::Recover | TaskKind::BulkReplay => step.requeue_sent(tx, at.message).await?,
                TaskKind::ReplayMissing => step.queue_missing(tx, at.message).await?,
                // Without the ids, everything would be resent.
                TaskKind::Reconcile => {
                    return Err(StoreError::Damaged("a reconciliation without received ids".into()));
                }
            };
            resent_deliveries::record(tx, work.id, reached.endpoint.id, &done.sent, data.sent).await?;
            data.looked += done.looked as i64;
            data.sent += done.sent.len() as i64;
            if !done.sent.is_empty() {
                woken.push(reached.endpoint.id);
            }
            let here = TaskPosition { message: done.last.map_or(at.message, |last| last.0), ..at };
            data.set_position(here);
            room = room.after(&done);
            if done.more {
                return Ok((TaskStage::Running, woken));
            }
            if let TaskScope::Endpoint(..) = work.scope {
                return Ok((TaskStage::Finished, woken));
            }
            // This endpoint is complete.
            let through = TaskPosition { message: uuid::Uuid::max(), ..here };
            data.set_position(through);
            place = Some(through);
            if room.is_full() {
                break;
            }
        }
        Ok((TaskStage::Running, woken))
    }

    /// The current or next endpoint, and the position there. `None`: no more endpoints.
    async fn current_endpoint(
        &self,
        tx: &mut Tx,
        work: &StepTask,
        place: Option<TaskPosition>,
    ) -> Result<Option<(ScopedEndpoint, TaskPosition)>, StoreError> {
        if let Some(at) = place.filter(|at| !at.message.is_max()) {
            match self.endpoint_in(tx, at.app, at.endpoint).await? {
                Some(reached) => return Ok(Some((reached, at))),
                None if matches!(work.scope, TaskScope::Endpoint(..)) => return Ok(None),
                None => {}
            }
        }
        let from = place.unwrap_or_else(TaskPosition::beginning);
        let next = self.endpoint_after(tx, &work.org, work.scope, from).await?;
        Ok(next.map(|reached| {
            let at = TaskPosition::before(&reached.endpoint);
            (reached, at)
        }))
    }
}

struct StepTask {
    id: BackgroundId,
    org: OrgId,
    kind: TaskKind,
    scope: TaskScope,
    now: Time,
}

/// A task whose lease was renewed.
pub(super) struct RenewedTask {
    org: OrgId,
    app: Option<AppId>,
    kind: String,
    pub data: TaskData,
}

/// Renews the lease, which on PostgreSQL also blocks other steps and cancels until the commit. `None`: the lease was
/// lost.
pub(super) async fn renew(
    tx: &mut Tx,
    turn: TaskLease,
    now: Time,
) -> Result<(TaskLease, Option<RenewedTask>), StoreError> {
    const RENEW: &str = "UPDATE background SET leased_until = $3
     WHERE id = $1 AND leased_until = $2 AND state = 'running' RETURNING org, app_id, kind, data";
    let clock = Store::lease_clock(tx, now).await?;
    let next = TaskLease { id: turn.id, until: clock.plus(LEASE) };
    let row: Option<(OrgId, Option<AppId>, String, String)> = on!(tx, db => {
        sqlx::query_as(RENEW).bind(turn.id).bind(turn.until).bind(next.until).fetch_optional(db).await
    })?;
    let renewed = |(org, app, kind, data): (OrgId, Option<AppId>, String, String)| {
        Ok::<_, StoreError>(RenewedTask { org, app, kind, data: codec::from_json(&data)? })
    };
    Ok((next, row.map(renewed).transpose()?))
}

/// The reason a lease could not be renewed.
pub(super) async fn ended(tx: &mut Tx, id: BackgroundId) -> Result<StepResult, StoreError> {
    const SQL: &str = "SELECT 1 FROM background WHERE id = $1 AND state = 'canceled'";
    let canceled: Option<i32> = on!(tx, db => sqlx::query_scalar(SQL).bind(id).fetch_optional(db).await)?;
    Ok(canceled.map_or(StepResult::Lost, |_| StepResult::Ended(TaskStage::Canceled)))
}
