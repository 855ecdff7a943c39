//! Migrations beside processes that do not know them, beside writers, and beside each other. The next version of the schema is made up here.

use sendoff::store::db::migrations::known_version;
use sendoff::store::{Store, StoreError};
use sqlx::migrate::{Migration, MigrationType};
use sqlx::{AssertSqlSafe, Executor, PgConnection, SqlSafeStr};

use crate::home::*;
use crate::support::on_both;
use crate::support::{SOON, eventually};

/// The migration that comes `n` after the last one there is.
fn next(n: i64, sql: &str, no_tx: bool) -> Migration {
    let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
    Migration::new(known_version() + n, "made up".into(), MigrationType::Simple, sql, no_tx)
}

/// What a migration says that binaries of `oldest` on can live with.
fn compatible(n: i64, oldest: i64) -> String {
    format!("INSERT INTO schema_compatibility (version, oldest_binary) VALUES ({}, {oldest})", known_version() + n)
}

fn sentence(result: Result<(), StoreError>) -> String {
    result.unwrap_err().to_string()
}

async fn postgres(home: &Home) -> PgConnection {
    match home.connect().await {
        Raw::Postgres(connection) => connection,
        Raw::Sqlite(_) => panic!("PostgreSQL"),
    }
}

on_both! {
    a_newer_schema_that_says_so_can_be_used
    a_migration_that_was_changed_afterwards_is_refused
    a_migration_that_fails_leaves_nothing_behind
}

async fn a_newer_schema_that_says_so_can_be_used(home: Home) {
    let (app, made) = customer(&home.store, "acme").await;
    let newer = home.another().await;
    let first_one =
        next(1, &format!("ALTER TABLE message ADD COLUMN note TEXT; {}", compatible(1, known_version())), false);
    newer.migrate_with(std::slice::from_ref(&first_one)).await.unwrap();
    for store in [&home.store, &newer] {
        store.ready().await.unwrap();
        accept(store, app.id).await;
    }
    home.another().await.migrate().await.unwrap();
    assert_eq!(waiting(&home.store, made.id).await.len(), 2);
    newer.migrate_with(std::slice::from_ref(&first_one)).await.unwrap();

    // Another one, which says nothing.
    newer.migrate_with(&[first_one, next(2, "ALTER TABLE message ADD COLUMN another TEXT", false)]).await.unwrap();
    let version = (known_version() + 2).to_string();
    for refused in [sentence(home.store.ready().await), sentence(home.store.migrate().await)] {
        assert!(refused.contains(&version) && refused.contains("newer than this binary"), "{refused}");
    }
    // One that only a newer binary than ours can live with.
    home.execute(&compatible(2, known_version() + 1)).await;
    assert!(sentence(home.store.ready().await).contains(&version));
    home.execute(&format!("UPDATE schema_compatibility SET oldest_binary = {}", known_version())).await;
    home.store.ready().await.unwrap();
}

async fn a_migration_that_was_changed_afterwards_is_refused(home: Home) {
    home.execute(home.either(
        "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1",
        "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1",
    ))
    .await;
    assert!(sentence(home.store.migrate().await).contains("cannot migrate the schema"));
}

async fn a_migration_that_fails_leaves_nothing_behind(home: Home) {
    let wrong = next(1, "CREATE TABLE half (id BIGINT); CREATE TABLE half (id BIGINT)", false);
    assert!(home.store.migrate_with(&[wrong]).await.is_err());
    home.store.ready().await.unwrap();
    let right = next(1, "CREATE TABLE half (id BIGINT)", false);
    home.store.migrate_with(&[right]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_may_take_as_long_as_they_need_and_locks_may_not() {
    let home = Home::postgres().await;
    let settings = next(
        1,
        "CREATE TABLE seen AS SELECT current_setting('statement_timeout') AS statements, current_setting('lock_timeout') AS locks",
        false,
    );
    home.store.migrate_with(&[settings]).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM seen WHERE statements = '0' AND locks = '2s'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_gives_way_to_writers_and_is_tried_again() {
    let home = Home::postgres().await;
    let (app, made) = customer(&home.store, "acme").await;
    // Somebody looks at the messages and does not end: nothing can change the table meanwhile.
    let mut reader = postgres(&home).await;
    reader.execute("BEGIN; SELECT count(*) FROM message").await.unwrap();
    let newer = home.another().await;
    let sql = format!("ALTER TABLE message ADD COLUMN note TEXT; {}", compatible(1, known_version()));
    let migrating = tokio::spawn(async move { newer.migrate_with(&[next(1, &sql, false)]).await });
    let blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
         AND relation = 'sendoff.message'::regclass";
    for accepted in 1..=3 {
        eventually("the migration waits for the lock", SOON, async || (home.number(blocked).await > 0).then_some(()))
            .await;
        accept(&home.store, app.id).await;
        assert!(!migrating.is_finished());
        home.store.ready().await.unwrap();
        assert_eq!(waiting(&home.store, made.id).await.len(), accepted);
    }
    reader.execute("COMMIT").await.unwrap();
    migrating.await.unwrap().unwrap();
    assert_eq!(home.number("SELECT count(*) FROM message WHERE note IS NULL").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_built_while_others_write_and_what_is_left_of_a_failed_one_is_removed() {
    let home = Home::postgres().await;
    let (app, _) = customer(&home.store, "acme").await;
    for _ in 0..2 {
        accept(&home.store, app.id).await;
    }
    // As if its build had been interrupted.
    let failed = home.try_execute("CREATE UNIQUE INDEX CONCURRENTLY made_up ON due (app_id)").await;
    assert!(failed.is_err(), "two deliveries of one application");
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indexrelid = 'sendoff.made_up'::regclass";
    assert_eq!(home.number(invalid).await, 1);
    // An old transaction, for which the build has to wait.
    let mut old = postgres(&home).await;
    old.execute("BEGIN; INSERT INTO event_type (org, name, description, archived, deprecated, feature_flags, created_at, updated_at)
        VALUES ('o', 'n', '', false, false, '[]', 0, 0); DELETE FROM due WHERE app_id = '00000000-0000-0000-0000-000000000000'")
        .await
        .unwrap();
    let newer = home.another().await;
    let more = [
        next(1, &compatible(1, known_version()), false),
        next(2, "CREATE INDEX CONCURRENTLY IF NOT EXISTS made_up ON due (app_id)", true),
    ];
    let migrating = tokio::spawn(async move { newer.migrate_with(&more).await });
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'";
    eventually("the build waits", SOON, async || (home.number(waits).await > 0).then_some(())).await;
    accept(&home.store, app.id).await;
    assert!(!migrating.is_finished());
    old.execute("COMMIT").await.unwrap();
    migrating.await.unwrap().unwrap();
    assert_eq!(
        home.number("SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid = 'sendoff.made_up'::regclass")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_migrates_at_a_time() {
    let home = Home::postgres().await;
    let all: Vec<Store> = futures_util::future::join_all((0..4).map(|_| home.another())).await;
    // Done twice, it would fail.
    let once = next(1, "CREATE TABLE once_only (id BIGINT)", false);
    let index = next(2, "CREATE INDEX CONCURRENTLY IF NOT EXISTS once_only_id ON once_only (id)", true);
    let more = [once, index];
    for done in futures_util::future::join_all(all.iter().map(|store| store.migrate_with(&more))).await {
        done.unwrap();
    }
}
