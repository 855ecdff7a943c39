//! Endpoint bodies: their fields, and how they apply to an existing endpoint.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Number;
use utoipa::ToSchema;

use crate::api::http::body::{FieldValue, Fields};
use crate::api::http::errors::ApiError;
use crate::api::http::request::ApiCall;
use crate::api::openapi::schemas;
use crate::api::resources::application::throttle_rate;
use crate::api::resources::event_type::check_visible;
use crate::domain::catalog::application::Metadata;
use crate::domain::catalog::endpoint::{EndpointSpec, check_filter, masked_header, origin_changed};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::notifications::chat::{ChatFormat, ChatHook};
use crate::domain::signing::secret::{Secret, SignatureType};
use crate::domain::signing::signature::ExtraSignature;
use crate::domain::{EndpointId, Invalid, Uid, ids, limits};
use crate::service::endpoints;

/// The fields of every endpoint body.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone: `fill` reads it")]
struct EndpointFields {
    uid: Option<Uid>,
    #[schema(value_type = Option<schemas::DescriptionText>)]
    description: Option<String>,
    /// The event types to receive; `null`: all.
    #[schema(value_type = Option<schemas::EventTypeNames>)]
    event_types: Option<Vec<String>>,
    /// The channels to receive, at most 10; `null`: messages on any channel or none.
    #[schema(value_type = Option<schemas::Channels>)]
    channels: Option<Vec<String>>,
    /// Maximum messages per second; `null`: no limit.
    #[schema(minimum = 1, maximum = 65535)]
    throttle_rate: Option<u16>,
    #[schema(value_type = Option<schemas::MetadataPairs>)]
    metadata: Option<Metadata>,
    /// Custom headers of each request, at most 50. Values may be secrets and are not returned. If the scheme, host or
    /// port of `url` changes, headers with secret values are dropped unless the request includes `headers`.
    #[schema(value_type = Option<schemas::EndpointHeaders>)]
    headers: Option<BTreeMap<String, String>>,
    /// The timeout of an attempt; `null`: the server's default.
    #[schema(minimum = 1, maximum = 30)]
    request_timeout_seconds: Option<u64>,
    /// Delays between attempts in seconds; `null`: the server's default.
    #[schema(value_type = Option<schemas::RetryDelays>)]
    retry_schedule: Option<Vec<Number>>,
    /// Delivers one message at a time, in the order of acceptance. Each waits until the previous one is delivered or
    /// has failed for good.
    ordered: Option<bool>,
    /// Stored without effect.
    #[schema(minimum = 1, maximum = 2147483647)]
    version: Option<u32>,
    #[schema(max_items = 4)]
    extra_signatures: Option<Vec<ExtraSignature>>,
    /// Deprecated name of `eventTypes`; ignored if that is present.
    #[schema(value_type = Option<schemas::EventTypeNames>)]
    filter_types: Option<Vec<String>>,
    /// Deprecated name of `throttleRate`; ignored if that is present.
    #[schema(minimum = 1, maximum = 65535)]
    rate_limit: Option<u16>,
}

/// A replacement of an endpoint.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"url": "https://example.com/hook", "eventTypes": ["invoice.paid"]}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(in crate::api) struct EndpointUpdate {
    #[schema(value_type = schemas::EndpointUrl)]
    url: String,
    /// While disabled, nothing is sent and pending deliveries wait.
    disabled: Option<bool>,
    #[serde(flatten)]
    fields: EndpointFields,
}

/// A new endpoint.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"url": "https://example.com/hook", "eventTypes": ["invoice.paid"]}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(in crate::api) struct EndpointIn {
    #[schema(value_type = schemas::EndpointUrl)]
    url: String,
    /// While disabled, nothing is sent and pending deliveries wait.
    disabled: Option<bool>,
    #[serde(flatten)]
    fields: EndpointFields,
    /// The signature algorithm; by default that of `secret`, or the server's default.
    signature_type: Option<SignatureType>,
    /// The signing secret; generated if absent.
    #[schema(value_type = Option<schemas::SecretText>)]
    secret: Option<String>,
}

/// A new operational endpoint.
#[derive(ToSchema)]
#[schema(
    rename_all = "camelCase",
    example = json!({"url": "https://hooks.slack.com/services/T0/B0/x", "chatFormat": "slack", "eventTypes": ["endpoint.disabled"]})
)]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(in crate::api) struct OperationalEndpointIn {
    #[serde(flatten)]
    endpoint: EndpointIn,
    #[serde(flatten)]
    chat: ChatFields,
}

