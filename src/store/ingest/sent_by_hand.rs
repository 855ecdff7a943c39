//! Messages that a person sends: from a page, or as an example to one endpoint. The transaction that stores one also
//! writes its audit entry and, for an edited copy, a reference at the original.

use bytes::Bytes;

use crate::domain::access::audit::action;
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::catalog::event_type::EventTypeSpec;
use crate::domain::deliveries::message::{Message, MessageSpec, edited_from};
use crate::domain::{AppId, MessageId, OrgId, Time};
use crate::store::access::audit;
use crate::store::access::audit::NewAuditEntry;
use crate::store::db::codec;
use crate::store::ingest::accept::{AcceptItem, AcceptResult, Rejection};
use crate::store::maintenance::retention::ROWS;
use crate::store::{AppRef, Store, StoreError, Tenant, Tx, on, read};

/// Maximum number of copies listed for an original.
pub const COPIES: i64 = 20;

impl Store {
    /// [Accepts](Store::accept) a message that a person sends, with an audit entry in the same transaction.
    ///
    /// # Errors
    /// Those of [`Store::accept`].
    pub async fn accept_by_hand(&self, item: AcceptItem) -> Result<AcceptResult, StoreError> {
        self.accept(AcceptItem { audit: self.actor.clone(), ..item }).await
    }

    /// The latest edited copies of a message of the tenant's application, newest first, at most [`COPIES`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn edited_copies(
        &self,
        tenant: &Tenant,
        app: AppId,
        message: MessageId,
    ) -> Result<Vec<MessageId>, StoreError> {
        if !tenant.sees(app) {
            return Ok(Vec::new());
        }
        let sql = "SELECT m.id FROM edited_copy c JOIN message m ON m.id = c.copy_id
             WHERE c.message_id = $1 AND m.app_id = $2 AND m.org = $3 ORDER BY c.copy_id DESC LIMIT $4";
        Ok(read!(self, db => {
            sqlx::query_scalar(sql).bind(message).bind(app).bind(&tenant.org).bind(COPIES).fetch_all(db).await
        })?)
    }

    /// Sends an [example](EventTypeSpec::example) of an event type to one endpoint, ignoring its filters: a real,
    /// signed message to test a receiver with. Audited.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn send_example(
        &self,
        tenant: &Tenant,
        endpoint: &Endpoint,
        event_type: &EventTypeSpec,
        index: Option<usize>,
        now: Time,
    ) -> Result<AcceptResult, StoreError> {
        let payload = match event_type.example(index) {
            Ok(value) => Bytes::from(codec::json(&value)?),
            Err(wrong) => return Ok(Err(Rejection::Invalid(vec![wrong]))),
        };
        let spec = MessageSpec { event_type: event_type.name.clone(), payload, ..MessageSpec::default() };
        self.accept_by_hand(AcceptItem {
            tenant: Some(tenant.clone()),
            app: AppRef::Id(endpoint.app_id),
            only_endpoint: Some(endpoint.id),
            spec,
            at: now,
            idempotency_key: None,
            audit: None,
        })
        .await
    }
}

/// Writes the audit entries of accepted messages that a person sent.
pub(in crate::store) async fn write_audit_entries(
    tx: &mut Tx,
    accepted: impl Iterator<Item = (&AcceptItem, &Message, &OrgId)>,
) -> Result<(), StoreError> {
    for (item, message, org) in accepted {
        let Some(actor) = &item.audit else { continue };
        let (act, detail) = match item.only_endpoint {
            Some(endpoint) => (action::TEST_EVENT_SENT, format!("to {endpoint}")),
            None => (action::MESSAGE_SENT, message.event_type.clone()),
        };
        let target = message.id.to_string();
        let entry = NewAuditEntry::of(org, act, &target).within(message.app_id).with(&detail);
        audit::write(tx, actor, entry, item.at).await?;
        if let Some(original) = message.tags.iter().find_map(|tag| edited_from(tag)) {
            let sql = "INSERT INTO edited_copy (message_id, copy_id) VALUES ($1, $2)";
            on!(tx, db => sqlx::query(sql).bind(original).bind(message.id).execute(db).await.map(drop))?;
        }
    }
    Ok(())
}

/// Deletes the references to copies of originals accepted before `cutoff`, at most [`ROWS`] of them.
pub(in crate::store) async fn delete_old_copies(tx: &mut Tx, cutoff: Time) -> Result<(), StoreError> {
    let sql = "DELETE FROM edited_copy WHERE (message_id, copy_id) IN
         (SELECT message_id, copy_id FROM edited_copy WHERE message_id < $1 ORDER BY message_id LIMIT $2)";
    let floor = MessageId::floor(cutoff);
    Ok(on!(tx, db => sqlx::query(sql).bind(floor).bind(ROWS).execute(db).await.map(drop))?)
}
