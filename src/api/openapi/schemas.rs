//! Schemas and parameters that many operations share: ids, uids, times, metadata, list parameters. Schemas of a single
//! resource are next to its handlers.
//!
//! Structs that end in `In` or `Patch` exist for the document only: bodies are read field by field
//! ([`crate::api::http::body::Fields`]), so all invalid values are reported at once. Tests keep the two in sync.

use std::borrow::Cow;

use serde_json::json;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{RefOr, SchemaFormat};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::access::theme::ThemeMode;
use crate::domain::catalog::endpoint::DisabledReason;
use crate::domain::catalog::payload_schema::PayloadValidation;
use crate::domain::deliveries::attempt::{Failure, STATUS_CLASSES, Trigger};
use crate::domain::deliveries::backoff::WAIT_LIMIT;
use crate::domain::notifications::chat::ChatFormat;
use crate::domain::signing::secret::SignatureType;
use crate::domain::signing::signature::ExtraSignature;
use crate::domain::{
    AppId, AttemptId, AutoConfigId, BackgroundId, EndpointId, MessageId, PollingEndpointId, PollingTokenId, Time, Uid,
    limits,
};

/// The description of 400 where a rotation would leave too many old secrets.
pub(in crate::api) const OLD_SECRETS_ACTIVE: &str =
    "Five old secrets are still active; the error says when the next one expires.";
/// The description of 501 where a token would have to be issued.
pub(in crate::api) const CANNOT_ISSUE: &str = "This server verifies tokens with a public key and cannot issue any.";

/// Characters of names: uids, event types, flags.
pub(in crate::api) const NAME: &str = r"^[a-zA-Z0-9\-_.]+$";
/// The limit of a request's body, for `x-max-bytes`.
const BODY_BYTES: &str = "twice SENDOFF_MAX_PAYLOAD, and 64 KiB";
const CHANNEL: &str = r"^[a-zA-Z0-9\-_.:]+$";
const TAG: &str = r"^[a-zA-Z0-9\-_./]+$";
const SESSION: &str = r"^[a-zA-Z0-9\-_.@]+$";

/// Defines a type's name and schema in the document.
macro_rules! schema {
    ($($type:ty, $name:literal => $schema:expr;)*) => {
        $(
            impl PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    RefOr::T(Schema::from($schema))
                }
            }
            impl ToSchema for $type {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed($name)
                }
            }
        )*
    };
}

/// Metadata: at most 50 string pairs.
pub(in crate::api) struct MetadataPairs;

/// Names of event types, not empty.
pub(in crate::api) struct EventTypeNames;

/// The name of an event type, feature flag or group.
pub(in crate::api) struct NameText;

/// Names of feature flags.
pub(in crate::api) struct FeatureFlags;

/// Channels of an endpoint, not empty.
pub(in crate::api) struct Channels;

/// Ids of messages that a receiver already has.
pub(in crate::api) struct ReceivedIdList;

/// Tags of a message.
pub(in crate::api) struct Tags;

/// Channels of a message, not empty.
pub(in crate::api) struct MessageChannels;

/// Names of event types; an empty list matches all.
pub(in crate::api) struct EventTypeFilter;

/// Channels; an empty list matches all.
pub(in crate::api) struct ChannelFilter;

/// A channel.
pub(in crate::api) struct Channel;

/// A tag.
pub(in crate::api) struct Tag;

/// The name of a portal session.
pub(in crate::api) struct PortalSessionName;

/// Names of portal sessions.
pub(in crate::api) struct PortalSessionNames;

/// The description of an event type or an endpoint.
pub(in crate::api) struct DescriptionText;

/// Custom headers of an endpoint.
pub(in crate::api) struct EndpointHeaders;

/// Changes of custom headers; `null` removes one.
pub(in crate::api) struct HeaderChanges;

/// Header names.
pub(in crate::api) struct HeaderNames;

/// The header of a raw payload.
pub(in crate::api) struct RawHeaders;

/// Retry delays in seconds.
pub(in crate::api) struct RetryDelays;

/// Any JSON object.
pub(in crate::api) struct JsonObject;

/// An OpenAPI document as an object.
pub(in crate::api) struct OpenApiDocument;

/// An OpenAPI document as text.
pub(in crate::api) struct OpenApiText;

/// The payload of a message.
pub(in crate::api) struct PayloadObject;

/// A payload that need not be JSON.
pub(in crate::api) struct RawPayloadText;

/// JSON Schemas of an event type by version.
pub(in crate::api) struct EventTypeSchemas;

/// `off`, `warn` or `reject`.
pub(in crate::api) struct ValidationWord;

/// The URL of an endpoint.
pub(in crate::api) struct EndpointUrl;

/// `whsec_…` or `whsk_…`.
pub(in crate::api) struct SecretText;

/// `#rrggbb`.
pub(in crate::api) struct ColourText;

