//! Sign-in through an identity provider: OpenID Connect, authorization code flow with PKCE.
//!
//! * [`provider`] – the provider's metadata and keys, the exchange of a code, ID tokens.
//!
//! Invariants:
//!
//! * Issuer and subject identify an account; a name never does.
//! * The role is derived from the groups at each sign-in. Without a role, no session is opened.
//! * The provider's response is accepted only in the browser that began the sign-in: a signed cookie holds state, nonce
//!   and verifier.
//! * If the provider is not available, passwords and one-time links still work.

pub mod provider;

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::PageResult;
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::session;
use crate::dashboard::http::session::{Cookies, set_cookie};
use crate::dashboard::sign_in::login::client;
use crate::dashboard::sign_in::oidc::provider::{OidcError, OidcProvider, SignInSecrets};
use crate::domain::Time;
use crate::domain::access::audit::{Actor, ActorKind};
use crate::domain::access::oidc::OidcIdentity;
use crate::store::StoreError;
use crate::store::access::operator_sessions::NewSession;

/// The path of the redirect URI.
pub const CALLBACK: &str = "/login/oidc/callback";
/// The longest duration of a sign-in at the provider.
const SIGN_IN_LIFE: Duration = Duration::from_secs(600);
/// Separates signatures of this cookie from others.
const COOKIE: &[u8] = b"oidc";

#[derive(Template)]
#[template(path = "oidc_failed.html")]
struct FailedPage {
    layout: PageLayout,
    title: &'static str,
    what: &'static str,
    todo: &'static str,
    label: Line,
}

/// A sign-in that has begun, as the cookie holds it.
#[derive(Serialize, Deserialize)]
struct BegunSignIn {
    secrets: SignInSecrets,
    /// In microseconds.
    until: i64,
}

fn redirect(state: &DashboardState) -> Url {
    let mut url = state.public_url.clone();
    url.set_path(CALLBACK);
    url
}

fn provider(state: &DashboardState) -> Result<&OidcProvider, PageError> {
    state.oidc.as_deref().ok_or(PageError::NotFound)
}

fn sign(state: &DashboardState, begun: &BegunSignIn) -> Result<String, PageError> {
    let json = serde_json::to_vec(begun).map_err(|_| PageError::BadRequest("The sign-in could not begin."))?;
    let mac = session::mac(&state.secret, &[COOKIE, &json]);
    Ok(format!("{}.{}", URL_SAFE_NO_PAD.encode(&json), URL_SAFE_NO_PAD.encode(mac)))
}

/// The sign-in that this browser began; `None`: none, or too long ago.
fn begun(state: &DashboardState, request: &HttpRequest, now: Time) -> Option<SignInSecrets> {
    let cookie = request.cookie(Cookies::Oidc.name(&state.public_url))?;
    let (text, mac) = cookie.value().split_once('.')?;
    let json = URL_SAFE_NO_PAD.decode(text).ok()?;
    if !session::same(mac, &URL_SAFE_NO_PAD.encode(session::mac(&state.secret, &[COOKIE, &json]))) {
        return None;
    }
    let begun: BegunSignIn = serde_json::from_slice(&json).ok()?;
    (now.micros() < begun.until).then_some(begun.secrets)
}

/// `GET /login/oidc`: redirects to the provider. Not a form, because the Content-Security-Policy forbids forms that
/// lead to other sites.
pub async fn begin(state: web::Data<DashboardState>) -> PageResult {
    let provider = provider(&state)?;
    let (url, secrets) = match provider.begin(&redirect(&state)).await {
        Ok(begun) => begun,
        Err(error) => return failed(provider, &error),
    };
    let until = state.clock.now().plus(SIGN_IN_LIFE).micros();
    let mut response = HttpResponse::SeeOther().insert_header((LOCATION, url.as_str())).finish();
    let cookie = sign(&state, &BegunSignIn { secrets, until })?;
    set_cookie(&mut response, &Cookies::Oidc.create(&state.public_url, cookie, SIGN_IN_LIFE.as_secs() as i64))?;
    Ok(response)
}

