//! A world with a dashboard: a store, the pages served on a port, and a browser of the least kind. What happened in it is made up
//! by the test: an *attempt* is recorded as the engine would.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use sendoff::dashboard::sign_in::oidc::provider::OidcProvider;
use sendoff::dashboard::sign_in::passwords::Passwords;
use sendoff::dashboard::{self, DashboardState, TailFeeds};
use sendoff::domain::access::oidc::OidcOptions;
use sendoff::domain::access::portal::{Capability, PortalLink, PortalOptions};
use sendoff::domain::address::AddressPolicy;
use sendoff::domain::catalog::application::{Application, ApplicationSpec};
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::attempt::{Attempt, Failure, Outcome, Trigger};
use sendoff::domain::deliveries::delivery::{DeadReason, Progress, Transition};
use sendoff::domain::deliveries::message::{Message, MessageSpec};
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::time::Clock;
use sendoff::domain::{AttemptId, OrgId, Time};
use sendoff::egress::Egress;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::queue::slots::{EngineProcess, Leases};
use sendoff::store::recording::record::FinishedAttempt;
use sendoff::store::{Location, Store, StoreOptions, Tenant};
use sendoff::traffic::Traffic;
use sha2::Digest as _;
use sqlx::{Connection, Executor};
use url::Url;
use uuid::Uuid;

use crate::support::kind::OnStore;
use crate::support::{Database, Kind, SqliteFile, free_port, sqlite_file};

pub const MINUTE: Duration = Duration::from_secs(60);

/// A store with the pages in front of it.
pub struct World {
    pub store: Store,
    pub org: OrgId,
    pub url: Url,
    pub now: Time,
    /// Of the database, for what a team does there by itself.
    pub database: String,
    pub feeds: TailFeeds,
    leases: Leases,
    client: Client,
    _file: Option<SqliteFile>,
}

/// How a message's attempt went.
#[derive(Clone)]
pub struct Try {
    pub at: Time,
    pub outcome: Outcome,
    pub next: Transition,
    /// Until when the endpoint rests after it.
    pub rests_until: Option<Time>,
}

impl Try {
    pub fn resting_until(self, until: Time) -> Try {
        Try { rests_until: Some(until), ..self }
    }

    pub fn delivered(at: Time, millis: u64) -> Try {
        let outcome = Outcome {
            failure: None,
            status: Some(200),
            response_headers: vec![("content-type".into(), "text/plain".into()), ("server".into(), "nginx".into())],
            response_body: Bytes::from_static(b"ok"),
            ..Outcome::failed(Failure::Status, "", Duration::from_millis(millis))
        };
        Try { at, outcome, next: Transition::Delivered, rests_until: None }
    }

    pub fn answered(at: Time, status: u16, body: impl Into<Bytes>, next: Transition) -> Try {
        let outcome = Outcome {
            status: Some(status),
            response_headers: vec![("content-type".into(), "text/html; charset=utf-8".into())],
            response_body: body.into(),
            ..Outcome::failed(Failure::Status, format!("the receiver answered {status}"), Duration::from_millis(214))
        };
        Try { at, outcome, next, rests_until: None }
    }

    pub fn failed(at: Time, failure: Failure, detail: &str, millis: u64, next: Transition) -> Try {
        Try { at, outcome: Outcome::failed(failure, detail, Duration::from_millis(millis)), next, rests_until: None }
    }
}

pub fn retry(due: Time, step: i32) -> Transition {
    Transition::Retry { due, step }
}

pub fn dead() -> Transition {
    Transition::Dead(DeadReason::Exhausted)
}

/// How a world differs from the usual one.
struct WorldOptions {
    public_url: Option<String>,
    frame_origins: Vec<String>,
    traffic: Traffic,
    signature_type: SignatureType,
    oidc: Option<OidcOptions>,
    require_totp: bool,
}

impl Default for WorldOptions {
    fn default() -> WorldOptions {
        WorldOptions {
            public_url: None,
            frame_origins: Vec::new(),
            traffic: Traffic::default(),
            signature_type: SignatureType::Hmac256,
            oidc: None,
            require_totp: false,
        }
    }
}

impl OnStore for World {
    async fn on(kind: Kind) -> World {
        World::with(kind, WorldOptions::default()).await
    }
}

