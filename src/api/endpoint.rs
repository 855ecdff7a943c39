//! Endpoints over REST: where an application wants its events. Secrets and the endpoint's own headers go in and never come out
//! here.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::Number;
use url::Url;
use utoipa::ToSchema;

use super::application::same_uid;
use super::body::{Body, Field, Fields};
use super::call::{Call, json, nothing};
use super::errors::{Answer, ApiError};
use super::once::{Look, once};
use super::openapi::schemas::{self, Ordered, Paged};
use super::query::ListOut;
use crate::domain::application::Metadata;
use crate::domain::backoff::Schedule;
use crate::domain::endpoint::{DisabledReason, Endpoint, EndpointSpec};
use crate::domain::secret::{Secret, SignatureType};
use crate::domain::signature::ExtraSignature;
use crate::domain::{AppId, EndpointId, Invalid, Time, Uid};
use crate::store::endpoints::Updated;
use crate::store::{EndpointRef, Order};

/// An endpoint, as it is given out.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointOut<'a> {
    id: EndpointId,
    uid: Option<&'a Uid>,
    url: &'a str,
    description: &'a str,
    /// Nothing is sent while it is; what is pending waits.
    disabled: bool,
    #[schema(value_type = Option<DisabledReason>)]
    disabled_reason: Option<&'static str>,
    /// Which event types it wants; `null`: all.
    #[schema(value_type = Option<schemas::Names>)]
    event_types: Option<&'a [String]>,
    /// Which channels it listens to; `null`: all messages, whatever their channels.
    #[schema(value_type = Option<schemas::Channels>)]
    channels: Option<&'a [String]>,
    /// Messages a second; `null`: no limit.
    throttle_rate: Option<u16>,
    /// How long one attempt may take; `null`: as the server is set.
    request_timeout_seconds: Option<u64>,
    /// The waits between attempts in seconds; `null`: as the server is set.
    #[schema(value_type = Option<Vec<f64>>)]
    retry_schedule: Option<Vec<Number>>,
    #[schema(value_type = SignatureType)]
    signature_type: &'static str,
    extra_signatures: &'a [ExtraSignature],
    #[schema(value_type = schemas::Metadata)]
    metadata: &'a Metadata,
    created_at: Time,
    updated_at: Time,
    /// The old name of `eventTypes`.
    #[schema(value_type = Option<schemas::Names>)]
    filter_types: Option<&'a [String]>,
    /// The old name of `throttleRate`.
    rate_limit: Option<u16>,
    /// A number that was always 1.
    version: u8,
}

impl<'a> From<&'a Endpoint> for EndpointOut<'a> {
    fn from(endpoint: &'a Endpoint) -> EndpointOut<'a> {
        let spec = &endpoint.spec;
        let waits = spec.retry_schedule.as_ref().map(Schedule::waits);
        EndpointOut {
            id: endpoint.id,
            uid: spec.uid.as_ref(),
            url: &spec.url,
            description: &spec.description,
            disabled: spec.disabled,
            disabled_reason: endpoint.disabled_reason.map(|reason| reason.word()),
            event_types: spec.event_types.as_deref(),
            channels: spec.channels.as_deref(),
            throttle_rate: spec.throttle_rate,
            request_timeout_seconds: spec.timeout.map(|timeout| timeout.as_secs()),
            retry_schedule: waits.map(|waits| waits.iter().copied().filter_map(seconds).collect()),
            signature_type: spec.signature_type.word(),
            extra_signatures: &spec.extra_signatures,
            metadata: &spec.metadata,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
            filter_types: spec.event_types.as_deref(),
            rate_limit: spec.throttle_rate,
            version: 1,
        }
    }
}

/// Whole seconds as a whole number.
fn seconds(wait: Duration) -> Option<Number> {
    if wait.subsec_nanos() == 0 { Some(wait.as_secs().into()) } else { Number::from_f64(wait.as_secs_f64()) }
}

fn out(status: StatusCode, endpoint: &Endpoint) -> Answer {
    json(status, &EndpointOut::from(endpoint))
}

