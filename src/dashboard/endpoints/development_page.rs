//! Development endpoints: programs on developers' machines to which `sendoff listen` forwards messages. The list of
//! endpoints includes them; a page shows the responses of each.

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Block, Line, UrlQuery};
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::components::widgets::{Address, Badge, RelativeTime};
use crate::dashboard::http::current_user::{AppContext, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::domain::Time;
use crate::domain::catalog::development::{DevelopmentEndpoint, LocalAttempt};
use crate::store::StoreError;

/// Maximum attempts on the page.
const SHOWN: usize = 50;

/// A development endpoint in the list of endpoints.
pub struct DevelopmentRow {
    pub href: String,
    pub address: Address,
    pub name: Line,
    /// The last report.
    pub seen: RelativeTime,
}

/// The rows of an application's development endpoints.
///
/// # Errors
/// The store is unavailable.
pub async fn rows(state: &DashboardState, context: &AppContext) -> Result<Vec<DevelopmentRow>, StoreError> {
    let now = state.clock.now();
    let all = state.store.development_endpoints(&context.tenant(), context.app.id, now).await?;
    let row = |one: &DevelopmentEndpoint| DevelopmentRow {
        href: context.paths.page(&format!("development/{}", one.name)),
        address: Address::new(&one.url),
        name: Line::new(&one.name),
        seen: RelativeTime::new(one.seen_at, now),
    };
    Ok(all.iter().map(row).collect())
}

struct LocalAttemptRow {
    badge: Badge,
    event_type: Line,
    /// Empty: the user cannot open the message.
    href: String,
    result: PageText,
    took: String,
    when: RelativeTime,
    body: Block,
}

impl LocalAttemptRow {
    fn new(context: &AppContext, attempt: &LocalAttempt, now: Time) -> LocalAttemptRow {
        let (response, path) = (&attempt.response, context.paths.message(attempt.message_id));
        let result = match response.status {
            Some(status) => PageText::own(&format::status(status)),
            None if response.error.is_empty() => PageText::own("no response"),
            None => PageText::Foreign(Line::new(&response.error)),
        };
        LocalAttemptRow {
            badge: if response.is_success() { Badge::Delivered } else { Badge::Failed },
            event_type: Line::new(&attempt.event_type),
            href: if context.opens(&path) { path } else { String::new() },
            result,
            took: format::took(response.duration),
            when: RelativeTime::new(attempt.id.time(), now),
            body: Block::new(response.body.as_bytes()),
        }
    }
}

#[derive(Template)]
#[template(path = "development_endpoint.html")]
struct DevelopmentPage {
    layout: PageLayout,
    name: Line,
    address: Address,
    created: RelativeTime,
    seen: RelativeTime,
    expires: RelativeTime,
    attempts: Vec<LocalAttemptRow>,
    /// More attempts are kept than shown.
    more: bool,
}

/// `GET {base}/development/{listener}`.
pub async fn show(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    let (store, tenant, now) = (&state.store, context.tenant(), state.clock.now());
    let listener = part(&request, "listener")?;
    let all = store.development_endpoints(&tenant, context.app.id, now).await?;
    let found = all.into_iter().find(|one| one.name == listener).ok_or(PageError::NotFound)?;
    let attempts = store.local_attempts(&tenant, context.app.id, &found.name).await?;
    let page = DevelopmentPage {
        layout: PageLayout::of(&context, NavItem::Endpoints)
            .below(&context, [(context.paths.page("endpoints"), PageText::own("Endpoints"))])
            .with_notice(UrlQuery::of(&request).get("notice")),
        name: Line::new(&found.name),
        address: Address::new(&found.url),
        created: RelativeTime::new(found.created_at, now),
        seen: RelativeTime::new(found.seen_at, now),
        expires: RelativeTime::new(found.expires_at(), now),
        more: attempts.len() > SHOWN,
        attempts: attempts.iter().take(SHOWN).map(|one| LocalAttemptRow::new(&context, one, now)).collect(),
    };
    answer(StatusCode::OK, &page)
}
