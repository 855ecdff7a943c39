//! Single-use links into the portal.

use std::time::Duration;

use url::Url;

use crate::domain::Time;
use crate::domain::access::api_key;
use crate::domain::access::portal::{PortalLink, PortalOptions};
use crate::domain::catalog::application::Application;
use crate::store::{Store, StoreError};

/// Lifetime of a link.
pub const LINK_LIFE: Duration = Duration::from_secs(15 * 60);

/// Creates a link with this random `code` for the application's customer, below the portal's base URL. The store keeps
/// only the hash of the code. Without a theme, the link has that of the organization.
///
/// # Errors
/// The store is unavailable.
pub async fn create(
    store: &Store,
    app: &Application,
    mut options: PortalOptions,
    portal_url: &Url,
    code: &str,
    now: Time,
) -> Result<Url, StoreError> {
    if options.theme.is_none() {
        options.theme = store.organization(&app.org).await?.and_then(|row| row.spec.theme);
    }
    let link = PortalLink { org: app.org.clone(), app_id: app.id, options, expires_at: now.plus(LINK_LIFE) };
    store.add_portal_link(&api_key::hash(code), &link, now).await?;
    Ok(url(portal_url, code))
}

/// The URL of the link with this code.
pub fn url(portal_url: &Url, code: &str) -> Url {
    let mut url = portal_url.clone();
    url.set_path(&format!("/portal/enter/{code}"));
    url
}
