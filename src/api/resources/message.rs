//! Messages: accepting and reading them, and deleting their contents.
//!
//! Creating a message is the busiest operation. Its body is read once and borrowed, the payload is a slice of the
//! received bytes, and the response contains those same bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::http::body::{FieldValue, Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::query::{ListOut, Query};
use crate::api::http::request::{ApiCall, json, no_content_if, require};
use crate::api::openapi::schemas;
use crate::api::openapi::schemas::{ContentParams, MessageFilterParams, PageParams};
use crate::api::resources::application;
use crate::domain::catalog::application::ApplicationSpec;
use crate::domain::deliveries::message::{Message, MessageSpec};
use crate::domain::{Invalid, MessageId, Time, Uid};
use crate::store::ingest::accept::AcceptItem;
use crate::store::query::messages::MessageFilter;
use crate::store::{AppRef, MessageRef, Order};

/// A message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct MessageOut<'a> {
    id: MessageId,
    event_id: Option<&'a Uid>,
    event_type: &'a str,
    /// The payload as sent; `{}` if omitted on request, `{"expired": true}` if it was deleted.
    #[schema(value_type = schemas::JsonObject)]
    payload: PayloadOut<'a>,
    #[schema(value_type = Option<schemas::Channels>)]
    channels: Option<&'a [String]>,
    #[schema(value_type = Option<schemas::Tags>)]
    tags: Option<&'a [String]>,
    /// When the message was accepted.
    timestamp: Time,
    /// When the event occurred, as given by the sender; by default when it was accepted.
    occurred_at: Time,
    /// The scheduled delivery time, if any.
    deliver_at: Option<Time>,
}

/// A message to send.
#[derive(ToSchema)]
#[schema(
    rename_all = "camelCase",
    example = json!({"eventType": "invoice.paid", "eventId": "evt-1", "payload": {"invoice": "in_17", "amount": 4200}})
)]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
#[schema(as = MessageIn)]
struct MessageIn {
    #[schema(value_type = schemas::NameText)]
    event_type: String,
    /// An id of your own for the event, unique in the application. It makes a repeated request a conflict instead of a
    /// duplicate.
    event_id: Option<Uid>,
    /// The payload, at most 128 levels deep. It is signed and sent byte for byte as in the request.
    #[schema(value_type = schemas::PayloadObject)]
    payload: Box<RawValue>,
    /// At most 10. The message goes to endpoints that receive one of these channels, and to those without a channel
    /// filter.
    #[schema(value_type = Option<schemas::MessageChannels>)]
    channels: Option<Vec<String>>,
    /// When the event occurred.
    occurred_at: Option<Time>,
    /// Tags to filter lists by, at most 5. They do not affect delivery.
    #[schema(value_type = Option<schemas::Tags>)]
    tags: Option<Vec<String>>,
    /// The earliest delivery time, at most 30 days ahead. A time in the past means now.
    deliver_at: Option<Time>,
    /// Days to keep the payload; by default as long as the message.
    #[schema(minimum = 1, maximum = 90)]
    payload_retention_period: Option<u16>,
    /// The same in hours; give only one of the two.
    #[schema(minimum = 1, maximum = 2160)]
    payload_retention_hours: Option<u16>,
    /// Creates the application if the uid in the path does not exist.
    application: Option<application::ApplicationIn>,
    transformations_params: Option<TransformationsParams>,
}

/// A raw payload, which need not be JSON.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"rawPayload": "<a/>", "headers": {"content-type": "text/xml"}}))]
#[expect(dead_code, reason = "for the document alone: `RawBody::read` reads it")]
struct TransformationsParams {
    /// The text to sign and send instead of `payload`, which is then returned as `{}`.
    #[schema(value_type = Option<schemas::RawPayloadText>)]
    raw_payload: Option<String>,
    /// Only `content-type`; `application/json` by default.
    #[schema(value_type = Option<schemas::RawHeaders>)]
    headers: Option<BTreeMap<String, String>>,
}

/// The payload in a response: as sent, `{}` if omitted or raw, `{"expired": true}` if deleted.
#[derive(Clone, Copy)]
pub(in crate::api) enum PayloadOut<'a> {
    Written(&'a RawValue),
    /// The bytes from the store.
    Stored(&'a [u8]),
    LeftOut,
    Expired,
}

impl Serialize for PayloadOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            PayloadOut::Written(raw) => raw.serialize(serializer),
            PayloadOut::Stored(bytes) => {
                serde_json::from_slice::<&RawValue>(bytes).map_err(S::Error::custom)?.serialize(serializer)
            }
            PayloadOut::LeftOut => serializer.serialize_map(Some(0))?.end(),
            PayloadOut::Expired => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("expired", &true)?;
                map.end()
            }
        }
    }
}

