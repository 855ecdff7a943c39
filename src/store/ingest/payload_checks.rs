//! Validation of payloads when messages are accepted: an event type may warn about payloads that do not match its
//! newest schema, or reject them.
//!
//! Compiled schemas are cached per event type, within [`ENTRIES`] and [`BYTES`]. A cached entry is compared with the
//! catalog every [`FRESH`] and compiled again only if the event type changed. Organizations without validating event
//! types cost nothing per message.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::domain::catalog::event_type::EventTypeSpec;
use crate::domain::catalog::payload_schema::{PayloadSchema, PayloadValidation};
use crate::domain::deliveries::message::Message;
use crate::domain::{AppId, Invalid, MessageId, OrgId, Time};
use crate::store::db::codec;
use crate::store::ingest::accept::AcceptItem;
use crate::store::{Inner, Store, StoreError, Tenant, Tx, on, read};

/// Maximum age of a cached entry.
const FRESH: Duration = Duration::from_secs(3);
/// Maximum number of cached event types.
const ENTRIES: usize = 1_000;
/// Maximum size of the cached schemas as text; compiled they are several times as large.
const BYTES: usize = 8 * 1024 * 1024;
/// Maximum number of organizations with validating event types that are listed. With more, every organization counts as
/// validating.
const ORGS: i64 = 10_000;
/// Payloads beyond this size are validated on a thread for blocking work.
const INLINE: usize = 16 * 1024;
/// Maximum characters of a stored warning.
const WARNING_CHARS: usize = 500;

/// The rule of a validating event type.
#[derive(Clone)]
pub(in crate::store) struct PayloadRule {
    reject: bool,
    /// `Err`: the stored schema does not compile.
    schema: Arc<Result<PayloadSchema, Invalid>>,
}

struct Entry {
    read_at: Instant,
    updated_at: Option<Time>,
    /// `None`: the event type does not validate, or does not exist.
    rule: Option<PayloadRule>,
    /// The schema's text.
    bytes: usize,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<(OrgId, String), Entry>,
    bytes: usize,
    /// The organizations with validating event types, and when they were read; `None` within: too many to list.
    orgs: Option<(Instant, Option<HashSet<OrgId>>)>,
}

impl Cache {
    fn remove(&mut self, key: &(OrgId, String)) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }

    fn insert(&mut self, key: (OrgId, String), entry: Entry) {
        self.remove(&key);
        self.bytes += entry.bytes;
        self.entries.insert(key, entry);
        while self.entries.len() > ENTRIES || self.bytes > BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.read_at).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.remove(&oldest);
        }
    }
}

/// The cache of one process.
#[derive(Default)]
pub(in crate::store) struct PayloadChecks {
    cache: Mutex<Cache>,
}

impl std::fmt::Debug for PayloadChecks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadChecks").finish_non_exhaustive()
    }
}

/// The result of a validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum PayloadVerdict {
    Fine,
    /// Accept the message, with this mark.
    Warn(String),
    Reject(Vec<Invalid>),
}

impl PayloadRule {
    /// Validates the payload of a REST call or a form. A large one is validated on another thread.
    pub(in crate::store) async fn judge_call(self, payload: &Bytes) -> Result<PayloadVerdict, StoreError> {
        if payload.len() <= INLINE {
            return Ok(self.judge(payload, "rest"));
        }
        let payload = payload.clone();
        let judged = tokio::task::spawn_blocking(move || self.judge(&payload, "rest")).await;
        judged.map_err(|_| StoreError::Unavailable("a payload could not be validated".to_owned()))
    }

    fn judge(&self, payload: &[u8], way: &'static str) -> PayloadVerdict {
        let wrong = match &*self.schema {
            Ok(schema) => match schema.check(payload) {
                Ok(()) => return PayloadVerdict::Fine,
                Err(wrong) => wrong,
            },
            Err(wrong) => vec![Invalid::new("payload", format!("cannot be checked: {}", wrong.reason))],
        };
        let result = if self.reject { "rejected" } else { "warned" };
        metrics::counter!("sendoff_payloads_invalid_total", "result" => result, "way" => way).increment(1);
        match self.reject {
            true => PayloadVerdict::Reject(wrong),
            false => {
                let text: Vec<String> = wrong.iter().map(Invalid::to_string).collect();
                PayloadVerdict::Warn(text.join("; ").chars().take(WARNING_CHARS).collect())
            }
        }
    }
}

impl PayloadChecks {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an event type that this process has changed. Other processes notice within [`FRESH`].
    pub(in crate::store) fn forget(&self, org: &OrgId, name: &str) {
        let mut cache = self.cache();
        cache.remove(&(org.clone(), name.to_owned()));
        cache.orgs = None;
    }

    /// Whether an organization may have validating event types; `None`: not cached.
    fn org_validates(&self, org: &OrgId, now: Instant) -> Option<bool> {
        let cache = self.cache();
        let (read_at, orgs) = cache.orgs.as_ref()?;
        (now.saturating_duration_since(*read_at) < FRESH).then(|| orgs.as_ref().is_none_or(|orgs| orgs.contains(org)))
    }
}

impl Inner {
    /// Whether any organization has validating event types.
    pub(in crate::store) async fn any_payload_checks(&self) -> Result<bool, StoreError> {
        self.read_validating_orgs().await?;
        let cache = self.payload_checks.cache();
        Ok(cache.orgs.as_ref().is_none_or(|(_, orgs)| orgs.as_ref().is_none_or(|orgs| !orgs.is_empty())))
    }

