//! Accepting messages, over REST and from the outbox alike. One transaction stores the messages and one delivery for
//! each subscribed endpoint; callers and the engine are notified after the commit.
//!
//! An invalid item never fails its batch: each item has its own result.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::access::audit::Actor;
use crate::domain::deliveries::message::{Message, MessageSpec};
use crate::domain::{AppId, EndpointId, Invalid, MessageId, OrgId, Time};
use crate::store::db::budget::Budget;
use crate::store::db::sqlite;
use crate::store::feed::feed_order::FeedOrder;
use crate::store::ingest::idempotency::{self, IdempotencyKey};
use crate::store::ingest::message_insert::{self, NewMessage};
use crate::store::ingest::message_routing::{self, AppView, LiveEndpoint, Resolved};
use crate::store::ingest::payload_checks::{self, PayloadRule, PayloadVerdict};
use crate::store::ingest::{due_insert, fan_out, sent_by_hand};
use crate::store::queue::signals::Admission;
use crate::store::{AppRef, Inner, Store, StoreError, Tenant, Tx};

/// A message to accept.
#[derive(Clone, Debug)]
pub struct AcceptItem {
    /// The caller; `None` for the outbox, whose writers have direct access to the database.
    pub tenant: Option<Tenant>,
    pub app: AppRef,
    /// Send to this endpoint only, ignoring its filters; `None`: to every subscribed endpoint.
    pub only_endpoint: Option<EndpointId>,
    pub spec: MessageSpec,
    /// Time of receipt.
    pub at: Time,
    /// Set by [`Store::accept`] from the handle's key, see [`Store::with_idempotency_key`].
    pub idempotency_key: Option<Arc<IdempotencyKey>>,
    /// The sender in the audit log; set by [`Store::accept_by_hand`].
    pub audit: Option<Arc<Actor>>,
}

impl AcceptItem {
    /// Whether [`AcceptItem::only_endpoint`], if set, exists and is enabled.
    fn has_enabled_recipient(&self, view: &AppView) -> bool {
        let enabled = |only| view.endpoint(only).is_some_and(|live| !live.endpoint.spec.disabled);
        self.only_endpoint.is_none_or(enabled)
    }

    /// Validates everything that needs no access to the store. `max_payload` is in bytes.
    ///
    /// # Errors
    /// All violations.
    pub fn check(&self, max_payload: usize) -> Result<(), Vec<Invalid>> {
        let mut wrong = self.spec.check(max_payload).err().unwrap_or_default();
        wrong.extend(self.spec.check_schedule(self.at).err());
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// The reason that a message was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("there is no application {0}")]
    UnknownApplication(String),
    #[error("several organizations have an application {0}: use its id instead")]
    AmbiguousApplication(String),
    /// A call with the same idempotency key has already taken effect.
    #[error("the same request was made before")]
    Repeated,
    /// The event id is in the store already, so the event is not lost.
    #[error("a message with the event id {0} has already been accepted")]
    Duplicate(String),
    #[error("the message's only endpoint is disabled or deleted")]
    Unreachable,
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Invalid>),
}

/// The result for one item.
pub type AcceptResult = Result<Arc<Message>, Rejection>;

/// The outcome of an item in one transaction.
pub(in crate::store) enum ItemOutcome {
    Decided(AcceptResult),
    /// Not tried: the endpoints of its application have to be [loaded](super::routing_load::load) first.
    NotLoaded(AppId),
}

/// The outcomes of a batch, in the order of its items. The transaction may have been full before the last items:
/// these have no outcome.
pub(in crate::store) struct AcceptedBatch {
    pub outcomes: Vec<ItemOutcome>,
    /// For the engine, after the commit.
    pub admissions: Vec<Admission>,
    /// The batch has packed deliveries, to be [fanned out](fan_out).
    pub packed: bool,
}

impl AcceptedBatch {
    /// The application of each accepted message.
    pub(in crate::store) fn apps(&self) -> impl Iterator<Item = AppId> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            ItemOutcome::Decided(Ok(message)) => Some(message.app_id),
            _ => None,
        })
    }
}

