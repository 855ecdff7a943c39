//! How the portal looks: the application's name in place of ours, the team's logo, and a style sheet that overrides tokens and nothing
//! else. It is a file of its own, because the pages allow no style in them; what is in it are colours that were read as such.

use std::fmt::Write as _;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use sha2::{Digest, Sha256};

use super::PORTAL;
use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, Query};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::middleware::Images;
use crate::dashboard::http::preferences::Prefs;
use crate::dashboard::http::viewer::{Viewer, Who, part};
use crate::domain::access::api_key;
use crate::domain::access::theme::{Mode, Theme};
use crate::store::access::portal_sessions::{GoodLink, Visit};

/// What stands for the portal in the head of its pages.
#[derive(Clone)]
pub struct Brand {
    /// The application's.
    pub name: Line,
    /// The URL of an image.
    pub logo: Option<String>,
    /// The path of the style sheet, where there is something in it.
    pub sheet: Option<String>,
    mode: Mode,
}

impl Brand {
    /// Of a visit's pages.
    pub fn of_visit(visit: &Visit) -> Brand {
        let sheet = |theme: &Theme| format!("{PORTAL}/theme.css?v={}", version(&sheet(theme)));
        Brand::new(&visit.app_name, visit.options.theme.as_ref(), sheet)
    }

    /// Of the page behind a link.
    pub fn of_link(request: &HttpRequest, link: &GoodLink, code: &str) -> Brand {
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

    /// Light or dark as the team has it, as long as the customer has not chosen.
    pub fn preferred(&self, prefs: Prefs) -> Prefs {
        use crate::dashboard::http::preferences::Theme as Choice;
        let theme = match self.mode {
            Mode::Auto => Choice::Auto,
            Mode::Light => Choice::Light,
            Mode::Dark => Choice::Dark,
        };
        if prefs.chosen { prefs } else { Prefs { theme, ..prefs } }
    }
}

/// Has the answer allow the logo's site as one that images come from.
pub fn allow_logo(request: &HttpRequest, theme: Option<&Theme>) {
    if let Some(origin) = theme.and_then(Theme::logo_origin) {
        request.extensions_mut().insert(Images(origin));
    }
}

/// The style sheet; empty if the theme changes nothing that is in one.
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

/// What tells one sheet from another.
fn version(sheet: &str) -> String {
    hex::encode(&Sha256::digest(sheet.as_bytes())[..8])
}

/// `GET /portal/theme.css`: the visit's.
pub async fn of_visit(request: HttpRequest, viewer: Viewer) -> Result<HttpResponse, PageError> {
    let Who::Customer(visit) = &viewer.who else { return Err(PageError::NotFound) };
    let sheet = visit.options.theme.as_ref().map(sheet).unwrap_or_default();
    let current = Query::of(&request).get("v") == Some(&version(&sheet));
    Ok(styles(sheet, if current { "private, max-age=31536000, immutable" } else { "private, no-store" }))
}

/// `GET /portal/enter/{code}/theme.css`: of the page behind a link.
pub async fn of_link(state: web::Data<DashboardState>, request: HttpRequest) -> Result<HttpResponse, PageError> {
    let link = api_key::hash(part(&request, "code")?);
    let good = state.store.portal_link_good(&link, state.clock.now()).await?.ok_or(PageError::NotFound)?;
    Ok(styles(good.options.theme.as_ref().map(sheet).unwrap_or_default(), "private, no-store"))
}

fn styles(sheet: String, cache: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/css; charset=utf-8"))
        .insert_header((CACHE_CONTROL, cache))
        .body(sheet)
}
