//! The dashboard for operators and the portal for customers, rendered on the server and complete without JavaScript.
//!
//! A page is a struct, its template and a short handler. There is a folder for each group of pages:
//!
//! * [`overview`], [`deliveries`], [`messages`], [`endpoints`] (with polling endpoints), [`applications`],
//!   [`event_types`].
//! * [`bulk`] – bulk resends and their progress. [`live`] – the live tail.
//! * [`settings`] – API keys, operators, audit log, outbox, operational webhooks.
//! * [`find`] – the search box of every page.
//! * [`sign_in`] – operators' sign-in. [`portal`] – the pages that only customers have.
//! * [`http`] – sessions, CSRF, middleware, layout, error pages. [`components`] – forms, filters, charts and text
//!   formatting.
//!
//! Invariants:
//!
//! * Text from outside (payloads, responses, URLs, names) reaches a template only as [`Line`](components::format::Line)
//!   or [`Block`](components::format::Block), which make hidden characters visible.
//! * Every page works without JavaScript; the script only adds to it.
//! * The pages of one application are written once and mounted twice, below `/applications/{app}` and below `/portal`.
//!   A handler below `/portal` must not read anything outside
//!   [`CurrentUser::tenant`](http::current_user::CurrentUser::tenant).
//! * Handlers change data only through `user.store(…)`, which records the actor in the audit log.

mod applications;
mod bulk;
mod components;
mod deliveries;
mod endpoints;
mod event_types;
mod find;
mod http;
mod live;
mod messages;
mod overview;
mod portal;
mod settings;
pub mod sign_in;

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::guard::{self, GuardContext};
use actix_web::http::header::X_FORWARDED_FOR;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, Resource, Route, web};
use url::Url;

use crate::dashboard::applications::{application_form, portal_link};
use crate::dashboard::deliveries::{cancel, cancel_selected, resend};
use crate::dashboard::endpoints::{development_page, endpoint, endpoint_actions, endpoint_secret, polling, test_event};
use crate::dashboard::event_types::{event_type_form, import_page, public_catalog};
pub use crate::dashboard::http::route_access::{Access, RouteAccess, TABLE as ROUTE_ACCESS};
use crate::dashboard::http::{assets, error, middleware, preferences, route_access};
use crate::dashboard::live::tail;
pub use crate::dashboard::live::tail_feed::TailFeeds;
use crate::dashboard::messages::{message, send_message};
use crate::dashboard::settings::{
    api_keys, audit, list_views, operational, operational_endpoints, operator_account, operators, organization,
    organization_settings, outbox, own_account, second_factor_setup, session_list, settings_index,
};
use crate::dashboard::sign_in::oidc::provider::OidcProvider;
use crate::dashboard::sign_in::passwords::Passwords;
use crate::dashboard::sign_in::{login, oidc, password_reset, second_factor};
use crate::domain::time::Clock;
use crate::egress::Egress;
use crate::store::Store;
use crate::traffic::Traffic;

/// The state shared by all handlers.
#[derive(Debug)]
pub struct DashboardState {
    pub store: Store,
    pub clock: Clock,
    /// Validates endpoint URLs.
    pub egress: Egress,
    /// The dashboard's own URL. `Host` and `Origin` are checked against it, and login links lead to it.
    pub public_url: Url,
    /// The portal's URL; it may have another port, like the dashboard and the API.
    pub portal_url: Url,
    /// The API's URL, for request examples and links to its reference.
    pub api_url: Url,
    /// Origins that may embed the portal: `https://app.example.com`.
    pub frame_origins: Vec<String>,
    /// The default signature type of new endpoints.
    pub signature_type: crate::domain::signing::secret::SignatureType,
    /// Endpoints whose attempts have all failed for this long are disabled.
    pub disable_after: std::time::Duration,
    /// The key of CSRF tokens.
    pub secret: [u8; 32],
    /// Shared by the process, which closes them at shutdown.
    pub feeds: TailFeeds,
    /// Verifies operators' passwords.
    pub passwords: Passwords,
    /// Rate limits.
    pub traffic: Traffic,
    /// The identity provider; `None`: sign-in by password or link only.
    pub oidc: Option<Arc<OidcProvider>>,
    /// Accounts with a password need a second factor.
    pub require_totp: bool,
}

impl DashboardState {
    /// The path of the API reference, or its URL if the API has another port.
    fn api_reference(&self) -> String {
        // On the same origin, a path works under any host name.
        let own_origin = self.api_url == self.public_url;
        if own_origin { "/docs".to_owned() } else { format!("{}docs", self.api_url) }
    }

    /// The client's address, taken from trusted proxies if there are any.
    fn address(&self, request: &HttpRequest) -> Option<IpAddr> {
        let forwarded: Vec<&[u8]> = request.headers().get_all(X_FORWARDED_FOR).map(|value| value.as_bytes()).collect();
        Some(self.traffic.proxies.caller(request.peer_addr()?.ip(), forwarded.into_iter()))
    }
}

/// Paths of other parts of the process. They are never pages, so the mounting order does not matter.
const NOT_OURS: [&str; 5] = ["/api", "/docs", "/healthz", "/readyz", "/metrics"];

