//! What is older than the retention goes, step by step, with all that hangs on it, and nothing else.

use sendoff::domain::Time;
use sendoff::domain::deliveries::delivery::Transition;
use sendoff::store::maintenance::retention::RetentionStep;

use crate::home::*;
use crate::support::on_both_alone;

/// On the day after the customers are created.
fn at(seconds: u64) -> Time {
    later(86_400 + seconds)
}

on_both_alone! {
    old_messages_are_deleted_in_steps_with_their_data
    no_step_deletes_more_than_a_few_thousand_rows
    scheduled_messages_are_kept_until_they_are_sent
    expired_deliveries_are_reported
}

async fn old_messages_are_deleted_in_steps_with_their_data(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for second in 0..121u64 {
        // Within a batch ids are made in the order of the queue.
        let offers = (0..10u64).map(|n| {
            let mut one = item(app.id);
            one.spec.event_id = Some(uid(&format!("event-{second}-{n}")));
            one.at = at(second);
            store.accept(one)
        });
        for offered in futures_util::future::join_all(offers).await {
            offered.unwrap().unwrap();
        }
    }
    let all: Vec<_> = { store.pending_deliveries(&[wants(store, made.id, 5_000, 1).await]).await.unwrap() };
    assert_eq!(all.len(), 1_210);
    let done = all.iter().map(|one| {
        let mut done = finished(app.id, one, answered(200), Transition::Delivered);
        done.attempt.at = one.due_at;
        done
    });
    store.record(done.collect::<Vec<_>>()).await.unwrap();

    let mut steps = Vec::new();
    while steps.last().is_none_or(|last: &RetentionStep| last.more) {
        steps.push(store.expire(at(120), at(120)).await.unwrap());
    }
    let messages: Vec<u64> = steps.iter().map(|step| step.messages).collect();
    assert_eq!(messages, [500, 500, 200]);
    assert_eq!(steps.iter().map(|step| step.rows).sum::<u64>(), 3 * 1_200, "messages, keys, attempts");
    for table in ["message", "delivery", "attempt", "message_key"] {
        let left = home.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(left, 10, "{table}: what was accepted at the cutoff");
    }
    let mut again = item(app.id);
    (again.spec.event_id, again.at) = (Some(uid("event-1-1")), at(200));
    assert!(offer(store, again).await.is_ok(), "its id is free again");
    let mut again = item(app.id);
    (again.spec.event_id, again.at) = (Some(uid("event-120-1")), at(200));
    assert!(offer(store, again).await.is_err(), "this one is still there");
}