/// What every body about an endpoint may have.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone: `fill` reads it")]
struct EndpointFields {
    uid: Option<Uid>,
    description: Option<String>,
    /// Which event types it wants; `null`: all.
    #[schema(value_type = Option<schemas::Names>)]
    event_types: Option<Vec<String>>,
    /// Which channels it listens to, at most 10; `null`: all messages, whatever their channels.
    #[schema(value_type = Option<schemas::Channels>)]
    channels: Option<Vec<String>>,
    /// Messages a second; `null`: no limit.
    #[schema(minimum = 1, maximum = 65535)]
    throttle_rate: Option<u16>,
    #[schema(value_type = Option<schemas::Metadata>)]
    metadata: Option<Metadata>,
    /// Sent with each request, at most 50. The values may be secrets and are not given out.
    headers: Option<BTreeMap<String, String>>,
    /// How long one attempt may take; `null`: as the server is set.
    #[schema(minimum = 1, maximum = 30)]
    request_timeout_seconds: Option<u64>,
    /// The waits between attempts in seconds; `null`: as the server is set.
    #[schema(value_type = Option<Vec<f64>>, max_items = 20)]
    retry_schedule: Option<Vec<Number>>,
    extra_signatures: Option<Vec<ExtraSignature>>,
    /// The old name of `eventTypes`; it counts where that is absent.
    filter_types: Option<Vec<String>>,
    /// The old name of `throttleRate`; it counts where that is absent.
    #[schema(maximum = 65535)]
    rate_limit: Option<u16>,
}

/// An endpoint that replaces another.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"url": "https://example.com/hook", "eventTypes": ["invoice.paid"]}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(super) struct EndpointUpdate {
    #[schema(value_type = schemas::Url)]
    url: String,
    /// Nothing is sent while it is; what is pending waits.
    disabled: Option<bool>,
    #[serde(flatten)]
    fields: EndpointFields,
}

/// A new endpoint.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"url": "https://example.com/hook", "eventTypes": ["invoice.paid"]}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(super) struct EndpointIn {
    #[schema(value_type = schemas::Url)]
    url: String,
    /// Nothing is sent while it is; what is pending waits.
    disabled: Option<bool>,
    #[serde(flatten)]
    fields: EndpointFields,
    signature_type: Option<SignatureType>,
    /// What deliveries are signed with. It gets one of its own if nothing is said.
    #[schema(value_type = Option<schemas::SecretText>)]
    secret: Option<String>,
}

/// What is to change of an endpoint.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"disabled": true}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct EndpointPatch {
    #[schema(value_type = schemas::Url, required = false)]
    url: String,
    /// Nothing is sent while it is; what is pending waits.
    #[schema(nullable = false)]
    disabled: Option<bool>,
    #[serde(flatten)]
    fields: EndpointFields,
}

/// What a body is to: something new, all of something that exists, or parts of it.
enum For<'a> {
    New,
    Replace(&'a EndpointSpec),
    Patch(&'a EndpointSpec),
}

impl For<'_> {
    /// What holds where the body says nothing. Replacing keeps the uid and what only Sendoff knows: clients that know nothing of it
    /// would wipe it out.
    fn base(&self) -> EndpointSpec {
        match *self {
            For::New => EndpointSpec::default(),
            For::Patch(before) => before.clone(),
            For::Replace(before) => EndpointSpec {
                uid: before.uid.clone(),
                timeout: before.timeout,
                retry_schedule: before.retry_schedule.clone(),
                signature_type: before.signature_type,
                extra_signatures: before.extra_signatures.clone(),
                headers: before.headers.clone(),
                ..EndpointSpec::default()
            },
        }
    }

    fn existing(&self) -> Option<&EndpointSpec> {
        match self {
            For::New => None,
            For::Replace(before) | For::Patch(before) => Some(before),
        }
    }
}

/// Makes of what was before what the body says; with it comes the secret that a new endpoint is to have.
async fn read(
    call: &Call,
    mut fields: Fields<'_>,
    what: For<'_>,
    uid: Option<&Uid>,
) -> Result<(EndpointSpec, Option<Secret>), ApiError> {
    let mut spec = what.base();
    spec.uid = spec.uid.or(uid.cloned());
    if matches!(what, For::Patch(_)) {
        fields.not_null("url");
        fields.not_null("disabled");
    } else {
        fields.require("url");
    }
    fill(&mut fields, &mut spec);
    let secret = read_signing(&mut fields, &mut spec, what.existing());
    let known = what.existing().is_some_and(|before| before.url == spec.url);
    if !known && !spec.url.is_empty() {
        // One that was saved before is not looked up again: each attempt checks it anyhow.
        vet(call, &mut fields, &spec.url).await;
    }
    fields.done(spec.check())?;
    Ok((spec, secret))
}

fn fill(fields: &mut Fields<'_>, spec: &mut EndpointSpec) {
    fields.text("url").put_or_default(&mut spec.url);
    fields.parsed("uid", |text| Uid::parse("uid", text)).put(&mut spec.uid);
    fields.text("description").put_or_default(&mut spec.description);
    fields.flag("disabled").put_or_default(&mut spec.disabled);
    fields.list("eventTypes").or(fields.list("filterTypes")).put(&mut spec.event_types);
    fields.list("channels").put(&mut spec.channels);
    let rate = "a whole number from 1 to 65535";
    fields.take("throttleRate", rate).or(fields.take("rateLimit", rate)).put(&mut spec.throttle_rate);
    fields.take("metadata", "an object of strings").put_or_default(&mut spec.metadata);
    fields.take("headers", "an object of strings").put_or_default(&mut spec.headers);
    let whole = |text: &str| {
        serde_json::from_str(text)
            .map(Duration::from_secs)
            .map_err(|_| "must be a whole number from 1 to 30".to_owned())
    };
    fields.take_with("requestTimeoutSeconds", whole).put(&mut spec.timeout);
    fields.take_with("retrySchedule", schedule).put(&mut spec.retry_schedule);
    fields.unsupported("ordered", &["false"]);
    fields.unsupported("version", &["1"]);
}

