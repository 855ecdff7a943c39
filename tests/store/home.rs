//! The world of the store's tests.
//!
//! A [`Home`] is a fresh database on one of the engines, with its schema, its master key and a first [`Store`]. Another
//! handle to it ([`Home::another`]) has caches and writers of its own, like another process. The functions make
//! applications, endpoints, messages and attempts with few words. Their time is [`NOW`] or a little [`later`]; nothing here
//! reads a clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sendoff::domain::TimeRange;
use sendoff::domain::access::operator::Operator;
use sendoff::domain::access::password::PasswordHash;
use sendoff::domain::catalog::application::{Application, ApplicationSpec};
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::attempt::{Attempt, Failure, Outcome, Trigger};
use sendoff::domain::deliveries::delivery::{DeliveryState, Progress, Transition};
use sendoff::domain::deliveries::message::{Message, MessageSpec};
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::{AppId, AttemptId, EndpointId, MessageId, OrgId, Time, Uid};
use sendoff::store::access::operator_sessions::{NewSession, PasswordSignIn, SessionClient};
use sendoff::store::access::operators::OwnChange;
use sendoff::store::access::second_factors::SecondFactorProof;
use sendoff::store::access::sign_in_links::TokenHash;
use sendoff::store::catalog::change::UpdateResult;
use sendoff::store::catalog::endpoint_update::OptimisticUpdate;
use sendoff::store::ingest::accept::{AcceptItem, AcceptResult};
use sendoff::store::query::deliveries::DeliveryView;
use sendoff::store::query::topic_filter::TopicFilter;
use sendoff::store::queue::pending_deliveries::{LaneRequest, PendingDelivery, PendingLane};
use sendoff::store::recording::record::FinishedAttempt;
use sendoff::store::{AppRef, Location, Order, PageRequest, Store, StoreError, StoreOptions, Tenant, Tuning};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};

use crate::support::delivery_writes::delivery_writes;
use crate::support::kind::OnStore;
use crate::support::{Database, Kind, SqliteFile, Template, database};

/// A Sunday morning.
pub const NOW: Time = Time::from_micros(1_795_338_000_000_000);
/// What the homes' partitions are made for.
pub const RETENTION: Duration = Duration::from_secs(90 * 86_400);
/// What the homes allow a payload to have.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// So much after [`NOW`].
pub fn later(seconds: u64) -> Time {
    NOW.plus(Duration::from_secs(seconds))
}

/// A fresh database on one of the engines.
pub struct Home {
    pub location: Location,
    pub master: MasterKey,
    pub store: Store,
    _file: Option<SqliteFile>,
}

impl OnStore for Home {
    async fn on(kind: Kind) -> Home {
        static TEMPLATE: Template = Template::new();
        let Database { url, file } = Database::copy_of(&TEMPLATE, kind, async |url| prepare(&url).await).await;
        Home::open(Location::parse(&url).expect("a location"), file).await
    }
}

impl Home {
    pub async fn sqlite() -> Home {
        Home::on(Kind::Sqlite).await
    }

    pub async fn postgres() -> Home {
        Home::on(Kind::Postgres).await
    }

    /// On the PostgreSQL database at `url`, which is empty.
    pub async fn at(url: &str) -> Home {
        prepare(url).await;
        database::remove_key_check(Kind::Postgres, url).await;
        Home::open(Location::parse(url).expect("a location"), None).await
    }

    async fn open(location: Location, file: Option<SqliteFile>) -> Home {
        let master = MasterKey::generate();
        let store = open(&location, &master).await;
        store.migrate().await.expect("the schema");
        store.set_retention(RETENTION);
        Home { location, master, store, _file: file }
    }

    /// What another process would have.
    pub async fn another(&self) -> Store {
        open(&self.location, &self.master).await
    }

