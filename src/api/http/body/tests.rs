//! Valid and invalid bodies.

use actix_web::ResponseError;
use actix_web::http::StatusCode;
use futures_util::FutureExt;
use futures_util::stream;

use crate::api::http::body::*;

fn body(text: &'static str) -> JsonBody {
    JsonBody { bytes: Bytes::from_static(text.as_bytes()), _reservation: Reservation::default() }
}

#[test]
fn fields_are_absent_null_or_set() {
    let body = body(r#"{"a": null, "\u0062": "x", "b": "y", "n": 7}"#);
    let mut fields = body.fields().unwrap();
    assert_eq!(fields.text("a"), FieldValue::Null);
    assert_eq!(fields.text("b"), FieldValue::Set("y".to_owned()), "the later one counts");
    assert_eq!(fields.text("c"), FieldValue::Absent);
    assert_eq!(fields.take::<u16>("n", "a number"), FieldValue::Set(7));
    assert!(fields.done(Ok(())).is_ok());
}

#[test]
fn all_errors_are_reported_once() {
    let body = body(r#"{"name": 7, "uid": "a b", "tags": ["x"], "ordered": false, "url": null}"#);
    let mut fields = body.fields().unwrap();
    assert_eq!(fields.text("name"), FieldValue::Absent);
    assert_eq!(fields.parsed("uid", |text| crate::domain::Uid::parse("uid", text, "app_")), FieldValue::Absent);
    fields.unsupported("tags", &["[]"]);
    fields.unsupported("ordered", &["false"]);
    fields.require("url");
    fields.require("eventType");
    let error = fields.done(Err(vec![Invalid::new("name", "is empty"), Invalid::new("other", "no")])).unwrap_err();
    let text = error.to_string();
    assert_eq!(text.split("; ").count(), 6, "{text}");
    assert!(text.starts_with("body.name: must be a string; body.uid: may only contain"), "{text}");
    assert!(text.ends_with("body.url: must not be null; body.eventType: is required; body.other: no"), "{text}");
}

#[test]
fn a_raw_field_is_a_slice_of_the_body() {
    let body = body("{\"payload\":  {\"b\":1e400,\n \"a\":\"\\ud83d\"}  ,\"x\":1}");
    let fields = body.fields().unwrap();
    let FieldValue::Set(raw) = fields.raw("payload") else { panic!("no payload") };
    let bytes = body.bytes_of(raw);
    assert_eq!(&bytes[..], b"{\"b\":1e400,\n \"a\":\"\\ud83d\"}");
    assert_eq!(bytes.as_ptr(), raw.get().as_ptr(), "no copy");
}

fn arriving(pieces: &[usize]) -> impl Stream<Item = Result<Bytes, PayloadError>> + Unpin + use<> {
    let pieces: Vec<_> = pieces.iter().map(|bytes| Ok(Bytes::from(vec![b' '; *bytes]))).collect();
    stream::iter(pieces)
}

#[test]
fn bodies_share_a_budget_checked_per_chunk() {
    let budget = BodyBudget::of(100);
    let read =
        |pieces: &[usize]| collect(arriving(pieces), 0, 1_000, &budget).now_or_never().expect("nothing to wait for");
    let held = read(&[30, 30]).unwrap();
    // Reading stops at the chunk that exceeds the budget.
    let endless = arriving(&[30]).chain(stream::once(async { Ok(Bytes::from_static(b"more than is left")) }));
    let more = endless.chain(stream::poll_fn(|_| -> std::task::Poll<Option<_>> { panic!("read on") }));
    let refused = collect(Box::pin(more), 0, 1_000, &budget).now_or_never().expect("nothing to wait for");
    let refused = refused.err().expect("no room");
    assert_eq!(refused.status_code(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.error_response().headers().contains_key("retry-after"));
    assert!(read(&[20, 20]).is_ok(), "a refused body returns what it had reservation");
    drop(held);
    assert!(read(&[50, 50]).is_ok(), "an answered one too");
    assert!(read(&[50, 51]).is_err());
}

#[test]
fn a_declared_length_reserves_nothing() {
    let budget = BodyBudget::of(100);
    assert!(collect(arriving(&[10]), 900, 1_000, &budget).now_or_never().unwrap().is_ok());
    let error = collect(arriving(&[10]), 1_001, 1_000, &budget).now_or_never().unwrap().err().unwrap();
    assert_eq!(error.status_code(), StatusCode::PAYLOAD_TOO_LARGE);
}
