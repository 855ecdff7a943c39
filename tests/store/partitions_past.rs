//! What is past goes a partition at a time, and what is still to be sent stays.

use std::time::Duration;

use sendoff::domain::TimeRange;
use sendoff::domain::deliveries::attempt::Trigger;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope};
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Transition};
use sendoff::domain::{AppId, EndpointId, MessageId, Time};
use sendoff::store::Store;
use sendoff::store::jobs::background::{BackgroundSpec, TaskSelection};
use sendoff::store::jobs::job_lease::StepResult;
use sendoff::store::maintenance::retention::RetentionStep;
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use sendoff::store::queue::pending_deliveries::PendingDelivery;
use sendoff::store::recording::record::{FinishedAttempt, RecordOutcome};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::timeout;

use crate::home::*;
use crate::partitions::{DAY, accept_at, at, partitions};
use crate::support::{Postgres, alone};

alone! {
    whole_partitions_go_and_what_is_scheduled_stays
    the_first_partition_and_those_that_stay_are_emptied_in_steps
    nothing_below_the_horizon_is_sent_again
    an_open_snapshot_holds_up_the_drop_and_nobody_else
    an_attempt_that_comes_too_late_is_no_obstacle
    a_partition_waits_for_what_is_deleted_in_steps
    an_interrupted_drop_is_finished
    there_are_never_many
    an_ordinary_role_makes_and_drops_them
    partitions_that_stay_are_merged_when_nobody_is_held_up
}

/// Keeps 20 days, in partitions of one.
async fn home() -> Home {
    let home = Home::postgres().await;
    home.store.set_retention(Duration::from_secs(20 * DAY));
    home
}

async fn scheduled(store: &Store, app: AppId, at: Time, deliver_at: Time) -> MessageId {
    let mut one = item(app);
    (one.at, one.spec.deliver_at) = (at, Some(deliver_at));
    offer(store, one).await.expect("accepted").id
}

/// The retention's turns at `now`, for what is older than `cutoff`: rows, then partitions. Gives back how many tables were dropped.
async fn forget(store: &Store, cutoff: Time, now: Time) -> u64 {
    while store.retain(cutoff, now).await.unwrap().more {}
    store.drop_partitions().await.unwrap()
}

async fn rows(home: &Home, table: &str) -> i64 {
    home.number(&format!("SELECT count(*) FROM {table}")).await
}

async fn leaving(home: &Home) -> (i64, i64) {
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    (home.number("SELECT count(*) FROM leaving_partition").await, home.number(pending).await)
}

/// A transaction that has read both tables, and sees them as they were.
async fn open_snapshot(home: &Home) -> PgConnection {
    let Raw::Postgres(mut reader) = home.connect().await else { panic!("PostgreSQL") };
    reader
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM message; SELECT count(*) FROM attempt")
        .await
        .unwrap();
    reader
}

fn delivered(app: AppId, one: &PendingDelivery) -> FinishedAttempt {
    finished(app, one, answered(200), Transition::Delivered)
}

/// What waits because somebody wanted it sent again, by its message.
async fn resent(store: &Store, endpoint: EndpointId) -> Vec<PendingDelivery> {
    let mut waiting = waiting(store, endpoint).await;
    waiting.retain(|one| one.progress.trigger == Trigger::Manual);
    waiting.sort_by_key(|one| one.message_id);
    waiting
}

async fn deliver_all(store: &Store, app: AppId, endpoint: EndpointId) {
    let all: Vec<FinishedAttempt> = waiting(store, endpoint).await.iter().map(|one| delivered(app, one)).collect();
    store.record(all).await.unwrap();
}

