//! The list of deliveries, across applications or within one.
//!
//! * [`resend`] – resends one delivery. [`cancel`] – cancels a pending one. [`cancel_selected`] – cancels selected
//!   ones. [`delivery_export`] – the list as a file. [`bulk`](crate::dashboard::bulk) has the bulk resends.
//!
//! Invariant: the list shows exactly the deliveries that a bulk resend with the same filters includes, because both use
//! the same filter.

pub(in crate::dashboard) mod cancel;
pub(in crate::dashboard) mod cancel_selected;
pub(in crate::dashboard) mod delivery_export;
pub(in crate::dashboard) mod resend;

use actix_web::HttpRequest;
use askama::Template;

use super::DashboardState;
use super::bulk::base;
use crate::dashboard::components::failure_hints::in_words;
use crate::dashboard::components::filtered_list::{FilteredList, ListCursor, ListRequest};
use crate::dashboard::components::filters::{FilterParams, Filters, OF_DELIVERIES};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, UrlQuery, counted};
use crate::dashboard::components::pagination::LINES;
use crate::dashboard::components::widgets::{Address, Badge, Id, RelativeTime};
use crate::dashboard::http::current_user::{AppContext, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::app_tabs::layout;
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::list_user::ListUser;
use crate::dashboard::http::verified_form::VerifiedForm;
use crate::domain::Time;
use crate::domain::access::portal::Capability;
use crate::domain::access::saved_view::ViewList;
use crate::domain::deliveries::delivery::{DeadReason, DeliveryState};
use crate::store::Store;
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
    list: FilteredList<Row>,
    /// The current page, to return to.
    back: String,
    /// The pages to resend and to cancel selected rows; `None`: the user may not.
    selected: Option<(String, String)>,
    /// Path and label of the bulk resend of this list.
    resend_all: Option<(String, &'static str)>,
}

/// `GET /deliveries`, `GET {base}/deliveries`.
pub async fn list(PageInput { state, request, user }: PageInput<ListUser>) -> PageResult {
    let query = UrlQuery::of(&request);
    let asked: ListRequest<DeliveryKey> =
        ListRequest::read(&state, &query, &user, (ViewList::Deliveries, &OF_DELIVERIES)).await?;
    let (store, tenant, now) = (&state.store, user.tenant(), asked.now);
    let (status, only_status) = (asked.filters.status, asked.params.only("status"));
    let back = asked.after.map_or_else(|| asked.params.first(), |after| asked.params.after(&after.text()));
    let resend_all = status
        .filter(|_| user.can(Capability::CreateAttempts))
        .and_then(|status| resend_all(&user, &asked.params, status));
    let operational = user.context().is_some_and(|context| context.operational);
    let may_resend = user.can(Capability::CreateAttempts) && !operational;
    let read =
        async |filters: &Filters, after| store.list_deliveries(&tenant, &filters.deliveries(), after, LINES).await;
    let key = |line: &ListedDelivery| (line.message_id, line.endpoint_id);
    let list = asked.list(&user, read, key, |line| Row::new(line, &user, now)).await?;
    let page = DeliveriesPage {
        selected: may_resend.then(|| (format!("{}/resend", base(&user)), format!("{}/cancel", base(&user)))),
        layout: layout(&user, user.context(), NavItem::Deliveries, "deliveries").with_notice(query.get("notice")),
        status,
        only_status,
        back,
        resend_all: resend_all.filter(|_| !list.rows.is_empty()),
        list,
    };
    answer(page.list.status(), &page)
}

/// The bulk resend of the list. `None`: operational webhooks cannot be resent in bulk.
fn resend_all(user: &ListUser, params: &FilterParams, status: DeliveryStatusFilter) -> Option<(String, &'static str)> {
    let name = if status == DeliveryStatusFilter::Pending { "Send all now…" } else { "Resend all…" };
    let path = format!("{}/resend", base(user));
    match user.context() {
        Some(context) if context.operational => None,
        // Customers have only one application.
        Some(context) if user.tenant().only.is_none() => {
            Some((params.elsewhere(&path, &[("app", &context.app.id.to_string())]), name))
        }
        _ => Some((params.elsewhere(&path, &[]), name)),
    }
}

impl Row {
    fn new(line: &ListedDelivery, user: &ListUser, now: Time) -> Row {
        let paths = user.paths(line.app_id);
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
            key: (line.message_id, line.endpoint_id).text(),
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

/// The delivery that a button belongs to (the message in the path, and the form's field `endpoint`), and the store to
/// change it.
///
/// # Errors
/// The user may not make attempts, or the form names no delivery.
fn deliverable(
    state: &DashboardState,
    request: &HttpRequest,
    context: &AppContext,
    submitted: &VerifiedForm,
) -> Result<(Store, DeliveryKey), PageError> {
    context.need(Capability::CreateAttempts)?;
    let message = part(request, "message")?.parse().map_err(|_| PageError::NotFound)?;
    let no_endpoint = |_| PageError::BadRequest("The form has no endpoint.");
    let endpoint = submitted.get("endpoint").parse().map_err(no_endpoint)?;
    Ok((context.store(&state.store), (message, endpoint)))
}
