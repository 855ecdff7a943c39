//! Error responses. Every 4xx and 5xx is JSON: `{"code", "detail"}`, or for 422 a list of the invalid values,
//! `{"detail": [{"loc", "msg", "type"}]}`.
//!
//! * [`ApiError`]: an error response.
//! * [`FieldError`]: one of the invalid values.
//!
//! An internal error reveals no cause. The cause is logged once, under an id that the response contains.

use std::fmt;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;
use tracing::{debug, error};
use utoipa::ToSchema;

use crate::api::http::field_error::FieldError;
use crate::domain::invalid::TOO_MANY;
use crate::domain::{Invalid, limits};
use crate::store::StoreError;
use crate::store::ingest::accept::Rejection;
use crate::traffic::rate_limits::{RateLimitExceeded, retry_after};

/// The result of a handler.
pub type ApiResult = Result<HttpResponse, ApiError>;

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    /// The limit that was exceeded, with 429.
    limited: Option<RateLimitExceeded>,
    /// The value of `Retry-After` in seconds, with 429 and 503.
    retry_after: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum ErrorBody {
    Message { code: &'static str, detail: String },
    Validation { detail: Vec<FieldError> },
}

const REPEATED: &str = "repeated";

pub(in crate::api) const NEEDS_ORGANIZATION: &str =
    "this operation needs an organization token; this is an application token";
pub(in crate::api) const NOT_JSON: &str = "send the body as JSON, with the header content-type: application/json";
pub(in crate::api) const NOT_IMPLEMENTED: &str = "this release of Sendoff does not support this operation yet";
pub(in crate::api) const STORE_UNAVAILABLE: &str = "the store is unavailable: try again in a moment";
pub(in crate::api) const WEBHOOK: &str = "this request is a webhook that Sendoff sent to an endpoint. The API rejects \
     webhooks: endpoints that point at API operations could trigger each other in an endless loop";

/// An error.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document alone: `ErrorBody::Message`")]
pub(in crate::api) struct HttpErrorOut {
    /// A machine-readable code.
    code: String,
    /// A human-readable explanation.
    detail: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> ApiError {
        ApiError {
            status,
            body: ErrorBody::Message { code, detail: limits::truncate(detail.into(), limits::ERROR_TEXT) },
            limited: None,
            retry_after: 1,
        }
    }

    /// 400: the request cannot be parsed.
    pub fn malformed(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 401: no token, or an invalid one.
    pub fn unauthorized(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_failed", detail)
    }

    /// 403: an application token where an organization token is needed.
    pub fn needs_organization() -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_denied", NEEDS_ORGANIZATION)
    }

    /// 403: a permission is missing; `detail` names it.
    pub fn permission_denied(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_denied", detail)
    }

    /// 404: `what` does not exist or is not visible to the caller.
    pub fn not_found(what: &str) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("{what} not found"))
    }

    /// 409: a conflict with existing state.
    pub fn conflict(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 410: messages after the given position may be past the retention.
    pub fn gone(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::GONE, "position_gone", detail)
    }

    /// Whether this is a 409.
    pub fn is_conflict(&self) -> bool {
        self.status == StatusCode::CONFLICT
    }

    /// 409: the idempotency key was used before.
    fn repeated() -> ApiError {
        ApiError::new(StatusCode::CONFLICT, REPEATED, "a request with this idempotency-key was made before")
    }

    /// Whether the idempotency key was used before.
    pub fn is_repeated(&self) -> bool {
        matches!(self.body, ErrorBody::Message { code: REPEATED, .. })
    }

    /// 413: too many bytes.
    pub fn too_large(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    }

    /// 415: not JSON.
    pub fn not_json() -> ApiError {
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", NOT_JSON)
    }

    /// 415: a content encoding.
    pub fn content_encoded() -> ApiError {
        let detail = "send the body uncompressed, without a content-encoding";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 422: invalid values. The response lists [`limits::ERRORS`] of them and counts the rest.
    pub fn invalid(mut items: Vec<FieldError>) -> ApiError {
        let left = items.len().saturating_sub(limits::ERRORS);
        items.truncate(limits::ERRORS);
        let mut items: Vec<FieldError> = items.into_iter().map(FieldError::within_limits).collect();
        items.extend((left > 0).then(|| FieldError::more(left)));
        ApiError {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body: ErrorBody::Validation { detail: items },
            limited: None,
            retry_after: 1,
        }
    }

    /// The invalid values.
    ///
    /// # Errors
    /// The error is not a validation error.
    pub fn items(self) -> Result<Vec<FieldError>, ApiError> {
        match self.body {
            ErrorBody::Validation { detail } => Ok(detail),
            ErrorBody::Message { .. } => Err(self),
        }
    }

    /// 422: an invalid query parameter.
    pub fn query(name: &str, msg: impl Into<String>) -> ApiError {
        ApiError::invalid(vec![FieldError::body("", msg).at("query", name)])
    }

    /// 422: an invalid header.
    pub fn header(name: &str, msg: impl Into<String>) -> ApiError {
        ApiError::invalid(vec![FieldError::body("", msg).at("header", name)])
    }

    /// 422: an invalid path parameter.
    pub fn path(name: &str, wrong: Invalid) -> ApiError {
        ApiError::invalid(vec![FieldError::from(wrong).at("path", name)])
    }

    /// 429: a rate or concurrency limit was exceeded; nothing was done.
    fn too_many(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
    }

    /// 508: the request is a webhook sent by Sendoff.
    pub fn loop_detected() -> ApiError {
        ApiError::new(StatusCode::LOOP_DETECTED, "loop_detected", WEBHOOK)
    }

    /// 501: an operation of Svix that this release does not support.
    pub fn not_implemented() -> ApiError {
        ApiError::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", NOT_IMPLEMENTED)
    }

    /// 501: not possible with this server's configuration.
    pub fn not_configured(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", detail)
    }

    /// 503: nothing was done; a retry may succeed.
    pub fn unavailable(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// 500: an internal error. `cause` is logged under an id that the response contains.
    pub fn internal(cause: &dyn fmt::Display) -> ApiError {
        let id = format!("{:016x}", rand::random::<u64>());
        error!(request = %id, %cause, "a request failed");
        let detail = format!("internal error: the server log has the cause under request id {id}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", detail)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            ErrorBody::Message { detail, .. } => f.write_str(detail),
            ErrorBody::Validation { detail } => {
                let list: Vec<String> = detail.iter().map(FieldError::to_string).collect();
                f.write_str(&list.join("; "))
            }
        }
    }
}

