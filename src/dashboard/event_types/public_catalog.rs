//! The public catalog of an organization that has enabled it: the event types that every customer can see, without
//! sign-in.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::web;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::UrlQuery;
use crate::dashboard::event_types::{EventTypePage, EventTypesPage, LINES, event_type_row};
use crate::dashboard::http::current_user::part;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::PageResult;
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::preferences::Prefs;
use crate::domain::OrgId;
use crate::store::{Order, PageRequest, Tenant};

/// The organization in the path, if its catalog is public.
async fn public(state: &DashboardState, request: &HttpRequest) -> Result<OrgId, PageError> {
    let org: OrgId = part(request, "org")?.parse().map_err(|_| PageError::NotFound)?;
    state.store.refresh_organizations().await;
    let spec = state.store.organization_defaults().of(&org);
    spec.filter(|spec| spec.public_catalog).map(|_| org).ok_or(PageError::NotFound)
}

fn layout(request: &HttpRequest) -> PageLayout {
    PageLayout::of_portal(Prefs::of(request), None)
}

/// `GET /catalog/{org}?after=`.
pub async fn list(state: web::Data<DashboardState>, request: HttpRequest) -> PageResult {
    let org = public(&state, &request).await?;
    let path = format!("/catalog/{org}");
    let after = UrlQuery::of(&request).get("after").map(str::to_owned);
    let page = PageRequest { after, ..PageRequest::first(LINES, Order::Ascending) };
    let found = state.store.offered_event_types(&Tenant::org(org), &[], &page).await?;
    let last = found.data.last().filter(|_| found.more).map(|last| last.spec.name.clone());
    let page = EventTypesPage {
        layout: layout(&request),
        whole: false,
        archived: false,
        rows: found.data.iter().map(|one| event_type_row(one, format!("{path}/{}", one.spec.name), &[])).collect(),
        next: last.map(|name| format!("{path}?after={name}")),
        paged: page.after.is_some(),
        path,
    };
    answer(StatusCode::OK, &page)
}

/// `GET /catalog/{org}/{name}`.
pub async fn show(state: web::Data<DashboardState>, request: HttpRequest) -> PageResult {
    let org = public(&state, &request).await?;
    let path = format!("/catalog/{org}");
    let found = state.store.event_type(&Tenant::org(org), part(&request, "name")?).await?;
    let found = found.filter(|found| found.spec.offered(&[])).ok_or(PageError::NotFound)?;
    let layout = layout(&request).under(&path, "Event types");
    answer(StatusCode::OK, &EventTypePage::of(&found, layout, path.clone(), state.clock.now()))
}