async fn whole_partitions_go_and_what_is_scheduled_stays() {
    let home = home().await;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let house = store.ensure_operational_application(&tenant(), NOW).await.unwrap().id;
    let ears = endpoint(store, house, endpoint_spec()).await.id;
    // A day with nothing but delivered ones, one with something scheduled, one of each kind of end, and one that is not past yet.
    for n in 0..3 {
        accept_at(store, app.id, at(n)).await;
    }
    let late = scheduled(store, app.id, at(DAY), at(30 * DAY)).await;
    accept_at(store, app.id, at(DAY + 1)).await;
    let mut known = item(app.id);
    (known.at, known.spec.event_id) = (at(2 * DAY), Some(uid("event-1")));
    let dead = offer(store, known.clone()).await.unwrap().id;
    let keep = accept_at(store, app.id, at(4 * DAY)).await.id;
    for one in waiting(store, made.id).await {
        let next = if one.message_id == dead { Transition::Dead(DeadReason::Exhausted) } else { Transition::Delivered };
        let outcome = answered(if one.message_id == dead { 500 } else { 200 });
        if one.message_id != late {
            store.record(vec![finished(app.id, &one, outcome, next)]).await.unwrap();
        }
    }
    let expiring = accept_at(store, app.id, at(4 * DAY + 1)).await.id;
    let before = partitions(&home).await;

    home.execute("INSERT INTO edited_copy (message_id, copy_id) SELECT message_id, message_id FROM message_key").await;
    // In the middle of the fifth day: the partition of that day stays whole.
    let now = at(25 * DAY);
    assert!(forget(store, at(4 * DAY + DAY / 2), now).await >= 4);
    let left = partitions(&home).await;
    assert!(left.0 < before.0 && left.1 < before.1, "{before:?} {left:?}");
    let mut there = Vec::new();
    for id in [late, dead, keep, expiring] {
        there.push(store.message(&tenant(), app.id, &id.into()).await.unwrap().is_some());
    }
    assert_eq!(there, [true, false, true, true]);
    assert_eq!((rows(&home, "dead").await, rows(&home, "message_key").await, rows(&home, "attempt").await), (0, 0, 1));
    assert_eq!(rows(&home, "edited_copy").await, 0, "what is noted at an original goes with it");
    known.at = now;
    assert!(offer(store, known).await.is_ok(), "its id is free again");

    // A day later what was pending goes, and is told.
    let told = "SELECT count(*) FROM message WHERE event_type = 'message.expired'";
    assert_eq!(home.number(told).await, 0);
    forget(store, at(5 * DAY), now).await;
    assert!(store.message(&tenant(), app.id, &expiring.into()).await.unwrap().is_none());
    assert_eq!((home.number(told).await, waiting(store, ears).await.len()), (1, 1));

    // What is scheduled is delivered in its time, and only then goes.
    let pending = waiting(store, made.id).await.into_iter().find(|one| one.message_id == late).expect("pending");
    assert_eq!((pending.state, pending.due_at), (DeliveryState::Fresh, at(30 * DAY)));
    assert_eq!(store.load_messages(&[late]).await.unwrap().len(), 1);
    assert_eq!(store.record(vec![delivered(app.id, &pending)]).await.unwrap(), [RecordOutcome::Applied]);
    assert!(forget(store, at(5 * DAY), now).await >= 1);
    assert!(store.load_messages(&[late]).await.unwrap().is_empty());
}

async fn the_first_partition_and_those_that_stay_are_emptied_in_steps() {
    let home = home().await;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    scheduled(store, app.id, at(DAY), at(30 * DAY)).await;
    let offers = (0..1_200).map(|_| accept_at(store, app.id, at(DAY + 1)));
    futures_util::future::join_all(offers).await;
    let usual = store.pending_deliveries(&[wants(store, made.id, 2_000, 1).await]).await.unwrap();
    let usual: Vec<FinishedAttempt> =
        usual.iter().filter(|one| one.due_at < at(2 * DAY)).map(|one| delivered(app.id, one)).collect();
    assert_eq!(usual.len(), 1_200);
    store.record(usual).await.unwrap();
    // In the first partition, as of a clock that was wrong.
    let early = MessageId::floor(Time::from_micros(DAY as i64)).0;
    home.execute(&format!(
        "INSERT INTO message (id, app_id, org, event_type, occurred_at, accepted_at) VALUES ('{early}', '{}', 'o', 'a', 0, 0)",
        app.id.0
    ))
    .await;
    let mut steps = Vec::new();
    while steps.last().is_none_or(|last: &RetentionStep| last.more) {
        steps.push(store.retain(at(5 * DAY), at(6 * DAY)).await.unwrap());
    }
    let messages: Vec<u64> = steps.iter().map(|step| step.messages).collect();
    assert_eq!(messages, [501, 500, 200]);
    assert_eq!((rows(&home, "message").await, rows(&home, "attempt").await, rows(&home, "due").await), (1, 0, 1));
    assert_eq!(store.retain(at(5 * DAY), at(6 * DAY)).await.unwrap(), RetentionStep::default());
}