impl Store {
    /// Accepts a message, in one transaction with the other queued messages. Returns after the commit.
    ///
    /// # Errors
    /// The store is unavailable or its queue is full: the message was not accepted. If the commit itself fails, the
    /// message may have been accepted; a retry with the same event id is safe.
    pub async fn accept(&self, mut item: AcceptItem) -> Result<AcceptResult, StoreError> {
        item.idempotency_key = self.idempotency_key.clone();
        if let Err(wrong) = item.check(self.inner.max_payload) {
            return Ok(Err(Rejection::Invalid(wrong)));
        }
        if let Some(rule) = self.look_up_rules(&item).await? {
            match rule.judge_call(&item.spec.payload).await? {
                PayloadVerdict::Fine => {}
                PayloadVerdict::Warn(text) => item.spec.schema_warning = Some(text),
                PayloadVerdict::Reject(wrong) => return Ok(Err(Rejection::Invalid(wrong))),
            }
        }
        self.inner.queues.accept(item).await
    }

    /// Reads the organization's defaults and the rule for the payload, unless they are cached. Calls keep their order.
    /// If the store is unavailable, all waiting calls fail at once, instead of after one timeout each.
    async fn look_up_rules(&self, item: &AcceptItem) -> Result<Option<PayloadRule>, StoreError> {
        let called = Instant::now();
        let mut failed = self.inner.accept_order.lock().await;
        if let Some((at, error)) = &*failed
            && *at >= called
        {
            return Err(error.clone());
        }
        self.inner.refresh_organizations().await;
        let (Some(tenant), None) = (&item.tenant, item.only_endpoint) else { return Ok(None) };
        let rule = self.inner.payload_rule(&tenant.org, &item.spec.event_type).await;
        if let Err(error @ StoreError::Unavailable(_)) = &rule {
            *failed = Some((Instant::now(), error.clone()));
        }
        rule
    }

    /// The maximum size of a payload, in bytes.
    pub fn max_payload(&self) -> usize {
        self.inner.max_payload
    }
}

/// A message to be stored, with its application and endpoints.
struct Draft {
    message: Arc<Message>,
    view: Arc<AppView>,
    /// Endpoints whose deliveries are inserted into `due` in this transaction.
    endpoints: Vec<Arc<LiveEndpoint>>,
    /// Endpoints whose deliveries are [fanned out](fan_out) later.
    packed: Vec<EndpointId>,
}

impl Draft {
    /// If the message goes to very many endpoints, the unordered ones are packed. `None`: the transaction has
    /// no room for its rows.
    fn new(
        item: &AcceptItem,
        view: &Arc<AppView>,
        inner: &Inner,
        order: &mut FeedOrder,
        budget: &mut Budget,
    ) -> Option<Draft> {
        let message = Arc::new(new_message(item, view.id, order.next(item.at), inner.payload_retention(&view.org)));
        let wants = |live: &&Arc<LiveEndpoint>| live.endpoint.spec.wants(&message.event_type, &message.channels);
        let mut endpoints: Vec<_> = match item.only_endpoint {
            Some(only) => view.endpoint(only).into_iter().cloned().collect(),
            None => view.endpoints.iter().filter(wants).cloned().collect(),
        };
        let mut packed = Vec::new();
        if endpoints.len() > inner.wide {
            let usual = endpoints.extract_if(.., |live| !live.endpoint.spec.ordered);
            packed.extend(usual.map(|live| live.endpoint.id));
        }
        let rows = 1 + endpoints.len() + fan_out::cost(packed.len());
        budget.take(rows).then(|| Draft { message, view: view.clone(), endpoints, packed })
    }
}

/// Stores the longest prefix of `items` that fits into `budget`. The caller has [checked](AcceptItem::check) them.
pub(in crate::store) async fn accept_in(
    tx: &mut Tx,
    inner: &Inner,
    items: &[&AcceptItem],
    budget: &mut Budget,
) -> Result<AcceptedBatch, StoreError> {
    let keys: HashSet<message_routing::AppKey> =
        items.iter().map(|item| (item.tenant.clone(), item.app.clone())).collect();
    let views = message_routing::resolve(tx, &inner.routing_cache, &inner.master, keys).await?;
    let apps = views.values().filter_map(|found| match found {
        Resolved::View(view) if !view.operational => Some(view.id),
        _ => None,
    });
    let times = || items.iter().map(|item| item.at);
    let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
    let mut order = FeedOrder::take(tx, apps, first, last).await?;
    let mut batch = draft_batch(items, &views, inner, &mut order, budget);
    let reference = |draft: &Draft| draft.message.id.to_string();
    idempotency::insert_batch_keys(tx, &batch.items, &mut batch.drafts, reference).await?;
    reject_duplicates(tx, &mut batch.drafts).await?;
    idempotency::release_rejected_keys(tx, &batch.items, &batch.drafts).await?;
    insert_batch(tx, batch).await
}

