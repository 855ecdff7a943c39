//! JSON request bodies. A body is read once and borrowed from the received bytes, so a payload can be cut out exactly
//! as it was written.
//!
//! * [`JsonBody`]: the bytes, within the size limit and in UTF-8.
//! * [`Fields`]: the members of the JSON object, each still raw. Invalid values are collected, so the caller learns all
//!   of them at once.
//! * [`FieldValue`]: one member: absent, `null` or set. A PATCH distinguishes the three.

mod field;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::web::{Bytes, BytesMut, Data};
use actix_web::{FromRequest, HttpRequest};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::api::ApiState;
pub(in crate::api) use crate::api::http::body::field::FieldValue;
use crate::api::http::errors::ApiError;
use crate::api::http::field_error::FieldError;
use crate::api::http::request::limited_as;
use crate::domain::Invalid;
use crate::domain::deliveries::message;
use crate::traffic::body_budget::{BodyBudgetExceeded, BodyReservation};

/// Bytes that a request body may have in addition to its payload.
pub(in crate::api) const ENVELOPE: usize = 64 * 1024;

/// The body of a request.
pub(in crate::api) struct JsonBody {
    bytes: Bytes,
    /// Held until the response is sent: the store may keep a slice of the bytes until then.
    _reservation: Option<BodyReservation>,
}

impl FromRequest for JsonBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<JsonBody, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { read(&request, payload).await })
    }
}

async fn read(request: &HttpRequest, payload: Payload) -> Result<JsonBody, ApiError> {
    if !is_json(request) {
        return Err(ApiError::not_json());
    }
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(ApiError::content_encoded());
    }
    let state = request.app_data::<Data<ApiState>>().ok_or_else(|| ApiError::internal(&"no state"))?;
    // Twice the payload limit: a raw payload arrives as a JSON string, where quotes, backslashes and line breaks take
    // two bytes.
    let most = 2 * state.store.max_payload() + ENVELOPE;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // Asked for when the first bytes are there: by then the caller is usually known.
    let reservation = || state.authenticator.traffic().bodies.reservation(limited_as(request, state));
    collect(payload, length.unwrap_or(0), most, reservation).await
}

/// Reads a body of at most `most` bytes; `length` is the declared content length.
async fn collect(
    mut pieces: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    length: usize,
    most: usize,
    reservation: impl FnOnce() -> BodyReservation,
) -> Result<JsonBody, ApiError> {
    let too_large = || ApiError::too_large(format!("the body may have at most {most} bytes"));
    if length > most {
        return Err(too_large());
    }
    let cut_off = |_| ApiError::malformed("the body ended early or could not be read");
    let exhausted = |error: BodyBudgetExceeded| ApiError::unavailable(error.to_string());
    let first = pieces.next().await.transpose().map_err(cut_off)?.unwrap_or_default();
    let mut reservation = reservation();
    reservation.add(first.len()).map_err(exhausted)?;
    // Most bodies arrive in one chunk, which needs no copy.
    let bytes = match pieces.next().await.transpose().map_err(cut_off)? {
        None => first,
        Some(second) => {
            // Memory is reserved only for received bytes: a declared length reserves nothing.
            let mut all = BytesMut::from(first);
            let mut next = Some(second);
            while let Some(piece) = next {
                if all.len() + piece.len() > most {
                    return Err(too_large());
                }
                reservation.add(piece.len()).map_err(exhausted)?;
                all.extend_from_slice(&piece);
                next = pieces.next().await.transpose().map_err(cut_off)?;
            }
            all.freeze()
        }
    };
    if bytes.len() > most {
        return Err(too_large());
    }
    Ok(JsonBody { bytes, _reservation: Some(reservation) })
}

