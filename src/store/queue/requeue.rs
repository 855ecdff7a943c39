//! Puts deliveries back into the queue, in any state: manual resends, and the steps of background jobs.
//!
//! A delivery is in one place: `due`, `dead`, or the attempt that delivered it. Moving it races with records and
//! other resends. Therefore the steps follow the lock order of all transactions (horizon, due, dead, attempt):
//!
//! 0. Lock the horizon. Deliveries below it are not requeued, because their partition may be about to be dropped.
//! 1. Insert into `due`. This locks the key, and serializes all changes of the same delivery.
//! 2. Delete the delivery from its old place, in a separate statement, which sees everything committed before the
//!    lock was acquired.
//! 3. Continue its counters: the next generation, and the number of attempts.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::domain::deliveries::attempt::Trigger;
use crate::domain::deliveries::delivery::DeliveryState;
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::store::db::codec::from_row;
use crate::store::db::{codec, sqlite};
use crate::store::ingest::due_insert::INSERT_DUE;
use crate::store::{StoreError, Tx, on, partitions};

/// The endpoint whose deliveries are requeued.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct RequeueTarget {
    pub endpoint: EndpointId,
    pub app: AppId,
    pub slot: u8,
}

/// A delivery as read before the transaction.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct DeliverySnapshot {
    pub message: MessageId,
    pub state: DeliveryState,
    pub generation: i32,
}

from_row! {
    /// The counters of an ended delivery.
    struct EndedCounters {
        message_id: MessageId,
        generation: i32,
        attempts: i32,
    }
}

/// SQL of the due time: now, or when a scheduled message is due.
const AT_ONCE: &str = "$4";
const WHEN_SCHEDULED: &str = "CASE WHEN deliver_at > $4 THEN deliver_at ELSE $4 END";

/// Makes a delivery fresh and due now, in any state, or creates it. The caller has checked and locked that the message
/// has its content. `false`: the message is past the retention period, and nothing was done.
pub(in crate::store) async fn resend(
    tx: &mut Tx,
    to: RequeueTarget,
    message: MessageId,
    now: Time,
) -> Result<bool, StoreError> {
    const ROW: &str = "VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0, $7, NULL)
         ON CONFLICT (message_id, endpoint_id) DO UPDATE SET kind = excluded.kind, due_at = excluded.due_at, step = 0,
             generation = due.generation + 1, trigger = excluded.trigger";
    if message < partitions::hold_horizon(tx).await? {
        return Ok(false);
    }
    let sql = sqlx::AssertSqlSafe(format!("{INSERT_DUE} {ROW}"));
    on!(tx, db => {
        sqlx::query(sql)
            .bind(message).bind(to.endpoint).bind(to.app).bind(i16::from(to.slot))
            .bind(DeliveryState::Fresh.code()).bind(now).bind(Trigger::Manual.code())
            .execute(db).await.map(drop)
    })?;
    let past = remove_ended(tx, to.endpoint, &[message]).await?;
    continue_numbers(tx, to.endpoint, &past).await?;
    Ok(true)
}

/// Makes deliveries of one endpoint pending again, as retries, so they do not delay new messages. Deliveries that
/// changed since they were `snapshots`, or are past the retention period, are skipped. Returns the requeued ones.
pub(in crate::store) async fn requeue(
    tx: &mut Tx,
    to: RequeueTarget,
    snapshots: &[DeliverySnapshot],
    now: Time,
) -> Result<Vec<MessageId>, StoreError> {
    let horizon = partitions::hold_horizon(tx).await?;
    let kept = snapshots.iter().filter(|one| one.message >= horizon);
    let (pending, ended): (Vec<DeliverySnapshot>, Vec<DeliverySnapshot>) = kept.partition(|one| one.state.pending());
    let mut done = requeue_pending(tx, to, &pending, now).await?;
    let ended: HashMap<MessageId, i32> = ended.iter().map(|one| (one.message, one.generation)).collect();
    let inserted = insert_retries(tx, to, &codec::uuids(ended.keys()), AT_ONCE, now).await?;
    // Between the read and the lock, a delivery may have been resent and ended again, or deleted.
    let places = ended_among(tx, to.endpoint, &inserted).await?;
    let (same, moved_on): (Vec<MessageId>, Vec<MessageId>) =
        inserted.into_iter().partition(|message| places.get(message) == ended.get(message));
    delete_due(tx, to.endpoint, &moved_on).await?;
    let past = remove_ended(tx, to.endpoint, &same).await?;
    continue_numbers(tx, to.endpoint, &past).await?;
    done.extend(same);
    Ok(done)
}

