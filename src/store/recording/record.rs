//! Recording: what came of an attempt goes into the store together with what it makes of its delivery.
//!
//! Three things keep a record from undoing what others did meanwhile:
//! * the **epoch**: who lost the slot since the attempt was sent changes nothing of the delivery;
//! * the **generation**: a resend or a cancel since then stands;
//! * the number of **attempts**: each record goes one step from where it began.
//!
//! Whatever they say, the attempt itself is appended: every attempt is recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sqlx::FromRow;
use uuid::Uuid;

use crate::domain::attempt::Attempt;
use crate::domain::delivery::{DeadReason, Next, Progress};
use crate::domain::endpoint::DisabledReason;
use crate::domain::{AttemptId, EndpointId, MessageId, OrgId, Time};
use crate::store::catalog::applications;
use crate::store::db::{codec, sqlite};
use crate::store::queue::dead;
use crate::store::queue::signals::Admission;
use crate::store::recording::{attempt_insert, failing, health, operational, operational_event, rollups};
use crate::store::{Inner, Store, StoreError, Tx, on};

/// An attempt that was made, and what it makes of its delivery.
#[derive(Clone, Debug)]
pub struct Finished {
    pub org: OrgId,
    pub attempt: Attempt,
    /// Where the delivery stood when the attempt began.
    pub before: Progress,
    pub next: Next,
    /// The slot under whose lease it was sent, and that lease's epoch.
    pub slot: u8,
    pub epoch: i64,
    /// The endpoint is to be disabled, and why.
    pub disable: Option<DisabledReason>,
    /// Until when the circuit breaker holds back what waits for the endpoint, now that this attempt has ended.
    pub rests_until: Option<Time>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The delivery is where `next` says.
    Applied,
    /// Somebody resent, canceled or deleted it meanwhile, or this was recorded before: what the store has stands.
    Superseded,
    /// The slot has another owner now: what that one does stands.
    Fenced,
}

impl Store {
    /// Records a batch; answered in its order, after the commit.
    ///
    /// # Errors
    /// The store is away: nothing was recorded, record it again. (If the commit itself failed, doing it again is harmless: an attempt is
    /// appended once.)
    pub async fn record(&self, finished: impl Into<Arc<[Finished]>>) -> Result<Vec<Recorded>, StoreError> {
        self.inner.queues.record(finished.into()).await
    }
}

/// What a transaction finds out about its rows on SQLite, where rows that come back cost more than writing them. PostgreSQL always
/// tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Care {
    /// Every row is expected to be written, as it nearly always is; only their number is looked at.
    Expecting,
    /// Each statement says which rows it wrote.
    Telling,
}

/// What came of a batch, and what it makes the engine tell the organizations, after the commit.
pub(in crate::store) type Recording = (Vec<Recorded>, Vec<Admission>);

/// Records `finished` inside `tx`. `None`: not everything was as [expected](Care::Expecting), so `tx` is to be rolled back and all of it
/// done again with [`Care::Telling`].
pub(in crate::store) async fn record_in(
    inner: &Inner,
    tx: &mut Tx,
    finished: &[Finished],
    care: Care,
) -> Result<Option<Recording>, StoreError> {
    let epochs = epochs(tx, finished).await?;
    let current = |one: &Finished| epochs.get(&i16::from(one.slot)) == Some(&one.epoch);
    let mut applied: HashSet<AttemptId> = HashSet::with_capacity(finished.len());
    for round in rounds(finished.iter().filter(|one| current(one))) {
        let Some(moved) = advance(tx, &round, care).await? else { return Ok(None) };
        let moved = round.iter().filter(|one| moved.contains(&(one.attempt.message_id, one.attempt.endpoint_id)));
        applied.extend(moved.map(|one| one.attempt.id));
    }
    let recorded: Vec<Recorded> = finished
        .iter()
        .map(|one| match () {
            () if applied.contains(&one.attempt.id) => Recorded::Applied,
            () if current(one) => Recorded::Superseded,
            () => Recorded::Fenced,
        })
        .collect();
    for (one, _) in finished.iter().zip(&recorded).filter(|(_, what)| **what == Recorded::Superseded) {
        count_attempt(tx, one).await?;
    }
    // What was recorded before (a commit that came through after all) is not counted again.
    let settled = |one: &Finished| one.next == Next::Delivered && applied.contains(&one.attempt.id);
    let Some(mut new) = attempt_insert::append(tx, finished, settled, care).await? else { return Ok(None) };
    let new: Vec<&Finished> = finished.iter().filter(|one| new.remove(&one.attempt.id)).collect();
    let gone = |one: &&Finished| one.disable.is_some() && applied.contains(&one.attempt.id);
    let disabled: BTreeMap<EndpointId, &Finished> =
        finished.iter().filter(gone).map(|one| (one.attempt.endpoint_id, one)).collect();
    applications::touch(tx, disabled.values().map(|one| one.attempt.app_id)).await?;
    health::note(tx, &new).await?;
    let mut happened = operational_event::of_records(finished, &recorded);
    happened.extend(failing::disable_gone(inner, tx, disabled.into_values()).await?);
    let told = operational::tell(inner, tx, happened).await?;
    rollups::add(tx, &new).await?;
    Ok(Some((recorded, told)))
}

