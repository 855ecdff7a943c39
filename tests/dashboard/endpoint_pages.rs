//! What an endpoint's page says of how it does, and where it leads.

use sendoff::domain::access::portal::Capability;
use sendoff::domain::deliveries::attempt::Failure;
use sendoff::domain::time::Clock;

use crate::pages::{link, rows, words};
use crate::support::on_both;
use crate::world::{MINUTE, Try, World, dead, location, retry};

on_both! {
    enabling_says_what_was_never_sent_meanwhile
    an_endpoint_leads_to_its_deliveries_and_resends
    an_endpoint_that_rests_says_so_everywhere
}

/// An endpoint that was disabled for a while was never sent what came meanwhile: enabling it says how much that is, and offers it.
async fn enabling_says_what_was_never_sent_meanwhile(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    for (portal, place) in [(false, format!("/applications/{}", acme.id)), (true, "/portal".to_owned())] {
        let browser = if portal { world.portal_session(&acme, None, &[]).await } else { world.sign_in().await };
        let path = format!("{place}/endpoints/{}", endpoint.id);
        let turn = async |act: &str| {
            let response = browser.submit(&path, &format!("{path}/{act}"), &[]).await;
            let to = location(&response).to_owned();
            (words(&browser.page(&to).await), browser.page(&to).await)
        };
        let (said, _) = turn("disable").await;
        assert!(said.contains("Disabled"), "{said}");
        let (said, _) = turn("enable").await;
        assert!(said.contains("Enabled.") && !said.contains("never sent to it"), "nothing came: {said}");
        turn("disable").await;
        let messages = [1, 2, 3].map(|_| world.message(&acme, "a.b", "{}", Clock.now()));
        let mut last = None;
        for message in messages {
            last = Some(message.await);
        }
        let last = last.unwrap();
        let message = words(&browser.page(&format!("{place}/messages/{}", last.id)).await);
        assert!(message.contains("Never sent to https://a.example/hook Endpoint disabled"), "{message}");
        let (said, page) = turn("enable").await;
        assert!(
            said.contains("3 messages accepted while this endpoint was disabled were never sent to it. Replay them…"),
            "{said}"
        );
        let message = words(&browser.page(&format!("{place}/messages/{}", last.id)).await);
        assert!(!message.contains("Never sent to") && message.contains("Resend to"), "{message}");
        let resend = browser.page(&link(&page, "Replay them…").unwrap()).await;
        assert!(resend.contains(">Send 3 deliveries</button>"), "{}", words(&resend));
    }
}

/// An endpoint's page leads on to what can be done about it.
async fn an_endpoint_leads_to_its_deliveries_and_resends(world: World) {
    let acme = world.app("Acme & <b>").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let other = world.endpoint(&acme, "https://b.example/hook").await;
    for n in 0..3u32 {
        let at = world.ago(MINUTE * (n + 1));
        let message = world.message(&acme, "a.b", "{}", at).await;
        world.tries(&message, &endpoint, [Try::answered(at, 500, "", dead())]).await;
        world.tries(&message, &other, [Try::answered(at, 500, "", dead())]).await;
    }
    for (portal, place) in [(false, format!("/applications/{}", acme.id)), (true, "/portal".to_owned())] {
        let browser = if portal { world.portal_session(&acme, None, &[]).await } else { world.sign_in().await };
        let page = browser.page(&format!("{place}/endpoints/{}", endpoint.id)).await;
        let crumbs = words(page.split("aria-label=\"Breadcrumb\"").nth(1).unwrap().split("</nav>").next().unwrap());
        assert_eq!(crumbs, if portal { "> Endpoints" } else { "> Applications Acme & <b> Endpoints" });
        assert_eq!(rows(&browser.page(&link(&page, "View deliveries").unwrap()).await), 3);
        let recover = browser.page(&link(&page, "Recover failed…").unwrap()).await;
        assert!(recover.contains(">Resend 3 deliveries</button>"), "{}", words(&recover));
        let replay = browser.page(&link(&page, "Replay missing…").unwrap()).await;
        assert!(words(&replay).contains("Nothing to resend"), "{}", words(&replay));
        assert!(page.contains("<bdi>a.b</bdi></a>"), "attempts say of what: {page}");
        let attempts = words(page.split("attempts-title").nth(2).unwrap().split("</section>").next().unwrap());
        for part in [
            "500 Internal Server Error after 214 ms",
            "Request and response",
            "POSThttps://a.example/hook",
            "webhook-id",
            "text/html; charset=utf-8",
        ] {
            assert_eq!(attempts.matches(part).count(), 3, "{part}: {attempts}");
        }
    }
    let looks = world.portal_session(&acme, Some(&[Capability::ViewBase]), &[]).await;
    let page = looks.page(&format!("/portal/endpoints/{}", endpoint.id)).await;
    assert!(link(&page, "Recover failed…").is_none() && link(&page, "View deliveries").is_some());
}

/// That an endpoint rests is said on its page, on a message that waits for it, and on the overview.
async fn an_endpoint_that_rests_says_so_everywhere(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let browser = world.sign_in().await;
    assert!(!browser.page("/").await.contains("rests"));
    let at = world.ago(MINUTE);
    let tried = world.message(&acme, "a.b", "{}", at).await;
    let refused = Try::failed(at, Failure::Refused, "", 3, retry(world.now.plus(MINUTE * 5), 1));
    world.tries(&tried, &endpoint, [refused.resting_until(world.now.plus(MINUTE * 2))]).await;
    let waits = world.message(&acme, "a.b", "{}", at).await;
    let said = async |path: String| words(&browser.page(&path).await);
    let place = format!("/applications/{}", acme.id);
    let page = said(format!("{place}/endpoints/{}", endpoint.id)).await;
    assert!(
        page.contains(
            "Backing off: one attempt at a time until one succeeds; 2 deliveries waiting. Next attempt in 1 min"
        ),
        "{page}"
    );
    let page = said(format!("{place}/messages/{}", waits.id)).await;
    assert!(
        page.contains(
            "The endpoint is backing off: one attempt at a time until one succeeds. The next one is in 1 min."
        ),
        "{page}"
    );
    assert!(!page.contains("An attempt is in flight"), "{page}");
    let page = said("/".to_owned()).await;
    assert!(page.contains("1 endpoint backing off: one attempt at a time; 2 deliveries waiting. https://a.example/hook of Acme: next attempt in 1 min"), "{page}");
}
