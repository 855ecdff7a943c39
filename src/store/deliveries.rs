//! Deliveries: how a message's stand, and what people do to them. (What the engine's lanes read is [`waiting`](super::waiting).)

use std::time::Duration;

use super::audit::Deed;
use super::{Engine, Store, StoreError, Tenant, Tx, on, ordering, read, record};
use crate::domain::audit::act;
use crate::domain::delivery::{DeadReason, State};
use crate::domain::{AppId, EndpointId, MessageId, Time};

/// How one delivery of a message stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    pub app_id: AppId,
    pub state: State,
    /// When the next attempt is due, while it is pending.
    pub due_at: Time,
    pub attempts: i32,
    pub reason: Option<DeadReason>,
    /// The endpoint as it is now, deleted or not.
    pub url: String,
    pub endpoint_description: String,
    pub endpoint_disabled: bool,
    pub endpoint_deleted: bool,
}

/// A delivery that is due, for people.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DeliveryLine {
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    pub app_id: AppId,
    pub due_at: Time,
    pub attempts: i32,
    pub reason: Option<String>,
    pub url: String,
    pub event_type: Option<String>,
    pub app_name: String,
}

impl Store {
    /// How a message's deliveries stand.
    ///
    /// # Errors
    /// The store is away.
    pub async fn deliveries_of(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
    ) -> Result<Vec<DeliveryView>, StoreError> {
        if !tenant.sees(app) {
            return Ok(Vec::new());
        }
        const SQL: &str =
            "SELECT d.endpoint_id, d.state, d.due_at, d.attempts, d.reason, e.url, e.description, e.disabled,
                 e.deleted_at
             FROM delivery d JOIN application p ON p.id = d.app_id JOIN endpoint e ON e.id = d.endpoint_id
             WHERE d.message_id = $1 AND d.app_id = $2 AND p.org = $3 AND p.deleted_at IS NULL
             ORDER BY d.endpoint_id";
        type Row = (EndpointId, i16, Time, i32, Option<String>, String, String, bool, Option<Time>);
        let rows: Vec<Row> = read!(self, db => {
            sqlx::query_as(SQL).bind(message).bind(app).bind(&tenant.org).fetch_all(db).await
        })?;
        let view =
            |(endpoint_id, state, due_at, attempts, reason, url, description, disabled, deleted): Row| DeliveryView {
                message_id: message,
                endpoint_id,
                app_id: app,
                state: State::from_code(state),
                due_at,
                attempts,
                reason: reason.as_deref().and_then(DeadReason::from_word),
                url,
                endpoint_description: description,
                endpoint_disabled: disabled,
                endpoint_deleted: deleted.is_some(),
            };
        Ok(rows.into_iter().map(view).collect())
    }

