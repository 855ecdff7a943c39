//! A relay step: lock due outbox rows, accept them as messages and delete them, all **in one transaction**.
//!
//! The relay never selects "ids greater than the last": transactions commit out of order, and rows would be skipped.
//! Rows are untrusted input: every column is read as bytes and validated.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use crate::domain::deliveries::message::{MessageSpec, parse_channels, too_large};
use crate::domain::{AppId, Invalid, MessageId, Time, Uid};
use crate::store::db::budget::Budget;
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::ingest::accept::{AcceptItem, ItemOutcome, Rejection, accept_in};
use crate::store::ingest::outbox::row_checks::RowChecks;
use crate::store::ingest::outbox::{RelayReport, RelayRequest, relay_activity, stuck_rows};
use crate::store::queue::ordering;
use crate::store::queue::signals::Admission;
use crate::store::{AppRef, Inner, StoreError, Tx};

/// Characters of a name read from a row: more than any valid name has, so overlong names are still rejected.
const NAME_LIMIT: i32 = 2_000;
/// Maximum payload bytes of a step; a larger first row is taken alone.
const STEP_BYTES: i64 = 8 * 1024 * 1024;
/// Bounds of a stuck row's backoff.
const MIN_BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(600);

/// SQL for the due time of a row; writers may have inserted any value. Must equal the expression of the index.
pub(in crate::store) const SQLITE_LOOK_AT: &str = "CASE typeof(look_at) WHEN 'integer' THEN look_at ELSE 0 END";
pub(in crate::store) const POSTGRES_LOOK_AT: &str = "coalesce(look_at, 0)";

/// A condition that skips untried rows below the [watermark](crate::store::ingest::outbox::outbox_watermark), on the
/// same index. The watermark is bound at `place` even if it is `None`.
pub(in crate::store) fn from_watermark(watermark: Option<i64>, place: &str) -> String {
    match watermark {
        Some(_) => format!("AND ({POSTGRES_LOOK_AT}, id) >= (0, {place})"),
        None => format!("AND CAST({place} AS bigint) IS NULL"),
    }
}

from_row! {
    /// A row as read, not validated yet.
    struct RawRow {
        /// The row's number, from the database or its writer; for display.
        number: Option<i64>,
        application: Option<Vec<u8>>,
        event_type: Option<Vec<u8>>,
        /// `None` although `payload_bytes` is set: larger than the limit and not read.
        payload: Option<Vec<u8>>,
        payload_bytes: Option<i64>,
        event_id: Option<Vec<u8>>,
        channels: Option<Vec<u8>>,
        occurred_at: Option<Vec<u8>>,
        stuck_since: Option<Time>,
    }
}

/// Identifies a row within the transaction. The table has no unique key, because a constraint could fail the writer's
/// transaction. On PostgreSQL the `ctid` is stable while the row is locked.
#[derive(Clone)]
pub(super) enum OutboxRowId {
    /// SQLite's rowid.
    Id(i64),
    /// PostgreSQL's ctid.
    Place(String),
}

pub(in crate::store) struct OutboxRow {
    pub(super) row: OutboxRowId,
    columns: RawRow,
}

