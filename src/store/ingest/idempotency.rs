//! Once: what a call that may come twice makes, it makes once.
//!
//! * [`Once`] – a call under a key of the caller's own (`idempotency-key` over REST), and what it brought along.
//! * A store [on behalf of](Store::once) such a call enters the key in the transaction that makes what the call asked for, with a
//!   reference to it: never the answer's text, which may hold secrets. Both are there or neither is.
//! * [`Before`] – what a key stands for when it comes again. It is remembered for [`ONCE_LIFE`].
//! * [`UnderWay`] – held while a call is: the same key at the same moment has to wait.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::Time;
use crate::store::db::sqlite;
use crate::store::ingest::accept::{AcceptItem, Refusal};
use crate::store::{Inner, Store, StoreError, Tx, on, read_vital};

/// How long the same key gives the same answer.
pub const ONCE_LIFE: Duration = Duration::from_secs(12 * 3_600);

/// A call that is to take effect once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// SHA-256 of who calls, what, and under which key.
    pub hash: [u8; 32],
    /// SHA-256 of the body.
    pub body: [u8; 32],
    pub at: Time,
}

/// What a key stands for already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// The same call made this.
    Made(String),
    /// It came with another body.
    Another,
}

/// The calls that are under way in this process.
pub(in crate::store) type Calls = Mutex<HashSet<[u8; 32]>>;

/// The right to act under a key, until it is dropped.
#[derive(Debug)]
pub struct UnderWay {
    inner: Arc<Inner>,
    hash: [u8; 32],
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.inner.under_way.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&self.hash);
    }
}

/// Enters a key; one that is too old to count gives way. One row is written, or the key is taken.
const ENTER: &str = "INSERT INTO once (hash, body, made, at) VALUES ($1, $2, $3, $4)
     ON CONFLICT (hash) DO UPDATE SET body = excluded.body, made = excluded.made, at = excluded.at WHERE once.at <= $5";

impl Store {
    /// This store on behalf of a call that is to take effect once. What it makes, it makes together with the call's key, and
    /// refuses with [`StoreError::Repeated`] (a message: [`Refusal::Repeated`]) if the key is there already.
    pub fn once(&self, once: Once) -> Store {
        Store { once: Some(Arc::new(once)), ..self.clone() }
    }

    /// Has a call under way, unless the same is under way in this process already.
    pub fn under_way(&self, once: &Once) -> Option<UnderWay> {
        let mut calls = self.inner.under_way.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        calls.insert(once.hash).then(|| UnderWay { inner: self.inner.clone(), hash: once.hash })
    }

    /// What the key of `once` stands for already.
    ///
    /// # Errors
    /// The store is away.
    pub async fn before(&self, once: &Once) -> Result<Option<Before>, StoreError> {
        const SQL: &str = "SELECT body, made FROM once WHERE hash = $1 AND at > $2";
        let row: Option<(Vec<u8>, String)> = read_vital!(self, db => {
            sqlx::query_as(SQL).bind(&once.hash[..]).bind(once.at.minus(ONCE_LIFE)).fetch_optional(db).await
        })?;
        Ok(row.map(|(body, made)| if body == once.body { Before::Made(made) } else { Before::Another }))
    }

    /// Forgets up to `limit` keys that are past their life. Gives back how many went.
    ///
    /// # Errors
    /// The store is away.
    pub async fn forget_once(&self, now: Time, limit: i64) -> Result<u64, StoreError> {
        self.repeated(|| async {
            const SQL: &str =
                "DELETE FROM once WHERE hash IN (SELECT hash FROM once WHERE at <= $1 ORDER BY at LIMIT $2)";
            let cutoff = now.minus(ONCE_LIFE);
            let mut tx = self.begin().await?;
            let gone = on!(tx, db => {
                sqlx::query(SQL).bind(cutoff).bind(limit).execute(db).await.map(|done| done.rows_affected())
            })?;
            tx.commit().await?;
            Ok(gone)
        })
        .await
    }

