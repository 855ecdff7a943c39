//! What operators do to stuck rows of the outbox.

use reqwest::StatusCode;
use sendoff::domain::EndpointId;
use sendoff::store::Tenant;
use sendoff::store::ingest::outbox::RelayRequest;

use crate::pages::words;
use crate::passwords::{account, signed_in};
use crate::support::on_both;
use crate::world::{World, execute, location};

on_both! {
    a_stuck_row_is_retried_edited_or_discarded
    rows_are_for_those_who_see_their_organization
    a_channel_is_added_tested_and_its_url_never_shown
}

/// Inserts a row, as a team would.
async fn insert(world: &World, application: &str, event_type: &str) {
    let sql = format!(
        "INSERT INTO outbox (application, event_type, payload) VALUES ('{application}', '{event_type}', '{{\"n\": 1}}')"
    );
    execute(world, &sql).await;
}

async fn relay(world: &World) -> usize {
    world.store.relay(RelayRequest { limit: 10, now: world.now }).await.unwrap().accepted
}

/// The paths of the rows' buttons, by the end of the path.
fn paths(page: &str, end: &str) -> Vec<String> {
    let links = page.split("=\"/outbox/").skip(1).filter_map(|rest| rest.split('"').next());
    links.filter(|path| path.ends_with(end)).map(|path| format!("/outbox/{path}")).collect()
}

