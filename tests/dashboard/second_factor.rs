//! Two-factor sign-in: setting it up, codes that work once, recovery codes, guessing, and an admin's help.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use sendoff::domain::Time;
use sendoff::domain::access::operator::OperatorRole;
use sendoff::domain::access::totp::TotpSecret;
use sendoff::domain::time::Clock;
use sendoff::store::access::operators::OwnChange;

use crate::passwords::{PASSWORD, Visitor, account, account_as, signed_in};
use crate::support::pages::pages;
use crate::support::{Kind, on_both};
use crate::world::{Browser, World, field, hidden, location, set_cookie};

on_both! {
    a_second_factor_is_set_up_and_required_at_the_next_sign_in
    codes_and_recovery_codes_work_once
    guessing_codes_is_limited_like_guessing_passwords
    a_ticket_belongs_to_its_browser_and_its_password
    an_admin_removes_a_lost_second_factor
    a_required_second_factor_is_set_up_before_anything_else
}

const SETUP: &str = "/account/second-factor";

/// The bytes of base32 text.
fn decoded(text: &str) -> Vec<u8> {
    let mut bits: (u32, u32) = (0, 0);
    let mut bytes = Vec::new();
    for c in text.bytes().filter(u8::is_ascii_alphanumeric) {
        let value = if c.is_ascii_digit() { c - b'2' + 26 } else { c - b'A' };
        bits = ((bits.0 << 5) | u32::from(value), bits.1 + 5);
        if bits.1 >= 8 {
            bits.1 -= 8;
            bytes.push((bits.0 >> bits.1) as u8);
        }
    }
    bytes
}

/// The secret that a setup page shows.
fn secret(page: &str) -> TotpSecret {
    let text = page.split("aria-label=\"The key\">").nth(1).and_then(|rest| rest.split('<').next()).expect("a key");
    TotpSecret::from_bytes(&decoded(text)).expect("20 bytes")
}

fn codes(page: &str) -> Vec<String> {
    let list = page.split("<ol class=\"codes\">").nth(1).expect("codes").split("</ol>").next().unwrap();
    list.split("<code>").skip(1).filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect()
}

/// The code of the step after the current one: not used up by the setup, and accepted.
fn next(secret: &TotpSecret) -> String {
    secret.code_at(Clock.now().plus(Duration::from_secs(30)))
}

/// Sets a second factor up; gives its secret and the recovery codes.
async fn set_up(browser: &Browser<'_>) -> (TotpSecret, Vec<String>) {
    let page = browser.page(SETUP).await;
    let secret = secret(&page);
    let mut form = hidden(&page);
    form.extend([
        ("draft", field(&page, "draft")),
        ("code", secret.code_at(Clock.now())),
        ("current", PASSWORD.into()),
    ]);
    let response = browser.post(SETUP, &form).await;
    assert_eq!(response.status(), StatusCode::OK);
    let page = response.text().await.unwrap();
    crate::html::check(&page, SETUP);
    (secret, codes(&page))
}

impl Visitor<'_> {
    /// Enters the password and gives the ticket of the page that asks for a code.
    async fn ticket(&self, name: &str) -> String {
        let response = self.types(name, PASSWORD).await;
        assert_eq!((response.status(), set_cookie(&response)), (StatusCode::OK, String::new()), "no session yet");
        let page = response.text().await.unwrap();
        crate::html::check(&page, "/login");
        assert!(page.contains("Enter your code"), "{page}");
        field(&page, "ticket")
    }

    async fn code(&self, ticket: &str, code: &str) -> Response {
        let form = [("csrf", self.csrf.clone()), ("ticket", ticket.to_owned()), ("code", code.to_owned())];
        self.world.post("/login/code", &form).header("cookie", &self.cookie).send().await.unwrap()
    }
}

