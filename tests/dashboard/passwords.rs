//! Signing in by name and password: right, wrong, too often; the form that is bound to its browser; what a password's change ends.

use reqwest::{Method, Response, StatusCode};
use sendoff::domain::access::operator::{Operator, OperatorRole};
use sendoff::domain::access::password::PasswordHash;

use sendoff::traffic::Traffic;
use sendoff::traffic::proxies::TrustedProxies;

use crate::support::on_both;
use crate::world::{Browser, World, field, location, set_cookie, with_traffic};

on_both! {
    the_right_password_lets_in_and_nothing_else_does
    every_sign_in_opens_a_new_session
    the_form_belongs_to_the_browser_that_was_shown_it
    too_many_attempts_are_rejected_without_verification
    wrong_passwords_for_unknown_names_lock_nobody_out
    a_known_browser_has_its_own_limit_of_attempts
    a_new_password_ends_the_other_sessions_and_no_more
}

pub const PASSWORD: &str = "correct horse battery";

/// A browser that was shown the sign-in form.
pub struct Visitor<'h> {
    pub world: &'h World,
    pub cookie: String,
    pub csrf: String,
}

impl<'h> Visitor<'h> {
    pub async fn at(world: &'h World) -> Visitor<'h> {
        let response = world.request(Method::GET, "/login").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let cookie = set_cookie(&response);
        for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(cookie.split("; ").any(|one| one == part), "{part}: {cookie}");
        }
        let page = response.text().await.unwrap();
        crate::html::check(&page, "/login");
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Visitor { world, cookie, csrf: field(&page, "csrf") }
    }

    pub async fn types(&self, name: &str, password: &str) -> Response {
        let form = [("csrf", self.csrf.clone()), ("name", name.to_owned()), ("password", password.to_owned())];
        self.world.post("/login", &form).header("cookie", &self.cookie).send().await.unwrap()
    }
}

/// An admin's account.
pub async fn account(world: &World, name: &str, orgs: Option<&[&str]>) -> Operator {
    account_as(world, name, OperatorRole::Admin, orgs).await
}

pub async fn account_as(world: &World, name: &str, role: OperatorRole, orgs: Option<&[&str]>) -> Operator {
    let orgs = orgs.map(|orgs| orgs.iter().map(|org| org.parse().unwrap()).collect());
    let operator = Operator::new(name, role, orgs, world.now).unwrap();
    let hash = PasswordHash::make("password", PASSWORD).unwrap();
    world.store.create_operator(&world.org, &operator, &hash, world.now).await.unwrap();
    operator
}

/// Signs in with an account.
pub async fn signed_in<'h>(world: &'h World, name: &str) -> Browser<'h> {
    let response = Visitor::at(world).await.types(name, PASSWORD).await;
    assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/"));
    let cookie = set_cookie(&response);
    Browser { world, cookie: cookie.split(';').next().unwrap_or_default().to_owned() }
}

async fn the_right_password_lets_in_and_nothing_else_does(world: World) {
    let before = world.request(Method::GET, "/login").send().await.unwrap();
    assert_eq!((before.status(), set_cookie(&before)), (StatusCode::UNAUTHORIZED, String::new()));
    assert!(!before.text().await.unwrap().contains("<form"), "nobody has an account");

    account(&world, "anna", None).await;
    let visitor = Visitor::at(&world).await;
    let mut said = Vec::new();
    for (name, password) in [("anna", "correct horse batter"), ("bert", PASSWORD), ("", ""), ("anna", "")] {
        let response = visitor.types(name, password).await;
        assert_eq!((response.status(), set_cookie(&response)), (StatusCode::UNAUTHORIZED, String::new()), "{name}");
        let page = response.text().await.unwrap();
        crate::html::check(&page, "/login");
        assert!(!page.contains("horse"), "a password does not come back");
        said.push(page.split("role=\"alert\"").nth(1).unwrap().split("</p>").next().unwrap().to_owned());
    }
    assert!(said.iter().all(|one| *one == said[0]), "the same for a wrong name and a wrong password: {said:?}");

    let response = visitor.types(" Anna ", PASSWORD).await;
    assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/"));
    let cookie = set_cookie(&response).split(';').next().unwrap().to_owned();
    let browser = Browser { world: &world, cookie };
    assert!(browser.page("/").await.contains("Sign out <bdi>anna</bdi>"));
    let log = browser.page("/audit").await;
    assert_eq!(log.matches("<td class=\"c-act alert\">sign-in failed</td>").count(), 4, "{log}");
    assert!(log.contains(">signed in</td>") && log.contains("an unknown name") && !log.contains(">bert<"));
}

