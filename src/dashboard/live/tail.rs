//! The live tail. The page shows the latest attempts and has a refresh link; with the script, rows arrive as
//! server-sent events, rendered by the page's own template.

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use bytes::Bytes;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use crate::dashboard::DashboardState;
use crate::dashboard::applications::naming;
use crate::dashboard::applications::naming::Named;
use crate::dashboard::bulk::base;
use crate::dashboard::components::format::{Line, Query};
use crate::dashboard::components::parts::When;
use crate::dashboard::components::picker::{Picker, owner};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::place::Place;
use crate::dashboard::http::viewer::{Viewer, Who};
use crate::dashboard::live::feed::{Batch, NoTail, POLL, Tap};
use crate::dashboard::overview::AttemptRow;
use crate::domain::{AttemptId, Time};
use crate::store::query::attempts::AttemptLine;
use crate::store::query::tail::TailFilter;
use crate::store::{EndpointRef, StoreError};
use crate::traffic::hangup::Hangup;

/// Rows on the page.
const ROWS: usize = 100;
/// The maximum number of rows per second of a stream.
const RATE: usize = 50;
/// The interval of comments, which keep proxies from closing an idle stream.
const BEAT: Duration = Duration::from_secs(15);
/// The interval at which the session is checked.
const CHECK: Duration = Duration::from_secs(5);
/// `Retry-After`, in seconds.
const LATER: &str = "10";

/// A row of the page and of the stream.
#[derive(Template)]
#[template(path = "parts/tail_row.html")]
struct TailRow {
    id: AttemptId,
    row: AttemptRow,
    at: When,
    /// Shows the application; customers have only one.
    across: bool,
}

impl HtmlSafe for TailRow {}

impl TailRow {
    fn new(line: &AttemptLine, customer: bool, now: Time) -> TailRow {
        let place = if customer { Place::portal() } else { Place::of_application(line.app_id) };
        let row = AttemptRow { href: place.message(line.message_id), ..AttemptRow::new(line, now) };
        TailRow { id: line.id, row, at: When::new(line.at, now), across: !customer }
    }
}

#[derive(Template)]
#[template(path = "tail.html")]
struct TailPage {
    frame: Frame,
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
struct Asked {
    app: String,
    endpoint: String,
    filter: Option<TailFilter>,
}

impl Asked {
    async fn of(state: &DashboardState, viewer: &Viewer, query: &Query) -> Result<Asked, StoreError> {
        let (store, tenant) = (&state.store, viewer.tenant());
        let word = |name| query.get(name).unwrap_or_default().trim().to_owned();
        let (app, endpoint) = (word("app"), word("endpoint"));
        let mut filter = TailFilter {
            app: tenant.only,
            endpoint: None,
            event_type: Some(word("type")).filter(|name| !name.is_empty()),
            failed: query.get("status") == Some("failed"),
        };
        if tenant.only.is_none() && !app.is_empty() {
            match naming::application(store, &tenant, &app).await? {
                Named::One(id) => filter.app = Some(id),
                Named::Nothing(_) => return Ok(Asked { app, endpoint, filter: None }),
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
                return Ok(Asked { app, endpoint, filter: None });
            }
        }
        Ok(Asked { app, endpoint, filter: Some(filter) })
    }

