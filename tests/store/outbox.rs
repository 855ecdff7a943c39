//! The outbox: a table that takes whatever is put into it, and a relay that makes of it what it can and says what it cannot.

use std::time::Duration;

use sendoff::domain::Time;
use sendoff::store::ingest::outbox::outbox_actions::{OutboxAction, OutboxActionResult, StuckKey};
use sendoff::store::ingest::outbox::relay_activity::RelayActivity;
use sendoff::store::ingest::outbox::relay_batch_size::{RelayBatchSize, RelayStep};
use sendoff::store::ingest::outbox::{OutboxDepth, RelayReport, RelayRequest};
use sendoff::store::{MessageRef, Store, StoreError};

use crate::home::*;
use crate::support::on_both;

/// How many endpoints an application has whose fan-out is wide.
const FAN_OUT: usize = 250;

fn request(now: Time) -> RelayRequest {
    RelayRequest { limit: 100, now }
}

async fn relay(store: &Store, now: Time) -> RelayReport {
    store.relay(request(now)).await.expect("the store")
}

async fn depth(store: &Store) -> (i64, i64) {
    let OutboxDepth { waiting, stuck } = store.outbox_depth().await.expect("the store");
    (waiting, stuck)
}

/// The reasons why rows are stuck, oldest first.
async fn reasons(store: &Store) -> Vec<String> {
    store.outbox_stuck(1_000).await.expect("the store").into_iter().map(|row| row.stuck_reason).collect()
}

on_both! {
    a_row_becomes_a_message_byte_for_byte
    a_wide_fan_out_is_relayed_in_bounded_steps
    nothing_that_is_inserted_is_refused_or_lost
    a_row_that_cannot_be_routed_says_why
    a_stuck_row_goes_through_once_the_cause_is_gone
    people_retry_change_and_discard_stuck_rows
    rows_belong_to_the_organization_of_their_application
    the_relay_tells_what_it_did_in_the_last_hour
    a_setting_that_changed_lets_rows_through
    a_repeat_is_deleted_and_counted
    the_store_itself_may_refuse_a_row
    a_row_that_makes_every_step_fail_holds_up_no_other
    a_step_takes_no_more_than_it_can_hold
}

async fn a_row_becomes_a_message_byte_for_byte(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    assert!(!store.outbox_has_work(NOW).await.unwrap());
    home.execute(&format!(
        "INSERT INTO outbox (application, event_type, payload, event_id, channels, occurred_at) VALUES
         ('acme', 'invoice.paid', ' {{\"a\" : 1.0,\n \"☂\": \"''\"}} ', 'event-1', '[\"x\", \"y\"]', '2026-11-22 12:00:00+00'),
         ('{}', 'a', '{{}}', '', NULL, NULL)",
        app.id
    )).await;
    assert!(store.outbox_has_work(NOW).await.unwrap());
    assert_eq!(depth(store).await, (2, 0));
    assert_eq!(relay(store, NOW).await, RelayReport { accepted: 2, duplicates: 0, ..RelayReport::default() });
    assert_eq!((depth(store).await, store.outbox_has_work(NOW).await.unwrap()), ((0, 0), false));
    let found = store.message(&tenant(), app.id, &MessageRef::Uid(uid("event-1"))).await.unwrap().unwrap();
    assert_eq!(found.payload.as_deref(), Some(" {\"a\" : 1.0,\n \"☂\": \"'\"} ".as_bytes()));
    assert_eq!((found.event_type.as_str(), found.channels), ("invoice.paid", strings(&["x", "y"])));
    assert_eq!((found.occurred_at, found.accepted_at), (Time::parse("2026-11-22T12:00:00Z").unwrap(), NOW));
    let waiting = waiting(store, made.id).await;
    assert_eq!(waiting.len(), 2);
    let second = store.message(&tenant(), app.id, &waiting[1].message_id.into()).await.unwrap().unwrap();
    assert_eq!((second.event_id, second.channels, second.occurred_at), (None, vec![], NOW));
}

