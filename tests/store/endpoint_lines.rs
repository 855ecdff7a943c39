//! Endpoints as lists show them, and what is counted of them.

use sendoff::domain::AppId;
use sendoff::domain::access::audit::{Actor, ActorKind};
use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::domain::catalog::endpoint::{DisabledReason, EndpointSpec};
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::store::access::audit::AuditFilter;
use sendoff::store::catalog::endpoint_list::{EndpointHealth, EndpointListFilter};
use sendoff::store::ingest::accept::{AcceptItem, Rejection};
use sendoff::store::recording::record::FinishedAttempt;
use sendoff::store::{AppRef, Order, PageRequest, Store, Tenant};

use crate::home::*;
use crate::support::on_both;

async fn hosts(store: &Store, tenant: &Tenant, filter: EndpointListFilter) -> Vec<String> {
    let page = PageRequest::first(50, Order::Ascending);
    let found = store.list_endpoints(tenant, &filter, &page).await.unwrap();
    assert!(!found.more && found.stopped.is_none());
    found.data.into_iter().map(|line| line.endpoint.spec.url).collect()
}

on_both! {
    endpoints_are_listed_by_how_they_are
    lists_of_endpoints_and_applications_go_on
    an_example_goes_to_one_endpoint
    customers_are_offered_what_their_flags_open
}

async fn endpoints_are_listed_by_how_they_are(home: Home) {
    let store = &home.store;
    let (app, first) = customer(store, "acme").await;
    let (other, _) = customer(store, "other").await;
    let url = |url: &str| EndpointSpec { url: url.into(), ..endpoint_spec() };
    let gone = updated(store, &first, url("https://gone.example/Å"), later(1)).await;
    accept(store, app.id).await;
    let line = store.listed_endpoint(&tenant(), app.id, gone.id).await.unwrap().unwrap();
    assert_eq!(
        (line.health(), line.disabled_at, line.app_name.as_str()),
        (EndpointHealth::Enabled, None, app.name.as_str())
    );
    assert_eq!(store.backlogs(&tenant(), &[gone.id], 10).await.unwrap()[&gone.id], 1);
    assert_eq!(store.last_failure(&tenant(), app.id, gone.id).await.unwrap(), None);

    let refused =
        finished(app.id, &only_waiting(store, gone.id).await, answered(410), Transition::Dead(DeadReason::Gone));
    let at = refused.attempt.at;
    store.record(vec![FinishedAttempt { disable: Some(DisabledReason::Gone), ..refused }]).await.unwrap();
    let line = store.listed_endpoint(&tenant(), app.id, gone.id).await.unwrap().unwrap();
    assert_eq!(line.health(), EndpointHealth::Disabled);
    let since = line.disabled_at.expect("since when it is disabled");
    assert_eq!(store.backlogs(&tenant(), &[gone.id], 10).await.unwrap()[&gone.id], 0);
    let failure = store.last_failure(&tenant(), app.id, gone.id).await.unwrap().unwrap();
    assert_eq!((failure.at, failure.status), (at, Some(410)));

    // Another change leaves the time alone; enabling takes it away.
    let off = EndpointSpec { disabled: true, description: "new".into(), ..line.endpoint.spec.clone() };
    let still = updated(store, &line.endpoint, off.clone(), later(500)).await;
    assert_eq!(store.listed_endpoint(&tenant(), app.id, gone.id).await.unwrap().unwrap().disabled_at, Some(since));
    let all = EndpointListFilter::default;
    assert_eq!(
        hosts(store, &tenant(), EndpointListFilter { health: Some(EndpointHealth::Disabled), ..all() }).await.len(),
        1
    );
    let on = updated(store, &still, EndpointSpec { disabled: false, ..off }, later(501)).await;
    assert_eq!(store.listed_endpoint(&tenant(), app.id, gone.id).await.unwrap().unwrap().disabled_at, None);
    let again = EndpointSpec { disabled: true, ..on.spec.clone() };
    updated(store, &on, again, later(502)).await;
    let line = store.listed_endpoint(&tenant(), app.id, gone.id).await.unwrap().unwrap();
    assert_eq!(line.disabled_at, Some(later(502)));

    assert_eq!(hosts(store, &tenant(), all()).await.len(), 2);
    assert_eq!(hosts(store, &tenant(), EndpointListFilter { url: Some("EXAMPLE/å".into()), ..all() }).await.len(), 1);
    assert_eq!(hosts(store, &tenant(), EndpointListFilter { app: Some(other.id), ..all() }).await.len(), 1);
    assert_eq!(
        hosts(store, &tenant(), EndpointListFilter { health: Some(EndpointHealth::Enabled), ..all() }).await.len(),
        1
    );
    // Of nobody else.
    let stranger = stranger();
    let only = Tenant { only: Some(other.id), ..tenant() };
    assert!(hosts(store, &stranger, all()).await.is_empty());
    assert_eq!(hosts(store, &only, all()).await.len(), 1);
    assert!(hosts(store, &only, EndpointListFilter { app: Some(app.id), ..all() }).await.is_empty());
    for who in [&stranger, &only] {
        assert_eq!(store.listed_endpoint(who, app.id, gone.id).await.unwrap(), None);
        assert_eq!(store.last_failure(who, app.id, gone.id).await.unwrap(), None);
    }
    assert!(store.endpoint_counts_by_app(&stranger, &[app.id]).await.unwrap().is_empty());
    assert_eq!(store.endpoint_counts_by_app(&tenant(), &[app.id, other.id]).await.unwrap().len(), 2);
}

