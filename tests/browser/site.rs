//! A world with people in it, and its pages, which come from the table of routes: a page that is added later is looked at as well.

use std::time::Duration;

use sendoff::domain::OrgId;
use sendoff::domain::access::api_key;
use sendoff::domain::access::oidc::{OidcOptions, RoleMap};
use sendoff::domain::access::operator::{Operator, OperatorRole};
use sendoff::domain::access::password::PasswordHash;
use sendoff::domain::access::portal::{PortalLink, PortalOptions};
use sendoff::domain::access::totp::TotpSecret;
use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::organization_spec::OrganizationSpec;
use sendoff::domain::time::Clock;
use sendoff::store::access::operator_sessions::{NewSession, PasswordSignIn, SessionClient};
use sendoff::store::access::operators::OwnChange;
use sendoff::store::access::second_factors::{NewSecondFactor, SecondFactorProof};
use sendoff::store::catalog::organization_rows::OrganizationWrite;
use zeroize::Zeroizing;

use crate::driver::Browser;
use crate::support::Kind;
use crate::support::pages::pages as routes;
use crate::world::{MINUTE, World};

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery";
/// The operator with a second factor.
pub const CAREFUL: &str = "linus";

/// A page to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub path: String,
    /// Of its route, for files: `applications-app-edit`.
    pub name: String,
    /// Whether it is answered with 200.
    pub ok: bool,
}

/// A world with people in it.
pub struct Site {
    pub world: World,
    pub acme: Application,
    /// The session of an operator with an account.
    pub session: String,
    /// The session of a customer.
    pub visit: String,
    /// Values for the parts of routes.
    parts: Vec<(&'static str, String)>,
}

/// Routes that answer with a file, a stream or a redirect.
fn is_no_page(route: &str) -> bool {
    [".csv", ".jsonl", ".css", "/tail/events", "/static/{hash}/{name}", "/endpoints/{endpoint}/test"]
        .iter()
        .any(|end| route.ends_with(end))
}

/// Pages that look different with a query. An empty query is the page itself.
const QUERIES: &[(&str, &[&str])] = &[
    ("/", &["", "range=24h", "range=30d"]),
    (
        "/deliveries",
        &[
            "",
            "status=dead",
            "status=retrying",
            "q=nothing-of-the-kind&since=2026-01-01T00:00:00Z",
            "payload=amount+%3E",
        ],
    ),
    ("/messages", &["", "payload=amount+%3E+100"]),
    ("/resend", &["", "status=dead"]),
    ("/portal/resend", &["", "status=dead"]),
    ("/cancel", &["row={message}.{endpoint}"]),
    ("/portal/cancel", &["row={message}.{endpoint}"]),
    ("/find", &["q=Acme", "q=nothing-of-the-kind"]),
    ("/applications/{app}/send", &["", "from={message}"]),
    ("/portal/messages/{message}", &["", "notice=resent"]),
    ("/login", &["", "token={login}", "token=spent"]),
    ("/reset", &["token={reset}", "token=spent"]),
];

/// Queries and routes that are not answered with 200.
const REFUSED: &[&str] = &["token=spent", "/login/oidc", "/login/oidc/callback"];

impl Site {
    /// On SQLite, with one application and nothing in it.
    pub async fn new() -> Site {
        let provider = OidcOptions {
            // Nobody listens there: signing in fails.
            issuer: "http://127.0.0.1:9/".to_owned(),
            client_id: "sendoff".to_owned(),
            client_secret: Zeroizing::new("a secret of the client".to_owned()),
            scopes: vec!["openid".to_owned()],
            groups_claim: "groups".to_owned(),
            roles: RoleMap::parse("ops=operator").unwrap(),
            domains: Vec::new(),
            label: "Sign in with Example".to_owned(),
            session: MINUTE * 60,
        };
        let world = World::with_oidc(Kind::Sqlite, provider).await;
        let acme = world.app("Acme GmbH").await;
        let visit = visit(&world, &acme).await;
        let catalog =
            OrganizationSpec { name: "Production".into(), public_catalog: true, ..OrganizationSpec::default() };
        let written = world.store.put_organization(&world.org, &catalog, None, world.now).await.unwrap();
        assert_eq!(written, OrganizationWrite::Written);
        let parts = vec![("app", acme.id.to_string()), ("org", world.org.to_string())];
        let mut site = Site { world, acme, session: String::new(), visit, parts };
        site.people().await;
        site
    }

    /// Operators, and links for those who are not signed in.
    async fn people(&mut self) {
        let (store, now) = (self.world.store.clone(), Clock.now());
        let password = PasswordHash::make("password", PASSWORD).unwrap();
        let other: OrgId = "org_staging".parse().unwrap();
        let client = SessionClient {
            agent:
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
                    .to_owned(),
            address: "203.0.113.7".to_owned(),
        };
        let people = [
            ("ada", OperatorRole::Admin, None),
            ("grace", OperatorRole::Viewer, Some(vec![other])),
            (CAREFUL, OperatorRole::Operator, None),
        ];
        for (name, role, orgs) in people {
            let operator = Operator::new(name, role, orgs, self.world.now).unwrap();
            store.create_operator(&self.world.org, &operator, &password, self.world.now).await.unwrap();
            let token = format!("session-of-{name}");
            let hash = api_key::hash(&token);
            let session = NewSession { hash: &hash, client: &client, until: now.plus(MINUTE * 600) };
            let proof = &SecondFactorProof::NotNeeded;
            let sign_in = PasswordSignIn { operator: &operator, password: &password, second: proof };
            assert!(store.open_session(sign_in, session, now).await.unwrap());
            if name == "ada" {
                self.session = token;
            }
            if name == CAREFUL {
                self.add("operator", operator.id.to_string());
                let reset = api_key::hash("reset");
                assert!(store.add_password_reset(&self.world.org, &operator, &reset, now).await.unwrap());
                let secret = TotpSecret::from_bytes(&[7; 20]).expect("20 bytes");
                let second = NewSecondFactor { secret, used: 0, recovery_codes: vec![[7; 32]] };
                let own = OwnChange { from: &self.world.org, operator: &operator, password: &password, keep: &hash };
                assert!(store.add_second_factor(own, &second, now).await.unwrap());
            }
        }
        self.add("reset", "reset".to_owned());
        let link = self.world.link().await;
        self.add("login", link.split_once("token=").expect("a token").1.to_owned());
        portal_link(&self.world, &self.acme, "code").await;
        self.add("code", "code".to_owned());
    }

