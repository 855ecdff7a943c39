//! Partitions are there before they are needed, are made when they are not, and keep statements to where their rows are.

use std::sync::Arc;
use std::time::Duration;

use sendoff::domain::deliveries::delivery::Transition;
use sendoff::domain::deliveries::message::Message;
use sendoff::domain::{AppId, MessageId, Time};
use sendoff::store::Store;
use sendoff::store::ingest::outbox::RelayRequest;
use sendoff::store::partitions::width;
use sendoff::store::recording::record::RecordOutcome;

use crate::home::*;
use crate::support::{Durability, Postgres, alone};

alone! {
    they_are_made_ahead_of_time
    a_clock_far_ahead_or_behind_finds_a_partition
    jumps_of_a_clock_do_not_make_any_number_of_them
    partitions_dropped_meanwhile_are_created_again
    generic_plans_leave_out_the_other_partitions
    their_tables_are_analyzed_when_there_is_something_in_them
}

pub const DAY: u64 = 86_400;
const MESSAGES: &str = "FROM pg_inherits WHERE inhparent = 'sendoff.message'::regclass AND NOT inhdetachpending";
const ATTEMPTS: &str = "FROM pg_inherits WHERE inhparent = 'sendoff.attempt'::regclass AND NOT inhdetachpending";

/// Ten years after [`NOW`].
pub fn at(seconds: u64) -> Time {
    later(3_650 * DAY + seconds)
}

/// So many partitions, of messages and of attempts.
pub async fn partitions(home: &Home) -> (i64, i64) {
    let messages = home.number(&format!("SELECT count(*) {MESSAGES}")).await;
    (messages, home.number(&format!("SELECT count(*) {ATTEMPTS}")).await)
}

pub async fn accept_at(store: &Store, app: AppId, at: Time) -> Arc<Message> {
    let mut one = item(app);
    one.at = at;
    offer(store, one).await.expect("accepted")
}

/// How many partitions of messages hold one of these.
async fn spread(home: &Home, ids: &[MessageId]) -> i64 {
    let ids: Vec<String> = ids.iter().map(|id| format!("'{}'", id.0)).collect();
    home.number(&format!("SELECT count(DISTINCT tableoid) FROM message WHERE id IN ({})", ids.join(", "))).await
}

async fn they_are_made_ahead_of_time() {
    let home = Home::postgres().await;
    let day = Duration::from_secs(DAY);
    home.store.set_retention(day * 20);
    assert_eq!(width(day * 20), day);
    let reach = home.store.create_partitions(at(0)).await.unwrap().expect("PostgreSQL");
    assert!(reach.newest > at(2 * DAY) && reach.newest <= at(4 * DAY), "{reach:?}");
    let made = partitions(&home).await;
    assert_eq!(made.0, made.1, "both tables have the same");
    assert_eq!(reach.count as i64, made.0);
    let again = home.store.create_partitions(at(1)).await.unwrap();
    assert_eq!((again, partitions(&home).await), (Some(reach), made), "nothing is made twice");
    // What is accepted meanwhile lies in them, a day in each.
    let (app, _) = customer(&home.store, "acme").await;
    let ids = [0, DAY, DAY + 1, 2 * DAY].map(&at);
    let mut accepted = Vec::new();
    for time in ids {
        accepted.push(accept_at(&home.store, app.id, time).await.id);
    }
    assert_eq!(spread(&home, &accepted).await, 3);
    assert_eq!(partitions(&home).await, made);
    // With another width they go on where the last one ends.
    home.store.set_retention(day * 200);
    let wider = home.store.create_partitions(at(0)).await.unwrap().expect("PostgreSQL");
    assert!(wider.newest > at(20 * DAY), "{wider:?}");
    let gaps = "SELECT count(*) FROM (SELECT pg_get_expr(c.relpartbound, c.oid) AS bounds FROM pg_inherits i
             JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'sendoff.message'::regclass) AS a
         WHERE NOT EXISTS (SELECT 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'sendoff.message'::regclass
                 AND pg_get_expr(c.relpartbound, c.oid) LIKE 'FOR VALUES FROM (' || split_part(bounds, 'TO (', 2) || ' TO%')";
    // Three ends without a successor: before the homes' own time, after it, and the newest.
    assert!(home.number(gaps).await <= 3);
    assert_eq!(Home::sqlite().await.store.create_partitions(at(0)).await.unwrap(), None);
}

