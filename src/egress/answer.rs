//! What is kept of an answer, all of it bounded: the receiver is a stranger.
//!
//! * The **status** decides the outcome, at the head.
//! * **Headers**: those of [`KEPT`], at most 32, each value up to 1 KiB.
//! * **Body**: its first 16 KiB. What ends within that leaves the connection fit for the next request; of a longer one
//!   the rest is not read and the connection is closed.
//! * **Retry-After**: seconds or a date, as a span.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::domain::Time;
use crate::domain::attempt::RESPONSE_BODY_LIMIT;

/// The headers that help whoever looks into an attempt.
const KEPT: [&str; 21] = [
    "allow",
    "cf-ray",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "request-id",
    "retry-after",
    "server",
    "traceparent",
    "via",
    "www-authenticate",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-cache",
    "x-correlation-id",
    "x-powered-by",
    "x-request-id",
];
/// How many headers are kept.
const HEADERS_LIMIT: usize = 32;
/// How much of a header's value is kept, in bytes.
const VALUE_LIMIT: usize = 1_024;

/// The headers worth keeping, in the order they came: values as UTF-8, with replacement characters where they are none
/// and where they hold a NUL, which PostgreSQL's `text` can't.
pub fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = headers.iter().filter(|(name, _)| KEPT.binary_search(&name.as_str()).is_ok()).take(HEADERS_LIMIT);
    kept.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn text(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(VALUE_LIMIT)]).replace('\0', "\u{fffd}");
    // A replacement character takes three bytes for one.
    text.truncate(text.floor_char_boundary(VALUE_LIMIT));
    text
}

/// `Retry-After` (RFC 9110, section 10.2.3) as a span from `now`; `None` if there is none or it makes no sense.
/// Seconds beyond all bounds are as long as a span can be.
pub fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Time::ZERO.plus(at).since(now))
}

/// Reads the body until it ends, [`RESPONSE_BODY_LIMIT`] is passed, the connection breaks or the deadline is there, and
/// returns what came until then.
pub async fn read_body(mut answer: Incoming, deadline: Instant) -> Bytes {
    let mut body = Vec::new();
    let reading = async {
        // To the end, and not just to the limit: the last read is the one that gives the connection back.
        while let Some(Ok(frame)) = answer.frame().await {
            // What is no data is the trailer, and of no interest.
            let Ok(chunk) = frame.into_data() else { continue };
            let room = RESPONSE_BODY_LIMIT - body.len();
            // Copied, because a chunk keeps the connection's whole read buffer alive.
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                break;
            }
        }
    };
    // Late or broken, the answer's status stands.
    let _ = timeout_at(deadline, reading).await;
    body.into()
}

/// One sentence about a status that is no 2xx.
pub fn status_sentence(status: StatusCode) -> String {
    let hint = if status.is_redirection() { ", and redirects are not followed: use the final URL" } else { "" };
    match status.canonical_reason() {
        Some(reason) => format!("the receiver answered {} {reason}{hint}", status.as_u16()),
        None => format!("the receiver answered {}{hint}", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    #[test]
    fn the_list_is_in_the_order_that_the_search_needs() {
        assert!(KEPT.is_sorted());
    }

    #[test]
    fn headers_are_kept_by_name_and_within_bounds() {
        let kept = kept_headers(&headers(&[
            ("content-type", b"text/plain"),
            ("set-cookie", b"session=1"),
            ("server", &[0xff; 2_000]),
            ("via", b"caf\xc3\xa9"),
        ]));
        let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "server", "via"]);
        assert_eq!((kept[1].1.len(), &kept[2].1[..]), (1_023, "café"));
        let many = headers(&[("via", b"x".as_slice()); 100]);
        assert_eq!(kept_headers(&many).len(), HEADERS_LIMIT);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Time::parse("2026-11-22T09:30:00Z").unwrap();
        let table = [
            ("120", Some(Duration::from_secs(120))),
            ("0", Some(Duration::ZERO)),
            (" 7 ", Some(Duration::from_secs(7))),
            ("99999999999999999999999999", Some(Duration::from_secs(u64::MAX))),
            ("Sun, 22 Nov 2026 09:31:30 GMT", Some(Duration::from_secs(90))),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some(Duration::ZERO)),
            ("Mon, 01 Jan 0001 00:00:00 GMT", None),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("NaN", None),
            ("1e3", None),
            ("soon", None),
        ];
        for (text, wanted) in table {
            assert_eq!(retry_after(&headers(&[("retry-after", text.as_bytes())]), now), wanted, "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_status_becomes_a_sentence() {
        assert_eq!(status_sentence(StatusCode::BAD_GATEWAY), "the receiver answered 502 Bad Gateway");
        assert!(status_sentence(StatusCode::FOUND).contains("not followed"));
        assert_eq!(status_sentence(StatusCode::from_u16(799).unwrap()), "the receiver answered 799");
    }
}
