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
use actix_web::http::header::{HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE};
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
use crate::dashboard::sign_in::second_factor;
use crate::domain::access::audit::{Actor, ActorKind, action};
use crate::domain::access::operator::{Operator, parse_name};
use crate::domain::access::password::PasswordHash;
use crate::domain::{OrgId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::access::operator_sessions::{NewSession, PasswordSignIn, SessionClient};
use crate::store::access::second_factors::SecondFactorProof;
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
pub(in crate::dashboard::sign_in) enum SignInFailure {
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
    /// The label of the button that signs in by the identity provider.
    oidc: Option<Line>,
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
        &LoginPage {
            layout,
            link: LinkState::Valid,
            token,
            accounts: false,
            name: Line::default(),
            oidc: None,
            refused: None,
        },
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
    let accounts = state.store.any_passwords().await?;
    let oidc = state.oidc.as_ref().map(|provider| Line::new(&provider.options.label));
    let (token, fresh) = match request.cookie(Cookies::SignIn.name(&state.public_url)) {
        Some(cookie) => (cookie.value().to_owned(), false),
        None => (session::new_token(), true),
    };
    let layout = PageLayout::bare().with_token(form_token(&state.secret, Cookies::SignIn.form(), &token));
    let layout = layout.with_notice(UrlQuery::of(request).get("notice"));
    let status = match &refused {
        Some(SignInFailure::TooMany(_)) => StatusCode::TOO_MANY_REQUESTS,
        None if (accounts || oidc.is_some()) && link == LinkState::Missing => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    };
    let words = refused.as_ref().map(SignInFailure::words);
    let made = LoginPage { layout, link, token: "", accounts, name: Line::new(typed), oidc, refused: words };
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
    pub fn words(&self) -> String {
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
    let now = state.clock.now();
    let Some(token) = &form.token else {
        let browser = browser_token(&state, &request, &form.csrf)?;
        return match by_password(&state, &request, &form, &browser, now).await? {
            Ok(response) => Ok(response),
            Err(refused) => ask(&state, &request, LinkState::Missing, &form.name, Some(refused)).await,
        };
    };
    match by_link(&state, &request, &form.csrf, token, now).await? {
        Some(session) => signed_in(&state, session, None),
        None => ask(&state, &request, LinkState::Spent, &form.name, None).await,
    }
}

/// The token of the browser that loaded the sign-in form.
///
/// # Errors
/// The form belongs to another browser.
pub(in crate::dashboard::sign_in) fn browser_token(
    state: &DashboardState,
    request: &HttpRequest,
    csrf: &str,
) -> Result<String, PageError> {
    let cookie = request.cookie(Cookies::SignIn.name(&state.public_url)).ok_or(PageError::WrongToken)?;
    let expected = form_token(&state.secret, Cookies::SignIn.form(), cookie.value());
    if session::same(csrf, &expected) { Ok(cookie.value().to_owned()) } else { Err(PageError::WrongToken) }
}

/// The browser of a request, for the list of sessions.
pub(in crate::dashboard::sign_in) fn client(state: &DashboardState, request: &HttpRequest) -> SessionClient {
    let agent = request.headers().get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    let address = state.address(request).map(|address| address.to_canonical().to_string());
    SessionClient { agent: agent.unwrap_or_default(), address: address.unwrap_or_default() }
}

/// Opens a session after the password and the second factor were verified, and returns its token. `None`: the account
/// was changed meanwhile, or the code was used before.
///
/// # Errors
/// The store is unavailable.
pub(in crate::dashboard::sign_in) async fn start_session(
    state: &DashboardState,
    sign_in: PasswordSignIn<'_>,
    client: &SessionClient,
    now: Time,
) -> Result<Option<String>, StoreError> {
    let token = session::new_token();
    let new = NewSession { hash: &session::hash(&token), client, until: now.plus(SESSION_LIFE) };
    let store = state.store.by(Actor::new(ActorKind::Operator, &sign_in.operator.name));
    let opened = store.open_session(sign_in, new, now).await?;
    if opened {
        tracing::info!(operator = sign_in.operator.name, "operator signed in");
    }
    Ok(opened.then_some(token))
}

/// Sets the cookies of a new session and, after a sign-in with an account, that of the browser; `known` is its token if
/// it signed in to the account before.
///
/// # Errors
/// A cookie is not a valid header value; ours always are.
pub(in crate::dashboard::sign_in) fn signed_in(
    state: &DashboardState,
    session: String,
    account: Option<(&Operator, Option<String>)>,
) -> PageResult {
    let mut response = go("/");
    let cookie = Cookies::Operator.create(&state.public_url, session, SESSION_LIFE.as_secs() as i64);
    set_cookie(&mut response, &cookie)?;
    if let Some((operator, known)) = account {
        let token = known.unwrap_or_else(session::new_token);
        let device = format!("{token}.{}", device_signature(state, operator, &token));
        let life = DEVICE_LIFE.as_secs() as i64;
        set_cookie(&mut response, &Cookies::Device.create(&state.public_url, device, life))?;
    }
    Ok(response)
}

/// Redeems the link and returns the token of the session; `None`: it was used or has expired.
async fn by_link(
    state: &DashboardState,
    request: &HttpRequest,
    csrf: &str,
    token: &str,
    now: Time,
) -> Result<Option<String>, PageError> {
    if !session::same(csrf, &form_token(&state.secret, "link", token)) {
        return Err(PageError::WrongToken);
    }
    let store = state.store.by(Actor::new(ActorKind::Link, LINK));
    let (link, new, client) = (session::hash(token), session::new_token(), client(state, request));
    let session = NewSession { hash: &session::hash(&new), client: &client, until: now.plus(SESSION_LIFE) };
    let org = store.redeem_login_link(&link, session, now).await?;
    if let Some(org) = &org {
        tracing::info!(%org, "operator signed in by link");
    }
    Ok(org.map(|_| new))
}

/// Opens a session if the password is right, or asks for the second factor.
async fn by_password(
    state: &DashboardState,
    request: &HttpRequest,
    form: &SignInForm,
    browser: &str,
    now: Time,
) -> Result<Result<HttpResponse, SignInFailure>, PageError> {
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
        if operator.second_factor {
            return second_factor::ask(state, browser, operator, &kept, now).map(Ok);
        }
        let sign_in = PasswordSignIn { operator, password: &kept, second: &SecondFactorProof::NotNeeded };
        if let Some(session) = start_session(state, sign_in, &client(state, request), now).await? {
            state.passwords.reset(attempt);
            return signed_in(state, session, Some((operator, known))).map(Ok);
        }
    }
    note_failure(&state.store, operator.as_ref(), from.map(|from| from.to_string()), now).await?;
    state.passwords.record_duration(began.elapsed());
    Ok(Err(SignInFailure::Wrong))
}

/// The device token, if this browser signed in to the account before.
pub(in crate::dashboard::sign_in) fn device(
    state: &DashboardState,
    request: &HttpRequest,
    operator: &Operator,
) -> Option<String> {
    let cookie = request.cookie(Cookies::Device.name(&state.public_url))?;
    let (token, signature) = cookie.value().split_once('.')?;
    session::same(signature, &device_signature(state, operator, token)).then(|| token.to_owned())
}

/// Binds a device token to an account.
fn device_signature(state: &DashboardState, operator: &Operator, token: &str) -> String {
    form_token(&state.secret, Cookies::Device.form(), &format!("{} {token}", operator.id))
}

/// Records a failed sign-in. An unknown name is not recorded: it may be a password typed into the wrong field.
pub(in crate::dashboard::sign_in) async fn note_failure(
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

pub(in crate::dashboard::sign_in) fn go(to: &'static str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, to)).finish()
}
