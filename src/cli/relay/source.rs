//! The team's database, read through one connection. Ids and limits are numbers, so they are formatted into the SQL,
//! which is otherwise fixed per dialect.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use tokio::time::timeout;
use url::Url;

use super::ddl::Dialect;

/// Maximum rows counted for the depth.
const MAX_DEPTH: i64 = 100_000;
/// Characters read of a column other than the payload: more than any valid value has, so overlong ones are rejected.
const NAME_LIMIT: usize = 2_000;
/// Timeout of connecting and of a statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The location of the outbox.
#[derive(Debug, Clone)]
pub(super) struct SourceLocation {
    url: String,
    pub(super) dialect: Dialect,
    /// Without user and password.
    name: String,
}

impl SourceLocation {
    /// Parses `postgres://…`, `mysql://…`, `mariadb://…` or `sqlite:PATH`.
    pub(super) fn parse(text: &str) -> Result<SourceLocation, String> {
        const EXPECTED: &str = "expected postgres://user:password@host/database, mysql://… or sqlite:PATH";
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains(['?', ':']) {
                return Err(EXPECTED.to_owned());
            }
            return Ok(SourceLocation {
                url: format!("sqlite:{path}"),
                dialect: Dialect::Sqlite,
                name: path.to_owned(),
            });
        }
        let url: Url = text.parse().map_err(|_| EXPECTED.to_owned())?;
        let (dialect, url) = match url.scheme() {
            "postgres" | "postgresql" => (Dialect::Postgres, text.to_owned()),
            "mysql" => (Dialect::MySql, text.to_owned()),
            "mariadb" => (Dialect::MySql, text.replacen("mariadb", "mysql", 1)),
            _ => return Err(EXPECTED.to_owned()),
        };
        let parsed: Url = text.parse().map_err(|_| EXPECTED.to_owned())?;
        let host = parsed.host_str().unwrap_or_default();
        Ok(SourceLocation { url, dialect, name: format!("{}://{host}{}", parsed.scheme(), parsed.path()) })
    }

    /// For messages: never contains a password.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The team's database failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// A retry may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// Permanent until an operator acts: no such table, no permission, wrong password.
    #[error("{0}")]
    Unusable(String),
}

/// The part of a row that decides whether to send it.
#[derive(Debug, Clone)]
pub(super) struct RowHead {
    pub(super) id: i64,
    pub(super) ordering_key: Option<String>,
    /// Size of the payload in bytes.
    pub(super) bytes: i64,
}

/// A row, not validated yet.
#[derive(Debug, Default)]
pub(super) struct SourceRow {
    pub(super) id: i64,
    pub(super) ordering_key: Option<String>,
    pub(super) application: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) payload: Option<String>,
    pub(super) event_id: Option<String>,
    pub(super) channels: Option<String>,
    /// RFC 3339.
    pub(super) occurred_at: Option<String>,
    /// A column whose bytes are not UTF-8.
    pub(super) not_utf8: Option<&'static str>,
}

/// The depth and age of the table.
pub(super) struct Depth {
    /// At most [`MAX_DEPTH`].
    pub(super) rows: i64,
    /// Age of the oldest row; 0 if there is none.
    pub(super) oldest_seconds: i64,
}

/// The connection to the team's database.
pub(super) struct Source {
    connection: AnyConnection,
    dialect: Dialect,
    table: String,
    /// SQLite has no advisory locks: a lock file beside the database.
    lock_file: Option<PathBuf>,
    lock: Option<File>,
}

impl Source {
    pub(super) async fn connect(location: &SourceLocation, table: &str) -> Result<Source, SourceError> {
        sqlx::any::install_default_drivers();
        let connection = within(AnyConnection::connect(&location.url)).await?;
        let lock_file =
            (location.dialect == Dialect::Sqlite).then(|| PathBuf::from(format!("{}.sendoff-relay", location.name)));
        let mut source =
            Source { connection, dialect: location.dialect, table: table.to_owned(), lock_file, lock: None };
        if source.dialect == Dialect::MySql {
            // `occurred_at` is read as UTC.
            source.execute("SET time_zone = '+00:00'".to_owned()).await?;
        }
        Ok(source)
    }

