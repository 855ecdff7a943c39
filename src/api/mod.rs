//! The REST API: the Svix dialect, so that the official `svix` SDKs are Sendoff's SDKs too, and a few fields of our own.
//!
//! The cast:
//!
//! * [`routes`] – the table of all paths, below, on one screen.
//! * [`at`] – one line of it: a path and its methods.
//! * [`openapi`] – the OpenAPI document, made of that table and of what stands above the handlers.
//! * [`docs`] – `/docs`: the same for people.
//! * [`call::Call`] – a request by somebody who may make it.
//! * [`callers`] – who that is, by API key or token; [`auth`] makes and reads tokens, [`jws`] verifies what they are signed with;
//!   [`rights`] is the table of who may do what.
//! * [`body`], [`query`] – what a request brings and asks for, read so that everything wrong with it is told at once.
//! * [`cors`] – programs in browsers.
//! * [`once`] – a POST that comes twice under the same key acts once.
//! * [`errors`] – what a caller is told when something is wrong. Always JSON.
//! * one file per resource: [`application`], [`endpoint`], [`endpoint_secret`], [`endpoint_headers`], [`endpoint_message`],
//!   [`event_type`], [`message`], [`attempt`], [`background`], [`reconcile`], [`autoconfig`]; [`polling`]; [`operational`]; and [`stats`], [`example`],
//!   [`portal_access`], [`expire_all`], [`logout`].
//! * [`probes`] – `/healthz`, `/readyz`, `/metrics`: outside of the dialect and without a token.

mod application;
mod at;
mod attempt;
pub mod auth;
mod autoconfig;
mod background;
mod body;
mod body_budget;
mod call;
pub mod callers;
mod cors;
mod docs;
mod endpoint;
mod endpoint_body;
mod endpoint_headers;
mod endpoint_message;
mod endpoint_secret;
mod errors;
mod event_type;
mod example;
mod expire_all;
mod jws;
mod logout;
mod message;
mod once;
pub mod openapi;
mod operational;
mod polling;
mod portal_access;
pub mod probes;
mod query;
mod reconcile;
mod rights;
mod stats;

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use url::Url;

use crate::domain::secret::SignatureType;
use crate::domain::time::Clock;
use crate::egress::Egress;
use crate::store::Store;
use at::{Table, at, op};
pub use body_budget::BodyBudget;
use call::Call;
use callers::Callers;
pub use cors::Origins;
use errors::{Answer, ApiError};

/// What the handlers stand on; expected as `web::Data<ApiState>`.
#[derive(Clone, Debug)]
pub struct ApiState {
    pub store: Store,
    pub egress: Egress,
    pub callers: Callers,
    /// Where the API is: what tokens of autoconfig tell the programs that they are for.
    pub public_url: Url,
    /// The base URL of links into the portal.
    pub portal_url: Url,
    pub clock: Clock,
    /// For how long messages are kept.
    pub retention: Duration,
    /// How new endpoints sign where nothing else is said.
    pub signature_type: SignatureType,
    /// Shared by all requests of the process.
    pub bodies: BodyBudget,
    /// Whose programs in browsers may call.
    pub origins: Origins,
}

/// Mounts everything under `/api/v1`, and `/docs`; the rest of `/api` is a 404 in JSON.
pub fn routes(config: &mut ServiceConfig) {
    let v1 = table().mount(web::scope(openapi::BASE)).default_service(web::to(errors::no_route));
    config.service(v1).service(web::scope("/api").default_service(web::to(errors::no_route))).configure(docs::routes);
}

/// The route table, in the order in which paths are tried: the busiest stands first. With `op!` a handler's description goes along
/// ([`openapi`] tells how to write one).
fn table() -> Table {
    let mut table = Table::default();
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
        // Before the path of a message, which would take it for an event id.
        .service(at("/app/{app}/msg/expunge-all-contents").post(not_yet))
        .service(at("/app/{app}/msg/{msg}").get(op!(message::read_one)))
        .service(at("/app/{app}/msg/{msg}/content").delete(op!(message::delete_content)))
        .service(at("/app/{app}/msg/{msg}/endpoint").get(op!(attempt::endpoints_of)))
        .service(at("/app/{app}/msg/{msg}/endpoint/{endpoint}/resend").post(op!(attempt::resend)))
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
        .service(at("/event-type").get(op!(event_type::list)).post(op!(event_type::create)))
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
    later(&mut table);
    table
}

/// Paths that the dialect has and a later release answers.
fn later(table: &mut Table) {
    table
        .service(at("/app/{app}/endpoint/{endpoint}/transformation").get(not_yet).patch(not_yet))
        .service(at("/app/{app}/endpoint/{endpoint}/transformation/simulate").post(not_yet))
        .service(at("/app/{app}/endpoint/{endpoint}/auto-config").put(not_yet))
        .service(at("/app/{app}/msg/precheck/active").post(not_yet))
        .service(at("/event-type/import/openapi").post(not_yet));
}

/// Known, not answered yet; only callers with a token learn that much.
async fn not_yet(_: Call) -> Answer {
    Err(ApiError::not_implemented())
}

/// Ask whether the server answers
#[utoipa::path(get, path = "/health", security(()), responses((status = 204, description = "It does.")))]
async fn healthy() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// Ask whether the server answers, under its other name
#[utoipa::path(get, path = "/health/ping", security(()), responses((status = 204, description = "It does.")))]
async fn ping() -> HttpResponse {
    HttpResponse::NoContent().finish()
}