/// Mounts the dashboard at `/` and the portal at `/portal`. Expects `web::Data<DashboardState>`.
pub fn routes(config: &mut web::ServiceConfig) {
    mount(config, |config| {
        config.service(web::scope(portal::PORTAL).configure(portal::routes));
    });
}

/// Mounts the dashboard without the portal.
pub fn operators(config: &mut web::ServiceConfig) {
    mount(config, |_| {});
}

/// Mounts the portal alone.
pub fn customers(config: &mut web::ServiceConfig) {
    let pages = web::scope("")
        .guard(guard::fn_guard(is_ours))
        .wrap(from_fn(middleware::pass))
        .service(web::redirect("/", portal::PORTAL))
        .service(page("/static/{hash}/{name}", read().to(assets::serve)))
        .configure(public_pages)
        .service(web::scope(portal::PORTAL).configure(portal::routes))
        .default_service(web::to(error::not_found));
    config.service(pages);
}

fn mount(config: &mut web::ServiceConfig, portal: fn(&mut web::ServiceConfig)) {
    let pages = web::scope("")
        .guard(guard::fn_guard(is_ours))
        .wrap(from_fn(route_access::check))
        .wrap(from_fn(middleware::pass))
        .service(page("/", read().to(overview::show)))
        .configure(lists)
        .service(page("/views", web::post().to(list_views::save)))
        .service(page("/views/delete", web::post().to(list_views::delete)))
        .service(page("/find", read().to(find::show)))
        .configure(public_pages)
        .service(page("/settings", read().to(settings_index::show)))
        .service(
            page("/settings/organization", read().to(organization_settings::show))
                .route(web::post().to(organization_settings::change)),
        )
        .service(page("/settings/organizations", read().to(organization_settings::list)))
        .service(
            page("/settings/organizations/new", read().to(organization_settings::new))
                .route(web::post().to(organization_settings::create)),
        )
        .service(page("/operational", read().to(operational::show)))
        .service(
            page("/operational/new", read().to(operational_endpoints::new))
                .route(web::post().to(operational_endpoints::create)),
        )
        .service(page("/operational/{endpoint}/test", web::post().to(operational_endpoints::test)))
        .service(page("/outbox", read().to(outbox::show)))
        .configure(outbox_rows)
        .configure(resends_and_live)
        .service(page("/login", read().to(login::show)).route(web::post().to(login::sign_in)))
        .service(page("/login/code", web::post().to(second_factor::enter)))
        .service(page("/login/oidc", web::get().to(oidc::begin)))
        .service(page("/login/oidc/callback", web::get().to(oidc::finish)))
        .service(page("/reset", read().to(password_reset::show)).route(web::post().to(password_reset::reset)))
        .service(page("/logout", web::post().to(login::sign_out)))
        .service(page("/organization", web::post().to(organization::choose)))
        .service(page("/keys", read().to(api_keys::list)).route(web::post().to(api_keys::create)))
        .service(page("/keys/{key}", read().to(api_keys::ask)))
        .service(page("/keys/{key}/revoke", web::post().to(api_keys::revoke)))
        .service(page("/audit", read().to(audit::show)))
        .service(page("/operators", read().to(operators::list)).route(web::post().to(operators::create)))
        .configure(operator_pages)
        .service(page("/preferences", web::post().to(preferences::choose)))
        .service(page("/static/{hash}/{name}", read().to(assets::serve)))
        .service(page("/applications", read().to(applications::list)))
        .service(
            page("/applications/new", read().to(application_form::new)).route(web::post().to(application_form::create)),
        )
        .service(page("/endpoints", read().to(endpoints::across)))
        .service(page("/event-types", read().to(event_types::list)))
        .service(
            page("/event-types/new", read().to(event_type_form::new)).route(web::post().to(event_type_form::create)),
        )
        .service(page("/event-types/import", read().to(import_page::show)).route(web::post().to(import_page::import)))
        .service(page("/event-types/{name}", read().to(event_types::show)))
        .service(
            page("/event-types/{name}/edit", read().to(event_type_form::edit))
                .route(web::post().to(event_type_form::change)),
        )
        .service(
            page("/event-types/{name}/archive", read().to(event_type_form::ask))
                .route(web::post().to(event_type_form::archive)),
        )
        .service(web::scope("/applications/{app}").configure(application))
        .configure(portal)
        .default_service(web::to(error::not_found));
    config.service(pages);
}

/// The user's own account, and those of others.
fn operator_pages(config: &mut web::ServiceConfig) {
    let act = |path: &str| format!("/operators/{{operator}}/{path}");
    config
        .service(page("/account", read().to(own_account::show)))
        .service(page("/account/password", web::post().to(own_account::change_password)))
        .service(
            page("/account/second-factor", read().to(second_factor_setup::show))
                .route(web::post().to(second_factor_setup::confirm)),
        )
        .service(page("/account/second-factor/change", web::post().to(second_factor_setup::change)))
        .service(page("/account/sessions/end", web::post().to(own_account::end_others)))
        .service(page("/account/sessions/{session}/end", web::post().to(own_account::end_session)))
        .service(page("/sessions", read().to(session_list::list)))
        .service(page("/sessions/{session}/end", web::post().to(session_list::end)))
        .service(
            page("/operators/{operator}", read().to(operator_account::show))
                .route(web::post().to(operator_account::change)),
        )
        .service(page(&act("remove"), read().to(operator_account::ask)).route(web::post().to(operator_account::remove)))
        .service(page(&act("reset"), web::post().to(operator_account::reset)))
        .service(page(&act("second-factor/remove"), web::post().to(operator_account::remove_second_factor)))
        .service(page(&act("sessions/{session}/end"), web::post().to(operator_account::end_session)));
}

