//! Valid and invalid bodies.

use std::collections::HashMap;

use actix_web::ResponseError;
use actix_web::http::StatusCode;
use futures_util::FutureExt;
use futures_util::stream;
use proptest::prelude::*;

use crate::api::http::body::*;
use crate::domain::OrgId;
use crate::fuzzing::{fuzz, words};
use crate::traffic::body_budget::BodyBudget;
use crate::traffic::rate_limits::CallerId;

fn body(text: &'static str) -> JsonBody {
    JsonBody { bytes: Bytes::from_static(text.as_bytes()), _reservation: None }
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
    // An organization has half of it.
    let budget = BodyBudget::of(200);
    let share = || budget.reservation(CallerId::Organization(OrgId::default_org()));
    let read =
        |pieces: &[usize]| collect(arriving(pieces), 0, 1_000, share).now_or_never().expect("nothing to wait for");
    let held = read(&[30, 30]).unwrap();
    // Reading stops at the chunk that exceeds the budget.
    let endless = arriving(&[30]).chain(stream::once(async { Ok(Bytes::from_static(b"more than is left")) }));
    let more = endless.chain(stream::poll_fn(|_| -> std::task::Poll<Option<_>> { panic!("read on") }));
    let refused = collect(Box::pin(more), 0, 1_000, share).now_or_never().expect("nothing to wait for");
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
    let share = || budget.reservation(CallerId::Organization(OrgId::default_org()));
    assert!(collect(arriving(&[10]), 900, 1_000, share).now_or_never().unwrap().is_ok());
    let error = collect(arriving(&[10]), 1_001, 1_000, share).now_or_never().unwrap().err().unwrap();
    assert_eq!(error.status_code(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// JSON of any shape, and text that is nearly JSON.
fn documents() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "null|true|false|-?[0-9]{1,25}(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?".boxed(),
        r#""([a-z]|\\[nrt"\\/bf]|\\u[0-9a-fA-F]{4}|é|💩){0,8}""#.boxed(),
    ];
    let value = leaf.prop_recursive(6, 40, 5, |inner| {
        let pair =
            (r#""([a-z]|\\u00[46][0-9a-f]){0,4}""#, inner.clone()).prop_map(|(name, value)| format!("{name}: {value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(pair, 0..5).prop_map(|pairs| format!("{{{}}}", pairs.join(" ,\n"))),
        ]
    });
    let nested = (0usize..400).prop_map(|depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth)));
    prop_oneof![
        value.clone(),
        nested,
        (value, any::<prop::sample::Index>(), ".?").prop_map(|(mut text, at, by)| {
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            text.insert_str(at, &by);
            text
        })
    ]
}

/// A body is accepted only if it is a JSON object. The bytes of its members are kept, and no input causes a panic.
#[test]
fn fuzz_json_intake() {
    fuzz("json_intake", documents(), any::<Vec<u8>>(), |text, bytes| {
        let of = |bytes: Vec<u8>| JsonBody { bytes: bytes.into(), _reservation: None };
        let said = |error: ApiError| words(&error.to_string());
        let mut behaviors = Vec::new();
        // Cut short, a character of several bytes is invalid UTF-8.
        for bytes in [bytes.clone(), text.as_bytes()[..text.len().saturating_sub(1)].to_vec()] {
            behaviors.extend(of(bytes).fields().err().map(said));
        }
        let body = of(text.as_bytes().to_vec());
        let mut fields = match body.fields() {
            Ok(fields) => fields,
            Err(error) => {
                let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
                prop_assert!(object.is_err(), "{}", text);
                behaviors.push(said(error));
                return Ok(behaviors);
            }
        };
        prop_assert!(serde_json::from_str::<HashMap<String, Box<RawValue>>>(text).is_ok(), "{}", text);
        if let FieldValue::Set(raw) = fields.raw("a") {
            let payload = body.bytes_of(raw);
            prop_assert_eq!(&payload[..], raw.get().as_bytes());
            prop_assert!(text.contains(raw.get()));
        }
        let taken = (fields.text("a"), fields.flag("b"), fields.list("c"), fields.names("d", 3));
        drop((taken, fields.take::<u64>("e", "a number")));
        behaviors.push(fields.done(Ok(())).err().map_or("an object".to_owned(), said));
        Ok(behaviors)
    });
}