    /// Takes the lock of this table, which lasts as long as the connection. Returns `false` if another relay has it.
    pub(super) async fn try_lock(&mut self) -> Result<bool, SourceError> {
        let name = format!("sendoff relay {}", self.table);
        let sql = match self.dialect {
            // The table's name was checked: it contains no quotes.
            Dialect::Postgres => {
                format!(
                    "SELECT CASE WHEN pg_try_advisory_lock(hashtextextended('{name}', 0)) THEN 1 ELSE 0 END::bigint"
                )
            }
            Dialect::MySql => format!("SELECT CAST(COALESCE(GET_LOCK('{name}', 0), 0) AS SIGNED)"),
            Dialect::Sqlite => return self.try_lock_file(),
        };
        let row = within(self.connection.fetch_one(AssertSqlSafe(sql))).await?;
        Ok(number(&row, 0)? == 1)
    }

    fn try_lock_file(&mut self) -> Result<bool, SourceError> {
        let Some(path) = &self.lock_file else { return Ok(true) };
        let failed = |error: std::io::Error| SourceError::Unusable(format!("{}: {error}", path.display()));
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                self.lock = Some(file);
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Rows with ids above `after`, in the order of ids, at most `limit`.
    pub(super) async fn heads(&mut self, after: Option<i64>, limit: usize) -> Result<Vec<RowHead>, SourceError> {
        let after = after.map(|id| format!("WHERE id > {id}")).unwrap_or_default();
        let size = match self.dialect {
            Dialect::Postgres => "COALESCE(octet_length(payload::text), 0)::bigint",
            Dialect::MySql => "CAST(COALESCE(OCTET_LENGTH(payload), 0) AS SIGNED)",
            Dialect::Sqlite => "COALESCE(octet_length(payload), 0)",
        };
        let (id, key) = (self.id(), self.bytes_of("ordering_key"));
        let sql = format!("SELECT {id}, {key}, {size} FROM {} {after} ORDER BY id LIMIT {limit}", self.table);
        let rows = within(self.connection.fetch_all(AssertSqlSafe(sql))).await?;
        rows.iter()
            .map(|row| {
                let key = bytes(row, 1)?.map(|key| String::from_utf8_lossy(&key).into_owned());
                Ok(RowHead { id: number(row, 0)?, ordering_key: key, bytes: number(row, 2)? })
            })
            .collect()
    }

    /// The rows with these ids.
    pub(super) async fn rows(&mut self, ids: &[i64]) -> Result<Vec<SourceRow>, SourceError> {
        let (payload, occurred_at) = match self.dialect {
            Dialect::Postgres => (
                "convert_to(payload::text, 'UTF8')",
                "to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            ),
            Dialect::MySql => ("CAST(payload AS BINARY)", "DATE_FORMAT(occurred_at, '%Y-%m-%dT%H:%i:%s.%fZ')"),
            Dialect::Sqlite => ("CAST(payload AS BLOB)", "occurred_at"),
        };
        let names = ["ordering_key", "application", "event_type", "event_id", "channels", occurred_at];
        let columns = names.map(|name| self.bytes_of(name)).join(", ");
        let sql = format!("SELECT {}, {payload}, {columns} FROM {} WHERE id IN ({})", self.id(), self.table, list(ids));
        let rows = within(self.connection.fetch_all(AssertSqlSafe(sql))).await?;
        rows.iter()
            .map(|row| {
                let mut read = SourceRow { id: number(row, 0)?, ..SourceRow::default() };
                let fields = [
                    ("payload", &mut read.payload),
                    ("ordering_key", &mut read.ordering_key),
                    ("application", &mut read.application),
                    ("event_type", &mut read.event_type),
                    ("event_id", &mut read.event_id),
                    ("channels", &mut read.channels),
                    ("occurred_at", &mut read.occurred_at),
                ];
                for (column, (name, field)) in fields.into_iter().enumerate() {
                    match bytes(row, column + 1)?.map(String::from_utf8).transpose() {
                        Ok(text) => *field = text.filter(|text| !text.is_empty()),
                        Err(_) => read.not_utf8 = Some(name),
                    }
                }
                Ok(read)
            })
            .collect()
    }

    /// Deletes rows that were sent.
    pub(super) async fn delete(&mut self, ids: &[i64]) -> Result<(), SourceError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.execute(format!("DELETE FROM {} WHERE id IN ({})", self.table, list(ids))).await
    }

    pub(super) async fn depth(&mut self) -> Result<Depth, SourceError> {
        let age = match self.dialect {
            Dialect::Postgres => {
                "CASE WHEN isfinite(occurred_at) THEN EXTRACT(EPOCH FROM now() - occurred_at)::bigint END"
            }
            Dialect::MySql => "TIMESTAMPDIFF(SECOND, occurred_at, UTC_TIMESTAMP(6))",
            Dialect::Sqlite => "unixepoch() - unixepoch(occurred_at)",
        };
        let cast = if self.dialect == Dialect::MySql { "SIGNED" } else { "BIGINT" };
        let table = &self.table;
        let sql = format!(
            "SELECT CAST((SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT {MAX_DEPTH}) counted) AS {cast}),
                    CAST(COALESCE((SELECT {age} FROM {table} ORDER BY id LIMIT 1), 0) AS {cast})"
        );
        let row = within(self.connection.fetch_one(AssertSqlSafe(sql))).await?;
        Ok(Depth { rows: number(&row, 0)?, oldest_seconds: number(&row, 1)?.max(0) })
    }

    fn id(&self) -> &'static str {
        match self.dialect {
            Dialect::Postgres => "id::bigint",
            Dialect::MySql => "CAST(id AS SIGNED)",
            Dialect::Sqlite => "id",
        }
    }

