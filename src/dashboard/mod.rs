//! The dashboard: the operators' pages, rendered here, complete without JavaScript.
//!
//! The cast:
//!
//! * A **page** is a struct, its template and a short handler: [`overview`], [`message`], [`deliveries`], [`outbox`],
//!   [`operational`], [`login`].
//! * [`Signed`](session::Signed) – whoever is signed in: an organization and the token that its forms carry. A handler that asks for
//!   it is not reached without a session.
//! * [`gate`] – what every request passes on the way in and every answer on the way out: Host, Origin, headers, error pages.
//! * [`Frame`](frame::Frame) – what surrounds a page: navigation, sign-out, the notice after something was done.
//! * [`show`] – how times, counts, ids and other people's text are written. Nothing foreign reaches a template in another form.
//! * [`range`] and [`chart`] – how far back a page looks, and what it draws of that.
//! * [`parts`] – pieces that look the same everywhere: a state, a time, an id.

mod assets;
mod chart;
mod deliveries;
mod error;
mod frame;
mod gate;
mod health;
mod hints;
pub mod login;
mod message;
mod operational;
mod outbox;
mod overview;
mod parts;
mod payload;
mod range;
mod resend;
mod session;
mod show;

use actix_web::guard::{self, GuardContext};
use actix_web::middleware::from_fn;
use actix_web::{Resource, Route, web};
use url::Url;

use crate::domain::time::Clock;
use crate::store::Store;

/// What the pages stand on.
#[derive(Debug)]
pub struct DashboardState {
    pub store: Store,
    pub clock: Clock,
    /// Where the dashboard is reached: what `Host` and `Origin` are checked against, and where login links lead.
    pub public_url: Url,
    /// Keys the tokens in forms.
    pub secret: [u8; 32],
}

/// What other parts of the process answer; a path below one of these is never a page, in whatever order things are mounted.
const NOT_OURS: [&str; 6] = ["/api", "/docs", "/healthz", "/readyz", "/metrics", "/portal"];

/// Mounts the pages at `/`, with a page of their own for what is not there. Expects `web::Data<DashboardState>`.
pub fn routes(config: &mut web::ServiceConfig) {
    let pages = web::scope("")
        .guard(guard::fn_guard(is_ours))
        .wrap(from_fn(gate::pass))
        .service(page("/", read().to(overview::show)))
        .service(page("/messages/{app}/{message}", read().to(message::show)))
        .service(page("/messages/{app}/{message}/resend", web::post().to(resend::resend)))
        .service(page("/deliveries", read().to(deliveries::show)))
        .service(page("/operational", read().to(operational::show)))
        .service(page("/outbox", read().to(outbox::show)))
        .service(page("/login", read().to(login::show)).route(web::post().to(login::sign_in)))
        .service(page("/logout", web::post().to(login::sign_out)))
        .service(page("/static/{hash}/{name}", read().to(assets::serve)))
        .default_service(web::to(error::not_found));
    config.service(pages);
}

fn page(path: &str, route: Route) -> Resource {
    web::resource(path).route(route).default_service(web::to(error::wrong_method))
}

fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn is_ours(context: &GuardContext<'_>) -> bool {
    let path = context.head().uri.path();
    let below = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    !NOT_OURS.iter().any(|name| below(name))
}
