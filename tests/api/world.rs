//! The world of the API's tests: a server on a fresh store, and a client.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder};
use sendoff::api::authn::authenticator::Authenticator;
use sendoff::api::authn::jwt::Tokens;
use sendoff::api::http::probes;
use sendoff::api::http::probes::Probes;
use sendoff::api::{self, ApiState, Origins};
use sendoff::domain::access::api_key;
use sendoff::domain::access::api_key::{ApiKey, KeyScope, KeyScopes, KeySpec};
use sendoff::domain::address::AddressPolicy;
use sendoff::domain::deliveries::attempt::{Attempt, Failure, Outcome, Trigger};
use sendoff::domain::deliveries::delivery::{Progress, Transition};
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::domain::signing::secret::SignatureType;
use sendoff::domain::time::Clock;
use sendoff::domain::{AppId, AttemptId, EndpointId, MessageId, OrgId, Time};
use sendoff::egress::Egress;
use sendoff::store::queue::slots::{EngineProcess, slot_of};
use sendoff::store::recording::record::FinishedAttempt;
use sendoff::store::{Location, Store, StoreOptions};
use sendoff::traffic::Traffic;
use serde_json::{Value, json};

use crate::conformance;
use crate::support::kind::OnStore;
use crate::support::{Database, Kind, SqliteFile};

/// The most bytes that a payload may have in these tests.
pub const MAX_PAYLOAD: usize = 4_096;
pub const HOUR: Duration = Duration::from_secs(3_600);

pub struct World {
    pub store: Store,
    pub tokens: Tokens,
    pub authenticator: Authenticator,
    pub draining: Arc<AtomicBool>,
    pub url: String,
    /// For all of the default organization.
    pub token: String,
    client: reqwest::Client,
    server: ServerHandle,
    _file: Option<SqliteFile>,
}

impl Drop for World {
    fn drop(&mut self) {
        // Told now; it ends when the runtime gets to it.
        drop(self.server.stop(false));
    }
}

/// What was answered.
pub struct Said {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("no JSON ({e}): {} {:?}", self.status, self.text))
    }

    /// The body, where the status is `status`.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The fields that were refused with 422, in their order.
    pub fn refused(self) -> Vec<String> {
        let body = self.expect(422);
        let items = body["detail"].as_array().unwrap_or_else(|| panic!("no list: {body}"));
        let loc = |item: &Value| {
            assert!(item["msg"].is_string() && item["type"].is_string(), "{item}");
            let loc: Vec<&str> = item["loc"].as_array().expect("a loc").iter().filter_map(Value::as_str).collect();
            loc.join(".")
        };
        items.iter().map(loc).collect()
    }
}

/// The settings of a world's server.
pub struct Settings {
    pub max_payload: usize,
    /// The maximum number of messages that wait for the writer.
    pub queue: usize,
    pub tokens: Tokens,
    pub traffic: Traffic,
    pub origins: Origins,
}

impl Default for Settings {
    fn default() -> Settings {
        let tokens = Tokens::new(b"the tests' secret");
        Settings { max_payload: MAX_PAYLOAD, queue: 1_000, tokens, traffic: Traffic::default(), origins: Origins::Any }
    }
}

impl OnStore for World {
    async fn on(kind: Kind) -> World {
        World::with(kind, Settings::default()).await
    }
}

impl World {
    pub async fn with(kind: Kind, settings: Settings) -> World {
        let Database { url, file } = Database::migrated(kind).await;
        let mut world = World::at(&url, settings).await;
        world._file = file;
        world
    }

