//! Storing operational events. Each organization has at most one hidden *operational application*, which owns its
//! operational endpoints. An event about an endpoint or delivery of any other application becomes a message of the
//! operational application **in the same transaction as the change**: both are stored or neither is. The engine sends
//! these messages like all others.
//!
//! * [`OperationalEvent`]: an event that may be stored.
//! * [`emit`]: stores events as messages for the organizations that subscribe. Without a subscription the cost is one
//!   indexed read.
//! * [`signal_emitted`]: signals the messages to the engine after the commit.
//!
//! Invariant: changes of operational endpoints and messages emit no events, because that could loop forever.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::domain::catalog::application::Application;
use crate::domain::deliveries::attempt::Trigger;
use crate::domain::deliveries::message::Message;
use crate::domain::notifications::operational::{
    AppData, AttemptData, AttemptEvent, ConsumerData, DeliveryData, EndpointData, ExpiredData, OperationalData,
    OperationalPayload, OutboxRowData, PastAttempt, failure_reported,
};
use crate::domain::{AppId, EndpointId, Invalid, MessageId, OrgId, Time, Uid, limits};
use crate::store::db::codec::from_row;
use crate::store::db::codec::{self, APPLICATION, ApplicationRow};
use crate::store::db::sqlite;
use crate::store::ingest::due_insert;
use crate::store::ingest::message_insert::{self, NewMessage};
use crate::store::ingest::message_routing::{self, AppView, LiveEndpoint};
use crate::store::queue::signals::{Admission, Signal};
use crate::store::recording::operational_event::{EventDetail, OperationalEvent};
use crate::store::{Inner, Store, StoreError, Tenant, Tx, on, read};

/// The display name of the operational application.
const NAME: &str = "Operational webhooks";

/// Stores events as messages of the operational applications, inside `tx`. Returns the admissions for the engine, to
/// be [admitted](signal_emitted) after the commit. Events that the database rejects are logged and dropped: they must
/// not fail the change itself.
///
/// # Errors
/// The store is unavailable.
pub(in crate::store) async fn emit(
    inner: &Inner,
    tx: &mut Tx,
    events: Vec<OperationalEvent>,
) -> Result<Vec<Admission>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let operational_apps = operational_apps(tx, events.iter().map(|one| &one.org).collect()).await?;
    let to_whom = |one: OperationalEvent| {
        Some((*operational_apps.get(&one.org).filter(|operational_app| **operational_app != one.app)?, one))
    };
    let events: Vec<(AppId, OperationalEvent)> = events.into_iter().filter_map(to_whom).collect();
    if events.is_empty() {
        return Ok(Vec::new());
    }
    execute(tx, "SAVEPOINT operational_events").await?;
    let emitted = match store(inner, tx, &events).await {
        Err(error @ (StoreError::Refused(_) | StoreError::Damaged(_))) => {
            tracing::error!(%error, events = events.len(), "operational events are lost: the database rejected them");
            execute(tx, "ROLLBACK TO SAVEPOINT operational_events").await?;
            Vec::new()
        }
        emitted => emitted?,
    };
    execute(tx, "RELEASE SAVEPOINT operational_events").await?;
    Ok(emitted)
}

/// Signals committed operational messages to the engine.
pub(in crate::store) fn signal_emitted(inner: &Inner, emitted: Vec<Admission>) {
    if !emitted.is_empty() {
        metrics::counter!("sendoff_accepted_total", "way" => "operational").increment(emitted.len() as u64);
        inner.signals.send(Signal::Accepted(emitted));
    }
}

async fn execute(tx: &mut Tx, sql: &'static str) -> Result<(), StoreError> {
    on!(tx, db => sqlx::query(sql).execute(db).await.map(drop))?;
    Ok(())
}

/// The operational applications of `orgs`.
async fn operational_apps(tx: &mut Tx, orgs: BTreeSet<&OrgId>) -> Result<HashMap<OrgId, AppId>, StoreError> {
    let orgs: Vec<&str> = orgs.into_iter().map(OrgId::as_str).collect();
    let rows: Vec<(OrgId, AppId)> = match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str =
                "SELECT org, id FROM application WHERE operational AND org IN (SELECT value FROM json_each($1))";
            sqlx::query_as(SQL).bind(codec::json(&orgs)?).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "SELECT org, id FROM application WHERE operational AND org = ANY($1)";
            sqlx::query_as(SQL).bind(orgs).fetch_all(&mut **tx).await?
        }
    };
    Ok(rows.into_iter().collect())
}

