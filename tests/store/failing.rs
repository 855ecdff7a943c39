//! Endpoints that do nothing but fail: warned of, then disabled; each told once per streak, in the transaction that notes it. And what a
//! delivery's death is told and counted as.

use std::time::Duration;

use sendoff::domain::access::audit::ActorKind;
use sendoff::domain::catalog::endpoint::{DisabledReason, EndpointSpec};
use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::domain::{AppId, EndpointId, Time};
use sendoff::store::Store;
use sendoff::store::access::audit::AuditFilter;
use sendoff::store::recording::failing_endpoints::FailingReport;
use sendoff::store::recording::record::RecordOutcome;
use serde_json::json;

use crate::home::*;
use crate::operational::{allow, kinds, listener, payload, refuse, told};
use crate::support::on_both;

const HOUR: u64 = 3_600;
const FIVE_DAYS: Duration = Duration::from_secs(5 * 24 * HOUR);

/// So many hours after the stories' beginning, which lies back: ids only grow, and other stories are told in the same process.
pub fn hour(hours: u64) -> Time {
    NOW.minus(Duration::from_secs(10 * 24 * HOUR)).plus(Duration::from_secs(hours * HOUR))
}

/// A new message for the application's endpoints is tried at one of them at that hour, and comes to this.
pub async fn attempt(store: &Store, app: AppId, endpoint: EndpointId, status: u16, at: u64) {
    accept(store, app).await;
    let one = waiting(store, endpoint).await.remove(0);
    let next = if status == 200 { Transition::Delivered } else { Transition::Dead(DeadReason::Exhausted) };
    let mut done = finished(app, &one, answered(status), next);
    done.attempt.at = hour(at);
    assert_eq!(store.record(vec![done]).await.unwrap(), [RecordOutcome::Applied]);
}

pub async fn judge(store: &Store, at: u64) -> FailingReport {
    store.check_failing_endpoints(FIVE_DAYS, hour(at)).await.unwrap()
}

fn warned(endpoint: EndpointId, number: i16) -> FailingReport {
    FailingReport { warned: vec![(endpoint, number)], ..FailingReport::default() }
}

fn disabled(endpoint: EndpointId) -> FailingReport {
    FailingReport { disabled: vec![endpoint], ..FailingReport::default() }
}

/// An application whose endpoint has failed since hour 0, and again at `last`.
pub async fn failing(store: &Store, uid_text: &str, last: u64) -> (AppId, EndpointId) {
    let (app, made) = customer(store, uid_text).await;
    for at in [0, last] {
        attempt(store, app.id, made.id, 503, at).await;
    }
    (app.id, made.id)
}

async fn is_disabled(store: &Store, app: AppId, id: EndpointId) -> Option<DisabledReason> {
    store.endpoint(&tenant(), app, &id.into()).await.unwrap().unwrap().disabled_reason
}

on_both! {
    a_streak_is_warned_of_twice_and_then_ends
    time_alone_neither_warns_nor_disables
    one_delivery_begins_anew
    enabling_begins_anew
    warnings_that_would_come_too_late_are_left_out
    two_processes_warn_and_disable_once
    all_of_it_is_noted_or_nothing
    more_than_fit_into_one_transaction_come_with_the_next
    idle_endpoints_do_not_delay_others
    automatic_disabling_is_audited
    an_operational_endpoint_is_disabled_without_an_event
    expired_contents_are_reported_and_deleted_ones_are_not
    the_dead_of_a_day_are_read_from_the_counts
}

