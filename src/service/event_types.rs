//! The event types that a caller can see. `flags` are a customer's feature flags: the customer sees event types whose
//! flags are all among them. `None` is the organization, which sees all event types.

use crate::domain::catalog::event_type::EventType;
use crate::domain::{Invalid, limits};
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

/// Checks that a customer names only event types that are visible to them or were selected `before`. A hidden event
/// type is reported as not in the catalog, so no response reveals it.
///
/// # Errors
/// The store is unavailable. The inner error: the names, on the field `eventTypes`.
pub async fn check_visible(
    store: &Store,
    tenant: &Tenant,
    flags: Option<&[String]>,
    wanted: Option<&[String]>,
    before: Option<&[String]>,
) -> Result<Result<(), Invalid>, StoreError> {
    let (Some(flags), Some(wanted)) = (flags, wanted) else { return Ok(Ok(())) };
    let before = before.unwrap_or_default();
    let new: Vec<String> = wanted.iter().filter(|name| !before.contains(name)).cloned().collect();
    let hidden = store.event_types_not_offered(tenant, &new, flags).await?;
    if hidden.is_empty() {
        return Ok(Ok(()));
    }
    let names: Vec<&str> = hidden.iter().map(String::as_str).collect();
    let reason = format!("these event types are not in the catalog: {}", limits::join_first(&names));
    Ok(Err(Invalid::new("eventTypes", reason)))
}
