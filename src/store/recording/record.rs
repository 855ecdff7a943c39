//! Recording finished attempts: one transaction inserts the attempts and moves their deliveries to the next state.
//!
//! Three checks keep a record from overwriting newer changes of its delivery:
//! * the **epoch**: a process that has lost the slot since it sent the attempt does not change the delivery;
//! * the **generation**: a resend or cancel since then is kept;
//! * the number of **attempts**: a record applies only to the state from which its attempt started.
//!
//! The attempt itself is inserted in any case.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use sqlx::FromRow as _;
use uuid::Uuid;

use crate::domain::catalog::endpoint::DisabledReason;
use crate::domain::deliveries::attempt::Attempt;
use crate::domain::deliveries::delivery::{DeadReason, Progress, Transition};
use crate::domain::{AttemptId, EndpointId, MessageId, OrgId, Time};
use crate::store::catalog::applications;
use crate::store::db::{codec, sqlite};
use crate::store::queue::dead;
use crate::store::queue::signals::Admission;
use crate::store::recording::{
    attempt_insert, failing_endpoints, failure_streaks, operational, operational_event, rollups,
};
use crate::store::{Backend, Inner, Store, StoreError, Tx, on};

/// A finished attempt, and the next state of its delivery.
#[derive(Clone, Debug)]
pub struct FinishedAttempt {
    pub org: OrgId,
    pub attempt: Attempt,
    /// The delivery's progress when the attempt began.
    pub before: Progress,
    pub next: Transition,
    /// The slot whose lease the sender held, and the epoch of that lease.
    pub slot: u8,
    pub epoch: i64,
    /// Disable the endpoint, for this reason.
    pub disable: Option<DisabledReason>,
    /// The circuit breaker of the endpoint is open until then.
    pub rests_until: Option<Time>,
}

/// The effect of a record on its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    /// The delivery has its next state.
    Applied,
    /// Unchanged: the delivery was resent, canceled or deleted since, or the attempt had been recorded already.
    Superseded,
    /// Unchanged: the slot has another owner.
    Fenced,
}

impl Store {
    /// Records a batch. Returns one result per attempt, in order, after the commit.
    ///
    /// # Errors
    /// The store is unavailable: record the batch again. Safe even if the commit itself failed, because an attempt is
    /// inserted once.
    pub async fn record(&self, finished: impl Into<Arc<[FinishedAttempt]>>) -> Result<Vec<RecordOutcome>, StoreError> {
        self.inner.queues.record(finished.into()).await
    }

    /// Maximum attempts that [`record`](Self::record) should get at once: fewer on SQLite while callers wait for its
    /// only writer.
    pub fn record_batch(&self) -> usize {
        match self.inner.backend {
            Backend::Sqlite(_) => self.inner.accept_rate.record_batch(Instant::now()),
            Backend::Postgres(_) => usize::MAX,
        }
    }
}

/// How SQLite statements check which rows they wrote: `RETURNING` costs more than the writes themselves. PostgreSQL
/// always returns the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum RowCheck {
    /// Optimistic: compare the number of written rows. It nearly always equals the size of the batch.
    Counted,
    /// Exact: `RETURNING` the keys of the written rows.
    Returned,
}

/// The results of a batch, and the operational messages to send after the commit.
pub(in crate::store) type Recording = (Vec<RecordOutcome>, Vec<Admission>);

