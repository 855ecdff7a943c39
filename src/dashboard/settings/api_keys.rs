//! API keys: create, list, revoke. A key is shown only in the response to the form that created it, which shows it
//! again if it is posted again within minutes.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;
use zeroize::Zeroizing;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form_errors::{store_errors, why};
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::components::widgets::RelativeTime;
use crate::dashboard::http::current_user::{CurrentOperator, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::{once, shown_again};
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::access::api_key;
use crate::domain::access::api_key::{ApiKey, KeyScope, KeyScopes, KeySpec};
use crate::domain::{Invalid, KeyId, Time};
use crate::store::{Order, PageRequest};

/// Keys per page.
const ROWS: usize = 50;
const DAY: Duration = Duration::from_secs(86_400);

/// Choices of the lifetime: value, days, label.
const LIVES: [(&str, Option<u32>, &str); 5] = [
    ("never", None, "Never"),
    ("7d", Some(7), "In 7 days"),
    ("30d", Some(30), "In 30 days"),
    ("90d", Some(90), "In 90 days"),
    ("365d", Some(365), "In a year"),
];

struct Row {
    name: Line,
    /// `sk_…3f9a`.
    text: String,
    scopes: String,
    created: RelativeTime,
    used: Option<RelativeTime>,
    state: KeyState,
    path: String,
}

/// The state of a key.
enum KeyState {
    Active(Option<RelativeTime>),
    Expired(RelativeTime),
    Revoked(RelativeTime),
}

impl Row {
    fn new(key: &ApiKey, now: Time) -> Row {
        let when = |at| RelativeTime::new(at, now);
        Row {
            name: Line::new(&key.name),
            text: format!("{}…{}", api_key::KEY_PREFIX, key.hint),
            scopes: key.scopes.to_string(),
            created: when(key.created_at),
            used: key.last_used_at.map(when),
            state: match (key.revoked_at, key.expires_at) {
                (Some(at), _) => KeyState::Revoked(when(at)),
                (None, Some(at)) if now >= at => KeyState::Expired(when(at)),
                (None, at) => KeyState::Active(at.map(when)),
            },
            path: format!("/keys/{}", key.id),
        }
    }

    fn good(&self) -> bool {
        matches!(self.state, KeyState::Active(_))
    }
}

/// The form for a new key: submitted values and errors.
#[derive(Default)]
struct NewKeyForm {
    name: String,
    scopes: Vec<String>,
    life: String,
    wrong: Vec<Invalid>,
}

impl NewKeyForm {
    fn name(&self) -> Line {
        Line::new(&self.name)
    }

    fn has(&self, word: &str) -> bool {
        self.scopes.iter().any(|one| one == word)
    }

    fn why(&self, field: &str) -> Option<&str> {
        why(&self.wrong, field)
    }
}

#[derive(Template)]
#[template(path = "api_keys.html")]
struct KeysPage {
    layout: PageLayout,
    rows: Vec<Row>,
    older: Option<String>,
    paged: bool,
    form: NewKeyForm,
}

impl KeysPage {
    fn scopes(&self) -> [(&'static str, &'static str); 3] {
        [
            (KeyScope::Write.word(), "full access"),
            (KeyScope::Send.word(), "create messages"),
            (KeyScope::Read.word(), "read everything except endpoint secrets"),
        ]
    }

    fn lives(&self) -> [(&'static str, Option<u32>, &'static str); 5] {
        LIVES
    }
}

/// `GET /keys`.
pub async fn list(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let form = NewKeyForm {
        scopes: vec![KeyScope::Write.word().to_owned()],
        life: "never".to_owned(),
        ..NewKeyForm::default()
    };
    page(&state, &request, &user, form, StatusCode::OK).await
}

async fn page(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
    form: NewKeyForm,
    status: StatusCode,
) -> PageResult {
    let (query, now) = (UrlQuery::of(request), state.clock.now());
    let after: Option<KeyId> = query.get("after").and_then(|text| text.parse().ok());
    let wanted = PageRequest { after, ..PageRequest::first(ROWS, Order::Descending) };
    let keys = state.store.api_keys(&user.tenant(), &wanted).await?;
    let older = keys.data.last().filter(|_| keys.more).map(|last| format!("/keys?after={}", last.id));
    let page = KeysPage {
        layout: PageLayout::of(user, NavItem::Keys).with_notice(query.get("notice")),
        rows: keys.data.iter().map(|key| Row::new(key, now)).collect(),
        older,
        paged: after.is_some(),
        form,
    };
    answer(status, &page)
}

#[derive(Template)]
#[template(path = "api_key_created.html")]
struct MadePage<'a> {
    layout: PageLayout,
    name: Line,
    scopes: String,
    expires: Option<RelativeTime>,
    text: &'a str,
}

