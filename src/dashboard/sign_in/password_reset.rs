//! Password reset by a link from an admin, which works once, within an hour.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use askama::Template;
use serde::Deserialize;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form_errors::why;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::PageResult;
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::session;
use crate::dashboard::http::session::form_token;
use crate::dashboard::http::verified_form::done;
use crate::domain::Invalid;
use crate::domain::access::audit::{Actor, ActorKind};
use crate::domain::access::operator::Operator;
use crate::domain::access::{api_key, password};

/// Separates the CSRF tokens of this form from those of others.
const FORM: &str = "reset";

#[derive(Template)]
#[template(path = "password_reset.html")]
struct ResetPage<'a> {
    layout: PageLayout,
    /// The account's name; `None`: the link is not valid.
    name: Option<Line>,
    token: &'a str,
    wrong: Option<Invalid>,
    shortest: usize,
}

impl ResetPage<'_> {
    fn why(&self, field: &str) -> Option<&str> {
        why(self.wrong.as_slice(), field)
    }
}

fn page(state: &DashboardState, token: &str, operator: Option<&Operator>, wrong: Option<Invalid>) -> PageResult {
    let status = match (operator, &wrong) {
        (None, _) => StatusCode::NOT_FOUND,
        (Some(_), Some(_)) => StatusCode::UNPROCESSABLE_ENTITY,
        (Some(_), None) => StatusCode::OK,
    };
    let layout = PageLayout::bare().with_token(form_token(&state.secret, FORM, token));
    let name = operator.map(|operator| Line::new(&operator.name));
    answer(status, &ResetPage { layout, name, token, wrong, shortest: password::SHORTEST })
}

/// `GET /reset?token=`: checks the link without using it.
pub async fn show(state: web::Data<DashboardState>, request: HttpRequest) -> PageResult {
    let query = UrlQuery::of(&request);
    let token = query.get("token").unwrap_or_default();
    let operator = state.store.password_reset(&api_key::hash(token), state.clock.now()).await?;
    page(&state, token, operator.as_ref(), None)
}

/// The form with the new password.
#[derive(Deserialize)]
pub struct ResetForm {
    csrf: String,
    token: String,
    #[serde(default)]
    new: String,
    #[serde(default)]
    new_again: String,
}

/// `POST /reset`: sets the password, ends the account's sessions and invalidates the link.
pub async fn reset(state: web::Data<DashboardState>, form: web::Form<ResetForm>) -> PageResult {
    if !session::same(&form.csrf, &form_token(&state.secret, FORM, &form.token)) {
        return Err(PageError::WrongToken);
    }
    let (hash, now) = (api_key::hash(&form.token), state.clock.now());
    // Checked first: hashing a password is expensive.
    let Some(operator) = state.store.password_reset(&hash, now).await? else {
        return page(&state, &form.token, None, None);
    };
    let refuse = |wrong| page(&state, &form.token, Some(&operator), Some(wrong));
    if form.new != form.new_again {
        return refuse(Invalid::new("new_again", "does not match the new password"));
    }
    let password = match state.passwords.hash("new", &form.new).await {
        Ok(password) => password,
        Err(wrong) => return refuse(wrong),
    };
    let store = state.store.by(Actor::new(ActorKind::Operator, &operator.name));
    match store.reset_password(&operator.home(), &hash, &password, now).await? {
        true => {
            tracing::info!(operator = operator.name, "password reset by link");
            Ok(done("/login", FlashNotice::PasswordReset))
        }
        false => page(&state, &form.token, None, None),
    }
}
