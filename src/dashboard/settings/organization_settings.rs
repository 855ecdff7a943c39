//! The current organization's name and defaults, and the list of organizations for operators who see all.

use std::time::Duration;

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{Form, FormField, FormPage, SelectOption, number};
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::endpoints::endpoint_fields::{in_words, schedule};
use crate::dashboard::http::current_user::{CurrentOperator, ORGS};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::access::theme::{Theme, ThemeMode};
use crate::domain::catalog::organization_spec::{Organization, OrganizationSpec};
use crate::domain::{Invalid, OrgId, Time, duration_text};
use crate::store::catalog::organization_rows::OrganizationWrite;

const PATH: &str = "/settings/organization";
const LIST: &str = "/settings/organizations";

fn form(spec: &OrganizationSpec) -> Form {
    let theme = spec.theme.clone().unwrap_or_default();
    let waits = spec.retry_schedule.as_ref().map(in_words).unwrap_or_default();
    let retention = spec.payload_retention.map(duration_text::format).unwrap_or_default();
    let mode = |mode: ThemeMode, word, label| SelectOption::new(word, label, theme.mode == mode);
    Form::new(vec![
        FormField::text("name", "Name", &spec.name).help("Shown in the menu instead of the id."),
        FormField::text("retrySchedule", "Retry schedule", &waits).help(
            "Waits between attempts, such as 5s, 5m, 30m, 2h, for endpoints without their own. Leave empty for the \
             default, or enter none for a single attempt.",
        ),
        FormField::text("payloadRetention", "Payload retention", &retention).help(
            "How long payloads of new messages are kept, such as 30d. Leave empty to keep them as long as messages.",
        ),
        FormField::number("maxEndpoints", "Endpoints per application", spec.max_endpoints.map(u64::from), 1, 1_000_000)
            .help("Leave empty for the default."),
        FormField::tick("publicCatalog", "Public catalog of event types", spec.public_catalog)
            .help("Anyone can read the event types that need no feature flag, at /catalog/ and the organization's id."),
        FormField::text("accent", "Portal accent color", &theme.accent.map(|one| one.to_string()).unwrap_or_default())
            .help("#rrggbb. Used for links and buttons of portal links without a theme."),
        FormField::text("logo", "Portal logo", theme.logo.as_deref().unwrap_or_default())
            .kind("url")
            .help("An https URL."),
        FormField::select(
            "mode",
            "Portal mode",
            vec![
                mode(ThemeMode::Auto, "auto", "The customer's system setting"),
                mode(ThemeMode::Light, "light", "Light"),
                mode(ThemeMode::Dark, "dark", "Dark"),
            ],
        ),
    ])
}

fn read(submitted: &VerifiedForm, before: &OrganizationSpec) -> Result<OrganizationSpec, Vec<Invalid>> {
    let mut wrong = Vec::new();
    let mut noted = |one: Invalid| wrong.push(one);
    let mut spec = OrganizationSpec { name: submitted.get("name").trim().to_owned(), ..OrganizationSpec::default() };
    match submitted.given("retrySchedule").map(schedule).transpose() {
        Ok(schedule) => spec.retry_schedule = schedule,
        Err(one) => noted(one),
    }
    let retention = submitted.given("payloadRetention").map(duration_text::parse).transpose();
    match retention {
        Ok(retention) => spec.payload_retention = retention.filter(|span| *span != Duration::ZERO),
        Err(what) => noted(Invalid::new("payloadRetention", what)),
    }
    match number(submitted, "maxEndpoints", "a whole number from 1") {
        Ok(most) => spec.max_endpoints = most,
        Err(one) => noted(one),
    }
    spec.public_catalog = submitted.has("publicCatalog");
    // Palettes and the radius have no field here and are kept.
    let mut theme = before.theme.clone().unwrap_or_default();
    match submitted.given("accent").map(str::parse).transpose() {
        Ok(accent) => theme.accent = accent,
        Err(error) => noted(Invalid::new("accent", format!("{error}"))),
    }
    theme.logo = submitted.given("logo").map(str::to_owned);
    theme.mode = match submitted.get("mode") {
        "light" => ThemeMode::Light,
        "dark" => ThemeMode::Dark,
        _ => ThemeMode::Auto,
    };
    spec.theme = Some(theme).filter(|theme| *theme != Theme::default());
    wrong.extend(spec.check().err().into_iter().flatten());
    if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
}

async fn current(state: &DashboardState, user: &CurrentOperator) -> Result<Option<Organization>, PageError> {
    Ok(state.store.organization(&user.org).await?)
}