/// Two attempts of one delivery may wait in one batch (the store was away): each is a step of its own, in their order. Each round is
/// sorted: two processes that record on the same rows wait for each other in one order.
fn rounds<'f>(finished: impl Iterator<Item = &'f Finished>) -> Vec<Vec<&'f Finished>> {
    let mut sorted: Vec<&Finished> = finished.collect();
    sorted.sort_by_key(|one| (one.attempt.message_id, one.attempt.endpoint_id, one.before.attempts));
    let mut rounds: Vec<Vec<&Finished>> = Vec::new();
    let mut round = 0;
    let mut before: Option<&Finished> = None;
    for one in sorted {
        let same = |other: &Finished| {
            (other.attempt.message_id, other.attempt.endpoint_id) == (one.attempt.message_id, one.attempt.endpoint_id)
        };
        round = if before.is_some_and(same) { round + 1 } else { 0 };
        if rounds.len() <= round {
            rounds.push(Vec::new());
        }
        rounds[round].push(one);
        before = Some(one);
    }
    rounds
}

/// The present epochs of the slots of `finished`.
async fn epochs(tx: &mut Tx, finished: &[Finished]) -> Result<HashMap<i16, i64>, StoreError> {
    let slots: BTreeSet<i16> = finished.iter().map(|one| i16::from(one.slot)).collect();
    match tx {
        Tx::Sqlite(tx) => {
            // One row instead of one for each slot: rows cost, see [`Care`].
            const SQL: &str = "SELECT json_group_object(slot, epoch) FROM slot
                 WHERE slot IN (SELECT value FROM json_each($1))";
            let text: String = sqlx::query_scalar(SQL).bind(codec::json(&slots)?).fetch_one(&mut **tx).await?;
            codec::from_json(&text)
        }
        Tx::Postgres(tx) => {
            let rows: Vec<(i16, i64)> = sqlx::query_as("SELECT slot, epoch FROM slot WHERE slot = ANY($1)")
                .bind(slots.into_iter().collect::<Vec<i16>>())
                .fetch_all(&mut **tx)
                .await?;
            Ok(rows.into_iter().collect())
        }
    }
}

type Moved = HashSet<(MessageId, EndpointId)>;

/// Moves deliveries on; gives back those that were where their attempt had begun. A delivery that has ended leaves the queue: a dead one
/// for `dead`, a delivered one for the attempt that delivered it, which is appended next.
async fn advance(tx: &mut Tx, finished: &[&Finished], mode: Care) -> Result<Option<Moved>, StoreError> {
    let is_retry = |one: &&&Finished| matches!(one.next, Next::Retry { .. });
    let (retries, ended): (Vec<&Finished>, Vec<&Finished>) = finished.iter().partition(|one| is_retry(one));
    let Some(mut moved) = put_back(tx, &retries, mode).await? else { return Ok(None) };
    let Some(left) = take_out(tx, &ended, mode).await? else { return Ok(None) };
    let dead: Vec<dead::NewDead> = ended
        .iter()
        .filter(|one| left.contains(&(one.attempt.message_id, one.attempt.endpoint_id)))
        .filter_map(|one| dead::NewDead::of(one))
        .collect();
    dead::insert(tx, &dead).await?;
    moved.extend(left);
    Ok(Some(moved))
}