    /// Names a thing for the part of a route; the latest counts.
    pub fn add(&mut self, part: &'static str, value: String) {
        self.parts.retain(|(name, _)| *name != part);
        self.parts.push((part, value));
    }

    /// The address of a route; `None`: there is nothing for a part of it.
    pub fn path(&self, route: &str) -> Option<String> {
        let mut path = route.to_owned();
        for (part, value) in &self.parts {
            path = path.replace(&format!("{{{part}}}"), value);
        }
        (!path.contains('{')).then_some(path)
    }

    /// Routes that everybody may open, by the table of access.
    fn open_routes() -> Vec<&'static str> {
        let rows = include_str!("../dashboard/access.txt").lines().filter(|line| line.starts_with("GET "));
        rows.filter_map(|row| {
            let mut words = row.split_whitespace().skip(1);
            let (path, nobody) = (words.next()?, words.next()?);
            (!["login", "401"].contains(&nobody)).then_some(path)
        })
        .collect()
    }

    fn pages_of(&self, open: bool) -> Vec<Page> {
        let all: Vec<String> = routes().into_iter().filter(|page| page.method == "GET").map(|page| page.path).collect();
        for (route, _) in QUERIES {
            assert!(all.iter().any(|path| path == route), "there is no {route}");
        }
        let mut found = Vec::new();
        let open_routes = Site::open_routes();
        for route in all.iter().filter(|route| !is_no_page(route) && open_routes.contains(&route.as_str()) == open) {
            let queries = QUERIES.iter().find(|(path, _)| path == route).map_or(&[""][..], |(_, queries)| queries);
            for query in queries {
                let whole = if query.is_empty() { route.clone() } else { format!("{route}?{query}") };
                let ok = !REFUSED.contains(query) && !REFUSED.contains(&route.as_str());
                let name = name_of(&whole);
                found.extend(self.path(&whole).map(|path| Page { path, name, ok }));
            }
        }
        found
    }

    /// Every page that is for people who are signed in, and one that does not exist.
    pub fn pages(&self) -> Vec<Page> {
        let mut pages = self.pages_of(false);
        pages.push(Page { path: "/nowhere".into(), name: "nowhere".into(), ok: false });
        pages
    }

    /// Every page that needs no session.
    pub fn open_pages(&self) -> Vec<Page> {
        self.pages_of(true)
    }

    /// The pages of an application, for its customer too.
    pub fn single_pages(&self) -> Vec<String> {
        let app = format!("/applications/{}", self.acme.id);
        let paths = self.pages_of(false).into_iter().filter(|page| page.ok).map(|page| page.path);
        paths.filter(|path| path.starts_with("/portal") || path.starts_with(&app)).collect()
    }

    /// The routes of which nothing is there to look at.
    pub fn without_address(&self) -> Vec<String> {
        let missing = |page: &crate::support::pages::Page| !is_no_page(&page.path) && self.path(&page.path).is_none();
        routes().into_iter().filter(missing).map(|page| page.path).collect()
    }

    pub fn url(&self, path: &str) -> String {
        self.world.url.join(path).expect("a path").into()
    }

    /// Signs an operator in and a customer as well: each has cookies of their own.
    pub async fn enter(&self, browser: &Browser) {
        browser.goto(self.url("/login")).await.unwrap();
        for (name, value) in [("sendoff_session", &self.session), ("sendoff_portal", &self.visit)] {
            let mut cookie = thirtyfour::Cookie::new(name, value.clone());
            cookie.set_path("/");
            browser.add_cookie(cookie).await.unwrap();
        }
        browser.goto(self.url("/")).await.unwrap();
        browser.until_it_says("In the last hour").await;
    }
}

/// A name for the files about a page: `/applications/{app}/edit` is *applications-app-edit*.
fn name_of(route: &str) -> String {
    let words = route.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name: Vec<&str> = words.take(8).collect();
    if name.is_empty() { "overview".to_owned() } else { name.join("-") }
}

async fn portal_link(world: &World, app: &Application, code: &str) {
    let until = world.now.plus(Duration::from_secs(3_600));
    let options = PortalOptions::all(until.micros());
    let link = PortalLink { org: app.org.clone(), app_id: app.id, options, expires_at: until };
    world.store.add_portal_link(&api_key::hash(code), &link, world.now).await.unwrap();
}

/// A customer's cookie.
async fn visit(world: &World, app: &Application) -> String {
    portal_link(world, app, "a code").await;
    let token = "a-visits-token".to_owned();
    let (code, hash) = (api_key::hash("a code"), api_key::hash(&token));
    world.store.redeem_portal_link(&code, &hash, world.now).await.unwrap().expect("a session");
    token
}
