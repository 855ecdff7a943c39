//! API keys: create, list, revoke. A key is shown only in the response to the form that created it.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use zeroize::Zeroizing;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, Query};
use crate::dashboard::components::parts::When;
use crate::dashboard::components::refused::refused;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Signed, part};
use crate::domain::access::api_key;
use crate::domain::access::api_key::{ApiKey, KeySpec, Scope, Scopes};
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
    created: When,
    used: Option<When>,
    state: State,
    path: String,
}

/// The state of a key.
enum State {
    Good(Option<When>),
    Expired(When),
    Revoked(When),
}

impl Row {
    fn new(key: &ApiKey, now: Time) -> Row {
        let when = |at| When::new(at, now);
        Row {
            name: Line::new(&key.name),
            text: format!("{}…{}", api_key::KEY_PREFIX, key.hint),
            scopes: key.scopes.to_string(),
            created: when(key.created_at),
            used: key.last_used_at.map(when),
            state: match (key.revoked_at, key.expires_at) {
                (Some(at), _) => State::Revoked(when(at)),
                (None, Some(at)) if now >= at => State::Expired(when(at)),
                (None, at) => State::Good(at.map(when)),
            },
            path: format!("/keys/{}", key.id),
        }
    }

    fn good(&self) -> bool {
        matches!(self.state, State::Good(_))
    }
}

/// The form for a new key: submitted values and errors.
#[derive(Default)]
struct Typed {
    name: String,
    scopes: Vec<String>,
    life: String,
    wrong: Vec<Invalid>,
}

impl Typed {
    fn name(&self) -> Line {
        Line::new(&self.name)
    }

    fn has(&self, word: &str) -> bool {
        self.scopes.iter().any(|one| one == word)
    }

    fn why(&self, field: &str) -> Option<&str> {
        self.wrong.iter().find(|wrong| wrong.field == field).map(|wrong| wrong.reason.as_str())
    }
}

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    frame: Frame,
    rows: Vec<Row>,
    older: Option<String>,
    paged: bool,
    typed: Typed,
}

impl KeysPage {
    fn scopes(&self) -> [(&'static str, &'static str); 3] {
        [
            (Scope::Write.word(), "full access"),
            (Scope::Send.word(), "create messages"),
            (Scope::Read.word(), "read everything except endpoint secrets"),
        ]
    }

    fn lives(&self) -> [(&'static str, Option<u32>, &'static str); 5] {
        LIVES
    }
}

/// `GET /keys`.
pub async fn list(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let typed = Typed { scopes: vec![Scope::Write.word().to_owned()], life: "never".to_owned(), ..Typed::default() };
    page(&state, &request, &signed, typed, StatusCode::OK).await
}

async fn page(
    state: &DashboardState,
    request: &HttpRequest,
    signed: &Signed,
    typed: Typed,
    status: StatusCode,
) -> Result<HttpResponse, PageError> {
    let (query, now) = (Query::of(request), state.clock.now());
    let after: Option<KeyId> = query.get("after").and_then(|text| text.parse().ok());
    let wanted = PageRequest { after, ..PageRequest::first(ROWS, Order::Descending) };
    let keys = state.store.api_keys(&signed.tenant(), &wanted).await?;
    let older = keys.data.last().filter(|_| keys.more).map(|last| format!("/keys?after={}", last.id));
    let page = KeysPage {
        frame: Frame::of(signed, Here::Keys).noting(query.get("notice")),
        rows: keys.data.iter().map(|key| Row::new(key, now)).collect(),
        older,
        paged: after.is_some(),
        typed,
    };
    answer(status, &page)
}

#[derive(Template)]
#[template(path = "key_made.html")]
struct MadePage<'a> {
    frame: Frame,
    name: Line,
    scopes: String,
    expires: Option<When>,
    text: &'a str,
}

/// `POST /keys`: creates a key. Its text appears in no URL, and `no-store` keeps it out of caches.
pub async fn create(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    let now = state.clock.now();
    let mut typed = Typed {
        name: posted.get("name").trim().to_owned(),
        scopes: posted.all("scope").map(str::to_owned).collect(),
        life: posted.get("life").to_owned(),
        wrong: Vec::new(),
    };
    let made = match make(&signed, &typed, now) {
        Ok((key, text)) => match signed.store(&state.store).add_api_key(&key, &api_key::hash(&text)).await {
            Ok(()) => Ok((key, text)),
            Err(error) => Err(refused(error, "name")?),
        },
        Err(wrong) => Err(wrong),
    };
    match made {
        Ok((key, text)) => {
            tracing::info!(org = %signed.org, key = %key.id, "an API key was made from a page");
            let page = MadePage {
                frame: Frame::of(&signed, Here::Keys),
                name: Line::new(&key.name),
                scopes: key.scopes.to_string(),
                expires: key.expires_at.map(|at| When::new(at, now)),
                text: &text,
            };
            answer(StatusCode::OK, &page)
        }
        Err(wrong) => {
            typed.wrong = wrong;
            page(&state, &request, &signed, typed, StatusCode::UNPROCESSABLE_ENTITY).await
        }
    }
}

fn make(signed: &Signed, typed: &Typed, now: Time) -> Result<(ApiKey, Zeroizing<String>), Vec<Invalid>> {
    let mut wrong = Vec::new();
    let scopes = Scopes::of_words(typed.scopes.iter().map(String::as_str));
    if scopes.words().is_empty() {
        wrong.push(Invalid::new("scope", "choose at least one permission"));
    }
    let life = LIVES.iter().find(|(word, ..)| *word == typed.life);
    let days = life.map_or_else(
        || {
            wrong.push(Invalid::new("life", "choose one of the options"));
            None
        },
        |(_, days, _)| *days,
    );
    let spec = KeySpec { name: typed.name.clone(), scopes, expires_at: days.map(|days| now.plus(DAY * days)) };
    match ApiKey::make(signed.org.clone(), spec, now) {
        Ok(made) if wrong.is_empty() => Ok(made),
        Ok(_) => Err(wrong),
        Err(more) => Err([wrong, more].concat()),
    }
}

#[derive(Template)]
#[template(path = "key_revoke.html")]
struct RevokePage {
    frame: Frame,
    /// `billing (…3f9a)`.
    called: Line,
    row: Row,
}

/// `GET /keys/{key}`: confirms before revoking.
pub async fn ask(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let id: KeyId = part(&request, "key")?.parse().map_err(|_| PageError::NotFound)?;
    let key = state.store.api_key(&signed.tenant(), id).await?.ok_or(PageError::NotFound)?;
    let row = Row::new(&key, state.clock.now());
    answer(StatusCode::OK, &RevokePage { frame: Frame::of(&signed, Here::Keys), called: Line::new(&key.called()), row })
}

/// `POST /keys/{key}/revoke`.
pub async fn revoke(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    _: Posted,
) -> Result<HttpResponse, PageError> {
    let id: KeyId = part(&request, "key")?.parse().map_err(|_| PageError::NotFound)?;
    let store = signed.store(&state.store);
    if !store.revoke_api_key(&signed.tenant(), id, state.clock.now()).await? {
        return Err(PageError::NotFound);
    }
    tracing::info!(org = %signed.org, key = %id, "an API key was revoked from a page");
    Ok(done("/keys", Notice::KeyRevoked))
}