impl OutboxRow {
    /// Reads a row. The column `place` identifies it.
    fn read<'r, R: Row, P>(row: &'r R, id: fn(P) -> OutboxRowId) -> sqlx::Result<OutboxRow>
    where
        P: Decode<'r, R::Database> + Type<R::Database>,
        RawRow: FromRow<'r, R>,
        &'static str: ColumnIndex<R>,
    {
        Ok(OutboxRow { row: id(row.try_get("place")?), columns: RawRow::from_row(row)? })
    }

    /// Validates the row.
    fn item(&self, max_payload: usize, now: Time) -> Result<AcceptItem, Invalid> {
        let row = &self.columns;
        let application = required("application", row.application.as_deref())?;
        let app = AppRef::parse(application).map_err(|wrong| Invalid::new("application", wrong.reason))?;
        let event_type = required("event_type", row.event_type.as_deref())?.to_owned();
        let event_id = text("event_id", row.event_id.as_deref())?;
        let occurred_at = text("occurred_at", row.occurred_at.as_deref())?;
        let payload = match (&row.payload, row.payload_bytes) {
            (Some(payload), _) => payload.clone(),
            (None, Some(bytes)) => return Err(too_large(bytes.max(0) as usize, max_payload)),
            (None, None) => return Err(Invalid::new("payload", "is missing")),
        };
        let spec = MessageSpec {
            event_type,
            event_id: event_id.map(|id| Uid::parse("event_id", id, MessageId::PREFIX)).transpose()?,
            channels: parse_channels(text("channels", row.channels.as_deref())?),
            payload: payload.into(),
            occurred_at: occurred_at.map(parse_time).transpose()?,
            ..MessageSpec::default()
        };
        spec.check(max_payload).map_err(|mut wrong| wrong.swap_remove(0))?;
        Ok(AcceptItem { tenant: None, app, only_endpoint: None, spec, at: now, idempotency_key: None, audit: None })
    }

    /// The application as written, cut; for display.
    pub(super) fn name(&self) -> String {
        shown(self.columns.application.as_deref())
    }

    /// The event type as written, cut; for display.
    pub(super) fn event_type(&self) -> String {
        shown(self.columns.event_type.as_deref())
    }

    /// The application, if the text may name one.
    pub(super) fn app(&self) -> Option<AppRef> {
        AppRef::parse(std::str::from_utf8(self.columns.application.as_deref()?).ok()?).ok()
    }

    pub(super) fn number(&self) -> Option<i64> {
        self.columns.number
    }

    pub(super) fn stuck_since(&self) -> Option<Time> {
        self.columns.stuck_since
    }

    pub(super) fn next_retry(&self, now: Time) -> Time {
        let stuck_for = self.columns.stuck_since.map_or(Duration::ZERO, |since| now.since(since));
        now.plus(stuck_for.clamp(MIN_BACKOFF, MAX_BACKOFF))
    }
}

fn shown(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).chars().take(80).collect()
}

fn text<'r>(field: &str, bytes: Option<&'r [u8]>) -> Result<Option<&'r str>, Invalid> {
    let text = bytes.map(std::str::from_utf8).transpose().map_err(|_| Invalid::new(field, "is not UTF-8"))?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn required<'r>(field: &str, bytes: Option<&'r [u8]>) -> Result<&'r str, Invalid> {
    text(field, bytes)?.ok_or_else(|| Invalid::new(field, "is missing"))
}

/// RFC 3339, or PostgreSQL's `now()::text`: a space instead of the T, an offset of hours only.
fn parse_time(text: &str) -> Result<Time, Invalid> {
    let mut written = text.trim().replacen(' ', "T", 1);
    let offset_of_hours = written.len() > 3 && {
        let tail = &written.as_bytes()[written.len() - 3..];
        matches!(tail[0], b'+' | b'-') && tail[1..].iter().all(u8::is_ascii_digit) && written.contains(':')
    };
    if offset_of_hours {
        written.push_str(":00");
    }
    Time::parse(&written).map_err(|error| Invalid::new("occurred_at", error.to_string()))
}

