//! Portal access for a customer: a token for one application, and a single-use link into the portal.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::http::body::{Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, json_secret};
use crate::api::openapi::schemas;
use crate::api::resources::application;
use crate::domain::access::api_key;
use crate::domain::access::colour::{Colour, ColourError};
use crate::domain::access::portal::{Capability, PortalOptions, PortalPage};
use crate::domain::access::theme::{ColourScheme, Palette, Theme, ThemeMode};
use crate::domain::catalog::application::Application;
use crate::domain::{Invalid, Time, limits};
use crate::service::portal_links;
use crate::store::AppRef;

/// Duration of the access in seconds: default, minimum, maximum.
const EXPIRY: (u64, u64, u64) = (7 * 24 * 3_600, 3_600, 7 * 24 * 3_600);

/// Access to an application.
#[derive(Serialize, ToSchema)]
#[schema(as = AppPortalAccessOut)]
struct AccessOut {
    /// A token for the application.
    token: String,
    /// A link into the portal. It works once, within 15 minutes.
    url: String,
}

/// The permissions of the customer, their duration, and the look of the portal.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"expiry": 3600, "readOnly": true}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct AppPortalAccessIn {
    /// Seconds until the token expires; 7 days by default.
    #[schema(minimum = 3600, maximum = 604800)]
    expiry: Option<u32>,
    /// Grants read access only.
    read_only: Option<bool>,
    /// The customer's permissions; all by default.
    #[schema(max_items = 6)]
    capabilities: Option<Vec<Capability>>,
    /// Your own name for this session, to expire it by name.
    #[schema(value_type = Option<schemas::PortalSessionName>)]
    session_id: Option<String>,
    /// Feature flags of the customer: event types behind them are visible.
    #[schema(value_type = Option<schemas::FeatureFlags>)]
    feature_flags: Option<Vec<String>>,
    /// The visible pages of the portal; all by default. Does not restrict the token.
    #[schema(min_items = 1, max_items = 5)]
    pages: Option<Vec<PortalPage>>,
    /// The look of the portal.
    theme: Option<ThemeIn>,
    /// `false` hides the portal's header and navigation, for embedding.
    navigation: Option<bool>,
    /// Creates the application if the uid in the path does not exist.
    application: Option<application::ApplicationIn>,
}

/// The look of the portal.
#[derive(ToSchema)]
#[schema(as = AppPortalThemeIn, example = json!({"accent": "#0b6e4f", "logo": "https://cdn.example.com/logo.svg", "mode": "auto"}))]
#[expect(dead_code, reason = "for the document alone: `theme` reads it")]
struct ThemeIn {
    /// The color of links and primary buttons. Adjusted in light and dark mode until text on it is readable.
    #[schema(value_type = Option<schemas::ColourText>)]
    accent: Option<String>,
    /// Colors of light mode. A contrast below 4.5:1 is rejected.
    light: Option<PaletteIn>,
    /// Colors of dark mode, with the same rule.
    dark: Option<PaletteIn>,
    /// The corner radius in pixels.
    #[schema(minimum = 0, maximum = 16)]
    radius: Option<u8>,
    /// The https URL of an image to show instead of the Sendoff logo.
    #[schema(max_length = 2048, pattern = "^https://")]
    logo: Option<String>,
    /// The initial mode, until the customer chooses one.
    mode: Option<ThemeMode>,
}

/// Colors of one mode.
#[derive(ToSchema)]
#[schema(as = AppPortalPaletteIn)]
#[expect(dead_code, reason = "for the document alone: `palette` reads it")]
struct PaletteIn {
    /// The page background.
    #[schema(value_type = Option<schemas::ColourText>)]
    ground: Option<String>,
    /// The background of tables and fields.
    #[schema(value_type = Option<schemas::ColourText>)]
    surface: Option<String>,
    /// The text color.
    #[schema(value_type = Option<schemas::ColourText>)]
    ink: Option<String>,
}

