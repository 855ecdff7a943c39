//! Opening a store: its schema, its master key, its lock.

use sendoff::domain::signing::master_key::MasterKey;
use sendoff::store::{Location, Store, StoreError};

use crate::home::*;
use crate::support::on_both;
use crate::support::{Postgres, sqlite_file};

async fn bare(sqlite: bool) -> (Store, Location, Option<crate::support::SqliteFile>) {
    let file = sqlite.then(sqlite_file);
    let url = file.as_ref().map_or_else(|| Postgres::shared().fresh_database(), |file| file.url());
    let location = Location::parse(&url).unwrap();
    (open(&location, &MasterKey::generate()).await, location, file)
}

fn sentence<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    result.unwrap_err().to_string()
}

on_both! {
    migrating_again_changes_nothing
    a_newer_schema_is_refused
    another_master_key_is_refused
    large_columns_come_last_in_rowid_tables
    one_process_serves_a_file
}

async fn migrating_again_changes_nothing(home: Home) {
    application(&home.store, "acme").await;
    let there = home.another().await;
    there.migrate().await.unwrap();
    there.ready().await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM application").await, 1);
    assert_eq!(there.kind(), home.either("sqlite", "postgres"));
    assert_eq!(there.file().is_some(), home.is_sqlite());
}

async fn a_newer_schema_is_refused(home: Home) {
    home.execute(home.either(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', 1, x'00', 1)",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', true, '\\x00', 1)",
    ))
    .await;
    let there = home.another().await;
    for refused in [sentence(there.migrate().await), sentence(there.ready().await)] {
        assert!(refused.contains("9999") && refused.contains("newer than this binary"), "{refused}");
    }
}

async fn another_master_key_is_refused(home: Home) {
    let there = open(&home.location, &MasterKey::generate()).await;
    let refused = sentence(there.migrate().await);
    assert!(refused.contains("another master key") && refused.contains("SENDOFF_MASTER_KEY"), "{refused}");
    assert!(!refused.contains(home.master.text().as_str()));
    home.another().await.migrate().await.unwrap();
}

/// In a table without rowids SQLite compares whole rows, and reads a payload of 256 KiB for each comparison of a search. And it reads
/// all of a payload to get at a column behind it.
async fn large_columns_come_last_in_rowid_tables(home: Home) {
    if home.is_sqlite() {
        for (table, column) in [("message", "payload"), ("attempt", "response_body"), ("outbox", "payload")] {
            let without_rowid = format!("SELECT wr FROM pragma_table_list WHERE name = '{table}'");
            assert_eq!(home.number(&without_rowid).await, 0, "{table}");
            let behind = format!(
                "SELECT count(*) FROM pragma_table_info('{table}') AS a JOIN pragma_table_info('{table}') AS b
                 ON a.cid > b.cid WHERE b.name = '{column}'"
            );
            assert_eq!(home.number(&behind).await, 0, "{table}");
        }
    }
}

async fn one_process_serves_a_file(home: Home) {
    home.store.lock().unwrap();
    let there = home.another().await;
    match home.is_sqlite() {
        true => {
            let refused = sentence(there.lock());
            assert!(refused.contains("another Sendoff process serves"), "{refused}");
        }
        false => there.lock().unwrap(),
    }
    home.store.checkpoint().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_schema_it_says_what_to_do() {
    for sqlite in [true, false] {
        let (store, _location, _file) = bare(sqlite).await;
        let refused = sentence(store.ready().await);
        assert!(refused.contains("sendoff migrate"), "{refused}");
        let verdict = store.accept(item(named("acme"))).await;
        assert!(verdict.as_ref().is_err_and(StoreError::transient), "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_together_make_one_schema() {
    let (store, location, _) = bare(false).await;
    let key = MasterKey::generate();
    let mut stores = vec![];
    for _ in 0..4 {
        stores.push(open(&location, &key).await);
    }
    drop(store);
    for done in futures_util::future::join_all(stores.iter().map(Store::migrate)).await {
        done.unwrap();
    }
    stores[3].ready().await.unwrap();
}

#[tokio::test]
async fn foreign_databases_are_rejected_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.db");
    std::fs::write(&path, "this is no database at all, and long enough to look at").unwrap();
    let key = MasterKey::generate();
    let options = |location| sendoff::store::StoreOptions {
        location,
        master: key.clone(),
        max_payload: 1,
        queue: 1,
        wide: sendoff::store::WIDE,
    };
    for location in [Location::Sqlite(path), Location::Sqlite(folder.path().join("no/such/folder.db"))] {
        let refused = sentence(Store::open(options(location)).await);
        assert!(refused.contains("cannot open the SQLite file"), "{refused}");
    }
    let port = crate::support::free_port();
    let away = Location::Postgres(format!("postgres://sendoff:geheim@127.0.0.1:{port}/x"));
    let refused = sentence(Store::open(options(away)).await);
    assert!(refused.contains("cannot reach PostgreSQL") && !refused.contains("geheim"), "{refused}");
    assert!(refused.contains(&format!("127.0.0.1:{port}")) && refused.contains("refused"), "{refused}");
    let unknown = Location::Postgres("postgres://sendoff:geheim@nosuch.invalid/x".to_owned());
    let refused = sentence(Store::open(options(unknown)).await);
    assert!(refused.contains("nosuch.invalid:5432") && !refused.contains("geheim"), "{refused}");
    let database = crate::support::Postgres::shared().fresh_database();
    let name = database.rsplit('/').next().unwrap();
    crate::support::Postgres::shared().execute(&format!("CREATE ROLE poor_{name} LOGIN"));
    let poor = Location::Postgres(database.replacen("sendoff@", &format!("poor_{name}@"), 1));
    let refused = Store::open(options(poor)).await.unwrap().migrate().await.unwrap_err().to_string();
    assert_eq!(
        refused,
        format!(
            "the role poor_{name} may not create the schema sendoff: GRANT CREATE ON DATABASE {name} TO poor_{name}"
        )
    );

    // UTF-16 text has other bytes than those that were inserted.
    let utf16 = folder.path().join("utf16.db");
    let url = format!("sqlite:{}?mode=rwc", utf16.display());
    let mut raw = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    for sql in ["PRAGMA encoding = 'UTF-16'", "CREATE TABLE team (x)"] {
        sqlx::query(sql).execute(&mut raw).await.unwrap();
    }
    drop(raw);
    let refused = sentence(Store::open(options(Location::Sqlite(utf16))).await);
    assert!(refused.contains("UTF-16"), "{refused}");
}