async fn a_second_factor_is_set_up_and_required_at_the_next_sign_in(world: World) {
    account(&world, "anna", None).await;
    let (browser, other) = (signed_in(&world, "anna").await, signed_in(&world, "anna").await);
    let page = browser.page(SETUP).await;
    assert!(page.contains("<svg class=\"qr\"") && page.contains("<path d=\"M0 0h7v1h-7z"), "{page}");
    let shown = secret(&page);
    let draft = field(&page, "draft");
    let post = async |draft: &str, code: String, current: &str| {
        let mut form = hidden(&page);
        form.extend([("draft", draft.to_owned()), ("code", code), ("current", current.to_owned())]);
        browser.post(SETUP, &form).await
    };
    let now = || shown.code_at(Clock.now());
    for (draft, code, current, why) in [
        (draft.as_str(), "000000".to_owned(), PASSWORD, "is not the current code"),
        (draft.as_str(), now(), "wrong", "is not correct"),
        ("another", now(), PASSWORD, "is not the current code"),
    ] {
        let response = post(draft, code, current).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{why}");
        let page = response.text().await.unwrap();
        crate::html::check(&page, SETUP);
        assert!(page.contains(why) && (draft == "another" || secret(&page) == shown), "{why}: {page}");
    }
    assert_eq!(other.get("/").await.0, StatusCode::OK);
    let code = now();
    let response = post(&draft, code.clone(), PASSWORD).await;
    assert_eq!(
        (response.status(), &response.headers()["cache-control"]),
        (StatusCode::OK, &"no-store".parse().unwrap())
    );
    let first = codes(&response.text().await.unwrap());
    assert_eq!(first.len(), 10);
    assert_eq!(codes(&post(&draft, code, PASSWORD).await.text().await.unwrap()), first, "posted twice");
    assert_eq!((other.get("/").await.0, browser.get("/").await.0), (StatusCode::SEE_OTHER, StatusCode::OK));
    let page = browser.page("/account").await;
    assert!(page.contains("10 recovery codes left") && !page.contains(&first[0]), "{page}");
    assert_eq!(browser.get(SETUP).await.0, StatusCode::SEE_OTHER, "there is one already");

    let visitor = Visitor::at(&world).await;
    let ticket = visitor.ticket("anna").await;
    let response = visitor.code(&ticket, &next(&shown)).await;
    assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/"));
    let log = browser.page("/audit").await;
    assert!(log.contains("second factor added") && log.contains("with a second factor"), "{log}");

    // Turned off, the password is enough.
    let change = async |what: &str, current: &str| {
        let mut form = hidden(&browser.page("/account").await);
        form.extend([("current", current.to_owned()), ("do", what.to_owned())]);
        browser.post("/account/second-factor/change", &form).await
    };
    assert_eq!(change("remove", "wrong").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let second = codes(&change("codes", PASSWORD).await.text().await.unwrap());
    assert!(second.len() == 10 && second.iter().all(|code| !first.contains(code)), "{second:?}");
    let done = change("remove", PASSWORD).await;
    assert_eq!(location(&done), "/account?notice=second-factor-removed");
    signed_in(&world, "anna").await;
}

async fn codes_and_recovery_codes_work_once(world: World) {
    account(&world, "anna", None).await;
    let browser = signed_in(&world, "anna").await;
    let (secret, recovery) = set_up(&browser).await;
    // One that the setup used up, one that nothing has, and a word.
    let visitor = Visitor::at(&world).await;
    let ticket = visitor.ticket("anna").await;
    for wrong in [secret.code_at(Clock.now()), "000000".into(), "nonsense".into()] {
        // On the border of a step, the current code is one that was not used.
        let response = visitor.code(&ticket, &wrong).await;
        if response.status() == StatusCode::SEE_OTHER {
            continue;
        }
        assert_eq!((response.status(), set_cookie(&response)), (StatusCode::UNPROCESSABLE_ENTITY, String::new()));
        let page = response.text().await.unwrap();
        crate::html::check(&page, "/login/code");
        assert!(page.contains("wrong, or was used before") && !page.contains(&wrong), "{page}");
    }
    let code = next(&secret);
    let first = visitor.code(&ticket, &code).await;
    assert_eq!(first.status(), StatusCode::SEE_OTHER);
    assert_eq!(visitor.code(&ticket, &code).await.status(), StatusCode::UNPROCESSABLE_ENTITY, "used");
    let typed = recovery[3].to_uppercase().replace('-', " ");
    assert_eq!(visitor.code(&ticket, &typed).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(visitor.code(&ticket, &typed).await.status(), StatusCode::UNPROCESSABLE_ENTITY, "used");
    assert!(browser.page("/account").await.contains("9 recovery codes left"));
    assert!(browser.page("/audit").await.contains("with a recovery code"));
    // Two at once: one gets in.
    let (one, other) = (visitor.code(&ticket, &recovery[4]), visitor.code(&ticket, &recovery[4]));
    let (one, other) = tokio::join!(one, other);
    let mut both = [one.status().as_u16(), other.status().as_u16()];
    both.sort_unstable();
    assert_eq!(both, [303, 422]);
}

async fn guessing_codes_is_limited_like_guessing_passwords(world: World) {
    account(&world, "anna", None).await;
    let (_, recovery) = set_up(&signed_in(&world, "anna").await).await;
    let visitor = Visitor::at(&world).await;
    let ticket = visitor.ticket("anna").await;
    for _ in 0..2 {
        assert_eq!(visitor.code(&ticket, "000000").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    // A right password does not start the count anew: it is the fourth attempt, and a guess the fifth.
    let ticket = visitor.ticket("anna").await;
    assert_eq!(visitor.code(&ticket, "000000").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let refused = visitor.code(&ticket, &recovery[0]).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    let page = refused.text().await.unwrap();
    crate::html::check(&page, "/login/code");
    assert!(page.contains("Too many attempts"), "{page}");
    assert_eq!(visitor.types("anna", PASSWORD).await.status(), StatusCode::TOO_MANY_REQUESTS);
}

async fn a_ticket_belongs_to_its_browser_and_its_password(world: World) {
    let anna = account(&world, "anna", None).await;
    account(&world, "bert", None).await;
    let browser = signed_in(&world, "anna").await;
    let (_, recovery) = set_up(&browser).await;
    let (visitor, other) = (Visitor::at(&world).await, Visitor::at(&world).await);
    let ticket = visitor.ticket("anna").await;
    let parts: Vec<&str> = ticket.split('.').collect();
    let later = format!("{}.{}.{}", parts[0], i64::MAX, parts[2]);
    for (who, forged) in [(&other, ticket.as_str()), (&visitor, &later), (&visitor, "x"), (&visitor, "")] {
        let response = who.code(forged, &recovery[0]).await;
        assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/login"), "{forged}");
        assert_eq!(set_cookie(&response), "");
    }
    let form = [("csrf", "x".to_owned()), ("ticket", ticket.clone()), ("code", recovery[0].clone())];
    let response = world.post("/login/code", &form).header("cookie", &visitor.cookie).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    // A changed password makes it worthless.
    let (_, before) = world.store.operator_named("anna").await.unwrap().unwrap();
    let (_, after) = world.store.operator_named("bert").await.unwrap().unwrap();
    let own = OwnChange { from: &world.org, operator: &anna, password: &before, keep: &[0; 32] };
    let changed = world.store.change_password(own, &after, Time::ZERO).await.unwrap();
    assert!(changed);
    let response = visitor.code(&ticket, &recovery[0]).await;
    assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/login"));
    assert_eq!(set_cookie(&response), "");
}

async fn an_admin_removes_a_lost_second_factor(world: World) {
    account(&world, "anna", None).await;
    let bert = account_as(&world, "bert", OperatorRole::Viewer, None).await;
    set_up(&signed_in(&world, "bert").await).await;
    let admin = signed_in(&world, "anna").await;
    let path = format!("/operators/{}", bert.id);
    let page = admin.page(&path).await;
    assert!(page.contains("Remove second factor"), "{page}");
    let done = admin.post(&format!("{path}/second-factor/remove"), &hidden(&page)).await;
    assert_eq!(location(&done), format!("{path}?notice=second-factor-removed"));
    assert!(!admin.page(&path).await.contains("Remove second factor"));
    assert_eq!(world.store.second_factor(bert.id).await.unwrap(), None);
    signed_in(&world, "bert").await;
    let log = admin.page("/audit?act=second+factor+removed").await;
    assert!(log.contains("anna") && log.contains("bert"), "{log}");
}

/// With `SENDOFF_REQUIRE_TOTP`: an account without a second factor gets no page but the one that sets it up.
async fn a_required_second_factor_is_set_up_before_anything_else(kind: Kind) {
    let world = World::requiring_totp(kind).await;
    let anna = account(&world, "anna", None).await;
    let app = world.app("Acme").await;
    let browser = signed_in(&world, "anna").await;
    let page = browser.page(SETUP).await;
    assert!(page.contains("Your team requires a second factor") && !page.contains("<nav"), "{page}");
    assert!(page.contains("action=\"/logout\"") && !page.contains("href=\"/account\""), "{page}");
    let form = hidden(&page);
    let mut tried = 0;
    for page in pages().into_iter().filter(|page| !page.in_portal() && page.path != SETUP) {
        let path = page.path.replace("{app}", &app.id.to_string());
        if ["/login", "/reset", "/preferences", "/static", "/catalog", "/logout"]
            .iter()
            .any(|open| path.starts_with(open))
        {
            continue;
        }
        let path = crate::support::pages::Page { path, ..page.clone() }.path_with("x");
        let request = match page.method {
            "POST" => world.post(&path, &form),
            _ => world.request(reqwest::Method::GET, &path),
        };
        let response = request.header("cookie", &browser.cookie).send().await.unwrap();
        assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, SETUP), "{} {path}", page.method);
        tried += 1;
    }
    assert!(tried > 80, "{tried} routes");
    assert_eq!(world.store.operator(anna.id).await.unwrap().map(|anna| anna.second_factor), Some(false));

    // A link is the way in for those who have no device.
    let link = world.sign_in().await;
    assert_eq!(link.get("/").await.0, StatusCode::OK);

    set_up(&browser).await;
    assert_eq!(browser.get("/").await.0, StatusCode::OK);
    let page = browser.page("/account").await;
    assert!(page.contains("Replace recovery codes") && !page.contains("Turn off"), "{page}");
    let mut form = hidden(&page);
    form.extend([("current", PASSWORD.to_owned()), ("do", "remove".to_owned())]);
    assert_eq!(browser.post("/account/second-factor/change", &form).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(world.store.operator(anna.id).await.unwrap().map(|anna| anna.second_factor), Some(true));

    // An admin takes it away: the next page is the setup again.
    let page = link.page(&format!("/operators/{}", anna.id)).await;
    link.post(&format!("/operators/{}/second-factor/remove", anna.id), &hidden(&page)).await;
    let again = signed_in(&world, "anna").await;
    let (status, _) = again.get("/messages").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    // Signing out is possible.
    let page = again.page(SETUP).await;
    let response = again.post("/logout", &hidden(&page)).await;
    assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/login"));
}