/// Whether `app` is the operational application of `org`.
pub(in crate::store) async fn is_operational(tx: &mut Tx, org: &OrgId, app: AppId) -> Result<bool, StoreError> {
    Ok(operational_apps(tx, BTreeSet::from([org])).await?.get(org) == Some(&app))
}

/// Stores the events that an endpoint subscribes to as messages.
async fn store(inner: &Inner, tx: &mut Tx, events: &[(AppId, OperationalEvent)]) -> Result<Vec<Admission>, StoreError> {
    let mut views: HashMap<AppId, Option<Arc<AppView>>> = HashMap::new();
    for (operational_app, _) in events {
        if !views.contains_key(operational_app) {
            views.insert(
                *operational_app,
                message_routing::view_in_transaction(tx, &inner.routing_cache, &inner.master, *operational_app).await?,
            );
        }
    }
    let context = EventContext::read(tx, events).await?;
    let (mut emitted, mut orgs) = (Vec::new(), Vec::new());
    for (operational_app, one) in events {
        let Some(view) = views.get(operational_app).and_then(Option::as_ref) else { continue };
        let (kind, channels) = (one.kind(), context.channels(one));
        let wants = |live: &&Arc<LiveEndpoint>| live.endpoint.spec.wants(kind.name(), &channels);
        let endpoints: Vec<_> = view.endpoints.iter().filter(wants).cloned().collect();
        if endpoints.is_empty() || !context.is_emitted(one) {
            continue;
        }
        let message = Message {
            id: MessageId::new(one.at),
            app_id: *operational_app,
            event_type: kind.name().to_owned(),
            event_id: None,
            channels,
            tags: Vec::new(),
            payload: Some(codec::json(&OperationalPayload::new(kind, context.data(one)))?.into()),
            raw_type: None,
            deliver_at: None,
            content_until: None,
            occurred_at: one.at,
            accepted_at: one.at,
        };
        emitted.push(Admission::new(Arc::new(message), endpoints));
        orgs.push(&one.org);
    }
    let messages: Vec<NewMessage<'_>> = emitted.iter().zip(&orgs).map(|(one, org)| one.new_message(org, 0)).collect();
    message_insert::insert(tx, &messages).await?;
    due_insert::insert(tx, &mut emitted).await?;
    Ok(emitted)
}

/// Data of the events' payloads that has to be read from the store.
struct EventContext {
    app_uids: HashMap<Uuid, Option<Uid>>,
    event_ids: HashMap<Uuid, Option<Uid>>,
    /// The attempts of resent deliveries with their numbers, in order.
    earlier_attempts: HashMap<(MessageId, EndpointId), Vec<(i32, PastAttempt)>>,
}

impl EventContext {
    async fn read(tx: &mut Tx, events: &[(AppId, OperationalEvent)]) -> Result<EventContext, StoreError> {
        let apps = events.iter().map(|(_, one)| one.app.0).collect();
        let messages = events.iter().filter_map(|(_, one)| Some(one.delivery()?.0.0)).collect();
        let resent = |(_, one): &(AppId, OperationalEvent)| match one.what {
            EventDetail::Attempt { worth: AttemptEvent::RecoveredIfReported, .. } => one.delivery(),
            _ => None,
        };
        Ok(EventContext {
            app_uids: select_uids(tx, "SELECT id, uid FROM application WHERE id", apps).await?,
            event_ids: select_uids(tx, "SELECT id, event_id FROM message WHERE id", messages).await?,
            earlier_attempts: earlier_attempts(tx, events.iter().filter_map(resent).collect()).await?,
        })
    }

    fn app_uid(&self, app: AppId) -> Option<&Uid> {
        self.app_uids.get(&app.0).and_then(Option::as_ref)
    }

