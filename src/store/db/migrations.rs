//! Schema migrations, applied online while other processes and other programs write.
//!
//! On PostgreSQL they run on their own connection without a statement timeout, because an index may take hours. A lock
//! is requested with a short timeout, because all later statements queue behind the request. After a timeout the
//! migration backs off and retries. One process migrates at a time.
//!
//! * A migration file is one transaction. A file that begins with `-- no-transaction` holds a single `CREATE INDEX
//!   CONCURRENTLY` (or `DROP INDEX CONCURRENTLY`) with `IF [NOT] EXISTS`. It blocks nobody and waits for locks
//!   without a timeout; invalid indexes of an interrupted run are dropped first.
//! * CONCURRENTLY is not possible on the partitioned tables (`message`, `attempt`). They would need CREATE INDEX … ON
//!   ONLY, an index per partition, and ATTACH PARTITION, which is not implemented.
//! * An older binary stays ready on a newer schema if the table `schema_compatibility` allows its version for all
//!   newer migrations.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, SqlSafeStr as _};

use crate::domain::retry_backoff::RetryBackoff;
use crate::store::db::postgres;
use crate::store::db::store_error::{is_missing_table, sentence};
use crate::store::{Backend, Store, StoreError, read_vital};

pub(in crate::store) static SQLITE_MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| migrator(&[(1, "schema", include_str!("../../../migrations/sqlite/0001_schema.sql"))]));
static POSTGRES_MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| migrator(&[(1, "schema", include_str!("../../../migrations/postgres/0001_schema.sql"))]));

const TABLE: &str = "_sqlx_migrations";
const LOCK_TIMEOUT: &str = "2s";
/// The waits after lock timeouts.
const BACKOFF: RetryBackoff = RetryBackoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Interval of checks for the end of another process's migration, and for blocking sessions.
const POLL: Duration = Duration::from_millis(250);
/// The advisory lock of the migrating process: an arbitrary number, unlikely to be used by another program.
const ADVISORY_LOCK: i64 = 0x5365_6e64_6f66_6601;

/// The migrations with these versions, descriptions and texts. A test compares them with the files in `migrations/`.
fn migrator(files: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |(version, description, sql): &(i64, &'static str, &'static str)| {
        let no_tx = sql.starts_with("-- no-transaction");
        Migration::new(*version, (*description).into(), MigrationType::Simple, sql.into_sql_str(), no_tx)
    };
    Migrator::with_migrations(files.iter().map(migration).collect())
}

