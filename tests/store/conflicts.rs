//! Transactions that PostgreSQL undoes for the sake of others are repeated, a bounded number of times.

use sendoff::domain::deliveries::attempt::{Failure, Outcome};
use sendoff::domain::deliveries::delivery::{DeliveryState, Transition};
use sendoff::store::StoreError;
use sendoff::store::db::retry::TRIES;
use sendoff::store::queue::pending_deliveries::PendingDelivery;
use sendoff::store::recording::record::RecordOutcome;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::home::*;
use crate::support::{SOON, eventually};

/// A connection that has begun a transaction and done `sql` in it.
async fn holding(home: &Home, sql: &str) -> PgConnection {
    let Raw::Postgres(mut connection) = home.connect().await else { panic!("PostgreSQL") };
    connection.execute(AssertSqlSafe(format!("SET deadlock_timeout = '1h'; BEGIN; {sql}"))).await.expect(sql);
    connection
}

/// So many transactions wait for a lock.
async fn until_waiting(home: &Home, count: i64) {
    const WAITING: &str =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waits = async || (home.number(WAITING).await == count).then_some(());
    eventually(&format!("{count} transactions wait"), SOON, waits).await;
}

/// Has `transaction` take part in a deadlock, and be the one that PostgreSQL undoes: the other one never looks whether there is a deadlock.
/// `transaction` locks what `wanted` locks, then what `paused` does, then what `held` does.
async fn in_a_deadlock<T: Send + 'static>(
    home: &Home,
    (wanted, paused, held): (&str, &str, &str),
    transaction: impl Future<Output = T> + Send + 'static,
) -> T {
    let mut pausing = holding(home, paused).await;
    let mut other = holding(home, held).await;
    let transaction = tokio::spawn(transaction);
    until_waiting(home, 1).await;
    let wanted = AssertSqlSafe(wanted.to_owned());
    let other = tokio::spawn(async move {
        let got = other.execute(wanted).await;
        (other, got)
    });
    until_waiting(home, 2).await;
    pausing.execute("ROLLBACK").await.unwrap();
    let (mut other, got) = other.await.unwrap();
    got.expect("the store's transaction is undone, and lets go of it");
    other.execute("ROLLBACK").await.unwrap();
    transaction.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_ends_in_a_deadlock_is_made_nevertheless() {
    let home = Home::postgres().await;
    let (app, first) = customer(&home.store, "acme").await;
    let second = endpoint(&home.store, app.id, endpoint_spec()).await;
    let message = accept(&home.store, app.id).await;
    let lock = |id| format!("SELECT 1 FROM due WHERE endpoint_id = '{id}' FOR UPDATE");
    let (paused, held) = (lock(first.id.0), lock(second.id.0));
    let locks = ("SELECT 1 FROM message FOR UPDATE", &*paused, &*held);
    let (store, id) = (home.store.clone(), message.id);
    let deleting = async move { store.delete_content(&tenant(), app.id, id, NOW).await };
    assert!(in_a_deadlock(&home, locks, deleting).await.unwrap());
    for endpoint in [first, second] {
        assert_eq!(delivery(&home.store, app.id, message.id, endpoint.id).await.state, DeliveryState::Dead);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_the_writer_that_ends_in_a_deadlock_is_stored_nevertheless() {
    let home = Home::postgres().await;
    let (app, made) = customer(&home.store, "acme").await;
    let failed = |one: &PendingDelivery| {
        finished(
            app.id,
            one,
            Outcome::failed(Failure::Refused, "", Default::default()),
            Transition::Retry { due: later(9), step: 1 },
        )
    };
    accept(&home.store, app.id).await;
    let one = failed(&only_waiting(&home.store, made.id).await);
    // There is a row of its counts.
    home.store.record(vec![one]).await.unwrap();
    home.execute("UPDATE endpoint SET failing_since = NULL").await;
    let again = failed(&only_waiting(&home.store, made.id).await);
    let locks =
        ("SELECT 1 FROM due FOR UPDATE", "SELECT 1 FROM endpoint FOR UPDATE", "SELECT 1 FROM rollup FOR UPDATE");
    let store = home.store.clone();
    let recorded = in_a_deadlock(&home, locks, async move { store.record(vec![again]).await }).await;
    assert_eq!(recorded.unwrap(), [RecordOutcome::Applied]);
    assert_eq!(home.number("SELECT count(*) FROM attempt").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serialization_failure_is_repeated_a_bounded_number_of_times() {
    let home = Home::postgres().await;
    let app = application(&home.store, "acme").await;
    // What a sequence has given out stays so when the transaction is undone.
    home.execute(
        "CREATE SEQUENCE tries; CREATE TABLE failing (tries BIGINT); INSERT INTO failing VALUES (2);
         CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') <= (SELECT tries FROM failing) THEN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER conflicts BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION conflict();
         CREATE TRIGGER conflicts BEFORE INSERT ON application FOR EACH ROW EXECUTE FUNCTION conflict()",
    )
    .await;
    accept(&home.store, app.id).await;
    assert_eq!(home.number("SELECT last_value FROM tries").await, 3);
    home.execute("UPDATE failing SET tries = 5").await;
    application(&home.store, "other").await;
    assert_eq!(home.number("SELECT last_value FROM tries").await, 6);
    home.execute("UPDATE failing SET tries = 1000").await;
    let refused = home.store.accept(item(app.id)).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert!(refused.unwrap_err().transient());
    assert_eq!(home.number("SELECT last_value FROM tries").await, 6 + i64::from(TRIES));
    assert_eq!(home.number("SELECT count(*) FROM message").await, 1);
}
