//! A world with something of everything in it: customers, endpoints in each state, messages that arrived, wait, were retried and died,
//! and what others wrote of every kind. [`Story::pages`] is the list of its pages.

use std::time::Duration;

use sendoff::domain::access::api_key;
use sendoff::domain::access::portal::{PortalLink, PortalOptions};
use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::deliveries::attempt::Failure;
use sendoff::domain::deliveries::message::Message;

use crate::driver::Browser;
use crate::world::{self, MINUTE, Try, World, dead, retry};

/// A page of the list.
pub struct Page {
    pub path: String,
    /// Whether it is answered with 200.
    pub ok: bool,
}

/// The world, and what is in it.
pub struct Story {
    pub world: World,
    pub acme: Application,
    pub endpoint: Endpoint,
    pub failed: Message,
    pub visit: String,
}

const PAYLOAD: &str =
    r#"{"id":"in_1PqZ7e2eZvKYlo2C","amount":4200,"currency":"eur","paid":true,"customer":{"name":"Ada Lovelace"}}"#;

impl Story {
    /// Of this morning, on SQLite.
    pub async fn told() -> Story {
        let world = world::at("http://localhost").await;
        let acme = world.app("Acme GmbH").await;
        let globex = world
            .app("株式会社とても長い名前の顧客 · شركة ذات اسم طويل جدا · Société Anonyme des Noms Interminables")
            .await;
        for (name, description) in [("invoice.paid", "An invoice was paid in full."), ("order.shipped", "")] {
            let spec = EventTypeSpec { name: name.into(), description: description.into(), ..EventTypeSpec::default() };
            world.store.create_event_type(&world.tenant(), spec, world.now).await.unwrap();
        }
        let endpoint = world.endpoint(&acme, "https://hooks.acme.example/sendoff/in?tenant=eu-1").await;
        let asleep = EndpointSpec {
            url: "https://legacy.acme.example:8443/cgi-bin/receive.pl".into(),
            description: "The old ERP; ask Hank".into(),
            disabled: true,
            ..EndpointSpec::default()
        };
        world.endpoint_with(&acme, asleep).await;
        let far = world.endpoint(&globex, &format!("https://a-very-long-host.example/{}", "receive/".repeat(30))).await;
        for n in 0..30u32 {
            let message = world.message(&acme, "invoice.paid", PAYLOAD, world.ago(MINUTE * n)).await;
            world.tries(&message, &endpoint, [Try::delivered(world.ago(MINUTE * n), 20 + u64::from(n))]).await;
        }
        let failed = world.message(&acme, "order.shipped", PAYLOAD, world.ago(MINUTE * 9)).await;
        let answer = "<html><title>503</title><body>upstream connect error</body></html>";
        let first = Try::answered(world.ago(MINUTE * 9), 503, answer, retry(world.ago(MINUTE * 4), 1));
        let second =
            Try::failed(world.ago(MINUTE * 4), Failure::Tls, "the certificate expired on 2026-11-02", 83, dead());
        world.tries(&failed, &endpoint, [first, second]).await;
        let waiting = world.message(&globex, "order.shipped", PAYLOAD, world.ago(MINUTE)).await;
        let later = retry(world.now.plus(MINUTE * 29), 1);
        world
            .tries(&waiting, &far, [Try::failed(world.ago(MINUTE), Failure::Timeout, "no answer", 15_001, later)])
            .await;
        world.message(&acme, "invoice.paid", PAYLOAD, world.now).await;
        world::execute(&world, "INSERT INTO outbox (application, event_type, payload) VALUES ('nobody', 'a.b', '{}')")
            .await;
        let visit = visit(&world, &acme).await;
        Story { world, acme, endpoint, failed, visit }
    }

    /// Every page there is. A new one is added to [`PATHS`] or, if it is of something, to [`Story::single_pages`].
    pub fn pages(&self) -> Vec<Page> {
        let paths = PATHS.iter().map(|path| (*path).to_owned()).chain(self.single_pages());
        paths.map(|path| Page { ok: !REFUSED.contains(&path.as_str()), path }).collect()
    }

