//! Sequence numbers of **ordered** endpoints. Each of their deliveries has a sequence number (`seq`), and the next
//! one is sent when all before it are delivered or dead.
//!
//! * An endpoint's numbers are allocated from its row of `ordering`, which stays locked until the commit. Numbers are
//!   therefore committed in order, and none appears below one that was sent. A transaction allocates for all its
//!   endpoints at once, sorted by id and after all other locks, which rules out deadlocks.
//! * **Scheduled** deliveries have the number 0 until they are due; then they go to the end.
//! * Deliveries that were pending when the endpoint became ordered have no number at first. [`Store::number_pending`]
//!   numbers them by age, from a reserved range below all later ones.
//! * A resent pending delivery keeps its number; a resent dead or delivered one gets a new number.
//!
//! Unordered endpoints pay for none of this: no statement, no lock, no index entry.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::deliveries::message::Message;
use crate::domain::{EndpointId, MessageId, Time};
use crate::store::db::{codec, sqlite, store_error};
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::query::deliveries::LATE_DELIVERIES;
use crate::store::queue::pending_deliveries::LONGEST_SCHEDULE;
use crate::store::queue::signals::Admission;
use crate::store::{Store, StoreError, Tx, on};

/// The size of the range reserved for deliveries that are pending when an endpoint becomes ordered.
const EARLY: i64 = 1 << 40;
/// Maximum deliveries numbered per transaction.
const STEP: usize = 2_000;
/// Interval of checks, after an endpoint became ordered, for deliveries of accepting transactions that had read it as
/// unordered.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The deliveries to number, and the range of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbering {
    /// Deliveries without a number, after all allocated numbers.
    New,
    /// Scheduled deliveries, which have the number 0, after all allocated numbers.
    Scheduled,
    /// Deliveries that were pending when the endpoint became ordered, in the range reserved for them.
    Early,
}

/// Prepares an endpoint that was just written. `before`: whether it was ordered; `None` if it is new.
pub(in crate::store) async fn prepare_endpoint(
    tx: &mut Tx,
    endpoint: &Endpoint,
    before: Option<bool>,
) -> Result<(), StoreError> {
    if !endpoint.spec.ordered || before == Some(true) {
        return Ok(());
    }
    const BEGIN: &str = "INSERT INTO ordering (endpoint_id, next_seq, early_seq, ordered_at) VALUES ($1, 1, 1, $2)
         ON CONFLICT DO NOTHING";
    // Not for a new endpoint, which has no pending deliveries.
    const SWITCH_ON: &str =
        "UPDATE ordering SET early_seq = next_seq, next_seq = next_seq + $2, ordered_at = $3, number_at = 0
         WHERE endpoint_id = $1";
    let now = endpoint.updated_at;
    for id in [EndpointId(Uuid::nil()), endpoint.id] {
        on!(tx, db => sqlx::query(BEGIN).bind(id).bind(now).execute(db).await.map(drop))?;
    }
    if before.is_some() {
        on!(tx, db => sqlx::query(SWITCH_ON).bind(endpoint.id).bind(EARLY).bind(now).execute(db).await.map(drop))?;
    }
    Ok(())
}

