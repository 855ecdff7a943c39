//! The catalog as somebody sees it: everything for operators; for customers what is offered to them.

use crate::dashboard::http::viewer::Viewer;
use crate::domain::catalog::event_type::EventType;
use crate::store::{Order, Page, PageRequest, Store, StoreError};

/// How many are read at most for a list to choose from.
const MOST: usize = 250;

/// A page of the catalog, by name; `archived`: operators see those too.
///
/// # Errors
/// The store is away.
pub async fn page(
    store: &Store,
    viewer: &Viewer,
    archived: bool,
    request: &PageRequest<String>,
) -> Result<Page<EventType>, StoreError> {
    match viewer.flags() {
        None => store.event_types(&viewer.tenant(), archived, request).await,
        Some(flags) => store.offered_event_types(&viewer.tenant(), flags, request).await,
    }
}

/// The first of what there is to choose from.
///
/// # Errors
/// The store is away.
pub async fn choices(store: &Store, viewer: &Viewer) -> Result<Vec<EventType>, StoreError> {
    Ok(page(store, viewer, false, &PageRequest::first(MOST, Order::Ascending)).await?.data)
}

/// The event type of that name, if they may know of it.
///
/// # Errors
/// The store is away.
pub async fn find(store: &Store, viewer: &Viewer, name: &str) -> Result<Option<EventType>, StoreError> {
    let found = store.event_type(&viewer.tenant(), name).await?;
    Ok(found.filter(|found| viewer.flags().is_none_or(|flags| found.spec.offered(flags))))
}
