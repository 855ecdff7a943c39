//! Development endpoints: a listener (`sendoff listen`) fetches messages, forwards them to a program on the same
//! machine and reports each response. The dashboard and the portal show the reports.

use std::time::Duration;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::http::body::{Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, json, require};
use crate::api::openapi::schemas;
use crate::domain::catalog::development::{DevelopmentEndpoint, LocalResponse, check_listener, display_url};
use crate::domain::{Invalid, MessageId, Time};
use crate::store::feed::development_endpoints::ReportResult;

/// A development endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DevelopmentEndpointOut<'a> {
    /// The name of the listener.
    #[schema(value_type = schemas::NameText)]
    name: &'a str,
    /// The URL of the program, without credentials and query.
    #[schema(value_type = schemas::EndpointUrl)]
    url: &'a str,
    created_at: Time,
    /// An hour after the last report, the development endpoint is deleted.
    expires_at: Time,
}

impl<'a> From<&'a DevelopmentEndpoint> for DevelopmentEndpointOut<'a> {
    fn from(endpoint: &'a DevelopmentEndpoint) -> DevelopmentEndpointOut<'a> {
        DevelopmentEndpointOut {
            name: &endpoint.name,
            url: &endpoint.url,
            created_at: endpoint.created_at,
            expires_at: endpoint.expires_at(),
        }
    }
}

/// A listener's report.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"url": "http://localhost:3000/hooks", "attempt": {"msgId": "msg_01kapvcrj2e8zvm4h6x0c5w9nd", "responseStatusCode": 200, "responseDurationMs": 4}}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct DevelopmentReportIn {
    /// The URL of the program that gets the messages. Private addresses are allowed, because the server sends nothing
    /// to it.
    #[schema(value_type = schemas::EndpointUrl)]
    url: String,
    /// The response to a forwarded message. Without it, the report only renews the development endpoint.
    attempt: Option<LocalAttemptIn>,
}

/// The response of the program to a forwarded message.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "for the document alone: `read_attempt` reads it")]
struct LocalAttemptIn {
    msg_id: MessageId,
    /// 0: there was no response.
    #[schema(minimum = 0, maximum = 599)]
    response_status_code: u16,
    #[schema(minimum = 0, maximum = 3_600_000)]
    response_duration_ms: u32,
    /// The beginning of the response body, at most 16 KiB.
    #[schema(max_length = 16_384)]
    response: Option<String>,
    /// The reason that there was no response.
    #[schema(max_length = 256)]
    error: Option<String>,
}

/// Report a local response
///
/// Creates or renews a listener's development endpoint, and records how the program responded to a message. The report
/// is shown on the dashboard and in the portal. It does not affect deliveries, counts or health. An application has at
/// most 20 development endpoints with 200 attempts each; beyond that, a new one replaces the oldest.
#[utoipa::path(
    post, path = "/app/{app_id}/development-endpoint/{listener_id}", request_body = DevelopmentReportIn,
    responses((status = 200, body = DevelopmentEndpointOut))
)]
pub(in crate::api) async fn report(call: ApiCall, body: JsonBody) -> ApiResult {
    let app = call.app().await?.id;
    let listener = call.path_param("listener").to_owned();
    check_listener(&listener).map_err(|wrong| ApiError::path("listener_id", wrong))?;
    let act = async |call: &ApiCall| {
        let (url, attempt) = read(body.fields()?)?;
        let (about, kept_since) = ((app, listener.as_str(), url.as_str()), call.now.minus(call.retention()));
        let store = call.store();
        match store.report_local_attempt(&call.tenant, about, attempt.as_ref(), kept_since, call.now).await? {
            ReportResult::Reported(endpoint) => json(StatusCode::OK, &DevelopmentEndpointOut::from(&endpoint)),
            ReportResult::NotFound => Err(ApiError::not_found("application")),
            ReportResult::NoMessage => Err(ApiError::not_found("message")),
        }
    };
    let again = async |call: &ApiCall, _: &str| {
        let all = call.store().development_endpoints(&call.tenant, app, call.now).await?;
        let found = all.iter().find(|one| one.name == listener);
        json(StatusCode::OK, &DevelopmentEndpointOut::from(require(found, "development endpoint")?))
    };
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

fn read(mut fields: Fields<'_>) -> Result<(String, Option<(MessageId, LocalResponse)>), ApiError> {
    fields.require("url");
    let url = fields.parsed("url", display_url).set().unwrap_or_default();
    let attempt = match fields.object("attempt").set() {
        None => None,
        Some(inner) => fields.nested(read_attempt(inner))?,
    };
    fields.done(Ok(()))?;
    Ok((url, attempt))
}

fn read_attempt(mut fields: Fields<'_>) -> Result<(MessageId, LocalResponse), ApiError> {
    fields.require("msgId");
    fields.require("responseStatusCode");
    fields.require("responseDurationMs");
    let message = fields.parsed("msgId", |text| {
        text.parse::<MessageId>().map_err(|_| Invalid::new("msgId", "must be the id of a message"))
    });
    let status = fields.take::<u16>("responseStatusCode", "a whole number").set().unwrap_or_default();
    let millis = fields.take::<u64>("responseDurationMs", "a whole number").set().unwrap_or_default();
    let response = LocalResponse {
        status: Some(status).filter(|status| *status != 0),
        duration: Duration::from_millis(millis),
        body: fields.text("response").set().unwrap_or_default(),
        error: fields.text("error").set().unwrap_or_default(),
    };
    fields.done(response.check())?;
    Ok((message.set().unwrap_or(MessageId::floor(Time::ZERO)), response))
}
