//! Server-sent events: the messages of a polling endpoint as they are accepted, for scripts and browsers.
//!
//! Each event has the iterator behind its message as its id, so that a reader that comes again with `Last-Event-ID`
//! misses nothing, and one that goes on by polling uses the same. Streams are bounded, hold one page each, and end with
//! their token, their polling endpoint and the process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use tokio::time::Instant;
use utoipa::IntoParams;

use crate::api::http::errors::{Answer, ApiError};
use crate::api::http::request::Call;
use crate::api::resources::polling::endpoint::also;
use crate::api::resources::polling::message::PollingEndpointMessageOut;
use crate::api::resources::polling::poll::{Chosen, beginning, chosen, enabled, may_go_on};
use crate::domain::catalog::polling::PollingEndpoint;
use crate::domain::feed::{FeedFilter, FeedIterator, Position};
use crate::domain::ids;
use crate::store::StoreError;
use crate::store::feed::read::FeedRequest;
use crate::store::feed::wakeups::FeedListener;

/// How many streams a process has at most.
const STREAMS: usize = 256;
/// How many messages are read at once.
const PAGE: usize = 20;
/// How often a stream checks that its caller may still read: a token that was taken back ends it within a few seconds.
const CHECK: Duration = Duration::from_secs(3);
/// After how much silence a comment is sent, so that nobody on the way takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long to wait while the store is away.
const AGAIN: Duration = Duration::from_secs(1);

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A place among the streams of the process.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        if OPEN.fetch_add(1, Ordering::AcqRel) < STREAMS {
            return Some(Place);
        }
        OPEN.fetch_sub(1, Ordering::AcqRel);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where a stream begins.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `stream` reads it")]
struct Begun {
    /// An `iterator` of an answer, or the id of an event. `Last-Event-ID` counts first.
    iterator: Option<String>,
}