async fn nothing_below_the_horizon_is_sent_again() {
    let home = home().await;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let old = accept_at(store, app.id, at(0)).await.id;
    let late = scheduled(store, app.id, at(1), at(30 * DAY)).await;
    let new = accept_at(store, app.id, at(DAY)).await.id;
    for one in waiting(store, made.id).await.iter().filter(|one| one.message_id != late) {
        store.record(vec![delivered(app.id, one)]).await.unwrap();
    }
    let resend = async |id| store.resend(&tenant(), app.id, (id, made.id), at(2 * DAY)).await.unwrap();
    assert!(resend(old).await);
    store.record(vec![delivered(app.id, &resent(store, made.id).await.remove(0))]).await.unwrap();
    while store.retain(at(DAY), at(2 * DAY)).await.unwrap().more {}
    // Their partition stays for the scheduled one's sake, and a message of the same day could be sent but for the horizon.
    let (past, missing) = (MessageId::floor(at(3)), MessageId::floor(at(DAY + 3)));
    for id in [past, missing] {
        home.execute(&format!(
            "INSERT INTO message (id, app_id, org, event_type, payload, occurred_at, accepted_at)
             VALUES ('{}', '{}', 'org_default', 'a', '{{}}', {at}, {at})",
            id.0,
            app.id.0,
            at = id.time().micros()
        ))
        .await;
    }
    assert_eq!([resend(past).await, resend(late).await, resend(new).await], [false, false, true]);
    store.record(vec![delivered(app.id, &resent(store, made.id).await.remove(0))]).await.unwrap();
    // Background work passes it over as well.
    let filter = EndpointMessageFilter {
        accepted: TimeRange { since: at(0), until: at(2 * DAY) },
        ..EndpointMessageFilter::default()
    };
    for kind in [TaskKind::ReplayMissing, TaskKind::BulkReplay] {
        let scope = TaskScope::Endpoint(app.id, made.id);
        let selection = TaskSelection::Messages(filter.clone());
        let spec = BackgroundSpec { kind, scope, selection, by: "a test".into(), total: None };
        store.start_background(&tenant(), spec, at(2 * DAY)).await.unwrap();
        let mut turn = store.lease_background(at(2 * DAY)).await.unwrap().expect("a turn");
        while let StepResult::More(next) = store.step_background(turn, at(2 * DAY)).await.unwrap() {
            turn = next;
        }
        let sent = resent(store, made.id).await;
        let ids: Vec<MessageId> = sent.iter().map(|one| one.message_id).collect();
        let expected = if kind == TaskKind::BulkReplay { vec![new, missing] } else { vec![missing] };
        assert_eq!(ids, expected, "{kind:?}");
        store.record(sent.iter().map(|one| delivered(app.id, one)).collect::<Vec<_>>()).await.unwrap();
    }
}

