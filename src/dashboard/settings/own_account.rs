//! The user's own account: the password.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, UrlQuery, roughly};
use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::dashboard::settings::operators::OperatorRow;
use crate::dashboard::sign_in::passwords::SignInRequest;
use crate::domain::Invalid;
use crate::domain::access::operator::Operator;
use crate::domain::access::password;
use crate::domain::access::password::PasswordHash;

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    layout: PageLayout,
    row: OperatorRow,
    /// The error of the password form.
    wrong: Option<Invalid>,
    shortest: usize,
}

impl AccountPage {
    fn why(&self, field: &str) -> Option<&str> {
        self.wrong.as_ref().filter(|wrong| wrong.field == field).map(|wrong| wrong.reason.as_str())
    }
}

/// The user's account. Those who signed in by a one-time link have none.
fn own(user: &CurrentOperator) -> Result<&Operator, PageError> {
    user.account().ok_or(PageError::NotFound)
}

/// `GET /account`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    page(&state, &request, &user, None)
}

fn page(state: &DashboardState, request: &HttpRequest, user: &CurrentOperator, wrong: Option<Invalid>) -> PageResult {
    let operator = own(user)?;
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = AccountPage {
        layout: PageLayout::of(user, NavItem::Account).with_notice(UrlQuery::of(request).get("notice")),
        row: OperatorRow::new(operator, Some(operator.id), state.clock.now()),
        wrong,
        shortest: password::SHORTEST,
    };
    answer(status, &page)
}

/// `POST /account/password`: changes the user's own password and ends their other sessions.
pub async fn change_password(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    match changed(&state, &user, own(&user)?, &submitted).await? {
        Ok(()) => Ok(done("/account", FlashNotice::PasswordChanged)),
        Err(wrong) => page(&state, &request, &user, Some(wrong)),
    }
}

async fn changed(
    state: &DashboardState,
    user: &CurrentOperator,
    operator: &Operator,
    submitted: &VerifiedForm,
) -> Result<Result<(), Invalid>, PageError> {
    let (now, new) = (state.clock.now(), submitted.get("new"));
    if let Err(wrong) = password::check("new", new) {
        return Ok(Err(wrong));
    }
    if new != submitted.get("new_again") {
        return Ok(Err(Invalid::new("new_again", "does not match the new password")));
    }
    let before = match current_password(state, user, operator, submitted).await? {
        Ok(before) => before,
        Err(wrong) => return Ok(Err(wrong)),
    };
    let after = match state.passwords.hash("new", new).await {
        Ok(after) => after,
        Err(wrong) => return Ok(Err(wrong)),
    };
    let store = user.store(&state.store);
    match store.change_password(&user.org, operator, &before, &after, &user.hash, now).await? {
        true => Ok(Ok(())),
        false => Ok(Err(Invalid::new("current", "was just changed elsewhere"))),
    }
}

/// Verifies the field `current`. Guesses from an unattended browser are limited; the session counts as its own device,
/// so failed sign-ins elsewhere do not block it.
async fn current_password(
    state: &DashboardState,
    user: &CurrentOperator,
    operator: &Operator,
    submitted: &VerifiedForm,
) -> Result<Result<PasswordHash, Invalid>, PageError> {
    let session = hex::encode(user.hash);
    let attempt = SignInRequest { name: &operator.name, exists: true, from: None, device: Some(&session) };
    if let Err(wait) = state.passwords.admit(attempt, state.clock.now()) {
        return Ok(Err(Invalid::new("current", format!("too many attempts; try again in {}", roughly(wait)))));
    }
    let before = state.store.operator_named(&operator.name).await?.map(|(_, hash)| hash);
    let before = before.unwrap_or_else(PasswordHash::dummy);
    if !state.passwords.verify(submitted.get("current"), before.clone()).await {
        return Ok(Err(Invalid::new("current", "is not correct")));
    }
    state.passwords.reset(attempt);
    Ok(Ok(before))
}