/// Records `finished` inside `tx`. `None`: [`RowCheck::Counted`] found an unexpected number of rows. Roll back and
/// repeat with [`RowCheck::Returned`].
pub(in crate::store) async fn record_in(
    inner: &Inner,
    tx: &mut Tx,
    finished: &[FinishedAttempt],
    check: RowCheck,
) -> Result<Option<Recording>, StoreError> {
    let epochs = epochs(tx, finished).await?;
    let current = |one: &FinishedAttempt| epochs.get(&i16::from(one.slot)) == Some(&one.epoch);
    let mut applied: HashSet<AttemptId> = HashSet::with_capacity(finished.len());
    for round in rounds(finished.iter().filter(|one| current(one))) {
        let Some(moved) = apply_transitions(tx, &round, check).await? else { return Ok(None) };
        let moved = round.iter().filter(|one| moved.contains(&(one.attempt.message_id, one.attempt.endpoint_id)));
        applied.extend(moved.map(|one| one.attempt.id));
    }
    let recorded: Vec<RecordOutcome> = finished
        .iter()
        .map(|one| match () {
            () if applied.contains(&one.attempt.id) => RecordOutcome::Applied,
            () if current(one) => RecordOutcome::Superseded,
            () => RecordOutcome::Fenced,
        })
        .collect();
    for (one, _) in finished.iter().zip(&recorded).filter(|(_, what)| **what == RecordOutcome::Superseded) {
        count_attempt(tx, one).await?;
    }
    // Attempts that had been recorded already (after a commit with unknown outcome) are not counted again.
    let settled = |one: &FinishedAttempt| one.next == Transition::Delivered && applied.contains(&one.attempt.id);
    let Some(mut new) = attempt_insert::append(tx, finished, settled, check).await? else { return Ok(None) };
    let new: Vec<&FinishedAttempt> = finished.iter().filter(|one| new.remove(&one.attempt.id)).collect();
    let to_disable = |one: &&FinishedAttempt| one.disable.is_some() && applied.contains(&one.attempt.id);
    let disabled: BTreeMap<EndpointId, &FinishedAttempt> =
        finished.iter().filter(to_disable).map(|one| (one.attempt.endpoint_id, one)).collect();
    applications::bump_versions(tx, disabled.values().map(|one| one.attempt.app_id)).await?;
    failure_streaks::update_streaks(tx, &new).await?;
    let mut events = operational_event::of_records(finished, &recorded);
    events.extend(failing_endpoints::disable_gone(inner, tx, disabled.into_values()).await?);
    let emitted = operational::emit(inner, tx, events).await?;
    rollups::add(tx, &new).await?;
    Ok(Some((recorded, emitted)))
}

