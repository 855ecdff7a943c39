//! The user's own account: the password, the second factor and the sessions.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form_errors::why;
use crate::dashboard::components::format::{UrlQuery, counted, roughly};
use crate::dashboard::components::widgets::RelativeTime;
use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::dashboard::settings::operators::OperatorRow;
use crate::dashboard::settings::session_list;
use crate::dashboard::settings::session_list::SessionRow;
use crate::dashboard::sign_in::passwords::SignInRequest;
use crate::domain::Invalid;
use crate::domain::access::operator::Operator;
use crate::domain::access::password;
use crate::domain::access::password::PasswordHash;
use crate::store::access::operators::OwnChange;

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    layout: PageLayout,
    row: OperatorRow,
    /// The account signs in with a password.
    password: bool,
    /// The second factor, if there is one.
    second: Option<SecondFactorRow>,
    sessions: Vec<SessionRow>,
    /// There may be more sessions.
    more: bool,
    /// The error of a form.
    wrong: Option<Invalid>,
    shortest: usize,
}

/// The second factor, as the page shows it.
struct SecondFactorRow {
    since: RelativeTime,
    /// It may be turned off.
    optional: bool,
    /// Unused recovery codes: `8 recovery codes`.
    codes: String,
}

impl AccountPage {
    /// Whether there are sessions to end.
    fn others(&self) -> bool {
        self.sessions.iter().any(|session| !session.current)
    }

    fn why(&self, field: &str) -> Option<&str> {
        why(self.wrong.as_slice(), field)
    }
}

/// The user's account. A user who signed in by a one-time link has none.
pub(in crate::dashboard::settings) fn own(user: &CurrentOperator) -> Result<&Operator, PageError> {
    user.account().ok_or(PageError::NotFound)
}

/// `GET /account`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    page(&state, &request, &user, None).await
}

/// The page, with the error of a form.
///
/// # Errors
/// The user has no account, or the store is unavailable.
pub(in crate::dashboard::settings) async fn page(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
    wrong: Option<Invalid>,
) -> PageResult {
    let (operator, store, now) = (own(user)?, &state.store, state.clock.now());
    let second = if operator.second_factor { store.second_factor(operator.id).await? } else { None };
    let (sessions, more) = session_list::rows(store, user, Some(operator.id), now).await?;
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = AccountPage {
        layout: PageLayout::of(user, NavItem::Account).with_notice(UrlQuery::of(request).get("notice")),
        row: OperatorRow::new(operator, Some(operator.id), now),
        password: operator.has_password,
        second: second.map(|second| SecondFactorRow {
            since: RelativeTime::new(second.since, now),
            optional: !state.require_totp,
            codes: counted(second.recovery_codes, "recovery code", "recovery codes"),
        }),
        sessions,
        more,
        wrong,
        shortest: password::SHORTEST,
    };
    answer(status, &page)
}

/// `POST /account/password`: changes the user's own password and ends their other sessions.
pub async fn change_password(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    match changed(&state, &user, own(&user)?, &submitted).await? {
        Ok(()) => Ok(done("/account", FlashNotice::PasswordChanged)),
        Err(wrong) => page(&state, &request, &user, Some(wrong)).await,
    }
}

/// `POST /account/sessions/{session}/end`.
pub async fn end_session(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let (store, hash, id) = (user.store(&state.store), session_list::named(&request)?, own(&user)?.id);
    let ended = store.revoke_session(&user.org, Some(id), &hash, state.clock.now()).await?;
    Ok(done("/account", session_list::notice(ended)))
}

/// `POST /account/sessions/end`: ends all sessions but this one.
pub async fn end_others(FormInput { state, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let (store, operator) = (user.store(&state.store), own(&user)?);
    store.end_other_sessions(&user.org, operator, &user.hash, state.clock.now()).await?;
    Ok(done("/account", FlashNotice::OtherSessionsEnded))
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
    let (store, own) = (user.store(&state.store), own_change(user, operator, &before));
    match store.change_password(own, &after, now).await? {
        true => Ok(Ok(())),
        false => Ok(Err(Invalid::new("current", "was just changed elsewhere"))),
    }
}

/// A change that the operator confirmed by the password with this hash.
pub(in crate::dashboard::settings) fn own_change<'a>(
    user: &'a CurrentOperator,
    operator: &'a Operator,
    password: &'a PasswordHash,
) -> OwnChange<'a> {
    OwnChange { from: &user.org, operator, password, keep: &user.hash }
}

/// Verifies the field `current`. Guesses from an unattended browser are limited; the session counts as its own device,
/// so failed sign-ins elsewhere do not block it.
pub(in crate::dashboard::settings) async fn current_password(
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
