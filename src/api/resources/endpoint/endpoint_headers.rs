//! Custom headers of an endpoint. Values may be secrets and are write-only: responses contain the names of
//! [masked](masked_header) headers, and the values of a few harmless ones.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::http::body::JsonBody;
use crate::api::http::errors::ApiResult;
use crate::api::http::request::{ApiCall, json, no_content_if};
use crate::api::openapi::schemas;
use crate::domain::catalog::endpoint::{HeaderChange, Headers, check_headers, masked_header};
use crate::domain::{Invalid, limits};

/// The headers of an endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointHeadersOut)]
pub(in crate::api) struct HeadersOut<'a> {
    #[schema(value_type = BTreeMap<String, String>)]
    headers: BTreeMap<&'a str, &'a str>,
    /// The names of headers whose values are hidden.
    sensitive: Vec<&'a str>,
}

/// The complete headers of an endpoint.
#[derive(ToSchema)]
#[schema(example = json!({"headers": {"x-team": "billing"}}))]
#[expect(dead_code, reason = "for the document alone: `put` reads it")]
pub(in crate::api) struct EndpointHeadersIn {
    /// At most 50, and 8 KiB in total. Headers that Sendoff sets are not allowed.
    #[schema(value_type = schemas::EndpointHeaders)]
    headers: BTreeMap<String, String>,
}

/// Changes of an endpoint's headers. At least one of the two fields is required.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"headers": {"x-team": "sales", "x-old": null}}))]
#[expect(dead_code, reason = "for the document alone: `patch` reads it")]
struct EndpointHeadersPatchIn {
    /// Headers to set; `null` removes a header.
    #[schema(value_type = Option<schemas::HeaderChanges>)]
    headers: Option<BTreeMap<String, Option<String>>>,
    /// Names of headers to remove.
    #[schema(value_type = Option<schemas::HeaderNames>)]
    delete_headers: Option<Vec<String>>,
}

/// Retrieve an endpoint's headers
///
/// Retrieves the custom headers of an endpoint. Values that may be secrets are hidden; `sensitive` lists their names.
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", responses((status = 200, body = HeadersOut))
)]
pub(in crate::api) async fn read(call: ApiCall) -> ApiResult {
    let endpoint = call.endpoint().await?;
    let all = endpoint.spec.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let (kept_back, shown): (Vec<_>, Vec<_>) = all.partition(|(name, _)| masked_header(name));
    let sensitive = kept_back.into_iter().map(|(name, _)| name).collect();
    json(StatusCode::OK, &HeadersOut { headers: shown.into_iter().collect(), sensitive })
}

/// Replace an endpoint's headers
///
/// Replaces all custom headers of an endpoint.
#[utoipa::path(
    put, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", request_body = EndpointHeadersIn,
    responses((status = 204))
)]
pub(in crate::api) async fn put(call: ApiCall, body: JsonBody) -> ApiResult {
    let mut fields = body.fields()?;
    fields.require("headers");
    let headers: Headers = fields.take("headers", "an object of strings").set().unwrap_or_default();
    fields.done(check_headers(&headers))?;
    change(&call, HeaderChange::Replace(headers)).await
}

/// Update an endpoint's headers
///
/// Sets some custom headers and removes others: those that are `null` and those in `deleteHeaders`.
#[utoipa::path(
    patch, path = "/app/{app_id}/endpoint/{endpoint_id}/headers", request_body = EndpointHeadersPatchIn,
    responses((status = 204))
)]
pub(in crate::api) async fn patch(call: ApiCall, body: JsonBody) -> ApiResult {
    let mut fields = body.fields()?;
    let delete = fields.list("deleteHeaders").set();
    if delete.is_none() {
        fields.require("headers");
    }
    let mut delete = delete.unwrap_or_default();
    let given = fields.take::<BTreeMap<String, Option<String>>>("headers", "an object of strings and nulls").set();
    let most = limits::HEADERS;
    let too_many = |field: &'static str| Invalid::new(field, format!("may have at most {most} entries"));
    if delete.len() > most {
        fields.note(too_many("deleteHeaders"));
        delete.clear();
    }
    if delete.iter().any(|name| name.len() > limits::NAME) {
        fields.note(Invalid::new("deleteHeaders", format!("may have names of at most {} characters", limits::NAME)));
    }
    let given = given.unwrap_or_default();
    if given.len() > most {
        fields.note(too_many("headers"));
    }
    let mut set = Headers::new();
    for (name, value) in given.into_iter().take(most) {
        match value {
            Some(_) if delete.iter().any(|other| other.eq_ignore_ascii_case(&name)) => {
                fields.note(Invalid::new("deleteHeaders", format!("header {name:?} is also in headers")));
            }
            Some(value) => drop(set.insert(name, value)),
            None => delete.push(name),
        }
    }
    fields.done(check_headers(&set))?;
    change(&call, HeaderChange::Merge { set, delete }).await
}

async fn change(call: &ApiCall, change: HeaderChange) -> ApiResult {
    let endpoint = call.endpoint().await?;
    let changed = call.store().change_headers(&call.tenant, endpoint.app_id, endpoint.id, &change, call.now).await?;
    no_content_if(changed, "endpoint")
}
