//! SQLite's checkpoints: what was committed goes from the WAL into the file, apart from any commit.

use std::time::Duration;

use sqlx::SqlitePool;

use crate::store::StoreError;
use crate::store::db::sqlite::Sqlite;

/// A checkpoint that nobody waits for, and that waits for nobody.
const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// One after which the next writer begins the WAL anew.
const RESTART: &str = "PRAGMA wal_checkpoint(RESTART)";

impl Sqlite {
    /// Moves what was committed from the WAL into the file, apart from any commit. Once the WAL holds more than `restart_at`
    /// pages, the next writer begins it anew, in the place that it has: a file that does not grow is the quicker one to sync.
    pub(in crate::store) async fn checkpoint(&self, restart_at: i64) -> Result<(), StoreError> {
        let pages = copy(&self.checkpoints, PASSIVE).await?.pages;
        if pages > restart_at {
            self.restart_wal(pages > 4 * restart_at).await?;
        }
        Ok(())
    }

    /// Nobody can write meanwhile, and nobody may read from the WAL. So this does not wait for a reader, who may take as long as a page of
    /// the dashboard: it lets the writer go on, and tries again. One that is `patient` waits, lest the WAL grow for ever.
    async fn restart_wal(&self, patient: bool) -> Result<(), StoreError> {
        const TRIES: usize = 20;
        const BETWEEN: Duration = Duration::from_millis(5);
        if patient {
            copy(&self.vital, RESTART).await?;
            return Ok(());
        }
        for _ in 0..TRIES {
            // What was committed during the last pass is in the file before the writer is held up.
            copy(&self.checkpoints, PASSIVE).await?;
            let writer = self.writer.acquire().await?;
            if !copy(&self.checkpoints, RESTART).await?.blocked {
                return Ok(());
            }
            drop(writer);
            tokio::time::sleep(BETWEEN).await;
        }
        Ok(())
    }
}

/// What became of a checkpoint.
struct Copied {
    /// Somebody was in its way, so that it copied what it could.
    blocked: bool,
    /// How many pages the WAL holds.
    pages: i64,
}

/// A checkpoint, by a connection of `pool`.
async fn copy(pool: &SqlitePool, how: &'static str) -> Result<Copied, StoreError> {
    let (blocked, pages, _): (bool, i64, i64) = sqlx::query_as(how).fetch_one(pool).await?;
    Ok(Copied { blocked, pages })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    /// A file with a table, and what is needed to keep it.
    async fn file() -> (Sqlite, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(&folder.path().join("store.db"), Duration::from_secs(5)).await.unwrap();
        sqlx::query("CREATE TABLE t (n INTEGER)").execute(&sqlite.writer).await.unwrap();
        (sqlite, folder)
    }

    async fn write(sqlite: &Sqlite) {
        sqlx::query("INSERT INTO t VALUES (1)").execute(&sqlite.writer).await.unwrap();
    }

    /// Somebody who reads, and is not done.
    async fn reader(sqlite: &Sqlite) -> sqlx::Transaction<'static, sqlx::Sqlite> {
        let mut reader = sqlite.vital.begin().await.unwrap();
        let _: i64 = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *reader).await.unwrap();
        reader
    }

    async fn pages(sqlite: &Sqlite) -> i64 {
        copy(&sqlite.checkpoints, PASSIVE).await.unwrap().pages
    }

    #[tokio::test]
    async fn a_reader_keeps_the_wal_as_it_is_and_holds_up_no_writer() {
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
        assert!(written >= 10, "{written} were written while it tried");
        assert!(pages(&sqlite).await >= before + written, "nothing was written over");
        drop(reader);
    }

    #[tokio::test]
    async fn a_wal_that_grew_too_large_waits_for_the_reader() {
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
        assert_eq!(pages(&sqlite).await, 1, "the WAL was begun anew");
    }
}
