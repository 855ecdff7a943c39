//! Tokens of polling endpoints. Only hashes are stored.

use std::time::Duration;

use crate::domain::access::audit::action;
use crate::domain::catalog::polling::{PollingEndpoint, PollingToken};
use crate::store::access::sign_in_links::TokenHash;
use crate::store::catalog::applications;
use crate::store::db::codec::from_row;
use crate::store::{Store, StoreError, Tenant, Tx, on, read};

/// Maximum tokens kept per polling endpoint; the oldest are deleted first.
const KEPT: i64 = 10;

from_row!(PollingToken { id, org, app_id, polling_endpoint_id, hint, created_at, expires_at });

const COLUMNS: &str = "t.id, p.org, t.app_id, t.polling_endpoint_id, t.hint, t.created_at, t.expires_at";
const TABLES: &str = "polling_token t JOIN application p ON p.id = t.app_id AND p.deleted_at IS NULL";

impl Store {
    /// Stores a new token of a polling endpoint with its hash. Older tokens expire after `overlap`. `false` if the
    /// tenant does not have the polling endpoint.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn rotate_polling_token(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        token: &PollingToken,
        hash: &TokenHash,
        overlap: Duration,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const THERE: &str = "SELECT count(*) FROM polling_endpoint WHERE app_id = $1 AND id = $2";
            const END: &str = "UPDATE polling_token SET expires_at = $2
                 WHERE polling_endpoint_id = $1 AND (expires_at IS NULL OR expires_at > $2)";
            const FORGET: &str =
                "DELETE FROM polling_token WHERE polling_endpoint_id = $1 AND (expires_at <= $2 OR id IN
                 (SELECT id FROM polling_token WHERE polling_endpoint_id = $1 ORDER BY id DESC LIMIT $3 OFFSET $4))";
            let now = token.created_at;
            let mut tx = self.begin().await?;
            self.insert_idempotency_key(&mut tx, &token.id.to_string()).await?;
            if !applications::lock_application(&mut tx, tenant, endpoint.app_id).await? {
                return Ok(false);
            }
            let there: i64 =
                on!(tx, db => sqlx::query_scalar(THERE).bind(endpoint.app_id).bind(endpoint.id).fetch_one(db).await)?;
            if there == 0 {
                return Ok(false);
            }
            on!(tx, db => sqlx::query(END).bind(endpoint.id).bind(now.plus(overlap)).execute(db).await.map(drop))?;
            on!(tx, db => {
                sqlx::query(FORGET).bind(endpoint.id).bind(now).bind(KEPT).bind(KEPT - 1).execute(db).await.map(drop)
            })?;
            self.insert_polling_token(&mut tx, tenant, endpoint, token, hash).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Inserts a token, with its audit entry.
    pub(in crate::store) async fn insert_polling_token(
        &self,
        tx: &mut Tx,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
        token: &PollingToken,
        hash: &TokenHash,
    ) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO polling_token (id, hash, app_id, polling_endpoint_id, hint, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        on!(tx, db => {
            sqlx::query(SQL)
                .bind(token.id).bind(&hash[..]).bind(endpoint.app_id).bind(endpoint.id)
                .bind(&token.hint).bind(token.created_at).bind(token.expires_at)
                .execute(db).await.map(drop)
        })?;
        self.audit_polling_endpoint(tx, tenant, endpoint, action::POLLING_TOKEN_ROTATED, token.created_at).await
    }

    /// The newest token of a polling endpoint, valid or not.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn polling_token(
        &self,
        tenant: &Tenant,
        endpoint: &PollingEndpoint,
    ) -> Result<Option<PollingToken>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM {TABLES} WHERE t.polling_endpoint_id = $1 AND p.org = $2 ORDER BY t.id DESC LIMIT 1"
        ));
        let token: Option<PollingToken> =
            read!(self, db => sqlx::query_as(sql).bind(endpoint.id).bind(&tenant.org).fetch_optional(db).await)?;
        Ok(token.filter(|token| tenant.sees(token.app_id)))
    }

    /// Looks up a token by its hash, valid or not, for authentication. Timing reveals nothing about a token of 256
    /// random bits.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn polling_token_by_hash(&self, hash: &TokenHash) -> Result<Option<PollingToken>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM {TABLES} WHERE t.hash = $1"));
        Ok(read!(self, db => sqlx::query_as(sql).bind(&hash[..]).fetch_optional(db).await)?)
    }
}
