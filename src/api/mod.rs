//! The REST API. It is compatible with Svix: the official `svix` SDKs work with it. Sendoff adds a few fields and
//! operations of its own.
//!
//! To add an operation, write its handler in [`resources`], describe it with `#[utoipa::path]` (see [`openapi`]) and
//! add it to [`table`], the one list of all routes.
//!
//! * [`http`]: routing, authorization, bodies, queries, errors, idempotency keys; and the probes.
//! * [`authn`]: API keys and tokens, and the permission that each operation needs.
//! * [`resources`]: the handlers, one file or folder for each resource.
//! * [`openapi`]: the OpenAPI document and its viewer at `/docs`.
//!
//! # Invariants
//!
//! * The API knows no SQL and no engine: it reads and writes through [`Store`], and shares code with the dashboard only
//!   in layers below both.
//! * Names of operations, fields and error codes are those of Svix. Renaming one breaks every SDK.
//! * A route without a description responds with 501. The document has all other operations.

pub mod authn;
pub mod http;
pub mod openapi;
mod resources;

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use url::Url;

use crate::api::authn::authenticator::Authenticator;
pub use crate::api::http::cors::Origins;
use crate::api::http::errors;
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::request::ApiCall;
use crate::api::http::route_table::{RouteTable, at, op};
use crate::api::openapi::docs_page;
use crate::api::resources::access::{expire_all, logout, portal_access};
use crate::api::resources::endpoint::{endpoint_headers, endpoint_message, endpoint_secret, example};
use crate::api::resources::{
    application, attempt, autoconfig, background, delivery, development_report, endpoint, event_type,
    event_type_import_op, message, operational, polling, reconcile, stats,
};
use crate::domain::signing::secret::SignatureType;
use crate::domain::time::Clock;
use crate::egress::Egress;
use crate::store::Store;

/// The state of the handlers; expected as `web::Data<ApiState>`.
#[derive(Clone, Debug)]
pub struct ApiState {
    pub store: Store,
    pub egress: Egress,
    pub authenticator: Authenticator,
    /// The base URL of the API; part of autoconfig tokens.
    pub public_url: Url,
    /// The base URL of links into the portal.
    pub portal_url: Url,
    pub clock: Clock,
    /// The retention of messages.
    pub retention: Duration,
    /// The signature type of new endpoints that specify none.
    pub signature_type: SignatureType,
    /// The origins that browser programs may call from.
    pub origins: Origins,
}

/// Mounts `/api/v1` and `/docs`. Other paths below `/api` are a 404 in JSON.
pub fn routes(config: &mut ServiceConfig) {
    let v1 = table().mount(web::scope(openapi::BASE)).default_service(web::to(errors::no_route));
    config
        .service(v1)
        .service(web::scope("/api").default_service(web::to(errors::no_route)))
        .configure(docs_page::routes);
}

