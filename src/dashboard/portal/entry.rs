//! Entering and leaving the portal. A customer opens a **portal link**, created over REST or by an operator. The page
//! behind it has one button, and only its POST redeems the link, so mail scanners and previews do no harm.
//!
//! In an iframe, a script submits the form (`data-enter`): the embedding page has just requested the link.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, LOCATION, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use url::Url;

use super::branding::Brand;
use super::{PORTAL, first, opens};
use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::components::widgets::RelativeTime;
use crate::dashboard::http::current_user::{CurrentUser, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{FormInput, PageResult};
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::preferences::Prefs;
use crate::dashboard::http::session;
use crate::dashboard::http::session::{Cookies, embeddable, form_token, set_cookie};
use crate::domain::Time;
use crate::domain::access::api_key;
use crate::domain::access::portal::PortalOptions;

/// Separates this form's CSRF tokens from others.
const FORM: &str = "portal-link";

/// A valid portal link.
struct PortalEntry {
    name: Line,
    until: RelativeTime,
    /// The button's action, and the page to continue with.
    action: String,
    next: String,
}

#[derive(Template)]
#[template(path = "portal/enter.html")]
struct EnterPage {
    layout: PageLayout,
    /// `None`: the link was used, has expired or never existed.
    entry: Option<PortalEntry>,
    /// This browser has an open portal session.
    has_session: bool,
}

#[derive(Template)]
#[template(path = "portal/session_ended.html")]
struct LeftPage {
    layout: PageLayout,
}

/// `GET /portal/enter/{code}`: checks the link without redeeming it.
pub async fn show(state: web::Data<DashboardState>, request: HttpRequest, user: Option<CurrentUser>) -> PageResult {
    let (code, now) = (part(&request, "code")?, state.clock.now());
    let prefs = Prefs::of(&request);
    let Some(good) = state.store.valid_portal_link(&api_key::hash(code), now).await? else {
        return spent(prefs, user.is_some());
    };
    let brand = Brand::of_link(&request, &good, code);
    let entry = PortalEntry {
        name: Line::new(&good.app_name),
        until: RelativeTime::new(Time::from_micros(good.options.until), now),
        action: format!("{PORTAL}/enter/{code}"),
        next: UrlQuery::of(&request).get("next").unwrap_or_default().to_owned(),
    };
    let layout = PageLayout::of_portal(prefs, Some(brand)).with_token(form_token(&state.secret, FORM, code));
    answer(StatusCode::OK, &EnterPage { layout, entry: Some(entry), has_session: false })
}

fn spent(prefs: Prefs, has_session: bool) -> PageResult {
    let page = EnterPage { layout: PageLayout::of_portal(prefs, None), entry: None, has_session };
    let mut response = answer(StatusCode::UNAUTHORIZED, &page)?;
    // A 401 requires this header (RFC 9110, section 11.6.1). Browsers ignore the unknown scheme and show the page.
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Portal-Link"));
    Ok(response)
}

/// The form behind a portal link.
#[derive(Deserialize)]
pub struct EnterForm {
    csrf: String,
    #[serde(default)]
    next: String,
}

/// `POST /portal/enter/{code}`: redeems the link and opens a session.
pub async fn enter(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    user: Option<CurrentUser>,
    form: web::Form<EnterForm>,
) -> PageResult {
    let code = part(&request, "code")?;
    if !session::same(&form.csrf, &form_token(&state.secret, FORM, code)) {
        return Err(PageError::WrongToken);
    }
    let (token, now) = (session::new_token(), state.clock.now());
    let opened = state.store.redeem_portal_link(&api_key::hash(code), &session::hash(&token), now).await?;
    let Some(session) = opened else { return spent(Prefs::of(&request), user.is_some()) };
    tracing::info!(org = %session.org, app = %session.app_id, "portal session opened");
    let next = next_page(&state.public_url, &form.next, &session.options).unwrap_or_else(|| first(&session.options));
    let mut response = HttpResponse::SeeOther().insert_header((LOCATION, next)).finish();
    let seconds = session.expires_at.since(now).as_secs() as i64;
    let cookie = Cookies::Portal.create(&state.public_url, token, seconds);
    set_cookie(&mut response, &embeddable(cookie, &state.frame_origins))?;
    Ok(response)
}

/// The page in `next`, if the session includes it.
fn next_page(public_url: &Url, next: &str, options: &PortalOptions) -> Option<String> {
    let plain = next.starts_with('/') && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    // Resolved like in a browser: `/portal/../x` is outside the portal.
    let url = public_url.join(next).ok().filter(|url| plain && url.origin() == public_url.origin())?;
    let path = url.path();
    let below = path.strip_prefix(PORTAL).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
    (below && opens(options, path)).then(|| format!("{path}{query}"))
}

/// `POST /portal/leave`: ends the session.
pub async fn leave(FormInput { state, user, .. }: FormInput<CurrentUser>) -> PageResult {
    state.store.end_portal_session(&user.hash).await?;
    let mut response = HttpResponse::SeeOther().insert_header((LOCATION, "/portal/left")).finish();
    set_cookie(&mut response, &embeddable(Cookies::Portal.removal(&state.public_url), &state.frame_origins))?;
    Ok(response)
}

/// `GET /portal/left`: confirms the end of the session.
pub async fn left(request: HttpRequest) -> PageResult {
    answer(StatusCode::OK, &LeftPage { layout: PageLayout::of_portal(Prefs::of(&request), None) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::portal::PortalPage;

    #[test]
    fn next_page_stays_in_the_session() {
        let public: Url = "https://hooks.example.com".parse().unwrap();
        let options =
            PortalOptions { pages: Some(vec![PortalPage::Endpoints, PortalPage::Messages]), ..PortalOptions::all(0) };
        let next = |text: &str| next_page(&public, text, &options);
        assert_eq!(next("/portal/endpoints/new").as_deref(), Some("/portal/endpoints/new"));
        assert_eq!(next("/portal/messages?type=a.b&q=x").as_deref(), Some("/portal/messages?type=a.b&q=x"));
        for bad in [
            "",
            "endpoints",
            "/",
            "/deliveries",
            "/portal/deliveries",
            "/portalx",
            "/portal/../logout",
            "/portal/%2e%2e/logout",
            "//evil.example/portal",
            "/\\evil.example",
            "https://evil.example/portal",
            "/portal/endpoints\r\nset-cookie: a",
            "javascript:alert(1)",
        ] {
            assert_eq!(next(bad), None, "{bad}");
        }
    }
}
