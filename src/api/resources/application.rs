//! Applications: one for each customer.

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::http::body::{FieldValue, Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::field_error::FieldError;
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::query::ListOut;
use crate::api::http::request::{ApiCall, change_result, json, no_content_if, require};
use crate::api::openapi::schemas;
use crate::api::openapi::schemas::{OrderParams, PageParams};
use crate::api::resources::create_or_replace;
use crate::domain::catalog::application::{Application, ApplicationSpec, Metadata, check_rate};
use crate::domain::{AppId, Invalid, Time, Uid};
use crate::store::{AppRef, Order, StoreError};

/// An application.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ApplicationOut<'a> {
    id: AppId,
    uid: Option<&'a Uid>,
    name: &'a str,
    /// Maximum messages per second to all endpoints together; `null`: no limit.
    throttle_rate: Option<u16>,
    /// Deprecated name of `throttleRate`.
    rate_limit: Option<u16>,
    #[schema(value_type = schemas::MetadataPairs)]
    metadata: &'a Metadata,
    /// The address to notify when an endpoint is disabled.
    contact_email: Option<&'a str>,
    created_at: Time,
    updated_at: Time,
}

impl<'a> From<&'a Application> for ApplicationOut<'a> {
    fn from(app: &'a Application) -> ApplicationOut<'a> {
        ApplicationOut {
            id: app.id,
            uid: app.uid.as_ref(),
            name: &app.name,
            throttle_rate: app.throttle_rate,
            rate_limit: app.throttle_rate,
            metadata: &app.metadata,
            contact_email: app.contact_email.as_deref(),
            created_at: app.created_at,
            updated_at: app.updated_at,
        }
    }
}

fn out(status: StatusCode, app: &Application) -> ApiResult {
    json(status, &ApplicationOut::from(app))
}

/// The fields of every application body.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct ApplicationFields {
    uid: Option<Uid>,
    /// Maximum messages per second to all endpoints together; `null`: no limit.
    #[schema(minimum = 1, maximum = 65535)]
    throttle_rate: Option<u16>,
    /// Deprecated name of `throttleRate`; ignored if that is present.
    #[schema(minimum = 1, maximum = 65535)]
    rate_limit: Option<u16>,
    #[schema(value_type = Option<schemas::MetadataPairs>)]
    metadata: Option<Metadata>,
    /// The address to notify when an endpoint is disabled.
    #[schema(max_length = 254)]
    contact_email: Option<String>,
}

/// A new application, or a replacement.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"name": "Acme", "uid": "acme", "metadata": {"plan": "pro"}}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
pub(in crate::api) struct ApplicationIn {
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    #[serde(flatten)]
    fields: ApplicationFields,
}

/// A partial update of an application.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"throttleRate": 50}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct ApplicationPatch {
    #[schema(min_length = 1, max_length = 256, nullable = false)]
    name: Option<String>,
    #[serde(flatten)]
    fields: ApplicationFields,
}

/// `throttleRate`, or its deprecated name `rateLimit`.
pub(in crate::api) fn throttle_rate(fields: &mut Fields<'_>) -> FieldValue<u16> {
    let rate = "a whole number from 1 to 65535";
    let (new, old) = (fields.take("throttleRate", rate), fields.take("rateLimit", rate));
    let mut wrong = Vec::new();
    let taken = new.or_checked(old, |old| check_rate("rateLimit", Some(old), &mut wrong));
    wrong.into_iter().for_each(|wrong| fields.note(wrong));
    taken
}

/// Applies the body to `base`. With `whole`, required fields must be present.
pub(in crate::api) fn read(
    mut fields: Fields<'_>,
    base: ApplicationSpec,
    whole: bool,
) -> Result<ApplicationSpec, ApiError> {
    let mut spec = base;
    fields.require_if(whole, "name");
    fields.text("name").apply_or_default(&mut spec.name);
    fields.parsed("uid", |text| Uid::parse("uid", text, AppId::PREFIX)).apply(&mut spec.uid);
    throttle_rate(&mut fields).apply(&mut spec.throttle_rate);
    fields.take("metadata", "an object of strings").apply_or_default(&mut spec.metadata);
    fields.text("contactEmail").apply(&mut spec.contact_email);
    fields.done(spec.check())?;
    Ok(spec)
}

