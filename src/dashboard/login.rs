//! Signing in and out. An operator opens a **login link** that the command line printed; the page behind it has one button, and only
//! that button's POST uses the link up: a mail scanner or a preview that fetches the link does no harm.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;
use url::Url;

use super::DashboardState;
use super::error::PageError;
use super::frame::{Frame, answer};
use super::posted::Posted;
use super::session::{self, Cookies, SESSION_HOURS, form_token, set_cookie};
use super::show::Query;
use super::viewer::Signed;
use crate::domain::{OrgId, Time};
use crate::store::{Store, StoreError};

/// How long a login link is good.
const LINK_LIFE: Duration = Duration::from_secs(15 * 60);
const SESSION_LIFE: Duration = Duration::from_secs(SESSION_HOURS * 3_600);

/// Makes a link that signs an operator of `org` in once, within the next 15 minutes.
///
/// # Errors
/// The store is away.
pub async fn new_link(store: &Store, org: &OrgId, public_url: &Url, now: Time) -> Result<String, StoreError> {
    let token = session::new_token();
    store.add_login_link(&session::hash(&token), org, now.plus(LINK_LIFE)).await?;
    let mut link = public_url.clone();
    link.set_path("/login");
    link.set_fragment(None);
    link.query_pairs_mut().clear().append_pair("token", &token);
    Ok(link.into())
}

/// What the sign-in page has to say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// The link is good: here is the button.
    Open,
    /// No link at all.
    NoLink,
    /// Used, too old, or never ours.
    Spent,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    frame: Frame,
    door: Door,
    token: &'a str,
}

fn page(door: Door, csrf: String, token: &str) -> Result<HttpResponse, PageError> {
    let status = if door == Door::Open { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    let mut response = answer(status, &LoginPage { frame: Frame::bare().with_token(csrf), door, token })?;
    if door != Door::Open {
        // A 401 has to say how (RFC 9110, section 11.6.1). Browsers know no such scheme and show the page.
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, actix_web::http::header::HeaderValue::from_static("Login-Link"));
    }
    Ok(response)
}

/// `GET /login`: looks at the link and leaves it as it is.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Option<Signed>,
) -> Result<HttpResponse, PageError> {
    let query = Query::of(&request);
    let Some(token) = query.get("token") else {
        return if signed.is_some() { Ok(go("/")) } else { page(Door::NoLink, String::new(), "") };
    };
    if state.store.login_link_good(&session::hash(token), state.clock.now()).await? {
        page(Door::Open, form_token(&state.secret, "link", token), token)
    } else {
        page(Door::Spent, String::new(), "")
    }
}

/// What the sign-in form sends.
#[derive(Deserialize)]
pub struct SignIn {
    token: String,
    csrf: String,
}

/// `POST /login`: uses the link up and opens a session.
pub async fn sign_in(state: web::Data<DashboardState>, form: web::Form<SignIn>) -> Result<HttpResponse, PageError> {
    if !session::same(&form.csrf, &form_token(&state.secret, "link", &form.token)) {
        return Err(PageError::WrongToken);
    }
    let (link, token, now) = (session::hash(&form.token), session::new_token(), state.clock.now());
    let opened = state.store.redeem_login_link(&link, &session::hash(&token), now, now.plus(SESSION_LIFE)).await?;
    match opened {
        Some(org) => {
            tracing::info!(%org, "an operator signed in");
            let mut response = go("/");
            set_cookie(
                &mut response,
                &Cookies::Operator.made(&state.public_url, token, SESSION_LIFE.as_secs() as i64),
            )?;
            Ok(response)
        }
        None => page(Door::Spent, String::new(), ""),
    }
}

/// `POST /logout`: ends the session.
pub async fn sign_out(state: web::Data<DashboardState>, signed: Signed, _: Posted) -> Result<HttpResponse, PageError> {
    state.store.end_session(&signed.hash).await?;
    let mut response = go("/login");
    set_cookie(&mut response, &Cookies::Operator.gone(&state.public_url))?;
    Ok(response)
}

fn go(to: &'static str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, to)).finish()
}
