//! Deliveries: what is due (read by the engine's lanes), how a message's deliveries stand, and what people do to them.

use std::time::Duration;

use super::audit::Deed;
use super::{Engine, Store, StoreError, Tenant, Tx, on, ordering, read, record};
use crate::domain::attempt::Trigger;
use crate::domain::audit::act;
use crate::domain::backoff::WAIT_LIMIT;
use crate::domain::delivery::{DeadReason, Progress, State};
use crate::domain::message::SCHEDULE_LIMIT;
use crate::domain::{AppId, EndpointId, MessageId, Time};

/// No retry waits longer: one that seems to was noted by a clock that was wrong (or ours is).
const LONGEST_WAIT: Duration = Duration::from_secs(2 * WAIT_LIMIT.as_secs());
/// Nothing is scheduled further ahead.
pub(super) const LONGEST_SCHEDULE: Duration = Duration::from_secs(SCHEDULE_LIMIT.as_secs() + 86_400);
/// So late is a lane read in which something fresh waits that does not seem to be due: machines' clocks may be far apart.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);

/// A delivery that waits to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    pub state: State,
    pub due_at: Time,
    pub progress: Progress,
}

impl Waiting {
    /// Whether it may be sent at `now`.
    ///
    /// What was due when it was accepted (or resent) is due, whatever the clock says by now: that of the process which accepted it may be
    /// ahead, or was set back between two runs. And no retry waits longer than the longest wait: one that would was noted by a clock that was wrong.
    pub fn is_due(&self, now: Time) -> bool {
        let resent = self.progress.trigger == Trigger::Manual;
        let at_once = resent || self.due_at.millis() <= self.message_id.time().millis();
        match self.state {
            _ if self.due_at <= now => true,
            State::Fresh => at_once || self.due_at > now.plus(LONGEST_SCHEDULE),
            _ => self.due_at > now.plus(LONGEST_WAIT),
        }
    }
}

/// What a lane wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneWants {
    pub endpoint: EndpointId,
    /// At most this many of the fresh ones, and of the retries: each kind by itself, so that neither crowds out the other.
    pub fresh: i64,
    pub retries: i64,
    /// Its endpoint is ordered: what comes first is read by [`Store::in_order`] instead, at most `fresh`.
    pub ordered: bool,
}

/// An endpoint with something pending, and when the first of each kind is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingLane {
    pub endpoint: EndpointId,
    pub fresh_due: Option<Time>,
    pub retry_due: Option<Time>,
}

impl PendingLane {
    /// When the lane is to be read, as of `now`. What is fresh may be due although it does not look so ([`Waiting::is_due`]): it is
    /// looked at within a minute.
    pub fn look_at(&self, now: Time) -> Time {
        let fresh = self.fresh_due.map(|due| due.min(now.plus(LOOK_ANYWAY)));
        let retry = self.retry_due.map(|due| if due > now.plus(LONGEST_WAIT) { Time::ZERO } else { due });
        fresh.into_iter().chain(retry).min().unwrap_or(Time::ZERO)
    }
}

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

#[derive(sqlx::FromRow)]
pub(super) struct WaitingRow {
    message_id: MessageId,
    pub(super) endpoint_id: EndpointId,
    state: i16,
    due_at: Time,
    attempts: i32,
    step: i32,
    generation: i32,
    trigger: i16,
}

impl From<WaitingRow> for Waiting {
    fn from(row: WaitingRow) -> Waiting {
        let progress = Progress {
            attempts: row.attempts,
            step: row.step,
            generation: row.generation,
            trigger: Trigger::from_code(row.trigger),
        };
        Waiting {
            message_id: row.message_id,
            endpoint_id: row.endpoint_id,
            state: State::from_code(row.state),
            due_at: row.due_at,
            progress,
        }
    }
}

/// `AND state <= 1` repeats the condition of the partial index, without which neither database would use it.
const LANE: &str = "SELECT message_id, endpoint_id, state, due_at, attempts, step, generation, trigger FROM delivery
     WHERE endpoint_id = $1 AND state = $2 AND state <= 1 ORDER BY due_at LIMIT $3";

