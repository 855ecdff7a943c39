//! Attempts and deliveries over REST: what was tried, what came of it, where a message stands, and sending it again.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use serde::Serialize;

use super::call::{Call, json, nothing};
use super::endpoint::EndpointOut;
use super::errors::{Answer, ApiError};
use super::message::{MessageOut, PayloadOut};
use super::once::{Look, once};
use super::query::{ListOut, Query};
use crate::domain::attempt::Attempt;
use crate::domain::delivery::{Standing, State};
use crate::domain::endpoint::{Endpoint, EndpointSpec};
use crate::domain::message::{Message, TAG_LIMIT};
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};
use crate::store::attempts::AttemptFilter;
use crate::store::deliveries::DeliveryView;
use crate::store::{EndpointRef, Order, Page, PageRequest};

/// The dialect's numbers and words for how an attempt or a delivery stands.
#[derive(Clone, Copy)]
pub(super) enum Status {
    Success,
    Pending,
    Fail,
    Canceled,
}

impl Status {
    /// How a delivery stands. Clients that do not ask for `expanded` ones know of no canceled deliveries: to them they have failed.
    pub const fn of(standing: Standing, expanded: bool) -> Status {
        match standing {
            Standing::Delivered => Status::Success,
            Standing::Pending => Status::Pending,
            Standing::Canceled if expanded => Status::Canceled,
            Standing::Dead | Standing::Canceled => Status::Fail,
        }
    }

    pub const fn code(self) -> u8 {
        match self {
            Status::Success => 0,
            Status::Pending => 1,
            Status::Fail => 2,
            Status::Canceled => 4,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Status::Success => "success",
            Status::Pending => "pending",
            Status::Fail => "fail",
            Status::Canceled => "canceled",
        }
    }
}

/// An attempt, as it is given out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptOut<'a> {
    id: AttemptId,
    msg_id: MessageId,
    endpoint_id: EndpointId,
    number: i32,
    timestamp: Time,
    url: &'a str,
    status: u8,
    status_text: &'static str,
    /// 0 where no answer came.
    response_status_code: u16,
    /// What of it is UTF-8; the rest is replaced.
    response: String,
    response_duration_ms: u128,
    trigger_type: i16,
    failure: Option<&'static str>,
    next_attempt: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<MessageOut<'a>>,
}

impl<'a> AttemptOut<'a> {
    fn new(attempt: &'a Attempt, content: bool) -> AttemptOut<'a> {
        let outcome = &attempt.outcome;
        let status = if outcome.delivered() { Status::Success } else { Status::Fail };
        let response =
            if content { String::from_utf8_lossy(&outcome.response_body).into_owned() } else { String::new() };
        AttemptOut {
            id: attempt.id,
            msg_id: attempt.message_id,
            endpoint_id: attempt.endpoint_id,
            number: attempt.number,
            timestamp: attempt.at,
            url: &attempt.url,
            status: status.code(),
            status_text: status.word(),
            response_status_code: outcome.status.unwrap_or(0),
            response,
            response_duration_ms: outcome.duration.as_millis(),
            trigger_type: attempt.trigger.code(),
            failure: outcome.failure.map(|failure| failure.word()),
            next_attempt: attempt.next_at,
            msg: None,
        }
    }
}

/// An endpoint, and how the message's delivery there stands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageEndpointOut<'a> {
    #[serde(flatten)]
    endpoint: EndpointOut<'a>,
    status: u8,
    status_text: &'static str,
    next_attempt: Option<Time>,
}

