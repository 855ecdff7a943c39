//! The portal for customers: pages in addition to the [pages of one
//! application](crate::dashboard::http::current_user::AppContext), which it shares with the dashboard.
//!
//! * [`entry`] – redeems a portal link and ends a session. [`home`] – the start page. [`branding`] – colors and logo.
//! * [`language`] – translates pages, by the catalog `texts.tsv`.
//! * [`opens`] – the pages that a session includes; checked for every request below `/portal`.
//!
//! Invariants:
//!
//! * A portal session sees one application, and nothing else of the organization.
//! * A page that is added later is hidden from sessions limited to certain pages, until [`opens`] lists it.
//! * Pages mention neither Sendoff nor its logs: customers see the portal as part of the team's product.

pub mod branding;
mod entry;
mod home;
pub mod language;

pub use home::failures;

use actix_web::web;

use super::{page, read, shared_pages};
use crate::dashboard::http::preferences;
use crate::domain::access::portal::{PortalOptions, PortalPage};

/// The path prefix.
pub const PORTAL: &str = "/portal";

/// The portal's own pages and the shared ones.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(page("", read().to(home::show)))
        .service(page("/enter/{code}", read().to(entry::show)).route(web::post().to(entry::enter)))
        .service(page("/enter/{code}/theme.css", read().to(branding::of_link)))
        .service(page("/leave", web::post().to(entry::leave)))
        .service(page("/left", read().to(entry::left)))
        .service(page("/theme.css", read().to(branding::of_session)))
        .service(page("/preferences", web::post().to(preferences::choose)))
        .configure(super::resends_and_live)
        .configure(shared_pages);
}

/// Whether a session includes the page at a path, regardless of capabilities. The start page redirects to the first
/// included page.
pub fn opens(options: &PortalOptions, path: &str) -> bool {
    use PortalPage::{Deliveries, Endpoints, EventTypes, Messages};
    let rest = path.strip_prefix(PORTAL).unwrap_or_default().trim_start_matches('/');
    let (first, more) = rest.split_once('/').unwrap_or((rest, ""));
    let parts: &[PortalPage] = match (first, more) {
        ("" | "enter" | "leave" | "left" | "preferences" | "theme.css", _) => return true,
        ("endpoints" | "polling" | "development", _) => &[Endpoints],
        ("event-types", _) => &[EventTypes],
        ("deliveries" | "deliveries.csv" | "deliveries.jsonl" | "cancel", _) => &[Deliveries],
        ("messages" | "messages.csv" | "messages.jsonl", "") => &[Messages],
        // A message's page shows its deliveries, and both lists link to it.
        ("messages", _) | ("tail", _) => &[Messages, Deliveries],
        ("resend", _) => &[Endpoints, Messages, Deliveries],
        // Pages added later are not part of a limited session.
        _ => return options.pages.is_none(),
    };
    parts.iter().any(|part| options.shows(*part))
}

/// The session's start page.
pub fn first(options: &PortalOptions) -> String {
    match PortalPage::ALL.into_iter().find(|page| options.shows(*page)) {
        None | Some(PortalPage::Overview) => PORTAL.to_owned(),
        Some(page) => format!("{PORTAL}/{}", page.word()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_open_only_their_pages() {
        let only = |pages: &[PortalPage]| PortalOptions { pages: Some(pages.to_vec()), ..PortalOptions::all(0) };
        let has = |pages: &[PortalPage], path| opens(&only(pages), path);
        for path in ["/portal", "/portal/", "/portal/leave", "/portal/preferences", "/portal/theme.css"] {
            assert!(has(&[PortalPage::Endpoints], path), "{path}");
        }
        let endpoints = &[PortalPage::Endpoints];
        assert!(has(endpoints, "/portal/endpoints") && has(endpoints, "/portal/endpoints/ep_1/secret"));
        assert!(has(endpoints, "/portal/development/mine"));
        assert!(has(endpoints, "/portal/polling/poll_1") && !has(&[PortalPage::Messages], "/portal/polling"));
        for path in [
            "/portal/messages",
            "/portal/messages/msg_1",
            "/portal/messages/msg_1/resend",
            "/portal/deliveries",
            "/portal/event-types/a",
            "/portal/%65vent-types",
            "/portal//deliveries",
            "/portal/anything",
        ] {
            assert!(!has(endpoints, path), "{path}");
            assert!(opens(&PortalOptions::all(0), path), "{path}");
        }
        let deliveries = &[PortalPage::Deliveries];
        assert!(has(deliveries, "/portal/messages/msg_1") && !has(deliveries, "/portal/messages"));
        assert_eq!(first(&PortalOptions::all(0)), "/portal");
        assert_eq!(first(&only(&[PortalPage::EventTypes, PortalPage::Messages])), "/portal/messages");
    }
}
