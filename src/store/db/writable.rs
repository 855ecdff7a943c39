//! Whether the store can be written, which a store that answers queries need not be: a standby, a database or file that is read-only.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::store::db::postgres::sessions::READ_ONLY;
use crate::store::{Engine, Store, StoreError};

/// How long an answer holds: the store is not asked more often, however many look.
const HOLDS: Duration = Duration::from_secs(1);

/// The last answer, and when it was asked for. Held while the store is being asked.
pub(in crate::store) type Asked = Mutex<Option<(Instant, Result<(), StoreError>)>>;

impl Store {
    /// Whether the store takes writes at `now`, or did within the second before. Nothing is changed.
    ///
    /// # Errors
    /// It does not answer, or is read-only; then the sentence says so.
    pub async fn writable(&self, now: Instant) -> Result<(), StoreError> {
        let mut asked = self.inner.writable.lock().await;
        if let Some((at, answer)) = &*asked
            && now.saturating_duration_since(*at) < HOLDS
        {
            return answer.clone();
        }
        let answer = self.write_nothing().await.map_err(|error| match is_read_only(&error) {
            true => {
                // For what is to be done about the session.
                let _ = StoreError::from(error);
                StoreError::Unusable("the database is read-only: nothing can be accepted or recorded".to_owned())
            }
            false => error.into(),
        });
        *asked = Some((now, answer.clone()));
        answer
    }

    async fn write_nothing(&self) -> Result<(), sqlx::Error> {
        match &self.inner.engine {
            // A lock and no more, as everybody waits for the one writer.
            Engine::Sqlite(engine) => engine.begin().await?.rollback().await,
            // A locked row is a write. Whoever has the lock already has written as well.
            Engine::Postgres(engine) => {
                const SQL: &str = "SELECT name FROM meta LIMIT 1 FOR UPDATE SKIP LOCKED";
                sqlx::query(SQL).execute(&engine.front).await.map(drop)
            }
        }
    }
}

/// By PostgreSQL's SQLSTATE or SQLite's primary result code.
fn is_read_only(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|inner| inner.code()).unwrap_or_default();
    code == READ_ONLY || code.parse::<i32>().is_ok_and(|code| code.to_string().len() < 5 && code & 0xff == 8)
}
