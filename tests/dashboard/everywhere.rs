//! Rules for every route of the dashboard and the portal. They walk the route tables, so a new page is tested too.

use reqwest::{Method, StatusCode};

use crate::support::on_both;
use crate::support::pages::{Page, pages};
use crate::world::{World, location};

on_both! {
    every_page_needs_a_session
    every_form_needs_the_token_of_its_session
    every_path_refuses_other_methods
    the_portal_needs_a_session_of_its_own
}

/// Open to everybody: they begin a session, or serve files and themes.
const OPEN: [&str; 12] = [
    "/catalog/{org}",
    "/catalog/{org}/{name}",
    "/login",
    "/login/oidc",
    "/login/oidc/callback",
    "/login/code",
    "/reset",
    "/static/{hash}/{name}",
    "/preferences",
    "/portal/enter/{code}",
    "/portal/enter/{code}/theme.css",
    "/portal/left",
];

fn closed() -> impl Iterator<Item = Page> {
    pages().into_iter().filter(|page| !OPEN.contains(&&*page.path))
}

async fn every_page_needs_a_session(world: World) {
    for page in closed().filter(|page| !page.in_portal()) {
        let path = page.path_with("x");
        for cookie in ["", "sendoff_session=x"] {
            let request = world.request(page.method.parse().unwrap(), &path).header("cookie", cookie);
            let response = request.header("origin", world.url.origin().ascii_serialization()).send().await.unwrap();
            assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/login"), "{page:?}");
        }
    }
}

async fn every_form_needs_the_token_of_its_session(world: World) {
    let browser = world.sign_in().await;
    // One that exists: the application and the token are read concurrently, and either may refuse first.
    let app = world.app("Acme").await.id.to_string();
    for page in closed().filter(|page| page.method == "POST" && !page.in_portal()) {
        let page = Page { path: page.path.replace("{app}", &app), ..page };
        for token in ["", "x"] {
            let response = browser.post(&page.path_with("x"), &[("csrf", token.to_owned())]).await;
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{page:?}");
        }
    }
}

async fn every_path_refuses_other_methods(world: World) {
    let browser = world.sign_in().await;
    let all = pages();
    for page in all.iter().filter(|page| !page.in_portal()) {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if all.iter().any(|other| other.path == page.path && other.method == method) {
                continue;
            }
            let request = world.request(method.parse::<Method>().unwrap(), &page.path_with("x"));
            let request = request.header("origin", world.url.origin().ascii_serialization());
            let status = request.header("cookie", &browser.cookie).send().await.unwrap().status();
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {page:?}");
        }
    }
}

async fn the_portal_needs_a_session_of_its_own(world: World) {
    let operator = world.sign_in().await;
    for page in closed().filter(Page::in_portal) {
        let path = page.path_with("x");
        for cookie in ["", &operator.cookie] {
            let request = world.request(page.method.parse().unwrap(), &path).header("cookie", cookie);
            let response = request.header("origin", world.url.origin().ascii_serialization()).send().await.unwrap();
            assert!(!response.status().is_success(), "{page:?}: {}", response.status());
        }
    }
}