/// The status of an attempt or delivery, as a number.
pub(in crate::api) struct MessageStatus;

/// The status, with canceled separate from failed.
pub(in crate::api) struct ExpandedMessageStatus;

/// The statuses that a bulk replay can select.
pub(in crate::api) struct ReplayStatus;

/// The expanded status as text.
pub(in crate::api) struct ExpandedMessageStatusText;

/// The class of a response status.
pub(in crate::api) struct StatusCodeClass;

/// The status as text.
pub(in crate::api) struct MessageStatusText;

schema! {
    AppId, "ApplicationId" => id(AppId::PREFIX, "The id of an application.");
    EndpointId, "EndpointId" => id(EndpointId::PREFIX, "The id of an endpoint.");
    PollingEndpointId, "PollingEndpointId" => id(PollingEndpointId::PREFIX, "The id of a polling endpoint.");
    PollingTokenId, "PollingTokenId" => id(PollingTokenId::PREFIX, "The id of a polling endpoint's token.");
    AutoConfigId, "AutoConfigId" => id(AutoConfigId::PREFIX, "The id of an autoconfig subscription.");
    MessageId, "MessageId" => id(MessageId::PREFIX, "The id of a message, sent as the header `webhook-id` with every delivery.");
    AttemptId, "AttemptId" => id(AttemptId::PREFIX, "The id of an attempt.");
    Uid, "Uid" => text("An identifier of your own, unique in its scope. Accepted wherever an id is. It must not look like an id (`app_…`, `msg_…`).")
        .pattern(Some(NAME)).min_length(Some(1)).max_length(Some(limits::NAME)).examples([json!("customer-17")]);
    Time, "Time" => text("A point in time in RFC 3339, from the year 1970 to 9999. Responses use UTC with microseconds.")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).examples([json!("2026-11-22T09:30:00Z")]);
    MetadataPairs, "Metadata" => object("Custom key-value pairs: at most 50, and 4 KiB in total.")
        .additional_properties(Some(texts(limits::METADATA_BYTES))).max_properties(Some(limits::METADATA))
        .examples([json!({"plan": "pro"})]);
    EndpointHeaders, "EndpointHeaders" => object("Custom headers: at most 50, and 8 KiB in total.")
        .additional_properties(Some(texts(limits::HEADER_VALUE))).max_properties(Some(limits::HEADERS));
    HeaderChanges, "EndpointHeaderChanges" => object("Headers to set; `null` removes a header.")
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(Schema::from(
            ObjectBuilder::new().schema_type(SchemaType::Array(vec![Type::String, Type::Null])).max_length(Some(limits::HEADER_VALUE)),
        )))))
        .max_properties(Some(limits::HEADERS));
    HeaderNames, "EndpointHeaderNames" => ArrayBuilder::new().description(Some("Header names."))
        .items(RefOr::T(Schema::from(ObjectBuilder::new().schema_type(Type::String).max_length(Some(limits::NAME)))))
        .max_items(Some(limits::HEADERS));
    RawHeaders, "RawPayloadHeaders" => object("Only `content-type`.")
        .additional_properties(Some(texts(limits::RAW_TYPE))).max_properties(Some(1));
    RetryDelays, "RetrySchedule" => ArrayBuilder::new().description(Some("Delays between attempts, in seconds."))
        .items(RefOr::T(Schema::from(ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(WAIT_LIMIT.as_secs())))))
        .max_items(Some(limits::RETRIES));
    DescriptionText, "Description" => text("A description.").max_length(Some(limits::DESCRIPTION));
    Channel, "Channel" => text("A channel.").pattern(Some(CHANNEL)).min_length(Some(1)).max_length(Some(limits::CHANNEL));
    Tag, "Tag" => text("A tag.").pattern(Some(TAG)).min_length(Some(1)).max_length(Some(limits::TAG));
    PortalSessionName, "PortalSession" => text("The name of a portal session.").pattern(Some(SESSION)).min_length(Some(1)).max_length(Some(limits::NAME));
    PayloadObject, "Payload" => object("The payload, a JSON object.").additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .extensions(Some(ExtensionsBuilder::new().add("x-max-bytes", "SENDOFF_MAX_PAYLOAD").build()));
    RawPayloadText, "RawPayload" => text("The payload as text of any kind.")
        .extensions(Some(ExtensionsBuilder::new().add("x-max-bytes", "SENDOFF_MAX_PAYLOAD").build()));
    EventTypeSchemas, "EventTypeSchemas" => object("JSON Schemas by version: at most 256 KiB of JSON.")
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .extensions(Some(ExtensionsBuilder::new().add("x-max-bytes", limits::SCHEMAS_BYTES).build()));
    OpenApiDocument, "OpenApiDocument" => object("An OpenAPI 3.1 document: at most 2 MiB, within the limit of a request's body.")
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .extensions(Some(ExtensionsBuilder::new().add("x-max-bytes", BODY_BYTES).build()));
    OpenApiText, "OpenApiText" => text("An OpenAPI 3.1 document as text, JSON or YAML: at most 2 MiB, within the limit of a request's body.")
        .extensions(Some(ExtensionsBuilder::new().add("x-max-bytes", BODY_BYTES).build()));
    JsonObject, "JsonObject" => object("Any JSON object.").additional_properties(Some(AdditionalProperties::FreeForm(true)));
    NameText, "Name" => text("The name of an event type, feature flag or group.").pattern(Some(NAME)).min_length(Some(1)).max_length(Some(limits::NAME));
    FeatureFlags, "FeatureFlags" => names("Names of feature flags.", NAME, limits::NAME, limits::FEATURE_FLAGS).min_items(None);
    EventTypeNames, "EventTypeNames" => names("Names of event types in the catalog.", NAME, limits::NAME, limits::EVENT_TYPES).examples([json!(["invoice.paid"])]);
    PortalSessionNames, "PortalSessions" => names("Names of portal sessions.", SESSION, limits::NAME, limits::SESSION_IDS).min_items(None);
    Channels, "Channels" => names("Channels.", CHANNEL, limits::CHANNEL, limits::ENDPOINT_CHANNELS).examples([json!(["eu"])]);
    EventTypeFilter, "EventTypeFilter" => names("Names of event types in the catalog. An empty list matches all.", NAME, limits::NAME, limits::EVENT_TYPES)
        .min_items(None).examples([json!(["invoice.paid"])]);
    ChannelFilter, "ChannelFilter" => names("Channels. An empty list matches all.", CHANNEL, limits::CHANNEL, limits::ENDPOINT_CHANNELS)
        .min_items(None).examples([json!(["eu"])]);
    MessageChannels, "MessageChannels" => names("Channels.", CHANNEL, limits::CHANNEL, limits::MESSAGE_CHANNELS).examples([json!(["eu"])]);
    ReceivedIdList, "ReceivedMessageIds" => ArrayBuilder::new().description(Some("Message ids, in any order."))
        .items(RefOr::T(Schema::from(id(MessageId::PREFIX, "A message's id."))))
        .max_items(Some(limits::RECEIVED_IDS));
    Tags, "Tags" => names("Tags.", TAG, limits::TAG, limits::TAGS).min_items(None).examples([json!(["urgent"])]);
    EndpointUrl, "Url" => text("An absolute http or https URL. Hosts in private networks are rejected unless the server allows them.")
        .format(Some(SchemaFormat::Custom("uri".to_owned()))).min_length(Some(1)).max_length(Some(limits::URL))
        .examples([json!("https://example.com/hook")]);
    SecretText, "Secret" => text("`whsec_` and 24 to 75 bytes in base64 (HMAC-SHA256; the prefix is optional), or `whsk_` and an Ed25519 private key of 32 bytes.")
        .max_length(Some(limits::SECRET))
        .examples([json!("whsec_cGxlYXNlIGRvIG5vdCB1c2UgdGhpcyBzZWNyZXQ=")]);
    ExtraSignature, "ExtraSignature" => extra_signature();
    ValidationWord, "PayloadValidation" => words(
        "Validation of payloads against the newest schema.",
        PayloadValidation::ALL.map(PayloadValidation::word),
    );
    SignatureType, "SignatureType" => words(
        "The signature algorithm: HMAC-SHA256 (`v1`) with a shared key, or Ed25519 (`v1a`), where the receiver has only the public key.",
        [SignatureType::Hmac256, SignatureType::Ed25519].map(SignatureType::word),
    );
    DisabledReason, "DisabledReason" => words(
        "Why the endpoint is disabled: manually, because it responded with 410, or because all attempts failed for too long.",
        [DisabledReason::Manual, DisabledReason::Gone, DisabledReason::Failing].map(DisabledReason::word),
    );
    ChatFormat, "ChatFormat" => words("A chat system.", ChatFormat::ALL.map(ChatFormat::word));
    Failure, "Failure" => words("Why an attempt failed.", Failure::ALL.map(Failure::word));
    MessageStatus, "MessageStatus" => numbers("0 success, 1 pending, 2 fail, 3 sending.", [0, 1, 2, 3]);
    ExpandedMessageStatus, "ExpandedMessageStatus" => numbers("0 success, 1 pending, 2 fail, 3 sending; 4 canceled, if expanded statuses are requested.", [0, 1, 2, 3, 4]);
    ReplayStatus, "ReplayStatus" => numbers("0 success, 1 pending, 2 fail, 4 canceled.", [0, 1, 2, 4]);
    ExpandedMessageStatusText, "ExpandedMessageStatusText" => words("The status as a word.", ["success", "pending", "fail", "sending", "canceled"]);
    Capability, "AppPortalCapability" => words("A permission of a customer.", Capability::ALL.map(Capability::word));
    PortalPage, "AppPortalPage" => words("A page of the portal.", PortalPage::ALL.map(PortalPage::word));
    ThemeMode, "AppPortalMode" => words("Light, dark, or the customer's system setting.", ["auto", "light", "dark"]);
    ColourText, "Colour" => text("A color: red, green and blue in hexadecimal.").pattern(Some("^#[0-9a-fA-F]{6}$")).examples([json!("#0b6e4f")]);
    BackgroundId, "BackgroundTaskId" => id(BackgroundId::PREFIX, "The id of a background task.");
    StatusCodeClass, "StatusCodeClass" => numbers("The class of a response status, e.g. 400 for 4xx; 0: no response.", STATUS_CLASSES);
    MessageStatusText, "MessageStatusText" => words("The status as a word.", ["success", "pending", "fail", "sending"]);
    Trigger, "MessageAttemptTriggerType" => numbers("0 by the retry schedule, 1 manually.", [Trigger::Scheduled, Trigger::Manual].map(|trigger| trigger.code().into()));
}

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description))
}