impl<'a> PayloadOut<'a> {
    pub fn of(message: &'a Message, with_content: bool) -> PayloadOut<'a> {
        match &message.payload {
            Some(payload) if with_content && message.raw_type.is_none() => PayloadOut::Stored(payload),
            None if with_content => PayloadOut::Expired,
            _ => PayloadOut::LeftOut,
        }
    }
}

impl<'a> MessageOut<'a> {
    pub fn new(message: &'a Message, payload: PayloadOut<'a>) -> MessageOut<'a> {
        MessageOut {
            id: message.id,
            event_id: message.event_id.as_ref(),
            event_type: &message.event_type,
            payload,
            channels: Some(&message.channels[..]).filter(|channels| !channels.is_empty()),
            tags: Some(&message.tags[..]).filter(|tags| !tags.is_empty()),
            timestamp: message.accepted_at,
            occurred_at: message.occurred_at,
            deliver_at: message.deliver_at,
        }
    }
}

/// A parsed body.
struct ParsedMessage<'a> {
    spec: MessageSpec,
    /// The payload in the response.
    shown: PayloadOut<'a>,
    /// The application to create if it does not exist.
    app: Option<ApplicationSpec>,
}

fn read<'a>(body: &'a JsonBody, app: &AppRef) -> Result<ParsedMessage<'a>, ApiError> {
    let mut fields = body.fields()?;
    fields.require("eventType");
    fields.require("payload");
    let event_type = fields.text("eventType").set().unwrap_or_default();
    let event_id = fields.parsed("eventId", |text| Uid::parse("eventId", text, MessageId::PREFIX)).set();
    let channels = fields.list("channels").set();
    if channels.as_ref().is_some_and(Vec::is_empty) {
        fields.note(Invalid::new("channels", "must not be empty: leave it out, or set it to null, for no channel"));
    }
    let tags = fields.list("tags").set().unwrap_or_default();
    let occurred_at = time(&mut fields, "occurredAt");
    let deliver_at = time(&mut fields, "deliverAt");
    let keep_content = read_retention(&mut fields);
    let app_spec = match fields.object("application").set() {
        Some(inner) => fields.nested(application::read_for_path(inner, app))?,
        None => None,
    };
    let raw = match fields.object("transformationsParams").set() {
        Some(inner) => fields.nested(RawBody::read(inner))?.flatten(),
        None => None,
    };
    let payload = fields.raw("payload");
    if let (Some(_), FieldValue::Set(beside)) = (&raw, &payload)
        && !beside.get().starts_with('{')
    {
        fields.note(Invalid::new("payload", "must be a JSON object, even if rawPayload replaces it"));
    }
    fields.done(Ok(()))?;
    let FieldValue::Set(written) = payload else { return Err(ApiError::malformed("the payload is missing")) };
    let (payload, raw_type, shown) = match raw {
        Some(raw) => (raw.payload.into(), Some(raw.kind), PayloadOut::LeftOut),
        None => (body.bytes_of(written), None, PayloadOut::Written(written)),
    };
    let channels = channels.unwrap_or_default();
    let spec = MessageSpec {
        event_type,
        event_id,
        channels,
        tags,
        payload,
        raw_type,
        occurred_at,
        deliver_at,
        keep_content,
        schema_warning: None,
    };
    Ok(ParsedMessage { spec, shown, app: app_spec })
}

fn time(fields: &mut Fields<'_>, name: &str) -> Option<Time> {
    fields.parsed(name, |text| Time::parse(text).map_err(|error| Invalid::new(name, error.to_string()))).set()
}

/// The retention of the payload.
fn read_retention(fields: &mut Fields<'_>) -> Option<Duration> {
    let (in_days, in_hours) = ("payloadRetentionPeriod", "payloadRetentionHours");
    let mut span = |name, unit, hours, least: u64, most: u64| {
        let range = format!("must be a whole number of {unit} from {least} to {most}");
        let number = fields.take_with(name, |text| match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(range),
        });
        number.set().map(|number| Duration::from_secs(number * hours * 3_600))
    };
    let (days, hours) = (span(in_days, "days", 24, 1, 90), span(in_hours, "hours", 1, 1, 90 * 24));
    if let (Some(days), Some(hours)) = (days, hours)
        && days != hours
    {
        fields.note(Invalid::new(in_hours, format!("contradicts {in_days}: leave one of them out")));
    }
    days.or(hours)
}

/// A raw payload from `transformationsParams`.
struct RawBody {
    payload: String,
    /// The content type.
    kind: String,
}

