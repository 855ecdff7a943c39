//! A portal link, created by an operator to open the portal or to send to the customer.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use url::Position;

use crate::dashboard::DashboardState;
use crate::dashboard::applications::form_page;
use crate::dashboard::components::form::{Form, FormField, FormPage, SelectOption, lines};
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::http::current_user::{AppContext, CurrentOperator};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::FormInput;
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::VerifiedForm;
use crate::domain::access::portal::{Capability, PortalOptions, PortalPage};
use crate::domain::{Invalid, Time};
use crate::service::portal_links;
use crate::store::EndpointRef;

/// Choices of the session's lifetime: value, label, seconds.
const SESSION_LIVES: [(&str, &str, u64); 3] =
    [("1h", "1 hour", 3_600), ("1d", "1 day", 86_400), ("7d", "7 days", 7 * 86_400)];

#[derive(Template)]
#[template(path = "portal_link.html")]
struct PortalLinkPage {
    layout: PageLayout,
    name: Line,
    /// The URL to copy.
    url: Line,
    /// The URL to open.
    href: String,
    lasts: &'static str,
    read_only: bool,
    back: String,
}

fn page_name(page: PortalPage) -> &'static str {
    match page {
        PortalPage::Overview => "Overview",
        PortalPage::Endpoints => "Endpoints",
        PortalPage::Messages => "Messages",
        PortalPage::Deliveries => "Deliveries",
        PortalPage::EventTypes => "Event types",
    }
}

/// `endpoint` is the id of the endpoint to open; empty: the start page.
fn form(endpoint: &str) -> Form {
    let choices = SESSION_LIVES.iter().map(|(word, name, _)| SelectOption::new(word, name, *word == "1h")).collect();
    let page = |page: PortalPage| SelectOption::new(page.word(), page_name(page), false);
    let hidden = PortalPage::ALL.into_iter().map(page).collect();
    Form::new(vec![
        FormField::select("expiry", "Session lasts", choices).help("Starts when the link is opened."),
        FormField::tick("readOnly", "Read only", false).help("No changes, no resends, no secrets."),
        FormField::ticks("hide", "Hide pages", hidden).help("Leave all unticked to show every page."),
        FormField::lines("featureFlags", "Feature flags", &[])
            .help("One per line. Event types that require other flags are hidden."),
        FormField::text("endpoint", "Opens at endpoint", endpoint)
            .help("Its id or uid. Leave empty for the start page."),
    ])
}

/// The portal's page of the endpoint that the form names; `None`: it names none.
///
/// # Errors
/// The store is unavailable. The inner error: there is no such endpoint, or its page is hidden.
async fn opened(
    state: &DashboardState,
    context: &AppContext,
    submitted: &VerifiedForm,
    options: &PortalOptions,
) -> Result<Result<Option<String>, Invalid>, PageError> {
    let Some(text) = submitted.given("endpoint") else { return Ok(Ok(None)) };
    let refused = |reason| Ok(Err(Invalid::new("endpoint", reason)));
    let Ok(named) = EndpointRef::parse(text.trim()) else { return refused("must be an endpoint's id or uid") };
    let Some(endpoint) = state.store.endpoint(&context.tenant(), context.app.id, &named).await? else {
        return refused("is no endpoint of this application");
    };
    if !options.shows(PortalPage::Endpoints) {
        return refused("cannot be opened while the endpoints are hidden");
    }
    Ok(Ok(Some(format!("/portal/endpoints/{}", endpoint.id))))
}

/// The options selected in the form.
///
/// # Errors
/// Every page is hidden, or a feature flag is invalid.
fn options(submitted: &VerifiedForm, until: Time) -> Result<PortalOptions, Vec<Invalid>> {
    let hidden: Vec<&str> = submitted.all("hide").collect();
    let shown = PortalPage::ALL.into_iter().filter(|page| !hidden.contains(&page.word()));
    let options = PortalOptions {
        capabilities: submitted.has("readOnly").then(|| vec![Capability::ViewBase]),
        pages: (!hidden.is_empty()).then(|| shown.collect()),
        feature_flags: lines(submitted.get("featureFlags")),
        ..PortalOptions::all(until.micros())
    };
    if options.pages.as_ref().is_some_and(Vec::is_empty) {
        return Err(vec![Invalid::new("hide", "must leave at least one page")]);
    }
    options.check().map(|()| options)
}

fn link_page(context: &AppContext, form: Form) -> FormPage {
    form_page(context, "Portal link", ("portal-link", "Create link"), form)
        .lead("Opens the portal as this customer sees it. Works once, within 15 minutes.")
}

/// `GET /applications/{app}/portal-link`.
pub async fn ask(_: CurrentOperator, context: AppContext, request: HttpRequest) -> Result<HttpResponse, PageError> {
    if context.operational {
        return Err(PageError::NotFound);
    }
    link_page(&context, form(UrlQuery::of(&request).get("endpoint").unwrap_or_default())).answer()
}

/// `POST /applications/{app}/portal-link`: creates a link, which is shown once. With `open`, redirects to it.
pub async fn make(
    FormInput { state, user: context, submitted, .. }: FormInput<AppContext>,
) -> Result<HttpResponse, PageError> {
    if context.operational {
        return Err(PageError::NotFound);
    }
    let refuse = |wrong: &[Invalid]| link_page(&context, form("").filled(&submitted).with_errors(wrong)).answer();
    let Some((_, lasts, seconds)) = SESSION_LIVES.into_iter().find(|(word, ..)| *word == submitted.get("expiry"))
    else {
        let wrong = [Invalid::new("expiry", "choose one of the options")];
        return refuse(&wrong);
    };
    let (now, read_only) = (state.clock.now(), submitted.has("readOnly"));
    let options = match options(&submitted, now.plus(Duration::from_secs(seconds))) {
        Ok(options) => options,
        Err(wrong) => return refuse(&wrong),
    };
    let next = match opened(&state, &context, &submitted, &options).await? {
        Ok(next) => next,
        Err(wrong) => return refuse(&[wrong]),
    };
    let code = submitted.credential(&state);
    let mut url = portal_links::url(&state.portal_url, &code);
    if let Some(next) = &next {
        url.query_pairs_mut().append_pair("next", next);
    }
    let store = submitted.once(context.store(&state.store));
    // If the portal shares the dashboard's origin, a relative link works under any host name.
    let own_origin = state.portal_url == state.public_url;
    let href = if own_origin { url[Position::BeforePath..].to_owned() } else { url.to_string() };
    let shown = || {
        // *Open portal*. A form must not redirect to another origin; if the portal has one, the page shows a link
        // instead.
        if submitted.has("open") && own_origin {
            return Ok(HttpResponse::SeeOther().insert_header((LOCATION, href.clone())).finish());
        }
        let page = PortalLinkPage {
            layout: PageLayout::of(&context, NavItem::Applications).below(&context, []),
            name: Line::new(&context.app.name),
            url: Line::new(url.as_str()),
            href: href.clone(),
            lasts,
            read_only,
            back: context.paths.home().to_owned(),
        };
        answer(StatusCode::OK, &page)
    };
    let act = async || {
        portal_links::create(&store, &context.app, options, &state.portal_url, &code, now).await?;
        shown()
    };
    // A repeated form shows the link even if it was used. The page behind the link then says that it was.
    once(&state, &submitted, act, async |_| shown()).await
}