/// `application/json`, `application/…+json` or no content type.
fn is_json(request: &HttpRequest) -> bool {
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

impl JsonBody {
    /// The members of the JSON object.
    ///
    /// # Errors
    /// 400: not UTF-8, or not JSON. 422: not an object. Members that are nested too deep are reported by
    /// [`Fields::done`].
    pub fn fields(&self) -> Result<Fields<'_>, ApiError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|_| ApiError::malformed("the body is not UTF-8"))?;
        match serde_json::from_str::<Members<'_>>(text) {
            Ok(Members(members)) => Ok(Fields { wrong: too_deep(&members), members, within: None }),
            Err(error) if error.classify() == Category::Data => {
                Err(ApiError::invalid(vec![FieldError::whole_body("must be a JSON object")]))
            }
            Err(error) => Err(ApiError::malformed(format!("the body is not JSON: {error}"))),
        }
    }

    /// The body as received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of a part of the body, not copied.
    pub fn bytes_of(&self, part: &RawValue) -> Bytes {
        self.bytes.slice_ref(part.get().as_bytes())
    }
}

/// One error for each member that is nested too deep, whether or not a handler reads it.
fn too_deep(members: &[(Cow<'_, str>, &RawValue)]) -> Vec<FieldError> {
    let deep = members.iter().filter(|(_, value)| message::too_deep(value.get().as_bytes()));
    let msg = || format!("must be nested at most {} deep", message::PAYLOAD_DEPTH_LIMIT);
    deep.map(|(name, _)| FieldError::body(name, msg())).collect()
}

/// The members of an object, in order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((MemberName(name), value)) = map.next_entry::<MemberName<'de>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A member name, borrowed unless it contains escapes.
#[derive(Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields of a body and the errors found in them. Finish with [`Fields::done`].
pub(in crate::api) struct Fields<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    wrong: Vec<FieldError>,
    /// The outer field when this object is nested; `None` for the body itself.
    within: Option<&'static str>,
}

impl<'a> Fields<'a> {
    /// The raw field `name`. If it occurs more than once, the last one counts, as in most JSON parsers.
    pub fn raw(&self, name: &str) -> FieldValue<&'a RawValue> {
        match self.members.iter().rev().find(|(key, _)| key == name) {
            None => FieldValue::Absent,
            Some((_, value)) if value.get() == "null" => FieldValue::Null,
            Some((_, value)) => FieldValue::Set(value),
        }
    }

    /// Reads the field `name` as a `T`. A value of another type is reported as "must be `what`" and treated as absent.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str, what: &str) -> FieldValue<T> {
        self.take_with(name, |text| serde_json::from_str(text).map_err(|_| format!("must be {what}")))
    }

    /// Reads the field `name` with a parser that returns its own error text.
    pub fn take_with<T>(&mut self, name: &str, read: impl FnOnce(&'a str) -> Result<T, String>) -> FieldValue<T> {
        match self.raw(name) {
            FieldValue::Absent => FieldValue::Absent,
            FieldValue::Null => FieldValue::Null,
            FieldValue::Set(value) => match read(value.get()) {
                Ok(value) => FieldValue::Set(value),
                Err(msg) => {
                    self.push(FieldError::wrong_type(name, msg));
                    FieldValue::Absent
                }
            },
        }
    }

    /// Records an error, at most one per field.
    fn push(&mut self, item: FieldError) {
        if !self.wrong.iter().any(|one| one.same_location(&item)) {
            self.wrong.push(item);
        }
    }

    /// A string.
    pub fn text(&mut self, name: &str) -> FieldValue<String> {
        self.take(name, "a string")
    }

    /// A string that `parse` converts.
    pub fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> FieldValue<T> {
        match self.text(name) {
            FieldValue::Absent => FieldValue::Absent,
            FieldValue::Null => FieldValue::Null,
            FieldValue::Set(text) => match parse(&text) {
                Ok(value) => FieldValue::Set(value),
                Err(wrong) => {
                    self.note(wrong);
                    FieldValue::Absent
                }
            },
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &str) -> FieldValue<bool> {
        self.take(name, "true or false")
    }

    /// A list of strings.
    pub fn list(&mut self, name: &str) -> FieldValue<Vec<String>> {
        self.take(name, "a list of strings")
    }

    /// A list of names without duplicates. A list of more than `most` is returned unchanged for the limit check to
    /// reject.
    pub fn names(&mut self, name: &str, most: usize) -> FieldValue<Vec<String>> {
        match self.list(name) {
            FieldValue::Set(list) if list.len() <= most => {
                let mut seen = HashSet::with_capacity(list.len());
                FieldValue::Set(list.into_iter().filter(|one| seen.insert(one.clone())).collect())
            }
            other => other,
        }
    }

    /// A nested object. Finish it with its own [`Fields::done`].
    pub fn object(&mut self, name: &'static str) -> FieldValue<Fields<'a>> {
        let members = self.take_with(name, |text| {
            serde_json::from_str::<Members<'a>>(text).map_err(|_| "must be an object".to_owned())
        });
        match members {
            FieldValue::Absent => FieldValue::Absent,
            FieldValue::Null => FieldValue::Null,
            FieldValue::Set(Members(members)) => {
                FieldValue::Set(Fields { members, wrong: Vec::new(), within: Some(name) })
            }
        }
    }

    /// Unwraps the result of reading a nested [object](Self::object) and takes over its validation errors.
    ///
    /// # Errors
    /// An error that is not a validation error.
    pub fn nested<T>(&mut self, read: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.wrong.extend(error.items()?);
                Ok(None)
            }
        }
    }

    /// Rejects all fields but these: ignoring an unknown one here would change what the request does.
    pub fn only(&mut self, known: &[&str]) {
        let unknown = self.members.iter().filter(|(name, value)| !known.contains(&&**name) && value.get() != "null");
        self.wrong.extend(unknown.map(|(name, _)| FieldError::unsupported(name)));
    }

    /// Reports the field as missing if it is absent or `null`.
    pub fn require(&mut self, name: &str) {
        match self.raw(name) {
            FieldValue::Absent => self.wrong.push(FieldError::missing(name)),
            FieldValue::Null => self.not_null(name),
            FieldValue::Set(_) => {}
        }
    }

    /// Requires the field of a whole object; of a change, rejects `null`.
    pub fn require_if(&mut self, whole: bool, name: &str) {
        match whole {
            true => self.require(name),
            false => self.not_null(name),
        }
    }

    /// Rejects `null` where it has no meaning.
    pub fn not_null(&mut self, name: &str) {
        if matches!(self.raw(name), FieldValue::Null) {
            self.wrong.push(FieldError::wrong_type(name, "must not be null"));
        }
    }

    /// Rejects a field that this release does not support. Absent, `null` and `harmless` values pass.
    pub fn unsupported(&mut self, name: &str, harmless: &[&str]) {
        if let FieldValue::Set(value) = self.raw(name)
            && !harmless.contains(&value.get())
        {
            self.wrong.push(FieldError::unsupported(name));
        }
    }

    /// Records a broken rule.
    pub fn note(&mut self, wrong: Invalid) {
        self.wrong.push(wrong.into());
    }

    /// Ends reading.
    ///
    /// # Errors
    /// 422 with all recorded errors and those of `check`.
    pub fn done(mut self, check: Result<(), Vec<Invalid>>) -> Result<(), ApiError> {
        if let Err(wrong) = check {
            // A rejected field looks absent to the check, which would report it a second time.
            let fresh = wrong
                .into_iter()
                .map(FieldError::from)
                .filter(|item| !self.wrong.iter().any(|one| one.same_location(item)));
            let fresh: Vec<FieldError> = fresh.collect();
            self.wrong.extend(fresh);
        }
        if let Some(outer) = self.within {
            self.wrong = self.wrong.into_iter().map(|item| item.within(outer)).collect();
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.wrong)) }
    }
}

#[cfg(test)]
mod tests;