async fn a_clock_far_ahead_or_behind_finds_a_partition() {
    let home = Home::postgres().await;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    // Another process makes partitions meanwhile: neither fails.
    let other = home.another().await;
    for ahead in [0, 300 * DAY, 310 * DAY, 700 * DAY] {
        let (one, two) = tokio::join!(accept_at(store, app.id, at(ahead)), accept_at(&other, app.id, at(ahead)));
        assert_eq!(store.load_messages(&[one.id, two.id]).await.unwrap().len(), 2);
    }
    // Attempts of a message from long ago, and rows of the outbox, find theirs as well.
    for one in waiting(store, made.id).await {
        let done = finished(app.id, &one, answered(200), Transition::Delivered);
        assert_eq!(store.record(vec![done]).await.unwrap(), [RecordOutcome::Applied]);
    }
    home.execute("INSERT INTO outbox (application, event_type, payload) VALUES ('acme', 'invoice.paid', '{}')").await;
    let relayed = store.relay(RelayRequest { limit: 10, now: at(1_200 * DAY) }).await.unwrap();
    assert_eq!(relayed.accepted, 1);
    assert_eq!(home.number("SELECT count(*) FROM message").await, 9);
    assert_eq!(home.number("SELECT count(*) FROM attempt").await, 8);
    // An id that is older than all partitions but the first.
    let epoch = MessageId::floor(Time::from_micros(1)).0;
    home.execute(&format!(
        "INSERT INTO message (id, app_id, org, event_type, occurred_at, accepted_at) VALUES ('{epoch}', '{}', 'o', 'a', 0, 0)",
        app.id.0
    ))
    .await;
}

/// Clocks that jump about, as often as they like.
async fn jumps_of_a_clock_do_not_make_any_number_of_them() {
    let home = Home::postgres().await;
    let (app, _) = customer(&home.store, "acme").await;
    home.store.set_retention(Duration::from_secs(DAY));
    let mut accepted = Vec::new();
    for n in 0..120u64 {
        accepted.push(accept_at(&home.store, app.id, at(n * 7 * DAY)).await.id);
    }
    assert_eq!(home.store.load_messages(&accepted).await.unwrap().len(), 120);
    let after = home.store.create_partitions(at(119 * 7 * DAY)).await.unwrap().unwrap();
    // Past the bound each jump ahead costs one, and none that goes back costs any.
    let rows = accepted.iter().map(|id| {
        format!(
            "('{}', '{}', 'o', 'a', 0, 0)",
            MessageId::floor(id.time().minus(Duration::from_secs(3 * DAY))).0,
            app.id.0
        )
    });
    home.execute(&format!(
        "INSERT INTO message (id, app_id, org, event_type, occurred_at, accepted_at) VALUES {} ON CONFLICT DO NOTHING",
        rows.skip(40).collect::<Vec<_>>().join(", ")
    ))
    .await;
    assert_eq!(home.store.create_partitions(at(119 * 7 * DAY)).await.unwrap().unwrap().count, after.count);
}

/// A partition that this process has seen is dropped by another one.
async fn partitions_dropped_meanwhile_are_created_again() {
    let home = Home::postgres().await;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let first = accept_at(store, app.id, at(0)).await;
    let one = only_waiting(store, made.id).await;
    store.record(vec![finished(app.id, &one, answered(500), retry(0, 1))]).await.unwrap();
    for (table, id) in [("message", "id"), ("attempt", "message_id")] {
        let name = format!("SELECT tableoid::regclass::text FROM sendoff.{table} WHERE {id} = '{}'", first.id.0);
        home.execute(&format!("DO $$ BEGIN EXECUTE 'DROP TABLE ' || ({name}); END $$")).await;
    }
    let second = accept_at(store, app.id, at(1)).await;
    assert_eq!(
        store.load_messages(&[first.id, second.id]).await.unwrap().len(),
        1,
        "the first went with its partition"
    );
    let again = waiting(store, made.id).await;
    let done: Vec<_> = again.iter().map(|one| finished(app.id, one, answered(200), Transition::Delivered)).collect();
    assert_eq!(store.record(done).await.unwrap(), [RecordOutcome::Applied; 2]);
    assert_eq!(home.number("SELECT count(*) FROM attempt").await, 2);
}

