//! The portal's branding: the application's name, the customer team's logo, and a style sheet that only overrides
//! design tokens. The sheet is a separate file, because the Content-Security-Policy forbids inline styles; it contains
//! only validated colors.

use std::fmt::Write as _;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use sha2::{Digest, Sha256};

use super::PORTAL;
use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::http::current_user::{CurrentUser, Principal, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::middleware::ImageOrigin;
use crate::dashboard::http::preferences::Prefs;
use crate::domain::access::api_key;
use crate::domain::access::theme::{Theme, ThemeMode};
use crate::store::access::portal_sessions::{PortalSession, ValidPortalLink};

/// The brand in the header.
#[derive(Clone)]
pub struct Brand {
    /// The application's name.
    pub name: Line,
    /// The URL of the logo.
    pub logo: Option<String>,
    /// The path of the style sheet, unless it is empty.
    pub sheet: Option<String>,
    mode: ThemeMode,
}

impl Brand {
    /// The brand of a portal session.
    pub fn of_session(session: &PortalSession) -> Brand {
        let sheet = |theme: &Theme| format!("{PORTAL}/theme.css?v={}", version(&sheet(theme)));
        Brand::new(&session.app_name, session.options.theme.as_ref(), sheet)
    }

    /// The brand of the page behind a portal link.
    pub fn of_link(request: &HttpRequest, link: &ValidPortalLink, code: &str) -> Brand {
        let theme = link.options.theme.as_ref();
        allow_logo(request, theme);
        Brand::new(&link.app_name, theme, |_| format!("{PORTAL}/enter/{code}/theme.css"))
    }

    fn new(name: &str, theme: Option<&Theme>, path: impl FnOnce(&Theme) -> String) -> Brand {
        Brand {
            name: Line::new(name),
            logo: theme.filter(|theme| theme.logo_origin().is_some()).and_then(|theme| theme.logo.clone()),
            sheet: theme.filter(|theme| !sheet(theme).is_empty()).map(path),
            mode: theme.map(|theme| theme.mode).unwrap_or_default(),
        }
    }

    /// The theme's mode, unless the user chose one.
    pub fn preferred(&self, prefs: Prefs) -> Prefs {
        use crate::dashboard::http::preferences::ThemePreference;
        let theme = match self.mode {
            ThemeMode::Auto => ThemePreference::Auto,
            ThemeMode::Light => ThemePreference::Light,
            ThemeMode::Dark => ThemePreference::Dark,
        };
        if prefs.chosen { prefs } else { Prefs { theme, ..prefs } }
    }
}

/// Allows the logo's origin in the Content-Security-Policy.
pub fn allow_logo(request: &HttpRequest, theme: Option<&Theme>) {
    if let Some(origin) = theme.and_then(Theme::logo_origin) {
        request.extensions_mut().insert(ImageOrigin(origin));
    }
}

/// The style sheet; empty if the theme sets no tokens.
fn sheet(theme: &Theme) -> String {
    let mut tokens = String::new();
    for token in theme.tokens() {
        let _ = writeln!(tokens, "  --{}: light-dark({}, {});", token.name, token.light, token.dark);
    }
    if let Some(radius) = theme.radius {
        let _ = writeln!(tokens, "  --radius: {radius}px;");
    }
    if tokens.is_empty() { tokens } else { format!(":root {{\n{tokens}}}\n") }
}

/// A hash, to cache the sheet.
fn version(sheet: &str) -> String {
    hex::encode(&Sha256::digest(sheet.as_bytes())[..8])
}

/// `GET /portal/theme.css`: the session's sheet.
pub async fn of_session(request: HttpRequest, user: CurrentUser) -> Result<HttpResponse, PageError> {
    let Principal::Customer(session) = &user.principal else { return Err(PageError::NotFound) };
    let sheet = session.options.theme.as_ref().map(sheet).unwrap_or_default();
    let current = UrlQuery::of(&request).get("v") == Some(&version(&sheet));
    Ok(styles(sheet, if current { "private, max-age=31536000, immutable" } else { "private, no-store" }))
}

/// `GET /portal/enter/{code}/theme.css`: the sheet of the page behind a portal link.
pub async fn of_link(state: web::Data<DashboardState>, request: HttpRequest) -> Result<HttpResponse, PageError> {
    let link = api_key::hash(part(&request, "code")?);
    let good = state.store.valid_portal_link(&link, state.clock.now()).await?.ok_or(PageError::NotFound)?;
    Ok(styles(good.options.theme.as_ref().map(sheet).unwrap_or_default(), "private, no-store"))
}

fn styles(sheet: String, cache: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/css; charset=utf-8"))
        .insert_header((CACHE_CONTROL, cache))
        .body(sheet)
}
