//! Removes deleted endpoints and applications permanently, a few rows at a time:
//!
//! 1. Some days after the deletion the row is **purged**: its secrets, headers, metadata, filters and the path of its
//!    URL are erased. Lists still need the rest to name the endpoint of an old attempt.
//! 2. The row is removed after retention has deleted its last delivery and attempt.
//!
//! Until it is purged, a row deleted by accident can be restored by hand: set the versions of the endpoint and its
//! application to the application's version plus one.

use std::collections::BTreeSet;

use url::Url;
use uuid::Uuid;

use crate::domain::{AppId, EndpointId, Time};
use crate::store::db::{codec, sqlite};
use crate::store::queue::ordering;
use crate::store::{Store, StoreError, Tx, on, write_one};

/// Maximum rows per transaction.
const STEP: i64 = 200;

/// Whether an endpoint has any delivery or attempt left.
const HISTORY: &str = "EXISTS (SELECT 1 FROM due WHERE due.slot = endpoint.slot AND due.endpoint_id = endpoint.id)
     OR EXISTS (SELECT 1 FROM dead WHERE dead.endpoint_id = endpoint.id)
     OR EXISTS (SELECT 1 FROM attempt WHERE attempt.endpoint_id = endpoint.id)";

impl Store {
    /// Purges one step of rows deleted before `deleted`, and removes one step of purged rows that were deleted before
    /// `history` and have no history left. `true`: there may be more to do.
    ///
    /// # Errors
    /// The store is unavailable. Committed steps stay.
    pub async fn purge_deleted(&self, deleted: Time, history: Time, now: Time) -> Result<bool, StoreError> {
        let mut most = 0;
        most = most.max(self.purge_endpoints(deleted, now).await?);
        most = most.max(self.purge_applications(deleted, now).await?);
        most = most.max(self.remove_endpoints(history).await?);
        most = most.max(self.remove_applications(history).await?);
        ordering::remove_relay_lock(self).await?;
        Ok(most >= STEP.unsigned_abs())
    }

    /// Deletes up to `limit` old secrets whose grace period ended before `now`. Returns their number.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_expired_secrets(&self, now: Time, limit: i64) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM endpoint_secret WHERE (endpoint_id, made_at) IN
             (SELECT endpoint_id, made_at FROM endpoint_secret WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";
        write_one!(self, sqlx::query(SQL).bind(now).bind(limit))
    }

