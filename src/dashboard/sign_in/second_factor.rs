//! The second step of a sign-in: a code from an authenticator app, or a recovery code.
//!
//! Between the steps, the browser holds a signed ticket for 5 minutes. It is bound to the browser, the account and the
//! password that was verified. Codes count as sign-in attempts, like passwords, and a correct password alone does not
//! reset the count.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::Line;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::PageResult;
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::session;
use crate::dashboard::http::session::{Cookies, form_token};
use crate::dashboard::sign_in::login::{
    SignInFailure, browser_token, client, device, note_failure, signed_in, start_session,
};
use crate::dashboard::sign_in::passwords::SignInRequest;
use crate::domain::access::api_key;
use crate::domain::access::operator::Operator;
use crate::domain::access::password::PasswordHash;
use crate::domain::access::totp::TypedCode;
use crate::domain::{OperatorId, Time};
use crate::store::access::operator_sessions::PasswordSignIn;
use crate::store::access::second_factors::SecondFactorProof;

/// The time to enter a code after the password.
const TICKET_LIFE: Duration = Duration::from_secs(300);

#[derive(Template)]
#[template(path = "login_code.html")]
struct CodePage {
    layout: PageLayout,
    ticket: Line,
    /// The error of the last attempt.
    refused: Option<String>,
}

/// Signs the ticket of an account whose password was verified.
fn ticket(state: &DashboardState, browser: &str, operator: &Operator, password: &PasswordHash, until: Time) -> String {
    let until = until.micros();
    let id = operator.id.to_string();
    let parts = [b"ticket", browser.as_bytes(), id.as_bytes(), &until.to_be_bytes(), &password.fingerprint()];
    let mac = session::mac(&state.secret, &parts);
    format!("{id}.{until}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// The page that asks for a code.
///
/// # Errors
/// The template fails.
pub(in crate::dashboard::sign_in) fn ask(
    state: &DashboardState,
    browser: &str,
    operator: &Operator,
    password: &PasswordHash,
    now: Time,
) -> PageResult {
    page(state, browser, &ticket(state, browser, operator, password, now.plus(TICKET_LIFE)), None)
}

fn page(state: &DashboardState, browser: &str, ticket: &str, refused: Option<SignInFailure>) -> PageResult {
    let status = match &refused {
        None => StatusCode::OK,
        Some(SignInFailure::TooMany(_)) => StatusCode::TOO_MANY_REQUESTS,
        Some(SignInFailure::Wrong) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let words = refused.as_ref().map(|refused| match refused {
        SignInFailure::Wrong => "This code is wrong, or was used before.".to_owned(),
        SignInFailure::TooMany(_) => refused.words(),
    });
    let layout = PageLayout::bare().with_token(form_token(&state.secret, Cookies::SignIn.form(), browser));
    let mut response = answer(status, &CodePage { layout, ticket: Line::new(ticket), refused: words })?;
    if let Some(SignInFailure::TooMany(wait)) = refused {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    }
    Ok(response)
}

/// The form with the code.
#[derive(Deserialize)]
pub struct CodeForm {
    csrf: String,
    #[serde(default)]
    ticket: String,
    #[serde(default)]
    code: String,
}

/// `POST /login/code`.
pub async fn enter(state: web::Data<DashboardState>, request: HttpRequest, form: web::Form<CodeForm>) -> PageResult {
    let browser = browser_token(&state, &request, &form.csrf)?;
    let now = state.clock.now();
    let Some((operator, password)) = account(&state, &browser, &form.ticket, now).await? else {
        return Ok(expired());
    };
    let known = device(&state, &request, &operator);
    let attempt =
        SignInRequest { name: &operator.name, exists: true, from: state.address(&request), device: known.as_deref() };
    if let Err(wait) = state.passwords.admit(attempt, now) {
        return page(&state, &browser, &form.ticket, Some(SignInFailure::TooMany(wait)));
    }
    let proof = proof(&state, &operator, &form.code, now).await?;
    let client = client(&state, &request);
    let opened = match &proof {
        Some(second) => {
            let sign_in = PasswordSignIn { operator: &operator, password: &password, second };
            start_session(&state, sign_in, &client, now).await?
        }
        None => None,
    };
    match opened {
        Some(session) => {
            state.passwords.reset(attempt);
            signed_in(&state, session, Some((&operator, known)))
        }
        None => {
            note_failure(&state.store, Some(&operator), attempt.from.map(|from| from.to_string()), now).await?;
            page(&state, &browser, &form.ticket, Some(SignInFailure::Wrong))
        }
    }
}

fn expired() -> HttpResponse {
    crate::dashboard::sign_in::login::go("/login")
}

/// The account of a valid ticket, and its password hash.
async fn account(
    state: &DashboardState,
    browser: &str,
    given: &str,
    now: Time,
) -> Result<Option<(Operator, PasswordHash)>, PageError> {
    let mut parts = given.split('.');
    let (Some(id), Some(until)) = (parts.next(), parts.next()) else { return Ok(None) };
    let (Ok(id), Ok(until)) = (id.parse::<OperatorId>(), until.parse::<i64>()) else { return Ok(None) };
    let until = Time::from_micros(until);
    if now >= until {
        return Ok(None);
    }
    let Some(operator) = state.store.operator(id).await? else { return Ok(None) };
    let Some((operator, password)) = state.store.operator_named(&operator.name).await? else { return Ok(None) };
    let right = session::same(given, &ticket(state, browser, &operator, &password, until));
    Ok(right.then_some((operator, password)))
}

/// The proof of a typed code; `None`: the code is wrong.
async fn proof(
    state: &DashboardState,
    operator: &Operator,
    typed: &str,
    now: Time,
) -> Result<Option<SecondFactorProof>, PageError> {
    let Some(second) = state.store.second_factor(operator.id).await? else {
        // Removed since the password was verified.
        return Ok(Some(SecondFactorProof::NotNeeded));
    };
    Ok(match TypedCode::parse(typed) {
        Some(TypedCode::App(code)) => second.secret.accepts(&code, Some(second.used), now).map(SecondFactorProof::Code),
        Some(TypedCode::Recovery(code)) => Some(SecondFactorProof::Recovery(api_key::hash(&code))),
        None => None,
    })
}
