//! Forms that create or send something take effect once. Such a form contains a random id. If it is posted again (a
//! double click, a reload), it has no further effect and gets the same response.
//!
//! The id becomes an [idempotency key](crate::store::ingest::idempotency), bound to the session, the form's address
//! and its fields. The store commits the key with the object that the form creates, so two processes agree, and deletes
//! it 12 hours later.
//!
//! Credentials that are shown once (API keys, portal links) are not stored. Their text is derived from the key and a
//! secret of the installation, so a repeated form shows the same text, for [`SHOWN_AGAIN`].

use std::time::Duration;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::dashboard::DashboardState;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::PageResult;
use crate::dashboard::http::session;
use crate::dashboard::http::verified_form::VerifiedForm;
use crate::domain::Time;
use crate::domain::access::api_key;
use crate::store::access::sign_in_links::TokenHash;
use crate::store::ingest::idempotency::{IdempotencyKey, PriorRequest};
use crate::store::{Store, StoreError};

/// The hidden field with the form's id.
pub const FIELD: &str = "once";
/// The time for which a repeated form shows a credential again.
pub const SHOWN_AGAIN: Duration = Duration::from_secs(600);

/// A random id for the forms of a page.
pub fn new_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// The key of a submitted form; `None`: it has no id. The key covers the fields, so a corrected form takes effect.
pub fn key(session: &TokenHash, path: &str, fields: &[(String, String)], now: Time) -> Option<IdempotencyKey> {
    fields.iter().find(|(name, value)| name == FIELD && !value.is_empty())?;
    let mut body = Sha256::new();
    for text in fields.iter().flat_map(|(name, value)| [name, value]) {
        // Prefixed with its length, so different lists of fields never hash alike.
        body.update((text.len() as u64).to_le_bytes());
        body.update(text.as_bytes());
    }
    let body: [u8; 32] = body.finalize().into();
    let mut hash = Sha256::new();
    for part in [b"form".as_slice(), session, path.as_bytes(), &body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Some(IdempotencyKey { hash: hash.finalize().into(), body, at: now })
}

/// Runs `act`. If the form was posted before, runs `again` with the reference to the object that it created. `act` must
/// use the store [of the form](VerifiedForm::once).
///
/// # Errors
/// Those of `act` and `again`, or the store is unavailable.
pub async fn once(
    state: &DashboardState,
    submitted: &VerifiedForm,
    act: impl AsyncFnOnce() -> PageResult,
    again: impl AsyncFnOnce(&str) -> PageResult,
) -> PageResult {
    let Some(key) = submitted.key() else { return act().await };
    if let Some(made) = prior(&state.store, key).await? {
        return again(&made).await;
    }
    match act().await {
        // A concurrent request with the same form has committed.
        Err(PageError::Store(StoreError::Repeated)) => match prior(&state.store, key).await? {
            Some(made) => again(&made).await,
            None => Err(PageError::Store(StoreError::Repeated)),
        },
        result => result,
    }
}

async fn prior(store: &Store, key: &IdempotencyKey) -> Result<Option<String>, StoreError> {
    Ok(store.prior_request(key).await?.and_then(|prior| match prior {
        PriorRequest::SameBody(made) => Some(made),
        // The key covers the fields.
        PriorRequest::OtherBody => None,
    }))
}

impl VerifiedForm {
    /// The store in which the form acts once.
    pub fn once(&self, store: Store) -> Store {
        match self.key() {
            Some(key) => store.with_idempotency_key(key.clone()),
            None => store,
        }
    }

    /// The secret part of the credential that this form creates; a repeated form gets the same one.
    pub fn credential(&self, state: &DashboardState) -> Zeroizing<String> {
        match self.key() {
            Some(key) => api_key::text_of(session::mac(&state.secret, &[b"credential", &key.hash])),
            None => api_key::random_text(),
        }
    }
}

/// Whether a credential created at `created_at` is still shown to a repeated form.
pub fn shown_again(created_at: Time, now: Time) -> bool {
    now.since(created_at) < SHOWN_AGAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(id: &str, text: &str) -> Vec<(String, String)> {
        [("csrf", "c"), (FIELD, id), ("payload", text)].map(|(name, value)| (name.into(), value.into())).into()
    }

    #[test]
    fn a_key_is_bound_to_id_session_path_and_fields() {
        let now = Time::ZERO;
        let made = |session, path, fields: &[_]| key(&[session; 32], path, fields, now).map(|key| key.hash);
        let one = made(1, "/send", &fields("a", "x"));
        assert_eq!(one, made(1, "/send", &fields("a", "x")));
        for other in [
            made(2, "/send", &fields("a", "x")),
            made(1, "/keys", &fields("a", "x")),
            made(1, "/send", &fields("b", "x")),
            made(1, "/send", &fields("a", "y")),
        ] {
            assert!(other.is_some() && other != one);
        }
        assert_eq!(made(1, "/send", &fields("", "x")), None);
    }
}
