//! Reading the queue: pending deliveries of the engine's lanes by due time, and the lanes that have any.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::domain::deliveries::attempt::Trigger;
use crate::domain::deliveries::backoff::WAIT_LIMIT;
use crate::domain::deliveries::delivery::{DeliveryState, Progress};
use crate::domain::deliveries::message::SCHEDULE_LIMIT;
use crate::domain::{EndpointId, MessageId, Time};
use crate::store::db::codec::from_row;
use crate::store::db::{codec, sqlite};
use crate::store::{Backend, Store, StoreError, read_vital};

/// The limit for retries. One that is due later was scheduled with a wrong clock, or our clock is wrong.
const LONGEST_WAIT: Duration = Duration::from_secs(2 * WAIT_LIMIT.as_secs());
/// The same limit for scheduled messages.
pub(in crate::store) const LONGEST_SCHEDULE: Duration = Duration::from_secs(SCHEDULE_LIMIT.as_secs() + 86_400);
/// The longest wait before a lane with fresh deliveries is read, due or not: machines' clocks may differ.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);

/// A pending delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingDelivery {
    pub message_id: MessageId,
    pub endpoint_id: EndpointId,
    pub state: DeliveryState,
    pub due_at: Time,
    pub progress: Progress,
}

impl PendingDelivery {
    /// Whether it may be sent at `now`.
    ///
    /// A delivery that was due when accepted or resent is due regardless of the clock: the accepting process's clock
    /// may be ahead, or ours was set back. A retry or schedule beyond its limit is due as well, because it was set
    /// with a wrong clock.
    pub fn is_due(&self, now: Time) -> bool {
        let resent = self.progress.trigger == Trigger::Manual;
        let at_once = resent || self.due_at.millis() <= self.message_id.time().millis();
        match self.state {
            _ if self.due_at <= now => true,
            DeliveryState::Fresh => at_once || self.due_at > now.plus(LONGEST_SCHEDULE),
            _ => self.due_at > now.plus(LONGEST_WAIT),
        }
    }
}

/// A lane's request for pending deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRequest {
    pub endpoint: EndpointId,
    pub slot: u8,
    /// Maximum fresh deliveries and maximum retries; separate limits, so neither kind crowds out the other.
    pub fresh: i64,
    pub retries: i64,
    /// Minimum due times. They skip index entries of deleted rows that an open snapshot keeps from being vacuumed.
    pub fresh_from: Time,
    pub retries_from: Time,
    /// The endpoint is ordered: read up to `fresh` deliveries with [`Store::ordered_heads`] instead.
    pub ordered: bool,
}

/// An endpoint with pending deliveries, and when the first of each kind is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingLane {
    pub endpoint: EndpointId,
    pub slot: u8,
    pub fresh_due: Option<Time>,
    pub retry_due: Option<Time>,
}

impl PendingLane {
    /// The time at which to read the lane. Fresh deliveries may be due regardless of their due time
    /// ([`PendingDelivery::is_due`]), so they are read within a minute.
    pub fn look_at(&self, now: Time) -> Time {
        let fresh = self.fresh_due.map(|due| due.min(now.plus(LOOK_ANYWAY)));
        let retry = self.retry_due.map(|due| if due > now.plus(LONGEST_WAIT) { Time::ZERO } else { due });
        fresh.into_iter().chain(retry).min().unwrap_or(Time::ZERO)
    }
}

from_row! {
    pub(in crate::store) struct PendingDeliveryRow {
        message_id: MessageId,
        pub(in crate::store) endpoint_id: EndpointId,
        kind: i16,
        due_at: Time,
        attempts: i32,
        step: i32,
        generation: i32,
        trigger: i16,
    }
}

impl From<PendingDeliveryRow> for PendingDelivery {
    fn from(row: PendingDeliveryRow) -> PendingDelivery {
        let progress = Progress {
            attempts: row.attempts,
            step: row.step,
            generation: row.generation,
            trigger: Trigger::from_code(row.trigger),
        };
        PendingDelivery {
            message_id: row.message_id,
            endpoint_id: row.endpoint_id,
            state: DeliveryState::from_code(row.kind),
            due_at: row.due_at,
            progress,
        }
    }
}

/// SQLite has no LATERAL: the inner query finds the first keys of each lane by index. $1 holds the 16 bytes of each
/// lane's endpoint, and $2 a number per lane, see [`pack_lane`].
const SQLITE_LANES: &str =
    "SELECT d.message_id, d.endpoint_id, d.kind, d.due_at, d.attempts, d.step, d.generation, d.trigger
     FROM json_each($2) AS lane CROSS JOIN due AS d
     WHERE d.endpoint_id = substr($1, lane.key * 16 + 1, 16) AND d.message_id IN (
         SELECT message_id FROM due WHERE slot = (lane.value & 255) AND endpoint_id = substr($1, lane.key * 16 + 1, 16)
             AND kind = $3 AND due_at >= (lane.value >> 8)
         ORDER BY due_at LIMIT $4)";

