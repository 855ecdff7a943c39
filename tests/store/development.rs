//! Development endpoints: what listeners report is kept for a while, within limits, and counts nowhere.

use std::time::Duration;

use sendoff::domain::catalog::development::{DevelopmentEndpoint, LIFETIME, LocalResponse};
use sendoff::domain::{AppId, MessageId, Time, limits};
use sendoff::store::feed::development_endpoints::ReportResult;
use sendoff::store::{Store, Tenant};

use crate::home::*;
use crate::support::on_both;

const URL: &str = "http://localhost:3000/hooks";

/// A report to the tenant's application.
async fn report(
    store: &Store,
    whose: &Tenant,
    (app, name): (AppId, &str),
    attempt: Option<(MessageId, LocalResponse)>,
    at: Time,
) -> ReportResult {
    let kept = at.minus(Duration::from_secs(86_400));
    store.report_local_attempt(whose, (app, name, URL), attempt.as_ref(), kept, at).await.expect("the store")
}

fn answered_with(status: u16, body: &str) -> LocalResponse {
    LocalResponse {
        status: Some(status),
        duration: Duration::from_millis(7),
        body: body.to_owned(),
        error: String::new(),
    }
}

async fn listeners(store: &Store, app: AppId, at: Time) -> Vec<String> {
    let all = store.development_endpoints(&tenant(), app, at).await.expect("the store");
    all.into_iter().map(|one| one.name).collect()
}

on_both! {
    reports_of_a_listener_are_stored
    reports_are_of_the_tenant_s_own
    listeners_and_attempts_are_bounded
    a_development_endpoint_goes_with_its_listener_or_its_application
}

async fn reports_of_a_listener_are_stored(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let message = accept(store, app.id).await.id;
    let made_at = ReportResult::Reported(DevelopmentEndpoint {
        app_id: app.id,
        name: "mine".to_owned(),
        url: URL.to_owned(),
        created_at: later(1),
        seen_at: later(1),
    });
    assert_eq!(report(store, &tenant(), (app.id, "mine"), None, later(1)).await, made_at);
    let failed = answered_with(503, "no\0pe");
    report(store, &tenant(), (app.id, "mine"), Some((message, failed)), later(2)).await;
    let away = LocalResponse { error: "refused".to_owned(), ..LocalResponse::default() };
    let ReportResult::Reported(renewed) =
        report(store, &tenant(), (app.id, "mine"), Some((message, away.clone())), later(3)).await
    else {
        panic!("reported")
    };
    assert_eq!((renewed.created_at, renewed.seen_at), (later(1), later(3)));
    assert_eq!(store.development_endpoints(&tenant(), app.id, later(4)).await.unwrap(), [renewed]);
    let attempts = store.local_attempts(&tenant(), app.id, "mine").await.unwrap();
    assert_eq!((attempts.len(), &attempts[0].response, attempts[0].message_id), (2, &away, message));
    let event_type = store.load_messages(&[message]).await.unwrap().remove(0).event_type;
    assert_eq!((attempts[0].event_type.as_str(), attempts[1].response.body.as_str()), (&*event_type, "no\u{fffd}pe"));
    // Nothing of it is a delivery.
    assert_eq!(only_waiting(store, made.id).await.message_id, message);
    for table in ["attempt", "dead"] {
        assert_eq!(home.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}

async fn reports_are_of_the_tenant_s_own(home: Home) {
    let store = &home.store;
    let (app, other) = (application(store, "acme").await.id, application(store, "other").await.id);
    let foreign = accept(store, other).await.id;
    let ok = || answered_with(200, "");
    assert_eq!(report(store, &stranger(), (app, "mine"), None, NOW).await, ReportResult::NotFound);
    assert_eq!(report(store, &tenant(), (app, "mine"), Some((foreign, ok())), NOW).await, ReportResult::NoMessage);
    assert!(listeners(store, app, NOW).await.is_empty(), "nothing is kept of what was refused");
    report(store, &tenant(), (other, "mine"), Some((foreign, ok())), NOW).await;
    for whose in [stranger(), Tenant { only: Some(app), ..tenant() }] {
        assert!(store.development_endpoints(&whose, other, NOW).await.unwrap().is_empty());
        assert!(store.local_attempts(&whose, other, "mine").await.unwrap().is_empty());
    }
    assert!(store.local_attempts(&tenant(), app, "mine").await.unwrap().is_empty());
}

async fn listeners_and_attempts_are_bounded(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let message = accept(store, app).await.id;
    for number in 0..limits::DEVELOPMENT_ENDPOINTS as u64 + 2 {
        report(store, &tenant(), (app, &format!("l-{number:02}")), None, later(number)).await;
    }
    let left = listeners(store, app, later(30)).await;
    assert_eq!((left.len(), &*left[0], &*left[19]), (limits::DEVELOPMENT_ENDPOINTS, "l-21", "l-02"));
    for number in 0..limits::LOCAL_ATTEMPTS + 3 {
        let response = answered_with(200, &number.to_string());
        report(store, &tenant(), (app, "l-21"), Some((message, response)), later(40)).await;
    }
    let attempts = store.local_attempts(&tenant(), app, "l-21").await.unwrap();
    let bodies: Vec<&str> = attempts.iter().map(|one| one.response.body.as_str()).collect();
    assert_eq!((bodies.len(), bodies[0], bodies[199]), (limits::LOCAL_ATTEMPTS, "202", "3"));
    assert_eq!(home.number("SELECT count(*) FROM local_attempt").await, limits::LOCAL_ATTEMPTS as i64);
    // Attempts are kept as long as messages.
    let days = later(40).plus(Duration::from_secs(2 * 86_400));
    report(store, &tenant(), (app, "l-21"), None, days).await;
    assert!(store.local_attempts(&tenant(), app, "l-21").await.unwrap().is_empty());
}

async fn a_development_endpoint_goes_with_its_listener_or_its_application(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let message = accept(store, app).await.id;
    for (name, at) in [("old", 0), ("new", 60)] {
        report(store, &tenant(), (app, name), Some((message, answered_with(200, ""))), later(at)).await;
    }
    let end = NOW.plus(LIFETIME);
    assert_eq!(listeners(store, app, end).await, ["new"], "it is not shown any more");
    assert!(!store.delete_unseen_listeners(end).await.unwrap());
    for table in ["development_endpoint", "local_attempt"] {
        assert_eq!(home.number(&format!("SELECT count(*) FROM {table}")).await, 1, "{table}");
    }
    assert!(store.delete_application(&tenant(), app, end).await.unwrap());
    for table in ["development_endpoint", "local_attempt"] {
        assert_eq!(home.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}