/// Reads the body; the second value is its `application`.
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
        theme: theme.map(|read| fields.nested(read)).transpose()?.flatten(),
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
    for (place, (name, shade)) in
        palettes.iter_mut().zip([("light", ColourScheme::Light), ("dark", ColourScheme::Dark)])
    {
        if let Some(read) = fields.object(name).set().map(|fields| palette(fields, shade)) {
            *place = fields.nested(read)?.unwrap_or_default();
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

fn palette(mut fields: Fields<'_>, shade: ColourScheme) -> Result<Palette, ApiError> {
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
    fields.parsed(name, |text| text.parse().map_err(|wrong: ColourError| Invalid::new(name, wrong.to_string()))).set()
}

fn pages(text: &str) -> Result<Vec<PortalPage>, String> {
    let known = || format!("must be a list of {}", PortalPage::ALL.map(PortalPage::word).join(", "));
    serde_json::from_str(text).map_err(|_| known())
}

fn capabilities(text: &str) -> Result<Vec<Capability>, String> {
    let known = || format!("must be a list of {}", Capability::ALL.map(Capability::word).join(", "));
    serde_json::from_str(text).map_err(|_| known())
}

/// Grant portal access
///
/// Returns a token for the application and a single-use link into the portal. Repeating the request with the same
/// `idempotency-key` grants the same access with a new token and link: neither is stored.
#[utoipa::path(
    post, path = "/auth/app-portal-access/{app_id}", request_body = AppPortalAccessIn,
    responses((status = 200, body = AccessOut), (status = 501, description = schemas::CANNOT_ISSUE))
)]
pub(in crate::api) async fn create(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    let act = async |call: &ApiCall| grant(call, &body).await;
    idempotent(call, body.bytes(), KeyLookup::Eager, act, async |call, _| grant(call, &body).await).await
}

/// Grant portal access, by the legacy path
///
/// The same as `/auth/app-portal-access/{app_id}` with an empty body.
#[utoipa::path(
    post, path = "/auth/dashboard-access/{app_id}",
    responses((status = 200, body = AccessOut), (status = 501, description = schemas::CANNOT_ISSUE))
)]
pub(in crate::api) async fn create_by_old_path(call: ApiCall) -> ApiResult {
    call.require_organization()?;
    let grant = async |call: &ApiCall| {
        can_sign(call)?;
        let options = PortalOptions::all(call.now.plus(Duration::from_secs(EXPIRY.0)).micros());
        let app = application::get_or_create(call, &app_ref(call)?, None).await?;
        access_response(call, app, options).await
    };
    idempotent(call, &[], KeyLookup::Eager, grant, async |call, _| grant(call).await).await
}

fn app_ref(call: &ApiCall) -> Result<AppRef, ApiError> {
    AppRef::parse(call.path_param("app")).map_err(|wrong| ApiError::path("app_id", wrong))
}

/// Checked before anything is created.
fn can_sign(call: &ApiCall) -> Result<(), ApiError> {
    call.authenticator().tokens().can_sign().map_err(|error| ApiError::not_configured(error.to_string()))
}

async fn grant(call: &ApiCall, body: &JsonBody) -> ApiResult {
    can_sign(call)?;
    let named = app_ref(call)?;
    let mut fields = body.fields()?;
    let (options, given) = read(&mut fields, call.now)?;
    let application = given.map(|given| application::read_for_path(given, &named)).transpose();
    fields.done(Ok(()))?;
    let app = application::get_or_create(call, &named, application?).await?;
    access_response(call, app, options).await
}

/// The token and the link.
async fn access_response(call: &ApiCall, app: Application, options: PortalOptions) -> ApiResult {
    let ttl = Time::from_micros(options.until).since(call.now);
    let token = call
        .authenticator()
        .tokens()
        .mint_portal(&app.org, app.id, &options, call.wall(), ttl)
        .map_err(|error| ApiError::internal(&error))?;
    let code = api_key::random_text();
    let url = portal_links::create(call.store(), &app, options, call.portal_url(), &code, call.now).await?;
    json_secret(&AccessOut { token, url: url.into() })
}