/// A filter on attempts; `None` if none can match it: an attempt is recorded when it is over, so that nothing is pending or sending.
fn filter(query: &Query<'_>) -> Result<Option<AttemptFilter>, ApiError> {
    // An attempt is never canceled: there is nothing to tell apart.
    query.flag("expanded_statuses", false)?;
    let delivered = match query.one_of("status", &[0, 1, 2, 3, 4])? {
        None => None,
        Some(0) => Some(true),
        Some(2) => Some(false),
        Some(_) => return Ok(None),
    };
    Ok(Some(AttemptFilter {
        message: None,
        endpoint: None,
        delivered,
        status_class: query.one_of("status_code_class", &[0, 100, 200, 300, 400, 500])?,
        event_types: query.list("event_types"),
        channel: query.text("channel").map(str::to_owned),
        tag: query.name("tag", TAG_LIMIT)?,
        before: query.time("before")?,
        after: query.time("after")?,
    }))
}

pub(super) async fn of_message(call: Call) -> Answer {
    let query = call.query();
    let request = query.page::<AttemptId>(Order::Descending, false)?;
    let filter = filter(&query)?;
    let app = call.app().await?;
    let message = call.message(app.id).await?;
    let endpoint = match query.text("endpoint_id") {
        Some(named) => Some(endpoint_named(&call, app.id, named).await?),
        None => None,
    };
    let filter = filter.map(|filter| AttemptFilter { message: Some(message.id), endpoint, ..filter });
    list(&call, app.id, filter, &request).await
}

/// The endpoint of a filter. An id need not be an endpoint's any more: what was sent to a deleted one is still there to see.
async fn endpoint_named(call: &Call, app: AppId, named: &str) -> Result<EndpointId, ApiError> {
    let named = EndpointRef::parse(named).map_err(|wrong| ApiError::query("endpoint_id", wrong.reason))?;
    match (call.store().endpoint(&call.tenant, app, &named).await?, named) {
        (Some(endpoint), _) => Ok(endpoint.id),
        (None, EndpointRef::Id(id)) => Ok(id),
        (None, EndpointRef::Uid(_)) => Err(ApiError::not_found("endpoint")),
    }
}

pub(super) async fn of_endpoint(call: Call) -> Answer {
    let query = call.query();
    let request = query.page::<AttemptId>(Order::Descending, false)?;
    let filter = filter(&query)?;
    let app = call.app().await?;
    let endpoint = call.endpoint(app.id).await?;
    let filter = filter.map(|filter| AttemptFilter { endpoint: Some(endpoint.id), ..filter });
    list(&call, app.id, filter, &request).await
}

async fn list(call: &Call, app: AppId, filter: Option<AttemptFilter>, request: &PageRequest<AttemptId>) -> Answer {
    let query = call.query();
    let (content, with_message) = (query.flag("with_content", true)?, query.flag("with_msg", false)?);
    let page = match filter {
        Some(filter) => call.store().attempts(&call.tenant, app, &filter, request).await?,
        None => Page { data: Vec::new(), more: false },
    };
    let messages = if with_message { messages_of(call, app, &page.data).await? } else { HashMap::new() };
    let list = ListOut::of(
        &page,
        request,
        |attempt| attempt.id,
        |attempt| {
            let message = messages.get(&attempt.message_id);
            let msg = message.map(|message| MessageOut::new(message, PayloadOut::LeftOut));
            AttemptOut { msg, ..AttemptOut::new(attempt, content) }
        },
    );
    json(StatusCode::OK, &list)
}

