//! Example messages: a real, signed message to one endpoint, so its owner can test the receiver.

use actix_web::http::StatusCode;
use utoipa::ToSchema;

use crate::api::http::body::JsonBody;
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, json};
use crate::api::openapi::schemas;
use crate::api::resources::endpoint::require_enabled;
use crate::api::resources::event_type::flags;
use crate::api::resources::message::{MessageOut, PayloadOut, accepted};
use crate::domain::Invalid;
use crate::domain::catalog::event_type::EventTypeSpec;
use crate::service::event_types;

/// The example to send.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"eventType": "invoice.paid"}))]
#[expect(dead_code, reason = "for the document alone: `make` reads it")]
struct EventExampleIn {
    #[schema(value_type = schemas::NameText)]
    event_type: String,
    /// The index in the schema's `examples`, from 0.
    #[schema(minimum = 0, maximum = 65535)]
    example_index: Option<u16>,
}

/// Send an example
///
/// Sends the example of the event type's schema as a real, signed message. It goes only to this endpoint, whatever its
/// filters. The event types `sendoff.ping` and `svix.ping` need not be in the catalog.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/send-example", request_body = EventExampleIn,
    responses(
        (status = 202, body = MessageOut),
        (status = 409, description = "The endpoint was disabled or deleted concurrently."),
    )
)]
pub(in crate::api) async fn send(call: ApiCall, body: JsonBody) -> ApiResult {
    let act = async |call: &ApiCall| make(call, &body).await;
    idempotent(call, body.bytes(), KeyLookup::Eager, act, async |call, made| accepted(call, made, true).await).await
}

async fn make(call: &ApiCall, body: &JsonBody) -> ApiResult {
    let endpoint = call.endpoint().await?;
    let mut fields = body.fields()?;
    fields.require("eventType");
    let name = fields.text("eventType").set().unwrap_or_default();
    let index = fields.take::<u16>("exampleIndex", "a whole number from 0 to 65535").set().map(usize::from);
    fields.unsupported("payload", &[]);
    fields.done(Ok(()))?;
    require_enabled(&endpoint)?;
    let found = event_types::find(call.store(), &call.tenant, flags(call), &name).await?;
    let unknown = || ApiError::from(vec![Invalid::new("eventType", "is not in the catalog")]);
    let event_type = found.map(|found| found.spec).or_else(|| EventTypeSpec::ping(&name)).ok_or_else(unknown)?;
    let message = call.store().send_example(&call.tenant, &endpoint, &event_type, index, call.now).await??;
    json(StatusCode::ACCEPTED, &MessageOut::new(&message, PayloadOut::of(&message, true)))
}
