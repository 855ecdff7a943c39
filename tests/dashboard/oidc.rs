//! Sign-in at an identity provider: a real one, in a process of its own, with people and faults that the test chooses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use sendoff::domain::access::oidc::{OidcOptions, RoleMap};
use sendoff::domain::access::operator::OperatorRole;
use sendoff::domain::time::Clock;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::passwords::{account, signed_in};
use crate::support::kind::OnStore;
use crate::support::{Kind, npm, on_both};
use crate::world::{Browser, World, location};

on_both! {
    users_of_the_provider_sign_in_with_the_role_of_their_groups
    responses_that_the_provider_did_not_give_to_this_browser_are_rejected
    keys_are_fetched_again_and_a_provider_that_is_down_locks_nobody_out
}

const CALLBACK: &str = "/login/oidc/callback";

/// A world whose operators sign in at a provider.
struct SingleSignOn {
    world: World,
    issuer: String,
    _provider: Provider,
}

/// The provider's process; ends with the test.
struct Provider(Child);

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn provider() -> (Provider, String) {
    let start = || {
        let mut process = Command::new("node")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/javascript/oidc_provider.mjs"))
            .env("SENDOFF_TEST_NPM", npm())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let issuer = lines.by_ref().find_map(|line| line.unwrap().strip_prefix("ready ").map(str::to_owned));
        // Its notices go nowhere, but must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        (Provider(process), issuer.expect("a provider that starts"))
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

fn options(issuer: &str) -> OidcOptions {
    OidcOptions {
        issuer: issuer.to_owned(),
        client_id: "sendoff".to_owned(),
        client_secret: Zeroizing::new("a secret of the client, long enough for HS256".to_owned()),
        scopes: ["openid", "profile", "email", "groups"].map(str::to_owned).into(),
        groups_claim: "groups".to_owned(),
        roles: RoleMap::parse("admins=admin,ops=operator").unwrap(),
        domains: vec!["example.com".to_owned()],
        label: "Sign in with Example".to_owned(),
        session: Duration::from_secs(1_800),
    }
}

impl OnStore for SingleSignOn {
    async fn on(kind: Kind) -> SingleSignOn {
        let (process, issuer) = provider().await;
        let world = World::with_oidc(kind, options(&issuer)).await;
        SingleSignOn { world, issuer, _provider: process }
    }
}

/// A browser's cookies at one site.
#[derive(Default)]
struct Jar(BTreeMap<String, String>);

impl Jar {
    fn keep(&mut self, response: &Response) {
        for cookie in response.headers().get_all("set-cookie") {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.0.insert(name.to_owned(), value.to_owned());
        }
    }

    fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }
}

impl SingleSignOn {
    async fn control(&self, state: Value) {
        let sent = self.world.anywhere(Method::POST, &format!("{}/control", self.issuer)).body(state.to_string());
        assert!(sent.send().await.unwrap().status().is_success());
    }

    /// The next person to sign in.
    async fn person(&self, subject: &str, claims: Value) {
        self.control(json!({"account": subject, "people": {subject: claims}})).await;
    }

    /// Begins a sign-in and goes through the provider's pages. Gives the way back, and the cookie for it.
    async fn at_provider(&self) -> (String, String) {
        let begun = self.world.request(Method::GET, "/login/oidc").send().await.unwrap();
        assert_eq!(begun.status(), StatusCode::SEE_OTHER, "{:?}", begun.text().await);
        let mut ours = Jar::default();
        ours.keep(&begun);
        let (mut next, mut theirs) = (location(&begun).to_owned(), Jar::default());
        for part in ["code_challenge_method=S256", "nonce=", "state=", "response_type=code"] {
            assert!(next.contains(part), "{part}: {next}");
        }
        for _ in 0..10 {
            if let Some(path) = next.strip_prefix(self.world.url.as_str()) {
                return (format!("/{path}"), ours.text());
            }
            let response =
                self.world.anywhere(Method::GET, &next).header("cookie", theirs.text()).send().await.unwrap();
            theirs.keep(&response);
            let status = response.status();
            assert!(status.is_redirection(), "{next}: {status} {:?}", response.text().await);
            let url = url::Url::parse(&next).unwrap();
            next = url.join(location(&response)).unwrap().into();
        }
        panic!("it goes round in circles: {next}");
    }

    async fn back(&self, path: &str, cookie: &str) -> Response {
        self.world.request(Method::GET, path).header("cookie", cookie).send().await.unwrap()
    }

    /// A whole sign-in.
    async fn sign_in(&self) -> Result<Browser<'_>, (StatusCode, String)> {
        let (path, cookie) = self.at_provider().await;
        let response = self.back(&path, &cookie).await;
        match session(&response) {
            Some(cookie) => Ok(Browser { world: &self.world, cookie }),
            None => {
                let status = response.status();
                let page = response.text().await.unwrap();
                crate::html::check(&page, CALLBACK);
                Err((status, page))
            }
        }
    }
}

