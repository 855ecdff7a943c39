//! Idempotency keys: a call that is repeated under the same key (`idempotency-key` over REST) takes effect once.
//!
//! * [`IdempotencyKey`]: the key of a call, and the hash of its body.
//! * A handle [with a key](Store::with_idempotency_key) inserts the key in the transaction that creates the object. The
//!   row refers to the object and never holds the response, which may contain secrets.
//! * [`PriorRequest`]: the earlier call with the same key. Keys expire after [`IDEMPOTENCY_TTL`].
//! * [`InFlightGuard`]: a guard against two concurrent calls with the same key in one process.
//!
//! Invariant: a key is committed with the object that its call created, or not at all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::Time;
use crate::store::db::sqlite;
use crate::store::ingest::accept::{AcceptItem, Rejection};
use crate::store::{Inner, Store, StoreError, Tx, on, read_vital, write_one};

/// The lifetime of a key.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(12 * 3_600);

/// The idempotency key of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// SHA-256 of caller, operation and key.
    pub hash: [u8; 32],
    /// SHA-256 of the body.
    pub body: [u8; 32],
    pub at: Time,
}

/// An earlier call with the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriorRequest {
    /// The bodies are equal. A reference to the object that the earlier call created.
    SameBody(String),
    /// The bodies differ.
    OtherBody,
}

/// The keys of the calls in flight in this process.
pub(in crate::store) type InFlightKeys = Mutex<HashSet<[u8; 32]>>;

/// Marks a key as in flight until dropped.
#[derive(Debug)]
pub struct InFlightGuard {
    inner: Arc<Inner>,
    hash: [u8; 32],
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.inner.in_flight_keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&self.hash);
    }
}

/// Inserts a key or replaces an expired one. No row is written if the key is in use.
const INSERT_KEY: &str = "INSERT INTO once (hash, body, made, at) VALUES ($1, $2, $3, $4)
     ON CONFLICT (hash) DO UPDATE SET body = excluded.body, made = excluded.made, at = excluded.at WHERE once.at <= $5";

impl Store {
    /// A handle for a call with this key. Objects are created together with the key; if the key is in use, creation
    /// fails with [`StoreError::Repeated`] (for a message: [`Rejection::Repeated`]).
    pub fn with_idempotency_key(&self, key: IdempotencyKey) -> Store {
        Store { idempotency_key: Some(Arc::new(key)), ..self.clone() }
    }

    /// The handle without its key, for an act that a repeated call may repeat.
    pub fn without_idempotency_key(&self) -> Store {
        Store { idempotency_key: None, ..self.clone() }
    }

    /// Marks the key as in flight; `None` if it already is.
    pub fn mark_in_flight(&self, key: &IdempotencyKey) -> Option<InFlightGuard> {
        let mut calls = self.inner.in_flight_keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        calls.insert(key.hash).then(|| InFlightGuard { inner: self.inner.clone(), hash: key.hash })
    }

    /// The earlier call with the same key, if it has not expired.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn prior_request(&self, key: &IdempotencyKey) -> Result<Option<PriorRequest>, StoreError> {
        const SQL: &str = "SELECT body, made FROM once WHERE hash = $1 AND at > $2";
        let row: Option<(Vec<u8>, String)> = read_vital!(self, db => {
            sqlx::query_as(SQL).bind(&key.hash[..]).bind(key.at.minus(IDEMPOTENCY_TTL)).fetch_optional(db).await
        })?;
        Ok(row
            .map(|(body, made)| if body == key.body { PriorRequest::SameBody(made) } else { PriorRequest::OtherBody }))
    }

    /// Deletes up to `limit` expired keys. Returns the number deleted.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_expired_idempotency_keys(&self, now: Time, limit: i64) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM once WHERE hash IN (SELECT hash FROM once WHERE at <= $1 ORDER BY at LIMIT $2)";
        write_one!(self, sqlx::query(SQL).bind(now.minus(IDEMPOTENCY_TTL)).bind(limit))
    }

    /// Inserts this handle's key, if it has one, with a reference to the object to be created. Must come first in a
    /// transaction: otherwise a repeated call would fail with a conflict of the object ("taken").
    ///
    /// # Errors
    /// [`StoreError::Repeated`], or the store is unavailable.
    pub(in crate::store) async fn insert_idempotency_key(&self, tx: &mut Tx, made: &str) -> Result<(), StoreError> {
        let Some(key) = self.idempotency_key.as_deref() else { return Ok(()) };
        let entered = on!(tx, db => {
            sqlx::query(INSERT_KEY)
                .bind(&key.hash[..]).bind(&key.body[..]).bind(made).bind(key.at).bind(key.at.minus(IDEMPOTENCY_TTL))
                .execute(db).await.map(|done| done.rows_affected())
        })?;
        if entered == 0 { Err(StoreError::Repeated) } else { Ok(()) }
    }
}

