//! The event types that a user can see: operators see all, customers those offered to them.

use crate::dashboard::http::current_user::CurrentUser;
use crate::domain::catalog::event_type::EventType;
use crate::store::{Order, Page, PageRequest, Store, StoreError};

/// The maximum number of choices in a form.
const MOST: usize = 250;

/// A page of event types by name; `archived` includes archived ones, for operators.
///
/// # Errors
/// The store is unavailable.
pub async fn page(
    store: &Store,
    user: &CurrentUser,
    archived: bool,
    request: &PageRequest<String>,
) -> Result<Page<EventType>, StoreError> {
    match user.flags() {
        None => store.event_types(&user.tenant(), archived, request).await,
        Some(flags) => store.offered_event_types(&user.tenant(), flags, request).await,
    }
}

/// The choices in a form.
///
/// # Errors
/// The store is unavailable.
pub async fn choices(store: &Store, user: &CurrentUser) -> Result<Vec<EventType>, StoreError> {
    Ok(page(store, user, false, &PageRequest::first(MOST, Order::Ascending)).await?.data)
}

/// The event type with this name, if the user can see it.
///
/// # Errors
/// The store is unavailable.
pub async fn find(store: &Store, user: &CurrentUser, name: &str) -> Result<Option<EventType>, StoreError> {
    let found = store.event_type(&user.tenant(), name).await?;
    Ok(found.filter(|found| user.flags().is_none_or(|flags| found.spec.offered(flags))))
}
