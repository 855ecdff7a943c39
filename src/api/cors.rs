//! CORS: programs in browsers call the API with a token of their own. No cookie counts here, so that any origin may, unless
//! `SENDOFF_CORS_ORIGINS` names some.

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{HttpResponse, dev::ServiceRequest};

/// The request headers that browsers may send.
const SENT: HeaderValue =
    HeaderValue::from_static("authorization, content-type, idempotency-key, svix-req-id, svix-retry-count");
/// The response headers that programs in browsers may read, beside those that they always may.
const READ: HeaderValue = HeaderValue::from_static("retry-after, ratelimit, ratelimit-policy");
/// How long browsers remember it, in seconds: as long as any of them does.
const REMEMBERED: HeaderValue = HeaderValue::from_static("7200");

/// The origins whose programs may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    #[default]
    Any,
    /// These, as browsers write them: `https://app.example.com`.
    These(Vec<String>),
}

impl Origins {
    /// What an answer to a request with these headers says of it; `None`: no program of another origin asks, or one that may not.
    pub(super) fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        match self {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::These(these) => {
                these.iter().any(|one| one.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        }
    }

    /// What is added to an answer. `allowed` is for its request.
    pub(super) fn dress(&self, answer: &mut HeaderMap, allowed: Option<HeaderValue>) {
        if matches!(self, Origins::These(_)) {
            // Caches must not hand the answer for one origin to another.
            answer.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(allowed) = allowed {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        }
    }
}

/// Whether a browser asks what may be sent.
pub(super) fn is_preflight(request: &ServiceRequest) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to that, on a path with these methods.
pub(super) fn preflight(methods: &str) -> HttpResponse {
    let mut answer = HttpResponse::NoContent().finish();
    let headers = answer.headers_mut();
    if let Ok(methods) = HeaderValue::from_str(methods) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, SENT);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    answer
}
