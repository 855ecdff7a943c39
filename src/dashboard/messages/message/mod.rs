//! The page of a message: its payload, and the timeline of each delivery.
//!
//! * [`waiting_reason`] – the reason a pending delivery waits. [`other_endpoints`] – endpoints without a delivery.
//!   [`copies`] – curl and JSON. [`timeline`] – an attempt, with its request and response.
//!
//! # Invariants
//!
//! * Payloads and responses are untrusted text: they are escaped, and cut at a fixed size.
//! * The page never reads more than one page of attempts.

mod copies;
mod other_endpoints;
mod timeline;
mod waiting_reason;

pub(in crate::dashboard) use timeline::TimelineStep;

use std::collections::HashSet;
use std::time::Duration;

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::bulk;
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Block, Line, UrlQuery};
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::components::payload::PayloadView;
use crate::dashboard::components::widgets::{Address, Badge, Id, RelativeTime};
use crate::dashboard::http::current_user::{AppContext, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::messages::message::other_endpoints::OtherEndpoints;
use crate::domain::access::portal::Capability;
use crate::domain::deliveries::attempt::Attempt;
use crate::domain::deliveries::delivery::{DeadReason, DeliveryState};
use crate::domain::deliveries::message::edited_from;
use crate::domain::{AttemptId, EndpointId, MessageId, Time};
use crate::store::query::attempts::AttemptFilter;
use crate::store::query::deliveries::DeliveryView;
use crate::store::{MessageRef, Order, PageRequest};

/// Attempts per page, of all deliveries together.
const ATTEMPTS: usize = 50;
/// Number of attempts per delivery that are unfolded.
const OPEN: usize = 5;

/// The page refreshes itself if an attempt is due within this time.
const SOON: Duration = Duration::from_secs(60);

/// Maximum number of deliveries whose waiting reason is determined.
const RATES: usize = 20;

/// A delivery with its timeline.
struct DeliveryCard {
    badge: Badge,
    endpoint: String,
    endpoint_id: Id,
    endpoint_href: String,
    address: Address,
    description: Line,
    facts: String,
    /// The reason the delivery waits or is dead.
    why: Option<Line>,
    due: Option<RelativeTime>,
    /// The label of the resend button; `None`: cannot be resent.
    button: Option<&'static str>,
    urgent: bool,
    /// The bulk resend of everything that failed at the endpoint, if this did.
    all_failed: Option<String>,
    /// Whether it can be canceled.
    cancel: bool,
    steps: Vec<TimelineStep>,
    earlier: Vec<TimelineStep>,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage {
    layout: PageLayout,
    /// The paths at which the payload does not match the schema, for operators.
    schema_warning: Option<Line>,
    path: String,
    id: Id,
    event_type: Line,
    app_name: Line,
    app_id: Id,
    app_href: String,
    event_id: Option<Line>,
    channels: Vec<Line>,
    tags: Vec<Line>,
    /// The id and path of the original, if this message is an edited copy.
    copy_of: Option<(Id, String)>,
    /// The latest edited copies of this message.
    copies: Vec<(Id, String)>,
    /// The form to edit and resend the message, for operators.
    edit: Option<String>,
    /// The content type of a raw payload.
    raw_type: Option<Line>,
    accepted: RelativeTime,
    occurred: Option<RelativeTime>,
    /// Scheduled delivery time.
    deliver: Option<RelativeTime>,
    size: String,
    /// `None`: deleted.
    payload: Option<PayloadView>,
    cards: Vec<DeliveryCard>,
    others: OtherEndpoints,
    /// The latest attempt as a command, and the message as JSON.
    curl: Option<Block>,
    json: Option<Block>,
    /// An attempt is due soon, so the page refreshes itself.
    live: bool,
    /// The full list of deliveries, if this one was cut off.
    all: Option<String>,
    older: Option<String>,
    paged: bool,
}

/// `GET {base}/messages/{message}?before=&to=`: a message id or an event id. `to` is part of the URL of an endpoint to
/// resend to.
pub async fn show(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    let (query, now, tenant, store) = (UrlQuery::of(&request), state.clock.now(), context.tenant(), &state.store);
    let app = &context.app;
    let wanted = MessageRef::parse(part(&request, "message")?).map_err(|_| PageError::NotFound)?;
    let message = store.message(&tenant, app.id, &wanted).await?.ok_or(PageError::NotFound)?;
    let before: Option<AttemptId> = query.get("before").and_then(|id| id.parse().ok());

    let shown = store.deliveries_of(&tenant, app.id, message.id).await?;
    let (views, more) = (shown.data, shown.more);
    let all = more.then(|| context.paths.page(&format!("deliveries?q={}", message.id)));
    let filter = AttemptFilter { message: Some(message.id), ..AttemptFilter::default() };
    let page = PageRequest { after: before, ..PageRequest::first(ATTEMPTS, Order::Descending) };
    let attempts = store.attempts(&tenant, app.id, &filter, &page).await?;
    let path = context.paths.message(message.id);
    let last = attempts.data.last().filter(|_| attempts.more);
    let older = last.map(|attempt| format!("{path}?before={}", attempt.id));

    let mut cards: Vec<DeliveryCard> =
        views.iter().map(|view| DeliveryCard::new(view, &attempts.data, &context, now)).collect();
    if message.payload.is_none() {
        cards.iter_mut().for_each(|card| card.button = None);
    }
    for (card, view) in cards.iter_mut().zip(&views).filter(|(_, view)| view.state.pending()).take(RATES) {
        card.say_why(store, &context, &message, view, now).await?;
    }
    let sent: HashSet<EndpointId> = views.iter().map(|view| view.endpoint_id).collect();
    let wanted = query.get("to").map(str::trim).filter(|text| !text.is_empty());
    let others = OtherEndpoints::of(store, &context, &message, &sent, wanted, now).await?;
    let soon = |view: &DeliveryView| view.state.pending() && !view.endpoint_disabled && view.due_at <= now.plus(SOON);
    let link = |id: MessageId| (Id::new(id), context.paths.message(id));
    // Failures first.
    cards.sort_by_key(|card| match card.badge {
        Badge::Dead => 0,
        Badge::Retrying => 1,
        Badge::Pending | Badge::Disabled => 2,
        _ => 3,
    });
    let schema_warning = match context.flags() {
        None => store.payload_warning(&tenant, app.id, message.id).await?,
        Some(_) => None,
    };
    let page = MessagePage {
        schema_warning: schema_warning.map(|text| Line::cut(&text, 500)),
        layout: PageLayout::of(&context, NavItem::Messages)
            .below(&context, [(context.paths.page("messages"), PageText::own("Messages"))])
            .with_notice(query.get("notice")),
        path,
        id: Id::new(message.id),
        event_type: Line::new(&message.event_type),
        app_name: Line::new(&app.name),
        app_id: Id::new(app.id),
        app_href: context.paths.home().to_owned(),
        event_id: message.event_id.as_ref().map(|id| Line::new(id.as_str())),
        channels: message.channels.iter().map(|channel| Line::new(channel)).collect(),
        tags: message.tags.iter().filter(|tag| edited_from(tag).is_none()).map(|tag| Line::new(tag)).collect(),
        copy_of: message.tags.iter().find_map(|tag| edited_from(tag)).map(link),
        copies: store.edited_copies(&tenant, app.id, message.id).await?.into_iter().map(link).collect(),
        edit: (context.flags().is_none()
            && !context.operational
            && message.raw_type.is_none()
            && message.payload.is_some())
        .then(|| context.paths.page(&format!("send?from={}", message.id))),
        raw_type: message.raw_type.as_deref().map(Line::new),
        accepted: RelativeTime::new(message.accepted_at, now),
        occurred: (message.occurred_at != message.accepted_at).then(|| RelativeTime::new(message.occurred_at, now)),
        deliver: message.deliver_at.map(|at| RelativeTime::new(at, now)),
        size: format::size(message.size()),
        payload: message.payload.as_deref().map(PayloadView::new),
        others,
        curl: attempts.data.first().and_then(|attempt| copies::curl(attempt, &message)),
        json: copies::json(&message),
        live: before.is_none() && views.iter().any(soon),
        cards,
        all,
        older,
        paged: before.is_some(),
    };
    answer(StatusCode::OK, &page)
}

impl DeliveryCard {
    fn new(view: &DeliveryView, attempts: &[Attempt], context: &AppContext, now: Time) -> DeliveryCard {
        let of_it = attempts.iter().filter(|attempt| attempt.endpoint_id == view.endpoint_id);
        let pending = view.state.pending();
        let mut steps: Vec<TimelineStep> =
            of_it.map(|attempt| TimelineStep::new(attempt, &view.url, pending, context, now)).collect();
        // Only the latest attempt has advice and a next attempt.
        let latest = steps.first().is_some_and(|step| step.number == view.attempts);
        steps.iter_mut().skip(usize::from(latest)).for_each(TimelineStep::shorten);
        let earlier = if steps.len() > OPEN + 1 { steps.split_off(OPEN) } else { Vec::new() };
        let paused = view.state.pending() && view.endpoint_disabled;
        let why = view.reason.filter(|_| view.state == DeliveryState::Dead).map(|reason| Line::new(reason.sentence()));
        let may = context.can(Capability::CreateAttempts);
        let button = match view.state {
            _ if view.endpoint_deleted || !may => None,
            DeliveryState::Retry => Some("Resend now"),
            DeliveryState::Dead | DeliveryState::Delivered => Some("Resend"),
            DeliveryState::Fresh if view.due_at > now => Some("Send now"),
            DeliveryState::Fresh => None,
        };
        DeliveryCard {
            badge: match view.reason {
                _ if paused => Badge::Disabled,
                Some(DeadReason::Canceled) if view.state == DeliveryState::Dead => Badge::Canceled,
                _ => Badge::of(view.state),
            },
            endpoint_href: context.paths.endpoint(view.endpoint_id),
            endpoint: view.endpoint_id.to_string(),
            endpoint_id: Id::new(view.endpoint_id),
            address: Address::new(&view.url),
            description: Line::cut(&view.endpoint_description, 200),
            facts: facts(view),
            why,
            due: (view.state.pending() && !paused).then(|| RelativeTime::new(view.due_at, now)),
            button,
            urgent: view.state == DeliveryState::Dead && view.reason != Some(DeadReason::Canceled),
            all_failed: (view.state == DeliveryState::Retry || view.state == DeliveryState::Dead)
                .then(|| bulk::of_endpoint(context, view.endpoint_id, "failed"))
                .flatten()
                .filter(|_| !view.endpoint_deleted),
            cancel: may && view.state.pending(),
            steps,
            earlier,
        }
    }
}

fn facts(view: &DeliveryView) -> String {
    let mut facts = match view.attempts {
        0 => "no attempts yet".to_owned(),
        n => format::counted(n.into(), "attempt", "attempts"),
    };
    if view.endpoint_deleted {
        facts.push_str(" · endpoint deleted");
    } else if view.endpoint_disabled && !view.state.pending() {
        facts.push_str(" · endpoint disabled");
    }
    facts
}