impl Store {
    /// The first pending deliveries of each lane, due or not, by the time they are due: a few for each, never "the oldest of all".
    ///
    /// # Errors
    /// The store is away.
    pub async fn waiting(&self, lanes: &[LaneWants]) -> Result<Vec<Waiting>, StoreError> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<WaitingRow> = match &self.inner.engine {
            Engine::Sqlite(engine) => {
                let mut connection = engine.readers.acquire().await?;
                let mut rows = Vec::new();
                for lane in lanes {
                    for (state, limit) in [(State::Fresh, lane.fresh), (State::Retry, lane.retries)] {
                        let some: Vec<WaitingRow> = sqlx::query_as(LANE)
                            .bind(lane.endpoint)
                            .bind(state.code())
                            .bind(limit)
                            .fetch_all(&mut *connection)
                            .await?;
                        rows.extend(some);
                    }
                }
                rows
            }
            Engine::Postgres(engine) => sqlx::query_as(
                "SELECT d.* FROM UNNEST($1::uuid[], $2::smallint[], $3::bigint[]) AS lane (endpoint_id, state, most),
                     LATERAL (SELECT message_id, endpoint_id, state, due_at, attempts, step, generation, trigger
                              FROM delivery WHERE endpoint_id = lane.endpoint_id AND state = lane.state AND state <= 1
                              ORDER BY due_at LIMIT lane.most) AS d",
            )
            .bind(lanes.iter().flat_map(|lane| [lane.endpoint.0; 2]).collect::<Vec<_>>())
            .bind(lanes.iter().flat_map(|_| [State::Fresh.code(), State::Retry.code()]).collect::<Vec<i16>>())
            .bind(lanes.iter().flat_map(|lane| [lane.fresh, lane.retries]).collect::<Vec<i64>>())
            .fetch_all(&engine.engine)
            .await?,
        };
        let mut waiting: Vec<Waiting> = rows.into_iter().map(Waiting::from).collect();
        waiting.sort_by_key(|one| (one.endpoint_id, one.due_at, one.message_id));
        Ok(waiting)
    }

    /// Every endpoint that has something pending. Steps from endpoint to endpoint along the index: as many steps as there are
    /// endpoints, however much each of them has waiting.
    ///
    /// # Errors
    /// The store is away.
    pub async fn pending_lanes(&self) -> Result<Vec<PendingLane>, StoreError> {
        const SQL: &str = "WITH RECURSIVE lane (endpoint_id) AS (
                 SELECT (SELECT endpoint_id FROM delivery WHERE state <= 1 ORDER BY endpoint_id LIMIT 1)
                 UNION ALL
                 SELECT (SELECT endpoint_id FROM delivery WHERE state <= 1 AND endpoint_id > lane.endpoint_id
                         ORDER BY endpoint_id LIMIT 1)
                 FROM lane WHERE lane.endpoint_id IS NOT NULL)
             SELECT endpoint_id,
                 (SELECT due_at FROM delivery WHERE state <= 1 AND delivery.endpoint_id = lane.endpoint_id AND state = 0
                  ORDER BY due_at LIMIT 1),
                 (SELECT due_at FROM delivery WHERE state <= 1 AND delivery.endpoint_id = lane.endpoint_id AND state = 1
                  ORDER BY due_at LIMIT 1)
             FROM lane WHERE endpoint_id IS NOT NULL";
        type Row = (EndpointId, Option<Time>, Option<Time>);
        let rows: Vec<Row> = match &self.inner.engine {
            Engine::Sqlite(engine) => sqlx::query_as(SQL).fetch_all(&engine.readers).await?,
            Engine::Postgres(engine) => sqlx::query_as(SQL).fetch_all(&engine.engine).await?,
        };
        let lane = |(endpoint, fresh_due, retry_due): Row| PendingLane { endpoint, fresh_due, retry_due };
        Ok(rows.into_iter().map(lane).collect())
    }

    /// How many deliveries are pending; counted up to `most`.
    ///
    /// # Errors
    /// The store is away.
    pub async fn pending_count(&self, most: i64) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT count(*) FROM (SELECT 1 FROM delivery WHERE state <= 1 LIMIT $1) AS pending";
        Ok(read!(self, db => sqlx::query_scalar(SQL).bind(most).fetch_one(db).await)?)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_when_it_was_accepted_is_due_whatever_the_clock_says() {
        let accepted = Time::from_micros(1_763_800_000_123_456);
        let message_id = MessageId::floor(accepted);
        let minute = Duration::from_secs(60);
        let due = |state, due_at, now| {
            let endpoint_id = EndpointId(uuid::Uuid::nil());
            Waiting { message_id, endpoint_id, state, due_at, progress: Progress::default() }.is_due(now)
        };
        let behind = accepted.minus(Duration::from_secs(3_600));
        assert!(due(State::Fresh, accepted, accepted) && due(State::Fresh, accepted, behind));
        assert!(!due(State::Fresh, accepted.plus(minute), behind), "this one is scheduled");
        assert!(due(State::Fresh, accepted.plus(minute), accepted.plus(minute)));
        assert!(!due(State::Retry, accepted.plus(minute), accepted) && !due(State::Retry, accepted, behind));
        assert!(due(State::Retry, accepted.plus(WAIT_LIMIT * 3), accepted), "no retry waits so long");
    }
}