async fn lists_of_endpoints_and_applications_go_on(home: Home) {
    let store = &home.store;
    let (app, _) = customer(store, "acme").await;
    for n in 0..4 {
        let name = format!("ÄPFEL {n}");
        let spec = ApplicationSpec { name, uid: Some(uid(&format!("apple-{n}"))), ..ApplicationSpec::default() };
        let made = store.create_application(&tenant(), spec, later(n)).await.unwrap();
        store.create_endpoint(&tenant(), made.id, endpoint_spec(), &secret(), later(n)).await.unwrap();
    }
    let page = PageRequest::first(3, Order::Descending);
    let first = store.list_endpoints(&tenant(), &EndpointListFilter::default(), &page).await.unwrap();
    assert!(first.more && first.data.len() == 3);
    let next = PageRequest { after: Some(first.data[2].endpoint.id), ..page };
    let rest = store.list_endpoints(&tenant(), &EndpointListFilter::default(), &next).await.unwrap();
    assert!(!rest.more && rest.data.len() == 2);

    let page = PageRequest::<AppId>::first(3, Order::Descending);
    for text in ["äpfel", "APPLE-"] {
        let first = store.applications_like(&tenant(), text, &page).await.unwrap();
        assert_eq!((first.data.len(), first.more, first.data[0].name.as_str()), (3, true, "ÄPFEL 3"));
        let next = PageRequest { after: Some(first.data[2].id), ..page.clone() };
        assert_eq!(store.applications_like(&tenant(), text, &next).await.unwrap().data[0].name, "ÄPFEL 0");
        let back = PageRequest { after: Some(first.data[2].id), back: true, ..page.clone() };
        assert_eq!(store.applications_like(&tenant(), text, &back).await.unwrap().data.len(), 2);
    }
    let one = store.applications_like(&tenant(), &app.id.to_string(), &page).await.unwrap();
    assert_eq!(one.data.iter().map(|one| one.id).collect::<Vec<_>>(), [app.id]);
    let only = Tenant { only: Some(app.id), ..tenant() };
    assert!(store.applications_like(&only, "äpfel", &page).await.unwrap().data.is_empty());
}

async fn an_example_goes_to_one_endpoint(home: Home) {
    let store = &home.store;
    let (_, endpoint) = customer(store, "acme").await;
    let spec = EventTypeSpec { name: "a.b".into(), ..EventTypeSpec::default() };
    let refused = store.send_example(&tenant(), &endpoint, &spec, None, NOW).await.unwrap();
    assert!(matches!(refused, Err(Rejection::Invalid(_))));
    let schema = serde_json::json!({"examples": [{"n": 1}, {"n": 2}]});
    let spec = EventTypeSpec { schemas: Some([("1".to_owned(), schema)].into_iter().collect()), ..spec };
    let sent = store.send_example(&tenant(), &endpoint, &spec, Some(1), NOW).await.unwrap().unwrap();
    assert_eq!(sent.payload.as_deref(), Some(&b"{\"n\":2}"[..]));
    assert_eq!(only_waiting(store, endpoint.id).await.message_id, sent.id);
    // What a person sends is in the audit log, and not what is refused.
    let by = store.by(Actor::new(ActorKind::Operator, "anna"));
    let item = item(endpoint.app_id);
    let by_hand = by.accept_by_hand(item.clone()).await.unwrap().unwrap();
    let nowhere = AcceptItem { app: AppRef::Id(AppId::new(NOW)), ..item };
    assert!(by.accept_by_hand(nowhere).await.unwrap().is_err());
    let example = by.send_example(&tenant(), &endpoint, &spec, None, NOW).await.unwrap().unwrap();
    let log =
        store.audit_log(&tenant(), &AuditFilter::default(), &PageRequest::first(9, Order::Ascending)).await.unwrap();
    let told: Vec<_> = log.data.iter().map(|one| (one.act.as_str(), one.target.clone(), one.detail.clone())).collect();
    let wanted = [
        ("message sent by hand", by_hand.id.to_string(), by_hand.event_type.clone()),
        ("test event sent", example.id.to_string(), format!("to {}", endpoint.id)),
    ];
    assert_eq!(told, wanted);
}

async fn customers_are_offered_what_their_flags_open(home: Home) {
    let store = &home.store;
    for n in 0..6 {
        let feature_flags = if n % 2 == 0 { vec!["beta".to_owned()] } else { Vec::new() };
        let spec = EventTypeSpec { name: format!("t{n}"), archived: n == 5, feature_flags, ..EventTypeSpec::default() };
        store.put_event_type(&tenant(), spec, NOW).await.unwrap();
    }
    let names = async |flags: &[String], limit| {
        let page = PageRequest::first(limit, Order::Ascending);
        let found = store.offered_event_types(&tenant(), flags, &page).await.unwrap();
        (found.data.into_iter().map(|one| one.spec.name).collect::<Vec<_>>(), found.more)
    };
    assert_eq!(names(&[], 9).await, (strings(&["t1", "t3"]), false));
    assert_eq!(names(&[], 1).await, (strings(&["t1"]), true));
    assert_eq!(names(&strings(&["beta"]), 9).await.0.len(), 5);
}