/// Serializes relay steps on PostgreSQL, where several processes may relay at once, if there is an ordered endpoint.
/// Otherwise rows that one writer committed one after another could be reordered.
pub(in crate::store) async fn lock_relay_order(tx: &mut Tx) -> Result<(), StoreError> {
    if let Tx::Postgres(tx) = tx {
        const SQL: &str = "SELECT 1 FROM ordering WHERE endpoint_id = $1 FOR UPDATE";
        sqlx::query(SQL).bind(Uuid::nil()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Removes the row that serializes relay steps, if no ordered endpoint is left.
pub(in crate::store) async fn remove_relay_lock(store: &Store) -> Result<(), StoreError> {
    store
        .retry_conflicts(|| async {
            const NEEDLESS: &str = "SELECT count(*) FROM ordering WHERE endpoint_id = $1
             AND NOT EXISTS (SELECT 1 FROM endpoint WHERE ordered AND deleted_at IS NULL)";
            const FORGET: &str = "DELETE FROM ordering WHERE endpoint_id = $1
             AND NOT EXISTS (SELECT 1 FROM endpoint WHERE ordered AND deleted_at IS NULL)";
            let mut tx = store.begin().await?;
            let needless: i64 = on!(tx, db => sqlx::query_scalar(NEEDLESS).bind(Uuid::nil()).fetch_one(db).await)?;
            if needless == 0 {
                return Ok(());
            }
            if let Tx::Postgres(tx) = &mut tx {
                // The lock waits for uncommitted transactions that make an endpoint ordered and have seen the row.
                // After a timeout a later call removes the row.
                sqlx::query("SET LOCAL lock_timeout = '500ms'").execute(&mut **tx).await?;
                let locked = sqlx::query("LOCK TABLE ordering IN SHARE ROW EXCLUSIVE MODE").execute(&mut **tx).await;
                if locked.as_ref().is_err_and(store_error::is_lock_timeout) {
                    return Ok(());
                }
                locked?;
            }
            on!(tx, db => sqlx::query(FORGET).bind(Uuid::nil()).execute(db).await.map(drop))?;
            tx.commit().await
        })
        .await
}

/// Allocates `counts` numbers for each endpoint; returns the first of each.
async fn allocate(tx: &mut Tx, counts: &BTreeMap<EndpointId, i64>) -> Result<HashMap<EndpointId, i64>, StoreError> {
    let ends: Vec<(EndpointId, i64)> = match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str = "INSERT INTO ordering (endpoint_id, next_seq, early_seq, ordered_at)
                 VALUES ($1, $2 + 1, 1, 0)
                 ON CONFLICT (endpoint_id) DO UPDATE SET next_seq = ordering.next_seq + $2
                 RETURNING endpoint_id, next_seq";
            let mut ends = Vec::with_capacity(counts.len());
            for (endpoint, count) in counts {
                ends.push(sqlx::query_as(SQL).bind(endpoint).bind(count).fetch_one(&mut **tx).await?);
            }
            ends
        }
        Tx::Postgres(tx) => {
            // ORDER BY: rows are locked in the order of their ids.
            sqlx::query_as(
                "INSERT INTO ordering (endpoint_id, next_seq, early_seq, ordered_at)
                 SELECT id, count + 1, 1, 0 FROM UNNEST($1::uuid[], $2::bigint[]) AS new (id, count) ORDER BY id
                 ON CONFLICT (endpoint_id) DO UPDATE SET next_seq = ordering.next_seq + excluded.next_seq - 1
                 RETURNING endpoint_id, next_seq",
            )
            .bind(codec::uuids(counts.keys()))
            .bind(counts.values().copied().collect::<Vec<i64>>())
            .fetch_all(&mut **tx)
            .await?
        }
    };
    Ok(ends.into_iter().map(|(id, end)| (id, end - counts.get(&id).copied().unwrap_or(0))).collect())
}

/// The ordered endpoints of an admission.
fn ordered(admission: &Admission) -> impl Iterator<Item = &LiveEndpoint> {
    admission.endpoints.iter().map(AsRef::as_ref).filter(|live| live.endpoint.spec.ordered)
}

/// Numbers deliveries that are about to be inserted, in the order of the batch.
pub(in crate::store) async fn number_accepted(tx: &mut Tx, admissions: &mut [Admission]) -> Result<(), StoreError> {
    let mut counts: BTreeMap<EndpointId, i64> = BTreeMap::new();
    for admission in admissions.iter().filter(|admission| !is_scheduled(&admission.message)) {
        ordered(admission).for_each(|live| *counts.entry(live.endpoint.id).or_default() += 1);
    }
    let mut next = if counts.is_empty() { HashMap::new() } else { allocate(tx, &counts).await? };
    for admission in admissions {
        let scheduled = is_scheduled(&admission.message);
        let mut number = |live: &LiveEndpoint| match next.get_mut(&live.endpoint.id).filter(|_| !scheduled) {
            Some(next) => {
                *next += 1;
                (live.endpoint.id, *next - 1)
            }
            None => (live.endpoint.id, 0),
        };
        admission.seqs = ordered(admission).map(&mut number).collect();
    }
    Ok(())
}

fn is_scheduled(message: &Message) -> bool {
    message.first_due() > message.accepted_at
}

/// If the endpoint is ordered, numbers those of its deliveries of `messages` that have no number, by age, at the end.
/// Called after the deliveries were made pending.
pub(in crate::store) async fn number_at_end(
    tx: &mut Tx,
    endpoint: EndpointId,
    mut messages: Vec<MessageId>,
    now: Time,
) -> Result<(), StoreError> {
    const SQL: &str = "SELECT 1 FROM endpoint WHERE id = $1 AND ordered";
    let ordered: Option<i32> = on!(tx, db => sqlx::query_scalar(SQL).bind(endpoint).fetch_optional(db).await)?;
    if ordered.is_some() {
        messages.sort_unstable();
        number(tx, endpoint, &messages, Numbering::New, now).await?;
    }
    Ok(())
}

/// Numbers the pending deliveries of `messages` that are `lacking` a number, in the order given.
async fn number(
    tx: &mut Tx,
    endpoint: EndpointId,
    messages: &[MessageId],
    how: Numbering,
    now: Time,
) -> Result<(), StoreError> {
    let which = match how {
        Numbering::New | Numbering::Early => "seq IS NULL",
        Numbering::Scheduled => "seq = 0",
    };
    // The second column: scheduled for later, and neither attempted nor resent.
    let read = format!(
        "SELECT message_id, attempts = 0 AND due_at > $3 AND EXISTS
             (SELECT 1 FROM message m WHERE m.id = due.message_id AND m.deliver_at > $3) FROM due
         WHERE endpoint_id = $1 AND {which} AND message_id"
    );
    let rows: Vec<(MessageId, bool)> = match tx {
        Tx::Sqlite(tx) => {
            let sql = format!("{read} IN (SELECT unhex(value) FROM json_each($2))");
            let list = sqlite::id_list(codec::uuids(messages));
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(endpoint).bind(list).bind(now).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            // The lock order of records, to avoid deadlocks.
            let sql = format!("{read} = ANY($2) ORDER BY message_id FOR UPDATE");
            let list = codec::uuids(messages);
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(endpoint).bind(list).bind(now).fetch_all(&mut **tx).await?
        }
    };
    let later: HashSet<MessageId> = rows.iter().filter(|(_, later)| *later).map(|(id, _)| *id).collect();
    let found: HashSet<MessageId> = rows.into_iter().map(|(id, _)| id).collect();
    let due = messages.iter().filter(|id| found.contains(id) && !later.contains(id));
    let due: Vec<MessageId> = due.copied().collect();
    let mut seqs: Vec<(MessageId, i64)> = later.into_iter().map(|id| (id, 0)).collect();
    if !due.is_empty() {
        let first = match how {
            Numbering::New | Numbering::Scheduled => {
                allocate(tx, &BTreeMap::from([(endpoint, due.len() as i64)])).await?.remove(&endpoint)
            }
            Numbering::Early => allocate_early(tx, endpoint, due.len() as i64).await?,
        };
        let first = first.ok_or_else(|| {
            StoreError::Damaged(format!("ordered endpoint {endpoint} has no row in the table ordering"))
        })?;
        seqs.extend(due.into_iter().zip(first..));
    }
    set_numbers(tx, endpoint, &seqs).await
}

async fn allocate_early(tx: &mut Tx, endpoint: EndpointId, count: i64) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "UPDATE ordering SET early_seq = early_seq + $2 WHERE endpoint_id = $1 RETURNING early_seq - $2";
    Ok(on!(tx, db => sqlx::query_scalar(SQL).bind(endpoint).bind(count).fetch_optional(db).await)?)
}