/// However rows are spread over messages, a step deletes a bounded number of them.
async fn no_step_deletes_more_than_a_few_thousand_rows(home: Home) {
    const MOST: u64 = 3 * 4_000 + 2 * 500;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let literal = |id: uuid::Uuid| match home.is_sqlite() {
        true => format!("x'{}'", id.simple()),
        false => format!("CAST('{id}' AS uuid)"),
    };
    let from = |rows: u64| match home.is_sqlite() {
        true => format!(
            "(WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {rows}) SELECT i FROM s) AS n"
        ),
        false => format!("generate_series(1, {rows}) AS n (i)"),
    };
    let id = |kind: u32, n: &str| match home.is_sqlite() {
        true => format!("unhex(printf('%012x7{kind:03x}8%015x', {}, {n}))", at(0).millis()),
        false => format!(
            "CAST(lpad(to_hex(CAST({} AS bigint)), 12, '0') || '7{kind:03x}8' || lpad(to_hex({n}), 15, '0') AS uuid)",
            at(0).millis()
        ),
    };
    let (app, made, time, empty) = (literal(app.id.0), literal(made.id.0), at(0).micros(), home.either("x''", "''"));
    let message = |id: &str, rows: u64| {
        format!(
            "INSERT INTO message (id, app_id, org, event_type, deliveries, occurred_at, accepted_at)
             SELECT {id}, {app}, 'org_default', 'a', 1, {time}, {time} FROM {}",
            from(rows)
        )
    };
    let attempt = |message: &str, endpoint: &str, number: u32, rows: u64| {
        format!("INSERT INTO attempt (id, message_id, endpoint_id, app_id, org, number, generation, trigger, at, url, request_headers,
                 detail, duration_us, response_headers, response_body)
             SELECT {}, {message}, {endpoint}, {app}, 'org_default', {number}, 0, 0, {time}, '', '', '', 0, '', {empty} FROM {}",
            id(100 + number, "i"), from(rows))
    };
    let one = id(2, "1");
    let left = |kind: u32, table: &str, columns: &str, values: &str, rows: u64| {
        format!(
            "INSERT INTO {table} (message_id, endpoint_id, app_id, attempts, step, generation, {columns})
             SELECT {one}, {}, {app}, 3, 0, 0, {values} FROM {}",
            id(kind, "i"),
            from(rows)
        )
    };
    for sql in [
        // Fan-out 1.
        message(&id(1, "i"), 1_200),
        attempt(&id(1, "i"), &made, 1, 1_200),
        "INSERT INTO message_key (app_id, event_id, message_id)
             SELECT app_id, 'key-' || row_number() OVER (ORDER BY id), id FROM message"
            .to_owned(),
        "INSERT INTO edited_copy (message_id, copy_id) SELECT id, id FROM message".to_owned(),
        // One message to many endpoints: 3,000 with three attempts each, 5,000 that wait, and 5,000 that are dead.
        message(&one, 1),
        attempt(&one, &id(3, "i"), 1, 3_000),
        attempt(&one, &id(3, "i"), 2, 3_000),
        attempt(&one, &id(3, "i"), 3, 3_000),
        left(4, "due", "slot, kind, due_at, trigger", &format!("0, 1, {time}, 0"), 5_000),
        left(5, "dead", "org, reason, at", &format!("'org_default', 'exhausted', {time}"), 5_000),
    ] {
        home.execute(&sql).await;
    }
    let mut steps = Vec::new();
    while steps.last().is_none_or(|last: &RetentionStep| last.more) {
        steps.push(store.expire(at(10), at(10)).await.unwrap());
    }
    let rows: Vec<u64> = steps.iter().map(|step| step.rows).collect();
    assert!(rows.iter().all(|rows| *rows <= MOST), "rows deleted in each step: {rows:?}");
    for table in ["message", "message_key", "edited_copy", "due", "dead", "attempt"] {
        assert_eq!(home.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}

/// A message may be scheduled for later than its retention: what still waits is not old.
async fn scheduled_messages_are_kept_until_they_are_sent(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let scheduled = async |n: u64, deliver_at| {
        let mut one = item(app.id);
        (one.spec.event_id, one.spec.deliver_at, one.at) = (Some(uid(&format!("ev-{n}"))), Some(deliver_at), at(0));
        offer(store, one).await.unwrap().id
    };
    let (ahead, past) = (scheduled(1, at(1_000)).await, scheduled(2, at(1)).await);
    let mut usual = item(app.id);
    usual.at = at(1);
    let usual = offer(store, usual).await.unwrap().id;
    let left = async |cutoff| {
        while store.expire(cutoff, cutoff).await.unwrap().more {}
        let mut left = Vec::new();
        for id in [ahead, past, usual] {
            left.push(store.message(&tenant(), app.id, &id.into()).await.unwrap().is_some());
        }
        left
    };
    assert_eq!(left(at(100)).await, [true, false, false]);
    for table in ["message", "message_key", "delivery"] {
        assert_eq!(home.number(&format!("SELECT count(*) FROM {table}")).await, 1, "{table}");
    }
    let one = only_waiting(store, made.id).await;
    store.record(vec![finished(app.id, &one, answered(500), retry(100_000_000, 1))]).await.unwrap();
    assert!(left(at(100)).await[0], "its retries too");
    assert!(!left(at(1_001)).await[0], "but not for ever");
    for table in ["message", "message_key", "delivery", "attempt"] {
        assert_eq!(home.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}

/// What is still pending when it is too old is gone: that is told, once for each delivery.
async fn expired_deliveries_are_reported(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let paused = endpoint(store, app.id, endpoint_spec()).await.id;
    let house = store.ensure_operational_application(&tenant(), NOW).await.unwrap().id;
    let ears = endpoint(store, house, endpoint_spec()).await.id;
    let mut own = item(app.id);
    (own.spec.event_id, own.at) = (Some(uid("invoice-7")), at(0));
    let message = offer(store, own).await.unwrap().id;
    let well = waiting(store, made.id).await.remove(0);
    store.record(vec![finished(app.id, &well, answered(200), Transition::Delivered)]).await.unwrap();
    assert_eq!(store.expire(at(0), at(1)).await.unwrap(), RetentionStep::default());
    assert!(waiting(store, ears).await.is_empty(), "not too old yet");
    while store.expire(at(10), at(20)).await.unwrap().more {}
    assert!(waiting(store, paused).await.is_empty(), "it is gone");
    let told = only_waiting(store, ears).await.message_id;
    let told = store.load_messages(&[told]).await.unwrap().remove(0);
    let payload: serde_json::Value = serde_json::from_slice(&told.payload.unwrap()).unwrap();
    let data = serde_json::json!({"appId": app.id.to_string(), "appUid": "acme", "endpointId": paused.to_string(),
                      "msgId": message.to_string(), "msgEventId": "invoice-7", "attempts": 0});
    assert_eq!(payload, serde_json::json!({"type": "message.expired", "data": data}));
    // A delivery of an operational event itself goes without a word.
    while store.expire(at(100), at(120)).await.unwrap().more {}
    assert_eq!(home.number("SELECT count(*) FROM message").await, 0);
}
