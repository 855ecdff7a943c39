//! Master key rotation while processes serve: re-encrypts sealed data, a few rows at a time.
//!
//! Rows already sealed by the new key are skipped, so the rotation can be interrupted and restarted. The key check
//! (`meta.master-key-check`) is updated last: until everything is resealed, no process starts without the old key.

use uuid::Uuid;

use crate::domain::{AutoConfigId, EndpointId, OperatorId, Time};
use crate::store::db::codec;
use crate::store::feed::autoconfig;
use crate::store::{MASTER_KEY_CHECK, Store, StoreError, Tx, on};

/// Rows per step.
const STEP: i64 = 200;

/// The progress of a rotation. Start with [`Default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reseal {
    #[default]
    Begin,
    /// Secrets of endpoints after this one.
    Secrets(EndpointId, Time),
    /// Custom headers and chat hooks of endpoints after this one.
    Headers(EndpointId),
    /// Secrets of autoconfig subscriptions after this one.
    AutoConfigs(AutoConfigId),
    /// Second factors of operators. There are at most 500 accounts, so one step does them.
    SecondFactors,
    Done,
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    pub next: Reseal,
    /// Resealed rows.
    pub rows: usize,
    /// Rows that neither key opens.
    pub unreadable: usize,
}

impl Store {
    /// Runs the step at `from`: one transaction of at most [`STEP`] rows.
    ///
    /// # Errors
    /// The store is unavailable. The step can be repeated.
    pub async fn reseal(&self, from: Reseal) -> Result<Resealed, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let done = match from {
                Reseal::Begin => self.reseal_secrets(&mut tx, EndpointId(Uuid::nil()), Time::ZERO).await?,
                Reseal::Secrets(endpoint, made_at) => self.reseal_secrets(&mut tx, endpoint, made_at).await?,
                Reseal::Headers(endpoint) => self.reseal_headers(&mut tx, endpoint).await?,
                Reseal::AutoConfigs(after) => self.reseal_autoconfigs(&mut tx, after).await?,
                Reseal::SecondFactors => self.reseal_second_factors(&mut tx).await?,
                Reseal::Done => Resealed { next: Reseal::Done, rows: 0, unreadable: 0 },
            };
            if done.next == Reseal::Done {
                let sealed = self.inner.master.seal(MASTER_KEY_CHECK.as_bytes(), b"sendoff");
                const CHECK: &str = "UPDATE meta SET value = $2 WHERE name = $1";
                on!(tx, db => sqlx::query(CHECK).bind(MASTER_KEY_CHECK).bind(sealed).execute(db).await.map(drop))?;
            }
            tx.commit().await?;
            Ok(done)
        })
        .await
    }

    async fn reseal_secrets(&self, tx: &mut Tx, endpoint: EndpointId, made_at: Time) -> Result<Resealed, StoreError> {
        const ROWS: &str = "SELECT endpoint_id, made_at, sealed FROM endpoint_secret
             WHERE (endpoint_id, made_at) > ($1, $2) ORDER BY endpoint_id, made_at LIMIT $3";
        // A row changed concurrently was already sealed by the new key.
        const SEAL: &str =
            "UPDATE endpoint_secret SET sealed = $3 WHERE endpoint_id = $1 AND made_at = $2 AND sealed = $4";
        let rows: Vec<(EndpointId, Time, Vec<u8>)> = on!(tx, db => {
            sqlx::query_as(ROWS).bind(endpoint).bind(made_at).bind(STEP).fetch_all(db).await
        })?;
        let last = rows.last().map(|(endpoint, made_at, _)| (*endpoint, *made_at));
        let (mut done, full) = (ResealCounts::default(), rows.len() as i64 == STEP);
        for (endpoint, made_at, sealed) in rows {
            if let Some(again) = self.sealed_again(&codec::secret_aad(endpoint, made_at), &sealed, &mut done) {
                on!(tx, db => {
                    sqlx::query(SEAL).bind(endpoint).bind(made_at).bind(again).bind(sealed).execute(db).await.map(drop)
                })?;
            }
        }
        let next = match last.filter(|_| full) {
            Some((endpoint, made_at)) => Reseal::Secrets(endpoint, made_at),
            None => Reseal::Headers(EndpointId(Uuid::nil())),
        };
        Ok(done.with(next))
    }

    async fn reseal_headers(&self, tx: &mut Tx, endpoint: EndpointId) -> Result<Resealed, StoreError> {
        const ROWS: &str = "SELECT id, headers, chat FROM endpoint WHERE id > $1 ORDER BY id LIMIT $2";
        const HEADERS: &str = "UPDATE endpoint SET headers = $2 WHERE id = $1 AND headers = $3";
        const CHAT: &str = "UPDATE endpoint SET chat = $2 WHERE id = $1 AND chat = $3";
        type Row = (EndpointId, Option<Vec<u8>>, Option<Vec<u8>>);
        let rows: Vec<Row> = on!(tx, db => sqlx::query_as(ROWS).bind(endpoint).bind(STEP).fetch_all(db).await)?;
        let last = rows.last().map(|(endpoint, ..)| *endpoint);
        let (mut done, full) = (ResealCounts::default(), rows.len() as i64 == STEP);
        for (endpoint, headers, chat) in rows {
            let columns = [(HEADERS, codec::headers_aad(endpoint), headers), (CHAT, codec::chat_aad(endpoint), chat)];
            for (sql, aad, sealed) in columns {
                let Some(sealed) = sealed else { continue };
                if let Some(again) = self.sealed_again(&aad, &sealed, &mut done) {
                    on!(tx, db => sqlx::query(sql).bind(endpoint).bind(again).bind(sealed).execute(db).await.map(drop))?;
                }
            }
        }
        let first = Reseal::AutoConfigs(AutoConfigId(Uuid::nil()));
        Ok(done.with(last.filter(|_| full).map_or(first, Reseal::Headers)))
    }

    async fn reseal_autoconfigs(&self, tx: &mut Tx, after: AutoConfigId) -> Result<Resealed, StoreError> {
        const ROWS: &str = "SELECT id, hash, secret FROM autoconfig WHERE id > $1 ORDER BY id LIMIT $2";
        const SEAL: &str = "UPDATE autoconfig SET secret = $2 WHERE id = $1 AND secret = $3";
        let rows: Vec<(AutoConfigId, Vec<u8>, Vec<u8>)> =
            on!(tx, db => sqlx::query_as(ROWS).bind(after).bind(STEP).fetch_all(db).await)?;
        let last = rows.last().map(|(id, ..)| *id);
        let (mut done, full) = (ResealCounts::default(), rows.len() as i64 == STEP);
        for (id, hash, sealed) in rows {
            if let Some(again) = self.sealed_again(&autoconfig::secret_aad(id, &hash), &sealed, &mut done) {
                on!(tx, db => sqlx::query(SEAL).bind(id).bind(again).bind(sealed).execute(db).await.map(drop))?;
            }
        }
        Ok(done.with(last.filter(|_| full).map_or(Reseal::SecondFactors, Reseal::AutoConfigs)))
    }

    async fn reseal_second_factors(&self, tx: &mut Tx) -> Result<Resealed, StoreError> {
        const ROWS: &str = "SELECT id, totp FROM operator WHERE totp IS NOT NULL";
        const SEAL: &str = "UPDATE operator SET totp = $2 WHERE id = $1 AND totp = $3";
        let rows: Vec<(OperatorId, Vec<u8>)> = on!(tx, db => sqlx::query_as(ROWS).fetch_all(db).await)?;
        let mut done = ResealCounts::default();
        for (operator, sealed) in rows {
            if let Some(again) = self.sealed_again(&codec::totp_aad(operator), &sealed, &mut done) {
                on!(tx, db => sqlx::query(SEAL).bind(operator).bind(again).bind(sealed).execute(db).await.map(drop))?;
            }
        }
        Ok(done.with(Reseal::Done))
    }

    /// Reseals data under the current key; `None`: already done, or neither key opens it.
    fn sealed_again(&self, row: &[u8], sealed: &[u8], done: &mut ResealCounts) -> Option<Vec<u8>> {
        let master = &self.inner.master;
        if master.has_sealed(sealed) {
            return None;
        }
        match master.open(row, sealed) {
            Ok(plain) => {
                done.rows += 1;
                Some(master.seal(row, &plain))
            }
            Err(_) => {
                done.unreadable += 1;
                None
            }
        }
    }
}

#[derive(Default)]
struct ResealCounts {
    rows: usize,
    unreadable: usize,
}

impl ResealCounts {
    fn with(self, next: Reseal) -> Resealed {
        Resealed { next, rows: self.rows, unreadable: self.unreadable }
    }
}
