//! The team's way to let a customer in: a token for one application, and a link into the portal that is good once.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::http::body::{Body, Fields};
use crate::api::http::errors::{Answer, ApiError};
use crate::api::http::idempotency::{Look, once};
use crate::api::http::request::{Call, json};
use crate::api::openapi::schemas;
use crate::api::resources::application;
use crate::domain::access::api_key;
use crate::domain::access::colour::{Colour, NoColour};
use crate::domain::access::portal::{Capability, PortalLink, PortalOptions, PortalPage};
use crate::domain::access::theme::{Mode, Palette, Shade, Theme};
use crate::domain::catalog::application::Application;
use crate::domain::{Invalid, Time, limits};
use crate::store::AppRef;

/// How long a visit lasts if nothing is said, at least and at most, in seconds.
const EXPIRY: (u64, u64, u64) = (7 * 24 * 3_600, 3_600, 7 * 24 * 3_600);
/// How long the link can be used.
const LINK_LIFE: Duration = Duration::from_secs(15 * 60);

/// A customer's way in.
#[derive(Serialize, ToSchema)]
#[schema(as = AppPortalAccessOut)]
struct AccessOut {
    /// A token for the one application.
    token: String,
    /// A link into the portal that is good once, within 15 minutes.
    url: String,
}

/// What the customer may do, and for how long.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"expiry": 3600, "readOnly": true}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct AppPortalAccessIn {
    /// For how many seconds the token is good; 7 days if nothing is said.
    #[schema(minimum = 3600, maximum = 604800)]
    expiry: Option<u32>,
    /// The customer may look, and change nothing.
    read_only: Option<bool>,
    /// What the customer may do; everything if nothing is said.
    #[schema(max_items = 6)]
    capabilities: Option<Vec<Capability>>,
    /// A name of the team's own for this visit.
    #[schema(value_type = Option<schemas::Session>)]
    session_id: Option<String>,
    /// Event types that need these flags are shown too.
    #[schema(value_type = Option<schemas::Flags>)]
    feature_flags: Option<Vec<String>>,
    /// What of the portal there is to see; everything if nothing is said. Not of the token.
    #[schema(min_items = 1, max_items = 5)]
    pages: Option<Vec<PortalPage>>,
    /// How the portal looks.
    theme: Option<ThemeIn>,
    /// `false` leaves the portal's head and navigation out, for a page around it that has its own.
    navigation: Option<bool>,
    /// Makes the application, if the path names a uid that there is not.
    application: Option<application::ApplicationIn>,
}

/// How the portal looks to the customer.
#[derive(ToSchema)]
#[schema(as = AppPortalThemeIn, example = json!({"accent": "#0b6e4f", "logo": "https://cdn.example.com/logo.svg", "mode": "auto"}))]
#[expect(dead_code, reason = "for the document alone: `theme` reads it")]
struct ThemeIn {
    /// Of links and main buttons. Darkened in light and lightened in dark until text in it can be read.
    #[schema(value_type = Option<schemas::ColourText>)]
    accent: Option<String>,
    /// Grounds and ink where it is light. What cannot be read on them (a contrast below 4.5:1) is refused.
    light: Option<PaletteIn>,
    /// The same where it is dark.
    dark: Option<PaletteIn>,
    /// How round corners are, in pixels.
    #[schema(minimum = 0, maximum = 16)]
    radius: Option<u8>,
    /// An image, at an https URL, in place of the mark.
    #[schema(max_length = 2048, pattern = "^https://")]
    logo: Option<String>,
    /// Which of the two it is, until the customer chooses.
    mode: Option<Mode>,
}

/// Grounds and ink.
#[derive(ToSchema)]
#[schema(as = AppPortalPaletteIn)]
#[expect(dead_code, reason = "for the document alone: `palette` reads it")]
struct PaletteIn {
    /// Of the page.
    #[schema(value_type = Option<schemas::ColourText>)]
    ground: Option<String>,
    /// Of what lies on it: tables, fields.
    #[schema(value_type = Option<schemas::ColourText>)]
    surface: Option<String>,
    /// Of text.
    #[schema(value_type = Option<schemas::ColourText>)]
    ink: Option<String>,
}

/// What the body says, and the application that it describes.
fn read<'a>(fields: &mut Fields<'a>, now: Time) -> Result<(PortalOptions, Option<Fields<'a>>), ApiError> {
    let (usual, least, most) = EXPIRY;
    let expiry = fields.take::<u64>("expiry", "a whole number of seconds").set().unwrap_or(usual);
    if !(least..=most).contains(&expiry) {
        fields.note(Invalid::new("expiry", format!("must be {least} (1 hour) to {most} (7 days) seconds")));
    }
    let theme = fields.object("theme").set().map(theme);
    let mut options = PortalOptions {
        feature_flags: fields.names("featureFlags", limits::FEATURE_FLAGS).set().unwrap_or_default(),
        capabilities: fields.take_with("capabilities", capabilities).set(),
        session_id: fields.text("sessionId").set(),
        pages: fields.take_with("pages", pages).set(),
        theme: theme.map(|read| fields.inside(read)).transpose()?.flatten(),
        navigation: fields.flag("navigation").set().unwrap_or(true),
        ..PortalOptions::all(now.plus(Duration::from_secs(expiry)).micros())
    };
    let read_only = fields.flag("readOnly").set().unwrap_or(false);
    let application = fields.object("application").set();
    if let Err(wrong) = options.check() {
        wrong.into_iter().for_each(|wrong| fields.note(wrong));
    }
    if read_only {
        options.make_read_only();
    }
    Ok((options, application))
}

