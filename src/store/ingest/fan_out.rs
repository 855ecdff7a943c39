//! Wide fan-out. A message to more endpoints than [`StoreOptions::wide`](crate::store::StoreOptions::wide) is
//! accepted with its endpoints packed into rows of `fan_out`, [`PACK`] in each, so that the accepting transaction
//! stays small. Steps then move them to `due`, at most [`STEP`] deliveries in a transaction, one application after
//! another. An application whose step fails holds up no other: it is tried again with backoff ([`FanOutTurns`]).
//!
//! Which endpoints get the message is decided when it is accepted. What happens to an endpoint before its delivery is
//! moved:
//!
//! - deleted: the delivery is dead, as are those that were pending there.
//! - disabled: the delivery waits in `due`, as do those that were pending there.
//! - created, or its filters changed: nothing. It does not get the message, or gets it still.
//! - the message was sent there meanwhile, because somebody asked for it: the delivery that exists stays the only one.
//!
//! If the message's content is deleted before its deliveries are moved, they are dead, in the transaction that takes
//! them out of their pack.
//!
//! Until a delivery is moved, lists do not show it; the message's `deliveries` counts it. Ordered endpoints are never
//! packed: their numbers are drawn when the message is accepted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use crate::domain::deliveries::delivery::DeadReason;
use crate::domain::deliveries::message::Message;
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::store::db::sqlite;
use crate::store::ingest::fan_out_turns::FanOutTurns;
use crate::store::ingest::routing::{self, AppView};
use crate::store::maintenance::content_deletion;
use crate::store::queue::dead::{self, Ending, end_pending};
use crate::store::queue::signals::{Admission, Signal};
use crate::store::recording::record;
use crate::store::{AppRef, Store, StoreError, Tx, on};

/// How many endpoints one row holds.
pub const PACK: usize = 256;
/// How many deliveries one step moves at most.
pub const STEP: usize = 8 * PACK;
/// How many bytes of payloads one step loads to tell the engine of what it moved. The engine reads what does not fit
/// from the store.
const STEP_BYTES: usize = 8 * 1024 * 1024;

/// How many applications one step looks at, at most, for one whose turn it is.
const APPS_PER_STEP: usize = 64;

/// What one step of [`Store::fan_out`] moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FannedOut {
    /// Whose deliveries these were.
    pub app: AppId,
    /// How many deliveries are pending now.
    pub due: usize,
    /// How many are dead, because their endpoint or the message's content was deleted.
    pub dead: usize,
}

/// How many rows of an accepting transaction so many packed endpoints count as: by their bytes, a sixteenth of what
/// their rows of `due` take.
pub(in crate::store) fn cost(packed: usize) -> usize {
    packed.div_ceil(16)
}

/// Inserts the packed endpoints of messages that are accepted in the same transaction.
pub(in crate::store) async fn insert<'m>(
    tx: &mut Tx,
    wide: impl Iterator<Item = (&'m Message, &'m [EndpointId])>,
) -> Result<(), StoreError> {
    const HEAD: &str = "INSERT INTO fan_out (app_id, message_id, pack, endpoints) ";
    let mut rows: Vec<(AppId, MessageId, i32, Vec<u8>)> = Vec::new();
    for (message, endpoints) in wide {
        for (pack, ids) in (0i32..).zip(endpoints.chunks(PACK)) {
            let bytes = ids.iter().flat_map(|id| *id.0.as_bytes()).collect();
            rows.push((message.app_id, message.id, pack, bytes));
        }
    }
    match tx {
        _ if rows.is_empty() => Ok(()),
        Tx::Sqlite(tx) => {
            sqlite::insert(tx, HEAD, 4, &rows, |mut values, (app, message, pack, endpoints)| {
                values.push_bind(app.0).push_bind(message.0).push_bind(*pack).push_bind(endpoints.clone());
            })
            .await
        }
        Tx::Postgres(tx) => {
            const ROWS: &str = "SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::integer[], $4::bytea[])";
            sqlx::query(sqlx::AssertSqlSafe(format!("{HEAD}{ROWS}")))
                .bind(rows.iter().map(|row| row.0.0).collect::<Vec<Uuid>>())
                .bind(rows.iter().map(|row| row.1.0).collect::<Vec<Uuid>>())
                .bind(rows.iter().map(|row| row.2).collect::<Vec<i32>>())
                .bind(rows.iter().map(|row| row.3.as_slice()).collect::<Vec<&[u8]>>())
                .execute(&mut **tx)
                .await?;
            Ok(())
        }
    }
}

