//! Signing in and out of the dashboard.
//!
//! * By **login link**, printed on the command line. The page behind it has one button, and only its POST redeems the
//!   link, so mail scanners and previews do no harm.
//! * By name and password, if there are accounts ([`operators`](crate::dashboard::settings::operators)). Neither the
//!   text nor the timing of the response reveals whether the name exists. Attempts are limited by
//!   [`passwords`](crate::dashboard::sign_in::passwords); a browser that signed in to an account before keeps a signed
//!   cookie, and with it a limit of its own.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use url::Url;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, UrlQuery, roughly};
use crate::dashboard::http::current_user::{CurrentOperator, LINK};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{FormInput, PageResult};
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::session;
use crate::dashboard::http::session::{Cookies, SESSION_HOURS, form_token, set_cookie};
use crate::dashboard::sign_in::passwords::{AttemptCheck, SignInRequest};
use crate::domain::access::audit::{Actor, ActorKind, action};
use crate::domain::access::operator::{Operator, parse_name};
use crate::domain::access::password::PasswordHash;
use crate::domain::{OrgId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::{Store, StoreError};

/// The lifetime of a login link.
const LINK_LIFE: Duration = Duration::from_secs(15 * 60);
const SESSION_LIFE: Duration = Duration::from_secs(SESSION_HOURS * 3_600);
/// The time for which a browser is remembered after a sign-in.
const DEVICE_LIFE: Duration = Duration::from_secs(180 * 86_400);

/// Creates a link that signs an operator of `org` in, once and within 15 minutes.
///
/// # Errors
/// The store is unavailable.
pub async fn new_link(store: &Store, org: &OrgId, public_url: &Url, now: Time) -> Result<String, StoreError> {
    let token = session::new_token();
    store.add_login_link(&session::hash(&token), org, now.plus(LINK_LIFE)).await?;
    let mut link = public_url.clone();
    link.set_path("/login");
    link.set_fragment(None);
    link.query_pairs_mut().clear().append_pair("token", &token);
    Ok(link.into())
}

/// The state of the login link in the URL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkState {
    /// Valid.
    Valid,
    /// None in the URL.
    Missing,
    /// Used, expired or unknown.
    Spent,
}

/// A failed sign-in by password.
enum SignInFailure {
    Wrong,
    /// Rate limited: the time until the next attempt.
    TooMany(Duration),
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    layout: PageLayout,
    link: LinkState,
    token: &'a str,
    /// Whether accounts exist, so the page asks for name and password.
    accounts: bool,
    name: Line,
    /// The error of the last attempt.
    refused: Option<String>,
}

fn page(status: StatusCode, page: &LoginPage<'_>) -> PageResult {
    let mut response = answer(status, page)?;
    if status == StatusCode::UNAUTHORIZED {
        // A 401 requires this header (RFC 9110, section 11.6.1). Browsers ignore the unknown scheme and show the page.
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Login-Link"));
    }
    Ok(response)
}

/// The page of a valid link.
fn open(csrf: String, token: &str) -> PageResult {
    let layout = PageLayout::bare().with_token(csrf);
    page(
        StatusCode::OK,
        &LoginPage { layout, link: LinkState::Valid, token, accounts: false, name: Line::default(), refused: None },
    )
}

