//! A portal link, created by an operator to open it or to hand it to the customer.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{Choice, Field, Form, FormPage};
use crate::dashboard::components::format::Line;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::posted::Posted;
use crate::dashboard::http::viewer::{Inside, Signed};
use crate::domain::Invalid;
use crate::domain::access::api_key;
use crate::domain::access::portal::{Capability, PortalLink, PortalOptions};

/// The lifetime of the link.
const LINK_LIFE: Duration = Duration::from_secs(15 * 60);
/// Choices of the session's lifetime: value, label, seconds.
const VISITS: [(&str, &str, u64); 3] = [("1h", "1 hour", 3_600), ("1d", "1 day", 86_400), ("7d", "7 days", 7 * 86_400)];

#[derive(Template)]
#[template(path = "portal_link.html")]
struct PortalLinkPage {
    frame: Frame,
    name: Line,
    /// The URL to copy.
    url: Line,
    /// The URL to open.
    href: String,
    lasts: &'static str,
    read_only: bool,
    back: String,
}

fn form() -> Form {
    let choices = VISITS.iter().map(|(word, name, _)| Choice::new(word, name, *word == "1h")).collect();
    Form::new(vec![
        Field::select("expiry", "Session lasts", choices).help("Starts when the link is opened."),
        Field::tick("readOnly", "Read only", false).help("No changes, no resends, no secrets."),
    ])
}

fn form_page(inside: &Inside, form: Form) -> FormPage {
    FormPage {
        frame: Frame::of(inside, Here::Applications).below(inside, []),
        title: Line::new("Portal link"),
        lead: "Opens the portal as this customer sees it. Works once, within 15 minutes.",
        about: Line::new(&inside.app.name),
        action: inside.place.page("portal-link"),
        form,
        starts: Vec::new(),
        button: "Create link",
        back: inside.place.home().to_owned(),
    }
}

/// `GET /applications/{app}/portal-link`.
pub async fn ask(_: Signed, inside: Inside) -> Result<HttpResponse, PageError> {
    if inside.operational {
        return Err(PageError::NotFound);
    }
    form_page(&inside, form()).answer()
}

/// `POST /applications/{app}/portal-link`: creates a link, which is shown once.
pub async fn make(
    state: web::Data<DashboardState>,
    signed: Signed,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    if inside.operational {
        return Err(PageError::NotFound);
    }
    let Some((_, lasts, seconds)) = VISITS.into_iter().find(|(word, ..)| *word == posted.get("expiry")) else {
        let wrong = [Invalid::new("expiry", "choose one of the options")];
        return form_page(&inside, form().typed(&posted).blame(&wrong)).answer();
    };
    let (now, read_only) = (state.clock.now(), posted.has("readOnly"));
    let options = PortalOptions {
        capabilities: read_only.then(|| vec![Capability::ViewBase]),
        ..PortalOptions::all(now.plus(Duration::from_secs(seconds)).micros())
    };
    let code = api_key::random_text();
    let link =
        PortalLink { org: inside.app.org.clone(), app_id: inside.app.id, options, expires_at: now.plus(LINK_LIFE) };
    signed.store(&state.store).add_portal_link(&api_key::hash(&code), &link, now).await?;
    let path = format!("/portal/enter/{}", *code);
    let mut url = state.portal_url.clone();
    url.set_path(&path);
    // If the portal shares the dashboard's origin, a relative link works under any host name.
    let href = if state.portal_url == state.public_url { path } else { url.to_string() };
    let page = PortalLinkPage {
        frame: Frame::of(&inside, Here::Applications).below(&inside, []),
        name: Line::new(&inside.app.name),
        url: Line::new(url.as_str()),
        href,
        lasts,
        read_only,
        back: inside.place.home().to_owned(),
    };
    answer(StatusCode::OK, &page)
}