    /// The tenant's pending delivery that has been due for longest, if one was due `by` then. Disabled endpoints don't count: what
    /// waits there waits on purpose. Steps along the index from endpoint to endpoint, like [`Store::pending_lanes`].
    ///
    /// # Errors
    /// The store is away.
    pub async fn oldest_due(&self, tenant: &Tenant, by: Time) -> Result<Option<DeliveryLine>, StoreError> {
        const FIRST: &str = "WITH RECURSIVE lane (endpoint_id) AS (
                 SELECT (SELECT endpoint_id FROM delivery WHERE state <= 1 ORDER BY endpoint_id LIMIT 1)
                 UNION ALL
                 SELECT (SELECT endpoint_id FROM delivery WHERE state <= 1 AND endpoint_id > lane.endpoint_id
                         ORDER BY endpoint_id LIMIT 1)
                 FROM lane WHERE lane.endpoint_id IS NOT NULL)
             SELECT first.message_id, first.endpoint_id, first.due_at FROM
                 (SELECT lane.endpoint_id, kind.state,
                      (SELECT message_id FROM delivery WHERE state <= 1 AND delivery.endpoint_id = lane.endpoint_id
                           AND state = kind.state ORDER BY due_at LIMIT 1) AS message_id,
                      (SELECT due_at FROM delivery WHERE state <= 1 AND delivery.endpoint_id = lane.endpoint_id
                           AND state = kind.state ORDER BY due_at LIMIT 1) AS due_at
                  FROM lane CROSS JOIN (SELECT 0 AS state UNION ALL SELECT 1) AS kind) AS first
                 JOIN endpoint e ON e.id = first.endpoint_id JOIN application p ON p.id = e.app_id
             WHERE p.org = $1 AND NOT p.operational AND NOT e.disabled AND e.deleted_at IS NULL AND first.due_at <= $2
             ORDER BY first.due_at LIMIT 1";
        const LINE: &str = "SELECT d.message_id, d.endpoint_id, d.app_id, d.due_at, d.attempts, d.reason, e.url,
                 m.event_type, p.name AS app_name
             FROM delivery d JOIN application p ON p.id = d.app_id JOIN endpoint e ON e.id = d.endpoint_id
                 LEFT JOIN message m ON m.id = d.message_id
             WHERE d.message_id = $1 AND d.endpoint_id = $2 AND p.org = $3 AND d.state <= 1";
        let first: Option<(MessageId, EndpointId, Time)> =
            read!(self, db => sqlx::query_as(FIRST).bind(&tenant.org).bind(by).fetch_optional(db).await)?;
        let Some((message, endpoint, _)) = first else { return Ok(None) };
        Ok(read!(self, db => {
            sqlx::query_as(LINE).bind(message).bind(endpoint).bind(&tenant.org).fetch_optional(db).await
        })?)
    }

    /// How many of the tenant's deliveries are in `state` (retrying or dead); counted up to `most`. Those of deleted applications, which
    /// no list shows, don't count.
    ///
    /// # Errors
    /// The store is away.
    pub async fn count_in(&self, tenant: &Tenant, state: State, most: i64) -> Result<i64, StoreError> {
        // The state is part of the text, or the partial indexes would not be used.
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT count(*) FROM (SELECT 1 FROM delivery d JOIN application p ON p.id = d.app_id
                 WHERE d.state = {} AND p.org = $1 AND NOT p.operational AND p.deleted_at IS NULL LIMIT $2) AS found",
            state.code()
        ));
        Ok(read!(self, db => sqlx::query_scalar(sql).bind(&tenant.org).bind(most).fetch_one(db).await)?)
    }

    /// Sends a message to an endpoint (again): at once, numbered on, with a fresh schedule, and also where the endpoint's filters would
    /// not have chosen it. An attempt that is in flight meanwhile is recorded and changes nothing of this. One that is scheduled goes now
    /// instead of then. At an ordered endpoint what waits keeps its turn, and what had ended goes to the end. `false` if the tenant's application has no such message or endpoint, or the message has no content any more.
    ///
    /// # Errors
    /// The store is away.
    pub async fn resend(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
        endpoint: EndpointId,
        now: Time,
    ) -> Result<bool, StoreError> {
        if !tenant.sees(app) {
            return Ok(false);
        }
        // Who deletes the content at this moment comes before or after, and not in between.
        let lock = match &self.inner.engine {
            Engine::Sqlite(_) => "",
            Engine::Postgres(_) => "FOR SHARE OF m",
        };
        let sql = sqlx::AssertSqlSafe(format!(
            "INSERT INTO delivery (message_id, endpoint_id, app_id, state, due_at, attempts, step, generation, trigger)
             SELECT m.id, e.id, e.app_id, 0, $4, 0, 0, 0, 1
             FROM message m JOIN endpoint e ON e.app_id = m.app_id JOIN application p ON p.id = m.app_id
             WHERE m.id = $1 AND e.id = $2 AND p.id = $3 AND p.org = $5 AND e.deleted_at IS NULL AND p.deleted_at IS NULL
                 AND m.payload IS NOT NULL {lock}
             ON CONFLICT (message_id, endpoint_id) DO UPDATE SET state = 0, due_at = excluded.due_at, step = 0,
                 generation = delivery.generation + 1, trigger = 1, reason = NULL,
                 seq = CASE WHEN delivery.state <= 1 THEN delivery.seq ELSE NULL END"
        ));
        let mut tx = self.begin().await?;
        self.enter_once(&mut tx, "").await?;
        let changed = on!(tx, db => {
            sqlx::query(sql)
                .bind(message).bind(endpoint).bind(app).bind(now).bind(&tenant.org)
                .execute(db).await.map(|done| done.rows_affected())
        })?;
        if changed == 0 {
            return Ok(false);
        }
        ordering::to_the_end(&mut tx, endpoint, vec![message], now).await?;
        let (thing, to) = (message.to_string(), endpoint.to_string());
        let resent = Deed::of(&tenant.org, act::DELIVERY_RESENT, &thing).within(app).with(&to);
        self.note(&mut tx, resent, now).await?;
        tx.commit().await?;
        self.inner.signals.send(super::signals::Signal::Look(endpoint));
        Ok(true)
    }

    /// Ends pending deliveries of deleted endpoints, up to `limit` of them. Gives back how many: 0 means that none is left.
    ///
    /// An endpoint stays on the list for [`GRAVE`] after its deletion: a message may have been accepted for it in a transaction that
    /// began before and was committed after.
    ///
    /// # Errors
    /// The store is away.
    pub async fn bury_deleted(&self, limit: i64, now: Time) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        const NEXT: &str = "SELECT id FROM endpoint WHERE unburied = 1
             AND EXISTS (SELECT 1 FROM delivery WHERE endpoint_id = endpoint.id AND state <= 1) LIMIT 1";
        let next: Option<EndpointId> = on!(tx, db => sqlx::query_scalar(NEXT).fetch_optional(db).await)?;
        let buried = match next {
            Some(endpoint) => bury(&mut tx, endpoint, DeadReason::EndpointDeleted, limit).await?,
            None => {
                const DONE: &str = "UPDATE endpoint SET unburied = 0 WHERE unburied = 1 AND deleted_at < $1
                     AND NOT EXISTS (SELECT 1 FROM delivery WHERE endpoint_id = endpoint.id AND state <= 1)";
                on!(tx, db => sqlx::query(DONE).bind(now.minus(GRAVE)).execute(db).await.map(drop))?;
                0
            }
        };
        tx.commit().await?;
        record::count_dead(DeadReason::EndpointDeleted, buried);
        Ok(buried)
    }
}

/// How long after its deletion an endpoint may still be given a delivery: longer than any transaction takes.
pub(super) const GRAVE: Duration = Duration::from_secs(120);

/// Ends up to `limit` pending deliveries of an endpoint. The condition stands twice: a delivery that is recorded meanwhile keeps its end.
async fn bury(tx: &mut Tx, endpoint: EndpointId, reason: DeadReason, limit: i64) -> Result<u64, StoreError> {
    const SQL: &str = "UPDATE delivery SET state = 3, reason = $2, generation = generation + 1
         WHERE endpoint_id = $1 AND state <= 1 AND message_id IN
             (SELECT message_id FROM delivery WHERE endpoint_id = $1 AND state <= 1 ORDER BY endpoint_id, state, due_at LIMIT $3)";
    Ok(on!(tx, db => {
        sqlx::query(SQL).bind(endpoint).bind(reason.word()).bind(limit).execute(db).await.map(|done| done.rows_affected())
    })?)
}