    /// The pages of one thing.
    pub fn single_pages(&self) -> Vec<String> {
        let (app, endpoint) = (format!("/applications/{}", self.acme.id), self.endpoint.id);
        let of_both = [
            format!("/messages/{}", self.failed.id),
            "/endpoints".to_owned(),
            "/endpoints/new".to_owned(),
            format!("/endpoints/{endpoint}"),
            format!("/endpoints/{endpoint}/edit"),
            format!("/endpoints/{endpoint}/rotate"),
            format!("/endpoints/{endpoint}/delete"),
            "/deliveries".to_owned(),
            "/messages".to_owned(),
            "/event-types".to_owned(),
            "/event-types/invoice.paid".to_owned(),
            String::new(),
        ];
        let both = [app.as_str(), "/portal"]
            .into_iter()
            .flat_map(|place| of_both.iter().map(move |path| format!("{place}{path}")));
        let operators = ["edit", "delete", "send", "portal-link"].map(|page| format!("{app}/{page}"));
        let portal = ["/portal/resend", "/portal/tail", "/portal/left"].map(str::to_owned);
        both.chain(operators).chain(portal).collect()
    }

    /// The pages that show what there is one of: between them, every field.
    pub fn telling_pages(&self) -> Vec<String> {
        let app = format!("/applications/{}", self.acme.id);
        let (endpoint, message) =
            (format!("{app}/endpoints/{}", self.endpoint.id), format!("{app}/messages/{}", self.failed.id));
        let event_type = format!("{app}/event-types/invoice.paid");
        let edit = format!("{endpoint}/edit");
        vec![app, endpoint, edit, message, event_type, "/deliveries".to_owned(), "/endpoints".to_owned()]
    }

    /// A name for a page's picture: its path, with *one* for each id.
    pub fn name(&self, path: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let words = path.split('/').filter(|part| !part.is_empty());
        let name = words
            .map(|part| if part.contains('_') { "one" } else { part })
            .collect::<Vec<_>>()
            .join("-")
            .chars()
            .map(plain)
            .collect::<String>();
        if path == "/" { "overview".to_owned() } else { name.trim_matches('-').to_owned() }
    }

    pub fn url(&self, path: &str) -> String {
        self.world.url.join(path).expect("a path").into()
    }

    /// Signs an operator in and a customer as well: each has cookies of their own.
    pub async fn enter(&self, browser: &Browser) {
        browser.goto(self.url(&self.world.link().await)).await.unwrap();
        browser.element("main form button").await.click().await.unwrap();
        browser.until_it_says("In the last hour").await;
        let mut cookie = thirtyfour::Cookie::new("sendoff_portal", self.visit.clone());
        cookie.set_path("/");
        browser.add_cookie(cookie).await.unwrap();
    }
}

/// The pages whose path is the same in every world.
const PATHS: &[&str] = &[
    "/",
    "/?range=24h",
    "/?range=30d",
    "/deliveries",
    "/deliveries?status=dead",
    "/deliveries?status=retrying",
    "/deliveries?q=nothing-of-the-kind&since=2026-01-01T00:00:00Z",
    "/messages",
    "/applications",
    "/applications/new",
    "/endpoints",
    "/event-types",
    "/event-types/new",
    "/event-types/invoice.paid",
    "/event-types/invoice.paid/edit",
    "/keys",
    "/audit",
    "/operators",
    "/resend",
    "/resend?status=dead",
    "/tail",
    "/operational",
    "/outbox",
    "/login?token=spent",
    "/nowhere",
];

/// Those that are not answered with 200.
const REFUSED: [&str; 2] = ["/login?token=spent", "/nowhere"];

/// A customer's cookie.
async fn visit(world: &World, app: &Application) -> String {
    let until = world.now.plus(Duration::from_secs(3_600));
    let options = PortalOptions::all(until.micros());
    let link = PortalLink { org: app.org.clone(), app_id: app.id, options, expires_at: until };
    let (code, token) = (api_key::hash("a code"), "a visit's token".replace([' ', '\''], "-"));
    world.store.add_portal_link(&code, &link, world.now).await.unwrap();
    world.store.redeem_portal_link(&code, &api_key::hash(&token), world.now).await.unwrap().expect("a session");
    token
}
