//! Polling endpoints: create, retrieve, list, replace, update and delete. Svix calls them destinations and has
//! several types; this is the only one that Sendoff supports.

use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::http::body::{FieldValue, Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::query::ListOut;
use crate::api::http::request::{ApiCall, change_result, json, no_content_if, require};
use crate::api::openapi::schemas::{self, OrderParams, PageParams};
use crate::api::resources::application::check_uid;
use crate::api::resources::create_or_replace;
use crate::api::resources::event_type::check_visible;
use crate::domain::catalog::application::Metadata;
use crate::domain::catalog::polling::{PollingEndpoint, PollingEndpointSpec};
use crate::domain::feed::FeedFilter;
use crate::domain::{AppId, Invalid, PollingEndpointId, Time, Uid, limits};
use crate::store::{Order, PollingEndpointRef};

/// The only supported type.
const TYPE: &str = "pollingEndpoint";

/// The type of a destination.
#[derive(ToSchema)]
#[schema(as = DestinationType, rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone")]
enum PollerType {
    PollingEndpoint,
}

/// Whether messages can be fetched.
#[derive(ToSchema)]
#[schema(as = DestinationStatus, rename_all = "lowercase")]
#[expect(dead_code, reason = "for the document alone")]
enum PollerStatus {
    Enabled,
    Disabled,
}

/// A polling endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DestinationOut)]
pub(in crate::api) struct PollerOut<'a> {
    id: PollingEndpointId,
    uid: Option<&'a Uid>,
    #[schema(value_type = PollerType)]
    r#type: &'static str,
    /// While disabled, no messages can be fetched.
    #[schema(value_type = PollerStatus)]
    status: &'static str,
    /// The event types to include; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schemas::EventTypeNames, required = false)]
    event_types: Option<&'a [String]>,
    /// The channels to include; absent: messages on any channel or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schemas::Channels, required = false)]
    channels: Option<&'a [String]>,
    #[schema(value_type = schemas::MetadataPairs)]
    metadata: &'a Metadata,
    /// The start position of readers without an iterator: the first message accepted after the polling endpoint was
    /// created.
    current_iterator: String,
    /// The default page size.
    batch_size: usize,
    /// The default wait for a message, in seconds.
    max_wait_secs: u64,
    /// Always empty.
    #[schema(value_type = schemas::JsonObject)]
    config: Map<String, Value>,
    created_at: Time,
    updated_at: Time,
}

impl<'a> From<&'a PollingEndpoint> for PollerOut<'a> {
    fn from(endpoint: &'a PollingEndpoint) -> PollerOut<'a> {
        let spec = &endpoint.spec;
        PollerOut {
            id: endpoint.id,
            uid: spec.uid.as_ref(),
            r#type: TYPE,
            status: if spec.disabled { "disabled" } else { "enabled" },
            event_types: spec.filter.event_types.as_deref(),
            channels: spec.filter.channels.as_deref(),
            metadata: &spec.metadata,
            current_iterator: endpoint.beginning().text(endpoint.app_id),
            batch_size: crate::api::resources::polling::poll::LIMIT,
            max_wait_secs: 0,
            config: Map::new(),
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

/// The fields of every destination body.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct PollerFields {
    uid: Option<Uid>,
    /// While disabled, no messages can be fetched.
    #[schema(value_type = Option<PollerStatus>)]
    status: Option<PollerStatus>,
    /// The event types to include; `null`: all.
    #[schema(value_type = Option<schemas::EventTypeFilter>)]
    event_types: Option<Vec<String>>,
    /// The channels to include, at most 10; `null`: messages on any channel or none.
    #[schema(value_type = Option<schemas::ChannelFilter>)]
    channels: Option<Vec<String>>,
    #[schema(value_type = Option<schemas::MetadataPairs>)]
    metadata: Option<Metadata>,
}

/// A new destination, or a replacement.
#[derive(ToSchema)]
#[schema(as = DestinationIn, rename_all = "camelCase", example = json!({"type": "pollingEndpoint", "uid": "warehouse", "eventTypes": ["invoice.paid"]}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(in crate::api) struct PollerIn {
    r#type: PollerType,
    #[serde(flatten)]
    fields: PollerFields,
}

/// A partial update of a destination.
#[derive(ToSchema)]
#[schema(as = DestinationPatch, rename_all = "camelCase", example = json!({"status": "disabled"}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct PollerPatch {
    /// The type cannot be changed. If given, it must be the current one.
    #[schema(nullable = false)]
    r#type: Option<PollerType>,
    #[serde(flatten)]
    fields: PollerFields,
}