/// Pages without sign-in.
fn public_pages(config: &mut web::ServiceConfig) {
    config
        .service(page("/catalog/{org}", read().to(public_catalog::list)))
        .service(page("/catalog/{org}/{name}", read().to(public_catalog::show)));
}

/// Actions on stuck outbox rows.
fn outbox_rows(config: &mut web::ServiceConfig) {
    let row = |path: &str| format!("/outbox/{{row}}/{{since}}/{path}");
    config
        .service(page(&row("retry"), web::post().to(outbox::retry)))
        .service(page(&row("edit"), read().to(outbox::edit)).route(web::post().to(outbox::change)))
        .service(page(&row("discard"), read().to(outbox::ask)).route(web::post().to(outbox::discard)));
}

/// Bulk resends, canceling a selection and the live tail, shared by the dashboard and the portal.
fn resends_and_live(config: &mut web::ServiceConfig) {
    config
        .service(page("/resend", read().to(bulk::show)).route(web::post().to(bulk::begin)))
        .service(page("/resend/{work}", read().to(bulk::bulk_job::show)))
        .service(page("/resend/{work}/cancel", web::post().to(bulk::bulk_job::cancel)))
        .service(page("/cancel", read().to(cancel_selected::ask)).route(web::post().to(cancel_selected::cancel)))
        .service(page("/tail", read().to(tail::show)))
        .service(page("/tail/events", web::get().to(tail::events)));
}

/// An application's pages for operators.
fn application(config: &mut web::ServiceConfig) {
    config
        .service(page("", read().to(applications::show)))
        .service(page("/edit", read().to(application_form::edit)).route(web::post().to(application_form::change)))
        .service(page("/delete", read().to(application_form::ask)).route(web::post().to(application_form::delete)))
        .service(page("/portal-link", read().to(portal_link::ask)).route(web::post().to(portal_link::make)))
        .service(page("/sessions/{session}/end", web::post().to(applications::end_session)))
        .service(page("/send", read().to(send_message::show)).route(web::post().to(send_message::send)));
    shared_pages(config);
}

/// The lists across applications or within one, and their exports.
fn lists(config: &mut web::ServiceConfig) {
    config
        .service(page("/deliveries", read().to(deliveries::list)))
        .service(page("/messages", read().to(messages::list)))
        .service(page("/deliveries.csv", read().to(deliveries::delivery_export::show)))
        .service(page("/deliveries.jsonl", read().to(deliveries::delivery_export::show)))
        .service(page("/messages.csv", read().to(messages::message_export::show)))
        .service(page("/messages.jsonl", read().to(messages::message_export::show)));
}

/// An application's pages that operators and its customer share.
fn shared_pages(config: &mut web::ServiceConfig) {
    config
        .configure(lists)
        .configure(endpoint_pages)
        .configure(polling::routes)
        .service(page("/event-types", read().to(event_types::list_in_application)))
        .service(page("/event-types/{name}", read().to(event_types::show_in_application)))
        .service(page("/messages/{message}", read().to(message::show)))
        .service(page("/messages/{message}/cancel", web::post().to(cancel::cancel)))
        .service(page("/messages/{message}/resend", web::post().to(resend::resend)))
        .default_service(web::to(error::not_found));
}

/// An application's endpoints.
fn endpoint_pages(config: &mut web::ServiceConfig) {
    let act = |path: &str| format!("/endpoints/{{endpoint}}/{path}");
    config
        .service(page("/endpoints", read().to(endpoints::in_application)))
        .service(
            page("/endpoints/new", read().to(endpoint_actions::new)).route(web::post().to(endpoint_actions::create)),
        )
        .service(page("/development/{listener}", read().to(development_page::show)))
        .service(page("/endpoints/{endpoint}", read().to(endpoint::show)))
        .service(page(&act("edit"), read().to(endpoint_actions::edit)).route(web::post().to(endpoint_actions::change)))
        .service(page(&act("disable"), web::post().to(endpoint_actions::turn::<true>)))
        .service(page(&act("enable"), web::post().to(endpoint_actions::turn::<false>)))
        .service(page(&act("delete"), read().to(endpoint_actions::ask)).route(web::post().to(endpoint_actions::delete)))
        .service(page(&act("secret"), web::post().to(endpoint_secret::reveal)))
        .service(page(&act("rotate"), read().to(endpoint_secret::ask)).route(web::post().to(endpoint_secret::rotate)))
        .service(page(&act("test"), read().to(test_event::elsewhere)).route(web::post().to(test_event::send)));
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