/// A world on SQLite that answers as `public_url`.
pub async fn at(public_url: &str) -> World {
    framed(public_url, &[]).await
}

/// The same, whose portal these sites may put into a page of theirs.
pub async fn framed(public_url: &str, origins: &[&str]) -> World {
    let frame_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    on_sqlite(WorldOptions { public_url: Some(public_url.to_owned()), frame_origins, ..WorldOptions::default() }).await
}

/// A world on SQLite whose new endpoints sign like this.
pub async fn signing(signature_type: SignatureType) -> World {
    on_sqlite(WorldOptions { signature_type, ..WorldOptions::default() }).await
}

/// A world on SQLite whose callers are known and limited like this.
pub async fn with_traffic(traffic: Traffic) -> World {
    on_sqlite(WorldOptions { traffic, ..WorldOptions::default() }).await
}

async fn on_sqlite(options: WorldOptions) -> World {
    let file = sqlite_file();
    World::open(Location::Sqlite(file.path()), Some(file), options).await
}

impl World {
    async fn with(kind: Kind, options: WorldOptions) -> World {
        let Database { url, file } = Database::migrated(kind).await;
        World::open(Location::parse(&url).unwrap(), file, options).await
    }

    async fn open(location: Location, file: Option<SqliteFile>, world: WorldOptions) -> World {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_test_writer();
        let _ = log.try_init();
        let database = match &location {
            Location::Sqlite(path) => format!("sqlite:{}", path.display()),
            Location::Postgres(url) => url.clone(),
        };
        let options = StoreOptions {
            location,
            master: MasterKey::generate(),
            max_payload: 1 << 20,
            queue: 10_000,
            wide: sendoff::store::WIDE,
        };
        let store = Store::open(options).await.unwrap();
        store.migrate().await.unwrap();
        let now = Clock.now();
        let process = EngineProcess { id: Uuid::now_v7(), name: "test".into(), started_at: now };
        let leases = store.heartbeat(&process, now).await.unwrap().leases;
        let port = free_port();
        let url: Url = format!("http://127.0.0.1:{port}/").parse().unwrap();
        let public_url = world.public_url.map_or_else(|| url.clone(), |url| url.parse().unwrap());
        let feeds = TailFeeds::default();
        let policy = AddressPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], https_only: false };
        let egress = Egress::new(policy).unwrap();
        let state = DashboardState {
            store: store.clone(),
            clock: Clock,
            egress,
            portal_url: public_url.clone(),
            api_url: public_url.clone(),
            public_url,
            frame_origins: world.frame_origins,
            signature_type: world.signature_type,
            disable_after: std::time::Duration::from_secs(5 * 86_400),
            secret: [7; 32],
            feeds: feeds.clone(),
            passwords: Passwords::default(),
            traffic: world.traffic,
            oidc: world.oidc.map(|options| Arc::new(OidcProvider::new(options).unwrap())),
            require_totp: world.require_totp,
        };
        let state = web::Data::new(state);
        // Mounted before a neighbour, which must be reached all the same.
        let app = move || {
            App::new()
                .app_data(state.clone())
                .configure(dashboard::routes)
                .route("/api/v1/health", web::get().to(async || "the api"))
                .route("/metrics", web::get().to(async || "the metrics"))
        };
        let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", port)).unwrap().run();
        tokio::spawn(server);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        World { store, org: OrgId::default_org(), url, now, database, feeds, leases, client, _file: file }
    }

    pub fn tenant(&self) -> Tenant {
        Tenant::org(self.org.clone())
    }

    pub fn ago(&self, span: Duration) -> Time {
        self.now.minus(span)
    }

    pub async fn app(&self, name: &str) -> Application {
        self.app_of(&self.tenant(), name).await
    }

    pub async fn app_of(&self, tenant: &Tenant, name: &str) -> Application {
        let spec = ApplicationSpec { name: name.into(), ..ApplicationSpec::default() };
        self.store.create_application(tenant, spec, self.ago(MINUTE * 1_500)).await.unwrap()
    }

    pub async fn endpoint(&self, app: &Application, url: &str) -> Endpoint {
        let spec = EndpointSpec { url: url.into(), ..EndpointSpec::default() };
        self.endpoint_with(app, spec).await
    }

    pub async fn endpoint_with(&self, app: &Application, spec: EndpointSpec) -> Endpoint {
        let (secret, tenant) = (Secret::generate(SignatureType::Hmac256), Tenant::org(app.org.clone()));
        self.store.create_endpoint(&tenant, app.id, spec, &secret, self.ago(MINUTE * 1_500)).await.unwrap()
    }

    pub async fn message(&self, app: &Application, event_type: &str, payload: impl Into<Bytes>, at: Time) -> Message {
        let spec = MessageSpec { event_type: event_type.into(), payload: payload.into(), ..MessageSpec::default() };
        let item = AcceptItem {
            tenant: Some(Tenant::org(app.org.clone())),
            app: app.id.into(),
            only_endpoint: None,
            spec,
            at,
            idempotency_key: None,
            audit: None,
        };
        let message = self.store.accept(item).await.unwrap().unwrap();
        (*message).clone()
    }

    /// Records what became of a message at an endpoint, try by try.
    pub async fn tries(&self, message: &Message, endpoint: &Endpoint, tries: impl IntoIterator<Item = Try>) {
        let slot = endpoint.id.0.as_bytes()[15];
        for (n, one) in tries.into_iter().enumerate() {
            let attempts = n as i32;
            let attempt = Attempt {
                id: AttemptId::new(one.at),
                app_id: message.app_id,
                message_id: message.id,
                endpoint_id: endpoint.id,
                number: attempts + 1,
                trigger: Trigger::Scheduled,
                at: one.at,
                url: endpoint.spec.url.clone(),
                request_headers: vec![
                    ("content-type".into(), "application/json".into()),
                    ("user-agent".into(), "Sendoff/0.1.0".into()),
                    ("webhook-id".into(), message.id.to_string()),
                    ("webhook-timestamp".into(), one.at.seconds().to_string()),
                    ("webhook-signature".into(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".into()),
                ],
                next_at: one.next.due(),
                outcome: one.outcome,
            };
            let progress = Progress { attempts, step: attempts, generation: 0, trigger: Trigger::Scheduled };
            let finished = FinishedAttempt {
                org: self.org.clone(),
                attempt,
                before: progress,
                next: one.next,
                slot,
                epoch: self.leases[&slot],
                disable: None,
                rests_until: one.rests_until,
            };
            self.store.record(vec![finished]).await.unwrap();
        }
    }

    /// A world whose operators sign in at an identity provider.
    pub async fn with_oidc(kind: Kind, options: OidcOptions) -> World {
        World::with(kind, WorldOptions { oidc: Some(options), ..WorldOptions::default() }).await
    }

    /// A world that requires second factors of its operators.
    pub async fn requiring_totp(kind: Kind) -> World {
        World::with(kind, WorldOptions { require_totp: true, ..WorldOptions::default() }).await
    }

    /// A request to another place.
    pub fn anywhere(&self, method: Method, url: &str) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// A request to the world, as a page of its own would make it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url.join(path).expect("a path"))
    }

    pub async fn link(&self) -> String {
        let link = dashboard::sign_in::login::new_link(&self.store, &self.org, &self.url, Clock.now()).await.unwrap();
        link.strip_prefix(self.url.as_str()).map(|path| format!("/{path}")).expect("a link to the world")
    }

    /// Signs in as an operator would.
    pub async fn sign_in(&self) -> Browser<'_> {
        let page = self.request(Method::GET, &self.link().await).send().await.unwrap().text().await.unwrap();
        let form = [("token", field(&page, "token")), ("csrf", field(&page, "csrf"))];
        let response = self.post("/login", &form).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        let cookie = set_cookie(&response);
        Browser { world: self, cookie: cookie.split(';').next().unwrap_or_default().to_owned() }
    }

    /// A customer's session in the portal of `app`: with all capabilities, or with these and `flags`.
    pub async fn portal_session(
        &self,
        app: &Application,
        capabilities: Option<&[Capability]>,
        flags: &[&str],
    ) -> Browser<'_> {
        let until = self.now.plus(MINUTE * 60);
        let options = PortalOptions {
            feature_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            capabilities: capabilities.map(<[Capability]>::to_vec),
            session_id: Some("ada".into()),
            ..PortalOptions::all(until.micros())
        };
        self.portal_session_with(app, options).await
    }

    /// A customer's portal session with the team's options.
    pub async fn portal_session_with(&self, app: &Application, options: PortalOptions) -> Browser<'_> {
        let token = Uuid::new_v4().to_string();
        let hash = |text: &str| -> [u8; 32] { sha2::Sha256::digest(text.as_bytes()).into() };
        let until = self.now.plus(MINUTE * 60);
        let link = PortalLink { org: app.org.clone(), app_id: app.id, options, expires_at: until };
        let code = Uuid::new_v4().to_string();
        self.store.add_portal_link(&hash(&code), &link, self.now).await.unwrap();
        self.store.redeem_portal_link(&hash(&code), &hash(&token), self.now).await.unwrap().expect("a session");
        Browser { world: self, cookie: format!("sendoff_portal={token}") }
    }

    /// A form's POST.
    pub fn post(&self, path: &str, form: &[(&str, String)]) -> RequestBuilder {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", self.url.origin().ascii_serialization())
            .header("sec-fetch-site", "same-origin")
            .body(body)
    }
}