fn page(user: &CurrentOperator, form: Form, notice: Option<&str>) -> FormPage {
    FormPage::new(
        PageLayout::of(user, NavItem::Organization).with_notice(notice),
        "Organization",
        form,
        (PATH.to_owned(), "Save"),
        "/settings".to_owned(),
    )
    .about(Line::new(user.org.as_str()))
    .lead("Empty fields use the server's settings.")
}

/// The form with the revision of the row; a new organization has none.
fn at_revision(form: Form, row: Option<&Organization>) -> Form {
    match row {
        Some(row) => form.at_revision(row.updated_at),
        None => form,
    }
}

/// `GET /settings/organization`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let row = current(&state, &user).await?;
    let spec = row.as_ref().map(|row| row.spec.clone()).unwrap_or_default();
    let query = UrlQuery::of(&request);
    page(&user, at_revision(form(&spec), row.as_ref()), query.get("notice")).answer()
}

/// `POST /settings/organization`.
pub async fn change(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let row = current(&state, &user).await?;
    let before = row.as_ref().map(|row| row.spec.clone()).unwrap_or_default();
    let again = |wrong: &[Invalid]| {
        let form = at_revision(form(&before), row.as_ref()).filled(&submitted).with_errors(wrong);
        page(&user, form, None).answer()
    };
    let spec = match read(&submitted, &before) {
        Ok(spec) => spec,
        Err(wrong) => return again(&wrong),
    };
    let seen = submitted.given("seen").and_then(|text| text.parse().ok()).map(Time::from_micros);
    let (store, now) = (user.store(&state.store), state.clock.now());
    let reason = match store.put_organization(&user.org, &spec, seen, now).await? {
        OrganizationWrite::Written => return Ok(done(PATH, FlashNotice::Changed)),
        OrganizationWrite::Stale => {
            "someone else changed it since you opened this form. Compare your entries with the current values, then save again"
        }
        OrganizationWrite::TooMany => TOO_MANY,
    };
    again(&[Invalid::new("Not saved", reason)])
}

const TOO_MANY: &str = "cannot be added: there are 10,000 organizations with a name or defaults of their own";

/// An organization of the list.
struct Row {
    id: OrgId,
    name: Line,
    current: bool,
}

#[derive(Template)]
#[template(path = "organizations.html")]
struct OrganizationsPage {
    layout: PageLayout,
    rows: Vec<Row>,
    /// There are more.
    cut: bool,
}

/// `GET /settings/organizations`.
pub async fn list(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let defaults = state.store.organization_defaults();
    let row = |id: &OrgId| Row {
        name: defaults.of(id).map(|spec| Line::new(&spec.name)).unwrap_or_default(),
        current: *id == user.org,
        id: id.clone(),
    };
    let page = OrganizationsPage {
        layout: PageLayout::of(&user, NavItem::Organizations).with_notice(UrlQuery::of(&request).get("notice")),
        rows: user.orgs.iter().map(row).collect(),
        cut: user.orgs.len() as i64 >= ORGS,
    };
    answer(StatusCode::OK, &page)
}

fn new_form() -> Form {
    Form::new(vec![
        FormField::text("org", "Id", "")
            .required()
            .help("org_ and up to 60 letters and digits, such as org_staging. It can't be changed later."),
        FormField::text("name", "Name", "").help("Shown in the menu instead of the id."),
    ])
}

fn new_page(user: &CurrentOperator, form: Form) -> FormPage {
    let layout = PageLayout::of(user, NavItem::Organizations).under(LIST, "Organizations");
    FormPage::for_new(layout, "New organization", form, "Create organization", LIST.to_owned())
        .lead("One environment of your team, with its own applications, event types and API keys.")
}

/// `GET /settings/organizations/new`.
pub async fn new(PageInput { user, .. }: PageInput<CurrentOperator>) -> PageResult {
    new_page(&user, new_form()).answer()
}

/// `POST /settings/organizations/new`.
pub async fn create(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let again = |one: Invalid| new_page(&user, new_form().filled(&submitted).with_errors(&[one])).answer();
    let Ok(id) = submitted.get("org").trim().parse::<OrgId>() else {
        return again(Invalid::new("org", "must be org_ and 1 to 60 letters and digits"));
    };
    let spec = OrganizationSpec { name: submitted.get("name").trim().to_owned(), ..OrganizationSpec::default() };
    if let Err(mut wrong) = spec.check() {
        return again(wrong.swap_remove(0));
    }
    let (store, now) = (user.store(&state.store), state.clock.now());
    match store.put_organization(&id, &spec, None, now).await? {
        OrganizationWrite::Written => Ok(done(LIST, FlashNotice::Created)),
        OrganizationWrite::Stale => again(Invalid::new("org", "is already taken")),
        OrganizationWrite::TooMany => again(Invalid::new("org", TOO_MANY)),
    }
}
