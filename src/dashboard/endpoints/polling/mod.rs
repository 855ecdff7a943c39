//! Polling endpoints of an application, on the dashboard and in the portal.
//!
//! * [`list`] – all of them. [`show`] – one, with its consumers and code to fetch events.
//! * [`actions`] – create, edit, enable, disable, delete. [`polling_token`] – creates a token, shown once.
//! * [`fetch_snippets`] – the code.
//!
//! Invariant: a token is shown only in the response to the form that created it; the store keeps its hash.

mod actions;
mod fetch_snippets;
mod list;
mod polling_token;
mod show;

use actix_web::{HttpRequest, web};

use crate::dashboard::components::form::{Form, FormPage};
use crate::dashboard::components::format::Line;
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::http::current_user::{AppContext, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::layout::{NavItem, PageLayout};
use crate::dashboard::{page, read};
use crate::domain::catalog::polling::PollingEndpoint;
use crate::store::{PollingEndpointRef, Store};

pub fn routes(config: &mut web::ServiceConfig) {
    let act = |path: &str| format!("/polling/{{poller}}/{path}");
    config
        .service(page("/polling", read().to(list::show)))
        .service(page("/polling/new", read().to(actions::new)).route(web::post().to(actions::create)))
        .service(page("/polling/{poller}", read().to(show::show)))
        .service(page(&act("edit"), read().to(actions::edit)).route(web::post().to(actions::change)))
        .service(page(&act("disable"), web::post().to(actions::turn::<true>)))
        .service(page(&act("enable"), web::post().to(actions::turn::<false>)))
        .service(page(&act("delete"), read().to(actions::ask)).route(web::post().to(actions::delete)))
        .service(page(&act("token"), read().to(polling_token::ask)).route(web::post().to(polling_token::make)));
}

/// The layout of a page below the list.
fn layout(context: &AppContext) -> PageLayout {
    PageLayout::of(context, NavItem::Polling)
        .below(context, [(context.paths.page("polling"), PageText::own("Polling endpoints"))])
}

/// A form below the page of `endpoint`, at the path `segment`.
fn form_page(
    context: &AppContext,
    endpoint: &PollingEndpoint,
    title: &'static str,
    (segment, button): (&str, &'static str),
    form: Form,
) -> FormPage {
    let path = path_of(context, endpoint);
    FormPage::new(layout(context), title, form, (format!("{path}/{segment}"), button), path)
        .about(Line::new(&name_of(endpoint)))
}

/// The polling endpoint in the path.
///
/// # Errors
/// Not found in the application.
async fn named(store: &Store, request: &HttpRequest, context: &AppContext) -> Result<PollingEndpoint, PageError> {
    let named = PollingEndpointRef::parse(part(request, "poller")?).map_err(|_| PageError::NotFound)?;
    store.polling_endpoint(&context.tenant(), context.app.id, &named).await?.ok_or(PageError::NotFound)
}

/// The path of its page.
fn path_of(context: &AppContext, endpoint: &PollingEndpoint) -> String {
    context.paths.page(&format!("polling/{}", endpoint.id))
}

/// The uid, or the id without one.
fn name_of(endpoint: &PollingEndpoint) -> String {
    endpoint.spec.uid.as_ref().map_or_else(|| endpoint.id.to_string(), |uid| uid.as_str().to_owned())
}

/// The filter as text.
fn filter_of(endpoint: &PollingEndpoint) -> Vec<PageText> {
    let filter = &endpoint.spec.filter;
    let listed = |names: &Vec<String>| PageText::Foreign(Line::new(&names.join(", ")));
    let mut texts = vec![filter.event_types.as_ref().map_or_else(|| PageText::own("All event types"), listed)];
    if let Some(channels) = &filter.channels {
        texts.extend([PageText::own("· channels"), listed(channels)]);
    }
    texts
}