impl std::error::Error for ApiError {}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        match self.status {
            // RFC 9110, section 15.5.2 requires it.
            StatusCode::UNAUTHORIZED => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                response.insert_header((header::RETRY_AFTER, self.retry_after));
            }
            _ => {}
        }
        for header in self.limited.iter().flat_map(RateLimitExceeded::headers) {
            response.insert_header(header);
        }
        response.json(&self.body)
    }
}

impl From<Vec<Invalid>> for ApiError {
    fn from(wrong: Vec<Invalid>) -> ApiError {
        let of_kind = |kind| wrong.iter().find(|wrong| wrong.kind == kind);
        if let Some(many) = of_kind(TOO_MANY) {
            return ApiError::malformed(many.reason.clone());
        }
        match of_kind("too_large") {
            Some(large) => ApiError::too_large(large.to_string()),
            None => ApiError::invalid(wrong.into_iter().map(FieldError::from).collect()),
        }
    }
}

impl From<RateLimitExceeded> for ApiError {
    fn from(limited: RateLimitExceeded) -> ApiError {
        ApiError { limited: Some(limited), ..ApiError::too_many(limited.to_string()) }
    }
}

impl From<Rejection> for ApiError {
    fn from(refusal: Rejection) -> ApiError {
        match refusal {
            Rejection::UnknownApplication(_) => ApiError::not_found("application"),
            Rejection::Repeated => ApiError::repeated(),
            Rejection::AmbiguousApplication(_) | Rejection::Duplicate(_) | Rejection::Unreachable => {
                ApiError::conflict(refusal.to_string())
            }
            Rejection::Invalid(wrong) => ApiError::from(wrong),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Unavailable(cause) | StoreError::Conflict(cause) => {
                // Debug level: while the store is down, every request ends here. `/readyz` alerts operators.
                debug!(%cause, "request rejected: the store is unavailable");
                ApiError::unavailable(STORE_UNAVAILABLE)
            }
            StoreError::Overloaded => ApiError::unavailable(StoreError::Overloaded.to_string()),
            StoreError::Crowded { wait } => {
                ApiError { retry_after: retry_after(wait), ..ApiError::too_many(error.to_string()) }
            }
            StoreError::Taken(_) => ApiError::conflict(error.to_string()),
            StoreError::Repeated => ApiError::repeated(),
            StoreError::Invalid(wrong) => ApiError::from(wrong),
            StoreError::Refused(_) | StoreError::Damaged(_) | StoreError::Sealed(_) | StoreError::Unusable(_) => {
                ApiError::internal(&error)
            }
        }
    }
}

/// The response to an unknown path.
pub async fn no_route(request: HttpRequest) -> ApiResult {
    let path: String = request.path().chars().take(256).collect();
    let detail = format!("no such operation: {} {path}", request.method());
    Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", detail))
}

/// The response to a method that the path does not support; `allowed` lists those it does.
pub fn method_not_allowed(method: &Method, allowed: &str) -> HttpResponse {
    let detail = format!("{method} is not allowed here, only {allowed}");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    let mut response = error.error_response();
    if let Ok(allowed) = header::HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn retry_after_names_the_wait_for_the_next_scan() {
        for (wait, seconds) in [(0, "1"), (1_000, "1"), (7_001, "8")] {
            let error = ApiError::from(StoreError::Crowded { wait: Duration::from_millis(wait) });
            let response = error.error_response();
            let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            assert_eq!(retry_after, Some(seconds));
            assert_eq!(error.status, StatusCode::TOO_MANY_REQUESTS);
        }
    }
}