impl RawBody {
    fn read(mut fields: Fields<'_>) -> Result<Option<RawBody>, ApiError> {
        fields.only(&["rawPayload", "headers"]);
        let payload = fields.text("rawPayload").set();
        let headers: BTreeMap<String, String> =
            fields.take("headers", "an object of strings").set().unwrap_or_default();
        let mut kind = None;
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("content-type") {
                kind = Some(value);
            } else {
                fields.note(Invalid::new("headers", format!("can only set content-type, not {name}")));
            }
        }
        if payload.is_none() && kind.is_some() {
            fields.note(Invalid::new("headers", "are allowed only with rawPayload"));
        }
        fields.done(Ok(()))?;
        let kind = kind.unwrap_or_else(|| "application/json".to_owned());
        Ok(payload.map(|payload| RawBody { payload, kind }))
    }
}

/// Send a message
///
/// Accepts a message and queues it for all endpoints of the application whose filters match. Responds after the message
/// is committed.
#[utoipa::path(
    post, path = "/app/{app_id}/msg", request_body = MessageIn,
    params(("with_content" = Option<bool>, Query, description = "`false` omits the payload from the response.")),
    responses(
        (status = 202, body = MessageOut),
        (status = 409, description = "The application already has a message with this `eventId`."),
    )
)]
pub(in crate::api) async fn create(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    let app = call.app_ref()?;
    let with_content = call.query().flag("with_content", true)?;
    let act = async |call: &ApiCall| {
        let parsed = read(&body, &app)?;
        let item = AcceptItem {
            tenant: Some(call.tenant.clone()),
            app: app.clone(),
            only_endpoint: None,
            spec: parsed.spec,
            at: call.now,
            idempotency_key: None,
            audit: None,
        };
        if let Some(spec) = parsed.app {
            // Checked first: an invalid message must not create an application.
            item.check(call.store().max_payload())?;
            // Boxed: rare and large, it would make every request's future larger.
            Box::pin(application::get_or_create(call, &app, Some(spec))).await?;
        }
        let message = call.store().accept(item).await??;
        let payload = if with_content { parsed.shown } else { PayloadOut::LeftOut };
        json(StatusCode::ACCEPTED, &MessageOut::new(&message, payload))
    };
    idempotent(call, body.bytes(), KeyLookup::OnConflict, act, async |call, made| {
        accepted(call, made, with_content).await
    })
    .await
}

/// The response to a repeated request that created the message `made`.
pub(in crate::api) async fn accepted(call: &ApiCall, made: &str, with_content: bool) -> ApiResult {
    let named = MessageRef::parse(made).map_err(|_| ApiError::not_found("message"))?;
    let app = call.app().await?;
    let message = require(call.store().message(&call.tenant, app.id, &named).await?, "message")?;
    json(StatusCode::ACCEPTED, &MessageOut::new(&message, PayloadOut::of(&message, with_content)))
}

/// Retrieve a message
///
/// Retrieves a message by its id or `eventId`.
#[utoipa::path(
    get, path = "/app/{app_id}/msg/{msg_id}", params(ContentParams),
    responses((status = 200, body = MessageOut))
)]
pub(in crate::api) async fn read_one(call: ApiCall) -> ApiResult {
    let with_content = call.query().flag("with_content", true)?;
    let message = call.message().await?;
    json(StatusCode::OK, &MessageOut::new(&message, PayloadOut::of(&message, with_content)))
}

/// List messages
///
/// Lists the messages of an application, newest first.
#[utoipa::path(
    get, path = "/app/{app_id}/msg", params(PageParams, MessageFilterParams, ContentParams),
    responses((status = 200, body = ListOut<MessageOut>))
)]
pub(in crate::api) async fn list(call: ApiCall) -> ApiResult {
    let (query, request) = call.list_query::<MessageId>(Order::Descending, false)?;
    let (filter, with_content) = (filter(&query)?, query.flag("with_content", true)?);
    let app = call.app().await?;
    let page = call.store().messages(&call.tenant, app.id, &filter, &request).await?;
    let list = ListOut::of_scanned(
        &page,
        &request,
        |message| message.id,
        |message| MessageOut::new(message, PayloadOut::of(message, with_content)),
    )?;
    json(StatusCode::OK, &list)
}

/// Delete a message's content
///
/// Deletes the payload; pending deliveries are not sent. The message remains. Needs an organization token.
#[utoipa::path(delete, path = "/app/{app_id}/msg/{msg_id}/content", responses((status = 204)))]
pub(in crate::api) async fn delete_content(call: ApiCall) -> ApiResult {
    call.require_organization()?;
    let message = call.message().await?;
    let deleted = call.store().delete_content(&call.tenant, message.app_id, message.id, call.now).await?;
    no_content_if(deleted, "message")
}

fn filter(query: &Query<'_>) -> Result<MessageFilter, ApiError> {
    Ok(MessageFilter { topics: query.topics()?, before: query.time("before")?, after: query.time("after")? })
}
