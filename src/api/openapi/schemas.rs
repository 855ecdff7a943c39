//! What the OpenAPI document says of the things that many operations share: ids, uids, times, metadata, the usual parameters.
//! What only one resource has stands beside its handlers.
//!
//! A struct here or there that ends in `In` or `Patch` is for the document alone: bodies are read field by field
//! ([`crate::api::body::Fields`]), so that everything wrong with one is told at once. Tests hold the two together.

use std::borrow::Cow;

use serde_json::json;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{RefOr, SchemaFormat};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::domain::attempt::{Failure, Trigger};
use crate::domain::backoff::WAIT_LIMIT;
use crate::domain::endpoint::DisabledReason;
use crate::domain::portal::{Capability, PortalPage};
use crate::domain::secret::SignatureType;
use crate::domain::signature::ExtraSignature;
use crate::domain::theme::Mode;
use crate::domain::{
    AppId, AttemptId, AutoConfigId, BackgroundId, EndpointId, MessageId, PollingEndpointId, PollingTokenId, Time, Uid,
    limits,
};

/// The characters of names: uids, event types, channels, flags.
pub(in crate::api) const NAME: &str = r"^[a-zA-Z0-9\-_.]+$";
const CHANNEL: &str = r"^[a-zA-Z0-9\-_.:]+$";
const TAG: &str = r"^[a-zA-Z0-9\-_./]+$";
const SESSION: &str = r"^[a-zA-Z0-9\-_.@]+$";

/// A type's place in the document: its name there and its schema.
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

/// At most 50 pairs of the team's own.
pub(in crate::api) struct Metadata;

/// Names of event types; never an empty list.
pub(in crate::api) struct Names;

/// A name: of an event type, a flag, a group.
pub(in crate::api) struct Name;

/// Names of feature flags.
pub(in crate::api) struct Flags;

/// Names of channels; never an empty list.
pub(in crate::api) struct Channels;

/// Ids of messages that a receiver has.
pub(in crate::api) struct ReceivedIds;

/// Labels of messages.
pub(in crate::api) struct Tags;

/// Names of channels of a message; never an empty list.
pub(in crate::api) struct MessageChannels;

/// Names of event types, or an empty list, which lets all through.
pub(in crate::api) struct EventTypeFilter;

/// The same of channels.
pub(in crate::api) struct ChannelFilter;

/// A label: a channel or a tag.
pub(in crate::api) struct Channel;

/// One of them.
pub(in crate::api) struct Tag;

/// The name of a portal session.
pub(in crate::api) struct Session;

/// Names of portal sessions.
pub(in crate::api) struct Sessions;

/// The description of an event type or an endpoint.
pub(in crate::api) struct DescriptionText;

/// An endpoint's own headers.
pub(in crate::api) struct Headers;

/// The same, where `null` takes one away.
pub(in crate::api) struct HeaderChanges;

/// Names of headers.
pub(in crate::api) struct HeaderNames;

/// The one header of a raw payload.
pub(in crate::api) struct RawHeaders;

/// Waits in seconds.
pub(in crate::api) struct Waits;

/// Any JSON object.
pub(in crate::api) struct JsonObject;

/// The payload of a message.
pub(in crate::api) struct Payload;

/// The same, where it need not be JSON.
pub(in crate::api) struct RawPayload;

/// A JSON Schema for each version.
pub(in crate::api) struct Schemas;

/// Where deliveries go.
pub(in crate::api) struct Url;

/// `whsec_…` or `whsk_…`.
pub(in crate::api) struct SecretText;

/// `#rrggbb`.
pub(in crate::api) struct ColourText;

/// How an attempt or a delivery stands: a number.
pub(in crate::api) struct Status;

/// The same, with canceled told apart.
pub(in crate::api) struct ExpandedStatus;

/// The same, without what no delivery ever is.
pub(in crate::api) struct ReplayStatus;

/// The same as a word.
pub(in crate::api) struct ExpandedStatusText;