/// Creates deliveries of `messages` to the endpoint where it has none, as retries. Scheduled ones keep their time;
/// messages past the retention period are skipped. Returns the messages with new deliveries.
pub(in crate::store) async fn create_missing(
    tx: &mut Tx,
    to: RequeueTarget,
    messages: &[MessageId],
    now: Time,
) -> Result<Vec<MessageId>, StoreError> {
    let horizon = partitions::hold_horizon(tx).await?;
    let kept: Vec<Uuid> = codec::uuids(messages.iter().filter(|message| **message >= horizon));
    let inserted = insert_retries(tx, to, &kept, WHEN_SCHEDULED, now).await?;
    // Between the read and the lock, a delivery may have been created and have ended.
    let places = ended_among(tx, to.endpoint, &inserted).await?;
    let (elsewhere, given): (Vec<MessageId>, Vec<MessageId>) =
        inserted.into_iter().partition(|message| places.contains_key(message));
    delete_due(tx, to.endpoint, &elsewhere).await?;
    Ok(given)
}

async fn requeue_pending(
    tx: &mut Tx,
    to: RequeueTarget,
    snapshots: &[DeliverySnapshot],
    now: Time,
) -> Result<Vec<MessageId>, StoreError> {
    const SET: &str = "UPDATE due SET kind = $1, due_at = $2, step = 0, generation = due.generation + 1, trigger = $3";
    let (kind, trigger) = (DeliveryState::Retry.code(), Trigger::Manual.code());
    Ok(match tx {
        _ if snapshots.is_empty() => Vec::new(),
        Tx::Sqlite(tx) => {
            // The deliveries may have been read before this transaction: compare their state.
            let sql = format!(
                "{SET} FROM (SELECT unhex(value ->> 0) AS message_id, value ->> 1 AS kind, value ->> 2 AS generation
                      FROM json_each($5)) AS read
                 WHERE due.endpoint_id = $4 AND due.message_id = read.message_id AND due.kind = read.kind
                     AND due.generation = read.generation RETURNING message_id"
            );
            let read: Vec<(String, i16, i32)> = snapshots
                .iter()
                .map(|one| (one.message.0.simple().to_string(), one.state.code(), one.generation))
                .collect();
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(kind).bind(now).bind(trigger);
            query.bind(to.endpoint).bind(codec::json(&read)?).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            let sql = format!(
                "{SET} FROM UNNEST($5::uuid[], $6::smallint[], $7::integer[]) AS read (message_id, kind, generation)
                 WHERE due.endpoint_id = $4 AND due.message_id = read.message_id AND due.kind = read.kind
                     AND due.generation = read.generation RETURNING due.message_id"
            );
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(kind).bind(now).bind(trigger);
            query
                .bind(to.endpoint)
                .bind(snapshots.iter().map(|one| one.message.0).collect::<Vec<Uuid>>())
                .bind(snapshots.iter().map(|one| one.state.code()).collect::<Vec<i16>>())
                .bind(snapshots.iter().map(|one| one.generation).collect::<Vec<i32>>())
                .fetch_all(&mut **tx)
                .await?
        }
    })
}

/// Inserts retries for those of `messages` that are not in the queue, and returns them. Sorted by id to avoid
/// deadlocks.
async fn insert_retries(
    tx: &mut Tx,
    to: RequeueTarget,
    messages: &[Uuid],
    due_at: &'static str,
    now: Time,
) -> Result<Vec<MessageId>, StoreError> {
    const SELECT: &str = "SELECT id, $1, app_id, $2, $3,";
    const ROWS: &str = ", 0, 0, 0, $5, NULL FROM message WHERE id";
    const CONFLICT: &str = "ORDER BY id ON CONFLICT DO NOTHING RETURNING message_id";
    let (kind, trigger) = (DeliveryState::Retry.code(), Trigger::Manual.code());
    Ok(match tx {
        _ if messages.is_empty() => Vec::new(),
        Tx::Sqlite(tx) => {
            let sql =
                format!("{INSERT_DUE} {SELECT} {due_at}{ROWS} IN (SELECT unhex(value) FROM json_each($6)) {CONFLICT}");
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(to.endpoint).bind(i16::from(to.slot));
            let ids = sqlite::id_list(messages.iter().copied());
            query.bind(kind).bind(now).bind(trigger).bind(ids).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            let sql = format!("{INSERT_DUE} {SELECT} {due_at}{ROWS} = ANY($6) AND id BETWEEN $7 AND $8 {CONFLICT}");
            let (messages, least, greatest) = codec::with_bounds(messages);
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(to.endpoint).bind(i16::from(to.slot));
            let query = query.bind(kind).bind(now).bind(trigger);
            query.bind(messages).bind(least).bind(greatest).fetch_all(&mut **tx).await?
        }
    })
}