async fn a_stuck_row_is_retried_edited_or_discarded(world: World) {
    let acme = world.app("Acme").await;
    for name in ["nobody", "other", "third"] {
        insert(&world, name, "a.b").await;
    }
    assert_eq!(relay(&world).await, 0);
    let browser = world.sign_in().await;
    let page = browser.page("/outbox").await;
    let (retry, edit, discard) = (paths(&page, "/retry"), paths(&page, "/edit"), paths(&page, "/discard"));
    assert_eq!((retry.len(), edit.len(), discard.len()), (3, 3, 3), "{page}");

    let response = browser.submit("/outbox", &retry[0], &[]).await;
    assert!(words(&browser.page(location(&response)).await).contains("Retried. The relay is processing the row"));
    assert_eq!(relay(&world).await, 0, "it goes nowhere still");

    let form = browser.page(&edit[1]).await;
    assert!(form.contains("value=\"other\"") && form.contains("value=\"a.b\""), "{form}");
    let typed = |app: &str| [("application", app.to_owned()), ("eventType", "x.y".to_owned())];
    let bad = browser.submit(&edit[1], &edit[1], &[("application", ""), ("eventType", "")]).await;
    assert_eq!(bad.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let [app, kind] = typed(&acme.id.to_string());
    let response = browser.submit(&edit[1], &edit[1], &[(app.0, &app.1), (kind.0, &kind.1)]).await;
    assert!(location(&response).contains("row-retried"));
    assert_eq!(relay(&world).await, 1, "it is a message now");
    let figures = words(&browser.page("/outbox").await);
    assert!(figures.contains("0 waiting") && figures.contains("1 relayed in the last hour"), "{figures}");
    assert!(browser.page(&format!("/applications/{}/messages", acme.id)).await.contains("x.y"));
    assert_eq!(browser.get(&edit[1]).await.0, StatusCode::NOT_FOUND);
    let gone = browser.submit("/outbox", &retry[1], &[]).await;
    assert!(location(&gone).contains("row-gone"));

    assert!(words(&browser.page(&discard[2]).await).contains("a.b to third"));
    let without = browser.post(&discard[2], &[("csrf", "x".into())]).await;
    assert_eq!(without.status(), StatusCode::FORBIDDEN);
    let response = browser.submit(&discard[2], &discard[2], &[]).await;
    let page = words(&browser.page(location(&response)).await);
    assert!(page.contains("Discarded.") && page.contains("1 stuck outbox row"), "{page}");
    let log = words(&browser.page("/audit").await);
    for act in ["outbox row retried", "outbox row changed", "outbox row discarded"] {
        assert!(log.contains(act), "{act}: {log}");
    }
    let customer = world.portal_session(&acme, None, &[]).await;
    let form = [("csrf", "x".to_owned())];
    assert_eq!(customer.post(&retry[0], &form).await.status(), StatusCode::SEE_OTHER, "no customer's");
}

async fn rows_are_for_those_who_see_their_organization(world: World) {
    let ours = world.app_of(&Tenant::org("org_b".parse().unwrap()), "ours").await;
    let theirs = world.app("theirs").await;
    for (application, event_type) in [(ours.id.to_string(), "ours bad"), (theirs.id.to_string(), "theirs bad")] {
        insert(&world, &application, event_type).await;
    }
    insert(&world, "nobody", "a.b").await;
    assert_eq!(relay(&world).await, 0);
    account(&world, "bert", Some(&["org_b"])).await;
    let bert = signed_in(&world, "bert").await;
    let page = bert.page("/outbox").await;
    assert!(page.contains("ours bad") && !page.contains("theirs bad") && !page.contains("nobody"), "{page}");
    let all = world.sign_in().await.page("/outbox").await;
    let edits = paths(&all, "/edit");
    assert_eq!(edits.len(), 3, "{all}");
    let mut own = paths(&page, "/edit");
    let own = own.pop().unwrap();
    for path in edits.iter().filter(|path| **path != own) {
        assert_eq!(bert.get(path).await.0, StatusCode::FORBIDDEN, "{path}");
        let csrf = crate::world::hidden(&page);
        let retried = bert.post(&path.replace("/edit", "/retry"), &csrf).await;
        assert_eq!(retried.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let typed = [("application", theirs.id.to_string()), ("eventType", "x.y".to_owned())];
    let typed = typed.each_ref().map(|(name, value)| (*name, value.as_str()));
    let elsewhere = bert.submit(&own, &own, &typed).await;
    assert_eq!(elsewhere.status(), StatusCode::UNPROCESSABLE_ENTITY, "a row stays within its organizations");
    let fixed = bert.submit(&own, &own, &[("application", &ours.id.to_string()), ("eventType", "x.y")]).await;
    assert!(location(&fixed).contains("row-retried"));
    assert_eq!(relay(&world).await, 1);
}

async fn a_channel_is_added_tested_and_its_url_never_shown(world: World) {
    const SECRET: &str = "T0geheim";
    let hook = format!("http://127.0.0.1:1/services/{SECRET}?sig={SECRET}");
    let browser = world.sign_in().await;
    assert!(words(&browser.page("/operational").await).contains("Add endpoint"));
    let form = browser.page("/operational/new").await;
    for said in ["Slack", "Microsoft Teams", "Discord", "outbox.stuck"] {
        assert!(form.contains(said), "{said}");
    }
    let bad = browser.submit("/operational/new", "/operational/new", &[("format", "irc"), ("url", "")]).await;
    assert_eq!(bad.status(), StatusCode::UNPROCESSABLE_ENTITY);
    for (format, url) in [("slack", hook.as_str()), ("signed", "http://127.0.0.1:1/signed")] {
        let typed = [("format", format), ("url", url), ("description", "#alerts"), ("eventTypes", "outbox.stuck")];
        let made = browser.submit("/operational/new", "/operational/new", &typed).await;
        assert_eq!(made.status(), StatusCode::SEE_OTHER, "{}", made.text().await.unwrap());
    }
    let app = world.store.operational_application(&world.tenant()).await.unwrap().unwrap();
    let request = sendoff::store::PageRequest::first(9, sendoff::store::Order::Ascending);
    let endpoints = world.store.endpoints(&world.tenant(), app.id, &request).await.unwrap().data;
    let slack = endpoints.iter().find(|one| one.spec.chat.is_some()).unwrap();
    assert_eq!((slack.spec.request_url(), slack.spec.url.as_str()), (hook.as_str(), "http://127.0.0.1:1/***"));

    let path = format!("/applications/{}/endpoints/{}", app.id, slack.id);
    let edit = format!("{path}/edit");
    let kept = [("url", "http://127.0.0.1:1/***"), ("description", "#ops"), ("eventTypes", "outbox.stuck")];
    assert_eq!(browser.submit(&edit, &edit, &kept).await.status(), StatusCode::SEE_OTHER);
    let test = |id: EndpointId| format!("/operational/{id}/test");
    let sent = browser.submit("/operational", &test(slack.id), &[]).await;
    let message = location(&sent).to_owned();
    assert!(message.contains("/messages/msg_"), "{message}");
    assert_eq!(
        browser.submit("/operational", &test(EndpointId::new(world.now)), &[]).await.status(),
        StatusCode::NOT_FOUND
    );
    insert(&world, "nobody", "a.b").await;
    assert_eq!(relay(&world).await, 0);
    assert_eq!(world.store.backlogs(&world.tenant(), &[slack.id], 9).await.unwrap()[&slack.id], 2, "test and row");
    for page in ["/operational", &path, &edit, &message] {
        let text = browser.page(page).await;
        assert!(text.contains("/***") && !text.contains(SECRET), "{page}");
    }
    let store = &world.store;
    let stored = store.endpoint(&world.tenant(), app.id, &slack.id.into()).await.unwrap().unwrap();
    assert_eq!((stored.spec.request_url(), stored.spec.description.as_str()), (hook.as_str(), "#ops"));
}
