//! The steps of replay and recovery. Each runs inside the caller's transaction.
//!
//! A step only makes deliveries pending; lanes read them at their own pace. They queue as retries. A lane alternates
//! between new deliveries and retries, so even a large replay does not block new messages. At an ordered endpoint they
//! go to the end of the queue.

use crate::store::db::codec::from_row;
use uuid::Uuid;

use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::{AppId, MessageId, OrgId, Time};
use crate::store::db::codec;
use crate::store::query::endpoint_messages::{EndpointDeliveryRow, EndpointMessageFilter};
use crate::store::query::messages::{in_order_of_application, within_application};
use crate::store::queue::ordering;
use crate::store::queue::requeue::{self, DeliverySnapshot, RequeueTarget};
use crate::store::{StoreError, Tx, on};

/// The remaining budget of a step: rows to scan and deliveries to queue.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct ReplayBudget {
    pub looks: usize,
    pub sends: usize,
}

impl ReplayBudget {
    /// The budget of one step.
    pub const STEP: ReplayBudget = ReplayBudget { looks: 1_000, sends: 200 };

    /// The rest of the budget.
    pub fn after(self, done: &EndpointStepResult) -> ReplayBudget {
        ReplayBudget {
            looks: self.looks.saturating_sub(done.looked),
            sends: self.sends.saturating_sub(done.sent.len()),
        }
    }

    /// Whether the budget is used up.
    pub fn is_full(self) -> bool {
        self.looks == 0 || self.sends == 0
    }
}

/// One step at one endpoint.
pub(in crate::store) struct EndpointStep<'a> {
    pub org: &'a OrgId,
    pub app: AppId,
    pub endpoint: &'a Endpoint,
    pub slot: u8,
    pub filter: &'a EndpointMessageFilter,
    pub room: ReplayBudget,
    pub now: Time,
}

from_row! {
    /// A message of the endpoint's application, with the fields that decide whether the endpoint is missing it.
    pub(in crate::store) struct MissingRow {
        pub id: MessageId,
        event_type: String,
        channels: Option<String>,
        pub accepted_at: Time,
        /// The message already has a delivery, or its content is deleted.
        passed: i32,
    }
}

/// The result of one step.
pub(in crate::store) struct EndpointStepResult {
    pub looked: usize,
    /// The messages with queued deliveries.
    pub sent: Vec<MessageId>,
    /// The last scanned message.
    pub last: Option<MessageId>,
    pub more: bool,
}

/// Selects the rows that `takes` accepts, within the budget.
pub(in crate::store::jobs) fn choose<R>(
    room: ReplayBudget,
    rows: &[R],
    id: impl Fn(&R) -> MessageId,
    takes: impl Fn(&R) -> Result<bool, StoreError>,
) -> Result<(Vec<&R>, EndpointStepResult), StoreError> {
    let (mut chosen, mut looked) = (Vec::new(), 0_usize);
    for row in rows {
        looked += 1;
        if takes(row)? {
            chosen.push(row);
        }
        if chosen.len() >= room.sends {
            break;
        }
    }
    let last = looked.checked_sub(1).and_then(|last| rows.get(last)).map(id);
    let more = looked < rows.len() || rows.len() >= room.looks;
    Ok((chosen, EndpointStepResult { looked, sent: Vec::new(), last, more }))
}