    /// Deletes up to `limit` API keys that were revoked or expired before `before`. Returns their number.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_old_api_keys(&self, before: Time, limit: i64) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM api_key WHERE id IN
             (SELECT id FROM api_key WHERE revoked_at < $1 OR expires_at < $1 ORDER BY id LIMIT $2)";
        write_one!(self, sqlx::query(SQL).bind(before).bind(limit))
    }

    /// Purges endpoints without pending deliveries. Returns their number.
    async fn purge_endpoints(&self, deleted: Time, now: Time) -> Result<u64, StoreError> {
        self.retry_conflicts(|| async {
            const NEXT: &str = "SELECT id, url FROM endpoint
                 WHERE deleted_at < $1 AND deleted_at IS NOT NULL AND purged_at IS NULL AND pending_cleanup = 0
                 ORDER BY deleted_at LIMIT $2";
            const PURGE: &str = "UPDATE endpoint SET url = $2, purged_at = $3, description = '', metadata = '{}', headers = NULL,
                     chat = NULL,                     event_types = NULL, channels = NULL, extra_signatures = '[]', retry_schedule = NULL, failing_since = NULL,
                     rests_until = NULL
                 WHERE id = $1 AND purged_at IS NULL";
            let mut tx = self.begin().await?;
            let rows: Vec<(EndpointId, String)> =
                on!(tx, db => sqlx::query_as(NEXT).bind(deleted).bind(STEP).fetch_all(db).await)?;
            if rows.is_empty() {
                return Ok(0);
            }
            for (id, url) in &rows {
                on!(tx, db => sqlx::query(PURGE).bind(id).bind(origin(url)).bind(now).execute(db).await.map(drop))?;
            }
            let ids: Vec<EndpointId> = rows.into_iter().map(|(id, _)| id).collect();
            for table in ["endpoint_secret", "ordering"] {
                delete_of(&mut tx, table, &ids).await?;
            }
            tx.commit().await?;
            Ok(ids.len() as u64)
        })
        .await
    }

    /// Purges applications. Returns their number.
    async fn purge_applications(&self, deleted: Time, now: Time) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE application SET purged_at = $3, metadata = '{}', contact_email = NULL, throttle_rate = NULL
             WHERE id IN (SELECT id FROM application WHERE deleted_at < $1 AND deleted_at IS NOT NULL AND purged_at IS NULL
                          ORDER BY deleted_at LIMIT $2)";
        write_one!(self, sqlx::query(SQL).bind(deleted).bind(STEP).bind(now))
    }

    /// Removes purged endpoints without history. Returns their number.
    async fn remove_endpoints(&self, history: Time) -> Result<u64, StoreError> {
        self.retry_conflicts(|| async {
            let next = sqlx::AssertSqlSafe(format!(
                "SELECT id, app_id FROM endpoint WHERE deleted_at < $1 AND purged_at IS NOT NULL AND NOT ({HISTORY})
                 ORDER BY deleted_at LIMIT $2"
            ));
            // A cache from before the deletion can no longer be updated incrementally, because the deleted row is gone.
            const NO_CHANGES: &str = "UPDATE application SET changes_from = version WHERE id = $1";
            const DELETE: &str = "DELETE FROM endpoint WHERE id = $1 AND purged_at IS NOT NULL";
            let mut tx = self.begin().await?;
            let rows: Vec<(EndpointId, AppId)> =
                on!(tx, db => sqlx::query_as(next).bind(history).bind(STEP).fetch_all(db).await)?;
            for app in rows.iter().map(|(_, app)| *app).collect::<BTreeSet<AppId>>() {
                on!(tx, db => sqlx::query(NO_CHANGES).bind(app).execute(db).await.map(drop))?;
            }
            for (id, _) in &rows {
                on!(tx, db => sqlx::query(DELETE).bind(id).execute(db).await.map(drop))?;
            }
            tx.commit().await?;
            Ok(rows.len() as u64)
        })
        .await
    }

    /// Removes purged applications without endpoints and history. Returns their number.
    async fn remove_applications(&self, history: Time) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM application WHERE id IN
             (SELECT id FROM application WHERE deleted_at < $1 AND purged_at IS NOT NULL
                  AND NOT EXISTS (SELECT 1 FROM endpoint WHERE endpoint.app_id = application.id)
                  AND NOT EXISTS (SELECT 1 FROM message WHERE message.app_id = application.id)
              ORDER BY deleted_at LIMIT $2)";
        write_one!(self, sqlx::query(SQL).bind(history).bind(STEP))
    }
}

/// Deletes these endpoints' rows in `table`.
async fn delete_of(tx: &mut Tx, table: &str, ids: &[EndpointId]) -> Result<(), StoreError> {
    match tx {
        Tx::Sqlite(tx) => {
            let sql = format!("DELETE FROM {table} WHERE endpoint_id IN (SELECT unhex(value) FROM json_each($1))");
            let list = sqlite::id_list(codec::uuids(ids));
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(list).execute(&mut **tx).await?;
        }
        Tx::Postgres(tx) => {
            let sql = format!("DELETE FROM {table} WHERE endpoint_id = ANY($1)");
            let list: Vec<Uuid> = codec::uuids(ids);
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(list).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

/// Scheme, host and port of a URL. Path and query may be secrets.
fn origin(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) if url.has_host() => format!("{}/", url.origin().ascii_serialization()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purged_url_keeps_only_scheme_host_and_port() {
        for (url, left) in [
            ("https://example.com/hook/s3cret?token=x#y", "https://example.com/"),
            ("http://user:password@example.com:8080/", "http://example.com:8080/"),
            ("http://[::1]:9/a", "http://[::1]:9/"),
            ("no URL at all", ""),
        ] {
            assert_eq!(origin(url), left);
        }
    }
}
