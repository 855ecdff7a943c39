//! The live tail. The page shows the latest attempts and has a refresh link; with the script, rows arrive as
//! server-sent events, rendered by the page's own template.

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use crate::dashboard::DashboardState;
use crate::dashboard::applications::app_lookup;
use crate::dashboard::applications::app_lookup::AppLookup;
use crate::dashboard::bulk::base;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::components::picker::{Picker, owner};
use crate::dashboard::components::widgets::RelativeTime;
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::{CurrentUser, Principal};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::live::tail_feed::{AttemptBatch, POLL, TailLimit, TailSubscription};
use crate::dashboard::overview::AttemptRow;
use crate::dashboard::portal::language::{self, Language};
use crate::domain::url_query;
use crate::domain::{AttemptId, Time};
use crate::store::query::attempts::ListedAttempt;
use crate::store::query::tail::TailFilter;
use crate::store::{EndpointRef, StoreError};
use crate::traffic::event_stream;
use crate::traffic::hangup::Hangup;

/// Rows on the page.
const ROWS: usize = 100;
/// The maximum number of rows per second of a stream.
const RATE: usize = 50;
/// The interval of comments, which keep proxies from closing an idle stream.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The interval at which the session is checked.
const CHECK: Duration = Duration::from_secs(5);
/// `Retry-After`, in seconds.
const RETRY_SECONDS: &str = "10";

/// A row of the page and of the stream.
#[derive(Template)]
#[template(path = "parts/tail_row.html")]
struct TailRow {
    id: AttemptId,
    row: AttemptRow,
    at: RelativeTime,
    /// Shows the application; customers have only one.
    across: bool,
}

impl HtmlSafe for TailRow {}

impl TailRow {
    fn new(line: &ListedAttempt, customer: bool, now: Time) -> TailRow {
        let paths = if customer { AppPaths::portal() } else { AppPaths::of_application(line.app_id) };
        let row = AttemptRow { href: paths.message(line.message_id), ..AttemptRow::new(line, now) };
        TailRow { id: line.id, row, at: RelativeTime::new(line.at, now), across: !customer }
    }
}

#[derive(Template)]
#[template(path = "tail.html")]
struct TailPage {
    layout: PageLayout,
    base: &'static str,
    picker: Picker,
    event_type: Line,
    failed: bool,
    filtered: bool,
    /// The page and its stream, with the same filters.
    here: String,
    events: String,
    rows: Vec<TailRow>,
    across: bool,
}

/// The filters of a URL. `None`: an unknown application or endpoint, so nothing matches.
struct TailParams {
    app: String,
    endpoint: String,
    filter: Option<TailFilter>,
}

impl TailParams {
    async fn of(state: &DashboardState, user: &CurrentUser, query: &UrlQuery) -> Result<TailParams, StoreError> {
        let (store, tenant) = (&state.store, user.tenant());
        let word = |name| query.get(name).unwrap_or_default().trim().to_owned();
        let (app, endpoint) = (word("app"), word("endpoint"));
        let mut filter = TailFilter {
            app: tenant.only,
            endpoint: None,
            event_type: Some(word("type")).filter(|name| !name.is_empty()),
            failed: query.get("status") == Some("failed"),
        };
        if tenant.only.is_none() && !app.is_empty() {
            match app_lookup::find(store, &tenant, &app).await? {
                AppLookup::Found(id) => filter.app = Some(id),
                AppLookup::NotFound(_) => return Ok(TailParams { app, endpoint, filter: None }),
            }
        }
        if !endpoint.is_empty() {
            let of = match filter.app {
                Some(app) => Some(app),
                None => owner(store, &tenant, &endpoint).await?,
            };
            filter.endpoint = match (of, EndpointRef::parse(&endpoint)) {
                (Some(app), Ok(named)) => store.endpoint(&tenant, app, &named).await?.map(|endpoint| endpoint.id),
                _ => None,
            };
            if filter.endpoint.is_none() {
                return Ok(TailParams { app, endpoint, filter: None });
            }
        }
        Ok(TailParams { app, endpoint, filter: Some(filter) })
    }

    /// The filters as a query.
    fn query(&self) -> String {
        let filter = self.filter.clone().unwrap_or_default();
        url_query::encode([
            ("app", self.app.as_str()),
            ("endpoint", &self.endpoint),
            ("type", filter.event_type.as_deref().unwrap_or_default()),
            ("status", if filter.failed { "failed" } else { "" }),
        ])
    }
}

/// `GET /tail`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentUser>) -> PageResult {
    let (query, now, tenant) = (UrlQuery::of(&request), state.clock.now(), user.tenant());
    let params = TailParams::of(&state, &user, &query).await?;
    let lines = match &params.filter {
        Some(filter) => state.store.tail(&tenant, filter, ROWS).await?,
        None => Vec::new(),
    };
    let (words, base) = (params.query(), base(&user));
    let customer = matches!(user.principal, Principal::Customer(_));
    // A customer's form has no field for the application.
    let fault = match customer {
        true => ("endpoint", "No endpoint has this id or uid."),
        false => ("app", "Application or endpoint not found."),
    };
    let wrong = |field: &str| (field == fault.0 && params.filter.is_none()).then(|| Line::new(fault.1));
    let filter = params.filter.clone().unwrap_or_default();
    let page = TailPage {
        layout: PageLayout::of(&user, NavItem::Live),
        base,
        picker: Picker::of(&state.store, &tenant, (&params.app, &params.endpoint), wrong).await?,
        event_type: Line::new(filter.event_type.as_deref().unwrap_or_default()),
        failed: filter.failed,
        filtered: !words.is_empty(),
        here: format!("{base}/tail?{words}"),
        events: format!("{base}/tail/events?{words}"),
        across: !customer,
        rows: lines.iter().map(|line| TailRow::new(line, customer, now)).collect(),
    };
    answer(StatusCode::OK, &page)
}