    /// The application's id and UID as channels, so an operational endpoint can subscribe to some applications only.
    fn channels(&self, one: &OperationalEvent) -> Vec<String> {
        if one.app.0.is_nil() {
            return Vec::new();
        }
        let uid = self.app_uid(one.app).map(|uid| uid.as_str().to_owned()).filter(|uid| uid.len() <= limits::CHANNEL);
        std::iter::once(one.app.to_string()).chain(uid).collect()
    }

    /// Whether the event is emitted, considering earlier attempts of its delivery.
    fn is_emitted(&self, one: &OperationalEvent) -> bool {
        let EventDetail::Attempt { worth: AttemptEvent::RecoveredIfReported, endpoint, message, number, .. } =
            &one.what
        else {
            return true;
        };
        let earlier_attempts = self.earlier_attempts.get(&(*message, *endpoint)).map(Vec::as_slice).unwrap_or_default();
        failure_reported(
            earlier_attempts
                .iter()
                .filter(|(earlier, _)| earlier < number)
                .map(|(_, earlier_attempts)| *earlier_attempts),
        )
    }

    fn data<'a>(&'a self, one: &'a OperationalEvent) -> OperationalData<'a> {
        let app = AppData { app_id: one.app, app_uid: self.app_uid(one.app) };
        let endpoint_data = |endpoint: &EndpointId, endpoint_uid, fail_since, trigger, warning| {
            OperationalData::Endpoint(EndpointData {
                app,
                endpoint_id: *endpoint,
                endpoint_uid,
                fail_since,
                trigger,
                warning,
            })
        };
        let delivery = |endpoint: &EndpointId, message: &MessageId| DeliveryData {
            app,
            endpoint_id: *endpoint,
            msg_id: *message,
            msg_event_id: self.event_ids.get(&message.0).and_then(Option::as_ref),
        };
        match &one.what {
            EventDetail::Endpoint { endpoint, uid, .. } => endpoint_data(endpoint, uid.as_ref(), None, None, None),
            EventDetail::Disabled { endpoint, by, uid, fail_since } => {
                endpoint_data(endpoint, uid.as_ref(), *fail_since, Some(*by), None)
            }
            EventDetail::Failing { endpoint, uid, fail_since, warning } => {
                endpoint_data(endpoint, uid.as_ref(), Some(*fail_since), None, Some(*warning))
            }
            EventDetail::Expired { endpoint, message, attempts } => {
                OperationalData::Expired(ExpiredData { delivery: delivery(endpoint, message), attempts: *attempts })
            }
            EventDetail::OutboxStuck { row, application, event_type, reason } => {
                OperationalData::OutboxRow(OutboxRowData { row: *row, application, event_type, reason })
            }
            EventDetail::Attempt { endpoint, message, last, .. } => {
                OperationalData::Attempt(AttemptData { delivery: delivery(endpoint, message), last_attempt: *last })
            }
            EventDetail::ConsumerSilent { endpoint, uid, consumer, polled_at } => {
                OperationalData::Consumer(ConsumerData {
                    app,
                    endpoint_id: *endpoint,
                    endpoint_uid: uid.as_ref(),
                    consumer_id: consumer,
                    last_poll_at: *polled_at,
                })
            }
        }
    }
}

/// Completes `select`, which ends with a column name, by the condition that the column is one of `ids`.
async fn select_uids(tx: &mut Tx, select: &str, ids: BTreeSet<Uuid>) -> Result<HashMap<Uuid, Option<Uid>>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(Uuid, Option<Uid>)> = match tx {
        Tx::Sqlite(tx) => {
            let sql = format!("{select} IN (SELECT unhex(value) FROM json_each($1))");
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(sqlite::id_list(ids)).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            let sql = format!("{select} = ANY($1)");
            let ids: Vec<Uuid> = ids.into_iter().collect();
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_all(&mut **tx).await?
        }
    };
    Ok(rows.into_iter().collect())
}

from_row! {
    struct EarlierAttemptRow {
        message_id: MessageId,
        endpoint_id: EndpointId,
        number: i32,
        trigger: i16,
        failure: Option<String>,
        next_at: Option<Time>,
    }
}

