//! Polling endpoints over REST. The dialect calls what a message can go to, other than a URL, a destination, and knows
//! several types of them; this is the one that Sendoff has.

use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::http::body::{Body, Field, Fields};
use crate::api::http::errors::{Answer, ApiError};
use crate::api::http::idempotency::{Look, once};
use crate::api::http::query::ListOut;
use crate::api::http::request::{Call, done, json, nothing};
use crate::api::openapi::schemas::{self, Ordered, Paged};
use crate::api::resources::application::same_uid;
use crate::domain::catalog::application::Metadata;
use crate::domain::catalog::polling::{PollingEndpoint, PollingEndpointSpec};
use crate::domain::feed::FeedFilter;
use crate::domain::{AppId, Invalid, PollingEndpointId, Time, Uid, limits};
use crate::store::{Order, PollingEndpointRef};

/// The type of all destinations that there are.
const TYPE: &str = "pollingEndpoint";

/// The types that a destination can have.
#[derive(ToSchema)]
#[schema(as = DestinationType, rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone")]
enum PollerType {
    PollingEndpoint,
}

/// Whether a destination gives messages out.
#[derive(ToSchema)]
#[schema(as = DestinationStatus, rename_all = "lowercase")]
#[expect(dead_code, reason = "for the document alone")]
enum PollerStatus {
    Enabled,
    Disabled,
}

/// A polling endpoint, as it is given out.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DestinationOut)]
pub(in crate::api) struct PollerOut<'a> {
    id: PollingEndpointId,
    uid: Option<&'a Uid>,
    #[schema(value_type = PollerType)]
    r#type: &'static str,
    /// Nothing can be fetched while it is disabled.
    #[schema(value_type = PollerStatus)]
    status: &'static str,
    /// Which event types can be fetched; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schemas::Names, required = false)]
    event_types: Option<&'a [String]>,
    /// Messages on one of these channels can be fetched; absent: all messages, whatever their channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schemas::Channels, required = false)]
    channels: Option<&'a [String]>,
    #[schema(value_type = schemas::Metadata)]
    metadata: &'a Metadata,
    /// Where readers begin that name no position: at what was accepted since the polling endpoint was made.
    current_iterator: String,
    /// How many messages a page has if nothing is said.
    batch_size: usize,
    /// How long a request waits for a message if nothing is said, in seconds.
    max_wait_secs: u64,
    /// Empty: a polling endpoint has none.
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

/// The fields that every body about a destination may have.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct PollerFields {
    uid: Option<Uid>,
    /// Nothing can be fetched while it is disabled.
    #[schema(value_type = Option<PollerStatus>)]
    status: Option<PollerStatus>,
    /// Which event types can be fetched; `null`: all.
    #[schema(value_type = Option<schemas::EventTypeFilter>)]
    event_types: Option<Vec<String>>,
    /// Messages on one of these channels can be fetched, at most 10; `null`: all messages, whatever their channels.
    #[schema(value_type = Option<schemas::ChannelFilter>)]
    channels: Option<Vec<String>>,
    #[schema(value_type = Option<schemas::Metadata>)]
    metadata: Option<Metadata>,
}

/// A destination, as it is to be.
#[derive(ToSchema)]
#[schema(as = DestinationIn, rename_all = "camelCase", example = json!({"type": "pollingEndpoint", "uid": "warehouse", "eventTypes": ["invoice.paid"]}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(in crate::api) struct PollerIn {
    r#type: PollerType,
    #[serde(flatten)]
    fields: PollerFields,
}

/// A change of a destination.
#[derive(ToSchema)]
#[schema(as = DestinationPatch, rename_all = "camelCase", example = json!({"status": "disabled"}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct PollerPatch {
    /// It can't be changed; what is given here must be what it is.
    #[schema(nullable = false)]
    r#type: Option<PollerType>,
    #[serde(flatten)]
    fields: PollerFields,
}

/// Makes of `base` what the body says; `whole`: of something new, or all of something that exists.
pub(in crate::api) fn read(
    mut fields: Fields<'_>,
    base: PollingEndpointSpec,
    whole: bool,
) -> Result<PollingEndpointSpec, ApiError> {
    let mut spec = base;
    if whole {
        fields.require("type");
    } else {
        fields.not_null("type");
    }
    if let Field::Set(other) = fields.text("type")
        && other != TYPE
    {
        fields.note(Invalid::new("type", format!("must be {TYPE}: this release supports no other type")));
    }
    fields.parsed("uid", |text| Uid::parse("uid", text, PollingEndpointId::PREFIX)).put(&mut spec.uid);
    let status = fields.parsed("status", |text| match text {
        "enabled" => Ok(false),
        "disabled" => Ok(true),
        _ => Err(Invalid::new("status", "must be enabled or disabled")),
    });
    status.put_or_default(&mut spec.disabled);
    // The dialect's empty list lets everything through.
    let filter = |list: Field<Vec<String>>| match list {
        Field::Set(list) if list.is_empty() => Field::Null,
        list => list,
    };
    filter(fields.names("eventTypes", limits::EVENT_TYPES)).put(&mut spec.filter.event_types);
    filter(fields.names("channels", limits::ENDPOINT_CHANNELS)).put(&mut spec.filter.channels);
    fields.take("metadata", "an object of strings").put_or_default(&mut spec.metadata);
    fields.unsupported("batchSize", &["50"]);
    fields.unsupported("maxWaitSecs", &["0"]);
    fields.done(spec.check())?;
    Ok(spec)
}