/// The session's cookie of a response.
fn session(response: &Response) -> Option<String> {
    let cookies = response.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
    let mut sessions = cookies.filter(|cookie| cookie.starts_with("sendoff_session="));
    sessions.next().map(|cookie| cookie.split(';').next().unwrap_or_default().to_owned())
}

/// The status and the title of a refused sign-in.
async fn refused(sso: &SingleSignOn) -> (u16, String) {
    match sso.sign_in().await {
        Ok(_) => panic!("signed in"),
        Err((status, page)) => (status.as_u16(), title(&page)),
    }
}

fn title(page: &str) -> String {
    page.split("<h1>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default().to_owned()
}

fn anna(groups: &[&str]) -> Value {
    json!({"email": "Anna@example.com", "email_verified": true, "groups": groups})
}

async fn users_of_the_provider_sign_in_with_the_role_of_their_groups(sso: SingleSignOn) {
    let world = &sso.world;
    let page = world.request(Method::GET, "/login").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    crate::html::check(&page, "/login");
    assert!(page.contains("href=\"/login/oidc\">Sign in with Example</a>") && !page.contains("<form"), "{page}");

    sso.person("1", anna(&["ops", "others"])).await;
    let browser = sso.sign_in().await.expect("a session");
    let page = browser.page("/account").await;
    assert!(page.contains("anna@example.com") && page.contains("operator"), "{page}");
    assert!(!page.contains("name=\"current\"") && !page.contains("Two-factor"), "it has no password: {page}");
    assert_eq!(browser.get("/keys").await.0, StatusCode::FORBIDDEN);
    let operators = world.store.operators().await.unwrap();
    let [operator] = operators.as_slice() else { panic!("{operators:?}") };
    assert_eq!((operator.role, operator.has_password), (OperatorRole::Operator, false));
    let open = world.store.open_sessions(None, 10, Clock.now()).await.unwrap();
    assert_eq!(open[0].until.since(open[0].since), Duration::from_secs(1_800));

    // Another group, another address: the account of the same subject, with another role.
    sso.person("1", json!({"email": "anna.b@example.com", "email_verified": true, "groups": "admins"})).await;
    let browser = sso.sign_in().await.expect("a session");
    let page = browser.page("/operators").await;
    assert!(page.contains("anna@example.com") && page.contains("admin"), "{page}");
    assert_eq!(world.store.operators().await.unwrap().len(), 1);
    assert!(browser.page("/audit").await.contains("operator changed"));
    let id = world.store.operators().await.unwrap()[0].id;
    assert!(!browser.page(&format!("/operators/{id}")).await.contains("Create reset link"), "no password to reset");

    // No role, no access; the address counts only if it is verified and in the domain.
    for claims in [
        json!({"email": "c@example.com", "email_verified": true, "groups": ["others"]}),
        json!({"email": "c@example.com", "email_verified": true}),
        json!({"email": "c@example.com", "email_verified": false, "groups": ["ops"]}),
        json!({"email": "c@evil.example", "email_verified": true, "groups": ["ops"]}),
        json!({"groups": ["ops"]}),
    ] {
        sso.person("2", claims.clone()).await;
        assert_eq!(refused(&sso).await, (403, "No access".to_owned()), "{claims}");
    }
    sso.person("1", anna(&[])).await;
    assert_eq!(refused(&sso).await.0, 403, "out of all groups");
    sso.control(json!({"account": null})).await;
    assert_eq!(refused(&sso).await, (401, "Sign-in not completed".to_owned()), "removed at the provider");

    // A name does not open the account of somebody else.
    account(world, "bert@example.com", None).await;
    sso.person("3", json!({"email": "bert@example.com", "email_verified": true, "groups": ["admins"]})).await;
    assert_eq!(refused(&sso).await.0, 403);
    assert_eq!(world.store.operators().await.unwrap().len(), 2);
    assert_eq!(world.store.open_sessions(None, 10, Clock.now()).await.unwrap().len(), 2, "nobody else got in");
}

async fn responses_that_the_provider_did_not_give_to_this_browser_are_rejected(sso: SingleSignOn) {
    sso.person("1", anna(&["ops"])).await;
    let now = Clock.now().seconds();
    for tamper in [
        json!({"claims": {"nonce": "another"}}),
        json!({"claims": {"nonce": null}}),
        json!({"claims": {"exp": now - 120}}),
        json!({"claims": {"iat": now + 600}}),
        json!({"claims": {"aud": "another"}}),
        json!({"claims": {"aud": ["sendoff", "another"]}}),
        json!({"claims": {"azp": "another"}}),
        json!({"claims": {"iss": "https://another.example"}}),
        json!({"key": "unpublished"}),
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
    ] {
        sso.control(json!({"tamper": tamper})).await;
        assert_eq!(refused(&sso).await, (401, "Sign-in rejected".to_owned()), "{tamper}");
    }
    // A clock that differs a little is none of these.
    for tamper in [json!({"claims": {"exp": now - 5, "iat": now - 300}}), json!({"claims": {"iat": now + 30}})] {
        sso.control(json!({"tamper": tamper})).await;
        assert!(sso.sign_in().await.is_ok(), "{tamper}");
    }
    sso.control(json!({"tamper": null})).await;

    let (path, cookie) = sso.at_provider().await;
    let state = path.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let flipped = cookie.replacen('.', "x.", 1);
    for (path, cookie, why) in [
        (path.replace(state, "another"), cookie.as_str(), "another state"),
        (path.replace(&format!("state={state}"), "state="), cookie.as_str(), "no state"),
        (path.replace("code=", "other="), cookie.as_str(), "no code"),
        (path.replace("iss=", "iss=x"), cookie.as_str(), "another issuer"),
        (path.clone(), "", "another browser"),
        (path.clone(), flipped.as_str(), "a changed cookie"),
    ] {
        let response = sso.back(&path, cookie).await;
        assert_eq!((response.status(), session(&response)), (StatusCode::UNAUTHORIZED, None), "{why}");
        let page = response.text().await.unwrap();
        crate::html::check(&page, CALLBACK);
        assert!(title(&page) == "Sign-in not completed" && !page.contains("another"), "{why}: {page}");
    }
    let first = sso.back(&path, &cookie).await;
    assert!(session(&first).is_some());
    let mut kept = first.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
    assert!(kept.any(|cookie| cookie.starts_with("sendoff_oidc=;")), "the sign-in's secrets are forgotten");
    let again = sso.back(&path, &cookie).await;
    assert_eq!((again.status(), session(&again)), (StatusCode::UNAUTHORIZED, None), "a code works once");
    let (path, _) = sso.at_provider().await;
    let (_, other) = sso.at_provider().await;
    let mixed = sso.back(&path, &other).await;
    assert_eq!((mixed.status(), session(&mixed)), (StatusCode::UNAUTHORIZED, None), "of two browsers");
}

async fn keys_are_fetched_again_and_a_provider_that_is_down_locks_nobody_out(sso: SingleSignOn) {
    let world = &sso.world;
    account(world, "bert", None).await;
    sso.control(json!({"down": true})).await;
    let down = world.request(Method::GET, "/login/oidc").send().await.unwrap();
    assert_eq!(down.status(), StatusCode::BAD_GATEWAY);
    let page = down.text().await.unwrap();
    crate::html::check(&page, "/login/oidc");
    assert!(page.contains("The identity provider is unavailable"), "{page}");
    signed_in(world, "bert").await;
    sso.control(json!({"down": false})).await;
    sso.person("1", anna(&["ops"])).await;
    // At most one request in five seconds, whoever asks.
    let begins = async || world.request(Method::GET, "/login/oidc").send().await.unwrap().status();
    until(async || begins().await == StatusCode::SEE_OTHER).await;
    assert!(sso.sign_in().await.is_ok());

    // A new key: unknown until the key set is fetched again.
    sso.control(json!({"tamper": {"key": "second"}, "published": ["first", "second"]})).await;
    until(async || sso.sign_in().await.is_ok()).await;
    sso.control(json!({"tamper": null})).await;
    assert!(sso.sign_in().await.is_ok(), "the old key is still good");

    let (path, cookie) = sso.at_provider().await;
    sso.control(json!({"down": true})).await;
    let response = sso.back(&path, &cookie).await;
    assert_eq!((response.status(), session(&response)), (StatusCode::BAD_GATEWAY, None));
    assert_eq!(title(&response.text().await.unwrap()), "The identity provider is unavailable");
    let page = world.request(Method::GET, "/login").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK, "the page does not ask the provider");
}

/// Waits for a condition, at most a minute.
async fn until(condition: impl AsyncFn() -> bool) {
    for _ in 0..240 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("not within a minute");
}