async fn an_open_snapshot_holds_up_the_drop_and_nobody_else() {
    let home = home().await;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    accept_at(store, app.id, at(0)).await;
    let mut reader = open_snapshot(&home).await;
    while store.retain(at(2 * DAY), at(3 * DAY)).await.unwrap().more {}
    let begun = partitions(&home).await;
    // Accepting, recording and making partitions go on while the drop waits.
    let drops = tokio::spawn({
        let store = store.clone();
        async move { (store.drop_partitions().await.unwrap(), store.drop_partitions().await.unwrap()) }
    });
    let mut day = 3;
    while !drops.is_finished() || day < 6 {
        let one = async {
            accept_at(store, app.id, at(day * DAY)).await;
            deliver_all(store, app.id, made.id).await;
            store.create_partitions(at(day * DAY)).await.unwrap();
        };
        timeout(Duration::from_secs(4), one).await.expect("not held up");
        day += 1;
    }
    assert_eq!(drops.await.unwrap(), (0, 0));
    assert_eq!(leaving(&home).await, (1, 1), "the first of them is being detached");
    assert!(partitions(&home).await.0 >= begun.0 - 1);
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM message").fetch_one(&mut reader).await.unwrap();
    assert_eq!(seen, 1, "the snapshot sees what it saw");
    reader.execute("COMMIT").await.unwrap();
    assert!(store.drop_partitions().await.unwrap() >= 2);
    assert_eq!(leaving(&home).await, (0, 0));
}

/// It was in flight when its delivery expired, and is recorded while its partition is being detached.
async fn an_attempt_that_comes_too_late_is_no_obstacle() {
    let home = home().await;
    let store = &home.store;
    // Of what is older than this story nothing is left.
    forget(store, at(0), at(0)).await;
    let (app, made) = customer(store, "acme").await;
    accept_at(store, app.id, at(0)).await;
    let late = only_waiting(store, made.id).await;
    accept_at(store, app.id, at(4 * DAY)).await;
    let recent = waiting(store, made.id).await.into_iter().find(|one| *one != late).unwrap();
    let Raw::Postgres(mut reader) = home.connect().await else { panic!("PostgreSQL") };
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM attempt").await.unwrap();
    while store.retain(at(2 * DAY), at(4 * DAY)).await.unwrap().more {}
    assert!(store.drop_partitions().await.unwrap() >= 1, "those of the messages, which the snapshot has not read");
    assert_eq!(leaving(&home).await, (1, 1));
    let leaves = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhdetachpending
         AND pg_get_expr(c.relpartbound, c.oid) < 'FOR VALUES FROM (''";
    let leaves = format!("{leaves}{}'", late.message_id.0);
    assert_eq!(home.number(&leaves).await, 1);
    // However often a process looks: one that has seen the partition, and one that has not.
    for store in [store, &home.another().await] {
        let both = vec![delivered(app.id, &late), delivered(app.id, &recent)];
        let recorded = timeout(Duration::from_secs(4), store.record(both)).await.expect("not held up").unwrap();
        assert_eq!(recorded[0], RecordOutcome::Superseded);
    }
    assert_eq!(rows(&home, "attempt").await, 2, "those of what is not past");
    reader.execute("COMMIT").await.unwrap();
    store.drop_partitions().await.unwrap();
    assert_eq!(leaving(&home).await, (0, 0));
    // Nothing is left of its partition: it gets one, which goes again.
    assert_eq!(store.record(vec![delivered(app.id, &late)]).await.unwrap(), [RecordOutcome::Superseded]);
    assert_eq!(rows(&home, "attempt").await, 3);
    assert!(forget(store, at(2 * DAY), at(4 * DAY)).await >= 1);
    assert_eq!(rows(&home, "attempt").await, 2);
}

