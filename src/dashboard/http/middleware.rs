//! Middleware around every page.
//!
//! Requests: **Host** must be ours, or DNS rebinding could read the dashboard. Unsafe methods must come from our own
//! pages (**Origin**, **Sec-Fetch-Site**), in addition to the CSRF token. Responses get security headers, a request id,
//! and an error page for errors.

use std::time::Instant;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, web};
use url::{Host, Url};

use crate::dashboard::DashboardState;
use crate::dashboard::http::current_user::limited_by;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::preferences::Prefs;
use crate::dashboard::http::route_access::SECOND_FACTOR;
use crate::dashboard::http::session::{Cookies, hash};
use crate::dashboard::portal::language;
use crate::store::StoreError;
use crate::traffic::rate_limits::RateLimitExceeded;

const HEADERS: [(&str, &str); 7] = [
    ("x-content-type-options", "nosniff"),
    // Not `no-referrer`: browsers would then send `Origin: null` with our own forms. Other sites get no referrer with
    // either.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("x-robots-tag", "noindex, nofollow"),
    ("cache-control", "no-store"),
];

/// An additional origin that this response may load images from.
pub struct ImageOrigin(pub String);

/// The Content-Security-Policy: loaded resources, form targets and embedding sites.
fn policy(images: Option<&str>, frames: &[String]) -> String {
    let images = images.map_or_else(String::new, |origin| format!(" {origin}"));
    let frames = if frames.is_empty() { "'none'".to_owned() } else { frames.join(" ") };
    format!(
        "default-src 'none'; style-src 'self'; img-src 'self'{images}; script-src 'self'; connect-src 'self'; \
         form-action 'self'; frame-ancestors {frames}; base-uri 'none'"
    )
}

/// Checks the request, runs the handler and adds the headers.
///
/// # Errors
/// Errors of actix itself.
pub async fn pass(
    state: web::Data<DashboardState>,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request_id();
    let admitted = limit(&state, &request).and_then(|()| admit(&request, &state.public_url));
    let mut response = match admitted {
        // Handler errors arrive as responses. Nothing here may hold on to the request: the router still mutates it.
        Ok(()) => render_error(next.call(request).await?, &id),
        Err(refusal) => {
            let customer = Cookies::at(request.path()) == Cookies::Portal;
            request.into_response(refusal.answer(customer, &id))
        }
    };
    // Only the portal may be embedded, and only by the configured origins.
    let portal = Cookies::at(response.request().path()) == Cookies::Portal;
    if portal {
        response = language::translated(response);
    }
    let frames: &[String] = if portal { &state.frame_origins } else { &[] };
    let images = response.request().extensions().get::<ImageOrigin>().map(|images| images.0.clone());
    let policy = policy(images.as_deref(), frames);
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if frames.is_empty() {
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    }
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    Ok(response)
}

/// Takes a token from the session's rate limit bucket or, without a known session, from the client address's bucket.
/// Static files are exempt: browsers cache them.
fn limit(state: &DashboardState, request: &ServiceRequest) -> Result<(), BlockedRequest> {
    let path = request.path();
    if path.starts_with("/static/") {
        return Ok(());
    }
    let (limits, now) = (&state.traffic.limits, Instant::now());
    let cookie = request.cookie(Cookies::at(path).name(&state.public_url));
    let session = cookie.map(|cookie| limited_by(hash(cookie.value()))).filter(|session| limits.knows(session));
    let limited = match (session, state.address(request.request())) {
        (Some(session), _) => limits.take(session, now),
        (None, Some(address)) => limits.take_of_address(address, now),
        (None, None) => Ok(()),
    };
    limited.map_err(BlockedRequest::Limited)
}

/// Twelve characters: short enough to read out, and searchable in the log.
fn request_id() -> String {
    hex::encode(rand::random::<[u8; 6]>())
}

