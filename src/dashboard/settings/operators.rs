//! Operators' accounts: the list, and new ones. Admins who see all organizations manage them. A one-time link always
//! works, so nobody can be locked out.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form_errors::why;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::components::widgets::RelativeTime;
use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::access::operator::{Operator, OperatorRole, check_orgs, parse_orgs};
use crate::domain::access::password;
use crate::domain::{Invalid, OperatorId, OrgId, Time};
use crate::store::StoreError;

/// An account in the list.
pub(in crate::dashboard::settings) struct OperatorRow {
    pub name: Line,
    pub role: &'static str,
    pub sees: Line,
    pub created: RelativeTime,
    pub seen: Option<RelativeTime>,
    /// The user's own account.
    pub own: bool,
    pub path: String,
}

impl OperatorRow {
    pub fn new(operator: &Operator, own: Option<OperatorId>, now: Time) -> OperatorRow {
        let sees = match &operator.orgs {
            None => "all organizations".to_owned(),
            Some(orgs) => joined(orgs),
        };
        OperatorRow {
            name: Line::new(&operator.name),
            role: operator.role.word(),
            sees: Line::cut(&sees, 300),
            created: RelativeTime::new(operator.created_at, now),
            seen: operator.seen_at.map(|at| RelativeTime::new(at, now)),
            own: own == Some(operator.id),
            path: format!("/operators/{}", operator.id),
        }
    }
}

fn joined(orgs: &[OrgId]) -> String {
    orgs.iter().map(OrgId::as_str).collect::<Vec<_>>().join(", ")
}

/// Role and organizations, as submitted.
#[derive(Clone)]
pub(in crate::dashboard::settings) struct AccessForm {
    role: String,
    pub some: bool,
    orgs: String,
    pub wrong: Vec<Invalid>,
}

impl AccessForm {
    /// The form with the account's current values.
    pub fn of(operator: &Operator) -> AccessForm {
        AccessForm {
            role: operator.role.word().to_owned(),
            some: operator.orgs.is_some(),
            orgs: operator.orgs.as_deref().map(joined).unwrap_or_default(),
            wrong: Vec::new(),
        }
    }

    pub fn submitted(submitted: &VerifiedForm) -> AccessForm {
        AccessForm {
            role: submitted.get("role").to_owned(),
            some: submitted.get("sees") == "some",
            orgs: submitted.get("orgs").to_owned(),
            wrong: Vec::new(),
        }
    }

    /// The role and the organizations.
    ///
    /// # Errors
    /// All values that are not valid.
    pub fn read(&self) -> Result<(OperatorRole, Option<Vec<OrgId>>), Vec<Invalid>> {
        let mut wrong = Vec::new();
        let role = OperatorRole::from_word(&self.role);
        if role.is_none() {
            wrong.push(Invalid::new("role", "choose one of the options"));
        }
        let orgs = match self.some {
            true => parse_orgs(&self.orgs).and_then(|orgs| check_orgs(Some(&orgs)).map(|()| Some(orgs))),
            false => Ok(None),
        };
        match (role, orgs) {
            (Some(role), Ok(orgs)) => Ok((role, orgs)),
            (_, orgs) => {
                wrong.extend(orgs.err());
                Err(wrong)
            }
        }
    }

    pub fn roles(&self) -> [(&'static str, &'static str); 3] {
        [
            (OperatorRole::Viewer.word(), "Viewer"),
            (OperatorRole::Operator.word(), "Operator"),
            (OperatorRole::Admin.word(), "Admin"),
        ]
    }

    pub fn has_role(&self, word: &str) -> bool {
        self.role == word
    }

    pub fn orgs(&self) -> Line {
        Line::new(&self.orgs)
    }

    pub fn why(&self, field: &str) -> Option<&str> {
        why(&self.wrong, field)
    }
}

/// The form for a new account. It never repeats a submitted password.
struct NewAccountForm {
    name: String,
    access: AccessForm,
}

impl NewAccountForm {
    fn blank() -> NewAccountForm {
        let role = OperatorRole::Operator.word().to_owned();
        NewAccountForm {
            name: String::new(),
            access: AccessForm { role, some: false, orgs: String::new(), wrong: Vec::new() },
        }
    }

    fn name(&self) -> Line {
        Line::new(&self.name)
    }

    fn why(&self, field: &str) -> Option<&str> {
        self.access.why(field)
    }
}

#[derive(Template)]
#[template(path = "operators.html")]
struct OperatorsPage {
    layout: PageLayout,
    rows: Vec<OperatorRow>,
    form: NewAccountForm,
    shortest: usize,
}

/// `GET /operators`.
pub async fn list(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    page(&state, &request, &user, NewAccountForm::blank(), StatusCode::OK).await
}

async fn page(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
    form: NewAccountForm,
    status: StatusCode,
) -> PageResult {
    let (now, own) = (state.clock.now(), user.account().map(|one| one.id));
    let page = OperatorsPage {
        layout: PageLayout::of(user, NavItem::Operators).with_notice(UrlQuery::of(request).get("notice")),
        rows: state.store.operators().await?.iter().map(|one| OperatorRow::new(one, own, now)).collect(),
        form,
        shortest: password::SHORTEST,
    };
    answer(status, &page)
}

/// `POST /operators`: creates an account.
pub async fn create(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
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
    let mut form =
        NewAccountForm { name: submitted.get("name").trim().to_owned(), access: AccessForm::submitted(submitted) };
    let made = match read(&form, submitted, now) {
        Ok(operator) => keep(state, user, submitted, &operator, now).await?,
        Err(wrong) => Err(wrong),
    };
    match made {
        Ok(()) => Ok(Ok(())),
        Err(wrong) => {
            form.access.wrong = wrong;
            page(state, request, user, form, StatusCode::UNPROCESSABLE_ENTITY).await.map(Err)
        }
    }
}

fn read(form: &NewAccountForm, submitted: &VerifiedForm, now: Time) -> Result<Operator, Vec<Invalid>> {
    let checks = [
        password::check("password", submitted.get("password")).err(),
        (submitted.get("password") != submitted.get("again"))
            .then(|| Invalid::new("again", "does not match the password")),
    ];
    let mut wrong: Vec<Invalid> = checks.into_iter().flatten().collect();
    // Check the name too, to report all errors at once.
    let (role, orgs) = form.access.read().unwrap_or_else(|more| {
        wrong.extend(more);
        (OperatorRole::Viewer, None)
    });
    match Operator::new(&form.name, role, orgs, now) {
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
