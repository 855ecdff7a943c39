//! The resources of the REST API: one file or folder each, with its handlers, response structs (`…Out`) and the
//! document's body structs (`…In`, `…Patch`). Come here to add or change an operation.
//!
//! * [`application`]: one for each customer. [`access`]: granting and ending portal access of customers.
//! * [`endpoint`]: endpoints, with their headers, secrets, messages and examples. [`operational`]: endpoints for
//!   operational webhooks.
//! * [`event_type`]: the catalog; [`event_type_import_op`] imports it. [`message`]: accepting and reading messages.
//!   [`delivery`], [`attempt`]: their deliveries and attempts.
//! * [`background`], [`reconcile`]: replays and other background tasks. [`stats`]: counts.
//! * [`development_report`]: responses of programs on developers' machines.
//! * [`polling`]: polling endpoints and their consumers. [`autoconfig`]: subscriptions that receivers configure
//!   themselves.
//!
//! # Invariants
//!
//! * A handler reads its request completely before it changes anything; an invalid request has no effect.
//! * Every POST runs inside [`idempotent`](crate::api::http::idempotency::idempotent), except `/auth/logout`.
//! * Responses contain no secrets, except those of operations that reveal one. Those are never cached (`no-store`).
//! * Operations for organizations begin with `require_organization`. An application token never reaches another
//!   application.

pub(in crate::api) mod access;
pub(in crate::api) mod application;
pub(in crate::api) mod attempt;
pub(in crate::api) mod autoconfig;
pub(in crate::api) mod background;
pub(in crate::api) mod delivery;
pub(in crate::api) mod development_report;
pub(in crate::api) mod endpoint;
pub(in crate::api) mod event_type;
pub(in crate::api) mod event_type_import_op;
pub(in crate::api) mod message;
pub(in crate::api) mod operational;
pub(in crate::api) mod polling;
pub(in crate::api) mod reconcile;
pub(in crate::api) mod stats;

use crate::api::http::errors::{ApiError, ApiResult};
use crate::domain::Uid;
use crate::store::StoreError;

/// Handles a PUT: replaces the resource, or creates it under the uid in the path.
///
/// # Errors
/// 404: it does not exist, and the path has an id, under which nothing is created.
async fn create_or_replace<T>(
    what: &str,
    uid: Option<&Uid>,
    find: impl AsyncFn() -> Result<Option<T>, StoreError>,
    create: impl AsyncFnOnce(&Uid) -> ApiResult,
    replace: impl AsyncFn(T) -> ApiResult,
) -> ApiResult {
    if let Some(found) = find().await? {
        return replace(found).await;
    }
    let Some(uid) = uid else { return Err(ApiError::not_found(what)) };
    match create(uid).await {
        // A concurrent request created it.
        Err(error) if error.is_conflict() => replace(find().await?.ok_or(error)?).await,
        created => created,
    }
}