/// The page without a valid link: asks for name and password, if there are accounts. A cookie binds its form to the
/// browser, so another site cannot sign a user in.
async fn ask(
    state: &DashboardState,
    request: &HttpRequest,
    link: LinkState,
    typed: &str,
    refused: Option<SignInFailure>,
) -> PageResult {
    let accounts = state.store.any_operators().await?;
    let (token, fresh) = match request.cookie(Cookies::SignIn.name(&state.public_url)) {
        Some(cookie) => (cookie.value().to_owned(), false),
        None => (session::new_token(), true),
    };
    let layout = PageLayout::bare().with_token(form_token(&state.secret, Cookies::SignIn.form(), &token));
    let status = match &refused {
        Some(SignInFailure::TooMany(_)) => StatusCode::TOO_MANY_REQUESTS,
        None if accounts && link == LinkState::Missing => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    };
    let words = refused.as_ref().map(SignInFailure::words);
    let made = LoginPage { layout, link, token: "", accounts, name: Line::new(typed), refused: words };
    let mut response = page(status, &made)?;
    if accounts && fresh {
        set_cookie(&mut response, &Cookies::SignIn.create(&state.public_url, token, SESSION_LIFE.as_secs() as i64))?;
    }
    if let Some(SignInFailure::TooMany(wait)) = refused {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    }
    Ok(response)
}

impl SignInFailure {
    fn words(&self) -> String {
        match self {
            SignInFailure::Wrong => "Wrong name or password.".to_owned(),
            SignInFailure::TooMany(wait) => format!(
                "Too many attempts. Try again in {}, or use a one-time link.",
                roughly(*wait + Duration::from_secs(1))
            ),
        }
    }
}

/// `GET /login`: checks the link without redeeming it.
pub async fn show(state: web::Data<DashboardState>, request: HttpRequest, user: Option<CurrentOperator>) -> PageResult {
    let query = UrlQuery::of(&request);
    let Some(token) = query.get("token") else {
        return if user.is_some() { Ok(go("/")) } else { ask(&state, &request, LinkState::Missing, "", None).await };
    };
    if state.store.is_login_link_valid(&session::hash(token), state.clock.now()).await? {
        open(form_token(&state.secret, "link", token), token)
    } else {
        ask(&state, &request, LinkState::Spent, "", None).await
    }
}

/// The sign-in form: a login link's token, or name and password.
#[derive(Deserialize)]
pub struct SignInForm {
    csrf: String,
    token: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
}

/// `POST /login`: redeems the link or verifies the password, and opens a session with a new token.
pub async fn sign_in(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    form: web::Form<SignInForm>,
) -> PageResult {
    let (session, now) = (session::new_token(), state.clock.now());
    let mut device = None;
    let opened = match &form.token {
        Some(token) => {
            by_link(&state, &form.csrf, token, &session, now).await?.then_some(()).ok_or((LinkState::Spent, None))
        }
        None => {
            let cookie = request.cookie(Cookies::SignIn.name(&state.public_url)).ok_or(PageError::WrongToken)?;
            let expected = form_token(&state.secret, Cookies::SignIn.form(), cookie.value());
            if !session::same(&form.csrf, &expected) {
                return Err(PageError::WrongToken);
            }
            let opened = by_password(&state, &request, &form, &session, now).await?;
            opened.map(|known| device = Some(known)).map_err(|why| (LinkState::Missing, Some(why)))
        }
    };
    match opened {
        Ok(()) => {
            let mut response = go("/");
            let cookie = Cookies::Operator.create(&state.public_url, session, SESSION_LIFE.as_secs() as i64);
            set_cookie(&mut response, &cookie)?;
            if let Some(device) = device {
                set_cookie(
                    &mut response,
                    &Cookies::Device.create(&state.public_url, device, DEVICE_LIFE.as_secs() as i64),
                )?;
            }
            Ok(response)
        }
        Err((link, refused)) => ask(&state, &request, link, &form.name, refused).await,
    }
}

async fn by_link(state: &DashboardState, csrf: &str, token: &str, session: &str, now: Time) -> Result<bool, PageError> {
    if !session::same(csrf, &form_token(&state.secret, "link", token)) {
        return Err(PageError::WrongToken);
    }
    let store = state.store.by(Actor::new(ActorKind::Link, LINK));
    let (link, session) = (session::hash(token), session::hash(session));
    let org = store.redeem_login_link(&link, &session, now, now.plus(SESSION_LIFE)).await?;
    if let Some(org) = &org {
        tracing::info!(%org, "operator signed in by link");
    }
    Ok(org.is_some())
}

