//! Tokens of a polling endpoint. A token is shown only in the response to the form that created it.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{Choice, Field, Form, FormPage};
use crate::dashboard::components::format::{Block, Line};
use crate::dashboard::endpoints::polling::{name_of, named, path_of, snippets};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, answer};
use crate::dashboard::http::posted::Posted;
use crate::dashboard::http::viewer::Inside;
use crate::domain::Invalid;
use crate::domain::access::api_key;
use crate::domain::access::portal::Capability;
use crate::domain::catalog::polling::{OVERLAP, PollingEndpoint, PollingToken};
use crate::store::StoreError;

const DAY: u32 = 86_400;
/// Choices of the lifetime: value, days, label.
const LIVES: [(&str, Option<u32>, &str); 4] = [
    ("never", None, "Never"),
    ("30d", Some(30), "In 30 days"),
    ("90d", Some(90), "In 90 days"),
    ("365d", Some(365), "In a year"),
];

#[derive(Template)]
#[template(path = "polling_token.html")]
struct TokenPage<'t> {
    frame: Frame,
    name: Line,
    text: &'t str,
    code: Block,
    path: String,
}

fn page(inside: &Inside, endpoint: &PollingEndpoint, form: Form) -> FormPage {
    let path = path_of(inside, endpoint);
    FormPage {
        frame: crate::dashboard::endpoints::polling::frame(inside),
        title: Line::new("Create token"),
        lead: "Gives access to this polling endpoint only. Older tokens stay valid for 5 minutes.",
        about: Line::new(&name_of(endpoint)),
        action: format!("{path}/token"),
        form,
        starts: Vec::new(),
        button: "Create token",
        back: path,
    }
}

fn form() -> Form {
    let choice = |(word, _, said): &(&str, Option<u32>, &str)| Choice::new(word, said, *word == "never");
    Form::new(vec![Field::select("life", "Expires", LIVES.iter().map(choice).collect())])
}

/// `GET {place}/polling/{poller}/token`.
pub async fn ask(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    inside.need_any(Capability::ROTATE_SECRET)?;
    let endpoint = named(&state.store, &request, &inside).await?;
    page(&inside, &endpoint, form()).answer()
}

/// `POST {place}/polling/{poller}/token`.
pub async fn make(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need_any(Capability::ROTATE_SECRET)?;
    let endpoint = named(&state.store, &request, &inside).await?;
    let Some((_, days, _)) = LIVES.iter().find(|(word, ..)| *word == posted.get("life")) else {
        let wrong = [Invalid::new("life", "choose one of the options")];
        return page(&inside, &endpoint, form().typed(&posted).blame(&wrong)).answer();
    };
    let life = days.map(|days| Duration::from_secs((days * DAY).into()));
    match show_new(&state, &inside, &endpoint, life).await? {
        Some(shown) => Ok(shown),
        None => Err(PageError::NotFound),
    }
}

/// Creates and shows a token. `None`: the polling endpoint is gone.
pub async fn show_new(
    state: &DashboardState,
    inside: &Inside,
    endpoint: &PollingEndpoint,
    life: Option<Duration>,
) -> Result<Option<HttpResponse>, PageError> {
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let (token, text) = PollingToken::make(inside.org.clone(), endpoint, life, now);
    let made: Result<bool, StoreError> =
        store.rotate_polling_token(&inside.tenant(), endpoint, &token, &api_key::hash(&text), OVERLAP).await;
    if !made? {
        return Ok(None);
    }
    let url = snippets::url(&state.api_url, &inside.app, endpoint);
    let page = TokenPage {
        frame: crate::dashboard::endpoints::polling::frame(inside),
        name: Line::new(&name_of(endpoint)),
        text: &text,
        code: Block::new(snippets::of(None).code(&url).as_bytes()),
        path: path_of(inside, endpoint),
    };
    answer(StatusCode::OK, &page).map(Some)
}