/// Applies the body to `base`. With `whole`, required fields must be present.
pub(in crate::api) fn read(
    mut fields: Fields<'_>,
    base: PollingEndpointSpec,
    whole: bool,
) -> Result<PollingEndpointSpec, ApiError> {
    let mut spec = base;
    fields.require_if(whole, "type");
    if let FieldValue::Set(other) = fields.text("type")
        && other != TYPE
    {
        fields.note(Invalid::new("type", format!("must be {TYPE}: this release supports no other type")));
    }
    fields.parsed("uid", |text| Uid::parse("uid", text, PollingEndpointId::PREFIX)).apply(&mut spec.uid);
    let status = fields.parsed("status", |text| match text {
        "enabled" => Ok(false),
        "disabled" => Ok(true),
        _ => Err(Invalid::new("status", "must be enabled or disabled")),
    });
    status.apply_or_default(&mut spec.disabled);
    // In Svix, an empty list matches everything.
    let filter = |list: FieldValue<Vec<String>>| match list {
        FieldValue::Set(list) if list.is_empty() => FieldValue::Null,
        list => list,
    };
    filter(fields.names("eventTypes", limits::EVENT_TYPES)).apply(&mut spec.filter.event_types);
    filter(fields.names("channels", limits::ENDPOINT_CHANNELS)).apply(&mut spec.filter.channels);
    fields.take("metadata", "an object of strings").apply_or_default(&mut spec.metadata);
    fields.unsupported("batchSize", &["50"]);
    fields.unsupported("maxWaitSecs", &["0"]);
    fields.done(spec.check())?;
    Ok(spec)
}

pub(in crate::api) fn out(status: StatusCode, endpoint: &PollingEndpoint) -> ApiResult {
    json(status, &PollerOut::from(endpoint))
}

/// Create a polling endpoint
///
/// Creates a polling endpoint, at most 20 for each application.
#[utoipa::path(
    post, path = "/app/{app_id}/destination", request_body = PollerIn, responses((status = 201, body = PollerOut))
)]
pub(in crate::api) async fn create(call: ApiCall, body: JsonBody) -> ApiResult {
    let app = call.app().await?.id;
    let act = async |call: &ApiCall| make(call, app, read(body.fields()?, PollingEndpointSpec::default(), true)?).await;
    let again = async |call: &ApiCall, made: &str| {
        let named = PollingEndpointRef::parse(made).map_err(|_| ApiError::not_found("polling endpoint"))?;
        let found = call.store().polling_endpoint(&call.tenant, app, &named).await?;
        out(StatusCode::CREATED, &require(found, "polling endpoint")?)
    };
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

async fn make(call: &ApiCall, app: AppId, spec: PollingEndpointSpec) -> ApiResult {
    check_visible(call, spec.filter.event_types.as_deref(), None).await?;
    out(StatusCode::CREATED, &call.store().create_polling_endpoint(&call.tenant, app, spec, call.now).await?)
}

/// Retrieve a polling endpoint
///
/// Retrieves a polling endpoint by its id or uid.
#[utoipa::path(get, path = "/app/{app_id}/destination/{sink_id}", responses((status = 200, body = PollerOut)))]
pub(in crate::api) async fn read_one(call: ApiCall) -> ApiResult {
    out(StatusCode::OK, &call.polling_endpoint().await?)
}

/// List polling endpoints
///
/// Lists all polling endpoints of an application, oldest first by default.
#[utoipa::path(
    get, path = "/app/{app_id}/destination", params(PageParams, OrderParams),
    responses((status = 200, body = ListOut<PollerOut>))
)]
pub(in crate::api) async fn list(call: ApiCall) -> ApiResult {
    let app = call.app().await?;
    let request = call.query().page::<PollingEndpointId>(Order::Ascending, true)?;
    let page = call.store().polling_endpoints(&call.tenant, app.id, &request).await?;
    json(StatusCode::OK, &ListOut::of(&page, &request, |endpoint| endpoint.id, PollerOut::from)?)
}