/// The first digit of an answer's status.
pub(in crate::api) struct StatusCodeClass;

/// How an attempt or a delivery stands: a word.
pub(in crate::api) struct StatusText;

schema! {
    AppId, "ApplicationId" => id(AppId::PREFIX, "Sendoff's id of an application.");
    EndpointId, "EndpointId" => id(EndpointId::PREFIX, "Sendoff's id of an endpoint.");
    PollingEndpointId, "PollingEndpointId" => id(PollingEndpointId::PREFIX, "Sendoff's id of a polling endpoint.");
    PollingTokenId, "PollingTokenId" => id(PollingTokenId::PREFIX, "Sendoff's id of a polling endpoint's token.");
    AutoConfigId, "AutoConfigId" => id(AutoConfigId::PREFIX, "Sendoff's id of an autoconfig subscription.");
    MessageId, "MessageId" => id(MessageId::PREFIX, "Sendoff's id of a message. The same as the header `webhook-id` of its deliveries.");
    AttemptId, "AttemptId" => id(AttemptId::PREFIX, "Sendoff's id of an attempt.");
    Uid, "Uid" => text("A name of your own, unique in its scope and accepted wherever an id is. It must not look like an id (`app_…`, `msg_…`).")
        .pattern(Some(NAME)).min_length(Some(1)).max_length(Some(limits::NAME)).examples([json!("customer-17")]);
    Time, "Time" => text("A point in time, RFC 3339, between the years 1970 and 9999. Answers are in UTC, with microseconds.")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).examples([json!("2026-11-22T09:30:00Z")]);
    Metadata, "Metadata" => object("Text pairs of your own: at most 50, and 4 KiB in all.")
        .additional_properties(Some(texts(limits::METADATA_BYTES))).max_properties(Some(limits::METADATA))
        .examples([json!({"plan": "pro"})]);
    Headers, "EndpointHeaders" => object("Headers of your own: at most 50, and 8 KiB in all.")
        .additional_properties(Some(texts(limits::HEADER_VALUE))).max_properties(Some(limits::HEADERS));
    HeaderChanges, "EndpointHeaderChanges" => object("Headers to set; one that is `null` goes.")
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(Schema::from(
            ObjectBuilder::new().schema_type(SchemaType::Array(vec![Type::String, Type::Null])).max_length(Some(limits::HEADER_VALUE)),
        )))))
        .max_properties(Some(limits::HEADERS));
    HeaderNames, "EndpointHeaderNames" => ArrayBuilder::new().description(Some("Names of headers."))
        .items(RefOr::T(Schema::from(ObjectBuilder::new().schema_type(Type::String).max_length(Some(limits::NAME)))))
        .max_items(Some(limits::HEADERS));
    RawHeaders, "RawPayloadHeaders" => object("`content-type`, and nothing else.")
        .additional_properties(Some(texts(limits::RAW_TYPE))).max_properties(Some(1));
    Waits, "RetrySchedule" => ArrayBuilder::new().description(Some("The waits between attempts, in seconds."))
        .items(RefOr::T(Schema::from(ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(WAIT_LIMIT.as_secs())))))
        .max_items(Some(limits::RETRIES));
    DescriptionText, "Description" => text("What it is, in words.").max_length(Some(limits::DESCRIPTION));
    Channel, "Channel" => text("A channel.").pattern(Some(CHANNEL)).min_length(Some(1)).max_length(Some(limits::CHANNEL));
    Tag, "Tag" => text("A tag.").pattern(Some(TAG)).min_length(Some(1)).max_length(Some(limits::TAG));
    Session, "PortalSession" => text("A name of a portal session.").pattern(Some(SESSION)).min_length(Some(1)).max_length(Some(limits::NAME));
    Payload, "Payload" => object("The event, as a JSON object.").additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .extensions(Some(ExtensionsBuilder::new().add("x-max-bytes", "SENDOFF_MAX_PAYLOAD").build()));
    RawPayload, "RawPayload" => text("The event, as any text.")
        .extensions(Some(ExtensionsBuilder::new().add("x-max-bytes", "SENDOFF_MAX_PAYLOAD").build()));
    Schemas, "EventTypeSchemas" => object("A JSON Schema for each version: at most 256 KiB of JSON.")
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .extensions(Some(ExtensionsBuilder::new().add("x-max-bytes", limits::SCHEMAS_BYTES).build()));
    JsonObject, "JsonObject" => object("Any JSON object.").additional_properties(Some(AdditionalProperties::FreeForm(true)));
    Name, "Name" => text("A name: of an event type, a feature flag, a group.").pattern(Some(NAME)).min_length(Some(1)).max_length(Some(limits::NAME));
    Flags, "FeatureFlags" => names("Names of feature flags.", NAME, limits::NAME, limits::FEATURE_FLAGS).min_items(None);
    Names, "EventTypeNames" => names("Names of event types, each in the catalog.", NAME, limits::NAME, limits::EVENT_TYPES).examples([json!(["invoice.paid"])]);
    Sessions, "PortalSessions" => names("Names of portal sessions.", SESSION, limits::NAME, limits::SESSION_IDS).min_items(None);
    Channels, "Channels" => names("Names of channels.", CHANNEL, limits::CHANNEL, limits::ENDPOINT_CHANNELS).examples([json!(["eu"])]);
    EventTypeFilter, "EventTypeFilter" => names("Names of event types, each in the catalog; an empty list is all.", NAME, limits::NAME, limits::EVENT_TYPES)
        .min_items(None).examples([json!(["invoice.paid"])]);
    ChannelFilter, "ChannelFilter" => names("Names of channels; an empty list is all.", CHANNEL, limits::CHANNEL, limits::ENDPOINT_CHANNELS)
        .min_items(None).examples([json!(["eu"])]);
    MessageChannels, "MessageChannels" => names("Names of channels.", CHANNEL, limits::CHANNEL, limits::MESSAGE_CHANNELS).examples([json!(["eu"])]);
    ReceivedIds, "ReceivedMessageIds" => ArrayBuilder::new().description(Some("Ids of messages, in any order."))
        .items(RefOr::T(Schema::from(id(MessageId::PREFIX, "A message's id."))))
        .max_items(Some(limits::RECEIVED_IDS));
    Tags, "Tags" => names("Labels of messages.", TAG, limits::TAG, limits::TAGS).min_items(None).examples([json!(["urgent"])]);
    Url, "Url" => text("An absolute http or https URL. Its host must not be one that only this server can reach.")
        .format(Some(SchemaFormat::Custom("uri".to_owned()))).min_length(Some(1)).max_length(Some(limits::URL))
        .examples([json!("https://example.com/hook")]);
    SecretText, "Secret" => text("`whsec_` and 24 to 75 bytes in base64 (HMAC-SHA256; also without the prefix), or `whsk_` and an Ed25519 key of 32 bytes.")
        .max_length(Some(limits::SECRET))
        .examples([json!("whsec_cGxlYXNlIGRvIG5vdCB1c2UgdGhpcyBzZWNyZXQ=")]);
    ExtraSignature, "ExtraSignature" => extra_signature();
    SignatureType, "SignatureType" => words(
        "How it signs: HMAC-SHA256 (`v1`), where both sides hold the key, or Ed25519 (`v1a`), where the receiver holds the public one only.",
        [SignatureType::Hmac256, SignatureType::Ed25519].map(SignatureType::word),
    );
    DisabledReason, "DisabledReason" => words(
        "Why it is disabled: somebody did it, it answered 410, or it did nothing but fail for too long.",
        [DisabledReason::Manual, DisabledReason::Gone, DisabledReason::Failing].map(DisabledReason::word),
    );
    Failure, "Failure" => words("Why an attempt did not deliver.", Failure::ALL.map(Failure::word));
    Status, "MessageStatus" => numbers("0 success, 1 pending, 2 fail, 3 sending.", [0, 1, 2, 3]);
    ExpandedStatus, "ExpandedMessageStatus" => numbers("0 success, 1 pending, 2 fail, 3 sending; 4 canceled, where it is told apart.", [0, 1, 2, 3, 4]);
    ReplayStatus, "ReplayStatus" => numbers("0 success, 1 pending, 2 fail, 4 canceled.", [0, 1, 2, 4]);
    ExpandedStatusText, "ExpandedMessageStatusText" => words("The status as a word.", ["success", "pending", "fail", "sending", "canceled"]);
    Capability, "AppPortalCapability" => words("What a customer may do.", Capability::ALL.map(Capability::word));
    PortalPage, "AppPortalPage" => words("A part of the portal.", PortalPage::ALL.map(PortalPage::word));
    Mode, "AppPortalMode" => words("Light, dark, or as the customer's system has it.", ["auto", "light", "dark"]);
    ColourText, "Colour" => text("A colour: red, green and blue in hexadecimal.").pattern(Some("^#[0-9a-fA-F]{6}$")).examples([json!("#0b6e4f")]);
    BackgroundId, "BackgroundTaskId" => id(BackgroundId::PREFIX, "Sendoff's id of background work.");
    StatusCodeClass, "StatusCodeClass" => numbers("The hundred of an answer's status; 0: no answer.", [0, 100, 200, 300, 400, 500]);
    StatusText, "MessageStatusText" => words("The status as a word.", ["success", "pending", "fail", "sending"]);
    Trigger, "MessageAttemptTriggerType" => numbers("0 by the schedule, 1 because somebody asked for it.", [Trigger::Scheduled, Trigger::Manual].map(Trigger::code));
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