/// Deliveries that are to be tried again stay in the queue, as retries.
async fn put_back(tx: &mut Tx, retries: &[&Finished], mode: Care) -> Result<Option<Moved>, StoreError> {
    let next = |one: &Finished| match one.next {
        Next::Retry { due, step } => (due.micros(), step),
        Next::Delivered | Next::Dead(_) => (one.attempt.at.micros(), one.before.step),
    };
    match tx {
        _ if retries.is_empty() => Ok(Some(Moved::new())),
        Tx::Sqlite(tx) => {
            const SQL: &str =
                "UPDATE OR FAIL due SET kind = 1, due_at = new.due_at, attempts = $3 + 1, step = $4, trigger = 0
                 FROM (SELECT substr($1, key * 32 + 1, 16) AS message_id, substr($1, key * 32 + 17, 16) AS endpoint_id,
                           value AS due_at FROM json_each($2)) AS new
                 WHERE due.message_id = new.message_id AND due.endpoint_id = new.endpoint_id
                     AND due.attempts = $3 AND due.generation = $5";
            let mut groups: BTreeMap<(i32, i32, i32), Vec<&Finished>> = BTreeMap::new();
            for one in retries {
                groups.entry((one.before.attempts, next(one).1, one.before.generation)).or_default().push(one);
            }
            let mut moved = Moved::new();
            for ((attempts, step, generation), group) in groups {
                let (ids, list) = packed(&group, |one| next(one).0)?;
                let sql = expecting(SQL, mode);
                let query = sqlx::query(sqlx::AssertSqlSafe(sql));
                let query = query.bind(ids).bind(list).bind(attempts).bind(step).bind(generation);
                let Some(some) = written(tx, query, &group, mode).await? else { return Ok(None) };
                moved.extend(some);
            }
            Ok(Some(moved))
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "UPDATE due SET kind = 1, due_at = new.due_at, attempts = new.attempts + 1, step = new.step, trigger = 0
                 FROM UNNEST($1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::bigint[], $6::integer[])
                     AS new (message_id, endpoint_id, attempts, generation, due_at, step)
                 WHERE due.message_id = new.message_id AND due.endpoint_id = new.endpoint_id
                     AND due.attempts = new.attempts AND due.generation = new.generation
                 RETURNING due.message_id, due.endpoint_id";
            let rows: Vec<(MessageId, EndpointId)> = bound_keys(sqlx::query_as(SQL), retries)
                .bind(retries.iter().map(|one| next(one).0).collect::<Vec<i64>>())
                .bind(retries.iter().map(|one| next(one).1).collect::<Vec<i32>>())
                .fetch_all(&mut **tx)
                .await?;
            Ok(Some(rows.into_iter().collect()))
        }
    }
}

/// Deliveries that have ended leave the queue.
async fn take_out(tx: &mut Tx, ended: &[&Finished], mode: Care) -> Result<Option<Moved>, StoreError> {
    match tx {
        _ if ended.is_empty() => Ok(Some(Moved::new())),
        Tx::Sqlite(tx) => {
            const SQL: &str = "DELETE FROM due WHERE (message_id, endpoint_id) IN
                     (SELECT substr($1, key * 32 + 1, 16), substr($1, key * 32 + 17, 16) FROM json_each($2))
                 AND attempts = $3 AND generation = $4";
            // Nearly always all of them were delivered at the first attempt, and one statement does.
            let mut groups: BTreeMap<(i32, i32), Vec<&Finished>> = BTreeMap::new();
            for one in ended {
                groups.entry((one.before.attempts, one.before.generation)).or_default().push(one);
            }
            let mut moved = Moved::new();
            for ((attempts, generation), group) in groups {
                let (ids, list) = packed(&group, |_| 0)?;
                let sql = expecting(SQL, mode);
                let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids).bind(list).bind(attempts).bind(generation);
                let Some(some) = written(tx, query, &group, mode).await? else { return Ok(None) };
                moved.extend(some);
            }
            Ok(Some(moved))
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "DELETE FROM due USING UNNEST($1::uuid[], $2::uuid[], $3::integer[], $4::integer[])
                     AS new (message_id, endpoint_id, attempts, generation)
                 WHERE due.message_id = new.message_id AND due.endpoint_id = new.endpoint_id
                     AND due.attempts = new.attempts AND due.generation = new.generation
                 RETURNING due.message_id, due.endpoint_id";
            let rows: Vec<(MessageId, EndpointId)> =
                bound_keys(sqlx::query_as(SQL), ended).fetch_all(&mut **tx).await?;
            Ok(Some(rows.into_iter().collect()))
        }
    }
}