/// All routes in matching order, the busiest first. `op!` adds a handler's description (see [`openapi`]).
fn table() -> RouteTable {
    let mut table = RouteTable::default();
    table
        .service(at("/app/{app}/msg").post(op!(message::create)).get(op!(message::list)))
        .service(at("/health").get(op!(healthy)))
        .service(at("/health/ping").get(op!(ping)))
        .service(at("/openapi.json").get(op!(openapi::serve)))
        .service(at("/app").get(op!(application::list)).post(op!(application::create)))
        .service(
            at("/app/{app}")
                .get(op!(application::read_one))
                .put(op!(application::put))
                .patch(op!(application::patch))
                .delete(op!(application::delete)),
        )
        .service(at("/app/{app}/endpoint").get(op!(endpoint::list)).post(op!(endpoint::create)))
        .service(
            at("/app/{app}/endpoint/{endpoint}")
                .get(op!(endpoint::read_one))
                .put(op!(endpoint::put))
                .patch(op!(endpoint::patch))
                .delete(op!(endpoint::delete)),
        )
        .service(at("/app/{app}/endpoint/{endpoint}/secret").get(op!(endpoint_secret::read)))
        .service(at("/app/{app}/endpoint/{endpoint}/secret/rotate").post(op!(endpoint_secret::rotate)))
        .service(
            at("/app/{app}/endpoint/{endpoint}/headers")
                .get(op!(endpoint_headers::read))
                .put(op!(endpoint_headers::put))
                .patch(op!(endpoint_headers::patch)),
        )
        .service(at("/app/{app}/endpoint/{endpoint}/msg").get(op!(endpoint_message::list)))
        .service(at("/app/{app}/endpoint/{endpoint}/send-example").post(op!(example::send)))
        .service(at("/app/{app}/endpoint/{endpoint}/stats").get(op!(stats::of_endpoint)))
        .service(at("/app/{app}/endpoint/{endpoint}/attempt-stats").get(op!(stats::attempts_of_endpoint)))
        .service(at("/app/{app}/stats/attempts").get(op!(stats::attempts_of_application)))
        .service(at("/app/{app}/endpoint/{endpoint}/recover").post(op!(background::recover)))
        .service(at("/app/{app}/endpoint/{endpoint}/replay-missing").post(op!(background::replay_missing)))
        .service(at("/app/{app}/endpoint/{endpoint}/bulk-replay").post(op!(background::bulk_replay)))
        .service(at("/app/{app}/endpoint/{endpoint}/reconcile").post(op!(reconcile::reconcile)))
        .service(at("/background-task").get(op!(background::list)))
        .service(at("/background-task/{id}").get(op!(background::read_one)))
        // Before the path of a message, which would match it as an event id.
        .service(at("/app/{app}/msg/expunge-all-contents").post(not_supported))
        .service(at("/app/{app}/msg/{msg}").get(op!(message::read_one)))
        .service(at("/app/{app}/msg/{msg}/content").delete(op!(message::delete_content)))
        .service(at("/app/{app}/msg/{msg}/endpoint").get(op!(delivery::endpoints_of)))
        .service(at("/app/{app}/msg/{msg}/endpoint/{endpoint}/resend").post(op!(delivery::resend)))
        .service(at("/app/{app}/msg/{msg}/attempt/{attempt}").get(op!(attempt::read_one)))
        .service(at("/app/{app}/msg/{msg}/attempt/{attempt}/content").delete(op!(attempt::delete_content)))
        .service(at("/app/{app}/attempt/msg/{msg}").get(op!(attempt::of_message)))
        .service(at("/app/{app}/attempt/endpoint/{endpoint}").get(op!(attempt::of_endpoint)))
        .service(at("/app/{app}/poller/{sink}").get(op!(polling::poll::poll)))
        .service(at("/app/{app}/poller/{sink}/stream").get(op!(polling::stream::stream)))
        .service(at("/app/{app}/poller/{sink}/consumer/{consumer}").get(op!(polling::poll::consumer_poll)))
        .service(at("/app/{app}/poller/{sink}/consumer/{consumer}/seek").post(op!(polling::poll::consumer_seek)))
        .service(at("/app/{app}/polling-endpoint/{sink}/consumer/{consumer}").get(op!(polling::lease::receive)))
        .service(at("/app/{app}/polling-endpoint/{sink}/consumer/{consumer}/commit").post(op!(polling::lease::commit)))
        .service(at("/app/{app}/destination").get(op!(polling::endpoint::list)).post(op!(polling::endpoint::create)))
        .service(
            at("/app/{app}/destination/{sink}")
                .get(op!(polling::endpoint::read_one))
                .put(op!(polling::endpoint::put))
                .patch(op!(polling::endpoint::patch))
                .delete(op!(polling::endpoint::delete)),
        )
        .service(at("/auth/app/{app}/poller/{sink}/token").get(op!(polling::token::read)))
        .service(at("/auth/app/{app}/poller/{sink}/token/rotate").post(op!(polling::token::rotate)))
        .service(at("/app/{app}/autoconfig").post(op!(autoconfig::create)))
        .service(
            at("/app/{app}/autoconfig/{autoconfig}").get(op!(autoconfig::read_one)).delete(op!(autoconfig::delete)),
        )
        .service(at("/app/{app}/autoconfig/{autoconfig}/rotate").post(op!(autoconfig::rotate)))
        .service(at("/app/{app}/autoconfig/{autoconfig}/endpoint").put(op!(autoconfig::subscribe)))
        .service(at("/app/{app}/autoconfig/{autoconfig}/destination").put(op!(autoconfig::subscribe_by_polling)))
        .service(at("/app/{app}/development-endpoint/{listener}").post(op!(development_report::report)))
        .service(at("/event-type").get(op!(event_type::list)).post(op!(event_type::create)))
        .service(at("/event-type/import/openapi").post(op!(event_type_import_op::import)))
        .service(
            at("/event-type/{event_type}")
                .get(op!(event_type::read_one))
                .put(op!(event_type::put))
                .patch(op!(event_type::patch))
                .delete(op!(event_type::delete)),
        )
        .service(at("/operational-webhook/endpoint").get(op!(operational::list)).post(op!(operational::create)))
        .service(
            at("/operational-webhook/endpoint/{endpoint}")
                .get(op!(operational::read_one))
                .put(op!(operational::put))
                .delete(op!(operational::delete)),
        )
        .service(at("/operational-webhook/endpoint/{endpoint}/secret").get(op!(operational::read_secret)))
        .service(at("/operational-webhook/endpoint/{endpoint}/secret/rotate").post(op!(operational::rotate_secret)))
        .service(
            at("/operational-webhook/endpoint/{endpoint}/headers")
                .get(op!(operational::read_headers))
                .put(op!(operational::put_headers)),
        )
        .service(at("/app/{app}/msg/{msg}/attempt").get(op!(attempt::of_message_by_old_path)))
        .service(at("/auth/app-portal-access/{app}").post(op!(portal_access::create)))
        .service(at("/auth/dashboard-access/{app}").post(op!(portal_access::create_by_old_path)))
        .service(at("/auth/app/{app}/expire-all").post(op!(expire_all::expire_all)))
        .service(at("/auth/logout").post(op!(logout::log_out)));
    unsupported_routes(&mut table);
    table
}

/// Paths of Svix that this release does not support.
fn unsupported_routes(table: &mut RouteTable) {
    table
        .service(at("/app/{app}/endpoint/{endpoint}/transformation").get(not_supported).patch(not_supported))
        .service(at("/app/{app}/endpoint/{endpoint}/transformation/simulate").post(not_supported))
        .service(at("/app/{app}/endpoint/{endpoint}/auto-config").put(not_supported))
        .service(at("/app/{app}/msg/precheck/active").post(not_supported));
}

/// Responds with 501, to authenticated callers only.
async fn not_supported(_: ApiCall) -> ApiResult {
    Err(ApiError::not_implemented())
}

/// Check the server's health
///
/// Responds as long as the server runs. Needs no token.
#[utoipa::path(get, path = "/health", security(()), responses((status = 204)))]
async fn healthy() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// Check the server's health, by its other path
///
/// The same as `/health`.
#[utoipa::path(get, path = "/health/ping", security(()), responses((status = 204)))]
async fn ping() -> HttpResponse {
    HttpResponse::NoContent().finish()
}