async fn a_partition_waits_for_what_is_deleted_in_steps() {
    let home = home().await;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for table in ["message_key", "dead"] {
        let id = accept_at(store, app.id, at(if table == "dead" { 10 * DAY } else { 0 })).await.id;
        deliver_all(store, app.id, made.id).await;
        let app = app.id.0;
        home.execute(&match table {
            "message_key" => format!(
                "INSERT INTO message_key (app_id, event_id, message_id) SELECT '{app}', n::text, '{}' FROM generate_series(1, 5000) AS n", id.0
            ),
            _ => format!(
                "INSERT INTO dead (message_id, endpoint_id, app_id, org, reason, at, attempts, step, generation)
                 SELECT '{}', lpad(n::text, 32, '0')::uuid, '{app}', 'org_default', 'exhausted', 0, 1, 0, 0 FROM generate_series(1, 5000) AS n",
                id.0
            ),
        })
        .await;
        let (cutoff, there) = (
            id.time().plus(Duration::from_secs(2 * DAY)),
            format!("SELECT count(*) FROM message WHERE id = '{}'", id.0),
        );
        assert!(store.retain(cutoff, cutoff).await.unwrap().more);
        store.drop_partitions().await.unwrap();
        assert_eq!((home.number(&there).await, rows(&home, table).await), (1, 1_000), "{table}");
        forget(store, cutoff, cutoff).await;
        assert_eq!((home.number(&there).await, rows(&home, table).await), (0, 0), "{table}");
    }
}

/// The process dies after each of the steps that a drop consists of.
async fn an_interrupted_drop_is_finished() {
    let home = home().await;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for (n, interrupted) in ["noted", "detaching", "detached", "dropped"].into_iter().enumerate() {
        let day = 10 * n as u64 * DAY;
        let id = accept_at(store, app.id, at(day)).await.id;
        deliver_all(store, app.id, made.id).await;
        while store.retain(at(day + 2 * DAY), at(day + 3 * DAY)).await.unwrap().more {}
        let name = String::from_utf8(
            home.bytes(&format!(
                "SELECT convert_to(tableoid::regclass::text, 'UTF8') FROM message WHERE id = '{}'",
                id.0
            ))
            .await,
        )
        .unwrap();
        home.execute(&format!("INSERT INTO leaving_partition VALUES ('{name}')")).await;
        let detach = format!("ALTER TABLE message DETACH PARTITION {name} CONCURRENTLY");
        match interrupted {
            "noted" => {}
            "detaching" => {
                let mut reader = open_snapshot(&home).await;
                let Raw::Postgres(mut connection) = home.connect().await else { panic!("PostgreSQL") };
                connection.execute("SET lock_timeout = '100ms'").await.unwrap();
                connection.execute(sqlx::AssertSqlSafe(detach)).await.unwrap_err();
                reader.execute("COMMIT").await.unwrap();
                reader.close().await.unwrap();
                assert_eq!(leaving(&home).await, (1, 1));
            }
            "detached" | "dropped" => {
                home.execute(&detach).await;
                if interrupted == "dropped" {
                    home.execute(&format!("DROP TABLE {name}")).await;
                }
            }
            _ => unreachable!(),
        }
        store.drop_partitions().await.unwrap();
        assert_eq!(leaving(&home).await, (0, 0), "{interrupted}");
        assert_eq!(
            home.number(&format!("SELECT count(*) FROM pg_class WHERE relname = '{name}'")).await,
            0,
            "{interrupted}"
        );
        assert_eq!(rows(&home, "message").await, 0, "{interrupted}");
    }
}