    /// The first [`NAME_LIMIT`] characters of a column, as bytes: writers may have inserted any value.
    fn bytes_of(&self, column: &str) -> String {
        match self.dialect {
            Dialect::Postgres => format!("convert_to(left({column}::text, {NAME_LIMIT}), 'UTF8')"),
            Dialect::MySql => format!("CAST(LEFT({column}, {NAME_LIMIT}) AS BINARY)"),
            Dialect::Sqlite => format!("CAST(substr({column}, 1, {NAME_LIMIT}) AS BLOB)"),
        }
    }

    async fn execute(&mut self, sql: String) -> Result<(), SourceError> {
        within(self.connection.execute(AssertSqlSafe(sql))).await.map(|_| ())
    }
}

fn list(ids: &[i64]) -> String {
    ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

async fn within<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, SourceError> {
    match timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(classify(&error)),
        Err(_) => Err(SourceError::Unavailable(format!("no answer within {} s", STATEMENT_TIMEOUT.as_secs()))),
    }
}

/// Errors that only an operator can fix end the relay; all others may be transient.
fn classify(error: &sqlx::Error) -> SourceError {
    let text = error.to_string();
    let unusable = match error {
        sqlx::Error::Database(error) => {
            let code = error.code();
            let code = code.as_deref().unwrap_or_default();
            // PostgreSQL: no such table or column, no permission, wrong password, no such database.
            // MySQL: 42S02, 42S22, 42000, 28000. SQLite: 1 (SQL error), 14 (can't open the file), 26 (not a database).
            ["42P01", "42703", "42501", "28P01", "28000", "3D000", "42S02", "42S22", "42000", "1", "14", "26"]
                .contains(&code)
        }
        sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => true,
        _ => false,
    };
    if unusable { SourceError::Unusable(text) } else { SourceError::Unavailable(text) }
}

fn number(row: &AnyRow, column: usize) -> Result<i64, SourceError> {
    row.try_get(column).map_err(|error| SourceError::Unusable(format!("column id: {error}")))
}

fn bytes(row: &AnyRow, column: usize) -> Result<Option<Vec<u8>>, SourceError> {
    row.try_get(column).map_err(|error| SourceError::Unusable(format!("the outbox table: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_urls_of_three_dialects_and_their_names_hold_no_password() {
        for (text, dialect, name) in [
            ("postgres://u:secret@db.internal/shop", Dialect::Postgres, "postgres://db.internal/shop"),
            ("postgresql://u:secret@db/shop?sslmode=require", Dialect::Postgres, "postgresql://db/shop"),
            ("mysql://u:secret@db:3306/shop", Dialect::MySql, "mysql://db/shop"),
            ("mariadb://u:secret@db/shop", Dialect::MySql, "mariadb://db/shop"),
            ("sqlite:shop.db", Dialect::Sqlite, "shop.db"),
            ("sqlite:///var/lib/shop.db", Dialect::Sqlite, "/var/lib/shop.db"),
        ] {
            let location = SourceLocation::parse(text).expect(text);
            assert_eq!((location.dialect, location.name()), (dialect, name), "{text}");
        }
        for text in ["", "shop.db", "sqlite:", "sqlite::memory:", "redis://h/1", "http://h/"] {
            assert!(SourceLocation::parse(text).is_err(), "{text}");
        }
    }
}
