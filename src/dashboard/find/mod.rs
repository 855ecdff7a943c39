//! The search box of every page: finds an object by id, uid, event id, event type, application name or URL.
//!
//! Invariants:
//!
//! * Every lookup is bounded, and limited to the operator's current organization.
//! * A single hit redirects to its page; several are listed.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use askama::Template;
use url::Url;

use crate::dashboard::DashboardState;
use crate::dashboard::applications::app_lookup;
use crate::dashboard::applications::app_lookup::AppLookup;
use crate::dashboard::components::format::{InputValue, Line, UrlQuery};
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::domain::url_query::with_query;
use crate::domain::{BackgroundId, EndpointId, MessageId, limits};
use crate::store::query::search_terms::NamedObjects;

/// Longer texts are not looked up.
const LONGEST: usize = limits::URL;

/// The maximum payload bytes read for a list of messages.
const MESSAGE_BYTES: usize = 4 << 20;

/// A found object.
struct Hit {
    kind: &'static str,
    name: Line,
    detail: Line,
    href: String,
}

#[derive(Template)]
#[template(path = "find.html")]
struct FindPage {
    layout: PageLayout,
    wanted: InputValue,
    hits: Vec<Hit>,
    /// The list of endpoints that is filtered by the text.
    endpoints: String,
    /// The list of applications that is filtered by the text.
    applications: String,
}

/// `GET /find?q=`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let query = UrlQuery::of(&request);
    let text = query.get("q").map(str::trim).unwrap_or_default();
    let hits = match text.is_empty() || text.len() > LONGEST {
        true => Vec::new(),
        false => hits(&state, &user, text).await?,
    };
    if let [only] = &hits[..] {
        return Ok(HttpResponse::SeeOther().insert_header((LOCATION, only.href.as_str())).finish());
    }
    let page = FindPage {
        layout: PageLayout::of(&user, NavItem::Elsewhere),
        wanted: InputValue::new(text),
        endpoints: with_query("/endpoints", [("q", text)]),
        applications: with_query("/applications", [("q", text)]),
        hits,
    };
    answer(StatusCode::OK, &page)
}

async fn hits(state: &DashboardState, user: &CurrentOperator, text: &str) -> Result<Vec<Hit>, PageError> {
    let (store, tenant) = (&state.store, user.tenant());
    if text.contains("://") {
        if let Some(path) = own_page(state, text) {
            return Ok(vec![Hit { kind: "Page", name: Line::new(&path), detail: Line::default(), href: path }]);
        }
        let found = store.endpoints_at(&tenant, text).await?;
        return endpoints(state, user, found).await;
    }
    if text.parse::<BackgroundId>().is_ok() {
        return Ok(vec![hit("Resend", text, "", format!("/resend/{text}"))]);
    }
    let NamedObjects { messages: named, application, endpoints: at } = store.objects_named(&tenant, text).await?;
    let mut hits = messages(state, &named).await?;
    let application = match application {
        None if hits.is_empty() && at.is_empty() => match app_lookup::find(store, &tenant, text).await? {
            AppLookup::Found(app) => Some(app),
            AppLookup::NotFound(_) => None,
        },
        found => found,
    };
    if let Some(app) = application
        && let Some(app) = store.application(&tenant, &app.into()).await?
    {
        hits.push(hit("Application", &app.name, "", AppPaths::of_application(app.id).home().to_owned()));
    }
    hits.extend(endpoints(state, user, at).await?);
    if let Some(event_type) = store.event_type(&tenant, text).await? {
        let name = &event_type.spec.name;
        hits.push(hit("Event type", name, &event_type.spec.description, AppPaths::all().event_type(name)));
    }
    Ok(hits)
}

fn hit(kind: &'static str, name: &str, detail: &str, href: String) -> Hit {
    Hit { kind, name: Line::cut(name, 120), detail: Line::cut(detail, 120), href }
}

/// The path of a pasted URL of this dashboard.
fn own_page(state: &DashboardState, text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| url.origin() == state.public_url.origin())?;
    // Two slashes would start another host.
    (!url.path().starts_with("//")).then(|| url.path().to_owned())
}

async fn messages(state: &DashboardState, ids: &[MessageId]) -> Result<Vec<Hit>, PageError> {
    let found = state.store.load_messages_within(ids, MESSAGE_BYTES).await?;
    let made = |message: crate::domain::deliveries::message::Message| {
        let paths = AppPaths::of_application(message.app_id);
        hit("Message", &message.id.to_string(), &message.event_type, paths.message(message.id))
    };
    Ok(found.into_iter().map(made).collect())
}

async fn endpoints(
    state: &DashboardState,
    user: &CurrentOperator,
    ids: Vec<EndpointId>,
) -> Result<Vec<Hit>, PageError> {
    let (store, tenant) = (&state.store, user.tenant());
    let mut hits = Vec::new();
    for id in ids {
        // An endpoint that was deleted has no page.
        let Some(app) = store.application_of(&tenant, id).await? else { continue };
        let Some(endpoint) = store.endpoint(&tenant, app, &id.into()).await? else { continue };
        let app_name = store.application(&tenant, &app.into()).await?.map(|app| app.name).unwrap_or_default();
        let href = AppPaths::of_application(app).endpoint(id);
        hits.push(hit("Endpoint", &endpoint.spec.url, &app_name, href));
    }
    Ok(hits)
}