/// This binary's version of the schema.
pub fn known_version() -> i64 {
    SQLITE_MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

impl Store {
    /// Migrates the schema to this binary's version and verifies the master key. A newer compatible schema is not
    /// changed.
    ///
    /// # Errors
    /// The schema is newer and incompatible, a migration was modified, or the master key is a different one.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.migrate_with(&[]).await
    }

    /// [`Store::migrate`] with additional migrations, to test that older binaries keep working during the next one.
    ///
    /// # Errors
    /// Those of [`Store::migrate`].
    pub async fn migrate_with(&self, more: &[Migration]) -> Result<(), StoreError> {
        match &self.inner.backend {
            Backend::Sqlite(backend) => {
                let all = [&SQLITE_MIGRATIONS.migrations[..], more].concat();
                let mut connection = backend.writer.acquire().await?;
                let pending = pending(&mut *connection, all, false).await?;
                for migration in self.or_compatible(pending).await? {
                    connection.apply(TABLE, &migration).await.map_err(failed)?;
                }
            }
            Backend::Postgres(backend) => {
                let all = [&POSTGRES_MIGRATIONS.migrations[..], more].concat();
                let mut migrating = MigrationSession::begin(&backend.options()).await?;
                let pending = pending(&mut migrating.connection, all, migrating.known).await?;
                migrating.run(self.or_compatible(pending).await?).await?;
                // Otherwise the first accepting transaction would have to.
                backend.partitions.refresh(&backend.engine).await?;
            }
        }
        self.check_master_key().await
    }

    /// Whether the store answers and has a compatible schema.
    ///
    /// # Errors
    /// The store does not answer, or its schema is older, or newer and incompatible; the message says which.
    pub async fn ready(&self) -> Result<(), StoreError> {
        let found: Result<Option<i64>, sqlx::Error> = read_vital!(self, db => {
            sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(db).await
        });
        let found = match found {
            Err(error) if is_missing_table(&error) => None,
            found => found?,
        };
        let known = known_version();
        match found.unwrap_or(0) {
            version if version > known => self.check_compatible(known).await,
            version if version < known => Err(StoreError::Unusable(format!(
                "the database schema has version {version}, this binary needs {known}: run `sendoff migrate`"
            ))),
            _ => Ok(()),
        }
    }

    /// The migrations to apply; none if the schema is newer and compatible.
    async fn or_compatible(&self, pending: Pending) -> Result<Vec<Migration>, StoreError> {
        match pending {
            Pending::These(migrations) => Ok(migrations),
            Pending::Newer => self.check_compatible(known_version()).await.map(|()| Vec::new()),
        }
    }

    /// Whether all migrations after `known` are compatible with a binary of that version.
    async fn check_compatible(&self, known: i64) -> Result<(), StoreError> {
        const SQL: &str = "SELECT m.version, c.oldest_binary FROM _sqlx_migrations m
             LEFT JOIN schema_compatibility c ON c.version = m.version WHERE m.version > $1 ORDER BY m.version";
        let newer: Result<Vec<(i64, Option<i64>)>, sqlx::Error> =
            read_vital!(self, db => sqlx::query_as(SQL).bind(known).fetch_all(db).await);
        let newer = match newer {
            // A schema without the table `schema_compatibility`.
            Err(error) if is_missing_table(&error) => return Err(newer_than(known)),
            newer => newer?,
        };
        match newer.iter().find(|(_, oldest)| oldest.is_none_or(|oldest| oldest > known)) {
            Some((version, _)) => Err(newer_than(*version)),
            None => Ok(()),
        }
    }
}

/// The migrations to apply.
enum Pending {
    /// In order.
    These(Vec<Migration>),
    /// The schema has migrations that this binary does not know.
    Newer,
}

/// Compares the applied migrations with `all`, which is sorted by version. `known`: the table of migrations exists. If
/// not, it is created. The check comes first because even CREATE TABLE IF NOT EXISTS needs a privilege that a process
/// on a current schema may lack.
async fn pending<C: Migrate>(connection: &mut C, all: Vec<Migration>, known: bool) -> Result<Pending, StoreError> {
    if !known {
        connection.ensure_migrations_table(TABLE).await.map_err(failed)?;
    }
    if let Some(version) = connection.dirty_version(TABLE).await.map_err(failed)? {
        return Err(failed(MigrateError::Dirty(version)));
    }
    let applied = connection.list_applied_migrations(TABLE).await.map_err(failed)?;
    let newest = all.last().map_or(0, |migration| migration.version);
    let ours: HashMap<i64, &Migration> = all.iter().map(|one| (one.version, one)).collect();
    for AppliedMigration { version, checksum } in &applied {
        match ours.get(version) {
            Some(known) if known.checksum != *checksum => return Err(failed(MigrateError::VersionMismatch(*version))),
            None if *version <= newest => return Err(failed(MigrateError::VersionMissing(*version))),
            _ => {}
        }
    }
    if applied.iter().any(|one| one.version > newest) {
        return Ok(Pending::Newer);
    }
    let lacking = |one: &Migration| !applied.iter().any(|applied| applied.version == one.version);
    Ok(Pending::These(all.into_iter().filter(lacking).collect()))
}

/// A process that migrates PostgreSQL.
struct MigrationSession {
    connection: PgConnection,
    /// Looks for blocking sessions while `connection` waits.
    watching: PgConnection,
    pid: i32,
    /// The table of migrations exists.
    known: bool,
}

