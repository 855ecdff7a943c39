//! Operational webhooks: the events that Sendoff sends about an organization's own endpoints and deliveries. Numbers
//! and lists of customers' deliveries exclude them.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::components::format::{Line, UrlQuery, count};
use crate::dashboard::components::widgets::{Address, Badge};
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::overview::AttemptRow;
use crate::domain::catalog::application::Application;
use crate::domain::catalog::endpoint::{DisabledReason, Endpoint};
use crate::domain::deliveries::attempt::Attempt;
use crate::domain::{MessageId, Time};
use crate::store::query::attempts::{AttemptFilter, ListedAttempt};
use crate::store::query::counts::{ChartRange, CountScope};
use crate::store::recording::rollups::total;
use crate::store::{Order, PageRequest, Store, StoreError, Tenant};

/// Number of endpoints shown, and of attempts at each.
const SHOWN: (usize, usize) = (20, 20);

/// An operational endpoint.
struct OperationalEndpoint {
    address: Address,
    id: String,
    description: Line,
    /// The subscribed event types.
    event_types: Line,
    /// "Slack", or "signed webhook".
    format: &'static str,
    /// Its own page, and the action that sends a test.
    href: String,
    path_of_test: String,
    disabled: Option<(Badge, &'static str)>,
}

#[derive(Template)]
#[template(path = "operational.html")]
struct OperationalPage {
    layout: PageLayout,
    delivered: String,
    failed: String,
    endpoints: Vec<OperationalEndpoint>,
    attempts: Vec<AttemptRow>,
}

/// `GET /operational`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let query = UrlQuery::of(&request);
    let (now, tenant, store) = (state.clock.now(), user.tenant(), &state.store);
    let counts = total(&store.buckets(&tenant, CountScope::Operational, ChartRange::Day, now).await?);
    let (mut endpoints, mut attempts) = (Vec::new(), Vec::new());
    if let Some(application) = store.operational_application(&tenant).await? {
        let page = PageRequest::first(SHOWN.0, Order::Ascending);
        endpoints = store.endpoints(&tenant, application.id, &page).await?.data;
        attempts = newest(store, &tenant, &application, &endpoints, now).await?;
    }
    let page = OperationalPage {
        layout: PageLayout::of(&user, NavItem::Operational).with_notice(query.get("notice")),
        delivered: count(counts.delivered),
        failed: count(counts.failed),
        endpoints: endpoints.iter().map(OperationalEndpoint::new).collect(),
        attempts,
    };
    answer(StatusCode::OK, &page)
}

/// The latest attempts. They are read per endpoint, so each query can use an index regardless of the attempts of the
/// others.
async fn newest(
    store: &Store,
    tenant: &Tenant,
    application: &Application,
    endpoints: &[Endpoint],
    now: Time,
) -> Result<Vec<AttemptRow>, StoreError> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for endpoint in endpoints {
        let filter = AttemptFilter { endpoint: Some(endpoint.id), ..AttemptFilter::default() };
        let page = PageRequest::first(SHOWN.1, Order::Descending);
        attempts.extend(store.attempts(tenant, application.id, &filter, &page).await?.data);
    }
    attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.id));
    let ids: Vec<MessageId> = attempts.iter().map(|attempt| attempt.message_id).collect();
    let messages = store.load_messages(&ids).await?;
    let kinds: HashMap<MessageId, String> = messages.into_iter().map(|one| (one.id, one.event_type)).collect();
    let line = |attempt: Attempt| ListedAttempt {
        id: attempt.id,
        message_id: attempt.message_id,
        endpoint_id: attempt.endpoint_id,
        app_id: attempt.app_id,
        number: attempt.number,
        at: attempt.at,
        url: attempt.url,
        failure: attempt.outcome.failure.map(|failure| failure.word().to_owned()),
        detail: attempt.outcome.detail,
        status: attempt.outcome.status.map(i32::from),
        duration_us: attempt.outcome.duration.as_micros() as i64,
        next_at: attempt.next_at,
        event_type: kinds.get(&attempt.message_id).cloned(),
        app_name: application.name.clone(),
    };
    Ok(attempts.into_iter().map(|attempt| AttemptRow::new(&line(attempt), now)).collect())
}

impl OperationalEndpoint {
    fn new(endpoint: &Endpoint) -> OperationalEndpoint {
        let spec = &endpoint.spec;
        let why = match endpoint.disabled_reason {
            Some(DisabledReason::Gone) => "by the receiver (410 Gone)",
            Some(DisabledReason::Failing) => "after too many failures",
            Some(DisabledReason::Manual) | None => "manually",
        };
        let event_types = spec.event_types.as_ref().map_or_else(|| "all events".to_owned(), |types| types.join(", "));
        OperationalEndpoint {
            address: Address::new(&spec.url),
            id: endpoint.id.to_string(),
            description: Line::cut(&spec.description, 200),
            event_types: Line::cut(&event_types, 300),
            format: spec.chat.as_ref().map_or("signed webhook", |hook| hook.format.label()),
            href: AppPaths::of_application(endpoint.app_id).endpoint(endpoint.id),
            path_of_test: format!("/operational/{}/test", endpoint.id),
            disabled: spec.disabled.then_some((Badge::Disabled, why)),
        }
    }
}