/// Somebody who is signed in.
pub struct Browser<'h> {
    pub world: &'h World,
    pub cookie: String,
}

impl Browser<'_> {
    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = self.world.request(Method::GET, path).header("cookie", &self.cookie).send().await.unwrap();
        let status = response.status();
        // Exports are no pages.
        let kind = response.headers().get("content-type").map_or("text/html", |kind| kind.to_str().unwrap()).to_owned();
        let page = response.text().await.unwrap();
        if kind.starts_with("text/html") {
            crate::html::check(&page, path);
        }
        (status, page)
    }

    /// The page at `path`, which must be there.
    pub async fn page(&self, path: &str) -> String {
        let (status, page) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {page}");
        page
    }

    /// Fills a form in and sends it, with the token of the page that it is on.
    pub async fn submit(&self, page: &str, path: &str, form: &[(&str, &str)]) -> Response {
        let page = self.page(page).await;
        let typed = form.iter().map(|(name, value)| (*name, (*value).to_owned()));
        self.post(path, &hidden(&page).into_iter().chain(typed).collect::<Vec<_>>()).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, String)]) -> Response {
        self.world.post(path, form).header("cookie", &self.cookie).send().await.unwrap()
    }
}

/// What a page's form sends beside what is typed.
pub fn hidden(page: &str) -> Vec<(&'static str, String)> {
    let more = ["seen", "once"].into_iter().filter(|name| page.contains(&format!("name=\"{name}\"")));
    std::iter::once("csrf").chain(more).map(|name| (name, field(page, name))).collect()
}

