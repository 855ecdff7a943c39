//! The list of deliveries, across applications or within one.
//!
//! * [`resend`] – resends one delivery. [`cancel`] – cancels a pending one. [`cancel_selected`] – cancels selected ones.
//!   [`delivery_export`] – the list as a file. Bulk resends are in [`bulk`](crate::dashboard::bulk).
//!
//! Invariant: the list shows exactly the deliveries that a bulk resend with the same filters includes, because both use
//! the same filter.

pub(in crate::dashboard) mod cancel;
pub(in crate::dashboard) mod cancel_selected;
pub(in crate::dashboard) mod delivery_export;
pub(in crate::dashboard) mod resend;

use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use super::DashboardState;
use super::bulk::base;
use crate::dashboard::components::failure_hints::in_words;
use crate::dashboard::components::filters;
use crate::dashboard::components::filters::{FilterForm, FilterParams, OF_DELIVERIES};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, UrlQuery, counted};
use crate::dashboard::components::list_tools::ListTools;
use crate::dashboard::components::pagination::{LINES, Pagination};
use crate::dashboard::components::widgets::{Address, Badge, Id, RelativeTime};
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::app_tabs::layout;
use crate::dashboard::http::current_user::{AppContext, CurrentOperator, CurrentUser, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::VerifiedForm;
use crate::domain::access::portal::Capability;
use crate::domain::access::saved_view::ViewList;
use crate::domain::deliveries::delivery::{DeadReason, DeliveryState};
use crate::domain::{EndpointId, MessageId, Time};
use crate::store::query::delivery_list::{DeliveryKey, DeliveryStatusFilter, ListedDelivery};

struct Row {
    badge: Badge,
    href: String,
    event_type: Line,
    message_id: Id,
    app: Line,
    app_href: String,
    address: Address,
    description: Line,
    endpoint: String,
    /// The value of its checkbox.
    key: String,
    /// The last response or failure, or the reason the delivery is dead.
    answer: Line,
    attempts: String,
    next: Option<RelativeTime>,
    accepted: RelativeTime,
    /// The action of the *Resend* button.
    resend: Option<String>,
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    layout: PageLayout,
    status: Option<DeliveryStatusFilter>,
    /// There is no other filter.
    only_status: bool,
    /// The list covers one application.
    in_application: bool,
    form: FilterForm,
    good: bool,
    note: Option<&'static str>,
    rows: Vec<Row>,
    pagination: Pagination,
    /// The current page, to return to.
    back: String,
    tools: ListTools,
    /// The pages to resend and to cancel selected rows; `None`: the user may not.
    selected: Option<(String, String)>,
    /// Path and label of the bulk resend of this list.
    resend_all: Option<(String, &'static str)>,
}

/// `GET /deliveries`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    list(&state, &request, &user, None).await
}

/// `GET {base}/deliveries`.
pub async fn in_application(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    list(&state, &request, &context, Some(&context)).await
}

async fn list(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentUser,
    context: Option<&AppContext>,
) -> PageResult {
    let (query, now, store) = (UrlQuery::of(request), state.clock.now(), &state.store);
    let (params, filters, form) =
        filters::read(store, user, context, ("deliveries", &OF_DELIVERIES), &query, now).await?;
    let after = query.get("after").and_then(cursor);
    let (good, status, note) = (filters.good(), filters.status, filters.note);
    let (rows, pagination) = if good {
        let found = store.list_deliveries(&user.tenant(), &filters.deliveries(), after, LINES).await?;
        let text = |(message, endpoint): DeliveryKey| format!("{message}.{endpoint}");
        let last = found.data.last().map(|row| text((row.message_id, row.endpoint_id)));
        let stopped = found.stopped.map(|key| (text(key), key.0.time()));
        let pagination = Pagination::of(&params, after.is_some(), found.more.then_some(last).flatten(), stopped, now);
        let row = |one: &ListedDelivery| Row::new(one, user, context, now);
        (found.data.iter().map(row).collect(), pagination)
    } else {
        (Vec::new(), Pagination::of(&params, after.is_some(), None, None, now))
    };
    let resend_all = status
        .filter(|_| !rows.is_empty() && user.can(Capability::CreateAttempts))
        .and_then(|status| resend_all(user, context, &params, status));
    let may_resend = user.can(Capability::CreateAttempts) && context.is_none_or(|context| !context.operational);
    let page = DeliveriesPage {
        tools: ListTools::of(store, user, ViewList::Deliveries, context.is_none(), &params).await?,
        selected: may_resend.then(|| (format!("{}/resend", base(user)), format!("{}/cancel", base(user)))),
        layout: layout(user, context, NavItem::Deliveries, "deliveries").with_notice(query.get("notice")),
        status,
        only_status: params.only("status"),
        in_application: context.is_some(),
        form,
        good,
        note,
        rows,
        pagination,
        back: after
            .map_or_else(|| params.first(), |(message, endpoint)| params.after(&format!("{message}.{endpoint}"))),
        resend_all,
    };
    answer(if good { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }, &page)
}

/// The bulk resend of the list. `None`: operational webhooks cannot be resent in bulk.
fn resend_all(
    user: &CurrentUser,
    context: Option<&AppContext>,
    params: &FilterParams,
    status: DeliveryStatusFilter,
) -> Option<(String, &'static str)> {
    let name = if status == DeliveryStatusFilter::Pending { "Send all now…" } else { "Resend all…" };
    let path = format!("{}/resend", base(user));
    match context {
        Some(context) if context.operational => None,
        // Customers have only one application.
        Some(context) if user.tenant().only.is_none() => {
            Some((params.elsewhere(&path, &[("app", &context.app.id.to_string())]), name))
        }
        _ => Some((params.elsewhere(&path, &[]), name)),
    }
}

impl Row {
    fn new(line: &ListedDelivery, user: &CurrentUser, context: Option<&AppContext>, now: Time) -> Row {
        let paths = context.map_or_else(|| AppPaths::of_application(line.app_id), |context| context.paths.clone());
        let href = paths.message(line.message_id);
        let failed = matches!(line.state, DeliveryState::Retry | DeliveryState::Dead);
        let resend = failed && line.sendable && user.can(Capability::CreateAttempts);
        let badge = match (line.state, line.reason) {
            (state, _) if state.pending() && line.endpoint_disabled => Badge::Disabled,
            (DeliveryState::Dead, Some(DeadReason::Canceled)) => Badge::Canceled,
            (state, _) => Badge::of(state),
        };
        Row {
            badge,
            resend: resend.then(|| format!("{href}/resend")),
            href,
            event_type: Line::new(&line.event_type),
            message_id: Id::new(line.message_id),
            app: Line::new(&line.app_name),
            app_href: paths.home().to_owned(),
            address: Address::new(&line.url),
            description: Line::cut(&line.description, 80),
            endpoint: line.endpoint_id.to_string(),
            key: format!("{}.{}", line.message_id, line.endpoint_id),
            answer: Line::new(&result(line)),
            attempts: if line.attempts > 1 {
                counted(line.attempts.into(), "attempt", "attempts")
            } else {
                String::new()
            },
            next: (line.state.pending() && !line.endpoint_disabled).then(|| RelativeTime::new(line.due_at, now)),
            accepted: RelativeTime::new(line.accepted_at, now),
        }
    }
}

/// The result of a delivery in two or three words.
fn result(line: &ListedDelivery) -> String {
    match line.reason {
        Some(DeadReason::EndpointDeleted) => return "Endpoint deleted".to_owned(),
        Some(DeadReason::Expired) => return "Older than retention".to_owned(),
        Some(DeadReason::ContentDeleted) => return "Content deleted".to_owned(),
        Some(DeadReason::Canceled) => return "Canceled".to_owned(),
        Some(DeadReason::Exhausted | DeadReason::Gone) | None => {}
    }
    match &line.last {
        None => String::new(),
        Some(last) => match (last.status, last.failure) {
            (Some(status), _) => format::status(status),
            (None, Some(failure)) => in_words(failure).to_owned(),
            (None, None) => "Delivered".to_owned(),
        },
    }
}

/// Parses a cursor. An invalid one starts at the first page.
fn cursor(text: &str) -> Option<DeliveryKey> {
    let (message, endpoint) = text.split_once('.')?;
    Some((MessageId::from_str(message).ok()?, EndpointId::from_str(endpoint).ok()?))
}

/// The delivery that a button belongs to: the message in the path, and the form's field `endpoint`.
fn named(request: &HttpRequest, submitted: &VerifiedForm) -> Result<(MessageId, EndpointId), PageError> {
    let message = part(request, "message")?.parse().map_err(|_| PageError::NotFound)?;
    let no_endpoint = |_| PageError::BadRequest("The form has no endpoint.");
    Ok((message, submitted.get("endpoint").parse().map_err(no_endpoint)?))
}