impl MigrationSession {
    /// Waits until no other process migrates, and creates the schema if necessary.
    async fn begin(options: &PgConnectOptions) -> Result<MigrationSession, StoreError> {
        let mut connection = connect(options).await?;
        let mut waits = false;
        // Polls, because CREATE INDEX CONCURRENTLY would wait for a session that waits inside a statement.
        while !sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(ADVISORY_LOCK)
            .fetch_one(&mut connection)
            .await?
        {
            if !std::mem::replace(&mut waits, true) {
                tracing::info!("waiting for another process to finish migrating the schema");
            }
            tokio::time::sleep(POLL).await;
        }
        // Checked first: PostgreSQL requires the CREATE privilege even if the schema exists.
        let there: Option<i32> = sqlx::query_scalar("SELECT 1 FROM pg_namespace WHERE nspname = $1")
            .bind(postgres::SCHEMA)
            .fetch_optional(&mut connection)
            .await?;
        if there.is_none() {
            let made = connection.create_schema_if_not_exists(postgres::SCHEMA).await;
            made.map_err(|error| may_not_create(&error, options).unwrap_or_else(|| failed(error)))?;
        }
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        let known =
            sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(TABLE).fetch_one(&mut connection).await?;
        Ok(MigrationSession { connection, watching: connect(options).await?, pid, known })
    }

    /// Applies `migrations` and releases the advisory lock.
    async fn run(mut self, migrations: Vec<Migration>) -> Result<(), StoreError> {
        for migration in &migrations {
            self.apply(migration).await?;
        }
        // Closing the connection releases the lock.
        self.connection.close().await?;
        self.watching.close().await?;
        Ok(())
    }

