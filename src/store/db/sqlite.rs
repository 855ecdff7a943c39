//! SQLite: the connections of a database file, and helpers for statements.
//!
//! * One connection writes. Pages have their own readers, so authentication, acceptance and the engine never wait for
//!   them.
//! * WAL with `synchronous=FULL`: a commit is on disk before it is acknowledged.
//!   [Checkpoints](crate::store::db::checkpoint) run outside of commits.
//! * A lock file ensures that one process serves the database.
//! * Hot statements use `OR FAIL`: a failed statement rolls the whole transaction back anyway, so SQLite needs no
//!   statement journal with a copy of each changed page.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::Hash;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::query_builder::Separated;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{
    Connection as _, Executor as _, QueryBuilder, Row, Sqlite as Db, SqliteConnection, SqlitePool, Transaction,
};
use uuid::Uuid;

use crate::store::StoreError;

/// Versions before this one can corrupt a WAL database that is checkpointed while it is written.
const LEAST_VERSION: (u32, u32, u32) = (3, 51, 3);
/// Readers for requests and pages. In WAL mode readers never wait for the writer.
const PAGES: u32 = 4;
/// Maximum readers that scans may occupy.
pub(in crate::store) const SCANS: usize = 3;
/// Readers for authentication, acceptance and the engine.
const VITAL: u32 = 2;
/// The size in bytes to which SQLite truncates a restarted WAL, if a reader has made it grow beyond this size. A
/// quarter more than the threshold in [`crate::store::Store::tidy`], to avoid truncating it each time.
const WAL_SIZE_LIMIT: &str = "167772160";

/// The open file.
#[derive(Debug)]
pub struct Sqlite {
    pub(in crate::store) writer: SqlitePool,
    /// For requests and pages.
    pub(in crate::store) pages: SqlitePool,
    /// For authentication, acceptance and the engine; never used by pages.
    pub(in crate::store) vital: SqlitePool,
    /// One connection, which never waits for a lock.
    pub(in crate::store) checkpoints: SqlitePool,
    path: PathBuf,
    /// Serializes BEGIN. Holds the time of the last timeout on another program's lock.
    begin: tokio::sync::Mutex<Option<Instant>>,
    /// Held while this process serves the file.
    lock: std::sync::Mutex<Option<File>>,
}

