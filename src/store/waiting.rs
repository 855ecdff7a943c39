//! What waits: the deliveries that the engine's lanes read, by the time they are due, and which lanes have any.

use std::time::Duration;

use super::{Engine, Store, StoreError, read};
use crate::domain::attempt::Trigger;
use crate::domain::backoff::WAIT_LIMIT;
use crate::domain::delivery::{Progress, State};
use crate::domain::message::SCHEDULE_LIMIT;
use crate::domain::{EndpointId, MessageId, Time};

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

    /// Every endpoint that has something pending. Steps from endpoint to endpoint along the index: a few steps for each that has
    /// something pending, however much that is.
    ///
    /// # Errors
    /// The store is away.
    pub async fn pending_lanes(&self) -> Result<Vec<PendingLane>, StoreError> {
        const SQLITE: &str = "WITH RECURSIVE lane (endpoint_id) AS (
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
        // A step for each state of each endpoint brings what is due first; SQLite knows no LATERAL.
        const POSTGRES: &str = "WITH RECURSIVE first AS (
                 (SELECT endpoint_id, state, due_at FROM delivery WHERE state <= 1
                  ORDER BY endpoint_id, state, due_at LIMIT 1)
                 UNION ALL
                 SELECT next.* FROM first, LATERAL (
                     SELECT endpoint_id, state, due_at FROM delivery
                     WHERE state <= 1 AND (endpoint_id, state) > (first.endpoint_id, first.state)
                     ORDER BY endpoint_id, state, due_at LIMIT 1) AS next)
             SELECT endpoint_id, min(due_at) FILTER (WHERE state = 0), min(due_at) FILTER (WHERE state = 1)
             FROM first GROUP BY endpoint_id ORDER BY endpoint_id";
        type Row = (EndpointId, Option<Time>, Option<Time>);
        let rows: Vec<Row> = match &self.inner.engine {
            Engine::Sqlite(engine) => sqlx::query_as(SQLITE).fetch_all(&engine.readers).await?,
            Engine::Postgres(engine) => sqlx::query_as(POSTGRES).fetch_all(&engine.engine).await?,
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
