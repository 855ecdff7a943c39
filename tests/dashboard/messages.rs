//! What can be done with a message on its page, beside resending a delivery.

use reqwest::StatusCode;
use sendoff::domain::Uid;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::delivery::DeliveryState;

use crate::pages::{link, words};
use crate::support::on_both;
use crate::world::{MINUTE, Try, World, dead, field, location, retry};

on_both! {
    an_endpoint_to_resend_to_is_searched_for
    a_message_is_edited_and_sent_as_a_new_one
    a_message_is_sent_to_another_endpoint_and_copied
    a_message_refreshes_itself_while_something_is_about_to_be_sent
}

async fn a_message_is_edited_and_sent_as_a_new_one(world: World) {
    let acme = world.app("Acme").await;
    world.endpoint(&acme, "https://a.example/hook").await;
    let message = world.message(&acme, "invoice.paid", "{\"amount\": 1}", world.ago(MINUTE)).await;
    let browser = world.sign_in().await;
    let path = format!("/applications/{}/messages/{}", acme.id, message.id);
    let edit = link(&browser.page(&path).await, "Edit and resend").unwrap();
    let form = browser.page(&edit).await;
    assert!(form.contains("value=\"invoice.paid\"") && form.contains("&#34;amount&#34;: 1"), "{form}");
    let typed = [("eventType", "invoice.paid"), ("payload", "{\"amount\": 2}")];
    let response = browser.submit(&edit, &edit, &typed).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let made = browser.page(location(&response)).await;
    assert!(words(&made).contains("edited copy of") && made.contains(&format!("href=\"{path}\"")), "{made}");
    assert!(words(&made).contains("\"amount\": 2") && !made.contains("<bdi>edited-from"), "{made}");
    // The original leads to its copies, in its own application alone.
    let made_href = location(&response).split('?').next().unwrap().to_owned();
    let original = browser.page(&path).await;
    assert!(
        words(&original).contains("edited copy msg_") && original.contains(&format!("href=\"{made_href}\"")),
        "{original}"
    );
    let globex = world.app("Globex").await;
    let (copies, stranger) = (
        world.store.edited_copies(&world.tenant(), acme.id, message.id).await.unwrap(),
        sendoff::store::Tenant::org("org_other".parse().unwrap()),
    );
    assert_eq!(copies.len(), 1);
    assert!(world.store.edited_copies(&world.tenant(), globex.id, message.id).await.unwrap().is_empty());
    assert!(world.store.edited_copies(&stranger, acme.id, message.id).await.unwrap().is_empty());
    for odd in ["x", "msg_00000000000000000000000000"] {
        let path = format!("/applications/{}/send?from={odd}", acme.id);
        assert_eq!(browser.get(&path).await.0, StatusCode::NOT_FOUND);
    }
    let visitor = world.portal_session(&acme, None, &[]).await;
    assert!(!visitor.page(&format!("/portal/messages/{}", message.id)).await.contains("Edit and resend"));
}

async fn a_message_is_sent_to_another_endpoint_and_copied(world: World) {
    let acme = world.app("Acme").await;
    let one = world.endpoint(&acme, "https://a.example/hook").await;
    let payload = "{\"it\": \"it's\", \"n\": 1.0}";
    let message = world.message(&acme, "a.b", payload, world.ago(MINUTE)).await;
    world.tries(&message, &one, [Try::answered(world.ago(MINUTE), 500, "", dead())]).await;
    let other = world.endpoint(&acme, "https://b.example/hook").await;
    for (portal, place) in [(false, format!("/applications/{}", acme.id)), (true, "/portal".to_owned())] {
        let browser = if portal { world.portal_session(&acme, None, &[]).await } else { world.sign_in().await };
        let path = format!("{place}/messages/{}", message.id);
        let page = browser.page(&path).await;
        let curl = words(page.split("id=\"payload-curl\"").nth(1).unwrap().split("</pre>").next().unwrap());
        for part in [
            "curl -X POST 'https://a.example/hook'",
            "-H 'content-type: application/json'",
            &format!("-H 'webhook-id: {}'", message.id),
            r#"--data-binary '{"it": "it'\''s", "n": 1.0}'"#,
        ] {
            assert!(curl.contains(part), "{part}: {curl}");
        }
        let json = words(page.split("id=\"payload-json\"").nth(1).unwrap().split("</pre>").next().unwrap());
        assert!(json.contains(&format!("\"payload\": {payload}")) && json.contains("\"eventType\": \"a.b\""), "{json}");
        if !portal {
            assert!(page.contains(&format!("<option value=\"{}\">", other.id)), "{page}");
            let form = [("csrf", field(&page, "csrf")), ("endpoint", other.id.to_string())];
            let done = browser.post(&format!("{path}/resend"), &form).await;
            assert!(location(&done).ends_with("notice=resent"));
        } else {
            assert!(!page.contains("Resend to"), "each endpoint has it by now: {page}");
        }
    }
    let views = world.store.deliveries_of(&world.tenant(), acme.id, message.id).await.unwrap().data;
    assert_eq!(
        views.iter().find(|view| view.endpoint_id == other.id).map(|view| view.state),
        Some(DeliveryState::Fresh)
    );
}

