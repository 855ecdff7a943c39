//! Health check: whether the store accepts writes. A store that answers queries may be a standby or read-only.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::store::db::postgres::sessions::READ_ONLY;
use crate::store::{Backend, Store, StoreError};

/// The time that a result is cached, to bound the load of health checks.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// The last result and its time. Locked during a check.
pub(in crate::store) type CachedCheck = Mutex<Option<(Instant, Result<(), StoreError>)>>;

impl Store {
    /// Checks that the store accepts writes, without changing anything. The result is cached for a second.
    ///
    /// # Errors
    /// The store does not answer or is read-only.
    pub async fn writable(&self, now: Instant) -> Result<(), StoreError> {
        let mut cached = self.inner.writable.lock().await;
        if let Some((at, result)) = &*cached
            && now.saturating_duration_since(*at) < CACHE_TTL
        {
            return result.clone();
        }
        let result = self.write_nothing().await.map_err(|error| match is_read_only(&error) {
            true => {
                // The conversion invalidates the session.
                let _ = StoreError::from(error);
                StoreError::Unusable("the database is read-only: nothing can be accepted or recorded".to_owned())
            }
            false => error.into(),
        });
        *cached = Some((now, result.clone()));
        result
    }

    async fn write_nothing(&self) -> Result<(), sqlx::Error> {
        match &self.inner.backend {
            // Only takes the write lock, because all writes wait for it.
            Backend::Sqlite(backend) => backend.begin().await?.rollback().await,
            // Locking a row is a write. A row that is locked already was locked by a write.
            Backend::Postgres(backend) => {
                const SQL: &str = "SELECT name FROM meta LIMIT 1 FOR UPDATE SKIP LOCKED";
                sqlx::query(SQL).execute(&backend.front).await.map(drop)
            }
        }
    }
}

/// By PostgreSQL's SQLSTATE or SQLite's primary result code.
fn is_read_only(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|inner| inner.code()).unwrap_or_default();
    code == READ_ONLY || code.parse::<i32>().is_ok_and(|code| code.to_string().len() < 5 && code & 0xff == 8)
}
