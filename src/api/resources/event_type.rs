//! The catalog of event types. The organization maintains it. An application token sees neither archived event types
//! nor those behind a feature flag that it does not have.

use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::http::body::{FieldValue, Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::query::ListOut;
use crate::api::http::request::{ApiCall, change_result, json, no_content_if, require};
use crate::api::openapi::schemas;
use crate::api::openapi::schemas::{OrderParams, PageParams};
use crate::api::resources::operational;
use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::domain::catalog::payload_schema::PayloadValidation;
use crate::domain::{Invalid, Time, ids, limits};
use crate::service::event_types;
use crate::store::Order;
use crate::store::catalog::applications::Upserted;

/// An event type.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct EventTypeOut<'a> {
    name: &'a str,
    description: &'a str,
    /// Archived event types are hidden from customers. Messages with them are still delivered.
    archived: bool,
    deprecated: bool,
    /// Visible only with all of these feature flags.
    feature_flags: &'a [String],
    /// Deprecated form of `featureFlags`: the first of them.
    feature_flag: Option<&'a String>,
    group_name: Option<&'a str>,
    /// JSON Schemas by version. `null` if there are none, or in a list without content.
    #[schema(value_type = Option<schemas::JsonObject>)]
    schemas: Option<&'a Map<String, Value>>,
    /// The treatment of messages whose payload does not match the newest schema.
    #[schema(value_type = schemas::ValidationWord)]
    validation: &'static str,
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
            validation: spec.validation.word(),
            created_at: event_type.created_at,
            updated_at: event_type.updated_at,
        }
    }
}

fn out(status: StatusCode, event_type: &EventType) -> ApiResult {
    json(status, &EventTypeOut::from(event_type))
}

/// The fields of every event type body.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct EventTypeFields {
    /// Visible only with all of these feature flags.
    #[schema(value_type = Option<schemas::FeatureFlags>)]
    feature_flags: Option<Vec<String>>,
    /// Deprecated form of `featureFlags`, with one flag; ignored if that is present.
    #[schema(value_type = Option<schemas::NameText>)]
    feature_flag: Option<String>,
    #[schema(value_type = Option<schemas::NameText>)]
    group_name: Option<String>,
    /// JSON Schemas by version.
    #[schema(value_type = Option<schemas::EventTypeSchemas>)]
    schemas: Option<Map<String, Value>>,
    /// The treatment of messages whose payload does not match the newest schema: `warn` accepts and counts them,
    /// `reject` refuses them with 422.
    #[schema(value_type = Option<schemas::ValidationWord>)]
    validation: Option<String>,
}

/// A replacement of an event type.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"description": "An invoice was paid in full."}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct EventTypeUpdate {
    #[schema(value_type = schemas::DescriptionText)]
    description: String,
    /// Archived event types are hidden from customers. Messages with them are still delivered.
    archived: Option<bool>,
    deprecated: Option<bool>,
    #[serde(flatten)]
    fields: EventTypeFields,
}

/// A new event type.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"name": "invoice.paid", "description": "An invoice was paid in full."}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct EventTypeIn {
    #[schema(value_type = schemas::NameText)]
    name: String,
    #[serde(flatten)]
    rest: EventTypeUpdate,
}

/// A partial update of an event type.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"deprecated": true}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct EventTypePatch {
    #[schema(value_type = Option<schemas::DescriptionText>)]
    description: Option<String>,
    /// Archived event types are hidden from customers. Messages with them are still delivered.
    #[schema(nullable = false)]
    archived: Option<bool>,
    #[schema(nullable = false)]
    deprecated: Option<bool>,
    #[serde(flatten)]
    fields: EventTypeFields,
}

/// Applies the body to `base`. With `whole`, required fields must be present.
fn read(mut fields: Fields<'_>, base: EventTypeSpec, whole: bool) -> Result<EventTypeSpec, ApiError> {
    let mut spec = base;
    if spec.name.is_empty() {
        fields.require("name");
        fields.text("name").apply_or_default(&mut spec.name);
    }
    if whole {
        fields.require("description");
    }
    for name in ["archived", "deprecated"].into_iter().filter(|_| !whole) {
        fields.not_null(name);
    }
    fields.text("description").apply_or_default(&mut spec.description);
    fields.flag("archived").apply_or_default(&mut spec.archived);
    fields.flag("deprecated").apply_or_default(&mut spec.deprecated);
    let old = match fields.text("featureFlag") {
        FieldValue::Absent => FieldValue::Absent,
        FieldValue::Null => FieldValue::Null,
        FieldValue::Set(flag) => FieldValue::Set(vec![flag]),
    };
    fields.names("featureFlags", limits::FEATURE_FLAGS).or(old).apply_or_default(&mut spec.feature_flags);
    fields.text("groupName").apply(&mut spec.group_name);
    fields.take("schemas", "an object: a JSON Schema for each version").apply(&mut spec.schemas);
    let validation = fields.parsed("validation", |word| {
        PayloadValidation::from_word(word).ok_or_else(|| Invalid::new("validation", "must be off, warn or reject"))
    });
    validation.apply_or_default(&mut spec.validation);
    fields.done(spec.check())?;
    Ok(spec)
}

/// The feature flags of a customer; `None` for the organization, which sees all event types.
pub(in crate::api) fn flags(call: &ApiCall) -> Option<&[String]> {
    call.tenant.only.map(|_| &call.caller.flags[..])
}

