//! What each role may do: the table of routes against what every route answers, and pages that offer nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use reqwest::{Method, StatusCode};
use sendoff::dashboard::{Access, ROUTE_ACCESS};
use sendoff::domain::access::operator::OperatorRole;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::catalog::polling::PollingEndpointSpec;
use sendoff::store::ingest::outbox::RelayRequest;

use crate::passwords::{account_as, signed_in};
use crate::support::on_both;
use crate::support::pages::{Page, pages};
use crate::world::{Browser, MINUTE, Try, World, dead, execute, field, hidden, location};

on_both! {
    every_role_reaches_exactly_the_pages_of_the_table
    pages_offer_no_action_beyond_the_role
    a_role_changes_from_the_next_page_on_and_the_last_admin_stays
}

const DENIED: &str = "You don&#39;t have permission.";
const EXPIRED: &str = "This form has expired";

#[test]
fn every_route_has_its_row() {
    let routes: BTreeSet<(String, String)> =
        pages().into_iter().filter(|page| !page.in_portal()).map(|page| (page.method.to_owned(), page.path)).collect();
    let rows: BTreeSet<(String, String)> =
        ROUTE_ACCESS.iter().map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
    assert_eq!(rows.len(), ROUTE_ACCESS.len(), "a route has two rows");
    assert_eq!(routes.difference(&rows).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "routes without a row");
    assert_eq!(rows.difference(&routes).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "rows without a route");
}

/// Whether the table lets an operator in.
fn lets_in(page: &Page, role: OperatorRole, all: bool) -> bool {
    let row = ROUTE_ACCESS.iter().find(|row| row.method == page.method && row.path == page.path).expect("a row");
    match row.access {
        Access::Open => true,
        Access::Role(least) => role >= least,
        Access::AllOrganizations(least) => all && role >= least,
    }
}

fn is_open(page: &Page) -> bool {
    ROUTE_ACCESS.iter().any(|row| row.method == page.method && row.path == page.path && row.access == Access::Open)
}

async fn every_role_reaches_exactly_the_pages_of_the_table(world: World) {
    let app = world.app("Acme").await.id.to_string();
    let mut pairs = 0;
    for role in OperatorRole::ALL {
        for (all, orgs) in [(true, None), (false, Some(&["org_default"][..]))] {
            let name = format!("{}-{all}", role.word());
            account_as(&world, &name, role, orgs).await;
            let browser = signed_in(&world, &name).await;
            for page in pages().into_iter().filter(|page| !page.in_portal() && page.path != "/login") {
                let path = Page { path: page.path.replace("{app}", &app), ..page.clone() }.path_with("x");
                let response = match page.method {
                    "GET" => world.request(Method::GET, &path).header("cookie", &browser.cookie).send().await.unwrap(),
                    // Nothing is done: the token is wrong. It is looked at after the role.
                    _ => browser.post(&path, &[("csrf", "x".to_owned())]).await,
                };
                let status = response.status();
                // The live feed has no end.
                let text = if status == StatusCode::FORBIDDEN { response.text().await.unwrap() } else { String::new() };
                let denied = text.contains(DENIED);
                assert_eq!(denied, !lets_in(&page, role, all), "{name}: {page:?}: {status} {text}");
                if page.method == "POST" && !denied && !is_open(&page) {
                    assert!(text.contains(EXPIRED), "{name}: {page:?}: {status}");
                }
                pairs += 1;
            }
        }
    }
    assert!(pairs > 500, "{pairs}");
    assert_eq!(world.store.operators().await.unwrap().len(), 6, "nothing was done");
}

/// A world with something on every page.
async fn filled(world: &World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "http://127.0.0.1:9/hook").await;
    let schema = serde_json::json!({"examples": [{"n": 1}]});
    let spec = EventTypeSpec {
        name: "invoice.paid".into(),
        schemas: Some([("1".to_owned(), schema)].into_iter().collect()),
        ..EventTypeSpec::default()
    };
    world.store.put_event_type(&world.tenant(), spec, world.now).await.unwrap();
    let message = world.message(&acme, "invoice.paid", "{}", world.ago(MINUTE)).await;
    world.tries(&message, &endpoint, [Try::answered(world.ago(MINUTE), 500, "", dead())]).await;
    world.message(&acme, "invoice.paid", "{}", world.ago(MINUTE)).await;
    world
        .store
        .create_polling_endpoint(&world.tenant(), acme.id, PollingEndpointSpec::default(), world.now)
        .await
        .unwrap();
    world.portal_session(&acme, None, &[]).await;
    let stuck = "INSERT INTO outbox (application, event_type, payload) VALUES ('nobody', 'a.b', '{}')";
    execute(world, stuck).await;
    world.store.relay(RelayRequest { limit: 10, now: world.now }).await.unwrap();
}

