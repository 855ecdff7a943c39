//! Costs of a delivery besides time: CPU of the sender and the database, bytes and rows written, index entries, memory.
//!
//! PostgreSQL's rows and index entries are counted from the write-ahead log (`pg_walinspect`), because its statistics
//! lag by up to 10 s. A row is a heap record (insert, update, delete); an index entry is a B-tree record that adds to a
//! leaf. SQLite does not expose row counts. Its bytes come from `/proc/PID/io`: the log, and the pages copied by
//! checkpoints.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::process;

/// The source of the readings.
#[derive(Clone, Debug)]
pub enum Meter {
    /// A process without a known database; `None`: remote or unknown.
    Process(Option<u32>),
    Sqlite {
        pid: u32,
    },
    Postgres {
        pid: u32,
        url: String,
        /// The server's first process.
        postmaster: u32,
    },
}

/// Totals at one point in time.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    cpu_us: Option<f64>,
    database_cpu_us: Option<f64>,
    written: Option<f64>,
    position: Option<String>,
}

/// Usage between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_us: Option<f64>,
    pub database_cpu_us: Option<f64>,
    /// PostgreSQL: bytes of the write-ahead log. SQLite: bytes written to the disk.
    pub written_bytes: Option<f64>,
    pub rows: Option<f64>,
    pub index_entries: Option<f64>,
    /// Peak resident memory of the sender, in bytes.
    pub memory: Option<f64>,
}

impl Meter {
    fn pid(&self) -> Option<u32> {
        match self {
            Meter::Process(pid) => *pid,
            Meter::Sqlite { pid } | Meter::Postgres { pid, .. } => Some(*pid),
        }
    }

    pub async fn read(&self) -> Reading {
        let cpu_us = self.pid().map(process::cpu_us);
        match self {
            Meter::Process(_) => Reading { cpu_us, ..Reading::default() },
            Meter::Sqlite { pid } => Reading { cpu_us, written: process::written_bytes(*pid), ..Reading::default() },
            Meter::Postgres { url, postmaster, .. } => {
                let database_cpu_us = Some(process::postgres_cpu_us(*postmaster));
                let position = scalar(url, "SELECT CAST(pg_current_wal_insert_lsn() AS text)").await;
                let written = scalar(url, "SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS double precision)").await;
                Reading { cpu_us, database_cpu_us, written, position }
            }
        }
    }

    /// The difference between two readings.
    pub async fn spent(&self, before: &Reading, after: &Reading) -> Usage {
        let difference = |of: fn(&Reading) -> Option<f64>| Some(of(after)? - of(before)?);
        let (rows, index_entries) = self.records(before, after).await;
        Usage {
            cpu_us: difference(|reading| reading.cpu_us),
            database_cpu_us: difference(|reading| reading.database_cpu_us),
            written_bytes: difference(|reading| reading.written),
            rows,
            index_entries,
            memory: self.pid().and_then(process::peak_resident_bytes),
        }
    }

    /// Rows and index entries written, if the write-ahead log can be read.
    async fn records(&self, before: &Reading, after: &Reading) -> (Option<f64>, Option<f64>) {
        let (Meter::Postgres { url, .. }, Some(from), Some(to)) = (self, &before.position, &after.position) else {
            return (None, None);
        };
        let _: Option<i32> = scalar(url, "CREATE EXTENSION IF NOT EXISTS pg_walinspect").await;
        let sum = async |kinds: &str| {
            let sql = format!(
                "SELECT CAST(coalesce(sum(count), 0) AS double precision) FROM pg_get_wal_stats('{from}', '{to}', true)
                 WHERE \"resource_manager/record_type\" ~ '^({kinds})'"
            );
            scalar::<f64>(url, &sql).await
        };
        let rows = sum("Heap/(INSERT|UPDATE|HOT_UPDATE|DELETE)").await;
        (rows, sum("Btree/(INSERT_LEAF|INSERT_POST|SPLIT_L|SPLIT_R)").await)
    }
}

/// The single value of a query; `None` if it fails.
async fn scalar<T>(url: &str, sql: &str) -> Option<T>
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let mut connection = PgConnection::connect(url).await.ok()?;
    let value = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_optional(&mut connection).await.ok()?;
    let _ = connection.close().await;
    value
}
