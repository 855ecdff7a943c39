//! What operators do to stuck rows of the outbox.

use reqwest::StatusCode;
use sendoff::store::ingest::outbox::RelayRequest;

use crate::pages::words;
use crate::support::on_both;
use crate::world::{World, execute, location};

on_both! {
    a_stuck_row_is_retried_edited_or_discarded
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
