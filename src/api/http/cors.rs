//! CORS: browser programs call the API with a token of their own. Requests carry no cookies, so any origin is allowed
//! unless `SENDOFF_CORS_ORIGINS` lists some.

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{HttpResponse, dev::ServiceRequest};

/// Request headers that browsers may send.
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, idempotency-key, svix-req-id, svix-retry-count");
/// Response headers that browser programs may read, beyond the CORS-safelisted ones.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("retry-after, ratelimit, ratelimit-policy");
/// Seconds that browsers cache a preflight response. No browser caches longer.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The origins that may call the API from a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    #[default]
    Any,
    /// Only these, as browsers send them: `https://app.example.com`.
    These(Vec<String>),
}

impl Origins {
    /// The value of `Access-Control-Allow-Origin` for a request; `None` without an `Origin` header or with one that is
    /// not allowed.
    pub(in crate::api) fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        match self {
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::These(these) => {
                these.iter().any(|one| one.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        }
    }

    /// Adds the CORS headers to a response. `allowed` is the result for its request.
    pub(in crate::api) fn add_headers(&self, response: &mut HeaderMap, allowed: Option<HeaderValue>) {
        if matches!(self, Origins::These(_)) {
            // Caches must not serve one origin's response to another.
            response.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(allowed) = allowed {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        }
    }
}

/// Whether this is a CORS preflight request.
pub(in crate::api) fn is_preflight(request: &ServiceRequest) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The preflight response of a path with these methods.
pub(in crate::api) fn preflight(methods: &str) -> HttpResponse {
    let mut response = HttpResponse::NoContent().finish();
    let headers = response.headers_mut();
    if let Ok(methods) = HeaderValue::from_str(methods) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    response
}