async fn set_numbers(tx: &mut Tx, endpoint: EndpointId, seqs: &[(MessageId, i64)]) -> Result<(), StoreError> {
    if seqs.is_empty() {
        return Ok(());
    }
    match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str = "UPDATE due SET seq = new.seq
                 FROM (SELECT substr($1, key * 16 + 1, 16) AS message_id, value AS seq FROM json_each($2)) AS new
                 WHERE due.message_id = new.message_id AND due.endpoint_id = $3";
            let mut packed = sqlite::Packed::default();
            for (message, seq) in seqs {
                packed.push(&[message.0.as_bytes()], seq)?;
            }
            let (ids, list) = packed.values()?;
            sqlx::query(SQL).bind(ids).bind(list).bind(endpoint).execute(&mut **tx).await?;
        }
        Tx::Postgres(tx) => {
            const SQL: &str =
                "UPDATE due SET seq = new.seq FROM UNNEST($1::uuid[], $2::bigint[]) AS new (message_id, seq)
                 WHERE due.message_id = new.message_id AND due.endpoint_id = $3";
            sqlx::query(SQL)
                .bind(seqs.iter().map(|(message, _)| message.0).collect::<Vec<Uuid>>())
                .bind(seqs.iter().map(|(_, seq)| *seq).collect::<Vec<i64>>())
                .bind(endpoint)
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}