/// One transaction is bounded in deliveries, not in rows of the outbox.
async fn a_wide_fan_out_is_relayed_in_bounded_steps(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    for _ in 0..FAN_OUT {
        endpoint(store, app.id, endpoint_spec()).await;
    }
    let row = "INSERT INTO outbox (application, event_type, payload) VALUES ('acme', 'wide', '{}')";
    for _ in 0..100 {
        home.execute(row).await;
    }
    let mut steps = Vec::new();
    while store.outbox_has_work(NOW).await.unwrap() {
        let before = store.pending_count(1_000_000).await.unwrap();
        let step = relay(store, NOW).await;
        let written = store.pending_count(1_000_000).await.unwrap() - before;
        assert_eq!(written, (step.accepted * FAN_OUT) as i64);
        assert!(written + step.accepted as i64 <= 20_000, "{written} deliveries in one transaction");
        assert!(step.accepted > 0 && step.stuck.is_empty(), "{step:?}");
        steps.push((step.accepted, step.left));
    }
    assert_eq!(steps.iter().map(|(accepted, _)| accepted).sum::<usize>(), 100);
    assert!(steps.len() > 1 && steps[0].1 == 100 - steps[0].0, "{steps:?}");
}

async fn nothing_that_is_inserted_is_refused_or_lost(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let megabyte = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    let long = "n".repeat(100_000);
    let mut inserts = vec![
        "INSERT INTO outbox (application) VALUES (NULL)".to_owned(),
        "INSERT INTO outbox DEFAULT VALUES".to_owned(),
        "INSERT INTO outbox VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)".to_owned(),
        "INSERT INTO outbox (id, application) VALUES (7, 'x'), (7, 'x'), (7, 'x')".to_owned(),
        format!("INSERT INTO outbox (application, event_type, payload) VALUES ('acme', 'a', '{megabyte}')"),
        format!(
            "INSERT INTO outbox (application, event_type, payload, event_id, channels, occurred_at)
                 VALUES ('{long}', '{long}', '{long}', '{long}', '{long}', '{long}')"
        ),
        "INSERT INTO outbox (application, event_type, payload, stuck_reason) VALUES ('acme', 'a', '{}', 'mine')"
            .to_owned(),
    ];
    if home.is_sqlite() {
        // Whatever a column says, SQLite keeps what it is given.
        inserts.extend([
            "INSERT INTO outbox VALUES (x'00', x'ff', 1, 2.5, x'80', 3, 4, 'soon', 5, 'never')".to_owned(),
            "INSERT INTO outbox (id) VALUES ('seven')".to_owned(),
            "INSERT INTO outbox (application, event_type, payload) VALUES ('acme' || char(0) || 'x', 'a', '{}')"
                .to_owned(),
            "INSERT INTO outbox (application, event_type, payload) VALUES ('acme', 'a', '{}' || char(0))".to_owned(),
            "INSERT INTO outbox (application, event_type, payload) VALUES ('acme', 'a', x'7b2261223a22ff227d')"
                .to_owned(),
        ]);
    }
    for insert in &inserts {
        home.execute(insert).await;
    }
    let rows = home.number("SELECT count(*) FROM outbox").await;
    let relayed = relay(store, NOW).await;
    assert_eq!((relayed.accepted, relayed.duplicates, relayed.rows() as i64), (1, 0, rows), "{relayed:?}");
    assert_eq!(depth(store).await, (0, rows - 1));
    assert_eq!(relay(store, NOW).await.rows(), 0, "each is looked at once");
    assert_eq!(store.outbox_stuck(1_000).await.unwrap().len() as i64, rows - 1);
    assert_eq!(home.number("SELECT count(*) FROM message").await, 1);
    assert_eq!(app.name, "acme");
}

