//! Resending the messages that a receiver is missing. A step first finds missing messages, then queues their deliveries
//! in a short transaction. Deliveries that changed in between are left alone.

use crate::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use crate::domain::{AppId, BackgroundId, EndpointId, MessageId, OrgId, Time};
use crate::store::db::codec;
use crate::store::jobs::job_lease::{RenewedTask, StepResult, TaskLease, ended, renew};
use crate::store::jobs::missing_scan::MissingScan;
use crate::store::jobs::reconcile::{ReceivedMessageIds, ReconcileSpec};
use crate::store::jobs::replay::{EndpointStep, ReplayBudget};
use crate::store::jobs::resent_deliveries;
use crate::store::jobs::task_data::TaskData;
use crate::store::query::endpoint_messages::{EndpointDeliveryRow, EndpointMessageFilter};
use crate::store::{Store, StoreError, Tx, on, read};

/// Maximum deliveries that a step queues.
const MAX_QUEUED: usize = ReplayBudget::STEP.sends;

/// A reconciliation, as read before a step.
pub(super) struct ReconcileTask {
    org: OrgId,
    app: AppId,
    endpoint: EndpointId,
    filter: EndpointMessageFilter,
    after: Option<MessageId>,
    received: ReceivedMessageIds,
    bounded: bool,
}

impl Store {
    /// The running task with this id, if it is a reconciliation.
    pub(super) async fn reconcile_task(&self, id: BackgroundId) -> Result<Option<ReconcileTask>, StoreError> {
        const SQL: &str = "SELECT b.org, b.app_id, b.data, r.ids FROM background b
             JOIN background_received r ON r.background_id = b.id
             WHERE b.id = $1 AND b.kind = $2 AND b.state = 'running'";
        let kind = TaskKind::Reconcile.word();
        let row: Option<(OrgId, Option<AppId>, String, Vec<u8>)> =
            read!(self, db => sqlx::query_as(SQL).bind(id).bind(kind).fetch_optional(db).await)?;
        let Some((org, app, data, ids)) = row else { return Ok(None) };
        let data: TaskData = codec::from_json(&data)?;
        let TaskScope::Endpoint(app, endpoint) = data.scope(app)? else { return Ok(None) };
        let received = ReceivedMessageIds::read(&ids, data.digest);
        let (filter, after, bounded) = (data.filter(), data.last_message()?, data.bounded);
        Ok(Some(ReconcileTask { org, app, endpoint, filter, after, received, bounded }))
    }

    /// Runs a step of the task and renews its lease.
    pub(super) async fn step_reconcile(
        &self,
        turn: TaskLease,
        task: &ReconcileTask,
        now: Time,
    ) -> Result<StepResult, StoreError> {
        let spec = ReconcileSpec {
            app: task.app,
            endpoint: task.endpoint,
            accepted: task.filter.accepted,
            after: task.after,
            received: &task.received,
            bounded: task.bounded,
        };
        let found = {
            let mut tx = self.read_tx().await?;
            self.scan_missing(&mut tx, &task.org, &spec, MAX_QUEUED).await?
        };
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let (next, renewed) = renew(&mut tx, turn, now).await?;
            let Some(RenewedTask { mut data, .. }) = renewed else { return ended(&mut tx, turn.id).await };
            let mut woken = Vec::new();
            let stage = match (&found, self.endpoint_in(&mut tx, task.app, task.endpoint).await?) {
                (Some(found), Some(reached)) => {
                    let step = EndpointStep {
                        org: &task.org,
                        app: task.app,
                        endpoint: &reached.endpoint,
                        slot: reached.slot,
                        filter: &task.filter,
                        room: ReplayBudget::STEP,
                        now,
                    };
                    let sent = step.resend_missing(&mut tx, found).await?;
                    resent_deliveries::record(&mut tx, turn.id, task.endpoint, &sent, data.sent).await?;
                    data.looked += found.compared as i64;
                    data.sent += sent.len() as i64;
                    data.cursor = found.last.map(|last| last.to_string());
                    if !sent.is_empty() {
                        woken.push(task.endpoint);
                    }
                    if found.done { TaskStage::Finished } else { TaskStage::Running }
                }
                _ => {
                    data.reason = Some("the endpoint was deleted".to_owned());
                    TaskStage::Failed
                }
            };
            if stage != TaskStage::Running {
                drop_received_ids(&mut tx, turn.id).await?;
            }
            self.end_step(tx, next, (&data, stage), woken, now).await
        })
        .await
    }
}

impl EndpointStep<'_> {
    /// Queues the missing messages. Returns those that are now pending.
    async fn resend_missing(&self, tx: &mut Tx, found: &MissingScan) -> Result<Vec<MessageId>, StoreError> {
        let again: Vec<&EndpointDeliveryRow> = found.rows.iter().filter_map(|row| row.sent.as_ref()).collect();
        let never = found.rows.iter().filter(|row| row.sent.is_none()).map(|row| row.id());
        let mut sent = self.requeue_as_retries(tx, &again).await?;
        sent.extend(self.give(tx, &never.collect::<Vec<_>>()).await?);
        Ok(sent)
    }
}

/// Stores the ids for the steps of the task.
pub(super) async fn store_received_ids(
    tx: &mut Tx,
    id: BackgroundId,
    received: &ReceivedMessageIds,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO background_received (background_id, ids) VALUES ($1, $2)";
    Ok(on!(tx, db => sqlx::query(SQL).bind(id).bind(received.bytes()).execute(db).await.map(drop))?)
}

/// Deletes the ids of a task that is ending.
async fn drop_received_ids(tx: &mut Tx, id: BackgroundId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM background_received WHERE background_id = $1";
    Ok(on!(tx, db => sqlx::query(SQL).bind(id).execute(db).await.map(drop))?)
}

/// Deletes the ids of all tasks that have ended or were canceled.
pub(super) async fn delete_received_ids(tx: &mut Tx) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM background_received WHERE NOT EXISTS
             (SELECT 1 FROM background b WHERE b.id = background_received.background_id AND b.state = 'running')";
    Ok(on!(tx, db => sqlx::query(SQL).execute(db).await.map(drop))?)
}
