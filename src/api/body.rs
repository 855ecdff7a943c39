//! What a request brings: JSON, read once and borrowed from the bytes that came, so that a payload can be cut out of them as it
//! was written.
//!
//! * [`Body`] – the bytes, within the limit and in UTF-8.
//! * [`Fields`] – the members of the object in it, each still as raw JSON; what is read from them and does not fit is noted, so
//!   that the caller hears of everything at once.
//! * [`Field`] – one of them: absent, `null`, or set. A PATCH tells the three apart.

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
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::ApiState;
use super::body_budget::{BodyBudget, Reserved};
use super::errors::{ApiError, Item};
use crate::domain::{Invalid, message};
pub(super) use field::Field;

/// How many bytes everything around a message's payload may have.
pub(super) const ENVELOPE: usize = 64 * 1024;

/// The body of a request.
pub(super) struct Body {
    bytes: Bytes,
    /// Kept until the request is answered: until then the store may hold a slice of the bytes.
    _reserved: Reserved,
}

impl FromRequest for Body {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Body, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { read(&request, payload).await })
    }
}

async fn read(request: &HttpRequest, payload: Payload) -> Result<Body, ApiError> {
    if !says_json(request) {
        return Err(ApiError::not_json());
    }
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(ApiError::encoded());
    }
    let state = request.app_data::<Data<ApiState>>().ok_or_else(|| ApiError::internal(&"no state"))?;
    // Twice: a raw payload is written as a JSON string, where quotes, backslashes and ends of lines are two bytes.
    let most = 2 * state.store.max_payload() + ENVELOPE;
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    collect(payload, length.unwrap_or(0), most, &state.bodies).await
}

/// Reads a body of at most `most` bytes, of which the sender announced `length`.
async fn collect(
    mut pieces: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    length: usize,
    most: usize,
    budget: &BodyBudget,
) -> Result<Body, ApiError> {
    let too_large = || ApiError::too_large(format!("the body may have at most {most} bytes"));
    if length > most {
        return Err(too_large());
    }
    let cut_off = |_| ApiError::malformed("the body ended early or could not be read");
    let mut reserved = Reserved::default();
    let first = pieces.next().await.transpose().map_err(cut_off)?.unwrap_or_default();
    budget.reserve(&mut reserved, first.len())?;
    // Most bodies come in one piece, which then needs no copy.
    let bytes = match pieces.next().await.transpose().map_err(cut_off)? {
        None => first,
        Some(second) => {
            // It grows with what arrives: an announced length costs the sender nothing.
            let mut all = BytesMut::from(first);
            let mut next = Some(second);
            while let Some(piece) = next {
                if all.len() + piece.len() > most {
                    return Err(too_large());
                }
                budget.reserve(&mut reserved, piece.len())?;
                all.extend_from_slice(&piece);
                next = pieces.next().await.transpose().map_err(cut_off)?;
            }
            all.freeze()
        }
    };
    if bytes.len() > most {
        return Err(too_large());
    }
    Ok(Body { bytes, _reserved: reserved })
}

/// `application/json`, `application/…+json`, or nothing said at all.
fn says_json(request: &HttpRequest) -> bool {
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

impl Body {
    /// The members of the JSON object that the body is.
    ///
    /// # Errors
    /// 400: no UTF-8, or no JSON. 422: JSON, but not an object. (What is nested too deep is noted, and told by [`Fields::done`].)
    pub fn fields(&self) -> Result<Fields<'_>, ApiError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|_| ApiError::malformed("the body is not UTF-8"))?;
        match serde_json::from_str::<Members<'_>>(text) {
            Ok(Members(members)) => Ok(Fields { wrong: too_deep(&members), members, within: None }),
            Err(error) if error.classify() == Category::Data => {
                Err(ApiError::refused(vec![Item::whole_body("must be a JSON object")]))
            }
            Err(error) => Err(ApiError::malformed(format!("the body is not JSON: {error}"))),
        }
    }

    /// All of it, as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of a part of the body, without a copy.
    pub fn bytes_of(&self, part: &RawValue) -> Bytes {
        self.bytes.slice_ref(part.get().as_bytes())
    }
}