impl Sqlite {
    /// Opens or creates the file. Statements wait up to `busy_timeout` for the lock of another program, such as a
    /// writer of the outbox.
    pub(in crate::store) async fn open(path: &Path, busy_timeout: Duration) -> Result<Sqlite, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(busy_timeout)
            .foreign_keys(false)
            .statement_cache_capacity(300)
            // The channel of rows from SQLite's thread: holds a batch, so neither side waits for the other.
            .row_buffer_size(1_024)
            .pragma("wal_autocheckpoint", "0")
            .pragma("journal_size_limit", WAL_SIZE_LIMIT)
            // Rows have a few hundred bytes: fewer page splits than with the default of 4 KiB. Applies to new files
            // only.
            .page_size(8_192)
            .pragma("cache_size", "-65536")
            .pragma("temp_store", "memory");
        let cannot = |error: sqlx::Error| {
            let cannot_open = error.as_database_error().is_some_and(|inner| inner.code().as_deref() == Some("14"));
            let why = match cannot_open {
                true => "this user can't write to it or its folder".to_owned(),
                false => error.to_string(),
            };
            StoreError::Unusable(format!("cannot open the SQLite file {}: {why}", path.display()))
        };
        make_private(path);
        let writer = pool(1).connect_with(options.clone()).await.map_err(cannot)?;
        let options = options.pragma("query_only", "on");
        let vital = pool(VITAL).connect_with(options.clone()).await.map_err(cannot)?;
        // Half the cache: the operating system caches the file as well.
        let pages = pool(PAGES).connect_lazy_with(options.clone().pragma("cache_size", "-32768"));
        let checkpoints = pool(1)
            // Set after opening, which may have to wait for another process that opens or closes the file.
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute("PRAGMA busy_timeout = 0").await.map(drop) })
            })
            .connect_lazy_with(options);
        let (begin, lock) = Default::default();
        let sqlite = Sqlite { writer, pages, vital, checkpoints, path: path.to_owned(), begin, lock };
        sqlite.check_version().await?;
        sqlite.check_encoding().await?;
        Ok(sqlite)
    }

    async fn check_version(&self) -> Result<(), StoreError> {
        let text: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&self.vital).await?;
        let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let mut part = || parts.next().unwrap_or(0);
        let version = (part(), part(), part());
        if version >= LEAST_VERSION {
            return Ok(());
        }
        let (a, b, c) = LEAST_VERSION;
        Err(StoreError::Unusable(format!(
            "this binary was built with SQLite {text}, which can corrupt databases; build it with {a}.{b}.{c} or newer"
        )))
    }

    /// A database created by another program may use UTF-16, where text read as bytes differs from the text inserted.
    async fn check_encoding(&self) -> Result<(), StoreError> {
        let encoding: String = sqlx::query_scalar("PRAGMA encoding").fetch_one(&self.vital).await?;
        if encoding == "UTF-8" {
            return Ok(());
        }
        let path = self.path.display();
        Err(StoreError::Unusable(format!("the SQLite file {path} must use the encoding UTF-8, it uses {encoding}")))
    }

    /// Locks the file for this process.
    pub(in crate::store) fn lock(&self) -> Result<(), StoreError> {
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        let cannot = |error: std::io::Error| {
            StoreError::Unusable(format!("cannot lock {}: {error}", Path::new(&name).display()))
        };
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&name).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {
                *self.lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(StoreError::Unusable(format!(
                "another Sendoff process serves {}: stop it first, or use PostgreSQL for several processes",
                self.path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(cannot(error)),
        }
    }

    /// Begins a write transaction. Acquires the write lock at once, because upgrading a read lock later fails without
    /// waiting.
    ///
    /// # Errors
    /// Another program held the lock for the busy timeout. Callers that waited behind this one fail at once instead
    /// of waiting again.
    pub(in crate::store) async fn begin(&self) -> Result<Transaction<'static, Db>, sqlx::Error> {
        const BUSY: &str = "5";
        let started = Instant::now();
        let mut timed_out = self.begin.lock().await;
        if timed_out.is_some_and(|at| at > started) {
            let why = "another program keeps the SQLite file locked";
            return Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why)));
        }
        let begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        if let Err(sqlx::Error::Database(error)) = &begun
            && error.code().as_deref() == Some(BUSY)
        {
            *timed_out = Some(Instant::now());
        }
        begun
    }

    /// A number that changes when another connection than the writer commits.
    pub(in crate::store) async fn data_version(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("PRAGMA data_version").fetch_one(&self.writer).await
    }

    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }
}

/// Creates the file with a private mode, because it holds payloads. SQLite copies the mode to the WAL and other
/// files. The mode of an existing file is not changed; errors are left to SQLite.
fn make_private(path: &Path) {
    let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
}

/// A pool that discards connections which sqlx considers to be in a transaction. When the disk is full or fails, SQLite
/// rolls back by itself. The ROLLBACK of sqlx then fails, and the connection could never begin a transaction again.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).before_acquire(|connection, _| {
        let sound = !connection.is_in_transaction();
        Box::pin(async move { Ok(sound) })
    })
}

/// Rows per statement. Fixed sizes, so a few prepared statements serve all batches.
const CHUNKS: [usize; 9] = [256, 128, 64, 32, 16, 8, 4, 2, 1];

/// Splits `rows` into slices of the sizes in [`CHUNKS`], largest first, within SQLite's limit of 32,766 parameters.
pub(in crate::store) fn chunks<T>(rows: &[T], columns: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let fits = |size: &&usize| **size <= rest.len() && **size * columns <= 32_766;
        let (chunk, after) = rest.split_at(*CHUNKS.iter().find(fits)?);
        rest = after;
        Some(chunk)
    })
}

/// The statement `head VALUES (…), (…) tail` for `rows`.
pub(in crate::store) fn values<T>(
    head: &str,
    rows: &[T],
    tail: &str,
    push: impl FnMut(Separated<'_, Db, &'static str>, &T),
) -> QueryBuilder<Db> {
    let mut builder = QueryBuilder::new(head);
    builder.push_values(rows, push);
    builder.push(tail);
    builder
}

/// Inserts `rows` with `head VALUES …`, one statement per chunk.
pub(in crate::store) async fn insert<T>(
    connection: &mut SqliteConnection,
    head: &str,
    columns: usize,
    rows: &[T],
    mut push: impl FnMut(Separated<'_, Db, &'static str>, &T),
) -> Result<(), StoreError> {
    for chunk in chunks(rows, columns) {
        values(head, chunk, "", &mut push).build().execute(&mut *connection).await?;
    }
    Ok(())
}