/// A delivery that is taken out of its pack.
type Delivery = (MessageId, EndpointId);

impl Store {
    /// Whether this process has accepted a message with packed deliveries since it was last asked. Those of other
    /// processes, and of one that ended, are found by a look at the store alone.
    pub fn took_wide_message(&self) -> bool {
        self.inner.packed.swap(false, Ordering::AcqRel)
    }

    /// Moves up to [`STEP`] packed deliveries of one application to `due`. Applications take turns, and one whose
    /// step failed is left alone for a while. `None`: nothing is packed, or what is has to wait, or other processes
    /// are at it. `now` is when deliveries that cannot be sent are dead.
    ///
    /// # Errors
    /// The store is away, or the step of one application failed. Nothing was moved, and the next call is for another
    /// application.
    pub async fn fan_out(&self, turns: &mut FanOutTurns, now: Time) -> Result<Option<FannedOut>, StoreError> {
        const PACKS: usize = STEP / PACK;
        let mut first = None;
        for _ in 0..APPS_PER_STEP {
            let Some(app) = self.next_app(turns.last).await? else {
                turns.nothing_left();
                return Ok(None);
            };
            if first == Some(app) {
                break;
            }
            first.get_or_insert(app);
            turns.last = Some(app);
            if turns.is_backing_off(app, now) {
                continue;
            }
            let packs = turns.packs(app, PACKS);
            match self.repeated(|| self.move_packs(app, packs, now)).await {
                // Others are at all of it.
                Ok(None) => {}
                Ok(Some(moved)) => {
                    turns.succeeded(app, packs, PACKS, now);
                    return Ok(Some(moved));
                }
                Err(error) => {
                    turns.failed(app, packs, now);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Moves up to `packs` packs of the application. `None`: other processes are at all of them.
    async fn move_packs(&self, app: AppId, packs: usize, now: Time) -> Result<Option<FannedOut>, StoreError> {
        let mut tx = self.begin().await?;
        let taken = take(&mut tx, app, packs).await?;
        if taken.is_empty() {
            return Ok(None);
        }
        let of_taken: Vec<MessageId> = taken.iter().map(|one| one.0).collect::<BTreeSet<_>>().into_iter().collect();
        let without = content_deletion::without_content(&mut tx, &of_taken).await?;
        // In this order: an endpoint that is deleted between the two has its delivery in `due`, where the deletion's
        // clean-up finds it.
        let mut due = insert_due(&mut tx, &taken).await?;
        let of_deleted = end_deleted(&mut tx, &taken, now).await?;
        let ended = end_pending(&mut tx, Ending::Messages(&without), DeadReason::ContentDeleted, now).await?;
        due.retain(|(message, _)| without.binary_search(message).is_err());
        renumber(&mut tx, &due).await?;
        let view = recall(&mut tx, self, app).await?;
        tx.commit().await?;
        record::count_dead(DeadReason::EndpointDeleted, of_deleted as u64);
        dead::count(DeadReason::ContentDeleted, &ended);
        let messages: Vec<MessageId> = of_taken.into_iter().filter(|id| without.binary_search(id).is_err()).collect();
        self.tell(&due, &messages, view.as_deref()).await;
        Ok(Some(FannedOut { app, due: due.len(), dead: of_deleted + ended.len() }))
    }

    /// The next application that has something packed, in a circle.
    async fn next_app(&self, after: Option<AppId>) -> Result<Option<AppId>, StoreError> {
        const NEXT: &str = "SELECT app_id FROM fan_out WHERE app_id > $1 ORDER BY app_id LIMIT 1";
        let first = AppId(Uuid::nil());
        let mut tx = self.inner.snapshot().await?;
        let mut next = async |after: AppId| -> Result<Option<AppId>, StoreError> {
            Ok(on!(&mut tx, db => sqlx::query_scalar(NEXT).bind(after).fetch_optional(db).await)?)
        };
        match next(after.unwrap_or(first)).await? {
            None if after.is_some() => next(first).await,
            found => Ok(found),
        }
    }

    /// Tells the engine what has become due: the deliveries themselves where the endpoints are remembered, else where
    /// to look.
    async fn tell(&self, due: &[Delivery], messages: &[MessageId], view: Option<&AppView>) {
        let loaded = match view {
            // What cannot be read now the engine reads itself.
            Some(_) => self.load_messages_within(messages, STEP_BYTES).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let mut admissions = Vec::with_capacity(loaded.len());
        let told: BTreeSet<MessageId> = loaded.iter().map(|message| message.id).collect();
        for message in loaded.into_iter().filter(|message| message.payload.is_some()) {
            let of_it = due.iter().filter(|(id, _)| *id == message.id);
            let endpoints =
                of_it.filter_map(|(_, endpoint)| view.and_then(|view| view.endpoint(*endpoint)).cloned()).collect();
            admissions.push(Admission::new(Arc::new(message), endpoints));
        }
        if !admissions.is_empty() {
            self.inner.signals.send(Signal::Accepted(admissions));
        }
        let rest: Vec<EndpointId> =
            due.iter().filter(|(id, _)| !told.contains(id)).map(|(_, endpoint)| *endpoint).collect();
        if !rest.is_empty() {
            self.inner.signals.send(Signal::Look(rest));
        }
    }
}

/// Takes up to `most` packs of `app` out of the table, the oldest messages first. Nobody waits for those that another
/// process is at.
async fn take(tx: &mut Tx, app: AppId, most: usize) -> Result<Vec<Delivery>, StoreError> {
    let mut packs: Vec<(MessageId, i32, Vec<u8>)> = match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str = "DELETE FROM fan_out WHERE app_id = $1 AND (message_id, pack) IN
                 (SELECT message_id, pack FROM fan_out WHERE app_id = $1 ORDER BY message_id, pack LIMIT $2)
                 RETURNING message_id, pack, endpoints";
            sqlx::query_as(SQL).bind(app).bind(most as i64).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "DELETE FROM fan_out USING
                 (SELECT message_id, pack FROM fan_out WHERE app_id = $1 ORDER BY message_id, pack LIMIT $2
                  FOR UPDATE SKIP LOCKED) AS taken
                 WHERE fan_out.app_id = $1 AND fan_out.message_id = taken.message_id AND fan_out.pack = taken.pack
                 RETURNING fan_out.message_id, fan_out.pack, fan_out.endpoints";
            sqlx::query_as(SQL).bind(app).bind(most as i64).fetch_all(&mut **tx).await?
        }
    };
    packs.sort_unstable_by_key(|(message, pack, _)| (*message, *pack));
    let mut taken = Vec::with_capacity(STEP);
    for (message, _, endpoints) in packs {
        let (ids, rest) = endpoints.as_chunks::<16>();
        if !rest.is_empty() {
            // The others must not wait for it for ever.
            tracing::error!(%message, "a pack of endpoints is damaged: its last id is cut off");
        }
        taken.extend(ids.iter().map(|id| (message, EndpointId(Uuid::from_bytes(*id)))));
    }
    Ok(taken)
}

/// The delivery of `message` to `endpoint` is neither dead nor attempted.
const IS_NEW: &str =
    "NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND attempt.endpoint_id = endpoint.id)
     AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.message_id = message.id AND dead.endpoint_id = endpoint.id)";

/// The deliveries as a table `new` with the columns m and e, from the parameters $1 (and $2).
const NEW_SQLITE: &str =
    "(SELECT substr($1, key * 32 + 1, 16) AS m, substr($1, key * 32 + 17, 16) AS e FROM json_each($2)) AS new";
const NEW_POSTGRES: &str = "UNNEST($1::uuid[], $2::uuid[]) AS new (m, e)";

fn packed(deliveries: &[Delivery]) -> Result<(Vec<u8>, String), StoreError> {
    let mut packed = sqlite::Packed::default();
    for (message, endpoint) in deliveries {
        packed.push(&[message.0.as_bytes(), endpoint.0.as_bytes()], &0)?;
    }
    packed.values()
}

fn columns(deliveries: &[Delivery]) -> (Vec<Uuid>, Vec<Uuid>) {
    deliveries.iter().map(|(message, endpoint)| (message.0, endpoint.0)).unzip()
}

/// Inserts the deliveries to endpoints that are not deleted, as fresh ones. Gives back those that were new.
async fn insert_due(tx: &mut Tx, taken: &[Delivery]) -> Result<Vec<Delivery>, StoreError> {
    let sql = |new: &str| {
        format!(
            "INSERT INTO due
                 (message_id, endpoint_id, app_id, slot, kind, due_at, attempts, step, generation, trigger, seq)
             SELECT message.id, endpoint.id, message.app_id, endpoint.slot, 0,
                 CASE WHEN message.deliver_at > message.accepted_at THEN message.deliver_at
                      ELSE message.accepted_at END,
                 0, 0, 0, 0, NULL
             FROM {new} JOIN endpoint ON endpoint.id = new.e JOIN message ON message.id = new.m
             WHERE endpoint.deleted_at IS NULL AND {IS_NEW} ON CONFLICT DO NOTHING RETURNING message_id, endpoint_id"
        )
    };
    Ok(match tx {
        Tx::Sqlite(tx) => {
            let (ids, list) = packed(taken)?;
            sqlx::query_as(sqlx::AssertSqlSafe(sql(NEW_SQLITE))).bind(ids).bind(list).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            let (messages, endpoints) = columns(taken);
            let query = sqlx::query_as(sqlx::AssertSqlSafe(sql(NEW_POSTGRES))).bind(messages).bind(endpoints);
            query.fetch_all(&mut **tx).await?
        }
    })
}

/// Inserts the deliveries to deleted endpoints as dead. Gives back how many there were.
async fn end_deleted(tx: &mut Tx, taken: &[Delivery], now: Time) -> Result<usize, StoreError> {
    let sql = |new: &str| {
        format!(
            "INSERT INTO dead (message_id, endpoint_id, app_id, org, reason, at, attempts, step, generation)
             SELECT message.id, endpoint.id, message.app_id, message.org, $3, $4, 0, 0, 0
             FROM {new} JOIN endpoint ON endpoint.id = new.e JOIN message ON message.id = new.m
             WHERE endpoint.deleted_at IS NOT NULL AND {IS_NEW} AND NOT EXISTS
                 (SELECT 1 FROM due WHERE due.message_id = message.id AND due.endpoint_id = endpoint.id)
             ON CONFLICT DO NOTHING"
        )
    };
    let word = DeadReason::EndpointDeleted.word();
    let ended = match tx {
        Tx::Sqlite(tx) => {
            let (ids, list) = packed(taken)?;
            let query = sqlx::query(sqlx::AssertSqlSafe(sql(NEW_SQLITE))).bind(ids).bind(list);
            query.bind(word).bind(now).execute(&mut **tx).await?.rows_affected()
        }
        Tx::Postgres(tx) => {
            let (messages, endpoints) = columns(taken);
            let query = sqlx::query(sqlx::AssertSqlSafe(sql(NEW_POSTGRES))).bind(messages).bind(endpoints);
            query.bind(word).bind(now).execute(&mut **tx).await?.rows_affected()
        }
    };
    Ok(usize::try_from(ended).unwrap_or(usize::MAX))
}

/// Endpoints that became ordered since have to number these deliveries, as they did with what was pending.
async fn renumber(tx: &mut Tx, due: &[Delivery]) -> Result<(), StoreError> {
    const SET: &str = "UPDATE ordering SET number_at = 0 WHERE EXISTS
         (SELECT 1 FROM endpoint WHERE endpoint.id = ordering.endpoint_id AND endpoint.ordered) AND endpoint_id";
    let endpoints: BTreeSet<Uuid> = due.iter().map(|(_, endpoint)| endpoint.0).collect();
    match tx {
        _ if endpoints.is_empty() => {}
        Tx::Sqlite(tx) => {
            let sql = format!("{SET} IN (SELECT unhex(value) FROM json_each($1))");
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(sqlite::id_list(endpoints)).execute(&mut **tx).await?;
        }
        Tx::Postgres(tx) => {
            let sql = format!("{SET} = ANY($1)");
            let ids: Vec<Uuid> = endpoints.into_iter().collect();
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

/// The application's view, if this process remembers the present one.
async fn recall(tx: &mut Tx, store: &Store, app: AppId) -> Result<Option<Arc<AppView>>, StoreError> {
    let apps = routing::apps(tx, &[(None, AppRef::Id(app))]).await?;
    Ok(apps.by_id.get(&app).and_then(|row| store.inner.directory.recall(app, row.version)))
}