/// Whatever the retention, and whatever is scheduled for later than it.
async fn there_are_never_many() {
    const MOST: i64 = 32;
    let mut begin = 0;
    for retention in [60, 3_600, DAY, 90 * DAY, 3_650 * DAY / 4] {
        let home = Home::postgres().await;
        let store = &home.store;
        let (app, made) = customer(store, "acme").await;
        store.set_retention(Duration::from_secs(retention));
        let width = sendoff::store::partitions::width(Duration::from_secs(retention)).as_secs();
        let (mut most, mut late) = (0, Vec::new());
        for n in 0..45 {
            let now = at(begin + n * width);
            store.create_partitions(now).await.unwrap();
            accept_at(store, app.id, now).await;
            for one in waiting(store, made.id).await.iter().filter(|one| one.due_at <= now) {
                store.record(vec![delivered(app.id, one)]).await.unwrap();
            }
            if n < 12 {
                late.push(scheduled(store, app.id, now, now.plus(Duration::from_secs(30 * DAY))).await);
            }
            forget(store, now.minus(Duration::from_secs(retention)), now).await;
            let (messages, attempts) = partitions(&home).await;
            most = most.max(messages).max(attempts);
        }
        assert!(most <= MOST, "{most} for a retention of {retention} s");
        let now = at(begin + 45 * width);
        let waits: Vec<MessageId> = waiting(store, made.id).await.iter().map(|one| one.message_id).collect();
        assert_eq!(store.load_messages(&waits).await.unwrap().len(), waits.len(), "what waits has its message");
        if retention <= DAY {
            assert_eq!(waits.len(), late.len(), "what was scheduled still waits");
        }
        deliver_all(store, app.id, made.id).await;
        forget(store, now, now).await;
        begin += 46 * width;
    }
}

/// The role of a store is no superuser, and needs nothing but to own its tables.
async fn an_ordinary_role_makes_and_drops_them() {
    let url = Postgres::shared().fresh_database();
    let role = format!("plain_{}", std::process::id());
    let database = url.rsplit('/').next().unwrap();
    let sql = format!("CREATE ROLE {role} LOGIN PASSWORD 'plain'; GRANT CREATE ON DATABASE {database} TO {role}");
    Postgres::shared().execute(&sql);
    let mut plain: url::Url = url.parse().unwrap();
    plain.set_username(&role).unwrap();
    plain.set_password(Some("plain")).unwrap();
    let home = Home::at(plain.as_str()).await;
    let store = &home.store;
    store.set_retention(Duration::from_secs(20 * DAY));
    let (app, made) = customer(store, "acme").await;
    for day in 0..8 {
        accept_at(store, app.id, at(day * DAY)).await;
        store.create_partitions(at(day * DAY)).await.unwrap();
    }
    for day in 0..5 {
        scheduled(store, app.id, at(8 * DAY + day * DAY), at(30 * DAY)).await;
    }
    deliver_all(store, app.id, made.id).await;
    assert!(forget(store, at(8 * DAY), at(8 * DAY)).await > 8);
    assert_eq!(store.analyze_partitions().await.unwrap(), 0);
    Postgres::shared().execute(&format!("ALTER ROLE {role} NOLOGIN"));
}

/// Merging what stays needs a lock that everybody would wait behind: behind an open snapshot it is left for later.
async fn partitions_that_stay_are_merged_when_nobody_is_held_up() {
    let home = home().await;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let mut late = Vec::new();
    for day in 0..6 {
        late.push(scheduled(store, app.id, at(day * DAY), at(29 * DAY)).await);
    }
    accept_at(store, app.id, at(7 * DAY)).await;
    forget(store, at(0), at(7 * DAY)).await;
    let mut reader = open_snapshot(&home).await;
    while store.retain(at(7 * DAY), at(7 * DAY)).await.unwrap().more {}
    let before = partitions(&home).await;
    let merging = tokio::spawn({
        let store = store.clone();
        async move { store.drop_partitions().await.unwrap() }
    });
    while !merging.is_finished() {
        timeout(Duration::from_secs(2), accept_at(store, app.id, at(7 * DAY))).await.expect("not held up");
    }
    merging.await.unwrap();
    assert!(partitions(&home).await.0 >= before.0, "nothing is merged under a snapshot");
    reader.execute("COMMIT").await.unwrap();
    for _ in 0..6 {
        forget(store, at(7 * DAY), at(7 * DAY)).await;
    }
    assert_eq!(partitions(&home).await.0, before.0 - 3, "three of the six stay");
    assert_eq!(store.load_messages(&late).await.unwrap().len(), 6);
    deliver_all(store, app.id, made.id).await;
    forget(store, at(7 * DAY), at(7 * DAY)).await;
    assert!(store.load_messages(&late).await.unwrap().is_empty());
}