/// Opens a session if the password is right, and returns the device cookie.
async fn by_password(
    state: &DashboardState,
    request: &HttpRequest,
    form: &SignInForm,
    session: &str,
    now: Time,
) -> Result<Result<String, SignInFailure>, PageError> {
    // An invalid name counts as unknown.
    let name = parse_name(&form.name).unwrap_or_default();
    let (from, began) = (state.address(request), Instant::now());
    let found = state.store.operator_named(&name).await?;
    let (operator, kept) = match found {
        Some((operator, kept)) => (Some(operator), kept),
        None => (None, PasswordHash::dummy()),
    };
    let known = operator.as_ref().and_then(|operator| device(state, request, operator));
    let attempt = SignInRequest { name: &name, exists: operator.is_some(), from, device: known.as_deref() };
    match state.passwords.admit(attempt, now) {
        Ok(AttemptCheck::Verify) => {}
        Ok(AttemptCheck::Simulate) => {
            tracing::debug!(?from, "sign-in with an unknown name not verified: too many attempts");
            state.passwords.simulate().await;
            return Ok(Err(SignInFailure::Wrong));
        }
        Err(wait) => {
            tracing::warn!(?from, "sign-in rejected: too many attempts");
            return Ok(Err(SignInFailure::TooMany(wait)));
        }
    }
    let fits = state.passwords.verify(&form.password, kept.clone()).await;
    if let Some(operator) = operator.as_ref().filter(|_| fits) {
        let store = state.store.by(Actor::new(ActorKind::Operator, &operator.name));
        let until = now.plus(SESSION_LIFE);
        if store.open_session(operator, &kept, &session::hash(session), now, until).await? {
            state.passwords.reset(attempt);
            tracing::info!(operator = operator.name, "operator signed in");
            let token = known.unwrap_or_else(session::new_token);
            return Ok(Ok(format!("{token}.{}", device_signature(state, operator, &token))));
        }
    }
    note_failure(&state.store, operator.as_ref(), from.map(|from| from.to_string()), now).await?;
    state.passwords.record_duration(began.elapsed());
    Ok(Err(SignInFailure::Wrong))
}

/// The device token, if this browser signed in to the account before.
fn device(state: &DashboardState, request: &HttpRequest, operator: &Operator) -> Option<String> {
    let cookie = request.cookie(Cookies::Device.name(&state.public_url))?;
    let (token, signature) = cookie.value().split_once('.')?;
    session::same(signature, &device_signature(state, operator, token)).then(|| token.to_owned())
}

/// Binds a device token to an account.
fn device_signature(state: &DashboardState, operator: &Operator, token: &str) -> String {
    form_token(&state.secret, Cookies::Device.form(), &format!("{} {token}", operator.id))
}

/// Records a failed sign-in. An unknown name is not recorded: it may be a password typed into the wrong field.
async fn note_failure(
    store: &Store,
    operator: Option<&Operator>,
    from: Option<String>,
    now: Time,
) -> Result<(), StoreError> {
    let org = operator.map_or_else(OrgId::default_org, Operator::home);
    let who = operator.map_or("an unknown name", |operator| operator.name.as_str());
    let from = from.map(|from| format!("from {from}")).unwrap_or_default();
    let store = store.by(Actor::new(ActorKind::Operator, who));
    tracing::warn!(operator = who, from, "sign-in failed");
    store.write_audit_entry(NewAuditEntry::of(&org, action::SIGN_IN_FAILED, "dashboard").with(&from), now).await
}

/// `POST /logout`: ends the session.
pub async fn sign_out(FormInput { state, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    user.store(&state.store).end_session(&user.hash, state.clock.now()).await?;
    let mut response = go("/login");
    set_cookie(&mut response, &Cookies::Operator.removal(&state.public_url))?;
    Ok(response)
}

fn go(to: &'static str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, to)).finish()
}
