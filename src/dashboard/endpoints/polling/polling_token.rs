//! Tokens of a polling endpoint. A token is shown only in the response to the form that created it.

use std::time::Duration;

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{Form, FormField, FormPage, SelectOption};
use crate::dashboard::components::format::{Block, Line};
use crate::dashboard::endpoints::polling::{fetch_snippets, form_page, name_of, named, path_of};
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::{once, shown_again};
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::verified_form::done;
use crate::domain::Invalid;
use crate::domain::access::api_key;
use crate::domain::access::portal::Capability;
use crate::domain::catalog::polling::{DEFAULT_OVERLAP, PollingEndpoint, token_text};
use crate::service::polling_tokens;

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
    layout: PageLayout,
    name: Line,
    text: &'t str,
    /// Code that fetches, by language.
    snippets: Vec<(&'static str, Block)>,
    path: String,
}

fn page(context: &AppContext, endpoint: &PollingEndpoint, form: Form) -> FormPage {
    form_page(context, endpoint, "Create token", ("token", "Create token"), form)
        .lead("Gives access to this polling endpoint only. Older tokens stay valid for 5 minutes.")
}

fn form() -> Form {
    let choice = |(word, _, said): &(&str, Option<u32>, &str)| SelectOption::new(word, said, *word == "never");
    Form::new(vec![FormField::select("life", "Expires", LIVES.iter().map(choice).collect())])
}

/// `GET {base}/polling/{poller}/token`.
pub async fn ask(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    context.need_any(Capability::ROTATE_SECRET)?;
    let endpoint = named(&state.store, &request, &context).await?;
    page(&context, &endpoint, form()).answer()
}

/// `POST {base}/polling/{poller}/token`.
pub async fn make(FormInput { state, request, user: context, submitted }: FormInput<AppContext>) -> PageResult {
    context.need_any(Capability::ROTATE_SECRET)?;
    let endpoint = named(&state.store, &request, &context).await?;
    let Some((_, days, _)) = LIVES.iter().find(|(word, ..)| *word == submitted.get("life")) else {
        let wrong = [Invalid::new("life", "choose one of the options")];
        return page(&context, &endpoint, form().filled(&submitted).with_errors(&wrong)).answer();
    };
    let life = days.map(|days| Duration::from_secs((days * DAY).into()));
    let (store, secret) = (submitted.once(context.store(&state.store)), submitted.credential(&state));
    let act = async || {
        let (tenant, now) = (context.tenant(), state.clock.now());
        let made = polling_tokens::rotate(&store, &tenant, &endpoint, &secret, life, DEFAULT_OVERLAP, now).await?;
        let (_, text) = made.ok_or(PageError::NotFound)?;
        shown(&state, &context, &endpoint, &text)
    };
    let again = async |_: &str| show_again(&state, &context, &endpoint, &token_text(&secret)).await;
    once(&state, &submitted, act, again).await
}

/// Shows the token of a repeated form, or redirects to the polling endpoint if the form is too old.
///
/// # Errors
/// The store is unavailable.
pub async fn show_again(
    state: &DashboardState,
    context: &AppContext,
    endpoint: &PollingEndpoint,
    text: &str,
) -> PageResult {
    match state.store.polling_token_by_hash(&api_key::hash(text)).await? {
        Some(token) if shown_again(token.created_at, state.clock.now()) => shown(state, context, endpoint, text),
        _ => Ok(done(&path_of(context, endpoint), FlashNotice::TokenShownBefore)),
    }
}

/// Shows a new token.
///
/// # Errors
/// The template fails.
pub fn shown(state: &DashboardState, context: &AppContext, endpoint: &PollingEndpoint, text: &str) -> PageResult {
    let url = fetch_snippets::url(&state.api_url, &context.app, endpoint);
    let page = TokenPage {
        layout: crate::dashboard::endpoints::polling::layout(context),
        name: Line::new(&name_of(endpoint)),
        text,
        snippets: fetch_snippets::ALL.iter().map(|one| (one.name, Block::new(one.code(&url).as_bytes()))).collect(),
        path: path_of(context, endpoint),
    };
    answer(StatusCode::OK, &page)
}