/// Checks that a customer's token names only event types that are visible to it or were selected before.
///
/// # Errors
/// 422: the names. 503: the store is unavailable.
pub(in crate::api) async fn check_visible(
    call: &ApiCall,
    wanted: Option<&[String]>,
    before: Option<&[String]>,
) -> Result<(), ApiError> {
    let checked = event_types::check_visible(call.store(), &call.tenant, flags(call), wanted, before).await?;
    checked.map_err(|wrong| ApiError::from(vec![wrong]))
}

/// The event type name in the path.
///
/// # Errors
/// 404: not a valid name.
fn named(call: &ApiCall) -> Result<&str, ApiError> {
    let name = call.path_param("event_type");
    ids::name("event_type", name, limits::NAME).map_err(|_| ApiError::not_found("event type"))?;
    Ok(name)
}

async fn find(call: &ApiCall) -> Result<EventType, ApiError> {
    let name = named(call)?;
    let found = event_types::find(call.store(), &call.tenant, flags(call), name).await?;
    require(found.or_else(|| operational::event_type(call, name)), "event type")
}

/// Create an event type
///
/// Adds an event type to the catalog.
#[utoipa::path(post, path = "/event-type", request_body = EventTypeIn, responses((status = 201, body = EventTypeOut)))]
pub(in crate::api) async fn create(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    let act = async |call: &ApiCall| {
        let spec = read(body.fields()?, EventTypeSpec::default(), true)?;
        out(StatusCode::CREATED, &call.store().create_event_type(&call.tenant, spec, call.now).await?)
    };
    let again = async |call: &ApiCall, made: &str| {
        let found = call.store().event_type(&call.tenant, made).await?;
        out(StatusCode::CREATED, &require(found, "event type")?)
    };
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

/// Retrieve an event type
///
/// Retrieves an event type by its name. Organization tokens can also retrieve those of operational webhooks.
#[utoipa::path(get, path = "/event-type/{event_type_name}", responses((status = 200, body = EventTypeOut)))]
pub(in crate::api) async fn read_one(call: ApiCall) -> ApiResult {
    out(StatusCode::OK, &find(&call).await?)
}

/// List event types
///
/// Lists the event types of the catalog by name. Schemas are included only with `with_content`.
#[utoipa::path(
    get, path = "/event-type",
    params(
        PageParams,
        OrderParams,
        ("include_archived" = Option<bool>, Query, description = "Include archived event types."),
        ("with_content" = Option<bool>, Query, description = "`true` includes schemas."),
        ("operational" = Option<bool>, Query, description = "`true` lists only the event types of operational webhooks."),
    ),
    responses((status = 200, body = ListOut<EventTypeOut>))
)]
pub(in crate::api) async fn list(call: ApiCall) -> ApiResult {
    let (query, request) = call.list_query::<String>(Order::Ascending, true)?;
    let archived = query.flag("include_archived", false)?;
    let whole = query.flag("with_content", false)?;
    let operational = query.flag("operational", false)? && call.tenant.only.is_none();
    let page = match operational {
        true => operational::event_types(&call.tenant.org, &request),
        false => event_types::page(call.store(), &call.tenant, flags(&call), archived, &request).await?,
    };
    let short = |event_type| {
        let out = EventTypeOut::from(event_type);
        if whole { out } else { EventTypeOut { schemas: None, ..out } }
    };
    json(StatusCode::OK, &ListOut::of(&page, &request, |event_type| event_type.spec.name.clone(), short)?)
}

/// Replace an event type
///
/// Replaces an event type, or creates it if it does not exist.
#[utoipa::path(
    put, path = "/event-type/{event_type_name}", request_body = EventTypeUpdate,
    responses((status = 200, body = EventTypeOut), (status = 201, body = EventTypeOut))
)]
pub(in crate::api) async fn put(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    let base = EventTypeSpec { name: call.path_param("event_type").to_owned(), ..EventTypeSpec::default() };
    let spec = read(body.fields()?, base, true)?;
    match call.store().put_event_type(&call.tenant, spec, call.now).await? {
        Upserted::Created(event_type) => out(StatusCode::CREATED, &event_type),
        Upserted::Replaced(event_type) => out(StatusCode::OK, &event_type),
    }
}

/// Update an event type
///
/// Updates the fields in the body and leaves all others unchanged.
#[utoipa::path(
    patch, path = "/event-type/{event_type_name}", request_body = EventTypePatch,
    responses((status = 200, body = EventTypeOut))
)]
pub(in crate::api) async fn patch(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    let work = |before: &EventType| read(body.fields()?, before.spec.clone(), false);
    let changed = call.store().update_event_type(&call.tenant, named(&call)?, work, call.now).await?;
    out(StatusCode::OK, &change_result(changed, "event type")?)
}

/// Archive or delete an event type
///
/// Archives an event type, or deletes it with `expunge`.
#[utoipa::path(
    delete, path = "/event-type/{event_type_name}",
    params(("expunge" = Option<bool>, Query, description = "Delete it permanently instead of archiving it.")),
    responses((status = 204))
)]
pub(in crate::api) async fn delete(call: ApiCall) -> ApiResult {
    call.require_organization()?;
    let expunge = call.query().flag("expunge", false)?;
    let deleted = call.store().delete_event_type(&call.tenant, named(&call)?, expunge, call.now).await?;
    no_content_if(deleted, "event type")
}