fn object(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Object).description(Some(description))
}

fn words<const N: usize>(description: &str, words: [&'static str; N]) -> ObjectBuilder {
    text(description).enum_values(Some(words))
}

fn numbers<const N: usize>(description: &str, numbers: [i32; N]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).description(Some(description)).enum_values(Some(numbers))
}

/// An id: a prefix and a UUIDv7 in Crockford's base32.
fn id(prefix: &str, description: &str) -> ObjectBuilder {
    text(description)
        .pattern(Some(format!("^{prefix}[0-7][0-9a-hjkmnp-tv-z]{{25}}$")))
        .examples([json!(format!("{prefix}01kapvcrj2e8zvm4h6x0c5w9nd"))])
}

fn names(description: &str, pattern: &str, longest: usize, most: usize) -> ArrayBuilder {
    let name = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).max_length(Some(longest));
    let names = ArrayBuilder::new().description(Some(description)).items(RefOr::T(Schema::from(name)));
    names.min_items(Some(1)).max_items(Some(most))
}

/// String values of an object.
fn texts(longest: usize) -> AdditionalProperties<Schema> {
    let value = ObjectBuilder::new().schema_type(Type::String).max_length(Some(longest));
    AdditionalProperties::RefOr(RefOr::T(Schema::from(value)))
}