/// Replace a polling endpoint
///
/// Replaces all fields, or creates the polling endpoint if the path has a uid that does not exist. An absent `uid`
/// stays unchanged; `null` removes it.
#[utoipa::path(
    put, path = "/app/{app_id}/destination/{sink_id}", request_body = PollerIn,
    responses((status = 200, body = PollerOut), (status = 201, body = PollerOut))
)]
pub(in crate::api) async fn put(call: ApiCall, body: JsonBody) -> ApiResult {
    let app = call.app().await?.id;
    let named = PollingEndpointRef::parse(call.path_param("sink")).map_err(|wrong| ApiError::path("sink_id", wrong))?;
    let uid = named.uid();
    let base = |uid| PollingEndpointSpec { uid, ..PollingEndpointSpec::default() };
    let find = async || call.store().polling_endpoint(&call.tenant, app, &named).await;
    let create = async |uid: &Uid| {
        let spec = read(body.fields()?, base(Some(uid.clone())), true)?;
        check_uid(spec.uid.as_ref(), uid)?;
        make(&call, app, spec).await
    };
    let replace = async |before: PollingEndpoint| {
        change(&call, &before, |before| read(body.fields()?, base(before.uid.clone()), true)).await
    };
    create_or_replace("polling endpoint", uid, find, create, replace).await
}

/// Update a polling endpoint
///
/// Updates the fields in the body and leaves all others unchanged.
#[utoipa::path(
    patch, path = "/app/{app_id}/destination/{sink_id}", request_body = PollerPatch,
    responses((status = 200, body = PollerOut))
)]
pub(in crate::api) async fn patch(call: ApiCall, body: JsonBody) -> ApiResult {
    let before = call.polling_endpoint().await?;
    change(&call, &before, |before| read(body.fields()?, before.clone(), false)).await
}

async fn change(
    call: &ApiCall,
    before: &PollingEndpoint,
    work: impl Fn(&PollingEndpointSpec) -> Result<PollingEndpointSpec, ApiError>,
) -> ApiResult {
    let (app, id) = (before.app_id, before.id);
    let wanted = work(&before.spec)?.filter.event_types;
    check_visible(call, wanted.as_deref(), before.spec.filter.event_types.as_deref()).await?;
    let work = |before: &PollingEndpoint| work(&before.spec);
    let changed = call.store().update_polling_endpoint(&call.tenant, app, id, work, call.now).await?;
    out(StatusCode::OK, &change_result(changed, "polling endpoint")?)
}

/// Delete a polling endpoint
///
/// Deletes a polling endpoint with its tokens and the positions of its consumers. Messages remain.
#[utoipa::path(delete, path = "/app/{app_id}/destination/{sink_id}", responses((status = 204)))]
pub(in crate::api) async fn delete(call: ApiCall) -> ApiResult {
    let endpoint = call.polling_endpoint().await?;
    let deleted = call.store().delete_polling_endpoint(&call.tenant, &endpoint, call.now).await?;
    no_content_if(deleted, "polling endpoint")
}

/// The filter of a request, applied in addition to the polling endpoint's.
pub(super) fn request_filter(event_type: Option<String>, channel: Option<String>) -> FeedFilter {
    FeedFilter { event_types: event_type.map(|one| vec![one]), channels: channel.map(|one| vec![one]) }
}