/// The messages behind attempts of the caller's application.
async fn messages_of(call: &Call, app: AppId, page: &[Attempt]) -> Result<HashMap<MessageId, Message>, ApiError> {
    let mut ids: Vec<MessageId> = page.iter().map(|attempt| attempt.message_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let messages = call.store().load_messages(&ids).await?;
    Ok(messages.into_iter().filter(|message| message.app_id == app).map(|message| (message.id, message)).collect())
}

pub(super) async fn read_one(call: Call) -> Answer {
    call.query().flag("expanded_statuses", false)?;
    let app = call.app().await?;
    let message = call.message(app.id).await?;
    let found = call.store().attempt(&call.tenant, app.id, message.id, named(&call)?).await?;
    let attempt = found.ok_or_else(|| ApiError::not_found("attempt"))?;
    json(StatusCode::OK, &AttemptOut::new(&attempt, true))
}

/// The attempt that the path names.
fn named(call: &Call) -> Result<AttemptId, ApiError> {
    call.part("attempt").parse().map_err(|_| ApiError::not_found("attempt"))
}

/// Deletes what the receiver answered. Not for an application's own token: it is the team's record of what happened.
pub(super) async fn delete_content(call: Call) -> Answer {
    call.for_the_organization()?;
    let app = call.app().await?;
    let message = call.message(app.id).await?;
    match call.store().delete_attempt_content(&call.tenant, app.id, message.id, named(&call)?).await? {
        true => nothing(),
        false => Err(ApiError::not_found("attempt")),
    }
}

/// Where a message stands at each endpoint that it goes to. There are no more of those than an application has endpoints: the page
/// is cut out of all of them.
pub(super) async fn endpoints_of(call: Call) -> Answer {
    let request = call.query().page::<EndpointId>(Order::Ascending, false)?;
    let app = call.app().await?;
    let message = call.message(app.id).await?;
    let page = cut(call.store().deliveries_of(&call.tenant, app.id, message.id).await?, &request);
    let mut rows: Vec<(DeliveryView, Endpoint)> = Vec::with_capacity(page.data.len());
    for view in page.data {
        let found = call.store().endpoint(&call.tenant, app.id, &view.endpoint_id.into()).await?;
        let endpoint = found.unwrap_or_else(|| deleted(&view));
        rows.push((view, endpoint));
    }
    let page = Page { data: rows, more: page.more };
    let list = ListOut::of(
        &page,
        &request,
        |(view, _)| view.endpoint_id,
        |(view, endpoint)| {
            let status = match view.state {
                State::Delivered => Status::Success,
                State::Fresh | State::Retry => Status::Pending,
                State::Dead => Status::Fail,
            };
            MessageEndpointOut {
                endpoint: EndpointOut::from(endpoint),
                status: status.code(),
                status_text: status.word(),
                next_attempt: view.state.pending().then_some(view.due_at),
            }
        },
    );
    json(StatusCode::OK, &list)
}

/// A page of `all`, which are sorted by endpoint.
fn cut(mut all: Vec<DeliveryView>, request: &PageRequest<EndpointId>) -> Page<DeliveryView> {
    if let Some(after) = request.after {
        all.retain(|view| if request.back { view.endpoint_id < after } else { view.endpoint_id > after });
    }
    let over = all.len().saturating_sub(request.limit);
    let data = if request.back { all.split_off(over) } else { all.drain(..all.len() - over).collect() };
    Page { data, more: over > 0 }
}

/// What is left to show of an endpoint that was deleted.
fn deleted(view: &DeliveryView) -> Endpoint {
    let spec = EndpointSpec {
        url: view.url.clone(),
        description: view.endpoint_description.clone(),
        disabled: true,
        ..EndpointSpec::default()
    };
    let made = view.endpoint_id.time();
    Endpoint {
        id: view.endpoint_id,
        app_id: view.app_id,
        spec,
        disabled_reason: None,
        created_at: made,
        updated_at: made,
    }
}

#[derive(Serialize)]
struct EmptyOut {}

pub(super) async fn resend(call: Call) -> Answer {
    let app = call.app().await?;
    let message = call.message(app.id).await?;
    let endpoint = call.endpoint(app.id).await?;
    if message.payload.is_none() {
        return Err(ApiError::conflict(
            "the message's content was deleted or has expired: there is nothing left to send",
        ));
    }
    let act =
        async |call: &Call| match call.store().resend(&call.tenant, app.id, message.id, endpoint.id, call.now).await? {
            true => json(StatusCode::ACCEPTED, &EmptyOut {}),
            false => Err(ApiError::not_found("message")),
        };
    once(call, &[], Look::First, act, async |_, _| json(StatusCode::ACCEPTED, &EmptyOut {})).await
}
