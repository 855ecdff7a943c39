//! SQLite: one file, one writer connection, readers for pages and others for what must not wait for them, and whatever about it differs from PostgreSQL.
//!
//! The hot statements say `OR FAIL`: whoever fails undoes the whole transaction, and SQLite need not prepare to undo the statement alone,
//! for which it would copy each page that it changes.
//!
//! WAL with `synchronous=FULL`: a commit is on the disk before anybody is told. Checkpoints run apart from commits (see
//! [`crate::store::db::checkpoint`]). One process serves a file at a time: a lock beside it refuses the second.

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
/// How many connections read at once for requests and pages; readers never wait for the writer in WAL mode.
const PAGES: u32 = 4;
/// How many of them reads that scan may take.
pub(in crate::store) const SCANS: usize = 3;
/// How many read for authentication, acceptance and the engine.
const VITAL: u32 = 2;
/// How large the WAL may stay once it is begun anew, in bytes. While a reader pins it, it grows beyond; the first commit after that gives
/// the rest back. A fourth more than [`crate::store::Store::tidy`] lets it grow to, so that it is not cut each time.
const WAL_STAYS: &str = "167772160";

/// The open file.
#[derive(Debug)]
pub struct Sqlite {
    pub(in crate::store) writer: SqlitePool,
    /// For requests and pages.
    pub(in crate::store) pages: SqlitePool,
    /// For authentication, acceptance and the engine: no page takes one of these.
    pub(in crate::store) vital: SqlitePool,
    /// One connection, for checkpoints: it waits for no lock.
    pub(in crate::store) checkpoints: SqlitePool,
    path: PathBuf,
    /// Whose turn it is to begin writing, and when another program's lock was last waited for in vain.
    turn: tokio::sync::Mutex<Option<Instant>>,
    /// Held as long as this process serves the file.
    lock: std::sync::Mutex<Option<File>>,
}

impl Sqlite {
    /// Opens (and creates) the file behind `sqlite:PATH`. Its statements wait for a lock that another program (the team's own writer) holds
    /// for `busy_timeout` at most.
    pub(in crate::store) async fn open(path: &Path, busy_timeout: Duration) -> Result<Sqlite, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(busy_timeout)
            .foreign_keys(false)
            .statement_cache_capacity(300)
            // Rows come over from SQLite's own thread: as many as a batch has without either side waiting for the other.
            .row_buffer_size(1_024)
            .pragma("wal_autocheckpoint", "0")
            .pragma("journal_size_limit", WAL_STAYS)
            // Rows of a few hundred bytes: fewer pages to split than with the usual 4 KiB. Counts for new files only.
            .page_size(8_192)
            .pragma("cache_size", "-65536")
            .pragma("temp_store", "memory");
        let cannot = |error: sqlx::Error| {
            let cannot_open = error.as_database_error().is_some_and(|inner| inner.code().as_deref() == Some("14"));
            let why = match cannot_open {
                true => "it or its folder can't be written by this user".to_owned(),
                false => error.to_string(),
            };
            StoreError::Unusable(format!("cannot open the SQLite file {}: {why}", path.display()))
        };
        make_private(path);
        let writer = pool(1).connect_with(options.clone()).await.map_err(cannot)?;
        let options = options.pragma("query_only", "on");
        let vital = pool(VITAL).connect_with(options.clone()).await.map_err(cannot)?;
        // The system keeps the file's pages as well: half as much memory for each does.
        let pages = pool(PAGES).connect_lazy_with(options.clone().pragma("cache_size", "-32768"));
        let checkpoints = pool(1)
            // Not while it is opened, when it may have to wait for who else opens or closes the file.
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute("PRAGMA busy_timeout = 0").await.map(drop) })
            })
            .connect_lazy_with(options);
        let (turn, lock) = Default::default();
        let sqlite = Sqlite { writer, pages, vital, checkpoints, path: path.to_owned(), turn, lock };
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
            "this binary was built with SQLite {text}, which can damage its file; build it with {a}.{b}.{c} or newer"
        )))
    }

    /// A file that the team made may hold its text in UTF-16, whose bytes are not those that were inserted.
    async fn check_encoding(&self) -> Result<(), StoreError> {
        let encoding: String = sqlx::query_scalar("PRAGMA encoding").fetch_one(&self.vital).await?;
        if encoding == "UTF-8" {
            return Ok(());
        }
        let path = self.path.display();
        Err(StoreError::Unusable(format!("the SQLite file {path} must be encoded in UTF-8, it is in {encoding}")))
    }

    /// Takes the lock of the one process that serves the file.
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

    /// Begins to write: takes the lock of the file now, not in the middle, where waiting for it would be an error.
    ///
    /// # Errors
    /// Another program kept the lock for as long as the busy timeout. All that have waited meanwhile hear of it at once, so that nobody waits
    /// for one such time after another.
    pub(in crate::store) async fn begin(&self) -> Result<Transaction<'static, Db>, sqlx::Error> {
        const BUSY: &str = "5";
        let asked = Instant::now();
        let mut in_vain = self.turn.lock().await;
        if in_vain.is_some_and(|at| at > asked) {
            let why = "another program keeps the SQLite file locked";
            return Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why)));
        }
        let begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        if let Err(sqlx::Error::Database(error)) = &begun
            && error.code().as_deref() == Some(BUSY)
        {
            *in_vain = Some(Instant::now());
        }
        begun
    }

    /// A number that changes when anybody but the writer has committed.
    pub(in crate::store) async fn commits_of_others(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("PRAGMA data_version").fetch_one(&self.writer).await
    }

    /// Where the file lies.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the file before SQLite does, so that nobody else on the machine can read it: it holds payloads. SQLite gives the files beside it the