fn theme(mut fields: Fields<'_>) -> Result<Theme, ApiError> {
    fields.only(&["accent", "light", "dark", "radius", "logo", "mode"]);
    let mut palettes = [Palette::default(), Palette::default()];
    for (place, (name, shade)) in palettes.iter_mut().zip([("light", Shade::Light), ("dark", Shade::Dark)]) {
        if let Some(read) = fields.object(name).set().map(|fields| palette(fields, shade)) {
            *place = fields.inside(read)?.unwrap_or_default();
        }
    }
    let [light, dark] = palettes;
    let modes = "auto, light or dark";
    let theme = Theme {
        accent: colour(&mut fields, "accent"),
        light,
        dark,
        radius: fields.take("radius", "a whole number of pixels").set(),
        logo: fields.text("logo").set(),
        mode: fields.take("mode", modes).set().unwrap_or_default(),
    };
    fields.done(theme.check())?;
    Ok(theme)
}

fn palette(mut fields: Fields<'_>, shade: Shade) -> Result<Palette, ApiError> {
    fields.only(&["ground", "surface", "ink"]);
    let palette = Palette {
        ground: colour(&mut fields, "ground"),
        surface: colour(&mut fields, "surface"),
        ink: colour(&mut fields, "ink"),
    };
    fields.done(palette.check(shade))?;
    Ok(palette)
}

fn colour(fields: &mut Fields<'_>, name: &'static str) -> Option<Colour> {
    fields.parsed(name, |text| text.parse().map_err(|wrong: NoColour| Invalid::new(name, wrong.to_string()))).set()
}

fn pages(text: &str) -> Result<Vec<PortalPage>, String> {
    let known = || format!("must be a list of {}", PortalPage::ALL.map(PortalPage::word).join(", "));
    serde_json::from_str(text).map_err(|_| known())
}

fn capabilities(text: &str) -> Result<Vec<Capability>, String> {
    let known = || format!("must be a list of {}", Capability::ALL.map(Capability::word).join(", "));
    serde_json::from_str(text).map_err(|_| known())
}

/// Let a customer in
///
/// A token for the application, and a link into the portal. Again under the same `idempotency-key` the same rights are
/// given anew: what was given out is kept nowhere.
#[utoipa::path(
    post, path = "/auth/app-portal-access/{app_id}", request_body = AppPortalAccessIn,
    responses(
        (status = 200, description = "The way in.", body = AccessOut),
        (status = 501, description = "This server only verifies tokens, by a public key, and cannot make any."),
    )
)]
pub(in crate::api) async fn create(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    let act = async |call: &Call| give(call, &body).await;
    once(call, body.bytes(), Look::First, act, async |call, _| give(call, &body).await).await
}

/// Let a customer in, under an old path
///
/// As `/auth/app-portal-access/{app_id}` does it for a body that says nothing.
#[utoipa::path(
    post, path = "/auth/dashboard-access/{app_id}",
    responses(
        (status = 200, description = "The way in.", body = AccessOut),
        (status = 501, description = "This server only verifies tokens, by a public key, and cannot make any."),
    )
)]
pub(in crate::api) async fn create_by_old_path(call: Call) -> Answer {
    call.for_the_organization()?;
    let give = async |call: &Call| {
        can_sign(call)?;
        let options = PortalOptions::all(call.now.plus(Duration::from_secs(EXPIRY.0)).micros());
        let app = application::found_or_made(call, &named(call)?, None).await?;
        enter(call, app, options).await
    };
    once(call, &[], Look::First, give, async |call, _| give(call).await).await
}

fn named(call: &Call) -> Result<AppRef, ApiError> {
    AppRef::parse(call.part("app")).map_err(|wrong| ApiError::path("app_id", wrong))
}

/// Before anything is made for a token that cannot be.
fn can_sign(call: &Call) -> Result<(), ApiError> {
    call.callers().tokens().can_sign().map_err(|error| ApiError::not_possible(error.to_string()))
}

async fn give(call: &Call, body: &Body) -> Answer {
    can_sign(call)?;
    let named = named(call)?;
    let mut fields = body.fields()?;
    let (options, given) = read(&mut fields, call.now)?;
    let application = given.map(|given| application::read_named(given, &named)).transpose();
    fields.done(Ok(()))?;
    let app = application::found_or_made(call, &named, application?).await?;
    enter(call, app, options).await
}

/// The token and the link.
async fn enter(call: &Call, app: Application, options: PortalOptions) -> Answer {
    let ttl = Time::from_micros(options.until).since(call.now);
    let token = call
        .callers()
        .tokens()
        .mint_visit(&app.org, app.id, &options, call.wall(), ttl)
        .map_err(|error| ApiError::internal(&error))?;
    let code = api_key::random_text();
    let link = PortalLink { org: app.org, app_id: app.id, options, expires_at: call.now.plus(LINK_LIFE) };
    call.store().add_portal_link(&api_key::hash(&code), &link, call.now).await?;
    let mut url = call.portal_url().clone();
    url.set_path(&format!("/portal/enter/{}", *code));
    let mut answer = json(StatusCode::OK, &AccessOut { token, url: url.into() })?;
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(answer)
}
