//! The event types that a caller can see. `flags` are a customer's feature flags: the customer sees event types whose
//! flags are all among them. `None` is the organization, which sees all event types.

use crate::domain::catalog::event_type::EventType;
use crate::store::{Page, PageRequest, Store, StoreError, Tenant};

/// A page of event types by name. `archived` includes archived ones, for the organization.
///
/// # Errors
/// The store is unavailable.
pub async fn page(
    store: &Store,
    tenant: &Tenant,
    flags: Option<&[String]>,
    archived: bool,
    request: &PageRequest<String>,
) -> Result<Page<EventType>, StoreError> {
    match flags {
        None => store.event_types(tenant, archived, request).await,
        Some(flags) => store.offered_event_types(tenant, flags, request).await,
    }
}

/// The event type with this name, if the caller can see it.
///
/// # Errors
/// The store is unavailable.
pub async fn find(
    store: &Store,
    tenant: &Tenant,
    flags: Option<&[String]>,
    name: &str,
) -> Result<Option<EventType>, StoreError> {
    let found = store.event_type(tenant, name).await?;
    Ok(found.filter(|found| flags.is_none_or(|flags| found.spec.offered(flags))))
}