    /// The filters as a query.
    fn query(&self) -> String {
        let filter = self.filter.clone().unwrap_or_default();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("app", self.app.as_str()),
            ("endpoint", &self.endpoint),
            ("type", filter.event_type.as_deref().unwrap_or_default()),
            ("status", if filter.failed { "failed" } else { "" }),
        ] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

/// `GET /tail`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    viewer: Viewer,
) -> Result<HttpResponse, PageError> {
    let (query, now, tenant) = (Query::of(&request), state.clock.now(), viewer.tenant());
    let asked = Asked::of(&state, &viewer, &query).await?;
    let lines = match &asked.filter {
        Some(filter) => state.store.tail(&tenant, filter, ROWS).await?,
        None => Vec::new(),
    };
    let wrong = |field: &str| {
        (field == "app" && asked.filter.is_none()).then(|| Line::new("Application or endpoint not found."))
    };
    let (words, base) = (asked.query(), base(&viewer));
    let customer = matches!(viewer.who, Who::Customer(_));
    let filter = asked.filter.clone().unwrap_or_default();
    let page = TailPage {
        frame: Frame::of(&viewer, Here::Live),
        base,
        picker: Picker::of(&state.store, &tenant, (&asked.app, &asked.endpoint), wrong).await?,
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
pub async fn events(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    viewer: Viewer,
) -> Result<HttpResponse, PageError> {
    let query = Query::of(&request);
    let asked = Asked::of(&state, &viewer, &query).await?;
    let Some(filter) = asked.filter else { return Err(PageError::NotFound) };
    let tap = match state.feeds.open(&state.store, state.clock, &viewer.org, viewer.hash) {
        Ok(tap) => tap,
        Err(why) => return Ok(no_tail(why)),
    };
    let hangup = request.conn_data::<Hangup>().cloned().unwrap_or_default();
    let stream = Stream::new(state, viewer, filter, tap, hangup);
    let events = futures_util::stream::unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok::<Bytes, actix_web::Error>(event), stream))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        // Keeps proxies from buffering the stream.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(events)))
}

fn no_tail(why: NoTail) -> HttpResponse {
    let (status, text) = match why {
        NoTail::Yours => (
            StatusCode::TOO_MANY_REQUESTS,
            "You have too many live pages open. Close one, or reload this one instead.\n",
        ),
        NoTail::Full => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many live pages are open, or Sendoff is stopping. Reload the page instead.\n",
        ),
    };
    HttpResponse::build(status).insert_header((RETRY_AFTER, LATER)).content_type("text/plain; charset=utf-8").body(text)
}

/// The stream of one reader.
struct Stream {
    state: web::Data<DashboardState>,
    viewer: Viewer,
    filter: TailFilter,
    tap: Tap,
    hangup: Hangup,
    ready: VecDeque<Bytes>,
    beat: Instant,
    check: Instant,
}

impl Stream {
    fn new(state: web::Data<DashboardState>, viewer: Viewer, filter: TailFilter, tap: Tap, hangup: Hangup) -> Stream {
        let now = Instant::now();
        let mut stream = Stream {
            state,
            viewer,
            filter,
            tap,
            hangup,
            ready: VecDeque::from([Bytes::from_static(b": here\nretry: 3000\n\n")]),
            beat: now + BEAT,
            check: now + CHECK,
        };
        // Attempts since the page was rendered; the script skips rows that it already has.
        let recent = std::mem::take(&mut stream.tap.recent);
        stream.send(&Batch { lines: recent, cut: false }, usize::MAX);
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
                _ = self.tap.closing.wait_for(|closing| *closing) => return None,
                // Frees the slot immediately, instead of at the next failed write.
                () = self.hangup.closed() => return None,
                batch = self.tap.batches.recv() => batch,
                () = sleep_until(self.check.min(self.beat)) => {
                    let now = Instant::now();
                    if now >= self.check {
                        self.check = now + CHECK;
                        // If the store is unavailable, the session is unknown, but there is nothing to show either.
                        if let Ok(false) = self.viewer.lasts(&self.state).await {
                            return None;
                        }
                    }
                    if now >= self.beat {
                        self.beat = now + BEAT;
                        return Some(QUIET);
                    }
                    continue;
                }
            };
            match batch {
                Ok(batch) => self.send(&batch, per_batch()),
                Err(RecvError::Lagged(_)) => self.send(&Batch { lines: Vec::new(), cut: true }, 0),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Queues the newest `most` matching rows and the number of skipped ones.
    fn send(&mut self, batch: &Batch, most: usize) {
        let wanted: Vec<&AttemptLine> = batch.lines.iter().filter(|line| self.filter.takes(line)).collect();
        let left_out = wanted.len().saturating_sub(most);
        let customer = matches!(self.viewer.who, Who::Customer(_));
        let now = self.state.clock.now();
        for line in wanted.into_iter().skip(left_out) {
            if let Ok(html) = TailRow::new(line, customer, now).render() {
                self.ready.push_back(event("attempt", &html));
            }
        }
        if left_out > 0 || batch.cut {
            let more = if batch.cut { " more" } else { "" };
            self.ready.push_back(event("left-out", &format!("{left_out}{more}")));
        }
    }
}

/// The number of rows per batch that keeps to [`RATE`].
fn per_batch() -> usize {
    (RATE as u128 * POLL.as_millis() / 1_000) as usize
}

/// A line break ends a field, so each line of `data` gets its own.
fn event(kind: &str, data: &str) -> Bytes {
    let data: Vec<&str> = data.lines().collect();
    Bytes::from(format!("event: {kind}\ndata: {}\n\n", data.join("\ndata: ")))
}