async fn a_row_that_cannot_be_routed_says_why(home: Home) {
    let store = &home.store;
    let (app, _) = customer(store, "acme").await;
    let too_large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_PAYLOAD));
    let rows: Vec<(String, &str)> = vec![
        ("'nobody', 'a', '{}', NULL, NULL, NULL".into(), "there is no application nobody"),
        ("NULL, 'a', '{}', NULL, NULL, NULL".into(), "application: is missing"),
        ("'', 'a', '{}', NULL, NULL, NULL".into(), "application: is missing"),
        ("'a b', 'a', '{}', NULL, NULL, NULL".into(), "application: may only contain"),
        ("'acme', NULL, '{}', NULL, NULL, NULL".into(), "event_type: is missing"),
        ("'acme', 'a b', '{}', NULL, NULL, NULL".into(), "eventType: may only contain"),
        ("'acme', 'a', NULL, NULL, NULL, NULL".into(), "payload: is missing"),
        ("'acme', 'a', '', NULL, NULL, NULL".into(), "payload: must be a JSON object"),
        ("'acme', 'a', '[]', NULL, NULL, NULL".into(), "payload: must be a JSON object"),
        ("'acme', 'a', '{\"a\":}', NULL, NULL, NULL".into(), "payload: must be a JSON object"),
        (format!("'acme', 'a', '{too_large}', NULL, NULL, NULL"), "SENDOFF_MAX_PAYLOAD"),
        ("'acme', 'a', '{}', 'msg_1', NULL, NULL".into(), "event_id: must not begin with msg_"),
        ("'acme', 'a', '{}', NULL, 'a,b,c,d,e,f,g,h,i,j,k', NULL".into(), "channels: may have at most 10 entries"),
        ("'acme', 'a', '{}', NULL, '{\"a\":1}', NULL".into(), "channels: may only contain"),
        ("'acme', 'a', '{}', NULL, NULL, 'noon'".into(), "occurred_at: expected an RFC 3339 time"),
    ];
    let mut expected: Vec<&str> = rows.iter().map(|(_, reason)| *reason).collect();
    for (values, _) in &rows {
        home.execute(&format!(
            "INSERT INTO outbox (application, event_type, payload, event_id, channels, occurred_at) VALUES ({values})"
        ))
        .await;
    }
    if home.is_sqlite() {
        for (values, reason) in [
            ("x'ff', 'a', '{}'", "application: is not UTF-8"),
            ("'acme', x'61ff', '{}'", "event_type: is not UTF-8"),
            ("'acme', 'a', x'7b2261223a22ff227d'", "payload: must be a JSON object in UTF-8"),
            ("'acme' || char(0) || 'x', 'a', '{}'", "application: may only contain"),
        ] {
            home.execute(&format!("INSERT INTO outbox (application, event_type, payload) VALUES ({values})")).await;
            expected.push(reason);
        }
    }
    let relayed = relay(store, NOW).await;
    assert_eq!((relayed.accepted, relayed.stuck.len()), (0, expected.len()));
    let found = store.outbox_stuck(1_000).await.unwrap();
    assert_eq!(found.len(), expected.len());
    for (row, reason) in found.iter().zip(&expected) {
        assert!(row.stuck_reason.contains(reason), "{:?} should say {reason:?}", row.stuck_reason);
        assert_eq!((row.stuck_since, row.look_at), (NOW, later(5)));
    }
    assert_eq!((found[0].application.as_deref(), found[0].event_type.as_deref()), (Some("nobody"), Some("a")));
    assert_eq!(home.number("SELECT count(*) FROM message").await, 0);
    assert!(store.application(&tenant(), &app.id.into()).await.unwrap().is_some());
}

async fn a_stuck_row_goes_through_once_the_cause_is_gone(home: Home) {
    let store = &home.store;
    let row = "INSERT INTO outbox (application, event_type, payload) VALUES ('late', 'a', '{}')";
    home.execute(row).await;
    home.execute(&row.replace("late", "never")).await;
    assert_eq!(relay(store, NOW).await.stuck.len(), 2);
    assert_eq!(relay(store, later(4)).await.rows(), 0, "not before its time");
    // Looked at again after as long as it has been stuck, 5 s to 10 min.
    let mut at = NOW;
    for wait in [5, 5, 10, 20, 40, 80, 160, 320, 600, 600] {
        at = at.plus(Duration::from_secs(wait));
        assert!(!store.outbox_has_work(at.minus(Duration::from_micros(1))).await.unwrap(), "{wait}");
        assert_eq!(relay(store, at).await.stuck.len(), 2, "{wait}");
    }
    application(store, "late").await;
    assert!(store.outbox_has_work(at).await.unwrap(), "its application came: at once");
    assert_eq!(relay(store, at).await, RelayReport { accepted: 1, duplicates: 0, ..RelayReport::default() });

    home.execute(row).await;
    assert_eq!(relay(store, at).await.accepted, 1);
    let renamed = application(store, "other").await;
    changed_app(store, &tenant(), renamed.id, app_spec("never"), NOW).await.unwrap();
    assert_eq!(relay(store, at).await.accepted, 1, "or an application of its name");
    assert_eq!(depth(store).await, (0, 0));
}

