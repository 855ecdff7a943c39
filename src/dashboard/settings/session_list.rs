//! Open sessions of operators: rows for the pages of accounts, and the list of all of them for admins.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::components::widgets::RelativeTime;
use crate::dashboard::http::current_user::{CurrentOperator, CurrentUser, LINK, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::done;
use crate::domain::{OperatorId, Time};
use crate::store::access::operator_sessions::ListedSession;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::{Store, StoreError};

/// Maximum rows.
const ROWS: i64 = 200;

/// A session in a list.
pub(in crate::dashboard::settings) struct SessionRow {
    pub name: Line,
    /// `Firefox on Linux`.
    pub browser: String,
    /// The browser's `User-Agent`.
    pub agent: Line,
    pub address: Line,
    pub since: RelativeTime,
    pub until: RelativeTime,
    /// The user's own, current session.
    pub current: bool,
    /// The last part of the path of its *End* button.
    pub id: String,
}

impl SessionRow {
    fn new(session: &ListedSession, current: &TokenHash, now: Time) -> SessionRow {
        SessionRow {
            name: Line::new(session.name.as_deref().unwrap_or(LINK)),
            browser: browser(&session.client.agent),
            agent: Line::cut(&session.client.agent, 200),
            address: Line::new(&session.client.address),
            since: RelativeTime::new(session.since, now),
            until: RelativeTime::new(session.until, now),
            current: session.hash == *current,
            id: hex::encode(session.hash),
        }
    }
}

/// The open sessions of an account, or of all operators; and whether there may be more.
///
/// # Errors
/// The store is unavailable.
pub(in crate::dashboard::settings) async fn rows(
    store: &Store,
    user: &CurrentUser,
    of: Option<OperatorId>,
    now: Time,
) -> Result<(Vec<SessionRow>, bool), StoreError> {
    let found = store.open_sessions(of, ROWS, now).await?;
    let more = found.len() as i64 >= ROWS;
    Ok((found.iter().map(|session| SessionRow::new(session, &user.hash, now)).collect(), more))
}

/// The session in the path.
///
/// # Errors
/// Not the hash of a session.
pub(in crate::dashboard::settings) fn named(request: &HttpRequest) -> Result<TokenHash, PageError> {
    let mut hash = [0; 32];
    hex::decode_to_slice(part(request, "session")?, &mut hash).map_err(|_| PageError::NotFound)?;
    Ok(hash)
}

/// The browser and the system of a user agent, if well known.
fn browser(agent: &str) -> String {
    let find =
        |names: &[(&str, &'static str)]| names.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name);
    // Most browsers also name those further down.
    let browser = find(&[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "unknown browser".to_owned(),
    }
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    layout: PageLayout,
    rows: Vec<SessionRow>,
    more: bool,
}

/// `GET /sessions`.
pub async fn list(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let (rows, more) = rows(&state.store, &user, None, state.clock.now()).await?;
    let layout = PageLayout::of(&user, NavItem::Sessions);
    let layout = layout.with_notice(UrlQuery::of(&request).get("notice"));
    answer(StatusCode::OK, &SessionsPage { layout, rows, more })
}

/// `POST /sessions/{session}/end`.
pub async fn end(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let (store, hash) = (user.store(&state.store), named(&request)?);
    let ended = store.revoke_session(&user.org, None, &hash, state.clock.now()).await?;
    Ok(done("/sessions", notice(ended)))
}

/// The notice after ending a session.
pub(in crate::dashboard::settings) fn notice(ended: bool) -> FlashNotice {
    if ended { FlashNotice::SessionEnded } else { FlashNotice::SessionAlreadyEnded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_named() {
        for (agent, wanted) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15",
                "Safari on macOS",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            ("curl/8.1", "curl"),
            ("", "unknown browser"),
        ] {
            assert_eq!(browser(agent), wanted, "{agent}");
        }
    }
}