    async fn read_validating_orgs(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        let read_at = self.payload_checks.cache().orgs.as_ref().map(|(read_at, _)| *read_at);
        if read_at.is_some_and(|read_at| now.saturating_duration_since(read_at) < FRESH) {
            return Ok(());
        }
        const SQL: &str = "SELECT DISTINCT org FROM event_type WHERE validation <> 'off' LIMIT $1";
        let mut tx = self.snapshot().await?;
        let orgs: Vec<OrgId> = on!(tx, db => sqlx::query_scalar(SQL).bind(ORGS).fetch_all(db).await)?;
        let orgs = ((orgs.len() as i64) < ORGS).then(|| orgs.into_iter().collect());
        self.payload_checks.cache().orgs = Some((now, orgs));
        Ok(())
    }

    /// The rule of an event type; `None`: it does not validate.
    pub(in crate::store) async fn payload_rule(
        &self,
        org: &OrgId,
        name: &str,
    ) -> Result<Option<PayloadRule>, StoreError> {
        let now = Instant::now();
        if self.payload_checks.org_validates(org, now).is_none() {
            self.read_validating_orgs().await?;
        }
        if self.payload_checks.org_validates(org, now) == Some(false) {
            return Ok(None);
        }
        let key = (org.clone(), name.to_owned());
        let cached = {
            let cache = self.payload_checks.cache();
            cache.entries.get(&key).map(|entry| (entry.read_at, entry.updated_at, entry.rule.clone()))
        };
        if let Some((read_at, _, rule)) = &cached
            && now.saturating_duration_since(*read_at) < FRESH
        {
            return Ok(rule.clone());
        }
        const CHANGED: &str = "SELECT updated_at FROM event_type WHERE org = $1 AND name = $2 AND validation <> 'off'";
        const SCHEMAS: &str = "SELECT updated_at, validation, schemas FROM event_type WHERE org = $1 AND name = $2";
        let mut tx = self.snapshot().await?;
        let updated_at: Option<Time> =
            on!(tx, db => sqlx::query_scalar(CHANGED).bind(org).bind(name).fetch_optional(db).await)?;
        if let Some((_, known, rule)) = cached
            && known == updated_at
        {
            if let Some(entry) = self.payload_checks.cache().entries.get_mut(&key) {
                entry.read_at = now;
            }
            return Ok(rule);
        }
        let mut entry = Entry { read_at: now, updated_at, rule: None, bytes: 0 };
        if updated_at.is_some() {
            let row: Option<(Time, String, Option<String>)> =
                on!(tx, db => sqlx::query_as(SCHEMAS).bind(org).bind(name).fetch_optional(db).await)?;
            if let Some((updated_at, validation, Some(schemas))) = row {
                entry.updated_at = Some(updated_at);
                entry.bytes = schemas.len();
                entry.rule = rule(&validation, &schemas)?;
            }
        }
        let rule = entry.rule.clone();
        self.payload_checks.cache().insert(key, entry);
        Ok(rule)
    }

    /// Validates a payload in the calling task. For the relay, inside its transaction.
    pub(in crate::store) async fn check_payload(
        &self,
        org: &OrgId,
        event_type: &str,
        payload: &[u8],
        way: &'static str,
    ) -> Result<PayloadVerdict, StoreError> {
        let rule = self.payload_rule(org, event_type).await?;
        Ok(rule.map_or(PayloadVerdict::Fine, |rule| rule.judge(payload, way)))
    }
}

fn rule(validation: &str, schemas: &str) -> Result<Option<PayloadRule>, StoreError> {
    let reject = match PayloadValidation::from_word(validation) {
        Some(PayloadValidation::Warn) => false,
        Some(PayloadValidation::Reject) => true,
        Some(PayloadValidation::Off) | None => return Ok(None),
    };
    let spec = EventTypeSpec { schemas: codec::from_json_opt(Some(schemas))?, ..EventTypeSpec::default() };
    let schema = spec.newest_schema().map(PayloadSchema::compile);
    Ok(schema.map(|schema| PayloadRule { reject, schema: Arc::new(schema) }))
}

/// Stores the marks of accepted messages.
pub(in crate::store) async fn insert_warnings(
    tx: &mut Tx,
    accepted: impl Iterator<Item = (&AcceptItem, &Message)>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO payload_warning (message_id, app_id, detail) VALUES ($1, $2, $3)";
    for (item, message) in accepted {
        let Some(detail) = &item.spec.schema_warning else { continue };
        let detail = codec::without_nul(detail);
        on!(tx, db => {
            sqlx::query(SQL).bind(message.id).bind(message.app_id).bind(detail).execute(db).await.map(drop)
        })?;
    }
    Ok(())
}

impl Store {
    /// The paths at which a message's payload did not match its event type's schema, if it was marked.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn payload_warning(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
    ) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT w.detail FROM payload_warning w JOIN application p ON p.id = w.app_id
             WHERE w.message_id = $1 AND w.app_id = $2 AND p.org = $3";
        if !tenant.sees(app) {
            return Ok(None);
        }
        Ok(read!(self, db => {
            sqlx::query_scalar(SQL).bind(message).bind(app).bind(&tenant.org).fetch_optional(db).await
        })?)
    }
}
