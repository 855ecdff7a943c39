//! What a caller is told when something is wrong. Every answer of 4xx and 5xx is JSON: `{"code", "detail"}`, or for values
//! that were refused a list, `{"detail": [{"loc", "msg", "type"}]}` with 422.
//!
//! * [`ApiError`] – such an answer.
//! * [`Item`] – one refused value: where it stood and why.
//!
//! A failure of our own says nothing of the inside: its cause goes into the log, once, under an id that the caller gets too.

use std::fmt;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;
use tracing::{debug, error};
use utoipa::ToSchema;

use crate::domain::invalid::TOO_MANY;
use crate::domain::{Invalid, limits};
use crate::store::StoreError;
use crate::store::ingest::accept::Refusal;
use crate::traffic::rate_limits::Limited;

/// What every handler gives back.
pub type Answer = Result<HttpResponse, ApiError>;

/// An answer that says what was wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    told: Told,
    /// With 429.
    limited: Option<Limited>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Told {
    Said { code: &'static str, detail: String },
    Refused { detail: Vec<Item> },
}

const REPEATED: &str = "repeated";

/// One refused value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// `body`, `query` or `path`, and the name in it, unless it is all of the body.
    loc: Vec<String>,
    msg: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// What was wrong, and what to do.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document alone: `Told::Said`")]
pub(super) struct HttpErrorOut {
    /// A word for programs.
    code: String,
    /// A sentence for people.
    detail: String,
}

/// The values that were refused.
#[derive(ToSchema)]
#[schema(as = HTTPValidationError)]
#[expect(dead_code, reason = "for the document alone: `Told::Refused`")]
pub(super) struct HttpValidationError {
    detail: Vec<ValidationErrorItem>,
}

/// One refused value.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document alone: `Item`")]
pub(super) struct ValidationErrorItem {
    /// Where it stood: `body`, `query`, `path` or `header`, and the name in it, unless it is all of the body.
    #[schema(min_items = 1)]
    loc: Vec<String>,
    /// What is wrong and what is expected.
    msg: String,
    /// A word for programs.
    #[schema(example = "value_error")]
    r#type: String,
}

impl Item {
    /// A value of the request's body that breaks a rule.
    pub fn body(field: &str, msg: impl Into<String>) -> Item {
        Item { loc: vec!["body".into(), field.into()], msg: msg.into(), kind: "value_error" }
    }

    /// The body as a whole is something else than it must be.
    pub fn whole_body(msg: &str) -> Item {
        Item { loc: vec!["body".into()], ..Item::mistyped("", msg) }
    }

    /// A field of the body that must be there and is not.
    pub fn missing(field: &str) -> Item {
        Item { kind: "missing", ..Item::body(field, "is required") }
    }

    /// A value of the body that is of another kind than it must be.
    pub fn mistyped(field: &str, msg: impl Into<String>) -> Item {
        Item { kind: "type_error", ..Item::body(field, msg) }
    }

    /// A field of the body that would change what is done, which it does not do yet.
    pub fn unsupported(field: &str) -> Item {
        Item { kind: "not_supported", ..Item::body(field, "is not supported yet: leave it out or set it to null") }
    }

    /// The same, where its object is itself a field of the body.
    pub fn within(mut self, outer: &str) -> Item {
        self.loc.insert(1.min(self.loc.len()), outer.to_owned());
        self
    }

    /// Stands for `left` further ones that are not listed.
    fn more(left: usize) -> Item {
        Item { loc: vec!["body".into()], msg: format!("… and {left} more"), kind: "truncated" }
    }

    /// The same within [`limits::ERROR_TEXT`]: both a name and a reason may quote what the caller sent.
    fn within_limits(self) -> Item {
        let cut = |text| limits::cut(text, limits::ERROR_TEXT);
        Item { loc: self.loc.into_iter().map(cut).collect(), msg: cut(self.msg), kind: self.kind }
    }

    /// Whether both are about the same value.
    pub fn same(&self, other: &Item) -> bool {
        self.loc == other.loc
    }
}

impl From<Invalid> for Item {
    fn from(wrong: Invalid) -> Item {
        Item { kind: wrong.kind, ..Item::body(&wrong.field, wrong.reason) }
    }
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> ApiError {
        ApiError {
            status,
            told: Told::Said { code, detail: limits::cut(detail.into(), limits::ERROR_TEXT) },
            limited: None,
        }
    }

    /// 400: what came cannot be read at all.
    pub fn malformed(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 401: no token, or none that is good.
    pub fn unauthorized(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_failed", detail)
    }

    /// 403: a good token, but not for this.
    pub fn forbidden() -> ApiError {
        let detail = "this needs a token of the organization; an application's own token may not do it";
        ApiError::new(StatusCode::FORBIDDEN, "permission_denied", detail)
    }

    /// 403: a good token, but without a right that this needs; `detail` says which.
    pub fn lacks(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_denied", detail)
    }

    /// 404: `what` is not there, or not this caller's.
    pub fn not_found(what: &str) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("{what} not found"))
    }

    /// 409: something of that name is there already.
    pub fn conflict(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 410: what follows the position that was shown may be gone.
    pub fn gone(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::GONE, "position_gone", detail)
    }

    /// Whether something is in the way that was not there, or was not seen, before.
    pub fn is_conflict(&self) -> bool {
        self.status == StatusCode::CONFLICT
    }

    /// 409: the same request came before, under the same key.
    fn repeated() -> ApiError {
        ApiError::new(
            StatusCode::CONFLICT,
            REPEATED,
            "the same request was made before, under the same idempotency-key",
        )
    }

    /// Whether it is the answer to a request that came before.
    pub fn is_repeated(&self) -> bool {
        matches!(self.told, Told::Said { code: REPEATED, .. })
    }

    /// 413: more bytes than are taken.
    pub fn too_large(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    }

    /// 415: something else than JSON.
    pub fn not_json() -> ApiError {
        let detail = "send the body as JSON, with the header content-type: application/json";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 415: compressed, or otherwise encoded.
    pub fn encoded() -> ApiError {
        let detail = "send the body as it is, without a content-encoding";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 422: values that were refused. The answer lists [`limits::ERRORS`] of them and counts the rest.
    pub fn refused(mut items: Vec<Item>) -> ApiError {
        let left = items.len().saturating_sub(limits::ERRORS);
        items.truncate(limits::ERRORS);
        let mut items: Vec<Item> = items.into_iter().map(Item::within_limits).collect();
        items.extend((left > 0).then(|| Item::more(left)));
        ApiError { status: StatusCode::UNPROCESSABLE_ENTITY, told: Told::Refused { detail: items }, limited: None }
    }

    /// The values that were refused.
    ///
    /// # Errors
    /// It is about something else.
    pub fn items(self) -> Result<Vec<Item>, ApiError> {
        match self.told {
            Told::Refused { detail } => Ok(detail),
            Told::Said { .. } => Err(self),
        }
    }

    /// 422: a value of the query that was refused.
    pub fn query(name: &str, msg: impl Into<String>) -> ApiError {
        ApiError::refused(vec![Item { loc: vec!["query".into(), name.into()], ..Item::body("", msg) }])
    }

    /// 422: the value of a header that was refused.
    pub fn header(name: &str, msg: impl Into<String>) -> ApiError {
        ApiError::refused(vec![Item { loc: vec!["header".into(), name.into()], ..Item::body("", msg) }])
    }

    /// 422: a name in the path that was refused.
    pub fn path(name: &str, wrong: Invalid) -> ApiError {
        ApiError::refused(vec![Item { loc: vec!["path".into(), name.into()], ..Item::from(wrong) }])
    }

    /// 429: nothing was done, because the caller asks for too much at a time.
    fn too_many(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
    }

    /// 508: the request is a webhook.
    pub fn loop_detected() -> ApiError {
        let detail = "this request is a webhook that a Sendoff sent to an endpoint. The API does not take webhooks: endpoints whose URLs \
                      are its operations could keep each other sending for ever";
        ApiError::new(StatusCode::LOOP_DETECTED, "loop_detected", detail)
    }

    /// 501: an operation that the dialect has and this release does not answer.
    pub fn not_implemented() -> ApiError {
        let detail = "this operation is known, but this release of Sendoff does not answer it yet";
        ApiError::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", detail)
    }

    /// 501: what this installation can't do as it is set up.
    pub fn not_possible(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", detail)
    }

    /// 503: nothing was done; the same request may go through in a moment.
    pub fn unavailable(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// 500: a failure of our own. `cause` goes into the log, under the id that the caller gets.
    pub fn internal(cause: &dyn fmt::Display) -> ApiError {
        let id = format!("{:016x}", rand::random::<u64>());
        error!(request = %id, %cause, "a request failed");
        let detail = format!("something failed on our side; the log has the cause under the request id {id}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", detail)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.told {
            Told::Said { detail, .. } => f.write_str(detail),
            Told::Refused { detail } => {
                let list: Vec<String> =
                    detail.iter().map(|item| format!("{}: {}", item.loc.join("."), item.msg)).collect();
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
        let mut answer = HttpResponse::build(self.status);
        match self.status {
            // RFC 9110, section 15.5.2: a 401 says how to authenticate.
            StatusCode::UNAUTHORIZED => {
                answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                answer.insert_header((header::RETRY_AFTER, "1"));
            }
            _ => {}
        }
        for header in self.limited.iter().flat_map(Limited::headers) {
            answer.insert_header(header);
        }
        answer.json(&self.told)
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
            None => ApiError::refused(wrong.into_iter().map(Item::from).collect()),
        }
    }
}

impl From<Limited> for ApiError {
    fn from(limited: Limited) -> ApiError {
        ApiError { limited: Some(limited), ..ApiError::too_many(limited.to_string()) }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::UnknownApplication(_) => ApiError::not_found("application"),
            Refusal::Repeated => ApiError::repeated(),
            Refusal::AmbiguousApplication(_) | Refusal::Duplicate(_) | Refusal::Unreachable => {
                ApiError::conflict(refusal.to_string())
            }
            Refusal::Invalid(wrong) => ApiError::from(wrong),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Unavailable(cause) | StoreError::Conflict(cause) => {
                // Not louder: while the store is away, every request comes here; `/readyz` says it to operators.
                debug!(%cause, "turned away: the store is not available");
                ApiError::unavailable("the store is not available: try again in a moment")
            }
            StoreError::Overloaded => ApiError::unavailable(StoreError::Overloaded.to_string()),
            StoreError::Crowded => ApiError::too_many(error.to_string()),
            StoreError::Taken(_) => ApiError::conflict(error.to_string()),
            StoreError::Repeated => ApiError::repeated(),
            StoreError::Invalid(wrong) => ApiError::from(wrong),
            StoreError::Refused(_) | StoreError::Damaged(_) | StoreError::Sealed(_) | StoreError::Unusable(_) => {
                ApiError::internal(&error)
            }
        }
    }
}

/// The answer to a path that is none of ours.
pub async fn no_route(request: HttpRequest) -> Answer {
    let path: String = request.path().chars().take(256).collect();
    let detail = format!("there is nothing at {} {path}", request.method());
    Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", detail))
}

/// The answer to a method that a path does not have; `allowed` are those that it has.
pub fn wrong_method(method: &Method, allowed: &str) -> HttpResponse {
    let detail = format!("{method} is not possible here, only {allowed}");
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    let mut answer = error.error_response();
    if let Ok(allowed) = header::HeaderValue::from_str(allowed) {
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}