/// Replaces an error by its page, or by a redirect to the sign-in page.
fn render_error(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    let (request, response) = response.into_parts();
    let Some(error) = response.error() else { return ServiceResponse::new(request, response) };
    let whose = Cookies::at(request.path());
    let words = |error: &PageError| error.page(whose, Prefs::of(&request), id);
    let page = match error.as_error::<PageError>() {
        // Customers cannot sign in here; their page says how to get a link.
        Some(PageError::NotSignedIn) if whose == Cookies::Operator => {
            HttpResponse::SeeOther().insert_header((header::LOCATION, "/login")).finish()
        }
        Some(PageError::SecondFactorRequired) => {
            HttpResponse::SeeOther().insert_header((header::LOCATION, SECOND_FACTOR)).finish()
        }
        Some(error) => {
            if is_internal(error) {
                tracing::error!(request_id = id, path = request.path(), %error, "page could not be rendered");
            }
            words(error)
        }
        // Errors of actix extractors: a form that is too large, a path that is not UTF-8.
        None => words(&PageError::BadRequest("The request could not be read.")),
    };
    ServiceResponse::new(request, page)
}

fn is_internal(error: &PageError) -> bool {
    let crowded = matches!(error, PageError::Store(StoreError::Crowded { .. }));
    !crowded && matches!(error, PageError::Store(_) | PageError::Template(_))
}

/// The reason a request was rejected before its handler.
#[derive(Debug, PartialEq, Eq)]
enum BlockedRequest {
    /// An unknown `Host`.
    Host,
    /// A cross-site request.
    Origin,
    /// The rate limit.
    Limited(RateLimitExceeded),
}

impl BlockedRequest {
    /// Plain text, because style sheets would be rejected too. Contains nothing from the request. Customers are not
    /// told about settings.
    fn answer(&self, customer: bool, id: &str) -> HttpResponse {
        let (status, text) = match self {
            BlockedRequest::Limited(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "429: too many requests. Nothing was changed. Try again in a moment.\n")
            }
            BlockedRequest::Host if customer => {
                (StatusCode::MISDIRECTED_REQUEST, "421: these pages are not served under this host name.\n")
            }
            BlockedRequest::Origin if customer => (
                StatusCode::FORBIDDEN,
                "403: this request came from another site. Nothing was changed.\n\nOpen the page and use its button.\n",
            ),
            BlockedRequest::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "421: the dashboard is not served under this host name.\n\n\
                 Open it at SENDOFF_PUBLIC_URL, or set SENDOFF_PUBLIC_URL to the address you use.\n\
                 A reverse proxy must pass the Host header unchanged.\n",
            ),
            BlockedRequest::Origin => (
                StatusCode::FORBIDDEN,
                "403: this request came from another site. Nothing was changed.\n\n\
                 Open the dashboard and use its button.\n\
                 If you did, check that SENDOFF_PUBLIC_URL matches the address in your browser, including https.\n",
            ),
        };
        let mut answer = HttpResponse::build(status);
        match self {
            // Not logged: there may be very many.
            BlockedRequest::Limited(limited) => {
                for header in limited.headers() {
                    answer.insert_header(header);
                }
            }
            _ => tracing::warn!(request_id = id, reason = ?self, "dashboard request rejected"),
        }
        answer.content_type("text/plain; charset=utf-8").body(format!("{text}\nRequest id: {id}\n"))
    }
}

fn admit(request: &ServiceRequest, public_url: &Url) -> Result<(), BlockedRequest> {
    let host = text(request.headers(), &header::HOST).and_then(|host| at(public_url.scheme(), host));
    let host = host.filter(|host| is_ours(host, public_url)).ok_or(BlockedRequest::Host)?;
    if !request.method().is_safe() && !from_our_page(request.headers(), &host) {
        return Err(BlockedRequest::Origin);
    }
    Ok(())
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn at(scheme: &str, host: &str) -> Option<Url> {
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    Url::parse(&format!("{scheme}://{host}/")).ok().filter(|_| plain)
}

fn same_place(one: &Url, other: &Url) -> bool {
    one.host() == other.host() && one.port_or_known_default() == other.port_or_known_default()
}

/// The public URL's host and port. If that is a loopback address, any loopback name and port: tunnels change the port.
fn is_ours(host: &Url, public_url: &Url) -> bool {
    same_place(host, public_url) || (is_loopback(public_url) && is_loopback(host))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => address.is_loopback() || address.is_unspecified(),
        None => false,
    }
}