/// The links and the actions of POST forms of a page.
fn offered(page: &str) -> (Vec<String>, Vec<String>) {
    let tags = crate::html::check(page, "a page");
    let value = |tag: &crate::html::Tag, name: &str| {
        tag.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.replace("&#38;", "&"))
    };
    let links = tags.iter().filter(|tag| tag.name == "a").filter_map(|tag| value(tag, "href"));
    let pages = tags.iter().filter(|tag| tag.name == "form" && value(tag, "method").as_deref() == Some("get"));
    let links = links.chain(pages.filter_map(|tag| value(tag, "action")));
    let forms = tags.iter().filter(|tag| tag.name == "form" && value(tag, "method").as_deref() == Some("post"));
    (links.collect(), forms.filter_map(|tag| value(tag, "action")).collect())
}

async fn pages_offer_no_action_beyond_the_role(world: World) {
    filled(&world).await;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for role in OperatorRole::ALL {
        account_as(&world, role.word(), role, None).await;
        let browser = signed_in(&world, role.word()).await;
        let (mut queue, mut known) = (VecDeque::from(["/".to_owned()]), BTreeSet::from(["/".to_owned()]));
        let mut forms = BTreeSet::new();
        while let Some(path) = queue.pop_front() {
            let (status, page) = browser.get(&path).await;
            assert!(status.is_success() || status.is_redirection(), "{}: {path} is offered: {status}", role.word());
            // Exports are no pages.
            if !page.starts_with("<!doctype html>") {
                continue;
            }
            let (links, actions) = offered(&page);
            for link in links.into_iter().filter(|link| link.starts_with('/') && !link.starts_with("/docs")) {
                // One page of each kind of filter is enough.
                let kind = link.split(['?', '#']).next().unwrap_or_default().to_owned();
                if known.insert(kind) {
                    queue.push_back(link);
                }
            }
            forms.extend(actions);
        }
        for action in &forms {
            let response = browser.post(action, &[("csrf", "x".to_owned())]).await;
            let (status, text) = (response.status(), response.text().await.unwrap());
            assert!(!text.contains(DENIED), "{} is offered {action}: {status}", role.word());
        }
        seen.insert(role.word(), known.len() + forms.len());
    }
    assert!(seen["viewer"] > 20 && seen["viewer"] < seen["operator"] && seen["operator"] < seen["admin"], "{seen:?}");
}

/// Submits the access form of an account.
async fn change(browser: &Browser<'_>, path: &str, role: &str, sees: &str) -> reqwest::Response {
    browser.submit(path, path, &[("role", role), ("sees", sees), ("orgs", "org_default")]).await
}

async fn a_role_changes_from_the_next_page_on_and_the_last_admin_stays(world: World) {
    let bert = account_as(&world, "bert", OperatorRole::Viewer, None).await;
    let anna = account_as(&world, "anna", OperatorRole::Admin, None).await;
    let (viewer, admin) = (signed_in(&world, "bert").await, signed_in(&world, "anna").await);
    let path = |id| format!("/operators/{id}");
    assert_eq!(viewer.get("/applications/new").await.0, StatusCode::FORBIDDEN);
    let done = change(&admin, &path(bert.id), "operator", "all").await;
    assert_eq!(location(&done), format!("{}?notice=access-changed", path(bert.id)));
    assert_eq!(viewer.get("/applications/new").await.0, StatusCode::OK);
    assert_eq!(viewer.get("/keys").await.0, StatusCode::FORBIDDEN);
    for (role, sees, why) in [
        ("operator", "all", "make another account one first"),
        ("admin", "some", "make another account one first"),
        ("root", "all", "choose one of the options"),
    ] {
        let refused = change(&admin, &path(anna.id), role, sees).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{role}");
        let page = refused.text().await.unwrap();
        crate::html::check(&page, "/operators");
        assert!(page.contains(why), "{why}: {page}");
    }
    let remove = format!("{}/remove", path(anna.id));
    let page = admin.page(&remove).await;
    assert!(page.contains("last admin") && !page.contains("<button class=\"danger\""), "{page}");
    assert_eq!(admin.post(&remove, &hidden(&page)).await.status(), StatusCode::CONFLICT);
    // A form that was opened before somebody else's change is not saved.
    let opened = admin.page(&path(bert.id)).await;
    assert!(change(&admin, &path(bert.id), "admin", "all").await.status().is_redirection());
    let fields = [("csrf", field(&opened, "csrf")), ("seen", field(&opened, "seen")), ("role", "viewer".into())];
    let refused = admin.post(&path(bert.id), &fields).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().await.unwrap().contains("someone else changed this account"));
    // Now there are two.
    assert!(change(&viewer, &path(anna.id), "viewer", "some").await.status().is_redirection());
    assert_eq!(admin.get("/operators").await.0, StatusCode::FORBIDDEN);
    let log = viewer.page("/audit?act=operator+changed").await;
    assert!(log.contains("operator, all organizations") && log.contains("viewer, org_default"), "{log}");
}
