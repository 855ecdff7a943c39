//! Endpoints: creation, the URL check, and revealing a secret.

use crate::domain::access::audit::action;
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::signing::secret::Secret;
use crate::domain::{AppId, Invalid, Time};
use crate::egress::Egress;
use crate::store::access::audit::NewAuditEntry;
use crate::store::{Store, StoreError, Tenant};

/// Resolves the host of an endpoint's URL and checks its addresses. Skips an empty URL, which the spec's own rules
/// reject, and an unchanged one, because each attempt checks it anyway.
///
/// # Errors
/// The URL is not allowed; reported on the field `url`.
pub async fn check_url(egress: &Egress, url: &str, stored: Option<&EndpointSpec>) -> Result<(), Invalid> {
    if url.is_empty() || stored.is_some_and(|spec| spec.url == url || spec.request_url() == url) {
        Ok(())
    } else {
        egress.vet_text(url).await
    }
}

/// Creates an endpoint. Without a `secret` one is generated.
///
/// # Errors
/// Those of [`Store::create_endpoint`].
pub async fn create(
    store: &Store,
    tenant: &Tenant,
    app: AppId,
    (spec, secret): (EndpointSpec, Option<Secret>),
    now: Time,
) -> Result<Endpoint, StoreError> {
    let secret = secret.unwrap_or_else(|| Secret::generate(spec.signature_type));
    store.create_endpoint(tenant, app, spec, &secret, now).await
}

/// Reveals an endpoint's secret; `None` if the endpoint no longer exists. The audit entry is written first: a secret is
/// never revealed without one.
///
/// # Errors
/// The store is unavailable.
pub async fn reveal_secret(
    store: &Store,
    tenant: &Tenant,
    endpoint: &Endpoint,
    now: Time,
) -> Result<Option<Secret>, StoreError> {
    let target = endpoint.id.to_string();
    store
        .write_audit_entry(
            NewAuditEntry::of(&tenant.org, action::SECRET_REVEALED, &target).within(endpoint.app_id),
            now,
        )
        .await?;
    store.endpoint_secret(tenant, endpoint.app_id, endpoint.id).await
}