async fn a_streak_is_warned_of_twice_and_then_ends(home: Home) {
    let store = &home.store;
    let (app, id) = failing(store, "acme", 1).await;
    let ears = listener(
        store,
        EndpointSpec { event_types: Some(strings(&["endpoint.failing", "endpoint.disabled"])), ..endpoint_spec() },
    )
    .await;
    let nothing = FailingReport::default();
    for (at, expected) in [
        (23, nothing.clone()),
        (24, warned(id, 1)),
        (25, nothing.clone()),
        (71, nothing.clone()),
        (72, warned(id, 2)),
        (119, nothing.clone()),
        (120, disabled(id)),
    ] {
        attempt(store, app, id, 503, at).await;
        assert_eq!(judge(store, at).await, expected, "hour {at}");
        assert_eq!(judge(store, at + 1).await, nothing, "hour {at}, again");
    }
    assert_eq!(is_disabled(store, app, id).await, Some(DisabledReason::Failing));
    let line = store.listed_endpoint(&tenant(), app, id).await.unwrap().unwrap();
    assert_eq!(
        (line.failing_since, line.warned_at, line.disabled_at),
        (Some(hour(0)), Some(hour(72)), Some(hour(120)))
    );

    let told = told(store, ears.id).await;
    let whose = json!({"appId": app.to_string(), "appUid": "acme", "endpointId": id.to_string(), "endpointUid": null,
                       "failSince": hour(0).to_string()});
    let with = |more: serde_json::Value| {
        let mut data = whose.as_object().unwrap().clone();
        data.extend(more.as_object().unwrap().clone());
        serde_json::Value::Object(data)
    };
    let payloads: Vec<_> = told.iter().map(payload).collect();
    let warning = |number: i16| {
        let more = json!({"warning": number, "disableAt": hour(120).to_string()});
        json!({"type": "endpoint.failing", "data": with(more)})
    };
    let last = json!({"type": "endpoint.disabled", "data": with(json!({"trigger": "automatic"}))});
    assert_eq!(payloads, [warning(1), warning(2), last]);
}

async fn time_alone_neither_warns_nor_disables(home: Home) {
    let store = &home.store;
    let (app, id) = failing(store, "acme", 23).await;
    assert_eq!(judge(store, 100 * 24).await, FailingReport::default());
    // The next failure says that it goes on; what was to be said meanwhile is not said any more.
    attempt(store, app, id, 503, 130).await;
    assert_eq!(judge(store, 131).await, disabled(id));
    let (app, id) = failing(store, "late", 80).await;
    assert_eq!(judge(store, 200).await, warned(id, 2));
    assert_eq!(is_disabled(store, app, id).await, None);
}

async fn one_delivery_begins_anew(home: Home) {
    let store = &home.store;
    let (app, id) = failing(store, "acme", 30).await;
    assert_eq!(judge(store, 30).await, warned(id, 1));
    attempt(store, app, id, 200, 40).await;
    assert_eq!(store.listed_endpoint(&tenant(), app, id).await.unwrap().unwrap().warned_at, None);
    attempt(store, app, id, 503, 41).await;
    attempt(store, app, id, 503, 64).await;
    assert_eq!(judge(store, 70).await, FailingReport::default(), "23 hours");
    attempt(store, app, id, 503, 65).await;
    assert_eq!(judge(store, 70).await, warned(id, 1), "a new streak warns anew");
    attempt(store, app, id, 503, 160).await;
    assert_eq!(judge(store, 160).await, warned(id, 2), "not five days yet");
    attempt(store, app, id, 503, 161).await;
    assert_eq!(judge(store, 161).await, disabled(id));
}

async fn enabling_begins_anew(home: Home) {
    let store = &home.store;
    let (app, id) = failing(store, "acme", 24).await;
    assert_eq!(judge(store, 24).await, warned(id, 1));
    attempt(store, app, id, 503, 120).await;
    accept(store, app).await;
    assert_eq!(judge(store, 120).await, disabled(id));
    assert_eq!(waiting(store, id).await.len(), 1, "what is pending waits");
    accept(store, app).await;
    assert_eq!(waiting(store, id).await.len(), 1, "and nothing new comes");
    let now = store.endpoint(&tenant(), app, &id.into()).await.unwrap().unwrap();
    updated(store, &now, endpoint_spec(), NOW).await;
    assert_eq!(home.number("SELECT count(*) FROM endpoint WHERE failing_since IS NULL AND warned = 0").await, 1);
    assert_eq!(judge(store, 240).await, FailingReport::default());
}