/// Removes ended deliveries from their old place: dead ones from `dead`; delivered ones by clearing `settles` of
/// their attempt.
async fn remove_ended(
    tx: &mut Tx,
    endpoint: EndpointId,
    messages: &[MessageId],
) -> Result<Vec<EndedCounters>, StoreError> {
    const DEAD: &str = "DELETE FROM dead WHERE";
    const DELIVERED: &str =
        "SELECT message_id, generation, settles AS attempts FROM attempt WHERE settles IS NOT NULL AND";
    const UNSETTLE: &str = "UPDATE attempt SET settles = NULL WHERE settles IS NOT NULL AND";
    // Locked, so the update changes exactly the rows returned. SQLite has one writer.
    let lock = match tx {
        Tx::Sqlite(_) => "",
        Tx::Postgres(_) => "ORDER BY message_id FOR UPDATE",
    };
    let mut past: Vec<EndedCounters> =
        select_among(tx, DEAD, endpoint, messages, "RETURNING message_id, generation, attempts").await?;
    past.extend(select_among::<EndedCounters>(tx, DELIVERED, endpoint, messages, lock).await?);
    select_among::<(MessageId,)>(tx, UNSETTLE, endpoint, messages, "RETURNING message_id").await?;
    Ok(past)
}

/// The ended deliveries of these messages, with their generation.
async fn ended_among(
    tx: &mut Tx,
    endpoint: EndpointId,
    messages: &[MessageId],
) -> Result<HashMap<MessageId, i32>, StoreError> {
    const DEAD: &str = "SELECT message_id, generation FROM dead WHERE";
    const DELIVERED: &str = "SELECT message_id, generation FROM attempt WHERE settles IS NOT NULL AND";
    let mut ended: Vec<(MessageId, i32)> = select_among(tx, DEAD, endpoint, messages, "").await?;
    ended.extend(select_among::<(MessageId, i32)>(tx, DELIVERED, endpoint, messages, "").await?);
    Ok(ended.into_iter().collect())
}

async fn delete_due(tx: &mut Tx, endpoint: EndpointId, messages: &[MessageId]) -> Result<(), StoreError> {
    select_among::<(MessageId,)>(tx, "DELETE FROM due WHERE", endpoint, messages, "RETURNING message_id")
        .await
        .map(drop)
}

/// Completes `sql`, which ends with `WHERE` or `AND`, by the condition on these messages and the endpoint, and
/// appends `rest`.
async fn select_among<T>(
    tx: &mut Tx,
    sql: &str,
    endpoint: EndpointId,
    messages: &[MessageId],
    rest: &str,
) -> Result<Vec<T>, StoreError>
where
    T: for<'r> sqlx::FromRow<'r, SqliteRow> + for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
{
    Ok(match tx {
        _ if messages.is_empty() => Vec::new(),
        Tx::Sqlite(tx) => {
            const MESSAGES: &str = "message_id IN (SELECT unhex(value) FROM json_each($2))";
            let sql = sqlx::AssertSqlSafe(format!("{sql} endpoint_id = $1 AND {MESSAGES} {rest}"));
            sqlx::query_as(sql)
                .bind(endpoint)
                .bind(sqlite::id_list(codec::uuids(messages)))
                .fetch_all(&mut **tx)
                .await?
        }
        Tx::Postgres(tx) => {
            const MESSAGES: &str = "message_id = ANY($2) AND message_id BETWEEN $3 AND $4";
            let sql = sqlx::AssertSqlSafe(format!("{sql} endpoint_id = $1 AND {MESSAGES} {rest}"));
            let (ids, least, greatest) = codec::with_bounds(messages);
            sqlx::query_as(sql).bind(endpoint).bind(ids).bind(least).bind(greatest).fetch_all(&mut **tx).await?
        }
    })
}

/// Sets the next generation and the number of attempts of requeued deliveries.
async fn continue_numbers(tx: &mut Tx, endpoint: EndpointId, past: &[EndedCounters]) -> Result<(), StoreError> {
    match tx {
        _ if past.is_empty() => {}
        Tx::Sqlite(tx) => {
            const SQL: &str =
                "UPDATE due SET generation = $3 + 1, attempts = $4 WHERE message_id = $1 AND endpoint_id = $2";
            for one in past {
                let query = sqlx::query(SQL).bind(one.message_id).bind(endpoint);
                query.bind(one.generation).bind(one.attempts).execute(&mut **tx).await?;
            }
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "UPDATE due SET generation = past.generation + 1, attempts = past.attempts
                 FROM UNNEST($2::uuid[], $3::integer[], $4::integer[]) AS past (message_id, generation, attempts)
                 WHERE due.message_id = past.message_id AND due.endpoint_id = $1";
            sqlx::query(SQL)
                .bind(endpoint)
                .bind(past.iter().map(|one| one.message_id.0).collect::<Vec<Uuid>>())
                .bind(past.iter().map(|one| one.generation).collect::<Vec<i32>>())
                .bind(past.iter().map(|one| one.attempts).collect::<Vec<i32>>())
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}
