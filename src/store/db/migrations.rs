//! Migrations: the schema, one version after another, while other processes and the team's own writers go on.
//!
//! On PostgreSQL they have a connection of their own, without a time limit for statements: an index may take hours. A lock is waited for only
//! shortly, because everybody who comes later waits behind us; then the migration gives way and is tried again. One process migrates at a time.
//!
//! * A migration file is one transaction. One that begins with `-- no-transaction` holds a single `CREATE INDEX CONCURRENTLY` (or `DROP INDEX
//!   CONCURRENTLY`) with `IF [NOT] EXISTS`: it blocks nobody, so it waits for locks as long as it takes, and what an interrupted one left
//!   behind is removed before it is tried again.
//!   PostgreSQL refuses it on the partitioned tables (`message`, `attempt`): an index there is CREATE INDEX … ON ONLY, then one CONCURRENTLY for each
//!   partition, then ATTACH PARTITION, for which there is no machinery yet.
//! * Older binaries stay ready on a newer schema whose migrations say, in the table `schema_compatibility`, that they can.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::store::db::error::{is_missing_table, sentence};
use crate::store::db::postgres;
use crate::store::{Engine, Store, StoreError, read_vital};

pub(in crate::store) static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

const TABLE: &str = "_sqlx_migrations";
/// How long a migration waits for a lock before it gives way.
const LOCK_TIMEOUT: &str = "2s";
/// How long it then leaves the table to the others, at first and at most.
const GIVE_WAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often is looked whether another process has finished migrating, and who is in the way.
const LOOK: Duration = Duration::from_millis(250);
/// The advisory lock of whoever migrates; any number that nobody else in the database uses.
const ADVISORY_LOCK: i64 = 0x5365_6e64_6f66_6601;

/// The version of the schema that this binary was made for.
pub fn known_version() -> i64 {
    SQLITE_MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

impl Store {
    /// Brings the schema up to this binary's, and makes sure that the master key is the one that was used before. A newer schema that this
    /// binary can use is left as it is.
    ///
    /// # Errors
    /// A newer schema that this binary cannot use, one that was altered, another master key.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.migrate_with(&[]).await
    }

    /// The same with `more` migrations than this binary has: how it is tested that the next one can go on beside processes that do not know it.
    ///
    /// # Errors
    /// Those of [`Store::migrate`].
    pub async fn migrate_with(&self, more: &[Migration]) -> Result<(), StoreError> {
        match &self.inner.engine {
            Engine::Sqlite(engine) => {
                let all = [&SQLITE_MIGRATIONS.migrations[..], more].concat();
                let mut connection = engine.writer.acquire().await?;
                let pending = pending(&mut *connection, all, false).await?;
                for migration in self.or_compatible(pending).await? {
                    connection.apply(TABLE, &migration).await.map_err(failed)?;
                }
            }
            Engine::Postgres(engine) => {
                let all = [&POSTGRES_MIGRATIONS.migrations[..], more].concat();
                let mut migrating = Migrating::begin(&engine.options()).await?;
                let pending = pending(&mut migrating.connection, all, migrating.known).await?;
                migrating.run(self.or_compatible(pending).await?).await?;
                // So that the first to accept something need not.
                engine.partitions.look_up(&engine.engine).await?;
            }
        }
        self.check_master_key().await
    }

    /// Whether the store answers and has a schema that this binary can use.
    ///
    /// # Errors
    /// It does not answer, or its schema is older, or newer and incompatible; the sentence says which.
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
                "the schema is at {version}, this binary needs {known}: run `sendoff migrate`"
            ))),
            _ => Ok(()),
        }
    }

    /// What is to be applied; nothing, where the schema is newer and this binary can use it.
    async fn or_compatible(&self, pending: Pending) -> Result<Vec<Migration>, StoreError> {
        match pending {
            Pending::These(migrations) => Ok(migrations),
            Pending::Newer => self.check_compatible(known_version()).await.map(|()| Vec::new()),
        }
    }

    /// Whether all migrations after `known` say that a binary of that version can use the schema.
    async fn check_compatible(&self, known: i64) -> Result<(), StoreError> {
        const SQL: &str = "SELECT m.version, c.oldest_binary FROM _sqlx_migrations m
             LEFT JOIN schema_compatibility c ON c.version = m.version WHERE m.version > $1 ORDER BY m.version";
        let newer: Result<Vec<(i64, Option<i64>)>, sqlx::Error> =
            read_vital!(self, db => sqlx::query_as(SQL).bind(known).fetch_all(db).await);
        let newer = match newer {
            // A schema from before there was such a table, or from after.
            Err(error) if is_missing_table(&error) => return Err(newer_than(known)),
            newer => newer?,
        };
        match newer.iter().find(|(_, oldest)| oldest.is_none_or(|oldest| oldest > known)) {
            Some((version, _)) => Err(newer_than(*version)),
            None => Ok(()),
        }
    }
}

/// What a schema lacks.
enum Pending {
    /// These, in their order.
    These(Vec<Migration>),
    /// Nothing: it has more than we know.
    Newer,
}

/// Compares what was applied with `all`, the oldest first. `known`: there is the table that says what was applied. Asking for it where it is
/// takes the right to create tables, which a process on a current schema need not have.
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

/// The connection on which a process migrates a PostgreSQL.
struct Migrating {
    connection: PgConnection,
    /// Looks meanwhile who is in the way.
    watching: PgConnection,
    pid: i32,
    /// There is the table that says what was applied.
    known: bool,
}