type KeysQuery<'q> = sqlx::query::QueryAs<'q, sqlx::Postgres, (MessageId, EndpointId), sqlx::postgres::PgArguments>;

/// Binds which deliveries are meant, and where their attempts began.
fn bound_keys<'q>(query: KeysQuery<'q>, finished: &[&Finished]) -> KeysQuery<'q> {
    query
        .bind(finished.iter().map(|one| one.attempt.message_id.0).collect::<Vec<Uuid>>())
        .bind(finished.iter().map(|one| one.attempt.endpoint_id.0).collect::<Vec<Uuid>>())
        .bind(finished.iter().map(|one| one.before.attempts).collect::<Vec<i32>>())
        .bind(finished.iter().map(|one| one.before.generation).collect::<Vec<i32>>())
}

/// Which deliveries are meant, with one number each, as SQLite's statements take them.
fn packed(finished: &[&Finished], number: impl Fn(&Finished) -> i64) -> Result<(Vec<u8>, String), StoreError> {
    let mut packed = sqlite::Packed::default();
    for one in finished {
        let ids = [one.attempt.message_id.0.as_bytes(), one.attempt.endpoint_id.0.as_bytes()];
        packed.push(&ids.map(|id| &id[..]), &number(one))?;
    }
    packed.values()
}

fn expecting(sql: &str, mode: Care) -> String {
    match mode {
        Care::Expecting => sql.to_owned(),
        Care::Telling => format!("{sql} RETURNING message_id, endpoint_id"),
    }
}

/// Runs one of SQLite's statements over `finished`; gives back which of them it wrote. `None`: not all, although that was expected.
async fn written<'q>(
    connection: &mut sqlx::SqliteConnection,
    query: sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    finished: &[&Finished],
    mode: Care,
) -> Result<Option<Vec<(MessageId, EndpointId)>>, StoreError> {
    match mode {
        Care::Telling => {
            Ok(Some(query.try_map(|row| <(MessageId, EndpointId)>::from_row(&row)).fetch_all(connection).await?))
        }
        Care::Expecting => {
            let written = query.execute(connection).await?.rows_affected();
            let all = finished.iter().map(|one| (one.attempt.message_id, one.attempt.endpoint_id));
            Ok((written == finished.len() as u64).then(|| all.collect()))
        }
    }
}

/// What others did to the delivery stands, but the attempt was made: the next one gets the next number. The delivery is in one of three
/// tables.
async fn count_attempt(tx: &mut Tx, one: &Finished) -> Result<(), StoreError> {
    const DUE: &str = "UPDATE due SET attempts = $3 WHERE message_id = $1 AND endpoint_id = $2 AND attempts < $3";
    const DEAD: &str = "UPDATE dead SET attempts = $3 WHERE message_id = $1 AND endpoint_id = $2 AND attempts < $3";
    const DELIVERED: &str =
        "UPDATE attempt SET settles = $3 WHERE message_id = $1 AND endpoint_id = $2 AND settles < $3";
    for sql in [DUE, DEAD, DELIVERED] {
        on!(tx, db => {
            sqlx::query(sql)
                .bind(one.attempt.message_id)
                .bind(one.attempt.endpoint_id)
                .bind(one.before.attempts + 1)
                .execute(db)
                .await
                .map(drop)
        })?;
    }
    Ok(())
}

/// Counts deliveries that have ended as dead otherwise than by their attempts. (Those are counted where they are made.)
pub(in crate::store) fn count_dead(reason: DeadReason, deliveries: u64) {
    if deliveries > 0 {
        metrics::counter!("sendoff_deliveries_dead_total", "reason" => reason.word()).increment(deliveries);
    }
}
