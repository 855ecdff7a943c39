//! Store and ingest errors as errors of form fields.

use crate::dashboard::components::form::SEEN;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::posted::Posted;
use crate::domain::{Invalid, Time};
use crate::store::StoreError;
use crate::store::catalog::change::Changed;
use crate::store::ingest::accept::Rejection;

/// Field errors, or a page error.
pub type Refused = Result<Vec<Invalid>, PageError>;

/// Converts a store error into field errors; `unique` is the field with a uniqueness constraint.
pub fn refused(error: StoreError, unique: &str) -> Refused {
    match error {
        StoreError::Taken(_) => Ok(vec![Invalid::new(unique, "is already taken")]),
        StoreError::Invalid(wrong) => Ok(wrong),
        other => Err(other.into()),
    }
}

/// The object after a change. `Err`: the change was rejected.
///
/// # Errors
/// The object is gone, or concurrent changes prevented the update.
pub fn settled<T>(changed: Changed<T, Refused>) -> Result<T, Refused> {
    match changed {
        Changed::Done(thing) => Ok(thing),
        Changed::Gone => Err(Err(PageError::NotFound)),
        Changed::Refused(refused) => Err(refused),
        Changed::Busy => Err(Err(PageError::BadRequest("Concurrent changes prevented this. Try again in a moment."))),
    }
}

/// Checks that the object has not changed since the form was opened. A form holds all fields, so saving it would
/// otherwise undo someone else's change.
///
/// # Errors
/// The object was changed meanwhile.
pub fn unchanged(posted: &Posted, updated_at: Time) -> Result<(), Refused> {
    if posted.get(SEEN) == seen(updated_at) {
        return Ok(());
    }
    let reason = "someone else changed it since you opened this form. Compare your entries with the current values, then save again";
    Err(Ok(vec![Invalid::new("Not saved", reason)]))
}

/// The revision of an object, as the form carries it.
pub fn seen(updated_at: Time) -> String {
    updated_at.micros().to_string()
}

/// Converts an ingest refusal into field errors.
pub fn turned_away(refusal: Rejection) -> Refused {
    match refusal {
        Rejection::Invalid(wrong) => Ok(wrong),
        Rejection::Duplicate(_) => Ok(vec![Invalid::new("eventId", "is already used by another message")]),
        Rejection::Unreachable => {
            Ok(vec![Invalid::new("eventType", "cannot be sent: the endpoint is disabled or deleted")])
        }
        Rejection::UnknownApplication(_) | Rejection::AmbiguousApplication(_) | Rejection::Repeated => {
            Err(PageError::NotFound)
        }
    }
}