/// Fetch messages as a stream
///
/// Server-sent events (`text/event-stream`): `event: message`, with a message as in a page as its data, and as its id
/// the iterator behind it. A reader that comes again shows the last id in `Last-Event-ID`. Otherwise it begins as a
/// page does. A process has 256 streams at most.
#[utoipa::path(
    get, path = "/app/{app_id}/poller/{sink_id}/stream", params(Begun, Chosen),
    responses(
        (status = 200, description = "Messages, as they are accepted.", body = String, content_type = "text/event-stream"),
        (status = 409, description = "The polling endpoint is disabled."),
        (status = 410, description = "Messages behind the position may be past the retention: begin with `after`."),
    )
)]
pub(in crate::api) async fn stream(call: Call) -> Answer {
    let app = call.app().await?;
    let endpoint = enabled(call.polling_endpoint(app.id).await?)?;
    let query = call.query();
    let filter = also(query.checked("event_type", ids::event_type)?, query.checked("channel", ids::channel)?);
    let last = call.request().headers().get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let shown = match last.filter(|last| !last.is_empty()) {
        Some(last) => {
            Some(FeedIterator::parse(last, app.id).map_err(|wrong| ApiError::header("last-event-id", wrong.reason))?)
        }
        None => chosen(&query, &endpoint)?,
    };
    // A reader that comes again still has the time in its URL with which it began.
    let after = if last.is_some() { None } else { query.time("after")? };
    let from = beginning(&call, &endpoint, shown, after)?;
    may_go_on(&call, from)?;
    let full = || ApiError::from(StoreError::Overloaded);
    let place = Place::take().ok_or_else(full)?;
    let listener = call.store().listen_to_feed(app.id).ok_or_else(full)?;
    let now = Instant::now();
    let stream = Stream {
        call,
        endpoint,
        filter,
        at: from,
        listener,
        ready: VecDeque::from([Bytes::from_static(b"retry: 3000\n\n")]),
        check: now + CHECK,
        beat: now + HEARTBEAT,
        _place: place,
    };
    let events = futures_util::stream::unfold(stream, async |mut stream| {
        let piece = stream.next().await?;
        Some((Ok::<Bytes, actix_web::Error>(piece), stream))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header(("cache-control", "no-store"))
        // Proxies that collect answers would hold the events back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(events)))
}

/// One reader's stream.
struct Stream {
    call: Call,
    endpoint: PollingEndpoint,
    /// What the reader asked for, beyond what the polling endpoint lets through.
    filter: FeedFilter,
    at: FeedIterator,
    listener: FeedListener,
    ready: VecDeque<Bytes>,
    check: Instant,
    beat: Instant,
    _place: Place,
}

impl Stream {
    /// The next piece of the answer; `None`: it is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.beat = Instant::now() + HEARTBEAT;
                return Some(piece);
            }
            if self.listener.is_closed() {
                return None;
            }
            if Instant::now() >= self.check {
                self.check = Instant::now() + CHECK;
                if !self.lasts().await {
                    return None;
                }
            }
            match self.read().await {
                Ok(false) => continue,
                Ok(true) => {}
                // Nobody knows: the reader waits.
                Err(error) => {
                    tracing::debug!(%error, "a stream waits for the store");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            if !self.ready.is_empty() {
                continue;
            }
            self.listener.wait(self.at.position, self.check.min(self.beat)).await;
            if Instant::now() >= self.beat {
                // The id alone: it moves on over messages that the filters keep back.
                self.ready
                    .push_back(Bytes::from(format!("id: {}\n: nothing new\n\n", self.at.text(self.endpoint.app_id))));
            }
        }
    }

    /// Makes events of the next page. `true`: nothing follows it yet.
    async fn read(&mut self) -> Result<bool, StoreError> {
        let now = self.call.clock().now();
        let filters = [self.endpoint.spec.filter.clone(), self.filter.clone()];
        let request = FeedRequest { after: self.at.position, filters: &filters, delivered: None, limit: PAGE, now };
        let page = self.call.store().feed(&self.call.tenant, self.endpoint.app_id, request).await?;
        for message in &page.messages {
            let behind = self.at.next(Position::of(message.id), false, now).text(self.endpoint.app_id);
            if let Ok(data) = serde_json::to_string(&PollingEndpointMessageOut::from(message)) {
                self.ready.push_back(event(&behind, &data));
            }
        }
        self.at = self.at.next(page.position, page.done, now);
        Ok(page.done)
    }

    /// Whether the caller may still read, and from what there is.
    async fn lasts(&mut self) -> bool {
        if !self.call.is_still_good().await {
            return false;
        }
        let named = self.endpoint.id.into();
        match self.call.store().polling_endpoint(&self.call.tenant, self.endpoint.app_id, &named).await {
            Ok(Some(found)) if !found.spec.disabled => {
                self.endpoint = found;
                true
            }
            Ok(_) => false,
            // Nobody knows.
            Err(_) => true,
        }
    }
}

/// A line break would end the field: each line of `data` has its own.
fn event(id: &str, data: &str) -> Bytes {
    let lines: Vec<&str> = data.split(['\n', '\r']).collect();
    Bytes::from(format!("id: {id}\nevent: message\ndata: {}\n\n", lines.join("\ndata: ")))
}

#[cfg(test)]
mod tests {
    use crate::api::resources::polling::stream::*;

    #[test]
    fn each_line_of_a_payload_has_its_own_field() {
        assert_eq!(event("x", "{\n\"a\":\r\n1}"), "id: x\nevent: message\ndata: {\ndata: \"a\":\ndata: \ndata: 1}\n\n");
    }

    #[test]
    fn there_are_so_many_places() {
        let places: Vec<Place> = (0..STREAMS).map_while(|_| Place::take()).collect();
        assert!(places.len() == STREAMS && Place::take().is_none());
        drop(places);
        assert!(Place::take().is_some());
    }
}
