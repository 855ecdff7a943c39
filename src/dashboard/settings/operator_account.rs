//! One operator's account, for admins: its role and organizations, and its removal.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::http::current_user::{CurrentOperator, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::done;
use crate::dashboard::settings::operators::{AccessForm, OperatorRow};
use crate::domain::Invalid;
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
    /// What the form was filled in on.
    seen: Line,
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
    page(&state, &request, &user, &operator, AccessForm::of(&operator), StatusCode::OK)
}

fn page(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
    operator: &Operator,
    form: AccessForm,
    status: StatusCode,
) -> PageResult {
    let page = OperatorPage {
        layout: layout(user).with_notice(UrlQuery::of(request).get("notice")),
        row: row(state, user, operator),
        form,
        seen: Line::new(&seen(operator)),
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
    page(&state, &request, &user, &now, form, StatusCode::UNPROCESSABLE_ENTITY)
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