    /// Applies a migration, retrying after lock timeouts.
    async fn apply(&mut self, migration: &Migration) -> Result<(), StoreError> {
        let (version, name) = (migration.version, &migration.description);
        let timeout = if migration.no_tx { "0" } else { LOCK_TIMEOUT };
        let mut backoff = BACKOFF;
        loop {
            if migration.no_tx {
                self.drop_invalid_indexes().await?;
            }
            self.connection.execute(sqlx::AssertSqlSafe(format!("SET lock_timeout = '{timeout}'"))).await?;
            let (done, in_the_way) = self.attempt(migration).await?;
            match done {
                Ok(_) => return Ok(()),
                Err(error) if is_lock_conflict(&error) => {
                    let wait = backoff.failed();
                    tracing::warn!(
                        "migration {version} ({name}) cannot lock a table{in_the_way}. Wait for that transaction or \
                         end it; the migration will be retried in {wait:?}"
                    );
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Tries to apply a migration. Also returns the session that blocked it last, as the end of a sentence.
    async fn attempt(&mut self, migration: &Migration) -> Result<(Result<Duration, MigrateError>, String), StoreError> {
        let (version, name) = (migration.version, migration.description.clone());
        let mut in_the_way = String::new();
        let mut polls = tokio::time::interval(POLL);
        let mut applying = self.connection.apply(TABLE, migration);
        let done = loop {
            tokio::select! {
                done = &mut applying => break done,
                _ = polls.tick() => {
                    let found = blockers(&mut self.watching, self.pid).await?;
                    if migration.no_tx && !found.is_empty() && found != in_the_way {
                        tracing::info!("migration {version} ({name}) is waiting{found}; it blocks nobody");
                    }
                    if !found.is_empty() {
                        in_the_way = found;
                    }
                }
            }
        };
        Ok((done, in_the_way))
    }

    /// Drops indexes of interrupted CREATE INDEX CONCURRENTLY, which PostgreSQL maintains but never uses.
    async fn drop_invalid_indexes(&mut self) -> Result<(), StoreError> {
        const SQL: &str = "SELECT quote_ident(c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND NOT i.indisvalid";
        let invalid: Vec<String> =
            sqlx::query_scalar(SQL).bind(postgres::SCHEMA).fetch_all(&mut self.connection).await?;
        for index in invalid {
            let sql = format!("DROP INDEX CONCURRENTLY IF EXISTS {}.{index}", postgres::SCHEMA);
            self.connection.execute(sqlx::AssertSqlSafe(sql)).await?;
        }
        Ok(())
    }
}

/// A connection outside of the pools, whose timeouts do not suit migrations.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    let setup = format!("SET search_path = {}; SET statement_timeout = 0; SET lock_timeout = 0", postgres::SCHEMA);
    connection.execute(sqlx::AssertSqlSafe(setup)).await?;
    Ok(connection)
}

/// The sessions that block `pid`, as the end of a sentence; empty if it is not blocked. Their SQL is not shown, as it
/// may hold customer data.
async fn blockers(watching: &mut PgConnection, pid: i32) -> Result<String, StoreError> {
    const SQL: &str = "SELECT pid, COALESCE(application_name, ''), COALESCE(state, ''),
             CAST(EXTRACT(EPOCH FROM clock_timestamp() - COALESCE(xact_start, backend_start)) AS BIGINT)
         FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids($1)) ORDER BY xact_start LIMIT 3";
    let found: Vec<(i32, String, String, Option<i64>)> =
        sqlx::query_as(SQL).bind(pid).fetch_all(&mut *watching).await?;
    let describe = |(pid, application, state, seconds): (i32, String, String, Option<i64>)| {
        let application = application.escape_debug();
        format!("process {pid} ({application}, {state}, for {} s)", seconds.unwrap_or(0))
    };
    let list: Vec<String> = found.into_iter().map(describe).collect();
    Ok(if list.is_empty() { String::new() } else { format!(", because {} holds a lock on it", list.join(" and ")) })
}

/// Whether a migration failed because of other sessions: lock timeout, deadlock, serialization failure.
fn is_lock_conflict(error: &MigrateError) -> bool {
    let (MigrateError::Execute(inner) | MigrateError::ExecuteMigration(inner, _)) = error else { return false };
    let code = inner.as_database_error().and_then(|database| database.code());
    code.is_some_and(|code| ["55P03", "40P01", "40001"].contains(&code.as_ref()))
}

fn failed(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => StoreError::from(error),
        MigrateError::ExecuteMigration(error, version) => {
            StoreError::Unusable(format!("cannot migrate the schema: migration {version}: {}", sentence(&error)))
        }
        other => StoreError::Unusable(format!("cannot migrate the schema: {other}")),
    }
}

/// The advice if the role may not create the schema.
fn may_not_create(error: &MigrateError, options: &PgConnectOptions) -> Option<StoreError> {
    let MigrateError::Execute(error) = error else { return None };
    let denied = error.as_database_error().is_some_and(|inner| inner.code().as_deref() == Some("42501"));
    let (role, schema) = (options.get_username(), postgres::SCHEMA);
    let database = options.get_database().unwrap_or(role);
    denied.then(|| {
        StoreError::Unusable(format!(
            "the role {role} may not create the schema {schema}: GRANT CREATE ON DATABASE {database} TO {role}"
        ))
    })
}

fn newer_than(version: i64) -> StoreError {
    StoreError::Unusable(format!(
        "the database schema ({version}) is newer than this binary: use the Sendoff that migrated it, or a newer one"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_migration_file_is_part_of_the_binary() {
        for (folder, migrator) in [("sqlite", &SQLITE_MIGRATIONS), ("postgres", &POSTGRES_MIGRATIONS)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
            let files = std::fs::read_dir(folder).expect("a folder");
            let mut files: Vec<(String, String)> = files
                .map(|file| file.expect("a file"))
                .map(|file| (file.file_name().into_string().unwrap(), std::fs::read_to_string(file.path()).unwrap()))
                .collect();
            files.sort();
            let known: Vec<(String, String)> = migrator
                .iter()
                .map(|one| (format!("{:04}_{}.sql", one.version, one.description), one.sql.as_str().to_owned()))
                .collect();
            assert_eq!(known, files);
        }
    }
}
