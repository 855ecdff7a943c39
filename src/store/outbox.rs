//! The outbox: the table into which a team's own transaction inserts events, and the relay's half of it.
//!
//! The relay takes rows, brings them through the door and deletes them, all **in one transaction**. It never goes by "ids greater
//! than the last": transactions commit out of order, and that skips rows. A row that cannot be routed stays, marked with the
//! reason (it is *stuck*), and is looked at again: at once when an application of its name appears, otherwise after it has been
//! stuck as long again, 5 s to 10 min.

use std::time::Duration;

use super::accept::{AcceptItem, Refusal, accept_in};
use super::signals::Admission;
use super::{AppRef, Engine, Inner, Store, StoreError, Tx, on, read};
use crate::domain::message::{MessageSpec, too_large};
use crate::domain::{Invalid, Time, Uid};

/// How many bytes of a name are read from a row: more than any name may have, so that too long ones are still refused.
const NAME_BYTES: i32 = 2_000;
/// The longest a stuck row waits until it is looked at again.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const SHORTEST_WAIT: Duration = Duration::from_secs(5);

/// What the relay asks for.
#[derive(Clone, Copy, Debug)]
pub struct RelayRequest {
    /// At most this many rows.
    pub limit: i64,
    pub now: Time,
}

/// What became of the rows that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Messages now.
    pub accepted: usize,
    /// Repeats of an `event_id`: deleted, because what they stand for is in the store.
    pub duplicates: usize,
    /// Left where they are: application as written, reason.
    pub stuck: Vec<(String, String)>,
}

impl Relayed {
    /// How many rows were looked at.
    pub fn rows(&self) -> usize {
        self.accepted + self.duplicates + self.stuck.len()
    }
}

/// How the outbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Rows that the relay has not looked at yet.
    pub waiting: i64,
    /// Rows that could not be routed.
    pub stuck: i64,
}

/// A row that could not be routed, for people. The payload is not shown here: it can be of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckRow {
    pub id: i64,
    pub application: Option<String>,
    pub event_type: Option<String>,
    pub stuck_reason: String,
    pub stuck_since: Time,
    pub look_at: Time,
}

/// A row as it is read: bytes, because nobody has checked anything yet. `row` is what it is updated and deleted by.
struct OutboxRow {
    row: RowKey,
    application: Option<Vec<u8>>,
    event_type: Option<Vec<u8>>,
    /// `None` with a size: larger than the limit, and therefore not read.
    payload: Option<Vec<u8>>,
    payload_bytes: Option<i64>,
    event_id: Option<Vec<u8>>,
    channels: Option<Vec<u8>>,
    occurred_at: Option<Vec<u8>>,
    stuck_since: Option<Time>,
}

/// PostgreSQL's rows are told apart by their place (they are locked, so it stays), because no key of the table is unique: a
/// constraint could refuse a writer. SQLite's by their rowid.
enum RowKey {
    Id(i64),
    Place(String),
}

type Columns = (
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<i64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<Time>,
);

impl OutboxRow {
    fn new(row: RowKey, columns: Columns) -> OutboxRow {
        let (application, event_type, payload, payload_bytes, event_id, channels, occurred_at, stuck_since) = columns;
        OutboxRow { row, application, event_type, payload, payload_bytes, event_id, channels, occurred_at, stuck_since }
    }

    /// What the row asks for.
    fn item(&self, max_payload: usize, now: Time) -> Result<AcceptItem, Invalid> {
        let application = required("application", self.application.as_deref())?;
        let app = AppRef::parse(application).map_err(|wrong| Invalid::new("application", wrong.reason))?;
        let event_type = required("event_type", self.event_type.as_deref())?.to_owned();
        let event_id = text("event_id", self.event_id.as_deref())?;
        let occurred_at = text("occurred_at", self.occurred_at.as_deref())?;
        let payload = match (&self.payload, self.payload_bytes) {
            (Some(payload), _) => payload.clone(),
            (None, Some(bytes)) => return Err(too_large(bytes.max(0) as usize, max_payload)),
            (None, None) => return Err(Invalid::new("payload", "is missing")),
        };
        let spec = MessageSpec {
            event_type,
            event_id: event_id.map(|id| Uid::parse("event_id", id)).transpose()?,
            channels: channels(text("channels", self.channels.as_deref())?),
            payload: payload.into(),
            occurred_at: occurred_at.map(written_time).transpose()?,
        };
        spec.check(max_payload).map_err(|mut wrong| wrong.swap_remove(0))?;
        Ok(AcceptItem { tenant: None, app, spec, at: now })
    }