    /// The same, and messages to more than `wide` endpoints are fanned out in steps.
    pub async fn another_that_packs(&self, wide: usize) -> Store {
        open_with(&self.location, &self.master, wide).await
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self.location, Location::Sqlite(_))
    }

    /// `sql` for SQLite or for PostgreSQL.
    pub fn either<'s>(&self, sqlite: &'s str, postgres: &'s str) -> &'s str {
        if self.is_sqlite() { sqlite } else { postgres }
    }

    /// Runs `sql` as somebody else would, on a connection of its own.
    pub async fn try_execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.connect().await {
            Raw::Sqlite(mut connection) => connection.execute(sql).await.map(|done| done.rows_affected()),
            Raw::Postgres(mut connection) => connection.execute(sql).await.map(|done| done.rows_affected()),
        }
    }

    pub async fn execute(&self, sql: &str) -> u64 {
        self.try_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// The one number that `sql` gives.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.connect().await {
            Raw::Sqlite(mut connection) => sqlx::query_scalar(sql).fetch_one(&mut connection).await,
            Raw::Postgres(mut connection) => sqlx::query_scalar(sql).fetch_one(&mut connection).await,
        }
        .expect("a number")
    }

    /// All bytes of the first column that `sql` gives.
    pub async fn bytes(&self, sql: &str) -> Vec<u8> {
        let sql = AssertSqlSafe(sql.to_owned());
        let rows: Vec<Vec<u8>> = match self.connect().await {
            Raw::Sqlite(mut connection) => {
                let rows = connection.fetch_all(sql).await.expect("rows");
                rows.iter().map(|row| row.get_unchecked(0)).collect()
            }
            Raw::Postgres(mut connection) => {
                let rows = connection.fetch_all(sql).await.expect("rows");
                rows.iter().map(|row| row.get_unchecked(0)).collect()
            }
        };
        rows.concat()
    }

    pub async fn connect(&self) -> Raw {
        match &self.location {
            Location::Sqlite(path) => {
                let url = format!("sqlite:{}", path.display());
                Raw::Sqlite(SqliteConnection::connect(&url).await.expect("SQLite"))
            }
            Location::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.expect("PostgreSQL");
                connection.execute("SET search_path = sendoff").await.expect("the schema");
                Raw::Postgres(connection)
            }
        }
    }
}

/// The schema, and partitions and triggers for the rows of about [`NOW`] that tests write by SQL.
async fn prepare(url: &str) {
    let store = database::migrate(url).await;
    store.set_retention(RETENTION);
    store.create_partitions(NOW).await.expect("partitions");
    let sql = |sqlite| AssertSqlSafe(delivery_writes(sqlite));
    if url.starts_with("sqlite:") {
        SqliteConnection::connect(url).await.expect("SQLite").execute(sql(true)).await.expect("the triggers");
    } else {
        let mut connection = PgConnection::connect(url).await.expect("PostgreSQL");
        connection.execute("SET search_path = sendoff").await.expect("the schema");
        connection.execute(sql(false)).await.expect("the triggers");
    }
}

pub enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

pub async fn open(location: &Location, master: &MasterKey) -> Store {
    open_with(location, master, sendoff::store::WIDE).await
}

async fn open_with(location: &Location, master: &MasterKey, wide: usize) -> Store {
    let options = StoreOptions {
        location: location.clone(),
        master: master.clone(),
        max_payload: MAX_PAYLOAD,
        queue: 10_000,
        wide,
    };
    Store::open_with(options, Tuning::default()).await.expect("a store")
}

pub fn org(text: &str) -> OrgId {
    text.parse().expect("an organization")
}

/// Everything of the default organization.
pub fn tenant() -> Tenant {
    Tenant::org(OrgId::default_org())
}

/// Another organization: it must see nothing of the default one's.
pub fn stranger() -> Tenant {
    Tenant::org(org("org_stranger"))
}

pub fn uid(text: &str) -> Uid {
    Uid::parse("uid", text, "app_").expect("a uid")
}

