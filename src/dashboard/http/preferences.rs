//! Display preferences: theme, time zone, and the portal's language. They are in a short cookie, so they apply without
//! JavaScript, before sign-in and from the first byte of a page.

use actix_web::cookie::time::Duration;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::session::set_cookie;
use crate::dashboard::http::verified_form::own_path;
use crate::dashboard::portal::language::Language;

const COOKIE: &str = "sendoff_prefs";

/// The theme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThemePreference {
    /// Follows the operating system.
    #[default]
    Auto,
    Light,
    Dark,
}

/// The time zone of displayed times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockFace {
    /// The browser's. Only the script knows it; without scripts, times are in UTC.
    #[default]
    Local,
    Utc,
}

/// Display preferences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefs {
    pub theme: ThemePreference,
    pub clock: ClockFace,
    /// The user chose the theme; otherwise the portal's theme applies.
    pub chosen: bool,
    /// The language of the portal. `None`: the browser's.
    pub language: Option<Language>,
}

impl ThemePreference {
    pub const ALL: [ThemePreference; 3] = [ThemePreference::Auto, ThemePreference::Light, ThemePreference::Dark];

    pub fn word(&self) -> &'static str {
        match self {
            ThemePreference::Auto => "auto",
            ThemePreference::Light => "light",
            ThemePreference::Dark => "dark",
        }
    }

    fn from_word(word: &str) -> Option<ThemePreference> {
        ThemePreference::ALL.into_iter().find(|one| one.word() == word)
    }
}

impl ClockFace {
    pub const ALL: [ClockFace; 2] = [ClockFace::Local, ClockFace::Utc];

    pub fn word(&self) -> &'static str {
        match self {
            ClockFace::Local => "local",
            ClockFace::Utc => "utc",
        }
    }

    fn from_word(word: &str) -> Option<ClockFace> {
        ClockFace::ALL.into_iter().find(|one| one.word() == word)
    }
}

impl Prefs {
    /// Reads the cookie, such as `dark.utc.de`. Empty and missing parts get the default.
    pub fn of(request: &HttpRequest) -> Prefs {
        let cookie = request.cookie(COOKIE);
        let mut parts = cookie.as_ref().map(|cookie| cookie.value().split('.')).into_iter().flatten();
        let mut part = || parts.next().unwrap_or_default();
        let theme = ThemePreference::from_word(part());
        Prefs {
            theme: theme.unwrap_or_default(),
            clock: ClockFace::from_word(part()).unwrap_or_default(),
            chosen: theme.is_some(),
            language: Language::from_tag(part()),
        }
    }

    /// Whether the user chose this language.
    pub fn speaks(&self, language: &Language) -> bool {
        self.language.as_ref() == Some(language)
    }

    fn cookie(self, secure: bool) -> Cookie<'static> {
        // Not secret, and needed when the portal is embedded.
        let theme = if self.chosen { self.theme.word() } else { "" };
        let language = self.language.map_or_else(String::new, |language| format!(".{}", language.tag()));
        Cookie::build(COOKIE, format!("{theme}.{}{language}", self.clock.word()))
            .path("/")
            .http_only(true)
            .secure(secure)
            .same_site(if secure { SameSite::None } else { SameSite::Lax })
            .max_age(Duration::days(400))
            .finish()
    }
}

/// The preferences form; a missing field keeps its value.
#[derive(serde::Deserialize)]
pub struct PreferencesForm {
    theme: Option<String>,
    clock: Option<String>,
    language: Option<String>,
    /// The page to return to.
    #[serde(default)]
    back: String,
}

/// `POST /preferences`, also below `/portal`. Needs no session: it only changes this browser's display.
pub async fn choose(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    form: web::Form<PreferencesForm>,
) -> Result<HttpResponse, PageError> {
    let before = Prefs::of(&request);
    let theme = form.theme.as_deref().and_then(ThemePreference::from_word);
    let prefs = Prefs {
        theme: theme.unwrap_or(before.theme),
        clock: form.clock.as_deref().and_then(ClockFace::from_word).unwrap_or(before.clock),
        chosen: theme.is_some() || before.chosen,
        language: form.language.as_deref().and_then(Language::from_tag).or(before.language),
    };
    let mut response = HttpResponse::SeeOther().insert_header((LOCATION, own_path(&form.back).unwrap_or("/"))).finish();
    set_cookie(&mut response, &prefs.cookie(state.public_url.scheme() == "https"))?;
    Ok(response)
}