/// Locks due rows, accepts as many of them as fit into `budget` and deletes those. Returns the result, the admissions
/// for the engine, and the applications of the accepted messages if feed readers wait. Operational messages about
/// stuck rows are added to `emitted`.
pub(in crate::store) async fn relay_in(
    inner: &Inner,
    tx: &mut Tx,
    request: &RelayRequest,
    budget: &mut Budget,
    emitted: &mut Vec<Admission>,
) -> Result<(RelayReport, Vec<Admission>, Vec<AppId>), StoreError> {
    ordering::lock_relay_order(tx).await?;
    let rows = lock_due_rows(tx, inner, request).await?;
    let mut relayed = RelayReport::default();
    let (mut items, mut valid_rows, mut done) = (Vec::new(), Vec::new(), Vec::new());
    let mut stuck: Vec<(&OutboxRow, String)> = Vec::new();
    let mut checks = RowChecks::of(inner, tx, &rows).await?;
    for row in &rows {
        // The rows that follow are left for the next step.
        if checks.is_over() {
            relayed.left += 1;
            continue;
        }
        match row.item(inner.max_payload, request.now) {
            Ok(mut item) => match checks.check(inner, &mut item).await? {
                None => {
                    items.push(item);
                    valid_rows.push(row);
                }
                Some(reason) => stuck.push((row, reason)),
            },
            Err(wrong) => stuck.push((row, wrong.to_string())),
        }
    }
    let accepted = accept_in(tx, inner, &items.iter().collect::<Vec<_>>(), budget).await?;
    relayed.left += items.len() - accepted.outcomes.len();
    let apps = if inner.wakeups.is_idle() { Vec::new() } else { accepted.apps().collect() };
    for (row, outcome) in valid_rows.into_iter().zip(accepted.outcomes) {
        match outcome {
            ItemOutcome::Decided(Ok(_)) => relayed.accepted += 1,
            ItemOutcome::Decided(Err(Rejection::Duplicate(_))) => relayed.duplicates += 1,
            ItemOutcome::Decided(Err(rejection)) => {
                stuck.push((row, rejection.to_string()));
                continue;
            }
            ItemOutcome::NotLoaded(app) => {
                relayed.not_loaded.insert(app);
                continue;
            }
        }
        done.push(&row.row);
    }
    delete(tx, &done).await?;
    relay_activity::count(tx, relayed.accepted, request.now).await?;
    emitted.extend(stuck_rows::mark(inner, tx, &stuck, request.now).await?);
    relayed.stuck.extend(stuck.into_iter().map(|(row, reason)| (row.name(), reason)));
    Ok((relayed, accepted.admissions, apps))
}

/// Locks and reads due rows. Skips rows that another process has locked.
pub(in crate::store) async fn lock_due_rows(
    tx: &mut Tx,
    inner: &Inner,
    request: &RelayRequest,
) -> Result<Vec<OutboxRow>, StoreError> {
    let max = inner.max_payload as i64;
    match tx {
        Tx::Sqlite(tx) => {
            let sql = format!(
                "SELECT rowid, octet_length(payload) FROM outbox WHERE {SQLITE_LOOK_AT} <= $1
                 ORDER BY {SQLITE_LOOK_AT}, rowid LIMIT $2"
            );
            let next: Vec<(i64, Option<i64>)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .bind(request.now)
                .bind(request.limit)
                .fetch_all(&mut **tx)
                .await?;
            // Cast to BLOB before `substr`: SQLite's text functions stop at a NUL, which would change the name.
            const SQL: &str =
                "SELECT rowid AS place, rowid AS number, substr(CAST(application AS BLOB), 1, $2) AS application,
                     substr(CAST(event_type AS BLOB), 1, $2) AS event_type,
                     CASE WHEN octet_length(payload) <= $3 THEN CAST(payload AS BLOB) END AS payload,
                     octet_length(payload) AS payload_bytes, substr(CAST(event_id AS BLOB), 1, $2) AS event_id,
                     substr(CAST(channels AS BLOB), 1, $2) AS channels,
                     substr(CAST(occurred_at AS BLOB), 1, $2) AS occurred_at,
                     CASE typeof(stuck_since) WHEN 'integer' THEN stuck_since END AS stuck_since
                 FROM outbox WHERE rowid IN (SELECT value FROM json_each($1)) ORDER BY rowid";
            let rows = sqlx::query(SQL)
                .bind(codec::json(&fitting_prefix(next, max))?)
                .bind(NAME_LIMIT)
                .bind(max)
                .try_map(|row: SqliteRow| OutboxRow::read(&row, OutboxRowId::Id))
                .fetch_all(&mut **tx)
                .await?;
            Ok(rows)
        }
        Tx::Postgres(tx) => {
            let from = inner.outbox_watermark.current();
            let sql = format!(
                "SELECT CAST(ctid AS text), CAST(octet_length(payload) AS bigint),
                     CASE {POSTGRES_LOOK_AT} WHEN 0 THEN id END FROM outbox
                 WHERE {POSTGRES_LOOK_AT} <= $1 {} ORDER BY {POSTGRES_LOOK_AT}, id LIMIT $2 FOR UPDATE SKIP LOCKED",
                from_watermark(from, "$3")
            );
            let next: Vec<(String, Option<i64>, Option<i64>)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .bind(request.now)
                .bind(request.limit)
                .bind(from)
                .fetch_all(&mut **tx)
                .await?;
            inner.outbox_watermark.relayed(next.iter().filter_map(|(_, _, id)| *id));
            let next = next.into_iter().map(|(place, bytes, _)| (place, bytes)).collect();
            const SQL: &str =
                "SELECT CAST(ctid AS text) AS place, id AS number, convert_to(left(application, $2), 'UTF8') AS application,
                     convert_to(left(event_type, $2), 'UTF8') AS event_type,
                     CASE WHEN octet_length(payload) <= $3 THEN convert_to(payload, 'UTF8') END AS payload,
                     CAST(octet_length(payload) AS bigint) AS payload_bytes,
                     convert_to(left(event_id, $2), 'UTF8') AS event_id,
                     convert_to(left(channels, $2), 'UTF8') AS channels,
                     convert_to(left(occurred_at, $2), 'UTF8') AS occurred_at, stuck_since
                 FROM outbox WHERE ctid = ANY(CAST($1::text[] AS tid[])) ORDER BY id";
            let rows = sqlx::query(SQL)
                .bind(fitting_prefix(next, max))
                .bind(NAME_LIMIT)
                .bind(max)
                .try_map(|row: PgRow| OutboxRow::read(&row, OutboxRowId::Place))
                .fetch_all(&mut **tx)
                .await?;
            Ok(rows)
        }
    }
}