pub fn named(text: &str) -> AppRef {
    AppRef::parse(text).expect("a name")
}

/// From `since` seconds after [`NOW`] up to `until` seconds after it.
pub fn span(since: u64, until: u64) -> TimeRange {
    TimeRange { since: later(since), until: later(until) }
}

/// Messages of these event types.
pub fn of_types(names: &[&str]) -> TopicFilter {
    TopicFilter { event_types: strings(names), ..TopicFilter::default() }
}

/// Messages on a channel.
pub fn on_channel(channel: &str) -> TopicFilter {
    TopicFilter { channel: Some(channel.into()), ..TopicFilter::default() }
}

/// Messages with a tag.
pub fn with_tag(tag: &str) -> TopicFilter {
    TopicFilter { tag: Some(tag.into()), ..TopicFilter::default() }
}

pub fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub fn first<K>() -> PageRequest<K> {
    PageRequest::first(100, Order::Ascending)
}

pub fn app_spec(uid_text: &str) -> ApplicationSpec {
    ApplicationSpec { uid: Some(uid(uid_text)), name: uid_text.to_owned(), ..ApplicationSpec::default() }
}

pub async fn application(store: &Store, uid_text: &str) -> Application {
    store.create_application(&tenant(), app_spec(uid_text), NOW).await.expect("an application")
}

pub fn endpoint_spec() -> EndpointSpec {
    EndpointSpec { url: "https://example.com/hook".into(), ..EndpointSpec::default() }
}

pub fn secret() -> Secret {
    Secret::generate(SignatureType::Hmac256)
}

pub async fn endpoint(store: &Store, app: AppId, spec: EndpointSpec) -> Endpoint {
    store.create_endpoint(&tenant(), app, spec, &secret(), NOW).await.expect("an endpoint")
}

/// `before`, made what `spec` says.
pub async fn updated(store: &Store, before: &Endpoint, spec: EndpointSpec, now: Time) -> Endpoint {
    match store.update_endpoint(&tenant(), before, spec, now).await.expect("the store") {
        OptimisticUpdate::Updated(endpoint) => *endpoint,
        other => panic!("{other:?}"),
    }
}

/// The application, made what `spec` says; `None`: the tenant does not have it.
pub async fn changed_app(
    store: &Store,
    tenant: &Tenant,
    id: AppId,
    spec: ApplicationSpec,
    now: Time,
) -> Result<Option<Application>, StoreError> {
    match store.update_application(tenant, id, |_| Ok::<_, ()>(spec.clone()), now).await? {
        UpdateResult::Updated(app) => Ok(Some(app)),
        UpdateResult::NotFound => Ok(None),
        other => panic!("{other:?}"),
    }
}

/// An application with one endpoint that wants everything.
pub async fn customer(store: &Store, uid_text: &str) -> (Application, Endpoint) {
    let app = application(store, uid_text).await;
    let endpoint = endpoint(store, app.id, endpoint_spec()).await;
    (app, endpoint)
}

pub fn item(app: impl Into<AppRef>) -> AcceptItem {
    let spec = MessageSpec {
        event_type: "invoice.paid".into(),
        payload: Bytes::from_static(b"{\"amount\": 1.50}"),
        ..MessageSpec::default()
    };
    AcceptItem {
        tenant: Some(tenant()),
        app: app.into(),
        only_endpoint: None,
        spec,
        at: NOW,
        idempotency_key: None,
        audit: None,
    }
}

pub async fn offer(store: &Store, item: AcceptItem) -> AcceptResult {
    store.accept(item).await.expect("the store")
}

pub async fn accept(store: &Store, app: AppId) -> Arc<Message> {
    offer(store, item(app)).await.expect("accepted")
}

/// Everything that waits for `endpoint`.
pub async fn waiting(store: &Store, endpoint: EndpointId) -> Vec<PendingDelivery> {
    store.pending_deliveries(&[wants(store, endpoint, 1_000, 1_000).await]).await.expect("the store")
}