async fn warnings_that_would_come_too_late_are_left_out(home: Home) {
    let store = &home.store;
    let (app, id) = failing(store, "acme", 2).await;
    let within = async |hours: u64, at: u64| {
        store.check_failing_endpoints(Duration::from_secs(hours * HOUR), hour(at)).await.unwrap()
    };
    assert_eq!(within(3, 9).await, FailingReport::default());
    attempt(store, app, id, 503, 47).await;
    assert_eq!(within(48, 47).await, warned(id, 1));
    attempt(store, app, id, 503, 48).await;
    assert_eq!(within(48, 48).await, disabled(id));
    let (_, id) = failing(store, "brief", 3).await;
    assert_eq!(within(3, 3).await, disabled(id), "no warning at all");
}

async fn two_processes_warn_and_disable_once(home: Home) {
    let (store, other) = (&home.store, home.another().await);
    let ears = listener(store, endpoint_spec()).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(failing(store, &format!("acme-{n}"), 24).await);
    }
    let before = kinds(store, ears.id).await.len();
    let (one, two) = tokio::join!(judge(store, 24), judge(&other, 24));
    let mut both: Vec<EndpointId> = one.warned.iter().chain(&two.warned).map(|(id, _)| *id).collect();
    both.sort_unstable();
    let mut expected: Vec<EndpointId> = ids.iter().map(|(_, id)| *id).collect();
    expected.sort_unstable();
    assert_eq!(both, expected, "each by one of them");
    assert_eq!(kinds(store, ears.id).await.len(), before + 5);
    for (app, id) in &ids {
        attempt(store, *app, *id, 503, 121).await;
    }
    let before = kinds(store, ears.id).await.len();
    let (one, two) = tokio::join!(judge(store, 121), judge(&other, 121));
    assert_eq!(one.disabled.len() + two.disabled.len(), 5);
    assert_eq!(kinds(store, ears.id).await.len(), before + 5);
}

async fn all_of_it_is_noted_or_nothing(home: Home) {
    let store = &home.store;
    store.enable_mail();
    let (app, id) = failing(store, "acme", 24).await;
    home.execute("UPDATE application SET contact_email = 'ops@example.com'").await;
    let ears = listener(store, endpoint_spec()).await;
    refuse(&home, "mail", "{row}.attempts = 0").await;
    assert!(store.check_failing_endpoints(FIVE_DAYS, hour(24)).await.is_err());
    assert!(waiting(store, ears.id).await.is_empty(), "no event");
    assert_eq!(home.number("SELECT CAST(max(warned) AS BIGINT) FROM endpoint").await, 0);
    allow(&home, "mail").await;
    assert_eq!(judge(store, 24).await, warned(id, 1));
    assert_eq!(
        (kinds(store, ears.id).await, home.number("SELECT count(*) FROM mail").await),
        (strings(&["endpoint.failing"]), 1)
    );
    assert_eq!(is_disabled(store, app, id).await, None);
}

async fn more_than_fit_into_one_transaction_come_with_the_next(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    for _ in 0..101 {
        endpoint(store, app.id, endpoint_spec()).await;
    }
    for at in [0, 30] {
        let message = accept(store, app.id).await;
        let mut batch = Vec::new();
        for one in store.deliveries_of(&tenant(), app.id, message.id).await.unwrap().data {
            let one = waiting(store, one.endpoint_id).await.remove(0);
            let mut done = finished(app.id, &one, answered(503), Transition::Dead(DeadReason::Exhausted));
            done.attempt.at = hour(at);
            batch.push(done);
        }
        store.record(batch).await.unwrap();
    }
    let first = judge(store, 30).await;
    assert_eq!((first.warned.len(), first.more), (100, true));
    let second = judge(store, 30).await;
    assert_eq!((second.warned.len(), second.more), (1, false));
}

/// However many endpoints have failed and been sent nothing since, they keep nobody else from being looked at.
async fn idle_endpoints_do_not_delay_others(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    for _ in 0..101 {
        endpoint(store, app.id, endpoint_spec()).await;
    }
    home.execute(&format!("UPDATE endpoint SET failing_since = {}", hour(0).micros())).await;
    let (_, busy) = failing(store, "busy", 0).await;
    let app = store.application(&tenant(), &named("busy")).await.unwrap().unwrap().id;
    attempt(store, app, busy, 503, 24).await;
    assert_eq!(judge(store, 240).await, warned(busy, 1));
}

