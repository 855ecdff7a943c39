//! Bodies, good and bad.

use super::*;

fn body(text: &'static str) -> Body {
    Body(Bytes::from_static(text.as_bytes()))
}

#[test]
fn absent_null_and_set_are_three_things() {
    let body = body(r#"{"a": null, "\u0062": "x", "b": "y", "n": 7}"#);
    let mut fields = body.fields().unwrap();
    assert_eq!(fields.text("a"), Field::Null);
    assert_eq!(fields.text("b"), Field::Set("y".to_owned()), "the later one counts");
    assert_eq!(fields.text("c"), Field::Absent);
    assert_eq!(fields.take::<u16>("n", "a number"), Field::Set(7));
    assert!(fields.done(Ok(())).is_ok());
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_nothing_twice() {
    let body = body(r#"{"name": 7, "uid": "a b", "tags": ["x"], "ordered": false, "url": null}"#);
    let mut fields = body.fields().unwrap();
    assert_eq!(fields.text("name"), Field::Absent);
    assert_eq!(fields.parsed("uid", |text| crate::domain::Uid::parse("uid", text)), Field::Absent);
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
fn a_part_is_cut_out_as_it_was_written() {
    let body = body("{\"payload\":  {\"b\":1e400,\n \"a\":\"\\ud83d\"}  ,\"x\":1}");
    let fields = body.fields().unwrap();
    let Field::Set(raw) = fields.raw("payload") else { panic!("no payload") };
    let bytes = body.bytes_of(raw);
    assert_eq!(&bytes[..], b"{\"b\":1e400,\n \"a\":\"\\ud83d\"}");
    assert_eq!(bytes.as_ptr(), raw.get().as_ptr(), "no copy");
}
