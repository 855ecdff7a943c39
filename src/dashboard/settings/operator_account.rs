//! One operator's account, for admins: its role and organizations, a link to reset the password, its second factor and
//! sessions, and its removal.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::http::current_user::{CurrentOperator, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::done;
use crate::dashboard::settings::operators::{AccessForm, OperatorRow};
use crate::dashboard::settings::session_list;
use crate::dashboard::settings::session_list::SessionRow;
use crate::domain::Invalid;
use crate::domain::access::api_key;
use crate::domain::access::operator::Operator;
use crate::store::access::operators::AccountChange;

/// The last admin cannot be demoted or removed.
const LAST_ADMIN: &str = "no other admin sees all organizations: make another account one first";

#[derive(Template)]
#[template(path = "operator.html")]
struct OperatorPage {
    layout: PageLayout,
    row: OperatorRow,
    form: AccessForm,
    /// The revision of the account when the form was opened.
    seen: Line,
    has_password: bool,
    second_factor: bool,
    sessions: Vec<SessionRow>,
    /// There may be more sessions.
    more: bool,
}

#[derive(Template)]
#[template(path = "reset_link.html")]
struct ResetLinkPage {
    layout: PageLayout,
    row: OperatorRow,
    url: Line,
}

impl OperatorPage {
    fn session_path(&self) -> String {
        format!("{}/sessions", self.row.path)
    }
}

#[derive(Template)]
#[template(path = "operator_remove.html")]
struct RemovePage {
    layout: PageLayout,
    row: OperatorRow,
    /// The account cannot be removed.
    last: bool,
}

async fn named(state: &DashboardState, request: &HttpRequest) -> Result<Operator, PageError> {
    let id = part(request, "operator")?.parse().map_err(|_| PageError::NotFound)?;
    state.store.operator(id).await?.ok_or(PageError::NotFound)
}

fn row(state: &DashboardState, user: &CurrentOperator, operator: &Operator) -> OperatorRow {
    OperatorRow::new(operator, user.account().map(|one| one.id), state.clock.now())
}

fn layout(user: &CurrentOperator) -> PageLayout {
    PageLayout::of(user, NavItem::Operators).under("/operators", "Operators")
}

/// Role and organizations, to notice a change since the form was opened.
fn seen(operator: &Operator) -> String {
    let orgs = operator.orgs.iter().flatten().map(|org| format!(" {org}")).collect::<String>();
    format!("{}{orgs}", operator.role.word())
}

/// `GET /operators/{operator}`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let operator = named(&state, &request).await?;
    page(&state, &request, &user, &operator, AccessForm::of(&operator), StatusCode::OK).await
}

async fn page(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
    operator: &Operator,
    form: AccessForm,
    status: StatusCode,
) -> PageResult {
    let (sessions, more) = session_list::rows(&state.store, user, Some(operator.id), state.clock.now()).await?;
    let page = OperatorPage {
        layout: layout(user).with_notice(UrlQuery::of(request).get("notice")),
        row: row(state, user, operator),
        form,
        seen: Line::new(&seen(operator)),
        has_password: operator.has_password,
        second_factor: operator.second_factor,
        sessions,
        more,
    };
    answer(status, &page)
}

/// `POST /operators/{operator}`: changes role and organizations.
pub async fn change(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    let before = named(&state, &request).await?;
    let mut form = AccessForm::submitted(&submitted);
    let changed = match form.read() {
        Ok(_) if submitted.get("seen") != seen(&before) => Ok(AccountChange::Conflict),
        Ok((role, orgs)) => {
            let after = Operator { role, orgs, ..before.clone() };
            let store = user.store(&state.store);
            Ok(store.change_access(&user.org, &before, &after, state.clock.now()).await?)
        }
        Err(wrong) => Err(wrong),
    };
    form.wrong = match changed {
        Ok(AccountChange::Done) => return Ok(done(&row(&state, &user, &before).path, FlashNotice::AccessChanged)),
        Ok(AccountChange::NotFound) => return Err(PageError::NotFound),
        Ok(AccountChange::LastAdmin) => vec![Invalid::new("role", LAST_ADMIN)],
        Ok(AccountChange::Conflict) => {
            vec![Invalid::new(
                "role",
                "someone else changed this account since you opened the form: check and save again",
            )]
        }
        Err(wrong) => wrong,
    };
    let now = named(&state, &request).await?;
    page(&state, &request, &user, &now, form, StatusCode::UNPROCESSABLE_ENTITY).await
}

/// `GET /operators/{operator}/remove`: confirms before removing the account.
pub async fn ask(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let operator = named(&state, &request).await?;
    let others = state.store.operators().await?;
    let last = operator.manages_accounts() && !others.iter().any(|one| one.id != operator.id && one.manages_accounts());
    remove_page(&state, &user, &operator, last, StatusCode::OK)
}

fn remove_page(
    state: &DashboardState,
    user: &CurrentOperator,
    operator: &Operator,
    last: bool,
    status: StatusCode,
) -> PageResult {
    answer(status, &RemovePage { layout: layout(user), row: row(state, user, operator), last })
}

/// `POST /operators/{operator}/remove`. Removing one's own account ends the session.
pub async fn remove(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let operator = named(&state, &request).await?;
    let store = user.store(&state.store);
    match store.remove_operator(&user.org, operator.id, state.clock.now()).await? {
        AccountChange::Done => Ok(done("/operators", FlashNotice::OperatorRemoved)),
        AccountChange::LastAdmin => remove_page(&state, &user, &operator, true, StatusCode::CONFLICT),
        AccountChange::NotFound | AccountChange::Conflict => Err(PageError::NotFound),
    }
}

/// `POST /operators/{operator}/reset`: creates a link to set a new password, which is shown once. Not for accounts
/// without a password.
pub async fn reset(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    let operator = named(&state, &request).await?;
    let code = submitted.credential(&state);
    let shown = || {
        let mut url = state.public_url.clone();
        url.set_path("/reset");
        url.set_fragment(None);
        url.query_pairs_mut().clear().append_pair("token", &code);
        let layout = layout(&user).under(&format!("/operators/{}", operator.id), &operator.name);
        let page = ResetLinkPage { layout, row: row(&state, &user, &operator), url: Line::new(url.as_str()) };
        answer(StatusCode::OK, &page)
    };
    let act = async || {
        let store = submitted.once(user.store(&state.store));
        match store.add_password_reset(&user.org, &operator, &api_key::hash(&code), state.clock.now()).await? {
            true => shown(),
            false => Err(PageError::NotFound),
        }
    };
    once(&state, &submitted, act, async |_| shown()).await
}

/// `POST /operators/{operator}/second-factor/remove`.
pub async fn remove_second_factor(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let operator = named(&state, &request).await?;
    let store = user.store(&state.store);
    match store.remove_second_factor(&user.org, &operator, state.clock.now()).await? {
        true => Ok(done(&row(&state, &user, &operator).path, FlashNotice::SecondFactorRemoved)),
        false => Err(PageError::NotFound),
    }
}

/// `POST /operators/{operator}/sessions/{session}/end`.
pub async fn end_session(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let operator = named(&state, &request).await?;
    let (store, hash) = (user.store(&state.store), session_list::named(&request)?);
    let ended = store.revoke_session(&user.org, Some(operator.id), &hash, state.clock.now()).await?;
    Ok(done(&row(&state, &user, &operator).path, session_list::notice(ended)))
}