/// `GET /tail/events`: `event: attempt` with a row; `event: left-out` with the number of rows above the rate limit, and
/// `more` if even more were not counted. The stream ends with the session, the process or the connection.
pub async fn events(PageInput { state, request, user }: PageInput<CurrentUser>) -> PageResult {
    let query = UrlQuery::of(&request);
    let params = TailParams::of(&state, &user, &query).await?;
    let Some(filter) = params.filter else { return Err(PageError::NotFound) };
    let subscription = match state.feeds.open(&state.store, state.clock, &user.tenant(), user.hash) {
        Ok(subscription) => subscription,
        Err(why) => return Ok(limit_reached(why)),
    };
    let hangup = request.conn_data::<Hangup>().cloned().unwrap_or_default();
    let stream = TailStream::new(state, user, Language::of(&request), filter, subscription, hangup);
    Ok(event_stream::respond(unfold(stream, async |mut stream| Some((stream.next().await?, stream)))))
}

fn limit_reached(why: TailLimit) -> HttpResponse {
    let (status, text) = match why {
        TailLimit::Session => (
            StatusCode::TOO_MANY_REQUESTS,
            "You have too many live pages open. Close one, or reload this one instead.\n",
        ),
        TailLimit::Process => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many live pages are open, or the server is stopping. Reload the page instead.\n",
        ),
    };
    HttpResponse::build(status)
        .insert_header((RETRY_AFTER, RETRY_SECONDS))
        .content_type("text/plain; charset=utf-8")
        .body(text)
}

/// The stream of one reader.
struct TailStream {
    state: web::Data<DashboardState>,
    user: CurrentUser,
    language: Language,
    filter: TailFilter,
    subscription: TailSubscription,
    hangup: Hangup,
    ready: VecDeque<Bytes>,
    keepalive: Instant,
    check: Instant,
}

impl TailStream {
    fn new(
        state: web::Data<DashboardState>,
        user: CurrentUser,
        language: Language,
        filter: TailFilter,
        subscription: TailSubscription,
        hangup: Hangup,
    ) -> TailStream {
        let now = Instant::now();
        let mut stream = TailStream {
            state,
            user,
            language,
            filter,
            subscription,
            hangup,
            ready: VecDeque::from([Bytes::from_static(b": here\nretry: 3000\n\n")]),
            keepalive: now + KEEPALIVE,
            check: now + CHECK,
        };
        // Attempts since the page was rendered; the script skips rows that it already has.
        let recent = std::mem::take(&mut stream.subscription.recent);
        stream.send(&AttemptBatch { lines: recent, cut: false }, usize::MAX);
        stream
    }

    /// The next chunk; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        const QUIET: Bytes = Bytes::from_static(b": quiet\n\n");
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            let batch = tokio::select! {
                biased;
                _ = self.subscription.closing.wait_for(|closing| *closing) => return None,
                // Frees the slot immediately, instead of at the next failed write.
                () = self.hangup.closed() => return None,
                batch = self.subscription.batches.recv() => batch,
                () = sleep_until(self.check.min(self.keepalive)) => {
                    let now = Instant::now();
                    if now >= self.check {
                        self.check = now + CHECK;
                        // A store error does not end the stream: while the store is unavailable, there are no attempts
                        // to show.
                        if let Ok(false) = self.user.lasts(&self.state).await {
                            return None;
                        }
                    }
                    if now >= self.keepalive {
                        self.keepalive = now + KEEPALIVE;
                        return Some(QUIET);
                    }
                    continue;
                }
            };
            match batch {
                Ok(batch) => self.send(&batch, per_batch()),
                Err(RecvError::Lagged(_)) => self.send(&AttemptBatch { lines: Vec::new(), cut: true }, 0),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Queues the newest `most` matching rows and the number of skipped ones.
    fn send(&mut self, batch: &AttemptBatch, most: usize) {
        let wanted: Vec<&ListedAttempt> = batch.lines.iter().filter(|line| self.filter.takes(line)).collect();
        let left_out = wanted.len().saturating_sub(most);
        let customer = matches!(self.user.principal, Principal::Customer(_));
        let now = self.state.clock.now();
        for line in wanted.into_iter().skip(left_out) {
            if let Ok(html) = TailRow::new(line, customer, now).render() {
                let html = if customer { language::part(html, self.language) } else { html };
                self.ready.push_back(event("attempt", &html));
            }
        }
        if left_out > 0 || batch.cut {
            let more = if batch.cut { " more" } else { "" };
            self.ready.push_back(event("left-out", &format!("{left_out}{more}")));
        }
    }
}

/// The number of rows per batch at [`RATE`].
fn per_batch() -> usize {
    (RATE as u128 * POLL.as_millis() / 1_000) as usize
}

/// A line break ends a field, so each line of `data` gets its own.
fn event(kind: &str, data: &str) -> Bytes {
    let data: Vec<&str> = data.lines().collect();
    Bytes::from(format!("event: {kind}\ndata: {}\n\n", data.join("\ndata: ")))
}