/// The recorded attempts of `deliveries`. Only for resent deliveries, which are rare.
async fn earlier_attempts(
    tx: &mut Tx,
    deliveries: BTreeSet<(MessageId, EndpointId)>,
) -> Result<HashMap<(MessageId, EndpointId), Vec<(i32, PastAttempt)>>, StoreError> {
    if deliveries.is_empty() {
        return Ok(HashMap::new());
    }
    const COLUMNS: &str = "SELECT message_id, endpoint_id, number, trigger, failure, next_at FROM attempt";
    let messages = deliveries.iter().map(|(message, _)| message.0);
    let endpoints = deliveries.iter().map(|(_, endpoint)| endpoint.0);
    let rows: Vec<EarlierAttemptRow> = match tx {
        Tx::Sqlite(tx) => {
            // The plus keeps SQLite off the endpoint index: an endpoint may have any number of attempts.
            let sql = format!(
                "{COLUMNS} WHERE message_id IN (SELECT unhex(value) FROM json_each($1))
                     AND +endpoint_id IN (SELECT unhex(value) FROM json_each($2))"
            );
            let (messages, endpoints) = (sqlite::id_list(messages), sqlite::id_list(endpoints));
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(messages).bind(endpoints).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            let sql = format!(
                "{COLUMNS} WHERE message_id = ANY($1) AND endpoint_id = ANY($2) AND message_id BETWEEN $3 AND $4"
            );
            let (messages, least, greatest) = codec::with_bounds(&messages.collect::<Vec<Uuid>>());
            let endpoints: Vec<Uuid> = endpoints.collect();
            let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(messages).bind(endpoints);
            query.bind(least).bind(greatest).fetch_all(&mut **tx).await?
        }
    };
    let mut earlier_attempts: HashMap<_, Vec<(i32, PastAttempt)>> = HashMap::new();
    for row in rows {
        let one = PastAttempt {
            resent: Trigger::from_code(row.trigger) == Trigger::Manual,
            delivered: row.failure.is_none(),
            went_on: row.next_at.is_some(),
        };
        earlier_attempts.entry((row.message_id, row.endpoint_id)).or_default().push((row.number, one));
    }
    earlier_attempts.values_mut().for_each(|attempts| attempts.sort_unstable_by_key(|(number, _)| *number));
    Ok(earlier_attempts)
}

impl Store {
    /// The organization's operational application. `None` if it has none or the tenant is limited to one application.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn operational_application(&self, tenant: &Tenant) -> Result<Option<Application>, StoreError> {
        if tenant.only.is_some() {
            return Ok(None);
        }
        let sql = format!("SELECT {APPLICATION} FROM application WHERE org = $1 AND operational");
        let sql = sqlx::AssertSqlSafe(sql);
        let row: Option<ApplicationRow> =
            read!(self, db => sqlx::query_as(sql).bind(&tenant.org).fetch_optional(db).await)?;
        row.map(ApplicationRow::application).transpose()
    }

    /// The organization's operational application, created if necessary.
    ///
    /// # Errors
    /// The tenant is limited to one application, or the store is unavailable.
    pub async fn ensure_operational_application(&self, tenant: &Tenant, now: Time) -> Result<Application, StoreError> {
        self.retry_conflicts(|| async {
            const SQL: &str =
                "INSERT INTO application (id, org, name, metadata, operational, version, created_at, updated_at)
                 VALUES ($1, $2, $3, '{}', TRUE, 1, $4, $4) ON CONFLICT DO NOTHING";
            let not_an_org = || {
                let reason = "operational webhooks belong to an organization, not to an application";
                StoreError::Invalid(vec![Invalid::new("org", reason)])
            };
            if tenant.only.is_some() {
                return Err(not_an_org());
            }
            if let Some(found) = self.operational_application(tenant).await? {
                return Ok(found);
            }
            // ON CONFLICT: another caller may create it at the same time.
            let mut tx = self.begin().await?;
            on!(tx, db => {
                sqlx::query(SQL)
                    .bind(AppId::new(now)).bind(&tenant.org).bind(NAME).bind(now)
                    .execute(db).await.map(drop)
            })?;
            tx.commit().await?;
            self.operational_application(tenant).await?.ok_or_else(not_an_org)
        })
        .await
    }
}