/// Inserts the keys of a batch of messages, and rejects drafts whose key is in use.
pub(in crate::store) async fn insert_batch_keys<T>(
    tx: &mut Tx,
    items: &[&AcceptItem],
    drafts: &mut [Result<T, Rejection>],
    made: impl Fn(&T) -> String,
) -> Result<(), StoreError> {
    // Sorted, so two processes that insert the same keys cannot deadlock.
    let mut keys: Vec<(&IdempotencyKey, String)> = Vec::new();
    for (item, draft) in items.iter().zip(drafts.iter()) {
        if let (Some(key), Ok(draft)) = (item.idempotency_key.as_deref(), draft) {
            keys.push((key, made(draft)));
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort_unstable_by_key(|(key, _)| key.hash);
    keys.dedup_by_key(|(key, _)| key.hash);
    let entered = insert_keys(tx, &keys).await?;
    for (item, draft) in items.iter().zip(drafts) {
        let repeated = match (item.idempotency_key.as_deref(), &*draft) {
            (Some(_), Ok(ours)) => !entered.contains(&made(ours)),
            _ => false,
        };
        if repeated {
            *draft = Err(Rejection::Repeated);
        }
    }
    Ok(())
}

/// Inserts `keys` and returns the references of those that were not in use.
async fn insert_keys(tx: &mut Tx, keys: &[(&IdempotencyKey, String)]) -> Result<HashSet<String>, StoreError> {
    let latest = keys.iter().map(|(key, _)| key.at).max().unwrap_or(Time::ZERO);
    let cutoff = latest.minus(IDEMPOTENCY_TTL);
    match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str = "INSERT INTO once (hash, body, made, at)
                 SELECT substr($1, key * 64 + 1, 32), substr($1, key * 64 + 33, 32), value, $3
                 FROM json_each($2) WHERE TRUE
                 ON CONFLICT (hash) DO UPDATE SET body = excluded.body, made = excluded.made, at = excluded.at
                     WHERE once.at <= $4";
            let mut packed = sqlite::Packed::default();
            for (key, made) in keys {
                packed.push(&[&key.hash, &key.body], made)?;
            }
            let usual = keys.iter().map(|(_, made)| made.clone()).collect();
            sqlite::insert_keys(tx, SQL, "made", packed, usual, |query| query.bind(latest).bind(cutoff)).await
        }
        Tx::Postgres(tx) => {
            let made: Vec<String> = sqlx::query_scalar(
                "INSERT INTO once (hash, body, made, at)
                 SELECT * FROM UNNEST($1::bytea[], $2::bytea[], $3::text[], $4::bigint[])
                 ON CONFLICT (hash) DO UPDATE SET body = excluded.body, made = excluded.made, at = excluded.at
                     WHERE once.at <= $5
                 RETURNING made",
            )
            .bind(keys.iter().map(|(key, _)| &key.hash[..]).collect::<Vec<&[u8]>>())
            .bind(keys.iter().map(|(key, _)| &key.body[..]).collect::<Vec<&[u8]>>())
            .bind(keys.iter().map(|(_, made)| made.as_str()).collect::<Vec<&str>>())
            .bind(keys.iter().map(|(key, _)| key.at.micros()).collect::<Vec<i64>>())
            .bind(cutoff)
            .fetch_all(&mut **tx)
            .await?;
            Ok(made.into_iter().collect())
        }
    }
}

/// Deletes the keys of items that were rejected after their keys had been inserted: a rejected call may be repeated.
pub(in crate::store) async fn release_rejected_keys<T>(
    tx: &mut Tx,
    items: &[&AcceptItem],
    drafts: &[Result<T, Rejection>],
) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM once WHERE hash = $1";
    for (item, draft) in items.iter().zip(drafts) {
        if let (Some(key), Err(Rejection::Duplicate(_))) = (item.idempotency_key.as_deref(), draft) {
            on!(tx, db => sqlx::query(SQL).bind(&key.hash[..]).execute(db).await.map(drop))?;
        }
    }
    Ok(())
}