impl Store {
    /// Numbers the pending deliveries of an ordered endpoint that have no number. Due scheduled ones go to the end.
    /// Those from before the endpoint became ordered go before all later ones, by age. Runs in several transactions and
    /// may be interrupted and repeated.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn number_pending(&self, endpoint: EndpointId, now: Time) -> Result<(), StoreError> {
        const DUE: &str =
            "SELECT message_id FROM due WHERE endpoint_id = $1 AND seq = 0 AND (due_at <= $2 OR due_at > $3)
             ORDER BY due_at, message_id";
        const LACKING: &str = "SELECT message_id FROM due
             WHERE slot = (SELECT slot FROM endpoint WHERE id = $1) AND endpoint_id = $1 AND seq IS NULL";
        let scheduled = self.unnumbered(DUE, endpoint, Some(now)).await?;
        self.number_in_steps(endpoint, &scheduled, Numbering::Scheduled, now).await?;
        let look = self.orderings(&[endpoint]).await?.pop().and_then(|(_, _, number_at, _)| number_at);
        if look.is_some_and(|at| at <= now) {
            let mut early = self.unnumbered(LACKING, endpoint, None).await?;
            early.sort_unstable();
            self.number_in_steps(endpoint, &early, Numbering::Early, now).await?;
            const LOOKED: &str = "UPDATE ordering SET number_at = CASE WHEN ordered_at < $2 THEN NULL ELSE $3 END
                 WHERE endpoint_id = $1";
            let looked = self.retry_conflicts(|| async {
                let mut tx = self.begin().await?;
                on!(tx, db => {
                    sqlx::query(LOOKED)
                        .bind(endpoint).bind(now.minus(LATE_DELIVERIES)).bind(now.plus(RECHECK_INTERVAL))
                        .execute(db).await.map(drop)
                })?;
                tx.commit().await
            });
            looked.await?;
        }
        Ok(())
    }

    async fn unnumbered(
        &self,
        sql: &'static str,
        endpoint: EndpointId,
        due_by: Option<Time>,
    ) -> Result<Vec<MessageId>, StoreError> {
        let mut tx = self.inner.snapshot().await?;
        Ok(on!(tx, db => {
            let query = sqlx::query_scalar(sql).bind(endpoint);
            match due_by {
                Some(now) => query.bind(now).bind(now.plus(LONGEST_SCHEDULE)).fetch_all(db).await,
                None => query.fetch_all(db).await,
            }
        })?)
    }

    async fn number_in_steps(
        &self,
        endpoint: EndpointId,
        messages: &[MessageId],
        how: Numbering,
        now: Time,
    ) -> Result<(), StoreError> {
        for chunk in messages.chunks(STEP) {
            let step = self.retry_conflicts(|| async {
                let mut tx = self.begin().await?;
                number(&mut tx, endpoint, chunk, how, now).await?;
                tx.commit().await
            });
            step.await?;
        }
        Ok(())
    }
}