impl Migrating {
    /// Waits until no other process migrates; makes the schema if there is none.
    async fn begin(options: &PgConnectOptions) -> Result<Migrating, StoreError> {
        let mut connection = connect(options).await?;
        let mut waits = false;
        // Asked again and again: whoever waits within a statement would be waited for by CREATE INDEX CONCURRENTLY.
        while !sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(ADVISORY_LOCK)
            .fetch_one(&mut connection)
            .await?
        {
            if !std::mem::replace(&mut waits, true) {
                tracing::info!("another process brings the schema up to date: waiting until it is done");
            }
            tokio::time::sleep(LOOK).await;
        }
        // Only where it is missing: PostgreSQL asks for the right to create before it looks.
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
        Ok(Migrating { connection, watching: connect(options).await?, pid, known })
    }

    /// Applies `migrations`, and lets other processes migrate again.
    async fn run(mut self, migrations: Vec<Migration>) -> Result<(), StoreError> {
        for migration in &migrations {
            self.apply(migration).await?;
        }
        // The lock goes with the connection.
        self.connection.close().await?;
        self.watching.close().await?;
        Ok(())
    }

    /// Applies one, however often it has to give way.
    async fn apply(&mut self, migration: &Migration) -> Result<(), StoreError> {
        let (version, name) = (migration.version, &migration.description);
        let timeout = if migration.no_tx { "0" } else { LOCK_TIMEOUT };
        let mut wait = GIVE_WAY.0;
        loop {
            if migration.no_tx {
                self.drop_invalid_indexes().await?;
            }
            self.connection.execute(sqlx::AssertSqlSafe(format!("SET lock_timeout = '{timeout}'"))).await?;
            let (done, in_the_way) = self.attempt(migration).await?;
            match done {
                Ok(_) => return Ok(()),
                Err(error) if gave_way(&error) => {
                    tracing::warn!(
                        "migration {version} ({name}) cannot lock what it changes{in_the_way}. Let that end, or end it; the migration is tried \
                         again in {wait:?}"
                    );
                }
                Err(error) => return Err(failed(error)),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(GIVE_WAY.1);
        }
    }

    /// Tries to apply one. Also gives back who was in the way last, as the end of a sentence.
    async fn attempt(&mut self, migration: &Migration) -> Result<(Result<Duration, MigrateError>, String), StoreError> {
        let (version, name) = (migration.version, migration.description.clone());
        let mut in_the_way = String::new();
        let mut looks = tokio::time::interval(LOOK);
        let mut applying = self.connection.apply(TABLE, migration);
        let done = loop {
            tokio::select! {
                done = &mut applying => break done,
                _ = looks.tick() => {
                    let found = blockers(&mut self.watching, self.pid).await?;
                    if migration.no_tx && !found.is_empty() && found != in_the_way {
                        tracing::info!("migration {version} ({name}) waits{found}; nobody waits for it");
                    }
                    if !found.is_empty() {
                        in_the_way = found;
                    }
                }
            }
        };
        Ok((done, in_the_way))
    }

    /// An index whose CREATE INDEX CONCURRENTLY was interrupted is kept up and never used.
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

/// Outside of the pools: their settings are not for migrations.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    let setup = format!("SET search_path = {}; SET statement_timeout = 0; SET lock_timeout = 0", postgres::SCHEMA);
    connection.execute(sqlx::AssertSqlSafe(setup)).await?;
    Ok(connection)
}

/// Whose locks the connection `pid` waits for, as the end of a sentence; nothing, if it does not wait. What they say in SQL is theirs and not shown.
async fn blockers(watching: &mut PgConnection, pid: i32) -> Result<String, StoreError> {
    const SQL: &str = "SELECT pid, COALESCE(application_name, ''), COALESCE(state, ''),
             CAST(EXTRACT(EPOCH FROM clock_timestamp() - COALESCE(xact_start, backend_start)) AS BIGINT)
         FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids($1)) ORDER BY xact_start LIMIT 3";
    let found: Vec<(i32, String, String, Option<i64>)> =
        sqlx::query_as(SQL).bind(pid).fetch_all(&mut *watching).await?;
    let said = |(pid, application, state, seconds): (i32, String, String, Option<i64>)| {
        let application = application.escape_debug();
        format!("process {pid} ({application}, {state}, for {} s)", seconds.unwrap_or(0))
    };
    let list: Vec<String> = found.into_iter().map(said).collect();
    Ok(if list.is_empty() { String::new() } else { format!(", for {} holds a lock on it", list.join(" and ")) })
}

/// Whether a migration ended because others held what it needed: no lock to be had, a deadlock, a conflict of serializable transactions.
fn gave_way(error: &MigrateError) -> bool {
    let (MigrateError::Execute(inner) | MigrateError::ExecuteMigration(inner, _)) = error else { return false };
    let code = inner.as_database_error().and_then(|database| database.code());
    code.is_some_and(|code| ["55P03", "40P01", "40001"].contains(&code.as_ref()))
}

fn failed(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => StoreError::from(error),
        MigrateError::ExecuteMigration(error, version) => StoreError::Unusable(format!(
            "cannot bring the schema up to date: migration {version}: {}",
            sentence(&error)
        )),
        other => StoreError::Unusable(format!("cannot bring the schema up to date: {other}")),
    }
}

/// What to do, if the role lacks the right to create the schema.
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
        "the store's schema ({version}) is newer than this binary: start the Sendoff that made it, or a newer one"
    ))
}
