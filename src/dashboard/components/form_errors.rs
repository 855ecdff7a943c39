//! Store and ingest errors as errors of form fields.

use crate::dashboard::components::form::REVISION;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::verified_form::VerifiedForm;
use crate::domain::{Invalid, Time};
use crate::store::StoreError;
use crate::store::catalog::change::UpdateResult;
use crate::store::ingest::accept::Rejection;

/// Field errors, or a page error.
pub type FormRejection = Result<Vec<Invalid>, PageError>;

/// Converts a store error into field errors; `unique` is the field with a uniqueness constraint.
pub fn store_errors(error: StoreError, unique: &str) -> FormRejection {
    match error {
        StoreError::Taken(_) => Ok(vec![Invalid::new(unique, "is already taken")]),
        StoreError::Invalid(wrong) => Ok(wrong),
        other => Err(other.into()),
    }
}

/// The reason why a field was refused, if it was.
pub fn why<'w>(wrong: &'w [Invalid], field: &str) -> Option<&'w str> {
    wrong.iter().find(|wrong| wrong.field == field).map(|wrong| wrong.reason.as_str())
}

/// The object after a change. `Err`: the change was rejected.
///
/// # Errors
/// The object no longer exists, or concurrent changes prevented the update.
pub fn change_result<T>(changed: UpdateResult<T, FormRejection>) -> Result<T, FormRejection> {
    let conflict =
        || Err(PageError::BadRequest("Not saved: someone else is changing this object. Try again in a moment."));
    changed.into_result(|| Err(PageError::NotFound), conflict)
}

/// Checks that the object has not changed since the form was opened. A form holds all fields, so saving it would
/// otherwise undo someone else's change.
///
/// # Errors
/// The object has changed since then.
pub fn check_revision(submitted: &VerifiedForm, updated_at: Time) -> Result<(), FormRejection> {
    if submitted.get(REVISION) == revision(updated_at) {
        return Ok(());
    }
    let reason = "someone else changed it since you opened this form. Compare your entries with the current values, then save again";
    Err(Ok(vec![Invalid::new("Not saved", reason)]))
}

/// The revision of an object, as in the form's hidden field.
pub fn revision(updated_at: Time) -> String {
    updated_at.micros().to_string()
}

/// Converts the rejection of a message into field errors.
pub fn accept_errors(refusal: Rejection) -> FormRejection {
    match refusal {
        Rejection::Invalid(wrong) => Ok(wrong),
        Rejection::Duplicate(_) => Ok(vec![Invalid::new("eventId", "is already used by another message")]),
        Rejection::Unreachable => {
            Ok(vec![Invalid::new("eventType", "cannot be sent: the endpoint is disabled or deleted")])
        }
        Rejection::Repeated => Err(StoreError::Repeated.into()),
        Rejection::UnknownApplication(_) | Rejection::AmbiguousApplication(_) => Err(PageError::NotFound),
    }
}