async fn every_sign_in_opens_a_new_session(world: World) {
    account(&world, "anna", None).await;
    let visitor = Visitor::at(&world).await;
    let planted = Visitor { cookie: format!("{}; sendoff_session=planted", visitor.cookie), ..visitor };
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let cookie = set_cookie(&planted.types("anna", PASSWORD).await);
        sessions.push(cookie.split(';').next().unwrap_or_default().to_owned());
    }
    assert!(sessions.iter().all(|one| one.len() > 50 && !one.contains("planted")), "{sessions:?}");
    assert_ne!(sessions[0], sessions[1]);
}

async fn the_form_belongs_to_the_browser_that_was_shown_it(world: World) {
    account(&world, "anna", None).await;
    let (mine, other) = (Visitor::at(&world).await, Visitor::at(&world).await);
    assert_ne!(mine.csrf, other.csrf);
    for (cookie, csrf) in [
        (mine.cookie.as_str(), other.csrf.as_str()),
        ("", mine.csrf.as_str()),
        ("sendoff_sign_in=", mine.csrf.as_str()),
        (mine.cookie.as_str(), ""),
    ] {
        let form = [("csrf", csrf.to_owned()), ("name", "anna".into()), ("password", PASSWORD.into())];
        let response = world.post("/login", &form).header("cookie", cookie).send().await.unwrap();
        assert_eq!((response.status(), set_cookie(&response)), (StatusCode::FORBIDDEN, String::new()));
    }
    assert_eq!(mine.types("anna", PASSWORD).await.status(), StatusCode::SEE_OTHER);
}