/// The members that are nested too deep, whoever reads them or not.
fn too_deep(members: &[(Cow<'_, str>, &RawValue)]) -> Vec<Item> {
    let deep = members.iter().filter(|(_, value)| message::too_deep(value.get().as_bytes()));
    let msg = || format!("must be nested at most {} deep", message::PAYLOAD_DEPTH_LIMIT);
    deep.map(|(name, _)| Item::body(name, msg())).collect()
}

/// The members of an object, in their order, borrowed.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// What a body says, field by field. End with [`Fields::done`].
pub(super) struct Fields<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    wrong: Vec<Item>,
    /// The field of the body that this object is; `None`: all of it.
    within: Option<&'static str>,
}

impl<'a> Fields<'a> {
    /// The field `name` as it stands there; written twice, the later one counts, as in most readers of JSON.
    pub fn raw(&self, name: &str) -> Field<&'a RawValue> {
        match self.members.iter().rev().find(|(key, _)| key == name) {
            None => Field::Absent,
            Some((_, value)) if value.get() == "null" => Field::Null,
            Some((_, value)) => Field::Set(value),
        }
    }

    /// The field `name`, read as a `T`; one that is none is noted as "must be `what`" and treated as absent.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str, what: &str) -> Field<T> {
        self.take_with(name, |text| serde_json::from_str(text).map_err(|_| format!("must be {what}")))
    }

    /// The same, where the reader knows best what is wrong.
    pub fn take_with<T>(&mut self, name: &str, read: impl FnOnce(&'a str) -> Result<T, String>) -> Field<T> {
        match self.raw(name) {
            Field::Absent => Field::Absent,
            Field::Null => Field::Null,
            Field::Set(value) => match read(value.get()) {
                Ok(value) => Field::Set(value),
                Err(msg) => {
                    self.push(Item::mistyped(name, msg));
                    Field::Absent
                }
            },
        }
    }

    /// Notes what is wrong, unless something is with the same value already.
    fn push(&mut self, item: Item) {
        if !self.wrong.iter().any(|one| one.same(&item)) {
            self.wrong.push(item);
        }
    }

    /// A string.
    pub fn text(&mut self, name: &str) -> Field<String> {
        self.take(name, "a string")
    }

    /// A string that `parse` makes something of.
    pub fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Field<T> {
        match self.text(name) {
            Field::Absent => Field::Absent,
            Field::Null => Field::Null,
            Field::Set(text) => match parse(&text) {
                Ok(value) => Field::Set(value),
                Err(wrong) => {
                    self.note(wrong);
                    Field::Absent
                }
            },
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &str) -> Field<bool> {
        self.take(name, "true or false")
    }

    /// A list of strings.
    pub fn list(&mut self, name: &str) -> Field<Vec<String>> {
        self.take(name, "a list of strings")
    }

    /// A list of names, each once: one that comes again is left out. A list of more than `most` is given as it is, to be refused.
    pub fn names(&mut self, name: &str, most: usize) -> Field<Vec<String>> {
        match self.list(name) {
            Field::Set(list) if list.len() <= most => {
                let mut seen = HashSet::with_capacity(list.len());
                Field::Set(list.into_iter().filter(|one| seen.insert(one.clone())).collect())
            }
            other => other,
        }
    }

    /// An object with fields of its own; end with its [`Fields::done`] too.
    pub fn object(&mut self, name: &'static str) -> Field<Fields<'a>> {
        let members = self.take_with(name, |text| {
            serde_json::from_str::<Members<'a>>(text).map_err(|_| "must be an object".to_owned())
        });
        match members {
            Field::Absent => Field::Absent,
            Field::Null => Field::Null,
            Field::Set(Members(members)) => Field::Set(Fields { members, wrong: Vec::new(), within: Some(name) }),
        }
    }

    /// What was read from an [object](Self::object) in a field; what was wrong there is noted here too.
    ///
    /// # Errors
    /// It is not about values.
    pub fn inside<T>(&mut self, read: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.wrong.extend(error.items()?);
                Ok(None)
            }
        }
    }

    /// Refuses every field but these: each would change what is done, in a way that this release does not know.
    pub fn only(&mut self, known: &[&str]) {
        let unknown = self.members.iter().filter(|(name, value)| !known.contains(&&**name) && value.get() != "null");
        self.wrong.extend(unknown.map(|(name, _)| Item::unsupported(name)));
    }

    /// Notes the field as missing if it is absent or `null`.
    pub fn require(&mut self, name: &str) {
        match self.raw(name) {
            Field::Absent => self.wrong.push(Item::missing(name)),
            Field::Null => self.not_null(name),
            Field::Set(_) => {}
        }
    }

    /// Notes the field if it is `null`, where there is nothing that this could mean.
    pub fn not_null(&mut self, name: &str) {
        if matches!(self.raw(name), Field::Null) {
            self.wrong.push(Item::mistyped(name, "must not be null"));
        }
    }

    /// Refuses a field that would change what is done, in a way that this release does not know: anything but absent, `null` and
    /// `harmless` values.
    pub fn unsupported(&mut self, name: &str, harmless: &[&str]) {
        if let Field::Set(value) = self.raw(name)
            && !harmless.contains(&value.get())
        {
            self.wrong.push(Item::unsupported(name));
        }
    }

    /// Notes a rule that is broken.
    pub fn note(&mut self, wrong: Invalid) {
        self.wrong.push(wrong.into());
    }

    /// Everything has been read.
    ///
    /// # Errors
    /// 422 with all that was noted, and with what `check` finds beyond it.
    pub fn done(mut self, check: Result<(), Vec<Invalid>>) -> Result<(), ApiError> {
        if let Err(wrong) = check {
            // What was noted already is not said twice: a field that was refused looks absent to the check.
            let fresh = wrong.into_iter().map(Item::from).filter(|item| !self.wrong.iter().any(|one| one.same(item)));
            let fresh: Vec<Item> = fresh.collect();
            self.wrong.extend(fresh);
        }
        if let Some(outer) = self.within {
            self.wrong = self.wrong.into_iter().map(|item| item.within(outer)).collect();
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(ApiError::refused(self.wrong)) }
    }
}

#[cfg(test)]
mod tests;
