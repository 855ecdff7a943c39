//! Submitted forms. [`VerifiedForm`] can only be extracted if the CSRF token matches the session, so no handler can
//! skip the check.

use actix_web::dev::{Payload, UrlEncoded};
use actix_web::http::header::{CONTENT_LENGTH, LOCATION};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use futures_util::future::LocalBoxFuture;

use crate::dashboard::DashboardState;
use crate::dashboard::event_types::import_page;
use crate::dashboard::http::current_user::{CurrentUser, limited_by};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once;
use crate::dashboard::http::session::same;
use crate::domain::limits;
use crate::store::StoreError;
use crate::store::ingest::idempotency::IdempotencyKey;

/// Bytes of a form beside its largest field.
const ENVELOPE: usize = 64 * 1024;

/// The submitted fields, in order.
#[derive(Debug)]
pub struct VerifiedForm {
    fields: Vec<(String, String)>,
    key: Option<IdempotencyKey>,
}

impl VerifiedForm {
    /// The key under which the form acts [once](crate::dashboard::http::form_once); `None`: it has no id.
    pub fn key(&self) -> Option<&IdempotencyKey> {
        self.key.as_ref()
    }

    /// A field's raw value; empty if missing.
    pub fn get(&self, name: &str) -> &str {
        self.fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    /// The trimmed value; `None` if empty.
    pub fn given(&self, name: &str) -> Option<&str> {
        Some(self.get(name).trim()).filter(|value| !value.is_empty())
    }

    /// All values of a field.
    pub fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.fields.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a checkbox is ticked or a button was used.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(key, _)| key == name)
    }
}

impl FromRequest for VerifiedForm {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<VerifiedForm, PageError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let user = CurrentUser::from_request(request, payload);
        let state = request.app_data::<web::Data<DashboardState>>().cloned();
        let form = UrlEncoded::<Vec<(String, String)>>::new(request, payload);
        let path = request.uri().to_string();
        let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Box::pin(async move {
            // First, so only a session's forms are read.
            let user = user.await?;
            let state = state.ok_or(PageError::NotSignedIn)?;
            let most = if path == import_page::PATH { import_page::FORM_BYTES } else { longest(&state) };
            let mut reservation = state.traffic.bodies.reservation(limited_by(user.hash));
            reservation.add(length.unwrap_or(most).min(most)).map_err(|_| PageError::Store(StoreError::Overloaded))?;
            let fields = form.limit(most).await;
            let fields = fields.map_err(|_| PageError::BadRequest("The form could not be read, or is too long."))?;
            let key = form_once::key(&user.hash, &path, &fields, state.clock.now());
            let submitted = VerifiedForm { fields, key };
            if same(submitted.get("csrf"), &user.csrf) { Ok(submitted) } else { Err(PageError::WrongToken) }
        })
    }
}

/// Maximum bytes of a form. Its largest field is a payload or the schemas of an event type; percent-encoding triples
/// the size at most.
fn longest(state: &DashboardState) -> usize {
    3 * state.store.max_payload().max(limits::SCHEMAS_BYTES) + ENVELOPE
}

/// Redirects after a successful form, with a notice.
pub fn done(path: &str, notice: FlashNotice) -> HttpResponse {
    let sign = if path.contains('?') { '&' } else { '?' };
    HttpResponse::SeeOther().insert_header((LOCATION, format!("{path}{sign}notice={}", notice.word()))).finish()
}

/// A redirect target from a form; `None` unless it is a path on this site.
pub fn own_path(text: &str) -> Option<&str> {
    let own =
        text.starts_with('/') && !text.starts_with("//") && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    own.then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::dashboard::http::verified_form::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn redirects_stay_on_this_site() {
        assert_eq!(own_path("/deliveries?status=dead"), Some("/deliveries?status=dead"));
        for bad in
            ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nset-cookie: b", "javascript:x"]
        {
            assert_eq!(own_path(bad), None, "{bad:?}");
        }
    }

    /// A form only redirects within this site, by a browser's rules for resolving URLs.
    #[test]
    fn fuzz_own_path() {
        let texts = prop_oneof![".{0,40}", "[/\\\\.@:?#a-z\\t\\r\\n %0-9]{0,30}"];
        fuzz("own_path", texts, Just(()), |text, ()| {
            let path = own_path(text);
            if let Some(path) = path {
                let here = url::Url::parse("https://hooks.example.com/a/b").unwrap();
                let there = here.join(path).unwrap();
                prop_assert_eq!(there.origin(), here.origin(), "{}", text);
                prop_assert!(actix_web::http::header::HeaderValue::from_str(path).is_ok());
            }
            Ok(vec![path.is_some().to_string()])
        });
    }
}
