//! Operators' accounts. Operators who see all organizations manage them; every operator with an account can change
//! their own password. A one-time link always works, so nobody can be locked out.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, Query, roughly};
use crate::dashboard::components::parts::When;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Signed, part};
use crate::dashboard::sign_in::passwords::Visitor;
use crate::domain::access::operator::{Operator, orgs_of};
use crate::domain::access::password;
use crate::domain::access::password::PasswordHash;
use crate::domain::{Invalid, OperatorId, OrgId, Time};
use crate::store::StoreError;

struct Row {
    name: Line,
    sees: Line,
    created: When,
    seen: Option<When>,
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
            created: When::new(operator.created_at, now),
            seen: operator.seen_at.map(|at| When::new(at, now)),
            own: own == Some(operator.id),
            path: format!("/operators/{}", operator.id),
        }
    }
}

/// The form for a new account: submitted values and errors, also of the password form. Passwords are not kept.
#[derive(Default)]
struct Typed {
    name: String,
    some: bool,
    orgs: String,
    wrong: Vec<Invalid>,
}

impl Typed {
    fn wrong_with(wrong: Vec<Invalid>) -> Typed {
        Typed { wrong, ..Typed::default() }
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
    frame: Frame,
    /// Whether the user manages accounts; otherwise only their own is shown.
    all: bool,
    /// The user's own account name.
    own: Option<Line>,
    rows: Vec<Row>,
    typed: Typed,
    shortest: usize,
}

/// `GET /operators`.
pub async fn list(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    page(&state, &request, &signed, Typed::default(), StatusCode::OK).await
}

async fn page(
    state: &DashboardState,
    request: &HttpRequest,
    signed: &Signed,
    typed: Typed,
    status: StatusCode,
) -> Result<HttpResponse, PageError> {
    let (now, own) = (state.clock.now(), signed.account().map(|one| one.id));
    let mut operators = state.store.operators().await?;
    operators.retain(|one| signed.sees_all() || Some(one.id) == own);
    let page = OperatorsPage {
        frame: Frame::of(signed, Here::Operators).noting(Query::of(request).get("notice")),
        all: signed.sees_all(),
        own: signed.account().map(|one| Line::new(&one.name)),
        rows: operators.iter().map(|one| Row::new(one, own, now)).collect(),
        typed,
        shortest: password::SHORTEST,
    };
    answer(status, &page)
}

/// Requires permission to manage accounts.
fn need_all(signed: &Signed) -> Result<(), PageError> {
    if signed.sees_all() { Ok(()) } else { Err(PageError::NotAllowed) }
}

/// `POST /operators`: creates an account.
pub async fn create(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    need_all(&signed)?;
    let now = state.clock.now();
    let mut typed = Typed {
        name: posted.get("name").trim().to_owned(),
        some: posted.get("sees") == "some",
        orgs: posted.get("orgs").to_owned(),
        wrong: Vec::new(),
    };
    let made = match read(&typed, &posted, now) {
        Ok(operator) => keep(&state, &signed, &operator, posted.get("password"), now).await?,
        Err(wrong) => Err(wrong),
    };
    match made {
        Ok(()) => Ok(done("/operators", Notice::OperatorCreated)),
        Err(wrong) => {
            typed.wrong = wrong;
            page(&state, &request, &signed, typed, StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}

fn read(typed: &Typed, posted: &Posted, now: Time) -> Result<Operator, Vec<Invalid>> {
    let orgs = match typed.some {
        true => orgs_of(&typed.orgs).map(Some),
        false => Ok(None),
    };
    let checks = [
        password::check("password", posted.get("password")).err(),
        (posted.get("password") != posted.get("again")).then(|| Invalid::new("again", "does not match the password")),
    ];
    let mut wrong: Vec<Invalid> = checks.into_iter().flatten().collect();
    // Check the name too, to report all errors at once.
    let orgs = orgs.map_err(|one| wrong.push(one)).unwrap_or(None);
    match Operator::new(&typed.name, orgs, now) {
        Ok(operator) if wrong.is_empty() => Ok(operator),
        Ok(_) => Err(wrong),
        Err(more) => Err([wrong, more].concat()),
    }
}

async fn keep(
    state: &DashboardState,
    signed: &Signed,
    operator: &Operator,
    password: &str,
    now: Time,
) -> Result<Result<(), Vec<Invalid>>, PageError> {
    let hash = match state.passwords.make("password", password).await {
        Ok(hash) => hash,
        Err(wrong) => return Ok(Err(vec![wrong])),
    };
    match signed.store(&state.store).create_operator(&signed.org, operator, &hash, now).await {
        Ok(()) => Ok(Ok(())),
        Err(StoreError::Taken(_)) => Ok(Err(vec![Invalid::new("name", "is already taken")])),
        Err(StoreError::Invalid(wrong)) => Ok(Err(wrong)),
        Err(error) => Err(error.into()),
    }
}

/// `POST /operators/password`: changes the user's own password and ends their other sessions.
pub async fn change_password(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    let operator = signed.account().ok_or(PageError::NotAllowed)?;
    match changed(&state, &signed, operator, &posted).await? {
        Ok(()) => Ok(done("/operators", Notice::PasswordChanged)),
        Err(wrong) => {
            let typed = Typed::wrong_with(vec![wrong]);
            page(&state, &request, &signed, typed, StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}

async fn changed(
    state: &DashboardState,
    signed: &Signed,
    operator: &Operator,
    posted: &Posted,
) -> Result<Result<(), Invalid>, PageError> {
    let (now, new) = (state.clock.now(), posted.get("new"));
    if let Err(wrong) = password::check("new", new) {
        return Ok(Err(wrong));
    }
    if new != posted.get("new_again") {
        return Ok(Err(Invalid::new("new_again", "does not match the new password")));
    }
    // Limits guesses from an unattended browser. The session counts as its own device, so failed sign-ins elsewhere do
    // not block it.
    let session = hex::encode(signed.hash);
    let visitor = Visitor { name: &operator.name, exists: true, from: None, device: Some(&session) };
    if let Err(wait) = state.passwords.enter(visitor, now) {
        return Ok(Err(Invalid::new("current", format!("too many attempts; try again in {}", roughly(wait)))));
    }
    let before = state.store.operator_named(&operator.name).await?.map(|(_, hash)| hash);
    let before = before.unwrap_or_else(PasswordHash::nobodys);
    if !state.passwords.fit(posted.get("current"), before.clone()).await {
        return Ok(Err(Invalid::new("current", "is not correct")));
    }
    state.passwords.forgive(visitor);
    let after = match state.passwords.make("new", new).await {
        Ok(after) => after,
        Err(wrong) => return Ok(Err(wrong)),
    };
    let store = signed.store(&state.store);
    match store.change_password(&signed.org, operator, &before, &after, &signed.hash, now).await? {
        true => Ok(Ok(())),
        false => Ok(Err(Invalid::new("current", "was just changed elsewhere"))),
    }
}

#[derive(Template)]
#[template(path = "operator_remove.html")]
struct RemovePage {
    frame: Frame,
    row: Row,
    /// The last account that manages accounts; afterwards only a one-time link can.
    last: bool,
}

fn named(request: &HttpRequest) -> Result<OperatorId, PageError> {
    part(request, "operator")?.parse().map_err(|_| PageError::NotFound)
}

/// `GET /operators/{operator}`: confirms before removing the account.
pub async fn ask(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    need_all(&signed)?;
    let id = named(&request)?;
    let operators = state.store.operators().await?;
    let operator = operators.iter().find(|one| one.id == id).ok_or(PageError::NotFound)?;
    let last = operator.orgs.is_none() && !operators.iter().any(|one| one.id != id && one.orgs.is_none());
    let row = Row::new(operator, signed.account().map(|one| one.id), state.clock.now());
    answer(StatusCode::OK, &RemovePage { frame: Frame::of(&signed, Here::Operators), row, last })
}

/// `POST /operators/{operator}/remove`. Removing one's own account ends the session.
pub async fn remove(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    _: Posted,
) -> Result<HttpResponse, PageError> {
    need_all(&signed)?;
    let store = signed.store(&state.store);
    match store.remove_operator(&signed.org, named(&request)?, state.clock.now()).await? {
        true => Ok(done("/operators", Notice::OperatorRemoved)),
        false => Err(PageError::NotFound),
    }
}