/// A replacement of an operational endpoint.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"url": "https://example.com/hook", "eventTypes": ["endpoint.disabled"]}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(in crate::api) struct OperationalEndpointUpdate {
    #[serde(flatten)]
    endpoint: EndpointUpdate,
    #[serde(flatten)]
    chat: ChatFields,
}

/// The field that only operational endpoints have.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone: `read_chat` reads it")]
struct ChatFields {
    /// The chat system, if `url` is the incoming webhook of a channel: events are posted as text with a link, unsigned,
    /// by default one a second. The URL is then a secret: only its origin is returned. Cannot be changed later.
    chat_format: Option<ChatFormat>,
}

/// A partial update of an endpoint.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"disabled": true}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(in crate::api) struct EndpointPatch {
    #[schema(value_type = schemas::EndpointUrl, required = false)]
    url: String,
    /// While disabled, nothing is sent and pending deliveries wait.
    #[schema(nullable = false)]
    disabled: Option<bool>,
    #[serde(flatten)]
    fields: EndpointFields,
}

/// The effect of a body: create, replace or update.
pub(in crate::api) enum WriteMode<'a> {
    New,
    Replace(&'a EndpointSpec),
    Patch(&'a EndpointSpec),
}

impl WriteMode<'_> {
    /// The values of absent fields. A replacement keeps fields that only Sendoff has: clients that do not know them
    /// would clear them.
    fn base(&self) -> EndpointSpec {
        match *self {
            WriteMode::New => EndpointSpec::default(),
            WriteMode::Patch(before) => before.clone(),
            WriteMode::Replace(before) => EndpointSpec {
                timeout: before.timeout,
                retry_schedule: before.retry_schedule.clone(),
                ordered: before.ordered,
                signature_type: before.signature_type,
                // The masked URL, until the body replaces it.
                url: before.chat.as_ref().map(|_| before.url.clone()).unwrap_or_default(),
                chat: before.chat.clone(),
                extra_signatures: before.extra_signatures.clone(),
                headers: before.headers.clone(),
                ..EndpointSpec::default()
            },
        }
    }

    fn existing(&self) -> Option<&EndpointSpec> {
        match self {
            WriteMode::New => None,
            WriteMode::Replace(before) | WriteMode::Patch(before) => Some(before),
        }
    }
}

/// Applies the body. The second value is the secret of a new endpoint, if given.
pub(in crate::api) async fn read(
    call: &ApiCall,
    mut fields: Fields<'_>,
    what: WriteMode<'_>,
    uid: Option<&Uid>,
) -> Result<(EndpointSpec, Option<Secret>), ApiError> {
    let mut spec = what.base();
    spec.uid = spec.uid.or(uid.cloned());
    if matches!(what, WriteMode::Patch(_)) {
        fields.not_null("url");
        fields.not_null("disabled");
    } else {
        fields.require("url");
    }
    // Only operational endpoints have no application in their path.
    if call.request().match_info().get("app").is_none() {
        read_chat(&mut fields, &mut spec, what.existing());
    }
    fill(&mut fields, &mut spec);
    let headers_given = !matches!(fields.raw("headers"), FieldValue::Absent);
    if what.existing().is_some_and(|before| origin_changed(&before.url, &spec.url)) && !headers_given {
        spec.headers.retain(|name, _| !masked_header(name));
    }
    let secret = read_signing(&mut fields, &mut spec, what.existing(), call.signature_type());
    if let Err(wrong) = endpoints::check_url(call.egress(), spec.request_url(), what.existing()).await {
        fields.note(wrong);
    }
    fields.done(spec.check())?;
    let before = what.existing().and_then(|before| before.event_types.as_deref());
    check_visible(call, spec.event_types.as_deref(), before).await?;
    Ok((spec, secret))
}

/// `eventTypes`, or its deprecated name `filterTypes`.
fn event_types(fields: &mut Fields<'_>) -> FieldValue<Vec<String>> {
    let most = limits::EVENT_TYPES;
    let (new, old) = (fields.names("eventTypes", most), fields.names("filterTypes", most));
    let mut wrong = Vec::new();
    let taken = new.or_checked(old, |old| check_filter("filterTypes", Some(&old), most, ids::event_type, &mut wrong));
    wrong.into_iter().for_each(|wrong| fields.note(wrong));
    taken
}

