//! Selecting the next row to lease.

use uuid::Uuid;

use crate::domain::Time;
use crate::store::{StoreError, Tx};

/// The id that `sql` selects, with `times` bound as $1 and $2, locked until the commit. Skips rows that another process
/// has locked, so concurrent processes lease different rows. SQLite has one writer and needs no row locks.
pub(in crate::store) async fn next_unlocked(
    tx: &mut Tx,
    sql: &'static str,
    times: [Time; 2],
) -> Result<Option<Uuid>, StoreError> {
    let [first, second] = times;
    Ok(match tx {
        Tx::Sqlite(tx) => sqlx::query_scalar(sql).bind(first).bind(second).fetch_optional(&mut **tx).await?,
        Tx::Postgres(tx) => {
            let sql = sqlx::AssertSqlSafe(format!("{sql} FOR UPDATE SKIP LOCKED"));
            sqlx::query_scalar(sql).bind(first).bind(second).fetch_optional(&mut **tx).await?
        }
    })
}
