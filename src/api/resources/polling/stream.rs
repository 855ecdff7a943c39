//! Server-sent events: a polling endpoint's messages as they are accepted, for scripts and browsers.
//!
//! The id of each event is the iterator after its message. A reader that reconnects with `Last-Event-ID` misses
//! nothing, and can continue by polling with the same iterator. Streams are limited in number, buffer one page each,
//! and end when their token is revoked, their polling endpoint is deleted or disabled, or the process stops.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::stream::unfold;
use tokio::time::Instant;
use utoipa::IntoParams;

use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::request::ApiCall;
use crate::api::resources::polling::endpoint::request_filter;
use crate::api::resources::polling::message::PollingEndpointMessageOut;
use crate::api::resources::polling::poll::{
    PollFilterParams, check_enabled, check_retention, iterator_param, start_position,
};
use crate::domain::catalog::polling::PollingEndpoint;
use crate::domain::feed::{FeedFilter, FeedIterator, Position};
use crate::domain::{AppId, ids};
use crate::store::StoreError;
use crate::store::feed::feed_page::FeedRequest;
use crate::store::feed::wakeups::FeedListener;
use crate::traffic::event_stream;
use crate::traffic::hangup::Hangup;

/// Maximum number of streams per process.
const STREAM_LIMIT: usize = 256;
/// Maximum number of streams per application.
const APPLICATION_LIMIT: usize = STREAM_LIMIT / 4;
/// Messages per read.
const PAGE_SIZE: usize = 20;
/// Interval at which a stream checks that its token and polling endpoint are still valid.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// Idle time after which a comment is sent, so no proxy closes the connection.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Retry interval while the store is unavailable.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// The open streams by application.
static OPEN: Mutex<BTreeMap<AppId, usize>> = Mutex::new(BTreeMap::new());

/// A slot among the streams of the process, freed on drop.
#[derive(Debug)]
struct StreamSlot(AppId);

impl StreamSlot {
    /// # Errors
    /// The process or the application has no free slot.
    fn take(app: AppId) -> Result<StreamSlot, ApiError> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = open.get(&app).copied().unwrap_or(0);
        if theirs >= APPLICATION_LIMIT {
            return Err(ApiError::unavailable(format!(
                "the application has {APPLICATION_LIMIT} streams open: close one"
            )));
        }
        if open.values().sum::<usize>() >= STREAM_LIMIT {
            return Err(StoreError::Overloaded.into());
        }
        open.insert(app, theirs + 1);
        Ok(StreamSlot(app))
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(theirs) = open.get_mut(&self.0) {
            *theirs -= 1;
            if *theirs == 0 {
                open.remove(&self.0);
            }
        }
    }
}

/// The start of a stream.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `stream` reads it")]
struct StreamParams {
    /// The `iterator` of a response, or the id of an event. `Last-Event-ID` takes precedence.
    iterator: Option<String>,
}

/// Stream messages
///
/// Streams messages as server-sent events (`text/event-stream`) named `message`. The data is a message as in a page,
/// the id is the iterator after it. A reader that reconnects sends the last id in `Last-Event-ID`; others start as with
/// a page. A server process has at most 256 streams, 64 of them for one application.
#[utoipa::path(
    get, path = "/app/{app_id}/poller/{sink_id}/stream", params(StreamParams, PollFilterParams),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 409, description = "The polling endpoint is disabled."),
        (status = 410, description = "Messages after the position may be past the retention: start with `after`."),
    )
)]
pub(in crate::api) async fn stream(call: ApiCall) -> ApiResult {
    let endpoint = check_enabled(call.polling_endpoint().await?)?;
    let query = call.query();
    let filter = request_filter(query.checked("event_type", ids::event_type)?, query.checked("channel", ids::channel)?);
    let last = call.request().headers().get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let shown = match last.filter(|last| !last.is_empty()) {
        Some(last) => Some(
            FeedIterator::parse(last, endpoint.app_id)
                .map_err(|wrong| ApiError::header("last-event-id", wrong.reason))?,
        ),
        None => iterator_param(&query, &endpoint)?,
    };
    // The URL of a reconnecting reader still has its original start time.
    let after = if last.is_some() { None } else { query.time("after")? };
    let from = start_position(&call, &endpoint, shown, after)?;
    check_retention(&call, from)?;
    let full = || ApiError::from(StoreError::Overloaded);
    let slot = StreamSlot::take(endpoint.app_id)?;
    let listener = call.store().listen_to_feed(endpoint.app_id).ok_or_else(full)?;
    let (now, hangup) = (Instant::now(), call.hangup());
    let stream = MessageStream {
        call,
        endpoint,
        filter,
        at: from,
        listener,
        hangup,
        ready: VecDeque::from([Bytes::from_static(b"retry: 3000\n\n")]),
        check: now + CHECK_INTERVAL,
        beat: now + HEARTBEAT_INTERVAL,
        _slot: slot,
    };
    Ok(event_stream::respond(unfold(stream, async |mut stream| Some((stream.next().await?, stream)))))
}