type SqliteQuery<'q> = sqlx::query::Query<'q, Db, sqlx::sqlite::SqliteArguments>;

/// Narrow rows packed into two parameters instead of several per row: their concatenated ids, and a JSON list with
/// one more value per row. The statement unpacks them: `substr($1, key * 32 + 1, 16), … FROM json_each($2)`.
#[derive(Default)]
pub(in crate::store) struct Packed {
    ids: Vec<u8>,
    list: Vec<u8>,
}

impl Packed {
    pub(in crate::store) fn push(&mut self, ids: &[&[u8]], one_more: &impl Serialize) -> Result<(), StoreError> {
        ids.iter().for_each(|id| self.ids.extend_from_slice(id));
        self.list.push(if self.list.is_empty() { b'[' } else { b',' });
        serde_json::to_writer(&mut self.list, one_more).map_err(|error| StoreError::Refused(error.to_string()))
    }

    /// The ids and the list.
    pub(in crate::store) fn values(mut self) -> Result<(Vec<u8>, String), StoreError> {
        self.list.extend_from_slice(if self.list.is_empty() { b"[]" } else { b"]" });
        let list = String::from_utf8(self.list).map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok((self.ids, list))
    }
}

/// Inserts packed keys with `sql`, which ignores conflicts. Returns `column` of the inserted keys: `all` if every key
/// was inserted. Otherwise it rolls the insert back and repeats it with RETURNING, which costs more than the insert
/// itself.
pub(in crate::store) async fn insert_keys<'q, K>(
    connection: &mut SqliteConnection,
    sql: &'q str,
    column: &str,
    packed: Packed,
    all: HashSet<K>,
    bind: impl Fn(SqliteQuery<'q>) -> SqliteQuery<'q>,
) -> Result<HashSet<K>, StoreError>
where
    K: Eq + Hash + Send + Unpin + for<'r> sqlx::Decode<'r, Db> + sqlx::Type<Db>,
{
    let (ids, list) = packed.values()?;
    let statement = |sql: String| bind(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids.clone()).bind(list.clone()));
    sqlx::query("SAVEPOINT keys").execute(&mut *connection).await?;
    let done = statement(sql.to_owned()).execute(&mut *connection).await?;
    let inserted = if done.rows_affected() == all.len() as u64 {
        all
    } else {
        sqlx::query("ROLLBACK TO keys").execute(&mut *connection).await?;
        let rows = statement(format!("{sql} RETURNING {column}")).fetch_all(&mut *connection).await?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?
    };
    sqlx::query("RELEASE keys").execute(&mut *connection).await?;
    Ok(inserted)
}

/// A JSON list of ids for `IN (SELECT unhex(value) FROM json_each($n))`, because SQLite has no arrays.
pub(in crate::store) fn id_list(ids: impl IntoIterator<Item = Uuid>) -> String {
    let mut text = String::from("[");
    for id in ids {
        if text.len() > 1 {
            text.push(',');
        }
        text.push('"');
        text.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
        text.push('"');
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_into_statements_of_fixed_sizes() {
        let rows: Vec<u32> = (0..341).collect();
        let sizes: Vec<usize> = chunks(&rows, 10).map(<[u32]>::len).collect();
        assert_eq!(sizes, [256, 64, 16, 4, 1]);
        assert_eq!(chunks(&rows[..255], 10).count(), 8, "never more than one of each size below the largest");
        assert_eq!(chunks(&rows, 200).map(<[u32]>::len).max(), Some(128), "never more parameters than SQLite takes");
        assert_eq!(chunks(&rows, 10).flatten().copied().collect::<Vec<_>>(), rows);
    }

    #[test]
    fn packed_rows_are_ids_and_a_list() {
        let mut packed = Packed::default();
        packed.push(&[&[0, 1], &[2]], &7).unwrap();
        packed.push(&[&[3, 4], &[5]], &"a\"b").unwrap();
        let (ids, list) = packed.values().unwrap();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
        assert_eq!(list, r#"[7,"a\"b"]"#);
        assert_eq!(Packed::default().values().unwrap(), (vec![], "[]".to_owned()));
    }

    #[test]
    fn a_list_of_ids_is_json() {
        let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
        assert_eq!(serde_json::from_str::<Vec<String>>(&id_list(ids)).map(|list| list.len()).ok(), Some(2));
        assert_eq!(id_list([]), "[]");
    }
}