/// The drafts of a prefix of a batch.
struct DraftBatch<'i> {
    /// The drafted items, and their drafts or rejections.
    items: Vec<&'i AcceptItem>,
    drafts: Vec<Result<Draft, Rejection>>,
    /// One entry per item of the prefix, with its application if that is not loaded. Such an item has no draft.
    not_loaded: Vec<Option<AppId>>,
}

fn draft_batch<'i>(
    items: &[&'i AcceptItem],
    views: &HashMap<message_routing::AppKey, Resolved>,
    inner: &Inner,
    order: &mut FeedOrder,
    budget: &mut Budget,
) -> DraftBatch<'i> {
    let capacity = items.len();
    let mut batch = DraftBatch {
        items: Vec::with_capacity(capacity),
        drafts: Vec::with_capacity(capacity),
        not_loaded: Vec::with_capacity(capacity),
    };
    for item in items.iter().copied() {
        let draft = match views.get(&(item.tenant.clone(), item.app.clone())) {
            // The operational application is hidden: only `operational` creates messages for it, and tests of one
            // endpoint.
            Some(Resolved::View(view)) if view.operational && item.only_endpoint.is_none() => {
                Err(Rejection::UnknownApplication(item.app.to_string()))
            }
            Some(Resolved::View(view)) if !item.has_enabled_recipient(view) => Err(Rejection::Unreachable),
            Some(Resolved::View(view)) => match Draft::new(item, view, inner, order, budget) {
                Some(draft) => Ok(draft),
                None => break,
            },
            Some(Resolved::Rejected(rejection)) => Err(rejection.clone()),
            Some(Resolved::NotLoaded(app)) => {
                batch.not_loaded.push(Some(*app));
                continue;
            }
            None => Err(Rejection::UnknownApplication(item.app.to_string())),
        };
        batch.items.push(item);
        batch.drafts.push(draft);
        batch.not_loaded.push(None);
    }
    batch
}

/// Inserts the messages and deliveries of the drafts.
async fn insert_batch(tx: &mut Tx, batch: DraftBatch<'_>) -> Result<AcceptedBatch, StoreError> {
    let DraftBatch { items, drafts, not_loaded } = batch;
    let accepted = items.iter().zip(&drafts).filter_map(|(item, draft)| Some((*item, draft.as_ref().ok()?)));
    let drafted = items.iter().zip(&drafts).filter_map(|(item, draft)| Some((*item, &*draft.as_ref().ok()?.message)));
    payload_checks::insert_warnings(tx, drafted).await?;
    sent_by_hand::write_audit_entries(tx, accepted.map(|(item, draft)| (item, &*draft.message, &draft.view.org)))
        .await?;
    let mut accepted =
        AcceptedBatch { outcomes: Vec::with_capacity(not_loaded.len()), admissions: Vec::new(), packed: false };
    // Per admission: the organization, and the packed endpoints.
    let mut packs: Vec<(OrgId, Vec<EndpointId>)> = Vec::with_capacity(drafts.len());
    let mut results = drafts.into_iter().map(|draft| {
        draft.map(|Draft { message, view, endpoints, packed }| {
            accepted.admissions.push(Admission::new(message.clone(), endpoints));
            accepted.packed |= !packed.is_empty();
            packs.push((view.org.clone(), packed));
            message
        })
    });
    accepted.outcomes.extend(not_loaded.into_iter().filter_map(|app| match app {
        Some(app) => Some(ItemOutcome::NotLoaded(app)),
        None => results.next().map(ItemOutcome::Decided),
    }));
    drop(results);
    let with_packs = accepted.admissions.iter().zip(&packs);
    let messages: Vec<NewMessage<'_>> =
        with_packs.clone().map(|(admission, (org, packed))| admission.new_message(org, packed.len())).collect();
    message_insert::insert(tx, &messages).await?;
    let packed = with_packs.map(|(admission, (_, packed))| (&*admission.message, packed.as_slice()));
    fan_out::insert(tx, packed).await?;
    due_insert::insert(tx, &mut accepted.admissions).await?;
    accepted.admissions.retain(|admission| !admission.endpoints.is_empty());
    Ok(accepted)
}