/// `POST /keys`: creates a key. Its text appears in no URL, and `no-store` keeps it out of caches.
pub async fn create(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    let text = api_key::key_text(&submitted.credential(&state));
    let act = async || create_once(&state, &request, &user, &submitted, text.clone()).await;
    let again = async |_: &str| {
        let now = state.clock.now();
        match state.store.api_key_by_hash(&api_key::hash(&text)).await? {
            Some(key) if shown_again(key.created_at, now) => created(&user, &key, &text, now),
            _ => Ok(done("/keys", FlashNotice::KeyShownBefore)),
        }
    };
    once(&state, &submitted, act, again).await
}

fn created(user: &CurrentOperator, key: &ApiKey, text: &str, now: Time) -> PageResult {
    let page = MadePage {
        layout: PageLayout::of(user, NavItem::Keys),
        name: Line::new(&key.name),
        scopes: key.scopes.to_string(),
        expires: key.expires_at.map(|at| RelativeTime::new(at, now)),
        text,
    };
    answer(StatusCode::OK, &page)
}

async fn create_once(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
    submitted: &VerifiedForm,
    text: Zeroizing<String>,
) -> PageResult {
    let now = state.clock.now();
    let mut form = NewKeyForm {
        name: submitted.get("name").trim().to_owned(),
        scopes: submitted.all("scope").map(str::to_owned).collect(),
        life: submitted.get("life").to_owned(),
        wrong: Vec::new(),
    };
    let made = match make(user, &form, text, now) {
        Ok((key, text)) => {
            match submitted.once(user.store(&state.store)).add_api_key(&key, &api_key::hash(&text)).await {
                Ok(()) => Ok((key, text)),
                Err(error) => Err(store_errors(error, "name")?),
            }
        }
        Err(wrong) => Err(wrong),
    };
    match made {
        Ok((key, text)) => {
            tracing::info!(org = %user.org, key = %key.id, "API key created from the dashboard");
            created(user, &key, &text, now)
        }
        Err(wrong) => {
            form.wrong = wrong;
            page(state, request, user, form, StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}

fn make(
    user: &CurrentOperator,
    form: &NewKeyForm,
    text: Zeroizing<String>,
    now: Time,
) -> Result<(ApiKey, Zeroizing<String>), Vec<Invalid>> {
    let mut wrong = Vec::new();
    let scopes = KeyScopes::of_words(form.scopes.iter().map(String::as_str));
    if scopes.words().is_empty() {
        wrong.push(Invalid::new("scope", "choose at least one permission"));
    }
    let life = LIVES.iter().find(|(word, ..)| *word == form.life);
    let days = life.map_or_else(
        || {
            wrong.push(Invalid::new("life", "choose one of the options"));
            None
        },
        |(_, days, _)| *days,
    );
    let spec = KeySpec { name: form.name.clone(), scopes, expires_at: days.map(|days| now.plus(DAY * days)) };
    match ApiKey::with_text(user.org.clone(), spec, text, now) {
        Ok(made) if wrong.is_empty() => Ok(made),
        Ok(_) => Err(wrong),
        Err(more) => Err([wrong, more].concat()),
    }
}

#[derive(Template)]
#[template(path = "api_key_revoke.html")]
struct RevokePage {
    layout: PageLayout,
    /// `billing (…3f9a)`.
    called: Line,
    row: Row,
}

/// `GET /keys/{key}`: confirms before revoking.
pub async fn ask(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let id: KeyId = part(&request, "key")?.parse().map_err(|_| PageError::NotFound)?;
    let key = state.store.api_key(&user.tenant(), id).await?.ok_or(PageError::NotFound)?;
    let row = Row::new(&key, state.clock.now());
    answer(
        StatusCode::OK,
        &RevokePage { layout: PageLayout::of(&user, NavItem::Keys), called: Line::new(&key.label()), row },
    )
}

/// `POST /keys/{key}/revoke`.
pub async fn revoke(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let id: KeyId = part(&request, "key")?.parse().map_err(|_| PageError::NotFound)?;
    let store = user.store(&state.store);
    if !store.revoke_api_key(&user.tenant(), id, state.clock.now()).await? {
        return Err(PageError::NotFound);
    }
    tracing::info!(org = %user.org, key = %id, "API key revoked from the dashboard");
    Ok(done("/keys", FlashNotice::KeyRevoked))
}
