//! The recorded part of a response, bounded because receivers are untrusted: the headers in [`KEPT_HEADERS`], the first
//! 16 KiB of the body, and `Retry-After` as a duration.
//!
//! The status decides the outcome, so a truncated or late body does not change it. A body of up to 16 KiB is read to
//! its end and leaves the connection reusable; a longer one closes the connection.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::domain::Time;
use crate::domain::deliveries::attempt::RESPONSE_BODY_LIMIT;

/// Headers that help to debug an attempt. Sorted for binary search.
const KEPT_HEADERS: [&str; 21] = [
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
/// Maximum number of recorded headers.
const HEADERS_LIMIT: usize = 32;
/// Maximum bytes of a recorded header value.
const VALUE_LIMIT: usize = 1_024;

/// Returns the headers to record, in order of arrival. Invalid UTF-8 and NUL, which PostgreSQL's `text` cannot store,
/// become replacement characters.
pub fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept =
        headers.iter().filter(|(name, _)| KEPT_HEADERS.binary_search(&name.as_str()).is_ok()).take(HEADERS_LIMIT);
    kept.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn text(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(VALUE_LIMIT)]).replace('\0', "\u{fffd}");
    // Each invalid byte became three bytes.
    text.truncate(text.floor_char_boundary(VALUE_LIMIT));
    text
}

/// Parses `Retry-After` (RFC 9110 section 10.2.3) as a duration from `now`. `None` if absent or invalid; seconds that
/// overflow become `u64::MAX`.
pub fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Time::ZERO.plus(at).since(now))
}

/// Reads up to [`RESPONSE_BODY_LIMIT`] bytes of the body and returns what arrived before its end, `deadline` or an
/// error.
pub async fn read_body(mut incoming: Incoming, deadline: Instant) -> Bytes {
    let mut body = Vec::new();
    let reading = async {
        // Reads past the limit to the end of the stream: only that returns the connection to the pool.
        while let Some(Ok(frame)) = incoming.frame().await {
            // Not data: a trailer.
            let Ok(chunk) = frame.into_data() else { continue };
            let room = RESPONSE_BODY_LIMIT - body.len();
            // Copied: a chunk keeps the connection's whole read buffer alive.
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                break;
            }
        }
    };
    // A late or broken body does not change the outcome.
    let _ = timeout_at(deadline, reading).await;
    body.into()
}

/// Describes a status outside 2xx.
pub fn status_sentence(status: StatusCode) -> String {
    let hint = if status.is_redirection() { "; redirects are not followed, so use the final URL" } else { "" };
    match status.canonical_reason() {
        Some(reason) => format!("the receiver answered {} {reason}{hint}", status.as_u16()),
        None => format!("the receiver answered {}{hint}", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::fuzz;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    #[test]
    fn kept_headers_are_sorted_for_binary_search() {
        assert!(KEPT_HEADERS.is_sorted());
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
    fn a_status_is_described() {
        assert_eq!(status_sentence(StatusCode::BAD_GATEWAY), "the receiver answered 502 Bad Gateway");
        assert!(status_sentence(StatusCode::FOUND).contains("not followed"));
        assert_eq!(status_sentence(StatusCode::from_u16(799).unwrap()), "the receiver answered 799");
    }

    /// Any text is parsed as seconds, as a date or as nothing, without a panic. Dates are parsed correctly.
    #[test]
    fn fuzz_retry_after() {
        let date = "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT";
        let texts = prop_oneof!["[0-9 +-]{0,30}", ".{0,40}", date];
        let values = (0u64..253_402_300_799, 0i64..4_000_000_000_000_000);
        fuzz("retry_after", texts, values, |text, (seconds, now)| {
            let (now, zero) = (Time::from_micros(*now), Duration::ZERO);
            let mut behavior = "no header";
            if let Ok(value) = HeaderValue::from_str(text) {
                let asked = retry_after(&HeaderMap::from_iter([(http::header::RETRY_AFTER, value)]), now);
                let digits = text.trim();
                let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                if is_number {
                    prop_assert_eq!(asked, Some(Duration::from_secs(digits.parse().unwrap_or(u64::MAX))));
                }
                behavior = match asked {
                    None => "ignored",
                    Some(asked) if asked.as_secs() == u64::MAX => "too many digits",
                    Some(_) if is_number => "number",
                    Some(Duration::ZERO) => "date in the past",
                    Some(_) => "date",
                };
            }
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(*seconds));
            let at = Time::ZERO.plus(Duration::from_secs(*seconds));
            let asked = retry_after(&headers(&[("retry-after", date.as_bytes())]), now);
            prop_assert_eq!(asked, Some(if at > now { at.since(now) } else { zero }), "{}", date);
            Ok(vec![behavior.to_owned()])
        });
    }
}