fn schedule(text: &str) -> Result<Schedule, String> {
    const WHAT: &str = "must be a list of waits in seconds, e.g. [5, 300, 1800]";
    let numbers: Vec<f64> = serde_json::from_str(text).map_err(|_| WHAT.to_owned())?;
    let waits: Result<Vec<Duration>, _> = numbers.into_iter().map(Duration::try_from_secs_f64).collect();
    Schedule::new("retrySchedule", waits.map_err(|_| WHAT.to_owned())?).map_err(|wrong| wrong.reason)
}

/// How it signs is decided once, when it is made; later only the secret changes, by rotation.
fn read_signing(fields: &mut Fields<'_>, spec: &mut EndpointSpec, before: Option<&EndpointSpec>) -> Option<Secret> {
    let wanted = fields.parsed("signatureType", |word| {
        SignatureType::from_word(word).ok_or_else(|| Invalid::new("signatureType", "must be hmac256 or ed25519"))
    });
    let wanted = wanted.set();
    let secret = match before {
        None => fields.parsed("secret", |text| Secret::parse("secret", text)).set(),
        Some(before) => {
            if wanted.is_some_and(|wanted| wanted != before.signature_type) {
                let reason = format!("is {} and stays so: make another endpoint", before.signature_type.word());
                fields.note(Invalid::new("signatureType", reason));
            }
            if matches!(fields.raw("secret"), Field::Set(_)) {
                fields.note(Invalid::new("secret", "is changed by POST …/secret/rotate"));
            }
            None
        }
    };
    if before.is_none() {
        spec.signature_type = wanted.or(secret.as_ref().map(Secret::kind)).unwrap_or_default();
    }
    if let Some(wrong) = secret.as_ref().and_then(|secret| mismatch("secret", secret, spec.signature_type)) {
        fields.note(wrong);
    }
    let extras = |text| {
        serde_json::from_str::<Vec<ExtraSignature>>(text).map_err(|error| {
            format!("must be a list such as [{{\"style\": \"github\", \"header\": \"X-Hub-Signature-256\"}}]: {error}")
        })
    };
    fields.take_with("extraSignatures", extras).put_or_default(&mut spec.extra_signatures);
    secret
}

/// What is wrong if `secret`, given as `field`, is none for endpoints that sign by `kind`.
pub(super) fn mismatch(field: &str, secret: &Secret, kind: SignatureType) -> Option<Invalid> {
    let begins = match kind {
        SignatureType::Hmac256 => "whsec_",
        SignatureType::Ed25519 => "whsk_",
    };
    let reason = format!("must begin with {begins}, as the endpoint's signatureType is {}", kind.word());
    (secret.kind() != kind).then(|| Invalid::new(field, reason))
}

/// Nothing is sent to a disabled endpoint: what would wait there is better not asked for.
///
/// # Errors
/// 422: it is disabled.
pub(super) fn must_be_enabled(endpoint: &Endpoint) -> Result<(), ApiError> {
    let reason = "is disabled, so nothing would be sent: enable it first";
    if endpoint.spec.disabled { Err(ApiError::path("endpoint_id", Invalid::new("endpoint", reason))) } else { Ok(()) }
}

async fn vet(call: &Call, fields: &mut Fields<'_>, url: &str) {
    let wrong = match Url::parse(url) {
        Err(error) => Some(Invalid::new("url", format!("is not an absolute URL: {error}"))),
        Ok(url) => call.egress().vet(&url).await.err(),
    };
    if let Some(wrong) = wrong {
        fields.note(wrong);
    }
}

/// Create an endpoint
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint", request_body = EndpointIn,
    responses(
        (status = 201, description = "It was made.", body = EndpointOut),
        (status = 409, description = "Another endpoint of the application has this uid."),
    )
)]
pub(super) async fn create(call: Call, body: Body) -> Answer {
    let app = call.app().await?.id;
    let act = async |call: &Call| make(call, app, body.fields()?, None).await;
    let again = async |call: &Call, made: &str| {
        let missing = || ApiError::not_found("endpoint");
        let named = EndpointRef::parse(made).map_err(|_| missing())?;
        let endpoint = call.store().endpoint(&call.tenant, app, &named).await?;
        out(StatusCode::CREATED, &endpoint.ok_or_else(missing)?)
    };
    once(call, body.bytes(), Look::First, act, again).await
}

