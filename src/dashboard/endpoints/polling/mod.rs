//! Polling endpoints of an application, on the dashboard and in the portal.
//!
//! * [`list`] – all of them.   [`show`] – one, with its consumers and code to fetch events.
//! * [`actions`] – create, edit, enable, disable, delete.   [`polling_token`] – creates a token, shown once.
//! * [`fetch_snippets`] – the code.
//!
//! Invariant: a token is shown only in the response to the form that created it; the store keeps its hash.

mod acts;
mod list;
mod show;
mod snippets;
mod token;

use actix_web::{HttpRequest, web};

use crate::dashboard::components::format::Line;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here};
use crate::dashboard::http::viewer::{Inside, part};
use crate::dashboard::{page, read};
use crate::domain::catalog::polling::PollingEndpoint;
use crate::store::{PollingEndpointRef, Store};

pub fn routes(config: &mut web::ServiceConfig) {
    let act = |path: &str| format!("/polling/{{poller}}/{path}");
    config
        .service(page("/polling", read().to(list::show)))
        .service(page("/polling/new", read().to(acts::new)).route(web::post().to(acts::create)))
        .service(page("/polling/{poller}", read().to(show::show)))
        .service(page(&act("edit"), read().to(acts::edit)).route(web::post().to(acts::change)))
        .service(page(&act("disable"), web::post().to(acts::disable)))
        .service(page(&act("enable"), web::post().to(acts::enable)))
        .service(page(&act("delete"), read().to(acts::ask)).route(web::post().to(acts::delete)))
        .service(page(&act("token"), read().to(token::ask)).route(web::post().to(token::make)));
}

/// The layout of a page below the list.
fn frame(inside: &Inside) -> Frame {
    Frame::of(inside, Here::Polling).below(inside, [(inside.place.page("polling"), Line::new("Polling endpoints"))])
}

/// The polling endpoint in the path.
///
/// # Errors
/// Not found in the application.
async fn named(store: &Store, request: &HttpRequest, inside: &Inside) -> Result<PollingEndpoint, PageError> {
    let named = PollingEndpointRef::parse(part(request, "poller")?).map_err(|_| PageError::NotFound)?;
    store.polling_endpoint(&inside.tenant(), inside.app.id, &named).await?.ok_or(PageError::NotFound)
}

/// The path of its page.
fn path_of(inside: &Inside, endpoint: &PollingEndpoint) -> String {
    inside.place.page(&format!("polling/{}", endpoint.id))
}

/// The uid, or the id without one.
fn name_of(endpoint: &PollingEndpoint) -> String {
    endpoint.spec.uid.as_ref().map_or_else(|| endpoint.id.to_string(), |uid| uid.as_str().to_owned())
}

/// The filter as text.
fn filter_of(endpoint: &PollingEndpoint) -> String {
    let filter = &endpoint.spec.filter;
    let named =
        |names: &Option<Vec<String>>, all: &str| names.as_ref().map_or(all.to_owned(), |names| names.join(", "));
    let types = named(&filter.event_types, "All event types");
    match &filter.channels {
        None => types,
        Some(channels) => format!("{types}; channels {}", channels.join(", ")),
    }
}