/// A lane's slot in the lowest 8 bits, and above them its minimum due time in microseconds (up to the year 3111).
fn pack_lane(slot: u8, from: Time) -> i64 {
    const LATEST: i64 = i64::MAX >> 8;
    from.micros().clamp(0, LATEST) << 8 | i64::from(slot)
}

impl Store {
    /// The first pending deliveries of each lane by due time, due or not. The limits apply per lane, so one lane's
    /// backlog does not hide the others.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn pending_deliveries(&self, lanes: &[LaneRequest]) -> Result<Vec<PendingDelivery>, StoreError> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<PendingDeliveryRow> = match &self.inner.backend {
            Backend::Sqlite(backend) => {
                // LIMIT cannot differ per lane: lanes are grouped by their limit, rounded up to a power of two.
                let mut groups: BTreeMap<(i16, u64), sqlite::Packed> = BTreeMap::new();
                for lane in lanes {
                    let kinds = [
                        (DeliveryState::Fresh, lane.fresh, lane.fresh_from),
                        (DeliveryState::Retry, lane.retries, lane.retries_from),
                    ];
                    for (state, most, from) in kinds {
                        if let Some(most) = u64::try_from(most).ok().filter(|most| *most > 0) {
                            let packed = groups.entry((state.code(), most.next_power_of_two())).or_default();
                            packed.push(&[&lane.endpoint.0.as_bytes()[..]], &pack_lane(lane.slot, from))?;
                        }
                    }
                }
                let mut rows: Vec<PendingDeliveryRow> = Vec::new();
                for ((kind, most), packed) in groups {
                    let (ids, list) = packed.values()?;
                    let query = sqlx::query_as(SQLITE_LANES).bind(ids).bind(list).bind(kind).bind(most as i64);
                    rows.extend(query.fetch_all(&backend.vital).await?);
                }
                rows
            }
            Backend::Postgres(backend) => {
                sqlx::query_as(
                    "SELECT d.* FROM UNNEST($1::smallint[], $2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[])
                         AS lane (slot, endpoint_id, kind, most, due_from),
                     LATERAL (SELECT message_id, endpoint_id, kind, due_at, attempts, step, generation, trigger
                              FROM due WHERE slot = lane.slot AND endpoint_id = lane.endpoint_id AND kind = lane.kind
                                  AND due_at >= lane.due_from
                              ORDER BY due_at LIMIT lane.most) AS d",
                )
                .bind(lanes.iter().flat_map(|lane| [i16::from(lane.slot); 2]).collect::<Vec<i16>>())
                .bind(lanes.iter().flat_map(|lane| [lane.endpoint.0; 2]).collect::<Vec<_>>())
                .bind(
                    lanes
                        .iter()
                        .flat_map(|_| [DeliveryState::Fresh.code(), DeliveryState::Retry.code()])
                        .collect::<Vec<i16>>(),
                )
                .bind(lanes.iter().flat_map(|lane| [lane.fresh, lane.retries]).collect::<Vec<i64>>())
                .bind(
                    lanes
                        .iter()
                        .flat_map(|lane| [lane.fresh_from.micros(), lane.retries_from.micros()])
                        .collect::<Vec<i64>>(),
                )
                .fetch_all(&backend.engine)
                .await?
            }
        };
        let mut waiting: Vec<PendingDelivery> = rows.into_iter().map(PendingDelivery::from).collect();
        waiting.sort_by_key(|one| (one.endpoint_id, one.due_at, one.message_id));
        if matches!(&self.inner.backend, Backend::Sqlite(_)) {
            // Apply the exact limits.
            let mut left: HashMap<(EndpointId, i16), i64> = HashMap::with_capacity(2 * lanes.len());
            for lane in lanes {
                left.insert((lane.endpoint, DeliveryState::Fresh.code()), lane.fresh);
                left.insert((lane.endpoint, DeliveryState::Retry.code()), lane.retries);
            }
            waiting.retain(|one| {
                left.get_mut(&(one.endpoint_id, one.state.code())).is_some_and(|left| {
                    *left -= 1;
                    *left >= 0
                })
            });
        }
        Ok(waiting)
    }

    /// Up to `most` endpoints with pending deliveries in these slots, by id, starting after the given endpoint of
    /// each slot (nil: from the start). If `most` were found, continue after the last endpoint of each slot. A loose
    /// index scan: a few steps per endpoint, independent of its backlog.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn pending_lanes(&self, slots: &[(u8, EndpointId)], most: usize) -> Result<Vec<PendingLane>, StoreError> {
        const SQLITE: &str = "WITH RECURSIVE lane (slot, endpoint_id) AS (
                 SELECT json_extract(value, '$[0]'),
                     (SELECT endpoint_id FROM due WHERE slot = json_extract(value, '$[0]')
                          AND endpoint_id > unhex(json_extract(value, '$[1]')) ORDER BY endpoint_id LIMIT 1)
                 FROM json_each($1)
                 UNION ALL
                 SELECT slot, (SELECT endpoint_id FROM due WHERE slot = lane.slot AND endpoint_id > lane.endpoint_id
                               ORDER BY endpoint_id LIMIT 1)
                 FROM lane WHERE lane.endpoint_id IS NOT NULL)";
        const POSTGRES: &str = "WITH RECURSIVE lane (slot, endpoint_id) AS (
                 SELECT slots.slot, first.endpoint_id
                 FROM UNNEST($1::smallint[], $3::uuid[]) AS slots (slot, after), LATERAL (
                     SELECT endpoint_id FROM due WHERE slot = slots.slot AND endpoint_id > slots.after
                     ORDER BY endpoint_id LIMIT 1) AS first
                 UNION ALL
                 SELECT lane.slot, next.endpoint_id FROM lane, LATERAL (
                     SELECT endpoint_id FROM due WHERE slot = lane.slot AND endpoint_id > lane.endpoint_id
                     ORDER BY endpoint_id LIMIT 1) AS next)";
        const FIRST_DUE: &str = "SELECT slot, endpoint_id,
                 (SELECT due_at FROM due WHERE due.slot = lane.slot AND due.endpoint_id = lane.endpoint_id AND kind = 0
                  ORDER BY due_at LIMIT 1),
                 (SELECT due_at FROM due WHERE due.slot = lane.slot AND due.endpoint_id = lane.endpoint_id AND kind = 1
                  ORDER BY due_at LIMIT 1)
             FROM lane WHERE endpoint_id IS NOT NULL LIMIT $2";
        type Row = (i16, EndpointId, Option<Time>, Option<Time>);
        let rows: Vec<Row> = match &self.inner.backend {
            Backend::Sqlite(backend) => {
                let list: Vec<(u8, String)> =
                    slots.iter().map(|(slot, after)| (*slot, after.0.simple().to_string())).collect();
                sqlx::query_as(sqlx::AssertSqlSafe(format!("{SQLITE} {FIRST_DUE}")))
                    .bind(codec::json(&list)?)
                    .bind(most as i64)
                    .fetch_all(&backend.vital)
                    .await?
            }
            Backend::Postgres(backend) => {
                sqlx::query_as(sqlx::AssertSqlSafe(format!("{POSTGRES} {FIRST_DUE}")))
                    .bind(slots.iter().map(|(slot, _)| i16::from(*slot)).collect::<Vec<i16>>())
                    .bind(most as i64)
                    .bind(codec::uuids(slots.iter().map(|(_, after)| after)))
                    .fetch_all(&backend.engine)
                    .await?
            }
        };
        let lane = |(slot, endpoint, fresh_due, retry_due): Row| PendingLane {
            endpoint,
            slot: slot as u8,
            fresh_due,
            retry_due,
        };
        Ok(rows.into_iter().map(lane).collect())
    }

    /// The number of pending deliveries, counted up to `most`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn pending_count(&self, most: i64) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT count(*) FROM (SELECT 1 FROM due LIMIT $1) AS pending";
        Ok(read_vital!(self, db => sqlx::query_scalar(SQL).bind(most).fetch_one(db).await)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_lane_keeps_slot_and_due_time() {
        let now = Time::from_micros(1_763_800_000_123_456);
        assert_eq!((pack_lane(255, now) & 255, pack_lane(255, now) >> 8), (255, now.micros()));
        assert_eq!((pack_lane(7, Time::ZERO) & 255, pack_lane(7, Time::ZERO) >> 8), (7, 0));
        let latest = pack_lane(255, Time::from_micros(i64::MAX));
        assert!(latest & 255 == 255 && latest >> 8 > now.micros() * 20, "{latest}");
    }

    #[test]
    fn deliveries_due_when_accepted_are_due_by_any_clock() {
        let accepted = Time::from_micros(1_763_800_000_123_456);
        let message_id = MessageId::floor(accepted);
        let minute = Duration::from_secs(60);
        let due = |state, due_at, now| {
            let endpoint_id = EndpointId(uuid::Uuid::nil());
            PendingDelivery { message_id, endpoint_id, state, due_at, progress: Progress::default() }.is_due(now)
        };
        let behind = accepted.minus(Duration::from_secs(3_600));
        assert!(due(DeliveryState::Fresh, accepted, accepted) && due(DeliveryState::Fresh, accepted, behind));
        assert!(!due(DeliveryState::Fresh, accepted.plus(minute), behind), "this one is scheduled");
        assert!(due(DeliveryState::Fresh, accepted.plus(minute), accepted.plus(minute)));
        assert!(
            !due(DeliveryState::Retry, accepted.plus(minute), accepted) && !due(DeliveryState::Retry, accepted, behind)
        );
        assert!(due(DeliveryState::Retry, accepted.plus(WAIT_LIMIT * 3), accepted), "no retry waits so long");
    }
}