/// The page refreshes itself only while something is about to be sent.
async fn a_message_refreshes_itself_while_something_is_about_to_be_sent(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let browser = world.sign_in().await;
    let live = async |next: Option<Try>| {
        let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
        world.tries(&message, &endpoint, next).await;
        let page = browser.page(&format!("/applications/{}/messages/{}", acme.id, message.id)).await;
        assert_eq!(page.contains("data-refresh"), page.contains("http-equiv=\"refresh\""), "with a script and without");
        page.contains("data-refresh")
    };
    let at = world.ago(MINUTE);
    assert!(live(None).await, "due now");
    assert!(live(Some(Try::answered(at, 500, "", retry(world.now.plus(MINUTE / 2), 1)))).await, "soon");
    assert!(!live(Some(Try::answered(at, 500, "", retry(world.now.plus(MINUTE * 9), 1)))).await);
    assert!(!live(Some(Try::answered(at, 500, "", dead()))).await && !live(Some(Try::delivered(at, 9))).await);
}

/// With more endpoints than the page lists, one is found by its URL, id or uid.
async fn an_endpoint_to_resend_to_is_searched_for(world: World) {
    let acme = world.app("Acme").await;
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
    let spec = |url: String, uid: Option<&str>| EndpointSpec {
        url,
        uid: uid.map(|uid| Uid::parse("uid", uid, "ep_").unwrap()),
        ..EndpointSpec::default()
    };
    let oldest = world.endpoint_with(&acme, spec("https://oldest.example/hook".into(), Some("first"))).await;
    let visitor = world.portal_session(&acme, None, &[]).await;
    for (browser, place) in
        [(&world.sign_in().await, format!("/applications/{}", acme.id)), (&visitor, "/portal".to_owned())]
    {
        let page = browser.page(&format!("{place}/messages/{}", message.id)).await;
        assert!(page.contains("oldest.example") && !page.contains("Find endpoint"), "few are all listed: {page}");
    }
    for n in 0..100 {
        world.endpoint_with(&acme, spec(format!("https://n{n}.example/hook"), None)).await;
    }
    let off = EndpointSpec { disabled: true, ..spec("https://off.example/hook".into(), Some("off")) };
    world.endpoint_with(&acme, off).await;
    let browser = world.sign_in().await;
    let path = format!("/applications/{}/messages/{}", acme.id, message.id);
    let targets = async |query: &str| {
        let page = browser.page(&format!("{path}{query}")).await;
        let ids = page.matches("<option value=\"ep_").count();
        (ids, page.contains(&oldest.id.to_string()), words(&page))
    };
    let (count, there, said) = targets("").await;
    assert!(count == 99 && !there && said.contains("Only the newest endpoints are listed."), "{count} {said}");
    for query in ["?to=OLDEST", "?to=first", &format!("?to={}", oldest.id)] {
        let (count, there, said) = targets(query).await;
        assert!(count == 1 && there && said.contains("Find endpoint"), "{query}: {count} {said}");
    }
    for query in ["?to=nowhere", "?to=off", "?to=%00"] {
        let (count, _, said) = targets(query).await;
        assert!(count == 0 && said.contains("No enabled endpoint matches."), "{query}: {count} {said}");
    }
}