/// The longest prefix of the rows whose payloads fit into one step.
fn fitting_prefix<K>(rows: Vec<(K, Option<i64>)>, max_payload: i64) -> Vec<K> {
    let mut bytes = 0;
    // Payloads over the limit are not read.
    let weigh = |size: Option<i64>| size.filter(|size| *size <= max_payload).unwrap_or(0);
    rows.into_iter()
        .enumerate()
        .take_while(|(n, (_, size))| {
            bytes += weigh(*size);
            *n == 0 || bytes <= STEP_BYTES
        })
        .map(|(_, (key, _))| key)
        .collect()
}

/// Deletes rows that were accepted or are duplicates.
async fn delete(tx: &mut Tx, rows: &[&OutboxRowId]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let deleted = match tx {
        Tx::Sqlite(tx) => {
            let ids: Vec<i64> =
                rows.iter().filter_map(|row| if let OutboxRowId::Id(id) = row { Some(*id) } else { None }).collect();
            sqlx::query("DELETE FROM outbox WHERE rowid IN (SELECT value FROM json_each($1))")
                .bind(codec::json(&ids)?)
                .execute(&mut **tx)
                .await?
                .rows_affected()
        }
        Tx::Postgres(tx) => {
            let places: Vec<&str> = rows
                .iter()
                .filter_map(|row| if let OutboxRowId::Place(place) = row { Some(place.as_str()) } else { None })
                .collect();
            sqlx::query("DELETE FROM outbox WHERE ctid = ANY(CAST($1::text[] AS tid[]))")
                .bind(places)
                .execute(&mut **tx)
                .await?
                .rows_affected()
        }
    };
    // A row that stays would be accepted again.
    match deleted == rows.len() as u64 {
        true => Ok(()),
        false => Err(StoreError::Unavailable(format!("only {deleted} of {} outbox rows were deleted", rows.len()))),
    }
}

#[cfg(test)]
mod tests {
    use crate::store::ingest::outbox::relay::*;

    #[test]
    fn times_as_people_write_them() {
        let noon = Time::parse("2026-11-22T12:00:00Z").unwrap();
        for text in
            ["2026-11-22T12:00:00Z", "2026-11-22 12:00:00+00", "2026-11-22 13:00:00+01:00", " 2026-11-22 07:00:00-05"]
        {
            assert_eq!(parse_time(text), Ok(noon), "{text}");
        }
        assert!(parse_time("2026-11-22").is_err() && parse_time("noon").is_err());
    }
}
