//! Deliveries of a message, and operations on them: resend, and ending those of deleted endpoints. The engine reads its
//! lanes from [`pending_deliveries`](crate::store::queue::pending_deliveries) instead.

use std::time::Duration;

use crate::domain::access::audit::action;
use crate::domain::deliveries::delivery::{DeadReason, DeliveryState};
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::db::codec::from_row;
use crate::store::query::delivery_list::DeliveryKey;
use crate::store::queue::dead::{self, PendingFilter};
use crate::store::queue::ordering;
use crate::store::queue::requeue::{self, RequeueTarget};
use crate::store::{Backend, Order, Page, PageRequest, Store, StoreError, Tenant, on, read};

/// A delivery of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    pub app_id: AppId,
    pub state: DeliveryState,
    /// The time of the next attempt, while pending.
    pub due_at: Time,
    pub attempts: i32,
    pub reason: Option<DeadReason>,
    /// The endpoint's current URL, even if it is deleted.
    pub url: String,
    pub endpoint_description: String,
    pub endpoint_disabled: bool,
    pub endpoint_deleted: bool,
}

from_row! {
    /// The delivery that has been due longest.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DueDelivery {
        pub message_id: MessageId,
        pub endpoint_id: EndpointId,
        pub app_id: AppId,
        pub due_at: Time,
        pub url: String,
        /// `None`: the message is already deleted.
        pub event_type: Option<String>,
    }
}

impl Store {
    /// The deliveries of a message on one page.
    pub const DELIVERIES_SHOWN: usize = 250;