/// One reader's stream.
struct MessageStream {
    call: ApiCall,
    endpoint: PollingEndpoint,
    /// The reader's filter, in addition to the polling endpoint's.
    filter: FeedFilter,
    at: FeedIterator,
    listener: FeedListener,
    hangup: Hangup,
    ready: VecDeque<Bytes>,
    check: Instant,
    beat: Instant,
    _slot: StreamSlot,
}

impl MessageStream {
    /// The next chunk of the response; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.beat = Instant::now() + HEARTBEAT_INTERVAL;
                return Some(piece);
            }
            if self.listener.is_closed() {
                return None;
            }
            if Instant::now() >= self.check {
                self.check = Instant::now() + CHECK_INTERVAL;
                if !self.is_authorized().await {
                    return None;
                }
            }
            match self.read().await {
                Ok(false) => continue,
                Ok(true) => {}
                // The store is unavailable: the reader waits.
                Err(error) => {
                    tracing::debug!(%error, "a stream waits for the store");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
            if !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                _ = self.listener.wait(self.at.position, self.check.min(self.beat)) => {}
                () = self.hangup.closed() => return None,
            }
            if Instant::now() >= self.beat {
                // The id advances past filtered messages, even without an event.
                self.ready
                    .push_back(Bytes::from(format!("id: {}\n: nothing new\n\n", self.at.text(self.endpoint.app_id))));
            }
        }
    }

    /// Turns the next page into events. `true` if nothing follows it yet.
    async fn read(&mut self) -> Result<bool, StoreError> {
        let now = self.call.clock().now();
        let filters = [self.endpoint.spec.filter.clone(), self.filter.clone()];
        let request =
            FeedRequest { after: self.at.position, filters: &filters, delivered: None, limit: PAGE_SIZE, now };
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

    /// Whether the token and the polling endpoint are still valid.
    async fn is_authorized(&mut self) -> bool {
        if !self.call.is_still_authorized().await {
            return false;
        }
        let named = self.endpoint.id.into();
        match self.call.store().polling_endpoint(&self.call.tenant, self.endpoint.app_id, &named).await {
            Ok(Some(found)) if !found.spec.disabled => {
                self.endpoint = found;
                true
            }
            Ok(_) => false,
            // Unknown while the store is unavailable.
            Err(_) => true,
        }
    }
}

/// A line break would end the field, so each line of `data` becomes a field.
fn event(id: &str, data: &str) -> Bytes {
    let lines: Vec<&str> = data.split(['\n', '\r']).collect();
    Bytes::from(format!("id: {id}\nevent: message\ndata: {}\n\n", lines.join("\ndata: ")))
}

#[cfg(test)]
mod tests {
    use crate::api::resources::polling::stream::*;
    use crate::domain::Time;

    #[test]
    fn each_line_of_data_is_a_field() {
        assert_eq!(event("x", "{\n\"a\":\r\n1}"), "id: x\nevent: message\ndata: {\ndata: \"a\":\ndata: \ndata: 1}\n\n");
    }

    #[test]
    fn an_application_has_a_quarter_of_the_streams() {
        let apps: Vec<AppId> = (0..5).map(|_| AppId::new(Time::ZERO)).collect();
        let mut held: Vec<StreamSlot> =
            (0..APPLICATION_LIMIT).map(|_| StreamSlot::take(apps[0]).expect("a slot")).collect();
        assert!(StreamSlot::take(apps[0]).is_err());
        for app in &apps[1..4] {
            held.extend((0..APPLICATION_LIMIT).map(|_| StreamSlot::take(*app).expect("a slot")));
        }
        assert!(StreamSlot::take(apps[4]).is_err(), "the process has no more");
        held.clear();
        assert!(StreamSlot::take(apps[0]).is_ok());
    }
}