/// `GET /login/oidc/callback?code=&state=`: the redirect from the provider.
pub async fn finish(state: web::Data<DashboardState>, request: HttpRequest) -> PageResult {
    let provider = provider(&state)?;
    let (query, now) = (UrlQuery::of(&request), state.clock.now());
    let Some(secrets) = begun(&state, &request, now) else {
        return failed(provider, &OidcError::Refused("another browser, or too late".to_owned()));
    };
    let returned = query.get("state").unwrap_or_default();
    if !session::same(returned, &secrets.state) {
        return failed(provider, &OidcError::Refused("another state".to_owned()));
    }
    // An issuer in the response (RFC 9207) prevents mix-ups between providers.
    if query.get("iss").is_some_and(|issuer| issuer != provider.options.issuer) {
        return failed(provider, &OidcError::Refused("another issuer".to_owned()));
    }
    let Some(code) = query.get("code") else {
        return failed(provider, &OidcError::Refused("no code".to_owned()));
    };
    let mut response = match provider.finish(code, secrets, &redirect(&state)).await {
        Ok(identity) => signed_in(&state, &request, provider, &identity, now).await?,
        Err(error) => failed(provider, &error)?,
    };
    // A code works once, and so do its secrets.
    set_cookie(&mut response, &Cookies::Oidc.removal(&state.public_url))?;
    Ok(response)
}

async fn signed_in(
    state: &DashboardState,
    request: &HttpRequest,
    provider: &OidcProvider,
    identity: &OidcIdentity,
    now: Time,
) -> PageResult {
    let life = provider.options.session;
    let (token, client) = (session::new_token(), client(state, request));
    let new = NewSession { hash: &session::hash(&token), client: &client, until: now.plus(life) };
    let store = state.store.by(Actor::new(ActorKind::Operator, &identity.name));
    match store.sign_in_by_oidc(identity, new, now).await {
        Ok(()) => {}
        Err(StoreError::Taken(_)) => return failed(provider, &OidcError::NotAllowed("another account has the name")),
        Err(StoreError::Invalid(_)) => return failed(provider, &OidcError::NotAllowed("there are too many accounts")),
        Err(error) => return Err(error.into()),
    }
    tracing::info!(operator = identity.name, role = identity.role.word(), "operator signed in by OIDC");
    let mut response = HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish();
    set_cookie(&mut response, &Cookies::Operator.create(&state.public_url, token, life.as_secs() as i64))?;
    Ok(response)
}

/// The page of a failed sign-in. It contains no text from the provider or the browser.
fn failed(provider: &OidcProvider, error: &OidcError) -> PageResult {
    tracing::warn!(%error, "sign-in by OIDC failed");
    let (status, title, what, todo) = match error {
        OidcError::Unavailable(_) => (
            StatusCode::BAD_GATEWAY,
            "The identity provider is unavailable",
            "Sendoff could not reach it. Nothing was changed.",
            "Try again in a moment, or sign in with a password or a one-time link.",
        ),
        OidcError::Refused(_) => (
            StatusCode::UNAUTHORIZED,
            "Sign-in not completed",
            "The identity provider did not confirm it, or it took too long.",
            "Start again. If the problem persists, the log has the reason.",
        ),
        OidcError::Invalid(_) => (
            StatusCode::UNAUTHORIZED,
            "Sign-in rejected",
            "The identity provider sent an invalid response.",
            "Start again. If the problem persists, the log has the reason.",
        ),
        OidcError::NotAllowed(_) => (
            StatusCode::FORBIDDEN,
            "No access",
            "Your account at the identity provider has no access to this dashboard.",
            "Ask an admin to add you to a group with access.",
        ),
    };
    let label = Line::new(&provider.options.label);
    answer(status, &FailedPage { layout: PageLayout::bare(), title, what, todo, label })
}