/// same mode. A file that is there keeps its own, and what is in the way SQLite says itself.
fn make_private(path: &Path) {
    let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
}

/// A pool that lets go of a connection which believes itself within a transaction. When the disk is full or fails, SQLite rolls back by
/// itself; the rollback that is sent after it finds nothing to undo, and the connection would take no other transaction ever again.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).before_acquire(|connection, _| {
        let sound = !connection.is_in_transaction();
        Box::pin(async move { Ok(sound) })
    })
}

/// The sizes in which rows are written: a statement of its own for each, so that a handful of prepared ones do for all.
const CHUNKS: [usize; 9] = [256, 128, 64, 32, 16, 8, 4, 2, 1];

/// Parts `rows` into as few slices as the sizes in [`CHUNKS`] allow. `columns` × rows stays under SQLite's limit of 32,766
/// parameters.
pub(in crate::store) fn chunks<T>(rows: &[T], columns: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let fits = |size: &&usize| **size <= rest.len() && **size * columns <= 32_766;
        let (chunk, after) = rest.split_at(*CHUNKS.iter().find(fits)?);
        rest = after;
        Some(chunk)
    })
}

/// `head VALUES (…), (…) tail` over `rows`.
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

/// Writes `rows` with `head VALUES …` in as few statements as there are chunks.
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

type Statement<'q> = sqlx::query::Query<'q, Db, sqlx::sqlite::SqliteArguments>;

/// Narrow rows as two values for all of them instead of several for each: their ids, one behind the other, and a JSON list of the one
/// thing more that each has. The statement takes them apart: `substr($1, key * 32 + 1, 16), … FROM json_each($2)`.
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

    /// The ids, and the list.
    pub(in crate::store) fn values(mut self) -> Result<(Vec<u8>, String), StoreError> {
        self.list.extend_from_slice(if self.list.is_empty() { b"[]" } else { b"]" });
        let list = String::from_utf8(self.list).map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok((self.ids, list))
    }
}

/// Enters packed keys with `sql`, which leaves out those that are taken. Gives back `column` of those that were entered: `usual` if
/// all of them were. Only where some were not is everything undone and entered once more, telling which: rows that come back cost
/// more than writing them.
pub(in crate::store) async fn enter<'q, K>(
    connection: &mut SqliteConnection,
    sql: &'q str,
    column: &str,
    packed: Packed,
    usual: HashSet<K>,
    bind: impl Fn(Statement<'q>) -> Statement<'q>,
) -> Result<HashSet<K>, StoreError>
where
    K: Eq + Hash + Send + Unpin + for<'r> sqlx::Decode<'r, Db> + sqlx::Type<Db>,
{
    let (ids, list) = packed.values()?;
    let statement = |sql: String| bind(sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids.clone()).bind(list.clone()));
    sqlx::query("SAVEPOINT keys").execute(&mut *connection).await?;
    let done = statement(sql.to_owned()).execute(&mut *connection).await?;
    let entered = if done.rows_affected() == usual.len() as u64 {
        usual
    } else {
        sqlx::query("ROLLBACK TO keys").execute(&mut *connection).await?;
        let rows = statement(format!("{sql} RETURNING {column}")).fetch_all(&mut *connection).await?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?
    };
    sqlx::query("RELEASE keys").execute(&mut *connection).await?;
    Ok(entered)
}

/// A list of ids for `IN (SELECT unhex(value) FROM json_each($n))`: SQLite has no arrays.
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
    fn rows_go_in_few_statements_of_known_sizes() {
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
