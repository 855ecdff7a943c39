//! Resending the deliveries of a list. A step first reads deliveries by the list's own statement (oldest first), then
//! requeues them in a short transaction. Deliveries that changed in between are skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::deliveries::background::TaskStage;
use crate::domain::deliveries::delivery::DeliveryState;
use crate::domain::{AppId, BackgroundId, EndpointId, MessageId, OrgId, Time, TimeRange};
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::db::statement::query_of;
use crate::store::jobs::job_lease::{RenewedTask, StepResult, TaskLease, ended, renew};
use crate::store::jobs::resent_deliveries;
use crate::store::jobs::task_data::TaskData;
use crate::store::query::delivery_counts::SkipReason;
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryKey, DeliveryStatusFilter, Selection};
use crate::store::queue::ordering;
use crate::store::queue::requeue::{self, DeliverySnapshot, RequeueTarget};
use crate::store::{Order, Store, StoreError, Tenant, read};

/// Maximum deliveries that a step scans.
const MAX_SCANNED: usize = 1_000;
/// Maximum deliveries that a step queues.
const MAX_QUEUED: usize = 200;

/// The stored filter of a list, and the last scanned delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::store) struct ListResendData {
    status: Option<String>,
    endpoint: Option<EndpointId>,
    event_types: Vec<String>,
    class: Option<u16>,
    since: i64,
    until: i64,
    messages: Option<Vec<MessageId>>,
    text: Option<String>,
    resent: Option<BackgroundId>,
    rows: Option<Vec<DeliveryKey>>,
    cursor: Option<DeliveryKey>,
}

impl ListResendData {
    pub fn new(filter: &DeliveryFilter) -> ListResendData {
        ListResendData {
            status: filter.status.map(|status| status.word().to_owned()),
            endpoint: filter.endpoint,
            event_types: filter.event_types.clone(),
            class: filter.class,
            since: filter.accepted.since.micros(),
            until: filter.accepted.until.micros(),
            messages: filter.messages.clone(),
            text: filter.text.clone(),
            resent: filter.resent,
            rows: filter.rows.clone(),
            cursor: None,
        }
    }

    /// The list's filter; `app` is the task's application.
    pub fn filter(&self, app: Option<AppId>) -> DeliveryFilter {
        DeliveryFilter {
            status: self.status.as_deref().and_then(DeliveryStatusFilter::from_word),
            app,
            endpoint: self.endpoint,
            event_types: self.event_types.clone(),
            class: self.class,
            accepted: TimeRange { since: Time::from_micros(self.since), until: Time::from_micros(self.until) },
            messages: self.messages.clone(),
            text: self.text.clone(),
            resent: self.resent,
            rows: self.rows.clone(),
        }
    }
}

/// A task on a list, as read before a step.
pub(super) struct ListResendTask {
    tenant: Tenant,
    listed: ListResendData,
}

from_row! {
    /// A delivery to resend.
    struct Row {
        message_id: MessageId,
        endpoint_id: EndpointId,
        app_id: AppId,
        slot: i16,
        state: i16,
        generation: i32,
    }
}

impl Row {
    fn key(&self) -> DeliveryKey {
        (self.message_id, self.endpoint_id)
    }

    fn to(&self) -> RequeueTarget {
        RequeueTarget {
            endpoint: self.endpoint_id,
            app: self.app_id,
            slot: u8::try_from(self.slot).unwrap_or_default(),
        }
    }

    fn snapshot(&self) -> DeliverySnapshot {
        DeliverySnapshot {
            message: self.message_id,
            state: DeliveryState::from_code(self.state),
            generation: self.generation,
        }
    }
}

impl Store {
    /// The running task with this id, if it resends a list.
    pub(super) async fn list_resend_task(&self, id: BackgroundId) -> Result<Option<ListResendTask>, StoreError> {
        const SQL: &str = "SELECT org, app_id, data FROM background WHERE id = $1 AND state = 'running'";
        let row: Option<(OrgId, Option<AppId>, String)> =
            read!(self, db => sqlx::query_as(SQL).bind(id).fetch_optional(db).await)?;
        let Some((org, only, data)) = row else { return Ok(None) };
        let data: TaskData = codec::from_json(&data)?;
        Ok(data.listed.map(|listed| ListResendTask { tenant: Tenant { org, only }, listed }))
    }

    /// Runs a step of the task and renews its lease.
    pub(super) async fn step_list_resend(
        &self,
        turn: TaskLease,
        work: &ListResendTask,
        now: Time,
    ) -> Result<StepResult, StoreError> {
        let (rows, cursor) = self.to_resend(work, now).await?;
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let (next, renewed) = renew(&mut tx, turn, now).await?;
            let Some(RenewedTask { mut data, .. }) = renewed else { return ended(&mut tx, turn.id).await };
            let mut lanes: BTreeMap<(AppId, EndpointId), Vec<&Row>> = BTreeMap::new();
            for row in &rows {
                lanes.entry((row.app_id, row.endpoint_id)).or_default().push(row);
            }
            let mut woken = Vec::new();
            for ((_, endpoint), rows) in lanes {
                let Some(to) = rows.first().map(|row| row.to()) else { continue };
                let found: Vec<DeliverySnapshot> = rows.iter().map(|row| row.snapshot()).collect();
                let done = requeue::requeue(&mut tx, to, &found, now).await?;
                resent_deliveries::record(&mut tx, turn.id, endpoint, &done, data.sent).await?;
                data.sent += done.len() as i64;
                if !done.is_empty() {
                    woken.push(endpoint);
                }
                ordering::number_at_end(&mut tx, endpoint, done, now).await?;
            }
            data.looked += rows.len() as i64;
            data.listed = Some(ListResendData { cursor, ..work.listed.clone() });
            let stage = if cursor.is_some() { TaskStage::Running } else { TaskStage::Finished };
            self.end_step(tx, next, (&data, stage), woken, now).await
        })
        .await
    }

    /// The deliveries to resend in a step, and the key to continue from; `None`: the end.
    async fn to_resend(&self, work: &ListResendTask, now: Time) -> Result<(Vec<Row>, Option<DeliveryKey>), StoreError> {
        const COLUMNS: &str = "d.app_id, e.slot, d.state, d.generation";
        let ListResendTask { tenant, listed } = work;
        let filter = listed.filter(tenant.only);
        if filter.is_empty_result(tenant) {
            return Ok((Vec::new(), None));
        }
        let scan = self.choose_scan(tenant, &filter).await?;
        let mut range = filter.scan_range(Order::Ascending, listed.cursor);
        range.end = self.scan_end(&scan, &range, MAX_SCANNED, filter.text.is_some()).await?;
        let and = format!(" AND {} = 0", SkipReason::sql(now));
        let reading = Selection { columns: COLUMNS, and: &and, limit: MAX_QUEUED };
        let sql = filter.statement(self, tenant, (&scan, &range), reading);
        let rows: Vec<Row> = read!(self, db => query_of!(query_as, &sql).fetch_all(db).await)?;
        let cursor = match rows.last() {
            Some(last) if rows.len() >= MAX_QUEUED => Some(last.key()),
            _ => range.end,
        };
        Ok((rows, cursor))
    }
}
