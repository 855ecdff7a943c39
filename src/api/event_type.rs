//! The catalog of event types over REST. The organization writes it; an application's own token reads what is offered to it: nothing
//! archived, and nothing behind a feature flag that the token does not have.

use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use super::body::{Body, Field, Fields};
use super::call::{Call, json, nothing};
use super::errors::{Answer, ApiError};
use super::once::{Look, once};
use super::query::ListOut;
use crate::domain::Time;
use crate::domain::event_type::{EventType, EventTypeSpec};
use crate::store::applications::Put;
use crate::store::{Order, Page, PageRequest};

/// An event type, as it is given out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventTypeOut<'a> {
    name: &'a str,
    description: &'a str,
    archived: bool,
    deprecated: bool,
    feature_flags: &'a [String],
    /// The old form of `featureFlags`: the first of them.
    feature_flag: Option<&'a String>,
    group_name: Option<&'a str>,
    schemas: Option<&'a Map<String, Value>>,
    created_at: Time,
    updated_at: Time,
}

impl<'a> From<&'a EventType> for EventTypeOut<'a> {
    fn from(event_type: &'a EventType) -> EventTypeOut<'a> {
        let spec = &event_type.spec;
        EventTypeOut {
            name: &spec.name,
            description: &spec.description,
            archived: spec.archived,
            deprecated: spec.deprecated,
            feature_flags: &spec.feature_flags,
            feature_flag: spec.feature_flags.first(),
            group_name: spec.group_name.as_deref(),
            schemas: spec.schemas.as_ref(),
            created_at: event_type.created_at,
            updated_at: event_type.updated_at,
        }
    }
}

fn out(status: StatusCode, event_type: &EventType) -> Answer {
    json(status, &EventTypeOut::from(event_type))
}

/// Makes of `base` what the body says; `whole` bodies must describe it.
fn read(mut fields: Fields<'_>, base: EventTypeSpec, whole: bool) -> Result<EventTypeSpec, ApiError> {
    let mut spec = base;
    if spec.name.is_empty() {
        fields.require("name");
        fields.text("name").put_or_default(&mut spec.name);
    }
    if whole {
        fields.require("description");
    }
    for name in ["archived", "deprecated"].into_iter().filter(|_| !whole) {
        fields.not_null(name);
    }
    fields.text("description").put_or_default(&mut spec.description);
    fields.flag("archived").put_or_default(&mut spec.archived);
    fields.flag("deprecated").put_or_default(&mut spec.deprecated);
    let old = match fields.text("featureFlag") {
        Field::Absent => Field::Absent,
        Field::Null => Field::Null,
        Field::Set(flag) => Field::Set(vec![flag]),
    };
    fields.list("featureFlags").or(old).put_or_default(&mut spec.feature_flags);
    fields.text("groupName").put(&mut spec.group_name);
    fields.take("schemas", "an object: a JSON Schema for each version").put(&mut spec.schemas);
    fields.done(spec.check())?;
    Ok(spec)
}

/// Whether the caller may know of it.
pub(super) fn offered(call: &Call, event_type: &EventType) -> bool {
    let spec = &event_type.spec;
    let granted = || spec.feature_flags.iter().all(|flag| call.caller.flags.contains(flag));
    call.tenant.only.is_none() || (!spec.archived && granted())
}

async fn find(call: &Call) -> Result<EventType, ApiError> {
    let found = call.store().event_type(&call.tenant, call.part("event_type")).await?;
    found.filter(|found| offered(call, found)).ok_or_else(|| ApiError::not_found("event type"))
}

pub(super) async fn create(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    let act = async |call: &Call| {
        let spec = read(body.fields()?, EventTypeSpec::default(), true)?;
        out(StatusCode::CREATED, &call.store().create_event_type(&call.tenant, spec, call.now).await?)
    };
    let again = async |call: &Call, made: &str| {
        let found = call.store().event_type(&call.tenant, made).await?;
        out(StatusCode::CREATED, &found.ok_or_else(|| ApiError::not_found("event type"))?)
    };
    once(call, body.bytes(), Look::First, act, again).await
}

pub(super) async fn read_one(call: Call) -> Answer {
    out(StatusCode::OK, &find(&call).await?)
}

/// Schemas are long: they are in the list only `with_content`.
pub(super) async fn list(call: Call) -> Answer {
    let query = call.query();
    let request = query.page::<String>(Order::Ascending, true)?;
    let archived = query.flag("include_archived", false)?;
    let whole = query.flag("with_content", false)?;
    let page = offered_page(&call, archived, &request).await?;
    let short = |event_type| {
        let out = EventTypeOut::from(event_type);
        if whole { out } else { EventTypeOut { schemas: None, ..out } }
    };
    json(StatusCode::OK, &ListOut::of(&page, &request, |event_type| event_type.spec.name.clone(), short))
}

/// A page of what the caller may know of: read on until it is full.
async fn offered_page(call: &Call, archived: bool, request: &PageRequest<String>) -> Result<Page<EventType>, ApiError> {
    let mut page = call.store().event_types(&call.tenant, archived, request).await?;
    if call.tenant.only.is_none() {
        return Ok(page);
    }
    let mut found: Vec<EventType> = Vec::new();
    let mut next = request.clone();
    loop {
        let end = if request.back { page.data.first() } else { page.data.last() };
        next.after = end.map(|end| end.spec.name.clone());
        let some = page.data.into_iter().filter(|event_type| offered(call, event_type));
        if request.back {
            found = some.chain(found).collect();
        } else {
            found.extend(some);
        }
        if found.len() > request.limit || !page.more {
            break;
        }
        page = call.store().event_types(&call.tenant, archived, &next).await?;
    }
    let over = found.len().saturating_sub(request.limit);
    let data = if request.back { found.split_off(over) } else { found.drain(..found.len() - over).collect() };
    Ok(Page { data, more: over > 0 })
}

/// Replaces, or makes a new one of the path's name.
pub(super) async fn put(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    let base = EventTypeSpec { name: call.part("event_type").to_owned(), ..EventTypeSpec::default() };
    let spec = read(body.fields()?, base, true)?;
    match call.store().put_event_type(&call.tenant, spec, call.now).await? {
        Put::Created(event_type) => out(StatusCode::CREATED, &event_type),
        Put::Replaced(event_type) => out(StatusCode::OK, &event_type),
    }
}

pub(super) async fn patch(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    let before = find(&call).await?;
    let spec = read(body.fields()?, before.spec, false)?;
    let (Put::Created(event_type) | Put::Replaced(event_type)) =
        call.store().put_event_type(&call.tenant, spec, call.now).await?;
    out(StatusCode::OK, &event_type)
}

pub(super) async fn delete(call: Call) -> Answer {
    call.for_the_organization()?;
    let expunge = call.query().flag("expunge", false)?;
    match call.store().delete_event_type(&call.tenant, call.part("event_type"), expunge, call.now).await? {
        true => nothing(),
        false => Err(ApiError::not_found("event type")),
    }
}