/// Whether an unsafe request came from a page of the same host. Browsers always send `Origin` with a POST, so a request
/// with neither header is from another client. The CSRF token is required in any case.
fn from_our_page(headers: &HeaderMap, host: &Url) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    match headers.get(header::ORIGIN).map(HeaderValue::as_bytes) {
        None => true,
        Some(b"null") => site == Some(b"same-origin"),
        Some(origin) => std::str::from_utf8(origin)
            .ok()
            .and_then(|origin| Url::parse(origin).ok())
            .is_some_and(|origin| origin.scheme() == host.scheme() && same_place(&origin, host)),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use crate::dashboard::http::middleware::*;

    fn admitted(public: &str, method: &str, headers: &[(&'static str, &str)]) -> Result<(), BlockedRequest> {
        let mut request = TestRequest::with_uri("/").method(method.parse().unwrap());
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        admit(&request.to_srv_request(), &public.parse().unwrap())
    }

    #[test]
    fn policy_allows_configured_frames_and_the_logo() {
        let usual = policy(None, &[]);
        assert!(usual.contains("img-src 'self';") && usual.contains("frame-ancestors 'none';"), "{usual}");
        let framed = policy(Some("https://cdn.example"), &["https://a.example".into(), "https://b.example".into()]);
        assert!(framed.contains("img-src 'self' https://cdn.example;"), "{framed}");
        assert!(framed.contains("frame-ancestors https://a.example https://b.example;"), "{framed}");
    }

    #[test]
    fn rejects_foreign_hosts() {
        let public = "https://hooks.example.com";
        for (public, host, wanted) in [
            (public, "hooks.example.com", true),
            (public, "Hooks.Example.com:443", true),
            (public, "hooks.example.com:8071", false),
            (public, "localhost", false),
            (public, "127.0.0.1:8071", false),
            (public, "evil.example", false),
            (public, "evil.example@hooks.example.com", false),
            (public, "hooks.example.com/", false),
            (public, "hooks.example.com.", false),
            (public, "", false),
            ("http://127.0.0.1:8071", "127.0.0.1:8071", true),
            ("http://127.0.0.1:8071", "localhost:9000", true),
            ("http://127.0.0.1:8071", "[::1]:8071", true),
            ("http://localhost:8071", "localhost.evil.example:8071", false),
            ("http://localhost:8071", "10.0.0.1:8071", false),
        ] {
            assert_eq!(admitted(public, "GET", &[("host", host)]).is_ok(), wanted, "{public} {host:?}");
        }
        assert_eq!(admitted(public, "GET", &[]), Err(BlockedRequest::Host));
    }

    #[test]
    fn rejects_cross_site_writes() {
        let (public, host) = ("https://hooks.example.com", ("host", "hooks.example.com"));
        let origin = |value: &'static str| ("origin", value);
        let site = |value: &'static str| ("sec-fetch-site", value);
        for (headers, wanted) in [
            (vec![host, origin("https://hooks.example.com")], true),
            (vec![host, origin("https://hooks.example.com"), site("same-origin")], true),
            (vec![host, origin("https://hooks.example.com"), site("cross-site")], false),
            (vec![host, origin("http://hooks.example.com")], false),
            (vec![host, origin("https://hooks.example.com:444")], false),
            (vec![host, origin("https://evil.example")], false),
            (vec![host, origin("null")], false),
            (vec![host, origin("null"), site("same-origin")], true),
            (vec![host, site("same-site")], false),
            (vec![host], true),
        ] {
            assert_eq!(admitted(public, "POST", &headers).is_ok(), wanted, "{headers:?}");
            assert!(admitted(public, "GET", &headers).is_ok(), "reading is not changing: {headers:?}");
        }
        let other_port = [("host", "localhost:8071"), ("origin", "http://localhost:3000")];
        assert_eq!(admitted("http://127.0.0.1:8071", "POST", &other_port), Err(BlockedRequest::Origin));
    }
}
