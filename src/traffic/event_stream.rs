//! Responses that are streams of server-sent events.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

/// Responds with events as they come. Neither caches nor buffering proxies hold them back.
pub fn respond(events: impl Stream<Item = Bytes> + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(events.map(Ok::<Bytes, actix_web::Error>)))
}
