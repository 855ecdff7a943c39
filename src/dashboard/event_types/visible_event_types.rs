//! The event types that a user can see: operators see all, customers those offered to them.

use crate::dashboard::http::current_user::CurrentUser;
use crate::domain::catalog::event_type::EventType;
use crate::service::event_types;
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
    event_types::page(store, &user.tenant(), user.flags(), archived, request).await
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
    event_types::find(store, &user.tenant(), user.flags(), name).await
}

/// The names that the user can see. Operators see all, even names that are not in the catalog.
///
/// # Errors
/// The store is unavailable.
pub async fn only_visible(store: &Store, user: &CurrentUser, names: Vec<String>) -> Result<Vec<String>, StoreError> {
    if user.flags().is_none() {
        return Ok(names);
    }
    let mut visible = Vec::new();
    for name in names {
        if find(store, user, &name).await?.is_some() {
            visible.push(name);
        }
    }
    Ok(visible)
}
