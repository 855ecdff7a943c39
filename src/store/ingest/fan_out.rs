//! Wide fan-out. A message to more endpoints than [`StoreOptions::wide`](crate::store::StoreOptions::wide) has its
//! endpoints packed into rows of `fan_out`, [`PACK`] per row, to keep the accepting transaction small. Steps then move
//! the deliveries to `due`, at most [`STEP`] per transaction, round-robin over the applications. An application whose
//! step fails is retried with backoff ([`FanOutScheduler`]) and does not delay the others.
//!
//! The recipients are fixed when the message is accepted. If an endpoint changes before its delivery is moved:
//!
//! * deleted: the delivery is dead, like those that were pending.
//! * disabled: the delivery waits in `due`, like those that were pending.
//! * created, or its filters changed: no effect.
//! * resent manually: the delivery already exists, and no second one is inserted.
//!
//! If the message's content is deleted first, its deliveries are dead in the transaction that unpacks them.
//!
//! Lists do not show packed deliveries; the message's `deliveries` counts them. Ordered endpoints are never packed,
//! because sequence numbers are assigned when the message is accepted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use uuid::Uuid;

use crate::domain::deliveries::delivery::DeadReason;
use crate::domain::deliveries::message::Message;
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::store::db::sqlite;
use crate::store::ingest::due_insert::INSERT_DUE;
use crate::store::ingest::fan_out_scheduler::{FanOutScheduler, SHORT_STEP};
use crate::store::ingest::message_routing::{self, AppView};
use crate::store::maintenance::content_deletion;
use crate::store::queue::dead::{self, INSERT_DEAD, PendingFilter, end_pending};
use crate::store::queue::signals::{Admission, Signal};
use crate::store::recording::record;
use crate::store::{AppRef, Store, StoreError, Tx, on};

/// Endpoints per row.
pub const PACK: usize = 256;
/// Maximum deliveries that one step moves.
pub const STEP: usize = 8 * PACK;
/// Maximum payload bytes that one step passes to the engine. The engine reads the other payloads from the store.
const STEP_BYTES: usize = 8 * 1024 * 1024;

/// Maximum applications that one step tries.
const APPS_PER_STEP: usize = 64;

/// The result of one step of [`Store::fan_out`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanOutStep {
    pub app: AppId,
    /// Deliveries that are pending now.
    pub due: usize,
    /// Deliveries that are dead because their endpoint or the message's content was deleted.
    pub dead: usize,
}

/// The cost of packed endpoints in rows of the [`Budget`](crate::store::db::budget::Budget). Measured in bytes, a
/// packed endpoint takes a sixteenth of a row of `due`.
pub(in crate::store) fn cost(packed: usize) -> usize {
    packed.div_ceil(16)
}

/// Inserts the packed endpoints of messages that this transaction accepts.
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

/// An unpacked delivery.
type Delivery = (MessageId, EndpointId);

impl Store {
    /// Whether this process has accepted a message with packed deliveries since the last call. Packed deliveries of
    /// other processes are found only by polling the store.
    pub fn take_packed_flag(&self) -> bool {
        self.inner.packed.swap(false, Ordering::AcqRel)
    }