async fn too_many_attempts_are_rejected_without_verification(world: World) {
    account(&world, "anna", None).await;
    account(&world, "bert", None).await;
    let visitor = Visitor::at(&world).await;
    for _ in 0..5 {
        assert_eq!(visitor.types("anna", "wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    let response = visitor.types("ANNA", PASSWORD).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS, "the right one is not looked at either");
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((800..=900).contains(&wait), "{wait}");
    let page = response.text().await.unwrap();
    crate::html::check(&page, "/login");
    assert!(page.contains("Too many attempts") && page.contains("one-time link"), "{page}");
    assert_eq!(visitor.types("bert", PASSWORD).await.status(), StatusCode::SEE_OTHER, "another name");
    let browser = world.sign_in().await;
    let log = browser.page("/audit?act=sign-in+failed").await;
    assert_eq!(log.matches(">sign-in failed</td>").count(), 5, "what was not looked at is not in the log");
}

/// All cookies that an answer sets, as a browser gives them back.
fn cookies(response: &Response) -> Vec<String> {
    let all = response.headers().get_all("set-cookie").iter();
    all.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap_or_default().to_owned()).collect()
}

async fn wrong_passwords_for_unknown_names_lock_nobody_out(world: World) {
    account(&world, "anna", None).await;
    let visitor = Visitor::at(&world).await;
    for n in 0..120 {
        let response = visitor.types(&format!("nobody{n}"), "wrong").await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{n}");
    }
    // Nothing tells an account from an invented name by then.
    let said = async |name: &str| {
        let page = visitor.types(name, "wrong").await.text().await.unwrap();
        page.split("role=\"alert\"").nth(1).unwrap().split("</p>").next().unwrap().to_owned()
    };
    assert_eq!(said("anna").await, said("nobody").await);
    assert_eq!(visitor.types("anna", PASSWORD).await.status(), StatusCode::SEE_OTHER);
}

async fn a_known_browser_has_its_own_limit_of_attempts(world: World) {
    account(&world, "anna", None).await;
    account(&world, "bert", None).await;
    let visitor = Visitor::at(&world).await;
    let signed_in = visitor.types("anna", PASSWORD).await;
    let device = cookies(&signed_in).into_iter().find(|cookie| cookie.starts_with("sendoff_device=")).unwrap();
    let other = Visitor::at(&world).await;
    for name in ["anna", "bert"] {
        for _ in 0..5 {
            assert_eq!(other.types(name, "wrong").await.status(), StatusCode::UNAUTHORIZED);
        }
    }
    let with = |device: &str| Visitor {
        cookie: format!("{}; {device}", visitor.cookie),
        csrf: visitor.csrf.clone(),
        world: &world,
    };
    let (token, signature) = device.split_once('.').unwrap();
    let forged =
        [format!("{token}x.{signature}"), format!("{token}."), token.to_owned(), "sendoff_device=.".to_owned()];
    for device in forged {
        assert_eq!(with(&device).types("anna", PASSWORD).await.status(), StatusCode::TOO_MANY_REQUESTS, "{device}");
    }
    let known = with(&device);
    assert_eq!(known.types("bert", PASSWORD).await.status(), StatusCode::TOO_MANY_REQUESTS, "another account's");
    for _ in 0..4 {
        assert_eq!(known.types("anna", "wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    let again = known.types("anna", PASSWORD).await;
    assert_eq!(again.status(), StatusCode::SEE_OTHER);
    assert!(cookies(&again).contains(&device), "it stays the same device");
    assert_eq!(other.types("anna", PASSWORD).await.status(), StatusCode::TOO_MANY_REQUESTS, "others wait on");
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_caller_has_tries_of_its_own() {
    for (trusted, wanted) in [("127.0.0.1/32", StatusCode::SEE_OTHER), ("10.0.0.0/8", StatusCode::TOO_MANY_REQUESTS)] {
        let proxies = TrustedProxies::new(vec![trusted.parse().unwrap()]);
        let world = with_traffic(Traffic { proxies, ..Traffic::default() }).await;
        account(&world, "anna", None).await;
        let visitor = Visitor::at(&world).await;
        let types = async |from: &str, password: &str| {
            let form = [("csrf", visitor.csrf.clone()), ("name", "anna".to_owned()), ("password", password.to_owned())];
            let request = world.post("/login", &form).header("cookie", &visitor.cookie);
            request.header("x-forwarded-for", from).send().await.unwrap().status()
        };
        for n in 0..5 {
            // What the caller wrote stands before what the proxy saw.
            assert_eq!(types(&format!("198.51.100.{n}, 192.0.2.1"), "wrong").await, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(types("192.0.2.1", PASSWORD).await, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(types("192.0.2.2", PASSWORD).await, wanted, "{trusted}");
    }
}

async fn a_new_password_ends_the_other_sessions_and_no_more(world: World) {
    account(&world, "anna", None).await;
    let (one, other, link) = (signed_in(&world, "anna").await, signed_in(&world, "anna").await, world.sign_in().await);
    let page = one.page("/account").await;
    let new = "a better one, much longer";
    let change = async |current: &str, new: &str, again: &str| {
        let form = [
            ("csrf", field(&page, "csrf")),
            ("current", current.to_owned()),
            ("new", new.to_owned()),
            ("new_again", again.to_owned()),
        ];
        one.post("/account/password", &form).await
    };
    for (current, new, again, why) in [
        ("wrong", new, new, "is not correct"),
        (PASSWORD, "short", "short", "at least 12 characters"),
        (PASSWORD, new, "another one, longer", "does not match"),
    ] {
        let response = change(current, new, again).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = response.text().await.unwrap();
        crate::html::check(&page, "/account/password");
        assert!(page.contains(why), "{page}");
    }
    assert_eq!(other.get("/").await.0, StatusCode::OK);
    let response = change(PASSWORD, new, new).await;
    assert_eq!(location(&response), "/account?notice=password-changed");
    assert_eq!(one.get("/").await.0, StatusCode::OK);
    assert_eq!(other.get("/").await.0, StatusCode::SEE_OTHER);
    assert_eq!(link.get("/").await.0, StatusCode::OK, "others' go on");
    let visitor = Visitor::at(&world).await;
    assert_eq!(visitor.types("anna", PASSWORD).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(visitor.types("anna", new).await.status(), StatusCode::SEE_OTHER);
    let form = [("csrf", field(&link.page("/operators").await, "csrf")), ("current", new.into()), ("new", new.into())];
    assert_eq!(link.post("/account/password", &form).await.status(), StatusCode::NOT_FOUND, "a link has none");
}
