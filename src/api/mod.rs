//! The REST API: the Svix dialect, so that the official `svix` SDKs are Sendoff's SDKs too, and a few fields of our own.
//!
//! The cast:
//!
//! * [`routes`] – the table of all paths, below, on one screen.
//! * [`at`] – one line of it: a path and its methods.
//! * [`call::Call`] – a request by somebody who may make it.
//! * [`callers`] – who that is, by API key or token; [`auth`] makes and reads tokens, [`jws`] verifies what they are signed with;
//!   [`rights`] is the table of who may do what.
//! * [`body`], [`query`] – what a request brings and asks for, read so that everything wrong with it is told at once.
//! * [`once`] – a POST that comes twice under the same key acts once.
//! * [`errors`] – what a caller is told when something is wrong. Always JSON.
//! * one file per resource: [`application`], [`endpoint`], [`endpoint_secret`], [`endpoint_headers`], [`endpoint_message`],
//!   [`event_type`], [`message`], [`attempt`], [`background`]; [`operational`]; and [`stats`], [`example`],
//!   [`portal_access`], [`logout`].
//! * [`probes`] – `/healthz`, `/readyz`, `/metrics`: outside of the dialect and without a token.

mod application;
mod at;
mod attempt;
pub mod auth;
mod background;
mod body;
mod call;
pub mod callers;
mod endpoint;
mod endpoint_headers;
mod endpoint_message;
mod endpoint_secret;
mod errors;
mod event_type;
mod example;
mod jws;
mod logout;
mod message;
mod once;
mod operational;
mod portal_access;
pub mod probes;
mod query;
mod rights;
mod stats;

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use url::Url;

use crate::domain::time::Clock;
use crate::egress::Egress;
use crate::store::Store;
use at::at;
use call::Call;
use callers::Callers;
use errors::{Answer, ApiError};

/// What the handlers stand on; expected as `web::Data<ApiState>`.
#[derive(Clone, Debug)]
pub struct ApiState {
    pub store: Store,
    pub egress: Egress,
    pub callers: Callers,
    /// What links begin with.
    pub public_url: Url,
    pub clock: Clock,
}

/// Mounts everything under `/api/v1`; the rest of `/api` is a 404 in JSON. The busiest path stands first: paths are tried in turn.
pub fn routes(config: &mut ServiceConfig) {
    let v1 = web::scope("/api/v1")
        .service(at("/app/{app}/msg").post(message::create).get(message::list))
        .service(at("/health").get(healthy))
        .service(at("/health/ping").get(healthy))
        .service(at("/app").get(application::list).post(application::create))
        .service(
            at("/app/{app}")
                .get(application::read_one)
                .put(application::put)
                .patch(application::patch)
                .delete(application::delete),
        )
        .service(at("/app/{app}/endpoint").get(endpoint::list).post(endpoint::create))
        .service(
            at("/app/{app}/endpoint/{endpoint}")
                .get(endpoint::read_one)
                .put(endpoint::put)
                .patch(endpoint::patch)
                .delete(endpoint::delete),
        )
        .service(at("/app/{app}/endpoint/{endpoint}/secret").get(endpoint_secret::read))
        .service(at("/app/{app}/endpoint/{endpoint}/secret/rotate").post(endpoint_secret::rotate))
        .service(
            at("/app/{app}/endpoint/{endpoint}/headers")
                .get(endpoint_headers::read)
                .put(endpoint_headers::put)
                .patch(endpoint_headers::patch),
        )
        .service(at("/app/{app}/endpoint/{endpoint}/msg").get(endpoint_message::list))
        .service(at("/app/{app}/endpoint/{endpoint}/send-example").post(example::send))
        .service(at("/app/{app}/endpoint/{endpoint}/stats").get(stats::of_endpoint))
        .service(at("/app/{app}/endpoint/{endpoint}/attempt-stats").get(stats::attempts_of_endpoint))
        .service(at("/app/{app}/stats/attempts").get(stats::attempts_of_application))
        .service(at("/app/{app}/endpoint/{endpoint}/recover").post(background::recover))
        .service(at("/app/{app}/endpoint/{endpoint}/replay-missing").post(background::replay_missing))
        .service(at("/app/{app}/endpoint/{endpoint}/bulk-replay").post(background::bulk_replay))
        .service(at("/background-task").get(background::list))
        .service(at("/background-task/{id}").get(background::read_one))
        // Before the path of a message, which would take it for an event id.
        .service(at("/app/{app}/msg/expunge-all-contents").post(not_yet))
        .service(at("/app/{app}/msg/{msg}").get(message::read_one))
        .service(at("/app/{app}/msg/{msg}/content").delete(message::delete_content))
        .service(at("/app/{app}/msg/{msg}/endpoint").get(attempt::endpoints_of))
        .service(at("/app/{app}/msg/{msg}/endpoint/{endpoint}/resend").post(attempt::resend))
        .service(at("/app/{app}/msg/{msg}/attempt/{attempt}").get(attempt::read_one))
        .service(at("/app/{app}/msg/{msg}/attempt/{attempt}/content").delete(attempt::delete_content))
        .service(at("/app/{app}/attempt/msg/{msg}").get(attempt::of_message))
        .service(at("/app/{app}/attempt/endpoint/{endpoint}").get(attempt::of_endpoint))
        .service(at("/event-type").get(event_type::list).post(event_type::create))
        .service(
            at("/event-type/{event_type}")
                .get(event_type::read_one)
                .put(event_type::put)
                .patch(event_type::patch)
                .delete(event_type::delete),
        )
        .service(at("/operational-webhook/endpoint").get(operational::list).post(operational::create))
        .service(
            at("/operational-webhook/endpoint/{endpoint}")
                .get(endpoint::read_one)
                .put(operational::put)
                .delete(endpoint::delete),
        )
        .service(at("/operational-webhook/endpoint/{endpoint}/secret").get(endpoint_secret::read))
        .service(at("/operational-webhook/endpoint/{endpoint}/secret/rotate").post(endpoint_secret::rotate))
        .service(
            at("/operational-webhook/endpoint/{endpoint}/headers")
                .get(endpoint_headers::read)
                .put(endpoint_headers::put),
        )
        .service(at("/auth/app-portal-access/{app}").post(portal_access::create))
        .service(at("/auth/logout").post(logout::log_out))
        .configure(later)
        .default_service(web::to(errors::no_route));
    config.service(v1).service(web::scope("/api").default_service(web::to(errors::no_route)));
}

/// Paths that the dialect has and a later release answers.
fn later(config: &mut ServiceConfig) {
    config
        .service(at("/app/{app}/endpoint/{endpoint}/transformation").get(not_yet).patch(not_yet))
        .service(at("/app/{app}/endpoint/{endpoint}/transformation/simulate").post(not_yet))
        .service(at("/app/{app}/msg/precheck/active").post(not_yet))
        .service(at("/app/{app}/poller/{sink}").get(not_yet))
        .service(at("/app/{app}/poller/{sink}/consumer/{consumer}").get(not_yet))
        .service(at("/app/{app}/poller/{sink}/consumer/{consumer}/seek").post(not_yet))
        .service(at("/event-type/import/openapi").post(not_yet));
}

/// Known, not answered yet; only callers with a token learn that much.
async fn not_yet(_: Call) -> Answer {
    Err(ApiError::not_implemented())
}

async fn healthy() -> HttpResponse {
    HttpResponse::NoContent().finish()
}