async fn people_retry_change_and_discard_stuck_rows(home: Home) {
    let store = &home.store;
    for name in ["late", "wrong", "nobody"] {
        home.execute(&format!("INSERT INTO outbox (application, event_type, payload) VALUES ('{name}', 'a', '{{}}')"))
            .await;
    }
    assert_eq!(relay(store, NOW).await.stuck.len(), 3);
    let rows = store.outbox_stuck(9).await.unwrap();
    let key = |name: &str| {
        let row = rows.iter().find(|row| row.application.as_deref() == Some(name)).unwrap();
        StuckKey { id: row.id, since: row.stuck_since }
    };
    let one = store.outbox_stuck_row(key("wrong")).await.unwrap();
    assert_eq!(one.and_then(|row| row.application).as_deref(), Some("wrong"));
    assert!(store.outbox_stuck_row(StuckKey { since: later(1), ..key("wrong") }).await.unwrap().is_none());
    let act = async |key, what| store.act_on_outbox(&tenant().org, key, &what, NOW).await.unwrap();
    application(store, "acme").await;
    let change = OutboxAction::Change { application: "acme".into(), event_type: "b".into() };
    assert_eq!(act(key("wrong"), change).await, OutboxActionResult::Done);
    assert_eq!(act(key("nobody"), OutboxAction::Discard).await, OutboxActionResult::Done);
    assert_eq!(act(key("nobody"), OutboxAction::Discard).await, OutboxActionResult::Gone);
    let another = StuckKey { since: later(1), ..key("late") };
    assert_eq!(
        act(another, OutboxAction::Retry).await,
        OutboxActionResult::Gone,
        "it has been stuck since another time"
    );
    assert_eq!(act(key("late"), OutboxAction::Retry).await, OutboxActionResult::Done);
    let relayed = relay(store, NOW).await;
    assert_eq!(
        (relayed.accepted, relayed.stuck.len()),
        (1, 1),
        "the one that is right now, and the one that is tried again"
    );
    assert_eq!(depth(store).await, (0, 1));
    assert_eq!(home.number("SELECT count(*) FROM message WHERE event_type = 'b'").await, 1);
}

async fn rows_belong_to_the_organization_of_their_application(home: Home) {
    let store = &home.store;
    let acme = application(store, "acme").await;
    for tenant in [tenant(), stranger()] {
        store.create_application(&tenant, app_spec("both"), NOW).await.unwrap();
    }
    let id = acme.id.to_string();
    let owners = store.outbox_owners(&[Some("acme"), Some(&id), Some("both"), Some("nobody"), None]).await.unwrap();
    let own = Some(tenant().org);
    assert_eq!(owners, [own.clone(), own, None, None, None]);
}

async fn the_relay_tells_what_it_did_in_the_last_hour(home: Home) {
    let store = &home.store;
    application(store, "acme").await;
    let activity = async |at| {
        let RelayActivity { last_hour, last } = store.relay_activity(at).await.unwrap();
        (last_hour, last)
    };
    assert_eq!(activity(NOW).await, (0, None));
    let row = "INSERT INTO outbox (application, event_type, payload) VALUES ('acme', 'a', '{}')";
    for (at, rows) in [(NOW, 2), (later(1_800), 1)] {
        for _ in 0..rows {
            home.execute(row).await;
        }
        assert_eq!(relay(store, at).await.accepted, rows);
    }
    home.execute(&row.replace("acme", "nobody")).await;
    assert_eq!(relay(store, later(1_900)).await.accepted, 0);
    assert_eq!(activity(later(1_900)).await, (3, Some(later(1_800))), "a stuck row became no message");
    assert_eq!(activity(later(4_000)).await, (1, Some(later(1_800))));
    assert_eq!(activity(later(9_000)).await, (0, Some(later(1_800))));
}

async fn a_setting_that_changed_lets_rows_through(home: Home) {
    let store = &home.store;
    application(store, "acme").await;
    let payload = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_PAYLOAD));
    home.execute(&format!("INSERT INTO outbox (application, event_type, payload) VALUES ('acme', 'a', '{payload}')"))
        .await;
    assert_eq!(relay(store, NOW).await.stuck.len(), 1);
    let options = sendoff::store::StoreOptions {
        location: home.location.clone(),
        master: home.master.clone(),
        max_payload: 1 << 20,
        queue: 10,
        wide: sendoff::store::WIDE,
    };
    let restarted = Store::open(options).await.unwrap();
    assert_eq!(relay(&restarted, later(1)).await.rows(), 0);
    restarted.outbox_retry_all().await.unwrap();
    assert_eq!(relay(&restarted, later(1)).await.accepted, 1);
}

async fn a_repeat_is_deleted_and_counted(home: Home) {
    let store = &home.store;
    application(store, "acme").await;
    let row = "INSERT INTO outbox (application, event_type, payload, event_id) VALUES ('acme', 'a', '{}', 'one')";
    for _ in 0..3 {
        home.execute(row).await;
    }
    assert_eq!(relay(store, NOW).await, RelayReport { accepted: 1, duplicates: 2, ..RelayReport::default() });
    home.execute(row).await;
    assert_eq!(relay(store, NOW).await, RelayReport { accepted: 0, duplicates: 1, ..RelayReport::default() });
    assert_eq!(depth(store).await, (0, 0));
    store.create_application(&stranger(), app_spec("acme"), NOW).await.unwrap();
    home.execute(row).await;
    let relayed = relay(store, NOW).await;
    assert!(relayed.stuck[0].1.contains("several organizations"), "{relayed:?}");
}

