//! Messages that a person sends by hand: from a page, or as an example to one endpoint. Each has an audit entry in the
//! transaction that stores it.

use bytes::Bytes;

use crate::domain::access::audit::action;
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::catalog::event_type::EventTypeSpec;
use crate::domain::deliveries::message::{Message, MessageSpec};
use crate::domain::{OrgId, Time};
use crate::store::access::audit;
use crate::store::access::audit::NewAuditEntry;
use crate::store::db::codec;
use crate::store::ingest::accept::{AcceptItem, AcceptResult, Rejection};
use crate::store::{AppRef, Store, StoreError, Tenant, Tx};

impl Store {
    /// [Accepts](Store::accept) a message that a person sends by hand, with an audit entry in the same transaction.
    ///
    /// # Errors
    /// Those of [`Store::accept`].
    pub async fn accept_by_hand(&self, item: AcceptItem) -> Result<AcceptResult, StoreError> {
        self.accept(AcceptItem { audit: self.actor.clone(), ..item }).await
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

/// Writes the audit entries of accepted messages that were sent by hand.
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
    }
    Ok(())
}