fn numbers<const N: usize>(description: &str, numbers: [i16; N]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).description(Some(description)).enum_values(Some(numbers))
}

/// The form of ids: a prefix and a UUIDv7 in Crockford's base32.
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

/// The values of an object of texts.
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
        let header = text("The header that carries it.").max_length(Some(limits::NAME)).examples([json!(example)]);
        let key = text(
            "What the receiver keys its HMAC with: the secret's text as it is shown, or the bytes that it stands for.",
        )
        .enum_values(Some(["text", "bytes"]))
        .default(Some(json!("text")));
        style(name, description).property("header", header).required("header").property("key", key)
    };
    OneOfBuilder::new()
        .description(Some("A signature in another product's style, beside those of Standard Webhooks."))
        .item(Schema::from(style(
            "svix",
            "The three headers of Standard Webhooks once more, under their older names `svix-…`.",
        )))
        .item(Schema::from(keyed("github", "`sha256=` and the HMAC-SHA256 of the body in hex.", "X-Hub-Signature-256")))
        .item(Schema::from(keyed(
            "stripe",
            "`t=`, the time, `,v1=` and the HMAC-SHA256 of time and body in hex.",
            "Stripe-Signature",
        )))
}

/// Which part of a list is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `Query::page` reads it")]
pub(in crate::api) struct Paged {
    /// How many items at most.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// Where to go on: the `iterator` of the page before, or its `prevIterator` to walk back.
    iterator: Option<String>,
}

/// Which way a list runs.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `Query::page` reads it")]
pub(in crate::api) struct Ordered {
    /// Which way the list runs; ascending if nothing is said.
    #[param(inline)]
    order: Option<Ordering>,
}

/// Which messages, by what they are about and when they were accepted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: the lists' filters read it")]
pub(in crate::api) struct Filtered {
    /// Only those on this channel.
    channel: Option<String>,
    /// Only those before this time.
    #[param(value_type = Option<Time>)]
    before: Option<Time>,
    /// Only those after this time.
    #[param(value_type = Option<Time>)]
    after: Option<Time>,
    /// Only those of these event types, joined by commas or repeated.
    event_types: Option<Vec<String>>,
}

/// The ways that a list can run.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "for the document alone")]
enum Ordering {
    Ascending,
    Descending,
}