/// Runs a statement in the world's database, as the team would.
pub async fn execute(world: &World, sql: &str) {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    if world.database.starts_with("sqlite:") {
        let mut connection = sqlx::SqliteConnection::connect(&world.database).await.unwrap();
        connection.execute(sql).await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(&world.database).await.unwrap();
        connection.execute("SET search_path = sendoff").await.unwrap();
        connection.execute(sql).await.unwrap();
    }
}

/// The number that a query gives, past the store's own code.
pub async fn number(world: &World, sql: &str) -> i64 {
    use sqlx::Row as _;
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    if world.database.starts_with("sqlite:") {
        let mut connection = sqlx::SqliteConnection::connect(&world.database).await.unwrap();
        connection.fetch_one(sql).await.unwrap().get(0)
    } else {
        let mut connection = sqlx::PgConnection::connect(&world.database).await.unwrap();
        connection.execute("SET search_path = sendoff").await.unwrap();
        connection.fetch_one(sql).await.unwrap().get(0)
    }
}

/// The value of a page's first hidden field of that name.
pub fn field(page: &str, name: &str) -> String {
    let marker = format!("name=\"{name}\" value=\"");
    let from = page.find(&marker).unwrap_or_else(|| panic!("no field {name} in {page}")) + marker.len();
    page[from..].split('"').next().unwrap_or_default().to_owned()
}

pub fn location(response: &Response) -> &str {
    response.headers()["location"].to_str().unwrap()
}

pub fn set_cookie(response: &Response) -> String {
    response.headers().get("set-cookie").map_or("", |value| value.to_str().unwrap()).to_owned()
}