    fn name(&self) -> String {
        let bytes = self.application.as_deref().unwrap_or_default();
        String::from_utf8_lossy(bytes).chars().take(80).collect()
    }

    fn look_again(&self, now: Time) -> Time {
        let stuck_for = self.stuck_since.map_or(Duration::ZERO, |since| now.since(since));
        now.plus(stuck_for.clamp(SHORTEST_WAIT, LONGEST_WAIT))
    }
}

fn text<'r>(field: &str, bytes: Option<&'r [u8]>) -> Result<Option<&'r str>, Invalid> {
    let text = bytes.map(std::str::from_utf8).transpose().map_err(|_| Invalid::new(field, "is not UTF-8"))?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn required<'r>(field: &str, bytes: Option<&'r [u8]>) -> Result<&'r str, Invalid> {
    text(field, bytes)?.ok_or_else(|| Invalid::new(field, "is missing"))
}

/// Channels as people write them into a text column: a JSON array, or names with commas between.
fn channels(text: Option<&str>) -> Vec<String> {
    let Some(text) = text else { return Vec::new() };
    serde_json::from_str(text)
        .unwrap_or_else(|_| text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// RFC 3339, or what PostgreSQL makes of `now()::text`: a space for the T, an offset of hours only.
fn written_time(text: &str) -> Result<Time, Invalid> {
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

/// Takes rows, brings them through the door and deletes them, inside `tx`.
pub(super) async fn relay_in(
    inner: &Inner,
    tx: &mut Tx,
    request: &RelayRequest,
) -> Result<(Relayed, Vec<Admission>), StoreError> {
    let rows = take(tx, inner.max_payload, request).await?;
    let mut relayed = Relayed::default();
    let (mut items, mut brought, mut done) = (Vec::new(), Vec::new(), Vec::new());
    let mut stuck: Vec<(&OutboxRow, String)> = Vec::new();
    for row in &rows {
        match row.item(inner.max_payload, request.now) {
            Ok(item) => {
                items.push(item);
                brought.push(row);
            }
            Err(wrong) => stuck.push((row, wrong.to_string())),
        }
    }
    let accepted = accept_in(tx, &inner.directory, &inner.master, &items).await?;
    for (row, verdict) in brought.into_iter().zip(accepted.verdicts) {
        match verdict {
            Ok(_) => relayed.accepted += 1,
            Err(Refusal::Duplicate(_)) => relayed.duplicates += 1,
            Err(refusal) => {
                stuck.push((row, refusal.to_string()));
                continue;
            }
        }
        done.push(&row.row);
    }
    delete(tx, &done).await?;
    for (row, reason) in stuck {
        mark(tx, row, &reason, request.now).await?;
        relayed.stuck.push((row.name(), reason));
    }
    Ok((relayed, accepted.admissions))
}

/// Locks and reads the rows whose turn it is. Nobody waits for rows that another process has taken.
async fn take(tx: &mut Tx, max_payload: usize, request: &RelayRequest) -> Result<Vec<OutboxRow>, StoreError> {
    let max = max_payload as i64;
    match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str = "SELECT id,
                     CAST(substr(application, 1, $3) AS BLOB), CAST(substr(event_type, 1, $3) AS BLOB),
                     CASE WHEN octet_length(payload) <= $4 THEN CAST(payload AS BLOB) END, octet_length(payload),
                     CAST(substr(event_id, 1, $3) AS BLOB), CAST(substr(channels, 1, $3) AS BLOB),
                     CAST(substr(occurred_at, 1, $3) AS BLOB), stuck_since
                 FROM outbox WHERE look_at <= $1 ORDER BY look_at, id LIMIT $2";
            type Row = (
                i64,
                Option<Vec<u8>>,
                Option<Vec<u8>>,
                Option<Vec<u8>>,
                Option<i64>,
                Option<Vec<u8>>,
                Option<Vec<u8>>,
                Option<Vec<u8>>,
                Option<Time>,
            );
            let rows: Vec<Row> = sqlx::query_as(SQL)
                .bind(request.now)
                .bind(request.limit)
                .bind(NAME_BYTES)
                .bind(max)
                .fetch_all(&mut **tx)
                .await?;
            let row = |(id, a, e, p, n, i, c, o, s)| OutboxRow::new(RowKey::Id(id), (a, e, p, n, i, c, o, s));
            Ok(rows.into_iter().map(row).collect())
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "SELECT CAST(ctid AS text),
                     convert_to(left(application, $3), 'UTF8'), convert_to(left(event_type, $3), 'UTF8'),
                     CASE WHEN octet_length(payload) <= $4 THEN convert_to(payload, 'UTF8') END,
                     CAST(octet_length(payload) AS bigint),
                     convert_to(left(event_id, $3), 'UTF8'), convert_to(left(channels, $3), 'UTF8'),
                     convert_to(left(occurred_at, $3), 'UTF8'), stuck_since
                 FROM outbox WHERE look_at <= $1 ORDER BY look_at, id LIMIT $2 FOR UPDATE SKIP LOCKED";
            type Row = (
                String,
                Option<Vec<u8>>,
                Option<Vec<u8>>,
                Option<Vec<u8>>,
                Option<i64>,
                Option<Vec<u8>>,
                Option<Vec<u8>>,
                Option<Vec<u8>>,
                Option<Time>,
            );
            let rows: Vec<Row> = sqlx::query_as(SQL)
                .bind(request.now)
                .bind(request.limit)
                .bind(NAME_BYTES)
                .bind(max)
                .fetch_all(&mut **tx)
                .await?;
            let row = |(place, a, e, p, n, i, c, o, s)| OutboxRow::new(RowKey::Place(place), (a, e, p, n, i, c, o, s));
            Ok(rows.into_iter().map(row).collect())
        }
    }
}

async fn delete(tx: &mut Tx, rows: &[&RowKey]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    match tx {
        Tx::Sqlite(tx) => {
            let ids: Vec<i64> =
                rows.iter().filter_map(|row| if let RowKey::Id(id) = row { Some(*id) } else { None }).collect();
            sqlx::query("DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($1))")
                .bind(super::codec::json(&ids)?)
                .execute(&mut **tx)
                .await?;
        }
        Tx::Postgres(tx) => {
            let places: Vec<&str> = rows
                .iter()
                .filter_map(|row| if let RowKey::Place(place) = row { Some(place.as_str()) } else { None })
                .collect();
            sqlx::query("DELETE FROM outbox WHERE ctid = ANY(CAST($1::text[] AS tid[]))")
                .bind(places)
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}

async fn mark(tx: &mut Tx, row: &OutboxRow, reason: &str, now: Time) -> Result<(), StoreError> {
    let (look_at, since) = (row.look_again(now), row.stuck_since.unwrap_or(now));
    let reason = super::codec::plain(reason);
    match (tx, &row.row) {
        (Tx::Sqlite(tx), RowKey::Id(id)) => {
            sqlx::query("UPDATE outbox SET stuck_reason = $2, look_at = $3, stuck_since = $4 WHERE id = $1")
                .bind(id)
                .bind(reason)
                .bind(look_at)
                .bind(since)
                .execute(&mut **tx)
                .await?;
        }
        (Tx::Postgres(tx), RowKey::Place(place)) => {
            sqlx::query(
                "UPDATE outbox SET stuck_reason = $2, look_at = $3, stuck_since = $4 WHERE ctid = CAST($1::text AS tid)",
            )
            .bind(place)
            .bind(reason)
            .bind(look_at)
            .bind(since)
            .execute(&mut **tx)
            .await?;
        }
        _ => {}
    }
    Ok(())
}

/// An application of these names has come to be: rows that wait for it are looked at now.
pub(super) async fn unstick(tx: &mut Tx, names: &[&str]) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE outbox SET look_at = 0 WHERE stuck_reason IS NOT NULL AND application = $1";
    for name in names {
        on!(tx, db => sqlx::query(SQL).bind(*name).execute(db).await.map(drop))?;
    }
    Ok(())
}

impl Store {
    /// One step of the relay: looks at up to `limit` rows whose turn it is.
    ///
    /// # Errors
    /// The store is away, or ([`StoreError::Refused`]) a row upset it: ask again for fewer.
    pub async fn relay(&self, request: RelayRequest) -> Result<Relayed, StoreError> {
        self.inner.queues.relay(request).await
    }

    /// Marks the one row whose turn it is as stuck, because the store itself would not take it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn relay_give_up(&self, now: Time, reason: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for row in take(&mut tx, self.inner.max_payload, &RelayRequest { limit: 1, now }).await? {
            mark(&mut tx, &row, &format!("the store refused it: {reason}"), now).await?;
        }
        tx.commit().await
    }

    /// Whether there is a row whose turn it is. Cheap: asked many times a second while nothing is there.
    ///
    /// # Errors
    /// The store is away.
    pub async fn outbox_has_work(&self, now: Time) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT 1 FROM outbox WHERE look_at <= $1 LIMIT 1";
        let found: Option<i32> = match &self.inner.engine {
            Engine::Sqlite(engine) => sqlx::query_scalar(SQL).bind(now).fetch_optional(&engine.readers).await?,
            Engine::Postgres(engine) => sqlx::query_scalar(SQL).bind(now).fetch_optional(&engine.engine).await?,
        };
        Ok(found.is_some())
    }

    /// Has every stuck row looked at again: a setting may have changed since.
    ///
    /// # Errors
    /// The store is away.
    pub async fn outbox_retry_all(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        const SQL: &str = "UPDATE outbox SET look_at = 0 WHERE stuck_reason IS NOT NULL";
        on!(tx, db => sqlx::query(SQL).execute(db).await.map(drop))?;
        tx.commit().await
    }

    /// How many rows wait and how many are stuck; counts up to 100,000 of each.
    ///
    /// # Errors
    /// The store is away.
    pub async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        const SQL: &str = "SELECT
             (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE stuck_reason IS NULL LIMIT 100000) AS a),
             (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE stuck_reason IS NOT NULL LIMIT 100000) AS b)";
        let (waiting, stuck): (i64, i64) = read!(self, db => sqlx::query_as(SQL).fetch_one(db).await)?;
        Ok(OutboxDepth { waiting, stuck })
    }

    /// The rows that have been stuck for longest. Names that are no text (SQLite's columns take anything) are read as well as they can be.
    ///
    /// # Errors
    /// The store is away.
    pub async fn outbox_stuck(&self, limit: i64) -> Result<Vec<StuckRow>, StoreError> {
        const REST: &str = "stuck_reason, stuck_since, look_at
             FROM outbox WHERE stuck_reason IS NOT NULL ORDER BY stuck_since, id LIMIT $1";
        let columns = match &self.inner.engine {
            Engine::Sqlite(_) => {
                "id, CAST(substr(application, 1, 300) AS BLOB), CAST(substr(event_type, 1, 300) AS BLOB)"
            }
            Engine::Postgres(_) => {
                "id, convert_to(left(application, 300), 'UTF8'), convert_to(left(event_type, 300), 'UTF8')"
            }
        };
        let sql = sqlx::AssertSqlSafe(format!("SELECT {columns}, {REST}"));
        type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, String, Time, Time);
        let rows: Vec<Row> = read!(self, db => sqlx::query_as(sql).bind(limit).fetch_all(db).await)?;
        let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let row = |(id, application, event_type, stuck_reason, stuck_since, look_at): Row| StuckRow {
            id,
            application: text(application),
            event_type: text(event_type),
            stuck_reason,
            stuck_since,
            look_at,
        };
        Ok(rows.into_iter().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let noon = Time::parse("2026-11-22T12:00:00Z").unwrap();
        for text in
            ["2026-11-22T12:00:00Z", "2026-11-22 12:00:00+00", "2026-11-22 13:00:00+01:00", " 2026-11-22 07:00:00-05"]
        {
            assert_eq!(written_time(text), Ok(noon), "{text}");
        }
        assert!(written_time("2026-11-22").is_err() && written_time("noon").is_err());
    }

    #[test]
    fn channels_as_people_write_them() {
        assert_eq!(channels(Some("[\"a\",\"b\"]")), ["a", "b"]);
        assert_eq!(channels(Some("a, b,")), ["a", "b"]);
        assert!(channels(None).is_empty());
    }
}