fn extra_signature() -> OneOfBuilder {
    let style = |name: &str, description: &str| {
        let word = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([name]));
        object(description).property("style", word).required("style")
    };
    let keyed = |name, description, example: &str| {
        let header =
            text("The header that carries the signature.").max_length(Some(limits::NAME)).examples([json!(example)]);
        let key = text("The HMAC key of the receiver: the secret as text, or its decoded bytes.")
            .enum_values(Some(["text", "bytes"]))
            .default(Some(json!("text")));
        style(name, description).property("header", header).required("header").property("key", key)
    };
    OneOfBuilder::new()
        .description(Some("An additional signature in another product's format, next to those of Standard Webhooks."))
        .item(Schema::from(style("svix", "The headers of Standard Webhooks again, under their older names `svix-…`.")))
        .item(Schema::from(keyed("github", "`sha256=` and the HMAC-SHA256 of the body in hex.", "X-Hub-Signature-256")))
        .item(Schema::from(keyed(
            "stripe",
            "`t=`, the timestamp, `,v1=` and the HMAC-SHA256 of timestamp and body in hex.",
            "Stripe-Signature",
        )))
}

/// The parameters of a paginated list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `Query::page` reads it")]
pub(in crate::api) struct PageParams {
    /// Maximum number of items.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `iterator` of the previous page, or its `prevIterator` to walk back.
    iterator: Option<String>,
}

/// The sort order of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `Query::page` reads it")]
pub(in crate::api) struct OrderParams {
    /// The sort order, ascending by default.
    #[param(inline)]
    order: Option<Ordering>,
}

/// Filters by the message of an item.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: the lists' filters read it")]
pub(in crate::api) struct MessageFilterParams {
    /// Only messages on this channel.
    channel: Option<String>,
    /// Only items up to this time.
    #[param(value_type = Option<Time>)]
    before: Option<Time>,
    /// Only items from this time on.
    #[param(value_type = Option<Time>)]
    after: Option<Time>,
    /// Only these event types, comma-joined or repeated.
    event_types: Option<Vec<String>>,
}

/// Whether messages are answered with their payloads.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: the handlers read it")]
pub(in crate::api) struct ContentParams {
    /// `false` omits payloads.
    with_content: Option<bool>,
}

/// The sort orders.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "for the document alone")]
enum Ordering {
    Ascending,
    Descending,
}