async fn the_store_itself_may_refuse_a_row(home: Home) {
    let store = &home.store;
    application(store, "acme").await;
    home.execute(
        "INSERT INTO outbox (application, event_type, payload) VALUES ('acme', 'a', '{}'), ('acme', 'b', '{}')",
    )
    .await;
    store.mark_first_row_stuck(NOW, "too heavy").await.unwrap();
    assert_eq!(reasons(store).await, ["the database rejected it: too heavy"]);
    assert_eq!(relay(store, NOW).await.accepted, 1, "the others go on");
}

async fn a_row_that_makes_every_step_fail_holds_up_no_other(home: Home) {
    let store = &home.store;
    let broken = application(store, "broken").await.id;
    application(store, "acme").await;
    // The database fails without a word about the value, as it does when a statement takes too long.
    home.execute(&match home.is_sqlite() {
        true => format!(
            "CREATE TRIGGER fails BEFORE INSERT ON message WHEN NEW.app_id = x'{}'
             BEGIN SELECT json(NEW.event_type); END",
            broken.0.simple()
        ),
        false => format!(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
             CREATE TRIGGER fails BEFORE INSERT ON message FOR EACH ROW WHEN (NEW.app_id = '{}')
             EXECUTE FUNCTION fail()",
            broken.0
        ),
    })
    .await;
    for application in ["acme", "broken", "acme", "acme"] {
        home.execute(&format!(
            "INSERT INTO outbox (application, event_type, payload) VALUES ('{application}', 'a', '{{}}')"
        ))
        .await;
    }
    let (mut pace, mut accepted, mut failures) = (RelayBatchSize::default(), 0, 0);
    for _ in 0..20 {
        match store.relay_next(&mut pace, NOW).await {
            Ok(RelayStep::Relayed(relayed)) => accepted += relayed.accepted,
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
                failures += 1;
            }
        }
    }
    assert_eq!((accepted, depth(store).await), (3, (0, 1)), "after {failures} failures");
    assert!(failures >= 5, "a failure that may pass is waited for: {failures}");
    home.execute(home.either("DROP TRIGGER fails", "DROP TRIGGER fails ON message")).await;
    let Ok(RelayStep::Relayed(relayed)) = store.relay_next(&mut pace, later(5)).await else {
        panic!("it is tried again")
    };
    assert_eq!((relayed.accepted, depth(store).await), (1, (0, 0)));
}

async fn a_step_takes_no_more_than_it_can_hold(home: Home) {
    let store = &home.store;
    application(store, "acme").await;
    let payload = format!("{{\"a\":\"{}\"}}", "x".repeat(200 * 1024));
    for _ in 0..5 {
        let values = vec![format!("('acme', 'a', '{payload}')"); 20].join(", ");
        home.execute(&format!("INSERT INTO outbox (application, event_type, payload) VALUES {values}")).await;
    }
    let mut steps = Vec::new();
    while steps.last() != Some(&0) {
        steps.push(relay(store, NOW).await.accepted);
    }
    assert_eq!(steps, [40, 40, 20, 0], "8 MiB at a time");
    home.execute(&format!(
        "INSERT INTO outbox (application, event_type, payload) VALUES {}",
        vec!["('acme', 'a', '{}')"; 30].join(", ")
    ))
    .await;
    assert_eq!(store.relay(RelayRequest { limit: 7, now: NOW }).await.unwrap().accepted, 7);
    assert_eq!(relay(store, NOW).await.accepted, 23);
}

/// PostgreSQL: a writer needs INSERT on the outbox and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_needs_one_grant() {
    let home = Home::postgres().await;
    application(&home.store, "acme").await;
    let role = format!("writer_{}", std::process::id());
    home.execute(&format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA sendoff TO {role}; GRANT INSERT ON outbox TO {role}"
    ))
    .await;
    let insert = "INSERT INTO sendoff.outbox (application, event_type, payload) VALUES ('acme', 'a', '{}')";
    home.execute(&format!("SET ROLE {role}; {insert}")).await;
    for refused in
        ["SELECT * FROM sendoff.outbox", "DELETE FROM sendoff.outbox", "SELECT * FROM sendoff.endpoint_secret"]
    {
        assert!(home.try_execute(&format!("SET ROLE {role}; {refused}")).await.is_err(), "{refused}");
    }
    assert_eq!(relay(&home.store, NOW).await.accepted, 1);
    home.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
