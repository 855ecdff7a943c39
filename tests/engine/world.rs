//! The world of the engine's tests: a store of either kind with one application, and an engine on it.

use std::time::Duration;

use sendoff::domain::address::AddressPolicy;
use sendoff::domain::catalog::application::{Application, ApplicationSpec};
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::attempt::Attempt;
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::deliveries::delivery_settings::DeliverySettings;
use sendoff::domain::deliveries::message::{Message, MessageSpec};
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::domain::signing::secret::Secret;
use sendoff::domain::time::Clock;
use sendoff::domain::{EndpointId, MessageId, OrgId};
use sendoff::egress::Egress;
use sendoff::engine::{Engine, EngineOptions};
use sendoff::store::catalog::endpoint_update::OptimisticUpdate;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::query::attempts::AttemptFilter;
use sendoff::store::query::deliveries::DeliveryView;
use sendoff::store::{AppRef, Location, MessageRef, Order, PageRequest, Store, StoreOptions, Tenant};

use crate::support::{Database, SOON, SqliteFile, eventually};
pub(crate) use crate::support::{Kind, on_both};

pub struct World {
    pub store: Store,
    pub tenant: Tenant,
    pub app: Application,
    pub url: String,
    pub master: MasterKey,
    engine: Option<Engine>,
    _file: Option<SqliteFile>,
}

/// The default options: retries come soon, but with measurable delays.
pub fn options() -> EngineOptions {
    EngineOptions {
        delivery: DeliverySettings {
            schedule: RetrySchedule::new("schedule", vec![Duration::from_millis(40), Duration::from_millis(80)])
                .unwrap(),
            timeout: Duration::from_secs(2),
            max_in_flight: 256,
            endpoint_max_in_flight: 32,
            drain: Duration::from_secs(10),
            disable_after: Duration::from_secs(5 * 86_400),
            consumer_silent_after: Duration::from_secs(2 * 86_400),
        },
        retention: Duration::from_secs(90 * 86_400),
        deleted_retention: Duration::from_secs(7 * 86_400),
        process: "test".into(),
        dashboard_url: "https://hooks.example".parse().unwrap(),
        mail: None,
    }
}

pub fn egress() -> Egress {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    Egress::new(AddressPolicy { allow, https_only: false }).unwrap()
}

impl World {
    /// A store without an engine.
    pub async fn quiet(kind: Kind) -> World {
        let Database { url, file } = Database::migrated(kind).await;
        World::at(&url, file).await
    }

    /// A store at `url` without an engine.
    pub async fn at(url: &str, file: Option<SqliteFile>) -> World {
        World::at_with(url, file, MasterKey::generate()).await
    }

    /// The same under a key that another process has as well.
    pub async fn at_with(url: &str, file: Option<SqliteFile>, master: MasterKey) -> World {
        let store = open(url, master.clone()).await;
        let tenant = Tenant::org(OrgId::default_org());
        let spec = ApplicationSpec { name: "Acme".into(), ..ApplicationSpec::default() };
        let app = store.create_application(&tenant, spec, Clock.now()).await.unwrap();
        World { store, tenant, app, url: url.to_owned(), master, engine: None, _file: file }
    }

    /// A store with an engine.
    pub async fn busy(kind: Kind) -> World {
        let mut world = World::quiet(kind).await;
        world.start(options());
        world
    }

    pub fn start(&mut self, options: EngineOptions) {
        self.start_with(egress(), options);
    }

    /// The same with another client.
    pub fn start_with(&mut self, egress: Egress, options: EngineOptions) {
        self.engine = Some(Engine::start(self.store.clone(), egress, options));
    }

    pub async fn stop(&mut self) {
        self.engine.take().unwrap().shut_down().await;
    }

    pub async fn endpoint(&self, url: String) -> Endpoint {
        self.endpoint_with(EndpointSpec { url, ..EndpointSpec::default() }).await.0
    }

    pub async fn endpoint_with(&self, spec: EndpointSpec) -> (Endpoint, Secret) {
        let secret = Secret::generate(spec.signature_type);
        let made = self.store.create_endpoint(&self.tenant, self.app.id, spec, &secret, Clock.now()).await.unwrap();
        (made, secret)
    }

    pub async fn update(&self, id: EndpointId, spec: EndpointSpec) {
        let before = self.store.endpoint(&self.tenant, self.app.id, &id.into()).await.unwrap().unwrap();
        let done = self.store.update_endpoint(&self.tenant, &before, spec, Clock.now()).await.unwrap();
        assert!(matches!(done, OptimisticUpdate::Updated(_)), "{done:?}");
    }

    pub async fn send(&self, payload: &str) -> std::sync::Arc<Message> {
        self.send_as("invoice.paid", &[], payload).await
    }

    pub async fn send_as(&self, event_type: &str, channels: &[&str], payload: &str) -> std::sync::Arc<Message> {
        let spec = MessageSpec {
            event_type: event_type.into(),
            channels: channels.iter().map(|c| (*c).to_owned()).collect(),
            payload: payload.to_owned().into(),
            ..MessageSpec::default()
        };
        let item = AcceptItem {
            tenant: Some(self.tenant.clone()),
            app: AppRef::Id(self.app.id),
            spec,
            at: Clock.now(),
            only_endpoint: None,
            idempotency_key: None,
            audit: None,
        };
        self.store.accept(item).await.unwrap().unwrap()
    }

    pub async fn deliveries(&self, message: MessageId) -> Vec<DeliveryView> {
        self.store.deliveries_of(&self.tenant, self.app.id, message).await.unwrap().data
    }

    /// The message's only delivery, once it is in `state`.
    pub async fn until(&self, message: MessageId, state: DeliveryState) -> DeliveryView {
        eventually(&format!("the delivery of {message} is {state:?}"), SOON, async || {
            let deliveries = self.deliveries(message).await;
            assert_eq!(deliveries.len(), 1);
            deliveries.into_iter().find(|one| one.state == state)
        })
        .await
    }

    /// Every attempt of a message, the first one first.
    pub async fn attempts(&self, message: MessageId) -> Vec<Attempt> {
        let filter = AttemptFilter { message: Some(message), ..AttemptFilter::default() };
        let page = PageRequest::first(250, Order::Ascending);
        self.store.attempts(&self.tenant, self.app.id, &filter, &page).await.unwrap().data
    }

    pub async fn message(&self, id: MessageId) -> Message {
        self.store.message(&self.tenant, self.app.id, &MessageRef::Id(id)).await.unwrap().unwrap()
    }
}

pub async fn open(url: &str, master: MasterKey) -> Store {
    let location = Location::parse(url).unwrap();
    let store = Store::open(StoreOptions {
        location,
        master,
        max_payload: 256 * 1024,
        queue: 10_000,
        wide: sendoff::store::WIDE,
    })
    .await
    .unwrap();
    store.migrate().await.unwrap();
    store
}