/// However PostgreSQL plans: statements that name their messages look into the partitions of those and no others. The server explains
/// in its log what it does.
async fn generic_plans_leave_out_the_other_partitions() {
    let server = Postgres::start(Durability::Off);
    let home = Home::at(&server.fresh_database()).await;
    home.store.set_retention(Duration::from_secs(20 * DAY));
    let (app, made) = customer(&home.store, "acme").await;
    let mut ids = Vec::new();
    for day in 0..6 {
        ids.push(accept_at(&home.store, app.id, at(day * DAY)).await.id);
    }
    for one in waiting(&home.store, made.id).await {
        home.store.record(vec![finished(app.id, &one, answered(200), Transition::Delivered)]).await.unwrap();
    }
    for (setting, value) in [
        ("plan_cache_mode", "force_generic_plan"),
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
    ] {
        let sql = format!("ALTER DATABASE %I SET {setting} = ''{value}''");
        home.execute(&format!("DO $$ BEGIN EXECUTE format('{sql}', current_database()); END $$")).await;
    }
    // Its connections are made now.
    let store = home.another().await;
    let one = [ids[3]];
    assert_eq!(store.load_messages_within(&one, 1_000).await.unwrap().len(), 1);
    assert_eq!(store.end_without_content(&one, at(6 * DAY)).await.unwrap(), 0);
    assert!(store.resend(&tenant(), app.id, (ids[3], made.id), at(6 * DAY)).await.unwrap());
    let again = only_waiting(&store, made.id).await;
    let done = || finished(app.id, &again, answered(200), Transition::Delivered);
    assert_eq!(store.record(vec![done()]).await.unwrap(), [RecordOutcome::Applied]);
    // It comes too late, and only counts.
    assert_eq!(store.record(vec![done()]).await.unwrap(), [RecordOutcome::Superseded]);
    assert_eq!(delivery(&store, app.id, ids[3], made.id).await.attempts, 2);
    accept_at(&store, app.id, at(5 * DAY + 1)).await;

    let name = async |table: &str, id: &str| {
        let sql =
            format!("SELECT convert_to(tableoid::regclass::text, 'UTF8') FROM {table} WHERE {id} = '{}'", ids[3].0);
        String::from_utf8(home.bytes(&format!("{sql} LIMIT 1")).await).unwrap()
    };
    let own = [name("message", "id").await, name("attempt", "message_id").await];
    let log = std::fs::read_to_string(server.folder().with_file_name("log")).unwrap();
    let plans: Vec<&str> = log.split("LOG:  duration:").skip(1).collect();
    for (what, least) in [
        ("SELECT id, app_id, event_type", 1),
        ("octet_length(payload)", 1),
        ("payload IS NULL AS gone FROM message", 1),
        ("FOR SHARE OF m", 1),
        ("SELECT message_id, generation, settles", 1),
        ("UPDATE attempt SET settles = NULL", 1),
        ("UPDATE attempt SET settles = $3", 1),
        ("INSERT INTO attempt", 2),
        ("INSERT INTO message", 1),
        ("FROM delivery d JOIN application", 1),
    ] {
        let found: Vec<&&str> = plans.iter().filter(|plan| plan.contains(what)).collect();
        assert!(found.len() >= least, "not explained: {what}");
        for plan in found {
            let scans = plan.lines().filter(|line| line.contains("Scan using") && !line.contains("never executed"));
            let others = |line: &&str| {
                [" on message_", " on attempt_"].iter().any(|table| line.contains(table))
                    && !own.iter().any(|own| line.contains(&format!(" on {own} ")))
            };
            assert_eq!(scans.filter(others).collect::<Vec<_>>(), Vec::<&str>::new(), "{own:?} {plan}");
        }
    }
}

/// Autovacuum does not analyze tables that are partitioned; without statistics the planner takes a join by the message's id for a huge one.
async fn their_tables_are_analyzed_when_there_is_something_in_them() {
    let home = Home::postgres().await;
    let (app, _) = customer(&home.store, "acme").await;
    // Behind the one that is there: an id's last bits are random, and may be any of the numbers below.
    let first = (accept_at(&home.store, app.id, at(0)).await.id.0.as_u128() >> 16) + 1;
    assert_eq!(home.store.analyze_partitions().await.unwrap(), 0, "hardly anything is in them");
    let series =
        format!("SELECT CAST('{first:028x}' || lpad(to_hex(n), 4, '0') AS uuid) FROM generate_series(1, 5000) AS n");
    home.execute(&format!(
        "INSERT INTO message (id, app_id, org, event_type, occurred_at, accepted_at)
         SELECT id, '{}', 'org_default', 'a', 0, 0 FROM ({series}) AS m (id)",
        app.id.0
    ))
    .await;
    // As autovacuum does.
    home.execute(
        "DO $$ BEGIN EXECUTE 'ANALYZE ' || (SELECT tableoid::regclass::text FROM sendoff.message LIMIT 1); END $$",
    )
    .await;
    assert_eq!(home.store.analyze_partitions().await.unwrap(), 1, "the messages alone");
    let unique = "SELECT count(*) FROM pg_stats WHERE tablename = 'message' AND attname = 'id' AND inherited AND n_distinct = -1";
    assert_eq!(home.number(unique).await, 1);
    assert_eq!(home.store.analyze_partitions().await.unwrap(), 0, "once a day does");
    assert_eq!(Home::sqlite().await.store.analyze_partitions().await.unwrap(), 0);
}