    /// The first [`Store::DELIVERIES_SHOWN`] deliveries of a message, by endpoint.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn deliveries_of(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
    ) -> Result<Page<DeliveryView>, StoreError> {
        let page = PageRequest::first(Store::DELIVERIES_SHOWN, Order::Ascending);
        self.page_of_deliveries(tenant, app, message, &page).await
    }

    /// A page of a message's deliveries, by endpoint.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn page_of_deliveries(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
        page: &PageRequest<EndpointId>,
    ) -> Result<Page<DeliveryView>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(Page { data: Vec::new(), more: false }) };
        let (compare, direction) = page.sql();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT d.endpoint_id, d.state, d.due_at, d.attempts, d.reason, e.url, e.description, e.disabled,
                 e.deleted_at
             FROM delivery d JOIN application p ON p.id = d.app_id JOIN endpoint e ON e.id = d.endpoint_id
             WHERE d.message_id = $1 AND d.app_id = $2 AND p.org = $3 AND p.deleted_at IS NULL
                 AND d.endpoint_id {compare} $4
             ORDER BY d.endpoint_id {direction} LIMIT $5"
        ));
        type Row = (EndpointId, i16, Time, i32, Option<String>, String, String, bool, Option<Time>);
        let rows: Vec<Row> = read!(self, db => {
            sqlx::query_as(sql)
                .bind(message).bind(app).bind(org).bind(page.bound()).bind(page.rows())
                .fetch_all(db).await
        })?;
        let view =
            |(endpoint_id, state, due_at, attempts, reason, url, description, disabled, deleted): Row| DeliveryView {
                message_id: message,
                endpoint_id,
                app_id: app,
                state: DeliveryState::from_code(state),
                due_at,
                attempts,
                reason: reason.as_deref().and_then(DeadReason::from_word),
                url,
                endpoint_description: description,
                endpoint_disabled: disabled,
                endpoint_deleted: deleted.is_some(),
            };
        Ok(page.page(rows.into_iter().map(view).collect()))
    }

    /// The tenant's longest-due pending delivery, if it was due at `by`, except at disabled endpoints. Steps along the
    /// index from endpoint to endpoint, like [`Store::pending_lanes`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn oldest_due(&self, tenant: &Tenant, by: Time) -> Result<Option<DueDelivery>, StoreError> {
        const FIRST: &str = "WITH RECURSIVE lane (slot, endpoint_id) AS (
                 SELECT slot.slot, (SELECT endpoint_id FROM due WHERE due.slot = slot.slot ORDER BY endpoint_id LIMIT 1) FROM slot
                 UNION ALL
                 SELECT slot, (SELECT endpoint_id FROM due WHERE due.slot = lane.slot AND endpoint_id > lane.endpoint_id
                         ORDER BY endpoint_id LIMIT 1)
                 FROM lane WHERE lane.endpoint_id IS NOT NULL)
             SELECT first.message_id, first.endpoint_id, first.due_at FROM
                 (SELECT lane.endpoint_id, kind.kind,
                      (SELECT message_id FROM due WHERE due.slot = lane.slot AND due.endpoint_id = lane.endpoint_id
                           AND due.kind = kind.kind ORDER BY due_at LIMIT 1) AS message_id,
                      (SELECT due_at FROM due WHERE due.slot = lane.slot AND due.endpoint_id = lane.endpoint_id
                           AND due.kind = kind.kind ORDER BY due_at LIMIT 1) AS due_at
                  FROM lane CROSS JOIN (SELECT 0 AS kind UNION ALL SELECT 1) AS kind WHERE lane.endpoint_id IS NOT NULL) AS first
                 JOIN endpoint e ON e.id = first.endpoint_id JOIN application p ON p.id = e.app_id
             WHERE p.org = $1 AND NOT p.operational AND NOT e.disabled AND e.deleted_at IS NULL AND first.due_at <= $2
             ORDER BY first.due_at LIMIT 1";
        const LINE: &str = "SELECT d.message_id, d.endpoint_id, d.app_id, d.due_at, e.url, m.event_type
             FROM due d JOIN application p ON p.id = d.app_id JOIN endpoint e ON e.id = d.endpoint_id
                 LEFT JOIN message m ON m.id = d.message_id
             WHERE d.message_id = $1 AND d.endpoint_id = $2 AND p.org = $3";
        let _scan = self.scan(tenant).await?;
        let first: Option<(MessageId, EndpointId, Time)> =
            read!(self, db => sqlx::query_as(FIRST).bind(&tenant.org).bind(by).fetch_optional(db).await)?;
        let Some((message, endpoint, _)) = first else { return Ok(None) };
        Ok(read!(self, db => {
            sqlx::query_as(LINE).bind(message).bind(endpoint).bind(&tenant.org).fetch_optional(db).await
        })?)
    }

    /// The number of the tenant's deliveries in `state`, counted up to `most`, without those of deleted applications
    /// and without canceled ones.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn count_in_state(&self, tenant: &Tenant, state: DeliveryState, most: i64) -> Result<i64, StoreError> {
        let rows = match state {
            DeliveryState::Fresh => "due d WHERE d.kind = 0",
            DeliveryState::Retry => "due d WHERE d.kind = 1",
            DeliveryState::Dead => "dead d WHERE d.org = $1 AND d.reason <> 'canceled'",
            DeliveryState::Delivered => "attempt d WHERE d.org = $1 AND d.settles IS NOT NULL",
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT count(*) FROM (SELECT 1 FROM {rows} AND EXISTS
                 (SELECT 1 FROM application p WHERE p.id = d.app_id AND p.org = $1 AND NOT p.operational AND p.deleted_at IS NULL)
                 LIMIT $2) AS found"
        ));
        let _scan = self.scan(tenant).await?;
        Ok(read!(self, db => sqlx::query_scalar(sql).bind(&tenant.org).bind(most).fetch_one(db).await)?)
    }

    /// Resends a message to an endpoint at once, with a fresh schedule, even if the endpoint's filters do not match.
    /// Attempt numbers continue. An attempt in flight is recorded but does not affect the resend. At an ordered
    /// endpoint, a pending delivery keeps its place and a finished one goes to the end. `false` if the tenant's
    /// application has no such message or endpoint, the content is deleted, or the message is older than the retention
    /// period.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn resend(&self, tenant: &Tenant, app: AppId, key: DeliveryKey, now: Time) -> Result<bool, StoreError> {
        let (message, endpoint) = key;
        self.retry_conflicts(|| async {
            let Some(org) = tenant.org_of(app) else { return Ok(false) };
            // Serializes with a concurrent deletion of the content.
            let lock = match &self.inner.backend {
                Backend::Sqlite(_) => "",
                Backend::Postgres(_) => "FOR SHARE OF m",
            };
            let sql = sqlx::AssertSqlSafe(format!(
                "SELECT e.slot FROM message m JOIN endpoint e ON e.app_id = m.app_id JOIN application p ON p.id = m.app_id
                 WHERE m.id = $1 AND e.id = $2 AND p.id = $3 AND p.org = $4 AND e.deleted_at IS NULL AND p.deleted_at IS NULL
                     AND m.payload IS NOT NULL {lock}"
            ));
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, "").await?;
            let slot: Option<i16> = on!(tx, db => {
                sqlx::query_scalar(sql).bind(message).bind(endpoint).bind(app).bind(org).fetch_optional(db).await
            })?;
            let Some(slot) = slot else { return Ok(false) };
            if !requeue::resend(&mut tx, RequeueTarget { endpoint, app, slot: slot as u8 }, message, now).await? {
                return Ok(false);
            }
            ordering::number_at_end(&mut tx, endpoint, vec![message], now).await?;
            let (target, to) = (message.to_string(), endpoint.to_string());
            let resent = NewAuditEntry::of(org, action::DELIVERY_RESENT, &target).within(app).with(&to);
            self.commit_audited(tx, resent, now).await?;
            self.inner.signals.send(crate::store::queue::signals::Signal::Look(vec![endpoint]));
            Ok(true)
        })
        .await
    }

    /// Ends up to `limit` pending deliveries of deleted endpoints. Returns their number; 0 means none is left.
    ///
    /// An endpoint is checked for [`LATE_DELIVERIES`] after its deletion, because a transaction that began before the
    /// deletion may commit a delivery later.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn cancel_pending_of_deleted(&self, limit: i64, now: Time) -> Result<u64, StoreError> {
        self.retry_conflicts(|| async {
            const PENDING: &str =
                "EXISTS (SELECT 1 FROM due WHERE due.slot = endpoint.slot AND due.endpoint_id = endpoint.id)";
            let next =
                sqlx::AssertSqlSafe(format!("SELECT id FROM endpoint WHERE pending_cleanup = 1 AND {PENDING} LIMIT 1"));
            let mut tx = self.begin().await?;
            let next: Option<EndpointId> = on!(tx, db => sqlx::query_scalar(next).fetch_optional(db).await)?;
            let ended = match next {
                Some(endpoint) => {
                    dead::end_pending(&mut tx, PendingFilter::Endpoint(endpoint, limit), DeadReason::EndpointDeleted, now).await?
                }
                None => {
                    let done = sqlx::AssertSqlSafe(format!(
                        "UPDATE endpoint SET pending_cleanup = 0 WHERE pending_cleanup = 1 AND deleted_at < $1 AND NOT {PENDING}"
                    ));
                    on!(tx, db => sqlx::query(done).bind(now.minus(LATE_DELIVERIES)).execute(db).await.map(drop))?;
                    Vec::new()
                }
            };
            tx.commit().await?;
            dead::count(DeadReason::EndpointDeleted, &ended);
            Ok(ended.len() as u64)
        })
        .await
    }
}

/// The time after its deletion in which an endpoint may still get deliveries: longer than any transaction.
pub(in crate::store) const LATE_DELIVERIES: Duration = Duration::from_secs(120);
