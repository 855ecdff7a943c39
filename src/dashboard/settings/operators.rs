//! Operators' accounts. Operators who see all organizations manage them; every operator with an account can change
//! their own password. A one-time link always works, so nobody can be locked out.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, UrlQuery, roughly};
use crate::dashboard::components::widgets::RelativeTime;
use crate::dashboard::http::current_user::{CurrentOperator, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::dashboard::sign_in::passwords::SignInRequest;
use crate::domain::access::operator::{Operator, parse_orgs};
use crate::domain::access::password;
use crate::domain::access::password::PasswordHash;
use crate::domain::{Invalid, OperatorId, OrgId, Time};
use crate::store::StoreError;

struct Row {
    name: Line,
    sees: Line,
    created: RelativeTime,
    seen: Option<RelativeTime>,
    /// The user's own account.
    own: bool,
    path: String,
}

impl Row {
    fn new(operator: &Operator, own: Option<OperatorId>, now: Time) -> Row {
        let sees = match &operator.orgs {
            None => "all organizations".to_owned(),
            Some(orgs) => orgs.iter().map(OrgId::as_str).collect::<Vec<_>>().join(", "),
        };
        Row {
            name: Line::new(&operator.name),
            sees: Line::cut(&sees, 300),
            created: RelativeTime::new(operator.created_at, now),
            seen: operator.seen_at.map(|at| RelativeTime::new(at, now)),
            own: own == Some(operator.id),
            path: format!("/operators/{}", operator.id),
        }
    }
}

/// The form for a new account: submitted values and errors, also of the password form. It never repeats a submitted
/// password.
#[derive(Default)]
struct NewAccountForm {
    name: String,
    some: bool,
    orgs: String,
    wrong: Vec<Invalid>,
}

impl NewAccountForm {
    fn wrong_with(wrong: Vec<Invalid>) -> NewAccountForm {
        NewAccountForm { wrong, ..NewAccountForm::default() }
    }

    fn name(&self) -> Line {
        Line::new(&self.name)
    }

    fn orgs(&self) -> Line {
        Line::new(&self.orgs)
    }

    fn why(&self, field: &str) -> Option<&str> {
        self.wrong.iter().find(|wrong| wrong.field == field).map(|wrong| wrong.reason.as_str())
    }
}

#[derive(Template)]
#[template(path = "operators.html")]
struct OperatorsPage {
    layout: PageLayout,
    /// Whether the user manages accounts; otherwise only their own is shown.
    all: bool,
    /// The user's own account name.
    own: Option<Line>,
    rows: Vec<Row>,
    form: NewAccountForm,
    shortest: usize,
}

/// `GET /operators`.
pub async fn list(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    page(&state, &request, &user, NewAccountForm::default(), StatusCode::OK).await
}

async fn page(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
    form: NewAccountForm,
    status: StatusCode,
) -> PageResult {
    let (now, own) = (state.clock.now(), user.account().map(|one| one.id));
    let mut operators = state.store.operators().await?;
    operators.retain(|one| user.sees_all() || Some(one.id) == own);
    let page = OperatorsPage {
        layout: PageLayout::of(user, NavItem::Operators).with_notice(UrlQuery::of(request).get("notice")),
        all: user.sees_all(),
        own: user.account().map(|one| Line::new(&one.name)),
        rows: operators.iter().map(|one| Row::new(one, own, now)).collect(),
        form,
        shortest: password::SHORTEST,
    };
    answer(status, &page)
}

/// Requires permission to manage accounts.
fn need_all(user: &CurrentOperator) -> Result<(), PageError> {
    if user.sees_all() { Ok(()) } else { Err(PageError::NotAllowed) }
}

/// `POST /operators`: creates an account.
pub async fn create(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    need_all(&user)?;
    let created = || Ok(done("/operators", FlashNotice::OperatorCreated));
    let act = async || match create_once(&state, &request, &user, &submitted).await? {
        Ok(()) => created(),
        Err(refused) => Ok(refused),
    };
    once(&state, &submitted, act, async |_| created()).await
}

/// Creates the account. `Err`: the page that says what is wrong.
async fn create_once(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
    submitted: &VerifiedForm,
) -> Result<Result<(), HttpResponse>, PageError> {
    let now = state.clock.now();
    let mut form = NewAccountForm {
        name: submitted.get("name").trim().to_owned(),
        some: submitted.get("sees") == "some",
        orgs: submitted.get("orgs").to_owned(),
        wrong: Vec::new(),
    };
    let made = match read(&form, submitted, now) {
        Ok(operator) => keep(state, user, submitted, &operator, now).await?,
        Err(wrong) => Err(wrong),
    };
    match made {
        Ok(()) => Ok(Ok(())),
        Err(wrong) => {
            form.wrong = wrong;
            page(state, request, user, form, StatusCode::UNPROCESSABLE_ENTITY).await.map(Err)
        }
    }
}

fn read(form: &NewAccountForm, submitted: &VerifiedForm, now: Time) -> Result<Operator, Vec<Invalid>> {
    let orgs = match form.some {
        true => parse_orgs(&form.orgs).map(Some),
        false => Ok(None),
    };
    let checks = [
        password::check("password", submitted.get("password")).err(),
        (submitted.get("password") != submitted.get("again"))
            .then(|| Invalid::new("again", "does not match the password")),
    ];
    let mut wrong: Vec<Invalid> = checks.into_iter().flatten().collect();
    // Check the name too, to report all errors at once.
    let orgs = orgs.map_err(|one| wrong.push(one)).unwrap_or(None);
    match Operator::new(&form.name, orgs, now) {
        Ok(operator) if wrong.is_empty() => Ok(operator),
        Ok(_) => Err(wrong),
        Err(more) => Err([wrong, more].concat()),
    }
}

async fn keep(
    state: &DashboardState,
    user: &CurrentOperator,
    submitted: &VerifiedForm,
    operator: &Operator,
    now: Time,
) -> Result<Result<(), Vec<Invalid>>, PageError> {
    let hash = match state.passwords.hash("password", submitted.get("password")).await {
        Ok(hash) => hash,
        Err(wrong) => return Ok(Err(vec![wrong])),
    };
    match submitted.once(user.store(&state.store)).create_operator(&user.org, operator, &hash, now).await {
        Ok(()) => Ok(Ok(())),
        Err(StoreError::Taken(_)) => Ok(Err(vec![Invalid::new("name", "is already taken")])),
        Err(StoreError::Invalid(wrong)) => Ok(Err(wrong)),
        Err(error) => Err(error.into()),
    }
}

/// `POST /operators/password`: changes the user's own password and ends their other sessions.
pub async fn change_password(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    let operator = user.account().ok_or(PageError::NotAllowed)?;
    match changed(&state, &user, operator, &submitted).await? {
        Ok(()) => Ok(done("/operators", FlashNotice::PasswordChanged)),
        Err(wrong) => {
            let form = NewAccountForm::wrong_with(vec![wrong]);
            page(&state, &request, &user, form, StatusCode::UNPROCESSABLE_ENTITY).await
        }
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
    // Limits guesses from an unattended browser. The session counts as its own device, so failed sign-ins elsewhere do
    // not block it.
    let session = hex::encode(user.hash);
    let attempt = SignInRequest { name: &operator.name, exists: true, from: None, device: Some(&session) };
    if let Err(wait) = state.passwords.admit(attempt, now) {
        return Ok(Err(Invalid::new("current", format!("too many attempts; try again in {}", roughly(wait)))));
    }
    let before = state.store.operator_named(&operator.name).await?.map(|(_, hash)| hash);
    let before = before.unwrap_or_else(PasswordHash::dummy);
    if !state.passwords.verify(submitted.get("current"), before.clone()).await {
        return Ok(Err(Invalid::new("current", "is not correct")));
    }
    state.passwords.reset(attempt);
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

#[derive(Template)]
#[template(path = "operator_remove.html")]
struct RemovePage {
    layout: PageLayout,
    row: Row,
    /// No other account can manage accounts: after its removal, only a one-time link can.
    last: bool,
}

fn named(request: &HttpRequest) -> Result<OperatorId, PageError> {
    part(request, "operator")?.parse().map_err(|_| PageError::NotFound)
}

/// `GET /operators/{operator}`: confirms before removing the account.
pub async fn ask(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    need_all(&user)?;
    let id = named(&request)?;
    let operators = state.store.operators().await?;
    let operator = operators.iter().find(|one| one.id == id).ok_or(PageError::NotFound)?;
    let last = operator.orgs.is_none() && !operators.iter().any(|one| one.id != id && one.orgs.is_none());
    let row = Row::new(operator, user.account().map(|one| one.id), state.clock.now());
    answer(StatusCode::OK, &RemovePage { layout: PageLayout::of(&user, NavItem::Operators), row, last })
}

/// `POST /operators/{operator}/remove`. Removing one's own account ends the session.
pub async fn remove(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    need_all(&user)?;
    let store = user.store(&state.store);
    match store.remove_operator(&user.org, named(&request)?, state.clock.now()).await? {
        true => Ok(done("/operators", FlashNotice::OperatorRemoved)),
        false => Err(PageError::NotFound),
    }
}
