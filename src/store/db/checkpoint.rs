//! SQLite checkpoints: copying committed pages from the WAL to the database file, outside of commits.

use std::time::Duration;

use sqlx::SqlitePool;

use crate::store::StoreError;
use crate::store::db::sqlite::Sqlite;

/// Neither blocks nor waits for other connections.
const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// Lets the next writer restart the WAL from its beginning.
const RESTART: &str = "PRAGMA wal_checkpoint(RESTART)";

impl Sqlite {
    /// Runs a passive checkpoint. If the WAL holds more than `restart_at` pages, also restarts it: overwriting the
    /// WAL is faster to sync than growing it.
    pub(in crate::store) async fn checkpoint(&self, restart_at: i64) -> Result<(), StoreError> {
        let pages = run_checkpoint(&self.checkpoints, PASSIVE).await?.pages;
        if pages > restart_at {
            self.restart_wal(pages > 4 * restart_at).await?;
        }
        Ok(())
    }

    /// A restart blocks writers while it waits for readers of the WAL, which may take as long as a page of the
    /// dashboard. Therefore it stops if a reader blocks it, lets the writer continue, and retries. With `wait` it waits
    /// for the readers, so the WAL cannot grow forever.
    async fn restart_wal(&self, wait: bool) -> Result<(), StoreError> {
        const TRIES: usize = 20;
        const BETWEEN: Duration = Duration::from_millis(5);
        if wait {
            run_checkpoint(&self.vital, RESTART).await?;
            return Ok(());
        }
        for _ in 0..TRIES {
            // Copy recent commits first, to block the writer only briefly.
            run_checkpoint(&self.checkpoints, PASSIVE).await?;
            let writer = self.writer.acquire().await?;
            if !run_checkpoint(&self.checkpoints, RESTART).await?.blocked {
                return Ok(());
            }
            drop(writer);
            tokio::time::sleep(BETWEEN).await;
        }
        Ok(())
    }
}

struct CheckpointResult {
    /// A reader or writer prevented its completion.
    blocked: bool,
    /// The pages in the WAL.
    pages: i64,
}

async fn run_checkpoint(pool: &SqlitePool, pragma: &'static str) -> Result<CheckpointResult, StoreError> {
    let (blocked, pages, _): (bool, i64, i64) = sqlx::query_as(pragma).fetch_one(pool).await?;
    Ok(CheckpointResult { blocked, pages })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    /// A file with a table `t`, and its folder.
    async fn file() -> (Sqlite, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(&folder.path().join("store.db"), Duration::from_secs(5)).await.unwrap();
        sqlx::query("CREATE TABLE t (n INTEGER)").execute(&sqlite.writer).await.unwrap();
        (sqlite, folder)
    }

    async fn write(sqlite: &Sqlite) {
        sqlx::query("INSERT INTO t VALUES (1)").execute(&sqlite.writer).await.unwrap();
    }

    /// An open read transaction.
    async fn reader(sqlite: &Sqlite) -> sqlx::Transaction<'static, sqlx::Sqlite> {
        let mut reader = sqlite.vital.begin().await.unwrap();
        let _: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *reader).await.unwrap();
        reader
    }

    async fn pages(sqlite: &Sqlite) -> i64 {
        run_checkpoint(&sqlite.checkpoints, PASSIVE).await.unwrap().pages
    }

    #[tokio::test]
    async fn a_reader_prevents_the_restart_and_does_not_block_the_writer() {
        let (sqlite, _folder) = file().await;
        let reader = reader(&sqlite).await;
        write(&sqlite).await;
        let before = pages(&sqlite).await;

        let mut written = 0;
        let writing = async {
            loop {
                write(&sqlite).await;
                written += 1;
            }
        };
        tokio::select! {
            tried = sqlite.restart_wal(false) => tried.unwrap(),
            () = writing => {}
        }
        assert!(written >= 10, "{written} rows were written meanwhile");
        assert!(pages(&sqlite).await >= before + written, "the WAL was not overwritten");
        drop(reader);
    }

    #[tokio::test]
    async fn the_restart_of_a_large_wal_waits_for_readers() {
        let (sqlite, _folder) = file().await;
        let reader = reader(&sqlite).await;
        write(&sqlite).await;
        sqlx::query("PRAGMA busy_timeout = 0").execute(&sqlite.writer).await.unwrap();

        let reading = AtomicBool::new(true);
        let until_the_writer_is_locked_out = async {
            while sqlx::query("BEGIN IMMEDIATE").execute(&sqlite.writer).await.is_ok() {
                sqlx::query("ROLLBACK").execute(&sqlite.writer).await.unwrap();
            }
            reading.store(false, Relaxed);
            reader.rollback().await.unwrap();
        };
        let restarted = async {
            sqlite.checkpoint(0).await.unwrap();
            assert!(!reading.load(Relaxed), "it did not wait");
        };
        tokio::join!(restarted, until_the_writer_is_locked_out);
        write(&sqlite).await;
        assert_eq!(pages(&sqlite).await, 1, "the WAL was restarted");
    }
}