async fn make(call: &Call, app: AppId, fields: Fields<'_>, path: Option<&Uid>) -> Answer {
    let (spec, secret) = read(call, fields, For::New, path).await?;
    if let Some(path) = path {
        same_uid(spec.uid.as_ref(), path)?;
    }
    let secret = secret.unwrap_or_else(|| Secret::generate(spec.signature_type));
    let endpoint = call.store().create_endpoint(&call.tenant, app, spec, &secret, call.now).await?;
    out(StatusCode::CREATED, &endpoint)
}

/// Read an endpoint
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}",
    responses((status = 200, description = "The endpoint.", body = EndpointOut))
)]
pub(super) async fn read_one(call: Call) -> Answer {
    let app = call.app().await?;
    out(StatusCode::OK, &call.endpoint(app.id).await?)
}

/// List endpoints
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint", params(Paged, Ordered),
    responses((status = 200, description = "A page of them.", body = ListOut<EndpointOut>))
)]
pub(super) async fn list(call: Call) -> Answer {
    let app = call.app().await?;
    let request = call.query().page::<EndpointId>(Order::Ascending, true)?;
    let page = call.store().endpoints(&call.tenant, app.id, &request).await?;
    json(StatusCode::OK, &ListOut::of(&page, &request, |endpoint| endpoint.id, EndpointOut::from))
}

/// Replace an endpoint
///
/// Makes a new one where the path has a uid that there is not. The uid stays unless the body names another or `null`, and so does what only
/// Sendoff knows (timeout, schedule, signatures, headers). How it signs stays as it is: the secret changes by rotation.
#[utoipa::path(
    put, path = "/app/{app_id}/endpoint/{endpoint_id}", request_body = EndpointUpdate,
    responses(
        (status = 200, description = "It was replaced.", body = EndpointOut),
        (status = 201, description = "It was made.", body = EndpointOut),
        (status = 409, description = "Another endpoint of the application has this uid."),
    )
)]
pub(super) async fn put(call: Call, body: Body) -> Answer {
    let app = call.app().await?;
    let named = EndpointRef::parse(call.part("endpoint")).map_err(|wrong| ApiError::path("endpoint_id", wrong))?;
    match (call.store().endpoint(&call.tenant, app.id, &named).await?, named) {
        (Some(before), _) => change(&call, &body, before, |before| For::Replace(before)).await,
        (None, EndpointRef::Uid(uid)) => make(&call, app.id, body.fields()?, Some(&uid)).await,
        (None, EndpointRef::Id(_)) => Err(ApiError::not_found("endpoint")),
    }
}

/// Change an endpoint
#[utoipa::path(
    patch, path = "/app/{app_id}/endpoint/{endpoint_id}", request_body = EndpointPatch,
    responses(
        (status = 200, description = "It was changed.", body = EndpointOut),
        (status = 409, description = "Another endpoint of the application has this uid."),
    )
)]
pub(super) async fn patch(call: Call, body: Body) -> Answer {
    let app = call.app().await?;
    let before = call.endpoint(app.id).await?;
    change(&call, &body, before, |before| For::Patch(before)).await
}

/// How often a change is worked out anew because the endpoint has changed meanwhile.
const TRIES: usize = 8;

/// Makes of `before` what the body says; if that is no longer what the endpoint is, of what it is by then.
async fn change(call: &Call, body: &Body, mut before: Endpoint, what: fn(&EndpointSpec) -> For<'_>) -> Answer {
    let missing = || ApiError::not_found("endpoint");
    for _ in 0..TRIES {
        let (spec, _) = read(call, body.fields()?, what(&before.spec), None).await?;
        match call.store().update_endpoint(&call.tenant, &before, spec, call.now).await? {
            Updated::Done(endpoint) => return out(StatusCode::OK, &endpoint),
            Updated::Gone => return Err(missing()),
            Updated::Stale => {
                let found = call.store().endpoint(&call.tenant, before.app_id, &before.id.into()).await?;
                before = found.ok_or_else(missing)?;
            }
        }
    }
    Err(ApiError::conflict("the endpoint is being changed by others all the time: try again in a moment"))
}

/// Delete an endpoint
///
/// What was pending for it is not sent any more.
#[utoipa::path(delete, path = "/app/{app_id}/endpoint/{endpoint_id}", responses((status = 204, description = "It is gone.")))]
pub(super) async fn delete(call: Call) -> Answer {
    let app = call.app().await?;
    let endpoint = call.endpoint(app.id).await?;
    match call.store().delete_endpoint(&call.tenant, app.id, endpoint.id, call.now).await? {
        true => nothing(),
        false => Err(ApiError::not_found("endpoint")),
    }
}