    /// Enters the key that this store acts under, if it acts under one, as having made `made`. The first thing that a
    /// transaction does: what it would say of a repeat otherwise ("taken") is not what a repeat is to hear.
    ///
    /// # Errors
    /// [`StoreError::Repeated`], or the store is away.
    pub(in crate::store) async fn enter_once(&self, tx: &mut Tx, made: &str) -> Result<(), StoreError> {
        let Some(once) = self.once.as_deref() else { return Ok(()) };
        let entered = on!(tx, db => {
            sqlx::query(ENTER)
                .bind(&once.hash[..]).bind(&once.body[..]).bind(made).bind(once.at).bind(once.at.minus(ONCE_LIFE))
                .execute(db).await.map(|done| done.rows_affected())
        })?;
        if entered == 0 { Err(StoreError::Repeated) } else { Ok(()) }
    }
}

/// Enters the keys of a batch of messages that are about to be made; a draft whose key is taken becomes a refusal.
pub(in crate::store) async fn enter_batch<T>(
    tx: &mut Tx,
    items: &[&AcceptItem],
    drafts: &mut [Result<T, Refusal>],
    made: impl Fn(&T) -> String,
) -> Result<(), StoreError> {
    // Sorted, so that two processes which enter the same keys wait for each other in one order and never in a circle.
    let mut keys: Vec<(&Once, String)> = Vec::new();
    for (item, draft) in items.iter().zip(drafts.iter()) {
        if let (Some(once), Ok(draft)) = (item.once.as_deref(), draft) {
            keys.push((once, made(draft)));
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort_unstable_by_key(|(once, _)| once.hash);
    keys.dedup_by_key(|(once, _)| once.hash);
    let entered = enter_keys(tx, &keys).await?;
    for (item, draft) in items.iter().zip(drafts) {
        let repeated = match (item.once.as_deref(), &*draft) {
            (Some(_), Ok(ours)) => !entered.contains(&made(ours)),
            _ => false,
        };
        if repeated {
            *draft = Err(Refusal::Repeated);
        }
    }
    Ok(())
}

/// Enters `keys` and gives back what those made that were new.
async fn enter_keys(tx: &mut Tx, keys: &[(&Once, String)]) -> Result<HashSet<String>, StoreError> {
    let latest = keys.iter().map(|(once, _)| once.at).max().unwrap_or(Time::ZERO);
    let cutoff = latest.minus(ONCE_LIFE);
    match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str = "INSERT INTO once (hash, body, made, at)
                 SELECT substr($1, key * 64 + 1, 32), substr($1, key * 64 + 33, 32), value, $3 FROM json_each($2) WHERE TRUE
                 ON CONFLICT (hash) DO UPDATE SET body = excluded.body, made = excluded.made, at = excluded.at
                     WHERE once.at <= $4";
            let mut packed = sqlite::Packed::default();
            for (once, made) in keys {
                packed.push(&[&once.hash, &once.body], made)?;
            }
            let usual = keys.iter().map(|(_, made)| made.clone()).collect();
            sqlite::enter(tx, SQL, "made", packed, usual, |query| query.bind(latest).bind(cutoff)).await
        }
        Tx::Postgres(tx) => {
            let made: Vec<String> = sqlx::query_scalar(
                "INSERT INTO once (hash, body, made, at)
                 SELECT * FROM UNNEST($1::bytea[], $2::bytea[], $3::text[], $4::bigint[])
                 ON CONFLICT (hash) DO UPDATE SET body = excluded.body, made = excluded.made, at = excluded.at
                     WHERE once.at <= $5
                 RETURNING made",
            )
            .bind(keys.iter().map(|(once, _)| &once.hash[..]).collect::<Vec<&[u8]>>())
            .bind(keys.iter().map(|(once, _)| &once.body[..]).collect::<Vec<&[u8]>>())
            .bind(keys.iter().map(|(_, made)| made.as_str()).collect::<Vec<&str>>())
            .bind(keys.iter().map(|(once, _)| once.at.micros()).collect::<Vec<i64>>())
            .bind(cutoff)
            .fetch_all(&mut **tx)
            .await?;
            Ok(made.into_iter().collect())
        }
    }
}

/// Gives the keys back of items that were refused after theirs had been entered: a refusal is not an answer to remember.
pub(in crate::store) async fn leave_batch<T>(
    tx: &mut Tx,
    items: &[&AcceptItem],
    drafts: &[Result<T, Refusal>],
) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM once WHERE hash = $1";
    for (item, draft) in items.iter().zip(drafts) {
        if let (Some(once), Err(Refusal::Duplicate(_))) = (item.once.as_deref(), draft) {
            on!(tx, db => sqlx::query(SQL).bind(&once.hash[..]).execute(db).await.map(drop))?;
        }
    }
    Ok(())
}