pub(in crate::api) fn out(status: StatusCode, endpoint: &PollingEndpoint) -> Answer {
    json(status, &PollerOut::from(endpoint))
}

/// Create a polling endpoint
///
/// An application can have 20.
#[utoipa::path(
    post, path = "/app/{app_id}/destination", request_body = PollerIn,
    responses(
        (status = 201, description = "It was made.", body = PollerOut),
        (status = 409, description = "Another polling endpoint of the application has this uid."),
    )
)]
pub(in crate::api) async fn create(call: Call, body: Body) -> Answer {
    let app = call.app().await?.id;
    let act = async |call: &Call| make(call, app, read(body.fields()?, PollingEndpointSpec::default(), true)?).await;
    let again = async |call: &Call, made: &str| {
        let missing = || ApiError::not_found("polling endpoint");
        let named = PollingEndpointRef::parse(made).map_err(|_| missing())?;
        let found = call.store().polling_endpoint(&call.tenant, app, &named).await?;
        out(StatusCode::CREATED, &found.ok_or_else(missing)?)
    };
    once(call, body.bytes(), Look::First, act, again).await
}

async fn make(call: &Call, app: AppId, spec: PollingEndpointSpec) -> Answer {
    out(StatusCode::CREATED, &call.store().create_polling_endpoint(&call.tenant, app, spec, call.now).await?)
}

/// Read a polling endpoint
#[utoipa::path(
    get, path = "/app/{app_id}/destination/{sink_id}",
    responses((status = 200, description = "The polling endpoint.", body = PollerOut))
)]
pub(in crate::api) async fn read_one(call: Call) -> Answer {
    let app = call.app().await?;
    out(StatusCode::OK, &call.polling_endpoint(app.id).await?)
}

/// List polling endpoints
#[utoipa::path(
    get, path = "/app/{app_id}/destination", params(Paged, Ordered),
    responses((status = 200, description = "A page of them.", body = ListOut<PollerOut>))
)]
pub(in crate::api) async fn list(call: Call) -> Answer {
    let app = call.app().await?;
    let request = call.query().page::<PollingEndpointId>(Order::Ascending, true)?;
    let page = call.store().polling_endpoints(&call.tenant, app.id, &request).await?;
    json(StatusCode::OK, &ListOut::of(&page, &request, |endpoint| endpoint.id, PollerOut::from)?)
}

/// Replace a polling endpoint
///
/// Makes a new one where the path has a uid that there is not. The uid stays unless the body names another or `null`.
#[utoipa::path(
    put, path = "/app/{app_id}/destination/{sink_id}", request_body = PollerIn,
    responses(
        (status = 200, description = "It was replaced.", body = PollerOut),
        (status = 201, description = "It was made.", body = PollerOut),
        (status = 409, description = "Another polling endpoint of the application has this uid."),
    )
)]
pub(in crate::api) async fn put(call: Call, body: Body) -> Answer {
    let app = call.app().await?.id;
    let named = PollingEndpointRef::parse(call.part("sink")).map_err(|wrong| ApiError::path("sink_id", wrong))?;
    let base = |uid| PollingEndpointSpec { uid, ..PollingEndpointSpec::default() };
    match (call.store().polling_endpoint(&call.tenant, app, &named).await?, named) {
        (Some(before), _) => {
            change(&call, &before, |before| read(body.fields()?, base(before.uid.clone()), true)).await
        }
        (None, PollingEndpointRef::Uid(uid)) => {
            let spec = read(body.fields()?, base(Some(uid.clone())), true)?;
            same_uid(spec.uid.as_ref(), &uid)?;
            make(&call, app, spec).await
        }
        (None, PollingEndpointRef::Id(_)) => Err(ApiError::not_found("polling endpoint")),
    }
}

/// Change a polling endpoint
#[utoipa::path(
    patch, path = "/app/{app_id}/destination/{sink_id}", request_body = PollerPatch,
    responses(
        (status = 200, description = "It was changed.", body = PollerOut),
        (status = 409, description = "Another polling endpoint of the application has this uid."),
    )
)]
pub(in crate::api) async fn patch(call: Call, body: Body) -> Answer {
    let app = call.app().await?.id;
    let before = call.polling_endpoint(app).await?;
    change(&call, &before, |before| read(body.fields()?, before.clone(), false)).await
}

async fn change(
    call: &Call,
    before: &PollingEndpoint,
    work: impl Fn(&PollingEndpointSpec) -> Result<PollingEndpointSpec, ApiError>,
) -> Answer {
    let (app, id) = (before.app_id, before.id);
    let work = |before: &PollingEndpoint| work(&before.spec);
    let changed = call.store().update_polling_endpoint(&call.tenant, app, id, work, call.now).await?;
    out(StatusCode::OK, &done(changed, "polling endpoint")?)
}

/// Delete a polling endpoint
///
/// With the positions of its consumers and its tokens. The messages stay.
#[utoipa::path(delete, path = "/app/{app_id}/destination/{sink_id}", responses((status = 204, description = "It is gone.")))]
pub(in crate::api) async fn delete(call: Call) -> Answer {
    let app = call.app().await?;
    let endpoint = call.polling_endpoint(app.id).await?;
    match call.store().delete_polling_endpoint(&call.tenant, &endpoint, call.now).await? {
        true => nothing(),
        false => Err(ApiError::not_found("polling endpoint")),
    }
}

/// The filter that lets through what both filters do.
pub(super) fn also(event_type: Option<String>, channel: Option<String>) -> FeedFilter {
    FeedFilter { event_types: event_type.map(|one| vec![one]), channels: channel.map(|one| vec![one]) }
}