    /// On the store at `url`. The token is empty if `tokens` can only be verified.
    pub async fn at(url: &str, settings: Settings) -> World {
        let Settings { max_payload, queue, tokens, traffic, origins } = settings;
        let location = Location::parse(url).expect("a location");
        let master = MasterKey::generate();
        let store =
            Store::open(StoreOptions { location, master, max_payload, queue, wide: sendoff::store::WIDE }).await;
        let store = store.expect("a store");
        store.migrate().await.expect("a schema");
        let policy = AddressPolicy { allow: vec!["127.0.0.1/32".parse().expect("a CIDR")], https_only: false };
        let authenticator = Authenticator::new(store.clone(), tokens.clone(), traffic);
        let state = ApiState {
            store: store.clone(),
            egress: Egress::new(policy).expect("an egress"),
            authenticator: authenticator.clone(),
            public_url: "https://hooks.example.com".parse().expect("a URL"),
            portal_url: "https://hooks.example.com".parse().expect("a URL"),
            clock: Clock,
            retention: Duration::from_secs(30 * 86_400),
            signature_type: SignatureType::Hmac256,
            origins,
        };
        let draining = Arc::new(AtomicBool::new(false));
        let metrics = Arc::new(|| recorder().render());
        recorder();
        let probes = Probes { store: store.clone(), draining: draining.clone(), metrics };
        let make = move || {
            App::new()
                .app_data(Data::new(state.clone()))
                .app_data(Data::new(probes.clone()))
                .configure(api::routes)
                .configure(probes::routes)
        };
        let bound = HttpServer::new(make).workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a port");
        let url = format!("http://{}", bound.addrs()[0]);
        let server = bound.run();
        let handle = server.handle();
        tokio::spawn(server);
        let token = tokens.mint_org(&OrgId::default_org(), Clock.now(), HOUR).unwrap_or_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        World { store, tokens, authenticator, draining, url, token, client, server: handle, _file: None }
    }

    pub fn org(&self) -> OrgId {
        OrgId::default_org()
    }

    pub fn now(&self) -> Time {
        Clock.now()
    }

    /// A request as it is sent, to change before [`said`].
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().expect("a method");
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A call of the API with a token, and a JSON body if there is one.
    pub async fn call_as(&self, token: &str, method: &str, path: &str, body: Option<&str>) -> Said {
        let mut request =
            self.request(method, &format!("/api/v1{path}")).header("authorization", format!("Bearer {token}"));
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
        }
        said(request).await
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> Said {
        self.call_as(&self.token, method, path, Some(&body.to_string())).await
    }

    pub async fn raw(&self, method: &str, path: &str, body: &str) -> Said {
        self.call_as(&self.token, method, path, Some(body)).await
    }

    pub async fn get(&self, path: &str) -> Said {
        self.call_as(&self.token, "GET", path, None).await
    }

    pub async fn delete(&self, path: &str) -> Said {
        self.call_as(&self.token, "DELETE", path, None).await
    }

    /// A new API key of the default organization, and its text.
    pub async fn key(&self, scopes: &[KeyScope], expires_at: Option<Time>) -> (ApiKey, String) {
        let spec = KeySpec { name: "test".into(), scopes: KeyScopes::of(scopes.iter().copied()), expires_at };
        let (key, text) = ApiKey::make(self.org(), spec, self.now()).expect("a key");
        self.store.add_api_key(&key, &api_key::hash(&text)).await.expect("the store");
        (key, text.to_string())
    }

    /// An application of this uid; its id.
    pub async fn app(&self, uid: &str) -> String {
        let app = self.call("POST", "/app", json!({"name": uid, "uid": uid})).await.expect(201);
        app["id"].as_str().expect("an id").to_owned()
    }

    /// An endpoint of the application, which wants everything; its id.
    pub async fn endpoint(&self, app: &str) -> String {
        let body = json!({"url": "http://127.0.0.1:9/hook"});
        let endpoint = self.call("POST", &format!("/app/{app}/endpoint"), body).await.expect(201);
        endpoint["id"].as_str().expect("an id").to_owned()
    }

    /// A message to the application; its id.
    pub async fn message(&self, app: &str, event_type: &str) -> String {
        let body = json!({"eventType": event_type, "payload": {"of": event_type}});
        let message = self.call("POST", &format!("/app/{app}/msg"), body).await.expect(202);
        message["id"].as_str().expect("an id").to_owned()
    }

