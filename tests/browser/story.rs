//! A [`Site`] with something of everything in it: customers, endpoints in each state, messages that arrived, wait, were retried and
//! died, and one thing for every part of a route.

use std::ops::Deref;

use sendoff::domain::access::api_key::{self, ApiKey, KeyScope, KeyScopes, KeySpec};
use sendoff::domain::catalog::development::LocalResponse;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::catalog::polling::PollingEndpointSpec;
use sendoff::domain::deliveries::attempt::Failure;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope};
use sendoff::domain::deliveries::message::{EDITED_FROM, Message, MessageSpec};
use sendoff::domain::{Time, Uid};
use sendoff::store::Tenant;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::ingest::outbox::RelayRequest;
use sendoff::store::jobs::background::{BackgroundSpec, StartResult};
use serde_json::json;

use crate::site::Site;
use crate::world::{self, MINUTE, Try, dead, retry};

/// The site, and what is in it.
pub struct Story {
    site: Site,
    pub endpoint: Endpoint,
    pub failed: Message,
}

impl Deref for Story {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

const PAYLOAD: &str =
    r#"{"id":"in_1PqZ7e2eZvKYlo2C","amount":4200,"currency":"eur","paid":true,"customer":{"name":"Ada Lovelace"}}"#;
const LONG_NAME: &str = "株式会社とても長い名前の顧客 · شركة ذات اسم طويل جدا · Société Anonyme des Noms Interminables";

impl Story {
    /// Of this morning, on SQLite.
    pub async fn told() -> Story {
        let mut site = Site::new().await;
        let (world, acme) = (&site.world, site.acme.clone());
        let (globex, _) = (world.app(LONG_NAME).await, world.app("Acme Logistics 物流 · लॉजिस्टिक्स · לוגיסטיקה").await);
        let schema = json!({"type": "object", "required": ["id"], "properties": {
            "id": {"type": "string", "description": "Of the invoice."},
            "lines": {"type": "array", "items": {"type": "object", "properties": {"amount": {"type": "number"}}}}},
            "examples": [serde_json::from_str::<serde_json::Value>(PAYLOAD).unwrap()]});
        let schemas = serde_json::Map::from_iter([("1".to_owned(), schema)]);
        for (name, description, schemas) in
            [("invoice.paid", "An invoice was paid in full.", Some(schemas)), ("order.shipped", "", None)]
        {
            let spec =
                EventTypeSpec { name: name.into(), description: description.into(), schemas, ..Default::default() };
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
        for n in (0..30u32).rev() {
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
        site.add("endpoint", endpoint.id.to_string());
        site.add("message", failed.id.to_string());
        site.add("name", "invoice.paid".to_owned());
        things(&mut site, &failed).await;
        assert_eq!(site.without_address(), Vec::<String>::new(), "a story needs something for each part of a route");
        Story { site, endpoint, failed }
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
}

/// An API key, a resend, an edited copy, a stuck row, a polling and a development endpoint, a chat channel, a saved view.
async fn things(site: &mut Site, failed: &Message) {
    let (world, now, acme) = (&site.world, site.world.now, site.acme.clone());
    let (store, tenant) = (world.store.clone(), world.tenant());
    let spec = KeySpec { name: "billing".into(), scopes: KeyScopes::of([KeyScope::Read]), expires_at: None };
    let (key, text) = ApiKey::make(world.org.clone(), spec, now).unwrap();
    store.add_api_key(&key, &api_key::hash(&text)).await.unwrap();

    let poller = PollingEndpointSpec {
        uid: Some(Uid::parse("uid", "warehouse", "poll_").unwrap()),
        ..PollingEndpointSpec::default()
    };
    let poller = store.create_polling_endpoint(&tenant, acme.id, poller, now).await.unwrap();
    let response = LocalResponse { status: Some(500), body: "no such table".into(), ..LocalResponse::default() };
    let about = (acme.id, "adas-laptop", "http://localhost:3000/hooks");
    store
        .report_local_attempt(&tenant, about, Some(&(failed.id, response)), world.ago(MINUTE * 60), now)
        .await
        .unwrap();

    let spec = BackgroundSpec {
        kind: TaskKind::Recover,
        scope: TaskScope::Application(acme.id),
        selection: sendoff::store::jobs::background::TaskSelection::Messages(Default::default()),
        by: "ada".into(),
        total: None,
    };
    let StartResult::Started(work) = store.start_background(&tenant, spec, now).await.unwrap() else {
        panic!("too many resends")
    };

    let spec = MessageSpec {
        event_type: "order.shipped".into(),
        payload: PAYLOAD.into(),
        tags: vec![format!("{EDITED_FROM}{}", failed.id)],
        ..MessageSpec::default()
    };
    accept(site, spec, now).await;

    for application in ["nobody", "acme"] {
        let row =
            format!("INSERT INTO outbox (application, event_type, payload) VALUES ('{application}', 'a.b', '{{}}')");
        world::execute(world, &row).await;
    }
    store.relay(RelayRequest { limit: 100, now }).await.unwrap();
    let stuck = store.outbox_stuck(10).await.unwrap();
    let row = stuck.first().expect("a stuck row");
    let (row, since) = (row.id.to_string(), row.stuck_since.micros().to_string());

    let operator = world::Browser { world, cookie: format!("sendoff_session={}", site.session) };
    let channel = [
        ("format", "slack"),
        ("url", "https://hooks.slack.com/services/T0/B0/x"),
        ("description", "#ops"),
        ("eventTypes", "endpoint.disabled"),
    ];
    let view = [("list", "deliveries"), ("query", "status=dead"), ("name", "Dead ones")];
    for (page, action, fields) in
        [("/operational/new", "/operational/new", &channel[..]), ("/deliveries?status=dead", "/views", &view[..])]
    {
        let answer = operator.submit(page, action, fields).await;
        assert_eq!(answer.status(), 303, "{action}: {}", answer.text().await.unwrap());
    }
    let made = [
        ("key", key.id.to_string()),
        ("poller", poller.id.to_string()),
        ("listener", "adas-laptop".to_owned()),
        ("work", work.id.to_string()),
        ("row", row),
        ("since", since),
        // Sessions are in the paths of forms only.
        ("session", "0".repeat(64)),
    ];
    for (part, value) in made {
        site.add(part, value);
    }
}

async fn accept(site: &Site, spec: MessageSpec, at: Time) {
    let item = AcceptItem {
        tenant: Some(Tenant::org(site.acme.org.clone())),
        app: site.acme.id.into(),
        only_endpoint: None,
        spec,
        at,
        idempotency_key: None,
        audit: None,
    };
    site.world.store.accept(item).await.unwrap().unwrap();
}