async fn automatic_disabling_is_audited(home: Home) {
    let store = &home.store;
    let (app, id) = failing(store, "acme", 120).await;
    judge(store, 120).await;
    let log = store.audit_log(&tenant(), &AuditFilter::default(), &first()).await.unwrap();
    let lines: Vec<_> = log
        .data
        .iter()
        .map(|line| (line.actor.kind, line.act.as_str(), line.target.clone(), line.detail.as_str()))
        .collect();
    let detail = "every attempt failed for too long, example.com";
    assert_eq!(lines, [(ActorKind::Engine, "endpoint disabled", id.to_string(), detail)]);
    assert_eq!(log.data[0].app, Some(app));
    assert!(store.audit_log(&stranger(), &AuditFilter::default(), &first()).await.unwrap().data.is_empty());
}

async fn an_operational_endpoint_is_disabled_without_an_event(home: Home) {
    let store = &home.store;
    store.enable_mail();
    let ears = listener(store, endpoint_spec()).await;
    for at in [0, 120] {
        customer(store, &format!("acme-{at}")).await;
        let one = waiting(store, ears.id).await.remove(0);
        let mut done = finished(ears.app_id, &one, answered(503), Transition::Dead(DeadReason::Exhausted));
        done.attempt.at = hour(at);
        store.record(vec![done]).await.unwrap();
    }
    assert_eq!(judge(store, 120).await, disabled(ears.id));
    assert!(waiting(store, ears.id).await.is_empty());
    assert_eq!(home.number("SELECT count(*) FROM mail").await, 0);
}

async fn expired_contents_are_reported_and_deleted_ones_are_not(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ears = listener(store, endpoint_spec()).await;
    let (one, two) = (accept(store, app.id).await, accept(store, app.id).await);
    assert!(store.delete_content(&tenant(), app.id, one.id, NOW).await.unwrap());
    assert!(kinds(store, ears.id).await.is_empty(), "somebody wanted it so");
    home.execute(&format!("UPDATE message SET content_until = {} WHERE payload IS NOT NULL", NOW.micros())).await;
    store.expire_contents(NOW).await.unwrap();
    let told = told(store, ears.id).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (payload(&told[0])["type"].clone(), payload(&told[0])["data"]["msgId"].clone()),
        (json!("message.expired"), json!(two.id.to_string()))
    );
    assert_eq!(delivery(store, app.id, two.id, made.id).await.reason, Some(DeadReason::ContentDeleted));
}

async fn the_dead_of_a_day_are_read_from_the_counts(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for status in [503, 503, 200] {
        accept(store, app.id).await;
        let one = waiting(store, made.id).await.remove(0);
        let next = if status == 200 { Transition::Delivered } else { Transition::Dead(DeadReason::Exhausted) };
        store.record(vec![finished(app.id, &one, answered(status), next)]).await.unwrap();
    }
    let theirs = store.create_application(&stranger(), app_spec("theirs"), NOW).await.unwrap().id;
    let secret = secret();
    let there = store.create_endpoint(&stranger(), theirs, endpoint_spec(), &secret, NOW).await.unwrap().id;
    let mut one = item(theirs);
    one.tenant = Some(stranger());
    offer(store, one).await.unwrap();
    let mut done =
        finished(theirs, &only_waiting(store, there).await, answered(500), Transition::Dead(DeadReason::Exhausted));
    done.org = org("org_stranger");
    store.record(vec![done]).await.unwrap();
    assert_eq!(store.dead_within_a_day(later(60)).await.unwrap(), 3, "in all organizations");
    while store.compact_rollups(later(3 * HOUR)).await.unwrap() >= Store::COMPACTION_STEP {}
    assert_eq!(store.dead_within_a_day(later(20 * HOUR)).await.unwrap(), 3, "counted by the hour");
    assert_eq!(store.dead_within_a_day(later(26 * HOUR)).await.unwrap(), 0);
}