    /// Moves up to [`STEP`] packed deliveries of one application to `due`: the next one in the round-robin order that
    /// is not backing off. `None`: there is no such application, or other processes have locked its packs.
    ///
    /// # Errors
    /// The store is unavailable, or the step failed. Nothing was moved, and the next call tries another application.
    pub async fn fan_out(&self, scheduler: &mut FanOutScheduler, now: Time) -> Result<Option<FanOutStep>, StoreError> {
        let mut first = None;
        for _ in 0..APPS_PER_STEP {
            let Some(app) = self.next_app(scheduler.last).await? else {
                scheduler.nothing_left();
                return Ok(None);
            };
            if first == Some(app) {
                break;
            }
            first.get_or_insert(app);
            scheduler.last = Some(app);
            if scheduler.is_backing_off(app, now) {
                continue;
            }
            let packs = self.step_size(scheduler.packs(app));
            let began = Instant::now();
            match self.retry_conflicts(|| self.move_packs(app, packs, now)).await {
                Ok(None) => {}
                Ok(Some(moved)) => {
                    metrics::histogram!("sendoff_store_write_seconds", "kind" => "fan out")
                        .record(began.elapsed().as_secs_f64());
                    scheduler.succeeded(app, packs, began.elapsed(), now);
                    return Ok(Some(moved));
                }
                Err(error) => {
                    scheduler.failed(app, packs, now);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Maximum packs of the next step: few while callers wait for SQLite's only writer.
    fn step_size(&self, packs: usize) -> usize {
        let short = !self.shared() && self.inner.accept_rate.wants_short_writes(Instant::now());
        if short { packs.min(SHORT_STEP) } else { packs }
    }

    /// Moves up to `packs` packs of the application. `None`: other processes have locked all of them.
    async fn move_packs(&self, app: AppId, packs: usize, now: Time) -> Result<Option<FanOutStep>, StoreError> {
        let mut tx = self.begin().await?;
        let claimed = claim_packs(&mut tx, app, packs).await?;
        if claimed.is_empty() {
            return Ok(None);
        }
        let message_ids: Vec<MessageId> =
            claimed.iter().map(|one| one.0).collect::<BTreeSet<_>>().into_iter().collect();
        let without = content_deletion::missing_content(&mut tx, &message_ids).await?;
        // `insert_due` first: if the endpoint is deleted between the two statements, its delivery is in `due` and is
        // cleaned up from there.
        let mut due = insert_due(&mut tx, &claimed).await?;
        let to_deleted = end_deleted(&mut tx, &claimed, now).await?;
        let ended = end_pending(&mut tx, PendingFilter::Messages(&without), DeadReason::ContentDeleted, now).await?;
        due.retain(|(message, _)| without.binary_search(message).is_err());
        renumber(&mut tx, &due).await?;
        let view = cached_view(&mut tx, self, app).await?;
        tx.commit().await?;
        record::count_dead(DeadReason::EndpointDeleted, to_deleted as u64);
        dead::count(DeadReason::ContentDeleted, &ended);
        let messages: Vec<MessageId> =
            message_ids.into_iter().filter(|id| without.binary_search(id).is_err()).collect();
        self.signal_due(&due, &messages, view.as_deref()).await;
        Ok(Some(FanOutStep { app, due: due.len(), dead: to_deleted + ended.len() }))
    }

    /// The next application with packed deliveries, in round-robin order.
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

    /// Signals the deliveries to the engine: with their messages if the endpoints are cached, otherwise by their
    /// endpoint ids.
    async fn signal_due(&self, due: &[Delivery], messages: &[MessageId], view: Option<&AppView>) {
        let loaded = match view {
            // On an error the engine reads the messages itself.
            Some(_) => self.load_messages_within(messages, STEP_BYTES).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let mut admissions = Vec::with_capacity(loaded.len());
        let loaded_ids: BTreeSet<MessageId> = loaded.iter().map(|message| message.id).collect();
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
            due.iter().filter(|(id, _)| !loaded_ids.contains(id)).map(|(_, endpoint)| *endpoint).collect();
        if !rest.is_empty() {
            self.inner.signals.send(Signal::Look(rest));
        }
    }
}

/// Deletes up to `most` packs of `app`, oldest messages first, and returns their deliveries. Skips packs that another
/// process has locked.
async fn claim_packs(tx: &mut Tx, app: AppId, most: usize) -> Result<Vec<Delivery>, StoreError> {
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
    let mut claimed = Vec::with_capacity(STEP);
    for (message, _, endpoints) in packs {
        let (ids, rest) = endpoints.as_chunks::<16>();
        if !rest.is_empty() {
            // Not an error of the step: it would block the application's other packs forever.
            tracing::error!(%message, "a row of fan_out is damaged: its last endpoint id is truncated and ignored");
        }
        claimed.extend(ids.iter().map(|id| (message, EndpointId(Uuid::from_bytes(*id)))));
    }
    Ok(claimed)
}

/// SQL condition: the delivery of `message` to `endpoint` is neither dead nor attempted.
const IS_NEW: &str =
    "NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.message_id = message.id AND attempt.endpoint_id = endpoint.id)
     AND NOT EXISTS (SELECT 1 FROM dead WHERE dead.message_id = message.id AND dead.endpoint_id = endpoint.id)";

/// The deliveries as a table `new (m, e)`, from the parameters $1 and $2.
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

/// Inserts fresh deliveries to the endpoints that are not deleted. Returns those that did not exist.
async fn insert_due(tx: &mut Tx, claimed: &[Delivery]) -> Result<Vec<Delivery>, StoreError> {
    let sql = |new: &str| {
        format!(
            "{INSERT_DUE}
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
            let (ids, list) = packed(claimed)?;
            sqlx::query_as(sqlx::AssertSqlSafe(sql(NEW_SQLITE))).bind(ids).bind(list).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            let (messages, endpoints) = columns(claimed);
            let query = sqlx::query_as(sqlx::AssertSqlSafe(sql(NEW_POSTGRES))).bind(messages).bind(endpoints);
            query.fetch_all(&mut **tx).await?
        }
    })
}

/// Inserts the deliveries to deleted endpoints as dead. Returns their number.
async fn end_deleted(tx: &mut Tx, claimed: &[Delivery], now: Time) -> Result<usize, StoreError> {
    let sql = |new: &str| {
        format!(
            "{INSERT_DEAD}
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
            let (ids, list) = packed(claimed)?;
            let query = sqlx::query(sqlx::AssertSqlSafe(sql(NEW_SQLITE))).bind(ids).bind(list);
            query.bind(word).bind(now).execute(&mut **tx).await?.rows_affected()
        }
        Tx::Postgres(tx) => {
            let (messages, endpoints) = columns(claimed);
            let query = sqlx::query(sqlx::AssertSqlSafe(sql(NEW_POSTGRES))).bind(messages).bind(endpoints);
            query.bind(word).bind(now).execute(&mut **tx).await?.rows_affected()
        }
    };
    Ok(usize::try_from(ended).unwrap_or(usize::MAX))
}

/// Requests sequence numbers for deliveries to endpoints that became ordered after the message was accepted.
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

/// The application's view, if its current version is cached.
async fn cached_view(tx: &mut Tx, store: &Store, app: AppId) -> Result<Option<Arc<AppView>>, StoreError> {
    let apps = message_routing::apps(tx, &[(None, AppRef::Id(app))]).await?;
    Ok(apps.by_id.get(&app).and_then(|row| store.inner.routing_cache.get(app, row.version)))
}