/// What a lane of `endpoint` asks for.
pub async fn wants(store: &Store, endpoint: EndpointId, fresh: i64, retries: i64) -> LaneRequest {
    let slot = store.slot_of_endpoint(endpoint).await.expect("the store") as u8;
    LaneRequest { endpoint, slot, fresh, retries, fresh_from: Time::ZERO, retries_from: Time::ZERO, ordered: false }
}

/// Every lane with something pending, by the endpoints' ids.
pub async fn pending_lanes(store: &Store) -> Vec<PendingLane> {
    let all: Vec<(u8, EndpointId)> = (0..=255).map(|slot| (slot, EndpointId(uuid::Uuid::nil()))).collect();
    let mut lanes = store.pending_lanes(&all, 10_000).await.expect("the store");
    lanes.sort_unstable_by_key(|lane| lane.endpoint);
    lanes
}

pub async fn only_waiting(store: &Store, endpoint: EndpointId) -> PendingDelivery {
    let mut found = waiting(store, endpoint).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// How the delivery of `message` to `endpoint` stands.
pub async fn delivery(store: &Store, app: AppId, message: MessageId, endpoint: EndpointId) -> DeliveryView {
    let all = store.deliveries_of(&tenant(), app, message).await.expect("the store").data;
    all.into_iter().find(|one| one.endpoint_id == endpoint).expect("the delivery")
}

pub fn answered(status: u16) -> Outcome {
    let failure = (!(200..300).contains(&status)).then_some(Failure::Status);
    Outcome { failure, status: Some(status), ..Outcome::failed(Failure::Status, "", Duration::from_millis(20)) }
}

pub fn retry(seconds: u64, step: i32) -> Transition {
    Transition::Retry { due: later(seconds), step }
}

/// An attempt of `one` that came to `outcome` and then `next`, under the first epoch of the endpoint's slot.
pub fn finished(app: AppId, one: &PendingDelivery, outcome: Outcome, next: Transition) -> FinishedAttempt {
    let attempt = Attempt {
        id: AttemptId::new(NOW),
        app_id: app,
        message_id: one.message_id,
        endpoint_id: one.endpoint_id,
        number: one.progress.attempts + 1,
        trigger: one.progress.trigger,
        at: NOW,
        url: "https://example.com/hook".into(),
        request_headers: vec![("webhook-id".into(), one.message_id.to_string())],
        outcome,
        next_at: next.due(),
    };
    FinishedAttempt {
        org: OrgId::default_org(),
        attempt,
        before: one.progress,
        next,
        slot: 0,
        epoch: 0,
        disable: None,
        rests_until: None,
    }
}

/// A place in a delivery's life, as it stands after so many attempts.
pub fn progress(attempts: i32, step: i32, generation: i32, trigger: Trigger) -> Progress {
    Progress { attempts, step, generation, trigger }
}

pub fn states(of: &[PendingDelivery]) -> Vec<(DeliveryState, Time)> {
    of.iter().map(|one| (one.state, one.due_at)).collect()
}

/// A session to open, by a browser that says nothing about itself.
pub fn new_session(hash: &[u8; 32], until: Time) -> NewSession<'_> {
    static CLIENT: SessionClient = SessionClient { agent: String::new(), address: String::new() };
    NewSession { hash, client: &CLIENT, until }
}

/// A sign-in by password alone.
pub fn by_password<'a>(operator: &'a Operator, password: &'a PasswordHash) -> PasswordSignIn<'a> {
    PasswordSignIn { operator, password, second: &SecondFactorProof::NotNeeded }
}

/// A change that the operator confirms by the password, in the session `keep`.
pub fn own_change<'a>(
    from: &'a OrgId,
    operator: &'a Operator,
    password: &'a PasswordHash,
    keep: &'a TokenHash,
) -> OwnChange<'a> {
    OwnChange { from, operator, password, keep }
}
