//! Finds an application by id, uid or name.

use crate::domain::AppId;
use crate::store::{AppRef, Order, PageRequest, Store, StoreError, Tenant};

/// Maximum number of applications with the same prefix that are compared with the full name.
const ALIKE: usize = 100;

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppLookup {
    Found(AppId),
    /// The reason it was not found.
    NotFound(&'static str),
}

/// Looks up an application of the tenant. Names match case-insensitively; a unique prefix matches too.
///
/// # Errors
/// The store is unavailable.
pub async fn find(store: &Store, tenant: &Tenant, text: &str) -> Result<AppLookup, StoreError> {
    const NONE: AppLookup = AppLookup::NotFound("No application has this name, id or uid.");
    if let Ok(named) = AppRef::parse(text)
        && let Some(app) = store.application(tenant, &named).await?
    {
        return Ok(AppLookup::Found(app.id));
    }
    if text.is_empty() {
        return Ok(NONE);
    }
    let alike = store.applications_like(tenant, text, &PageRequest::first(ALIKE, Order::Descending)).await?;
    let wanted = text.to_lowercase();
    let same: Vec<AppId> =
        alike.data.iter().filter(|app| app.name.to_lowercase() == wanted).map(|app| app.id).collect();
    Ok(match (&same[..], &alike.data[..]) {
        ([one], _) => AppLookup::Found(*one),
        ([], [one]) if !alike.more => AppLookup::Found(one.id),
        ([], []) if alike.stopped.is_some() => {
            AppLookup::NotFound("Too many applications to search by name. Enter an id or uid.")
        }
        ([], []) => NONE,
        _ => AppLookup::NotFound("Several applications match this name. Enter more of it, or an id or uid."),
    })
}