/// `retention` is the organization's; if the message has its own, the shorter of the two applies.
fn new_message(item: &AcceptItem, app_id: AppId, id: MessageId, retention: Option<Duration>) -> Message {
    let keep = item.spec.keep_content.into_iter().chain(retention).min();
    let first_due = item.spec.deliver_at.map_or(item.at, |deliver_at| deliver_at.max(item.at));
    Message {
        id,
        app_id,
        event_type: item.spec.event_type.clone(),
        event_id: item.spec.event_id.clone(),
        channels: item.spec.channels.clone(),
        tags: item.spec.tags.clone(),
        // Copied: a slice would keep the whole request buffer in memory.
        payload: Some(Bytes::copy_from_slice(&item.spec.payload)),
        raw_type: item.spec.raw_type.clone(),
        occurred_at: item.spec.occurred_at.unwrap_or(item.at),
        accepted_at: item.at,
        deliver_at: item.spec.deliver_at,
        content_until: keep.map(|span| first_due.plus(span)),
    }
}

/// Inserts the event ids, and rejects drafts whose event id is in the store or earlier in the batch.
async fn reject_duplicates(tx: &mut Tx, drafts: &mut [Result<Draft, Rejection>]) -> Result<(), StoreError> {
    // Sorted, so two processes that insert the same ids cannot deadlock.
    let mut keys: Vec<(AppId, String, MessageId)> = Vec::new();
    for Draft { message, .. } in drafts.iter().flatten() {
        if let Some(event_id) = &message.event_id {
            keys.push((message.app_id, event_id.as_str().to_owned(), message.id));
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort();
    keys.dedup_by(|later, first| (later.0, &later.1) == (first.0, &first.1));
    let entered: HashSet<MessageId> = insert_event_ids(tx, &keys).await?;
    for draft in drafts {
        let repeat = match draft {
            Ok(draft) if !entered.contains(&draft.message.id) => draft.message.event_id.as_ref(),
            _ => None,
        };
        if let Some(event_id) = repeat {
            *draft = Err(Rejection::Duplicate(event_id.to_string()));
        }
    }
    Ok(())
}

async fn insert_event_ids(tx: &mut Tx, keys: &[(AppId, String, MessageId)]) -> Result<HashSet<MessageId>, StoreError> {
    match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str = "INSERT INTO message_key (app_id, event_id, message_id)
                 SELECT substr($1, key * 32 + 1, 16), value, substr($1, key * 32 + 17, 16) FROM json_each($2) WHERE TRUE
                 ON CONFLICT DO NOTHING";
            let mut packed = sqlite::Packed::default();
            for (app, event_id, message) in keys {
                packed.push(&[app.0.as_bytes(), message.0.as_bytes()], event_id)?;
            }
            let usual = keys.iter().map(|key| key.2).collect();
            sqlite::insert_keys(tx, SQL, "message_id", packed, usual, |query| query).await
        }
        Tx::Postgres(tx) => {
            let ids: Vec<MessageId> = sqlx::query_scalar(
                "INSERT INTO message_key (app_id, event_id, message_id)
                 SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::uuid[])
                 ON CONFLICT DO NOTHING RETURNING message_id",
            )
            .bind(keys.iter().map(|key| key.0.0).collect::<Vec<Uuid>>())
            .bind(keys.iter().map(|key| key.1.as_str()).collect::<Vec<&str>>())
            .bind(keys.iter().map(|key| key.2.0).collect::<Vec<Uuid>>())
            .fetch_all(&mut **tx)
            .await?;
            Ok(ids.into_iter().collect())
        }
    }
}

impl Rejection {
    /// The database rejected the item although it passed all checks.
    pub(in crate::store) fn by_store(reason: &str) -> Rejection {
        Rejection::Invalid(vec![Invalid::new("payload", format!("was rejected by the database: {reason}"))])
    }

    /// The label value in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Rejection::UnknownApplication(_) => "unknown_application",
            Rejection::AmbiguousApplication(_) => "ambiguous_application",
            Rejection::Repeated => "repeated",
            Rejection::Duplicate(_) => "duplicate",
            Rejection::Unreachable => "unreachable",
            Rejection::Invalid(_) => "invalid",
        }
    }
}
