//! Resolving an id or a name typed into a search field. Uids and event ids are unique per application, so they are
//! looked up in up to [`APPS`] applications.

use crate::domain::{AppId, AttemptId, EndpointId, MessageId};
use crate::store::db::statement::{SqlValue, Statement, query_of};
use crate::store::{AppRef, EndpointRef, MessageRef, Store, StoreError, Tenant, read};

/// The number of applications searched for a name, newest first; each costs one index lookup.
const APPS: i64 = 10_000;
/// Maximum results for a name.
const MOST: i64 = 50;

/// The meaning of a search term. An unknown term is a text to search for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchTarget {
    Messages(Vec<MessageId>),
    Application(AppId),
    Endpoint(EndpointId),
    Text(String),
}

/// All objects with an id or a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedObjects {
    pub messages: Vec<MessageId>,
    pub application: Option<AppId>,
    /// Deleted ones too.
    pub endpoints: Vec<EndpointId>,
}

impl Store {
    /// Everything that `text` names within the tenant: a message, attempt, endpoint or application by id, messages by
    /// event id, an application and endpoints by uid.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn objects_named(&self, tenant: &Tenant, text: &str) -> Result<NamedObjects, StoreError> {
        let mut found = NamedObjects { messages: self.messages_of_term(tenant, text).await?, ..Default::default() };
        if let Ok(named) = AppRef::parse(text) {
            found.application = self.application(tenant, &named).await?.map(|app| app.id);
        }
        if let Ok(named) = EndpointRef::parse(text) {
            found.endpoints = self.endpoints_named(tenant, &named).await?;
        }
        Ok(found)
    }

    /// The tenant's endpoints with exactly this URL, at most 50.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn endpoints_at(&self, tenant: &Tenant, url: &str) -> Result<Vec<EndpointId>, StoreError> {
        let mut sql = Statement::new(
            "SELECT e.id FROM endpoint e CROSS JOIN application p
             WHERE p.id = e.app_id AND e.deleted_at IS NULL AND e.url = ",
        );
        sql.bind(SqlValue::Text(url.to_owned()));
        owned(&mut sql, tenant);
        sql.push(&format!(" LIMIT {MOST}"));
        Ok(read!(self, db => query_of!(query_scalar, &sql).fetch_all(db).await)?)
    }

    /// The messages with an id or event id, or that of an attempt's id.
    async fn messages_of_term(&self, tenant: &Tenant, text: &str) -> Result<Vec<MessageId>, StoreError> {
        match (text.parse::<AttemptId>(), MessageRef::parse(text)) {
            (Ok(attempt), _) => self.message_of_attempt(tenant, attempt).await,
            (_, Ok(message)) => self.messages_named(tenant, &message).await,
            _ => Ok(Vec::new()),
        }
    }

    /// Resolves `text` within the tenant or one application: an id of a message, attempt, endpoint or application, an
    /// event id, or a uid.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn resolve_search_term(
        &self,
        tenant: &Tenant,
        app: Option<AppId>,
        text: &str,
    ) -> Result<SearchTarget, StoreError> {
        let tenant = &Tenant { only: app.or(tenant.only), ..tenant.clone() };
        let messages = self.messages_of_term(tenant, text).await?;
        if !messages.is_empty() {
            return Ok(SearchTarget::Messages(messages));
        }
        if let Ok(named) = AppRef::parse(text)
            && let Some(app) = self.application(tenant, &named).await?
        {
            return Ok(SearchTarget::Application(app.id));
        }
        if let Ok(named) = EndpointRef::parse(text)
            && let [endpoint] = self.endpoints_named(tenant, &named).await?[..]
        {
            return Ok(SearchTarget::Endpoint(endpoint));
        }
        Ok(SearchTarget::Text(text.to_owned()))
    }

    /// The tenant's endpoints with an id (at most one, even if deleted) or a uid (one per application).
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn endpoints_named(&self, tenant: &Tenant, named: &EndpointRef) -> Result<Vec<EndpointId>, StoreError> {
        let mut sql = Statement::new("SELECT e.id FROM ");
        match named {
            EndpointRef::Id(id) => {
                sql.push("endpoint e CROSS JOIN application p WHERE p.id = e.app_id AND e.id = ").bind(*id);
                owned(&mut sql, tenant);
            }
            EndpointRef::Uid(uid) => {
                apps(&mut sql, tenant);
                sql.push(" CROSS JOIN endpoint e WHERE e.app_id = p.id AND e.uid = ");
                sql.bind(SqlValue::Text(uid.as_str().to_owned()));
            }
        }
        sql.push(&format!(" LIMIT {MOST}"));
        Ok(read!(self, db => query_of!(query_scalar, &sql).fetch_all(db).await)?)
    }

    async fn messages_named(&self, tenant: &Tenant, named: &MessageRef) -> Result<Vec<MessageId>, StoreError> {
        let mut sql;
        match named {
            MessageRef::Id(id) => {
                sql = Statement::new(
                    "SELECT m.id FROM message m CROSS JOIN application p WHERE p.id = m.app_id AND m.id = ",
                );
                sql.bind(*id);
                owned(&mut sql, tenant);
            }
            MessageRef::Uid(uid) => {
                sql = Statement::new("SELECT k.message_id FROM ");
                apps(&mut sql, tenant);
                sql.push(" CROSS JOIN message_key k WHERE k.app_id = p.id AND k.event_id = ");
                sql.bind(SqlValue::Text(uid.as_str().to_owned()));
            }
        }
        sql.push(&format!(" LIMIT {MOST}"));
        Ok(read!(self, db => query_of!(query_scalar, &sql).fetch_all(db).await)?)
    }

    async fn message_of_attempt(&self, tenant: &Tenant, attempt: AttemptId) -> Result<Vec<MessageId>, StoreError> {
        let mut sql = Statement::new(
            "SELECT a.message_id FROM attempt a CROSS JOIN application p WHERE p.id = a.app_id AND a.id = ",
        );
        sql.bind(attempt).push(" AND a.org = ").bind(SqlValue::Text(tenant.org.as_str().to_owned()));
        owned(&mut sql, tenant);
        Ok(read!(self, db => query_of!(query_scalar, &sql).fetch_all(db).await)?)
    }
}

/// Appends the tenant as a condition on `p`.
fn owned(sql: &mut Statement, tenant: &Tenant) {
    sql.push(" AND p.org = ").bind(SqlValue::Text(tenant.org.as_str().to_owned())).push(" AND p.deleted_at IS NULL");
    if let Some(only) = tenant.only {
        sql.push(" AND p.id = ").bind(only);
    }
}

/// Appends the tenant's newest applications, as `p`.
fn apps(sql: &mut Statement, tenant: &Tenant) {
    sql.push("(SELECT p.id FROM application p WHERE 1 = 1");
    owned(sql, tenant);
    sql.push(&format!(" ORDER BY p.id DESC LIMIT {APPS}) AS p"));
}