    /// Records an attempt of a delivery, as the engine would: delivered, or failed with a retry in an hour.
    pub async fn attempt(
        &self,
        app: &str,
        message: &str,
        endpoint: &str,
        number: i32,
        status: Option<u16>,
    ) -> AttemptId {
        self.attempt_in(self.org(), app, message, endpoint, (number, status)).await
    }

    /// Records a first attempt that failed, after which the endpoint rests until a time.
    pub async fn rest(&self, app: &str, message: &str, endpoint: &str, until: Time) {
        self.recorded(self.org(), app, message, endpoint, (1, None, Some(until))).await;
    }

    /// The same in an organization: the number of the attempt, and the status of its response.
    pub async fn attempt_in(
        &self,
        org: OrgId,
        app: &str,
        message: &str,
        endpoint: &str,
        (number, status): (i32, Option<u16>),
    ) -> AttemptId {
        self.recorded(org, app, message, endpoint, (number, status, None)).await
    }

    async fn recorded(
        &self,
        org: OrgId,
        app: &str,
        message: &str,
        endpoint: &str,
        (number, status, rests_until): (i32, Option<u16>, Option<Time>),
    ) -> AttemptId {
        let now = self.now();
        let endpoint_id: EndpointId = endpoint.parse().expect("an endpoint's id");
        let app_id: AppId = app.parse().expect("an application's id");
        let message_id: MessageId = message.parse().expect("a message's id");
        // One process for all calls: it keeps every slot.
        let process = EngineProcess { id: uuid::Uuid::from_u128(1), name: "test".into(), started_at: now };
        let leases = self.store.heartbeat(&process, now).await.expect("leases").leases;
        let live = self.store.live_endpoints(&[endpoint_id]).await.expect("an endpoint").remove(0);
        let slot = slot_of(&live);
        let delivered = status.is_some_and(|status| (200..300).contains(&status));
        let failure = match status {
            None => Some(Failure::Timeout),
            Some(_) => (!delivered).then_some(Failure::Status),
        };
        let due = now.plus(HOUR);
        let outcome = Outcome {
            failure,
            status,
            response_body: "r\u{e9}sum\u{e9} <b>".into(),
            ..Outcome::failed(Failure::Status, "", Duration::from_millis(42))
        };
        let id = AttemptId::new(now);
        let attempt = Attempt {
            id,
            app_id,
            message_id,
            endpoint_id,
            number,
            trigger: Trigger::Scheduled,
            at: now,
            url: "http://127.0.0.1:9/hook".into(),
            request_headers: Vec::new(),
            outcome,
            next_at: (!delivered).then_some(due),
        };
        let finished = FinishedAttempt {
            org,
            attempt,
            before: Progress { attempts: number - 1, step: number - 1, generation: 0, trigger: Trigger::Scheduled },
            next: if delivered { Transition::Delivered } else { Transition::Retry { due, step: number } },
            slot,
            epoch: leases[&slot],
            disable: None,
            rests_until,
        };
        self.store.record(vec![finished]).await.expect("a record");
        id
    }
}

/// What counts, for all tests of this binary together.
fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().expect("the only recorder"))
}

/// Sends a request, and holds the answer against the OpenAPI document.
pub async fn said(request: RequestBuilder) -> Said {
    let (client, request) = request.build_split();
    let request = request.expect("a request");
    let (method, path) = (request.method().to_string(), request.url().path().to_owned());
    let answer = client.execute(request).await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let said = Said { status, headers, text: answer.text().await.expect("a body") };
    conformance::check(&method, &path, said.status, &said.headers, &said.text);
    if method == "HEAD" {
        return said;
    }
    if status >= 400 {
        let kind = said.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        assert!(kind.starts_with("application/json"), "an error is JSON: {status} {kind} {}", said.text);
        let body = said.json();
        let plain = body["code"].is_string() && body["detail"].is_string();
        assert!(plain || (status == 422 && body["detail"].is_array()), "an error's shape: {body}");
    }
    said
}