fn fill(fields: &mut Fields<'_>, spec: &mut EndpointSpec) {
    let mut url = spec.url.clone();
    fields.text("url").apply_or_default(&mut url);
    spec.set_url(url);
    fields.parsed("uid", |text| Uid::parse("uid", text, EndpointId::PREFIX)).apply(&mut spec.uid);
    fields.text("description").apply_or_default(&mut spec.description);
    fields.flag("disabled").apply_or_default(&mut spec.disabled);
    event_types(fields).apply(&mut spec.event_types);
    fields.names("channels", limits::ENDPOINT_CHANNELS).apply(&mut spec.channels);
    throttle_rate(fields).apply(&mut spec.throttle_rate);
    fields.take("metadata", "an object of strings").apply_or_default(&mut spec.metadata);
    fields.take("headers", "an object of strings").apply_or_default(&mut spec.headers);
    let whole = |text: &str| {
        serde_json::from_str(text)
            .map(Duration::from_secs)
            .map_err(|_| "must be a whole number from 1 to 30".to_owned())
    };
    fields.take_with("requestTimeoutSeconds", whole).apply(&mut spec.timeout);
    fields.take_with("retrySchedule", schedule).apply(&mut spec.retry_schedule);
    fields.flag("ordered").apply_or_default(&mut spec.ordered);
    fields.take_with("version", version).apply(&mut spec.version);
}

/// The chat system of an operational endpoint, set at creation.
fn read_chat(fields: &mut Fields<'_>, spec: &mut EndpointSpec, before: Option<&EndpointSpec>) {
    let wanted = fields.parsed("chatFormat", |word| {
        ChatFormat::from_word(word).ok_or_else(|| Invalid::new("chatFormat", "must be slack, teams or discord"))
    });
    let Some(wanted) = wanted.set() else { return };
    match before.map(|before| before.chat.as_ref().map(|hook| hook.format)) {
        None => {
            spec.chat = Some(ChatHook::new(wanted, String::new()));
            spec.throttle_rate = Some(ChatHook::RATE);
        }
        Some(now) if now == Some(wanted) => {}
        Some(now) => {
            let now = now.map_or("null", ChatFormat::word);
            let reason = format!("is {now} and cannot be changed: create another endpoint");
            fields.note(Invalid::new("chatFormat", reason));
        }
    }
}

fn version(text: &str) -> Result<u32, String> {
    let number: Option<i32> = serde_json::from_str(text).ok();
    let version = number.and_then(|number| u32::try_from(number).ok()).filter(|version| *version > 0);
    version.ok_or_else(|| format!("must be a whole number from 1 to {}", i32::MAX))
}

fn schedule(text: &str) -> Result<RetrySchedule, String> {
    const WHAT: &str = "must be a list of delays in seconds, e.g. [5, 300, 1800]";
    let numbers: Vec<f64> = serde_json::from_str(text).map_err(|_| WHAT.to_owned())?;
    let waits: Result<Vec<Duration>, _> = numbers.into_iter().map(Duration::try_from_secs_f64).collect();
    RetrySchedule::new("retrySchedule", waits.map_err(|_| WHAT.to_owned())?).map_err(|wrong| wrong.reason)
}

/// The signature algorithm is set at creation, and changes later only by rotating the secret.
fn read_signing(
    fields: &mut Fields<'_>,
    spec: &mut EndpointSpec,
    before: Option<&EndpointSpec>,
    usual: SignatureType,
) -> Option<Secret> {
    let wanted = fields.parsed("signatureType", |word| {
        SignatureType::from_word(word).ok_or_else(|| Invalid::new("signatureType", "must be hmac256 or ed25519"))
    });
    let wanted = wanted.set();
    let secret = match before {
        None => fields.parsed("secret", |text| Secret::parse("secret", text)).set(),
        Some(before) => {
            if wanted.is_some_and(|wanted| wanted != before.signature_type) {
                let reason =
                    format!("is {} and cannot be changed: create another endpoint", before.signature_type.word());
                fields.note(Invalid::new("signatureType", reason));
            }
            if matches!(fields.raw("secret"), FieldValue::Set(_)) {
                fields.note(Invalid::new("secret", "cannot be changed here: use POST …/secret/rotate"));
            }
            None
        }
    };
    if before.is_none() {
        spec.signature_type = wanted.or(secret.as_ref().map(Secret::kind)).unwrap_or(usual);
    }
    if let Some(Err(wrong)) = secret.as_ref().map(|secret| secret.check_kind("secret", spec.signature_type)) {
        fields.note(wrong);
    }
    let extras = |text| {
        serde_json::from_str::<Vec<ExtraSignature>>(text).map_err(|error| {
            format!("must be a list such as [{{\"style\": \"github\", \"header\": \"X-Hub-Signature-256\"}}]: {error}")
        })
    };
    fields.take_with("extraSignatures", extras).apply_or_default(&mut spec.extra_signatures);
    secret
}