/// Reads the `application` in another operation's body. It must contain its uid: the uid in the path, if the path has
/// one.
pub(in crate::api) fn read_for_path(mut fields: Fields<'_>, named: &AppRef) -> Result<ApplicationSpec, ApiError> {
    fields.require("uid");
    let spec = read(fields, ApplicationSpec::default(), true)?;
    match named {
        AppRef::Uid(uid) if spec.uid.as_ref() != Some(uid) => {
            Err(ApiError::invalid(vec![FieldError::from(uid_mismatch(uid)).within("application")]))
        }
        _ => Ok(spec),
    }
}

/// The application in the path, created from `spec` if it does not exist.
///
/// # Errors
/// 404: it does not exist and there is no `spec`, or the path has an id, which is never created.
pub(in crate::api) async fn get_or_create(
    call: &ApiCall,
    named: &AppRef,
    spec: Option<ApplicationSpec>,
) -> Result<Application, ApiError> {
    let find = async || call.plain_store().application(&call.tenant, named).await;
    if let Some(app) = find().await? {
        return Ok(app);
    }
    let (AppRef::Uid(_), Some(spec)) = (named, spec) else { return Err(ApiError::not_found("application")) };
    match call.plain_store().create_application(&call.tenant, spec, call.now).await {
        // A concurrent request created it.
        Err(StoreError::Taken(what)) => find().await?.ok_or_else(|| StoreError::Taken(what).into()),
        made => Ok(made?),
    }
}

/// Create an application
///
/// Creates an application.
#[utoipa::path(
    post, path = "/app", request_body = ApplicationIn,
    params(
        ("get_if_exists" = Option<bool>, Query, description = "Return the existing application with this uid instead of a conflict."),
    ),
    responses((status = 200, body = ApplicationOut), (status = 201, body = ApplicationOut))
)]
pub(in crate::api) async fn create(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    idempotent(call, body.bytes(), KeyLookup::Eager, async |call| make(call, &body).await, again).await
}

/// The response to a repeated request.
async fn again(call: &ApiCall, made: &str) -> ApiResult {
    let named = AppRef::parse(made).map_err(|_| ApiError::not_found("application"))?;
    let app = call.store().application(&call.tenant, &named).await?;
    out(StatusCode::CREATED, &require(app, "application")?)
}

async fn make(call: &ApiCall, body: &JsonBody) -> ApiResult {
    let get = call.query().flag("get_if_exists", false)?;
    let spec = read(body.fields()?, ApplicationSpec::default(), true)?;
    let named = spec.uid.clone().filter(|_| get).map(AppRef::Uid);
    if let Some(named) = &named
        && let Some(app) = call.store().application(&call.tenant, named).await?
    {
        return out(StatusCode::OK, &app);
    }
    match (call.store().create_application(&call.tenant, spec, call.now).await, named) {
        (Ok(app), _) => out(StatusCode::CREATED, &app),
        // A concurrent request created it.
        (Err(StoreError::Taken(what)), Some(named)) => match call.store().application(&call.tenant, &named).await? {
            Some(app) => out(StatusCode::OK, &app),
            None => Err(StoreError::Taken(what).into()),
        },
        (Err(error), _) => Err(error.into()),
    }
}

/// Retrieve an application
///
/// Retrieves an application by its id or uid.
#[utoipa::path(get, path = "/app/{app_id}", responses((status = 200, body = ApplicationOut)))]
pub(in crate::api) async fn read_one(call: ApiCall) -> ApiResult {
    out(StatusCode::OK, &call.app().await?)
}