/// Splits a batch into rounds with at most one attempt per delivery. After an outage of the store, a batch may hold
/// several attempts of one delivery, which apply in order. Each round is sorted, so two processes that record the
/// same rows cannot deadlock.
fn rounds<'f>(finished: impl Iterator<Item = &'f FinishedAttempt>) -> Vec<Vec<&'f FinishedAttempt>> {
    let mut sorted: Vec<&FinishedAttempt> = finished.collect();
    sorted.sort_by_key(|one| (one.attempt.message_id, one.attempt.endpoint_id, one.before.attempts));
    let mut rounds: Vec<Vec<&FinishedAttempt>> = Vec::new();
    let mut round = 0;
    let mut before: Option<&FinishedAttempt> = None;
    for one in sorted {
        let same = |other: &FinishedAttempt| {
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

/// The current epochs of the slots of `finished`.
async fn epochs(tx: &mut Tx, finished: &[FinishedAttempt]) -> Result<HashMap<i16, i64>, StoreError> {
    let slots: BTreeSet<i16> = finished.iter().map(|one| i16::from(one.slot)).collect();
    match tx {
        Tx::Sqlite(tx) => {
            // One row instead of one per slot: returned rows are expensive, see [`RowCheck`].
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

/// Applies the next states. Returns the deliveries that were in the state from which their attempt started. A delivery
/// that has ended leaves `due`. A dead one moves to `dead`. A delivered one is represented by its attempt, which is
/// inserted next.
async fn apply_transitions(
    tx: &mut Tx,
    finished: &[&FinishedAttempt],
    check: RowCheck,
) -> Result<Option<Moved>, StoreError> {
    let is_retry = |one: &&&FinishedAttempt| matches!(one.next, Transition::Retry { .. });
    let (retries, ended): (Vec<&FinishedAttempt>, Vec<&FinishedAttempt>) =
        finished.iter().partition(|one| is_retry(one));
    let Some(mut moved) = reschedule(tx, &retries, check).await? else { return Ok(None) };
    let Some(left) = dequeue(tx, &ended, check).await? else { return Ok(None) };
    let dead: Vec<dead::NewDead> = ended
        .iter()
        .filter(|one| left.contains(&(one.attempt.message_id, one.attempt.endpoint_id)))
        .filter_map(|one| dead::NewDead::of(one))
        .collect();
    dead::insert(tx, &dead).await?;
    moved.extend(left);
    Ok(Some(moved))
}

/// Reschedules deliveries as retries.
async fn reschedule(tx: &mut Tx, retries: &[&FinishedAttempt], check: RowCheck) -> Result<Option<Moved>, StoreError> {
    let next = |one: &FinishedAttempt| match one.next {
        Transition::Retry { due, step } => (due.micros(), step),
        Transition::Delivered | Transition::Dead(_) => (one.attempt.at.micros(), one.before.step),
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
            let mut groups: BTreeMap<(i32, i32, i32), Vec<&FinishedAttempt>> = BTreeMap::new();
            for one in retries {
                groups.entry((one.before.attempts, next(one).1, one.before.generation)).or_default().push(one);
            }
            let mut moved = Moved::new();
            for ((attempts, step, generation), group) in groups {
                let (ids, list) = packed(&group, |one| next(one).0)?;
                let sql = with_returning(SQL, check);
                let query = sqlx::query(sqlx::AssertSqlSafe(sql));
                let query = query.bind(ids).bind(list).bind(attempts).bind(step).bind(generation);
                let Some(some) = execute(tx, query, &group, check).await? else { return Ok(None) };
                moved.extend(some);
            }
            Ok(Some(moved))
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "UPDATE due SET
                     kind = 1, due_at = new.due_at, attempts = new.attempts + 1, step = new.step, trigger = 0
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

/// Deletes ended deliveries from the queue.
async fn dequeue(tx: &mut Tx, ended: &[&FinishedAttempt], check: RowCheck) -> Result<Option<Moved>, StoreError> {
    match tx {
        _ if ended.is_empty() => Ok(Some(Moved::new())),
        Tx::Sqlite(tx) => {
            const SQL: &str = "DELETE FROM due WHERE (message_id, endpoint_id) IN
                     (SELECT substr($1, key * 32 + 1, 16), substr($1, key * 32 + 17, 16) FROM json_each($2))
                 AND attempts = $3 AND generation = $4";
            // Nearly always one group: all delivered at the first attempt.
            let mut groups: BTreeMap<(i32, i32), Vec<&FinishedAttempt>> = BTreeMap::new();
            for one in ended {
                groups.entry((one.before.attempts, one.before.generation)).or_default().push(one);
            }
            let mut moved = Moved::new();
            for ((attempts, generation), group) in groups {
                let (ids, list) = packed(&group, |_| 0)?;
                let sql = with_returning(SQL, check);
                let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids).bind(list).bind(attempts).bind(generation);
                let Some(some) = execute(tx, query, &group, check).await? else { return Ok(None) };
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

/// Binds the keys of the deliveries and the state from which their attempts started.
fn bound_keys<'q>(query: KeysQuery<'q>, finished: &[&FinishedAttempt]) -> KeysQuery<'q> {
    query
        .bind(finished.iter().map(|one| one.attempt.message_id.0).collect::<Vec<Uuid>>())
        .bind(finished.iter().map(|one| one.attempt.endpoint_id.0).collect::<Vec<Uuid>>())
        .bind(finished.iter().map(|one| one.before.attempts).collect::<Vec<i32>>())
        .bind(finished.iter().map(|one| one.before.generation).collect::<Vec<i32>>())
}

/// The keys of the deliveries with one number each, packed for SQLite.
fn packed(
    finished: &[&FinishedAttempt],
    number: impl Fn(&FinishedAttempt) -> i64,
) -> Result<(Vec<u8>, String), StoreError> {
    let mut packed = sqlite::Packed::default();
    for one in finished {
        let ids = [one.attempt.message_id.0.as_bytes(), one.attempt.endpoint_id.0.as_bytes()];
        packed.push(&ids.map(|id| &id[..]), &number(one))?;
    }
    packed.values()
}

fn with_returning(sql: &str, check: RowCheck) -> String {
    match check {
        RowCheck::Counted => sql.to_owned(),
        RowCheck::Returned => format!("{sql} RETURNING message_id, endpoint_id"),
    }
}

/// Executes a SQLite statement for `finished` and returns the keys of the rows it wrote. `None`: under
/// [`RowCheck::Counted`], not all rows.
async fn execute<'q>(
    connection: &mut sqlx::SqliteConnection,
    query: sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    finished: &[&FinishedAttempt],
    check: RowCheck,
) -> Result<Option<Vec<(MessageId, EndpointId)>>, StoreError> {
    match check {
        RowCheck::Returned => {
            Ok(Some(query.try_map(|row| <(MessageId, EndpointId)>::from_row(&row)).fetch_all(connection).await?))
        }
        RowCheck::Counted => {
            let written = query.execute(connection).await?.rows_affected();
            let all = finished.iter().map(|one| (one.attempt.message_id, one.attempt.endpoint_id));
            Ok((written == finished.len() as u64).then(|| all.collect()))
        }
    }
}

/// Counts an attempt whose delivery was changed by others, so the next attempt gets the next number. The delivery is
/// in one of three tables.
async fn count_attempt(tx: &mut Tx, one: &FinishedAttempt) -> Result<(), StoreError> {
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

/// Counts dead deliveries in the metrics. Deliveries that end by an attempt are counted by the engine instead.
pub(in crate::store) fn count_dead(reason: DeadReason, deliveries: u64) {
    if deliveries > 0 {
        metrics::counter!("sendoff_deliveries_dead_total", "reason" => reason.word()).increment(deliveries);
    }
}