impl EndpointStep<'_> {
    /// Reads the endpoint's deliveries of messages after `from` up to `end`, by the filter's statement `sql`.
    pub(in crate::store) async fn read_sent(
        &self,
        tx: &mut Tx,
        sql: String,
        from: Uuid,
        end: MessageId,
    ) -> Result<Vec<EndpointDeliveryRow>, StoreError> {
        let (sql, first) = (sqlx::AssertSqlSafe(sql), self.filter.ids().0);
        Ok(on!(tx, db => {
            sqlx::query_as(sql)
                .bind(self.endpoint.id).bind(self.app).bind(self.org).bind(from).bind(first).bind(end)
                .bind(self.room.looks as i64).bind(i16::from(self.slot))
                .fetch_all(db).await
        })?)
    }

    /// Whether a delivery matches and still has content.
    pub(in crate::store) fn should_resend(&self, row: &EndpointDeliveryRow) -> Result<bool, StoreError> {
        Ok(row.content && self.filter.takes(row)?)
    }

    /// Requeues the endpoint's matching deliveries in any state, if their message has content.
    pub(in crate::store) async fn requeue_sent(
        &self,
        tx: &mut Tx,
        from: Uuid,
    ) -> Result<EndpointStepResult, StoreError> {
        let rows = self.read_sent(tx, self.filter.sql(tx.kind(), ">", "ASC"), from, self.filter.ids().1).await?;
        let (chosen, done) = choose(self.room, &rows, |row| row.message_id, |row| self.should_resend(row))?;
        let sent = self.requeue_as_retries(tx, &chosen).await?;
        Ok(EndpointStepResult { sent, ..done })
    }

    /// Requeues deliveries as retries, so they do not delay new messages.
    pub(in crate::store::jobs) async fn requeue_as_retries(
        &self,
        tx: &mut Tx,
        chosen: &[&EndpointDeliveryRow],
    ) -> Result<Vec<MessageId>, StoreError> {
        let found: Vec<DeliverySnapshot> = chosen.iter().map(|row| row.snapshot()).collect();
        let done = requeue::requeue(tx, self.to(), &found, self.now).await?;
        ordering::number_at_end(tx, self.endpoint.id, done.clone(), self.now).await?;
        Ok(done)
    }

    fn to(&self) -> RequeueTarget {
        RequeueTarget { endpoint: self.endpoint.id, app: self.app, slot: self.slot }
    }

    /// The application's messages after `from`.
    pub(in crate::store) async fn read_missing(&self, tx: &mut Tx, from: Uuid) -> Result<Vec<MissingRow>, StoreError> {
        let within = within_application(tx.kind(), "$2", ["> $3", ">= $4", "< $5"]);
        let order = in_order_of_application(tx.kind(), "ASC");
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, event_type, channels, accepted_at,
                 CASE WHEN payload IS NULL OR EXISTS
                     (SELECT 1 FROM delivery d WHERE d.message_id = message.id AND d.endpoint_id = $1)
                 THEN 1 ELSE 0 END AS passed
             FROM message WHERE {within} ORDER BY {order} LIMIT $6"
        ));
        let (first, end) = self.filter.ids();
        Ok(on!(tx, db => {
            sqlx::query_as(sql)
                .bind(self.endpoint.id).bind(self.app).bind(from).bind(first).bind(end).bind(self.room.looks as i64)
                .fetch_all(db).await
        })?)
    }

    /// Whether a message matches the endpoint's filters and has no delivery. If the endpoint is disabled, the delivery
    /// stays pending.
    pub(in crate::store) fn is_missing(&self, row: &MissingRow) -> Result<bool, StoreError> {
        let event_types = &self.filter.topics.event_types;
        let meant = row.passed == 0
            && self.filter.accepted.contains(row.accepted_at)
            && (event_types.is_empty() || event_types.contains(&row.event_type));
        if !meant {
            return Ok(false);
        }
        let channels: Vec<String> = codec::from_json_opt(row.channels.as_deref())?.unwrap_or_default();
        let spec = &self.endpoint.spec;
        Ok(if spec.disabled {
            EndpointSpec { disabled: false, ..spec.clone() }.wants(&row.event_type, &channels)
        } else {
            spec.wants(&row.event_type, &channels)
        })
    }

    /// Creates a delivery for each missing message. A scheduled message still waits for its time.
    pub(in crate::store) async fn queue_missing(
        &self,
        tx: &mut Tx,
        from: Uuid,
    ) -> Result<EndpointStepResult, StoreError> {
        let rows = self.read_missing(tx, from).await?;
        let (chosen, done) = choose(self.room, &rows, |row| row.id, |row| self.is_missing(row))?;
        let messages: Vec<MessageId> = chosen.iter().map(|row| row.id).collect();
        let sent = self.give(tx, &messages).await?;
        Ok(EndpointStepResult { sent, ..done })
    }

    /// Creates a first delivery of each of these messages. Returns those that had none.
    pub(in crate::store::jobs) async fn give(
        &self,
        tx: &mut Tx,
        messages: &[MessageId],
    ) -> Result<Vec<MessageId>, StoreError> {
        let given = requeue::create_missing(tx, self.to(), messages, self.now).await?;
        ordering::number_at_end(tx, self.endpoint.id, given.clone(), self.now).await?;
        Ok(given)
    }
}