/// List applications
///
/// Lists all applications of the organization, oldest first by default.
#[utoipa::path(
    get, path = "/app", params(PageParams, OrderParams), responses((status = 200, body = ListOut<ApplicationOut>))
)]
pub(in crate::api) async fn list(call: ApiCall) -> ApiResult {
    call.require_organization()?;
    let query = call.query();
    for unknown in ["no_endpoints", "disabled_endpoints", "svix_play_endpoints"] {
        query.unsupported(&format!("exclude_apps_with_{unknown}"), "false")?;
    }
    let request = query.page::<AppId>(Order::Ascending, true)?;
    let page = call.store().applications(&call.tenant, &request).await?;
    json(StatusCode::OK, &ListOut::of(&page, &request, |app| app.id, ApplicationOut::from)?)
}

/// Replace an application
///
/// Replaces all fields, or creates the application if the path has a uid that does not exist. If the body has no `uid`,
/// an application addressed by its id loses its uid, and one addressed by its uid keeps it. An absent `contactEmail`,
/// which other servers do not know, stays unchanged.
#[utoipa::path(
    put, path = "/app/{app_id}", request_body = ApplicationIn,
    responses((status = 200, body = ApplicationOut), (status = 201, body = ApplicationOut))
)]
pub(in crate::api) async fn put(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    let named = AppRef::parse(call.path_param("app")).map_err(|wrong| ApiError::path("app_id", wrong))?;
    let uid = named.uid();
    let find = async || call.store().application(&call.tenant, &named).await;
    let create = async |uid: &Uid| {
        let base = ApplicationSpec { uid: Some(uid.clone()), ..ApplicationSpec::default() };
        let spec = read(body.fields()?, base, true)?;
        check_uid(spec.uid.as_ref(), uid)?;
        out(StatusCode::CREATED, &call.store().create_application(&call.tenant, spec, call.now).await?)
    };
    let replace = async |before: Application| {
        let work = |before: &Application| {
            let contact_email = before.contact_email.clone();
            let base = ApplicationSpec { uid: uid.cloned(), contact_email, ..ApplicationSpec::default() };
            read(body.fields()?, base, true)
        };
        change(&call, before.id, work).await
    };
    create_or_replace("application", uid, find, create, replace).await
}

/// Rejects a body whose uid differs from the path: repeating the PUT would create another resource.
pub(in crate::api) fn check_uid(given: Option<&Uid>, path: &Uid) -> Result<(), ApiError> {
    if given == Some(path) {
        return Ok(());
    }
    Err(vec![uid_mismatch(path)].into())
}

fn uid_mismatch(path: &Uid) -> Invalid {
    Invalid::new("uid", format!("must be the uid in the path, {path}"))
}

/// Update an application
///
/// Updates the fields in the body and leaves all others unchanged.
#[utoipa::path(
    patch, path = "/app/{app_id}", request_body = ApplicationPatch, responses((status = 200, body = ApplicationOut))
)]
pub(in crate::api) async fn patch(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    let id = call.app().await?.id;
    change(&call, id, |before| read(body.fields()?, before.spec(), false)).await
}

async fn change(
    call: &ApiCall,
    id: AppId,
    work: impl Fn(&Application) -> Result<ApplicationSpec, ApiError>,
) -> ApiResult {
    let changed = call.store().update_application(&call.tenant, id, work, call.now).await?;
    out(StatusCode::OK, &change_result(changed, "application")?)
}

/// Delete an application
///
/// Deletes an application and everything it owns: endpoints, messages and attempts.
#[utoipa::path(delete, path = "/app/{app_id}", responses((status = 204)))]
pub(in crate::api) async fn delete(call: ApiCall) -> ApiResult {
    call.require_organization()?;
    let app = call.app().await?;
    let deleted = call.store().delete_application(&call.tenant, app.id, call.now).await?;
    no_content_if(deleted, "application")
}
